// SPDX-License-Identifier: MPL-2.0
//! FlashVideo: text to video and video enhancement by flow matching, without any media framework.
//!
//! Stage I ([`stage1`]) turns a prompt into a short clip, Stage II ([`stage2`], [`stream`]) carries a clip along an
//! almost straight flow to a larger and sharper one. A file imports only from the floors below its own:
//!
//! | floor | modules |
//! |---|---|
//! | 5 | this file |
//! | 4 | `stage1`, `stage2`, `released`, `stream`, `parity` |
//! | 3 | `schedule`, `guidance`, `noise`, `solver`, `solver_dpmpp`, `plan` |
//! | 2 | `text`, `vae`, `dit`, `compact` |
//! | 1 | `index32`, `kernels`, `linear`, `checkpoint` |
//! | 0 | `runtime`, `memory`, `registry`, `error`, `progress`, `clip` |

pub mod checkpoint;
pub mod compact;
pub mod cpu;
pub mod enhance;
pub mod error;
pub mod flow;
pub mod linear;
pub mod media;
pub mod parity;
pub mod plan;
pub mod progress;
pub mod registry;
pub mod release;
pub mod runtime;
pub mod size;

pub use checkpoint::GeneratorInfo;
pub use enhance::stream::{EnhanceStream, StreamStats};
pub use enhance::{EnhanceOptions, Enhancer, Target};
pub use error::{Error, Result};
pub use media::frame::{Frame, FrameFormat, Planes, Samples, Siting};
pub use media::resize::plain_resize;
pub use progress::{CancelToken, Event, Progress};
pub use release::generate::{GenerateOptions, Generator, Placement};
pub use runtime::{DeviceSpec, NumberType, Runtime};
pub use size::Size;
