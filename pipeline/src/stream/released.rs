//! A stream through the released Stage II: windows of frames that hand on their flow and their decoder's memory.
//!
//! A window starts a whole number of latent frames after the one before it, so what both have are the same latent
//! frames. These are taken over at every step of the flow; only the new ones are decoded, by a decoder that goes on
//! where the window before left it. So the seam is neither in the latents nor in the pixels.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use candle_core::Tensor;

use super::Session;
use crate::clip::{Frame, Size};
use crate::compact::{LumaPlane, Signature};
use crate::error::{Error, Result};
use crate::memory;
use crate::progress::Progress;
use crate::released::colour;
use crate::released::flow::FlowOptions;
use crate::released::stage2::{Carry, LATENT_SCALE, ReleasedEnhancer, ReleasedOptions, crop};
use crate::stage2::{EnhanceOptions, Enhancer, resolve_steps};
use crate::vae::{Decoding, Vae, to_bytes_range};

/// Frames in a window, as many as the model was trained with.
pub(crate) const WINDOW: usize = 49;
/// Frames that a window shares with the one before it.
const OVERLAP: usize = 9;
/// Frames of a latent frame after the first of a window.
const GRANULE: usize = 4;
/// Latent frames that are taken over, and the shared one before these that is not.
const SHARED: usize = (OVERLAP - 1) / GRANULE;
/// Latent frames that are decoded at once.
const CHUNK: usize = 2;
/// The strongest noise that the model is run with; its default is 0.9 of it.
const NOISE_STEPS: f64 = 750.0;

/// What the windows of one scene hand on.
#[derive(Debug)]
struct Scene {
    /// The last frames of the window before.
    tail: Vec<Frame>,
    /// States of its flow.
    states: Vec<Tensor>,
    /// Number of the next window's first latent frame.
    first: usize,
    decoding: Decoding<Arc<Vae>>,
}

#[derive(Debug)]
pub(super) struct ReleasedSession {
    enhancer: Arc<Enhancer>,
    model: Arc<ReleasedEnhancer>,
    output: Size,
    memory: u64,
    options: Option<ReleasedOptions>,
    /// Frames with the numbers of their scenes.
    waiting: VecDeque<(Frame, u64)>,
    /// Signature and scene of the last frame that came in.
    last: Option<(Signature, u64)>,
    /// What the next window takes over.
    scene: Option<Scene>,
    done: VecDeque<Frame>,
    evaluations: u64,
    evaluating: Duration,
}

impl ReleasedSession {
    pub fn new(
        enhancer: Arc<Enhancer>,
        model: Arc<ReleasedEnhancer>,
        output: Size,
    ) -> Result<Self> {
        let needed = model.memory_needed(WINDOW, output)?;
        if let Some(available) = memory::available().filter(|available| *available < needed) {
            return Err(Error::Memory {
                what: format!("a window of {WINDOW} frames of {output}"),
                needed_mib: needed >> 20,
                available_mib: available >> 20,
                hint: "choose a smaller target size or the built-in model".to_owned(),
            });
        }
        Ok(Self {
            enhancer,
            model,
            output,
            memory: needed,
            options: None,
            waiting: VecDeque::new(),
            last: None,
            scene: None,
            done: VecDeque::new(),
            evaluations: 0,
            evaluating: Duration::ZERO,
        })
    }

    /// Enhances the next `count` frames, which belong to one scene.
    fn window(
        &mut self,
        count: usize,
        options: &ReleasedOptions,
        progress: &Progress,
    ) -> Result<()> {
        let old = self.scene.take();
        let fresh: Vec<Frame> = (self.waiting.iter().take(count))
            .map(|(frame, _)| frame.clone())
            .collect();
        let (mut frames, first, carried) = match &old {
            Some(scene) => (scene.tail.clone(), scene.first, scene.states.as_slice()),
            None => (Vec::new(), 0, &[][..]),
        };
        frames.extend_from_slice(&fresh);
        let carry = Carry {
            first,
            states: carried,
            shared: SHARED,
        };
        let begin = Instant::now();
        let clip = colour::to_tensor(&frames)?;
        let (latent, states) = self.model.latent(&clip, options, carry, progress)?;
        self.evaluating += begin.elapsed();
        self.evaluations += states.len() as u64;

        // Latent frames that the window before has decoded already.
        let skip = if old.is_some() { 1 + SHARED } else { 0 };
        let vae = self.model.vae(progress)?;
        let mut decoding = old.map_or_else(|| Decoding::new(vae), |scene| scene.decoding);
        let enhanced = self.model.vae_runtime().install(|| {
            let latent = latent.narrow(1, skip, latent.dim(1)? - skip)?;
            decode(&mut decoding, &latent, skip == 0, progress)
        })?;
        let enhanced = crop(&enhanced, count, self.output)?;
        for (index, like) in fresh.iter().enumerate() {
            let frame = colour::to_frame(&enhanced, index, like, progress)?;
            self.done.push_back(frame);
        }
        self.waiting.drain(..count);
        if frames.len() == WINDOW {
            self.scene = Some(Scene {
                tail: frames.split_off(WINDOW - OVERLAP),
                states,
                first: first + (WINDOW - OVERLAP) / GRANULE,
                decoding,
            });
        }
        Ok(())
    }
}

