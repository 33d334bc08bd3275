//! Stage II: any clip to a larger, sharper one.

use std::sync::Arc;

use crate::clip::{FrameFormat, Size};
use crate::error::Result;
use crate::progress::Progress;
use crate::runtime::Runtime;

/// How large the result is to be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Target {
    /// Both sides times this factor, 1 to 16.
    Scale(f64),
    /// Exactly this size.
    Size(Size),
}

/// Settings of one enhancement. All but `target` may change between windows.
#[derive(Clone, Debug, PartialEq)]
pub struct EnhanceOptions {
    /// Size of the result.
    pub target: Target,
    /// Function evaluations, 1 to 8; 0 takes the model's own default.
    pub steps: usize,
    /// Strength of the noise at the start of the flow, in 0..=1 where 1 is the strongest that the model was trained for.
    /// Negative takes the model's own default. 0 is the faithful, deterministic mode.
    pub noise: f64,
    /// Chooses the noise; it is fixed to the picture, not redrawn for each frame.
    pub seed: u64,
    /// Guidance scale of models that read text; negative takes the model's own default.
    pub guidance_scale: f64,
    /// What the clip shows, for models that read text.
    pub prompt: String,
}

impl Default for EnhanceOptions {
    fn default() -> Self {
        Self {
            target: Target::Scale(4.0),
            steps: 0,
            noise: -1.0,
            seed: 0,
            guidance_scale: -1.0,
            prompt: String::new(),
        }
    }
}

/// A loaded Stage II model. Shared by any number of streams.
#[derive(Debug)]
pub struct Enhancer {}

impl Enhancer {
    /// Loads `model`: `builtin`, `builtin:live`, or the path of a file or folder.
    ///
    /// Within a process the weights of one model on one device are held once.
    ///
    /// # Errors
    /// [`Error::ModelNotFound`](crate::Error::ModelNotFound), [`Error::Checkpoint`](crate::Error::Checkpoint), …
    pub fn load(_model: &str, _runtime: &Runtime, _progress: &Progress) -> Result<Arc<Self>> {
        todo!()
    }

    /// The model's name as given to [`load`](Self::load).
    pub fn name(&self) -> &str {
        todo!()
    }

    /// Whether the model reads [`EnhanceOptions::prompt`].
    pub fn reads_text(&self) -> bool {
        todo!()
    }

    /// Frames after a frame that must be seen before it can be finished (1 for the built-in model's next neighbour).
    pub fn look_ahead(&self) -> usize {
        todo!()
    }

    /// Size of the result for input of `size`.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid) when the factor is outside 1..=16 or the size is beyond 16384.
    pub fn output_size(&self, _size: Size, _target: Target) -> Result<Size> {
        todo!()
    }

    /// Estimated peak memory in bytes of enhancing frames of `size`, beside the weights.
    ///
    /// # Errors
    /// As [`output_size`](Self::output_size).
    pub fn memory_needed(
        &self,
        _format: &FrameFormat,
        _size: Size,
        _target: Target,
    ) -> Result<u64> {
        todo!()
    }
}
