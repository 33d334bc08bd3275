// SPDX-License-Identifier: MPL-2.0
//! FlashVideo: text to video and video enhancement by flow matching, without any media framework.
//!
//! Stage I ([`Generator`]) turns a prompt into a short clip, Stage II ([`Enhancer`], [`EnhanceStream`]) carries a clip
//! along an almost straight flow to a larger and sharper one. Both come with small models inside and run the ones that
//! the authors of FlashVideo (arXiv 2502.05179) released.
//!
//! ```
//! use flashvideo::{
//!     DeviceSpec, EnhanceOptions, EnhanceStream, Enhancer, Frame, FrameFormat, NumberType, Progress, Runtime, Samples,
//!     Size, Target,
//! };
//!
//! # fn main() -> flashvideo::Result<()> {
//! # if cfg!(feature = "builtin") {
//! let runtime = Runtime::new(DeviceSpec::Cpu, NumberType::Auto, None)?;
//! let enhancer = Enhancer::load("builtin:live", &runtime, &Progress::none())?;
//! let (format, size) = (FrameFormat::gray(), Size::new(32, 18));
//! let options = EnhanceOptions {
//!     target: Target::Scale(2.0),
//!     ..EnhanceOptions::default()
//! };
//! let mut stream = EnhanceStream::new(enhancer, format, size, options, Progress::none())?;
//!
//! let mut finished = Vec::new();
//! for timestamp in 0..3 {
//!     let frame = Frame::new(format, size, vec![Samples::U8(vec![126; size.pixels()])])?;
//!     // Some models look at the frames after a frame before it is finished; what goes in comes out in order.
//!     finished.extend(stream.push(frame, timestamp)?);
//! }
//! finished.extend(stream.drain()?);
//!
//! assert_eq!(finished.len(), 3);
//! assert_eq!(finished[2].0.size(), Size::new(64, 36));
//! assert_eq!(finished[2].1, 2);
//! # }
//! # Ok(())
//! # }
//! ```
//!
//! Modules import downwards only, from [`error`] at the bottom to [`parity`] at the top; `docs/ARCHITECTURE.md` lists them.

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
pub use enhance::stream::{EnhanceStream, Pace, Pacer, StreamStats};
pub use enhance::{EnhanceOptions, Enhancer, Target};
pub use error::{Error, Result};
pub use media::frame::{Frame, FrameFormat, Planes, Samples, Siting};
pub use media::resize::plain_resize;
pub use progress::{CancelToken, Event, Progress};
pub use release::generate::{GenerateOptions, Generator, Placement};
pub use runtime::{DeviceSpec, NumberType, Runtime};
pub use size::Size;
