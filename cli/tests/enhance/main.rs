// SPDX-License-Identifier: MPL-2.0
//! `flashvideo enhance` on small clips that ffmpeg makes here.
//!
//! | file | subject |
//! |---|---|
//! | `fixture` | clips, the program, and what is in a file |
//! | `inputs` | files, folders, pictures, pipes, parts of clips, and what is told meanwhile |
//! | `pictures` | formats, depth, range, colour, shape, size, fields |
//! | `side_streams` | sound, subtitles, chapters, covers, fonts, titles, times |
//! | `wrong` | what cannot be done: what is said, and that nothing is lost |

mod fixture;
mod inputs;
mod pictures;
mod side_streams;
mod wrong;