/// Decodes the next latent frames of a scene to frames `[frames, height, width, 3]` in 0..=255.
fn decode(
    decoding: &mut Decoding<Arc<Vae>>,
    latent: &Tensor,
    begin: bool,
    progress: &Progress,
) -> Result<Tensor> {
    let latent = (latent / LATENT_SCALE)?.transpose(1, 2)?.contiguous()?;
    let count = latent.dim(2)?;
    let mut parts = Vec::with_capacity(count / CHUNK + 1);
    let mut start = 0;
    while start < count {
        let chunk = if start == 0 && begin {
            CHUNK + 1
        } else {
            CHUNK
        }
        .min(count - start);
        let frames = decoding.push(&latent.narrow(2, start, chunk)?, true, progress)?;
        parts.push(to_bytes_range(&frames)?);
        start += chunk;
    }
    Ok(Tensor::cat(&parts, 0)?)
}

impl Session for ReleasedSession {
    fn set_options(&mut self, options: &EnhanceOptions, _: &Progress) -> Result<()> {
        let steps = resolve_steps(&self.enhancer, options)?;
        let release = FlowOptions::default();
        let flow = FlowOptions {
            steps,
            guidance: if options.guidance_scale < 0.0 {
                release.guidance
            } else {
                options.guidance_scale
            },
            noise_step: if options.noise < 0.0 {
                release.noise_step
            } else {
                (options.noise * NOISE_STEPS).round() as usize
            },
            ..release
        };
        let new = ReleasedOptions {
            prompt: options.prompt.clone(),
            size: self.output,
            seed: options.seed,
            flow,
            decode_tiles: 1,
        };
        // States of another time grid or noise level are no part of this flow.
        if self
            .options
            .as_ref()
            .is_some_and(|old| old.flow != new.flow)
        {
            self.scene = None;
        }
        self.options = Some(new);
        Ok(())
    }

    fn push(&mut self, frame: Frame) {
        let signature = Signature::of(&LumaPlane::of(&frame));
        let scene = match &self.last {
            Some((last, number)) => number + u64::from(last.cut_before(&signature)),
            None => 0,
        };
        self.last = Some((signature, scene));
        self.waiting.push_back((frame, scene));
    }

    fn next(&mut self, end: bool, progress: &Progress) -> Result<Option<Frame>> {
        if let Some(frame) = self.done.pop_front() {
            return Ok(Some(frame));
        }
        let (Some(&(_, scene)), Some(options)) = (self.waiting.front(), self.options.clone())
        else {
            return Ok(None);
        };
        let wanted = match &self.scene {
            Some(scene) => WINDOW - scene.tail.len(),
            None => WINDOW,
        };
        let same = |(_, number): &&(Frame, u64)| *number == scene;
        let there = self.waiting.iter().take(wanted).take_while(same).count();
        let cut = self.waiting.len() > there;
        if there < wanted && !end && !cut {
            return Ok(None);
        }
        self.window(there, &options, progress)?;
        // The next frame belongs to another scene.
        if self.waiting.front().is_some_and(|(_, next)| *next != scene) {
            self.scene = None;
        }
        Ok(self.done.pop_front())
    }

    fn reset(&mut self) {
        self.waiting.clear();
        self.done.clear();
        self.last = None;
        self.scene = None;
    }

    fn evaluations(&self) -> (u64, Duration) {
        (self.evaluations, self.evaluating)
    }

    fn memory(&self) -> u64 {
        self.memory
    }
}
