// SPDX-License-Identifier: MPL-2.0
//! Clips in and out by the programs `ffmpeg` and `ffprobe`, which read what people have: every container, edit lists,
//! pixel formats and side streams. Only pictures pass through this process; `flashupscale` makes them larger.
//!
//! ```text
//! clip ─► ffmpeg ─ NUT ─► frames ─► flashupscale ─► frames ─ Matroska ─► ffmpeg ─► video
//!   └──────────────────── sound, subtitles, chapters, ... ─────────────────────────► ffmpeg (join) ─► file
//! ```
//!
//! | file | subject |
//! |---|---|
//! | `program` | starting the programs, and what they say when they fail |
//! | `probe` | what a clip holds |
//! | `pixel` | pixel formats, as ffmpeg and as GStreamer name them |
//! | `colour` | range, matrix, primaries, transfer, siting, mastering display |
//! | `raw` | one decoded frame |
//! | `decode` | a clip to frames |
//! | `y4m` | the clip that comes by standard input |
//! | `nut` | reading the container that decoded frames come in |
//! | `damage` | what a decoder says about a broken clip |
//! | `container`, `codec` | file formats that are written, and what their video is encoded with |
//! | `encode` | frames to a video file |
//! | `matroska` | writing the container that frames go to the encoder in |
//! | `streams` | what becomes of sound, subtitles and everything else |
//! | `join` | the finished video with all of that |

pub mod codec;
pub mod colour;
pub mod container;
pub mod damage;
pub mod decode;
pub mod encode;
pub mod join;
mod matroska;
mod nut;
pub mod pixel;
pub mod probe;
pub mod program;
pub mod raw;
pub mod streams;
pub mod y4m;
