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

pub mod clip;
pub mod error;
pub mod memory;
pub mod progress;
pub mod registry;
pub mod runtime;

pub mod checkpoint;
pub mod index32;
pub mod kernels;
pub mod linear;

pub mod compact;
pub mod dit;
pub mod text;
pub mod vae;

pub mod guidance;
pub mod noise;
pub mod plan;
pub mod schedule;
pub mod solver;
pub mod solver_dpmpp;

pub mod parity;
pub mod released;
pub mod stage1;
pub mod stage2;
pub mod stream;

pub use checkpoint::GeneratorInfo;
pub use clip::{Frame, FrameFormat, Planes, Samples, Siting, Size};
pub use error::{Error, Result};
pub use progress::{CancelToken, Event, Progress};
pub use runtime::{DeviceSpec, NumberType, Runtime};
pub use stage1::{GenerateOptions, Generator, Placement};
pub use stage2::{EnhanceOptions, Enhancer, Target};
pub use stream::{EnhanceStream, StreamStats, plain_resize};
