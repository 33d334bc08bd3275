// SPDX-License-Identifier: MPL-2.0
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
use crate::compact::{LumaPlane, Signature};
use crate::enhance::control::Rung;
use crate::enhance::{EnhanceOptions, Enhancer, resolve_steps};
use crate::error::{Error, Result};
use crate::media::colour;
use crate::media::frame::Frame;
use crate::plan::window::WindowShape;
use crate::progress::{Event, Progress};
use crate::release::colour_fix::keep_colours;
use crate::release::enhance::{Carry, LATENT_SCALE, ReleasedEnhancer, ReleasedOptions, crop};
use crate::release::extent::{GRANULE, WindowPlan};
use crate::release::guided::FlowOptions;
use crate::release::vae::tiles::{Tile, columns};
use crate::release::vae::{Decoding, Tiling, Vae, to_bytes_range};
use crate::size::Size;

/// Name of the decoding in progress events; its unit is a frame.
const DECODE: &str = "decode";
/// Frames that a window shares with the one before it.
const OVERLAP: usize = 9;
/// The strongest noise that the model is run with; its default is 0.9 of it.
const NOISE_STEPS: f64 = 750.0;

/// What the windows of one scene hand on.
#[derive(Debug)]
struct Scene {
    /// Number of the scene.
    number: u64,
    /// The last frames of the window before.
    tail: Vec<Frame>,
    /// States of its flow.
    states: Vec<Tensor>,
    /// Number of the next window's first latent frame.
    first: usize,
    /// Decoders that go on where the window before ended; none after a window that failed while they were at work.
    decoding: Option<ColumnDecoding>,
}

#[derive(Debug)]
pub(super) struct ReleasedSession {
    enhancer: Arc<Enhancer>,
    model: Arc<ReleasedEnhancer>,
    output: Size,
    plan: WindowPlan,
    windows: WindowShape,
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
    /// A stream to pictures of size `output`, cut up as the memory there is asks for.
    ///
    /// # Errors
    /// [`Error::Memory`](crate::Error::Memory) when even the smallest parts need more.
    pub fn new(
        enhancer: Arc<Enhancer>,
        model: Arc<ReleasedEnhancer>,
        output: Size,
        progress: &Progress,
    ) -> Result<Self> {
        let plan = model.shapes()?.plan(output, model.room()?, progress)?;
        Self::with_plan(enhancer, model, output, plan)
    }

    fn with_plan(
        enhancer: Arc<Enhancer>,
        model: Arc<ReleasedEnhancer>,
        output: Size,
        plan: WindowPlan,
    ) -> Result<Self> {
        Ok(Self {
            enhancer,
            model,
            output,
            plan,
            windows: WindowShape::new(plan.extent.window, OVERLAP, GRANULE)?,
            options: None,
            waiting: VecDeque::new(),
            last: None,
            scene: None,
            done: VecDeque::new(),
            evaluations: 0,
            evaluating: Duration::ZERO,
        })
    }

    /// Enhances the next `count` frames, which belong to the scene `number`. Unless all of them are finished, they wait
    /// and the scene goes on as before.
    fn window(
        &mut self,
        number: u64,
        count: usize,
        options: &ReleasedOptions,
        progress: &Progress,
    ) -> Result<()> {
        let fresh: Vec<Frame> = (self.waiting.iter().take(count))
            .map(|(frame, _)| frame.clone())
            .collect();
        let (mut frames, first, carried) = match &self.scene {
            Some(scene) => (scene.tail.clone(), scene.first, scene.states.as_slice()),
            None => (Vec::new(), 0, &[][..]),
        };
        frames.extend_from_slice(&fresh);
        let carry = Carry {
            first,
            states: carried,
            shared: self.windows.shared(),
        };
        let begin = Instant::now();
        let clip = colour::to_tensor(&frames)?;
        let (latent, states) = self.model.latent(&clip, options, carry, progress)?;
        let evaluating = begin.elapsed();

        // Decoders that go on have decoded the first latent frame and the shared ones; new ones begin with them.
        let vae = self.model.vae(progress)?;
        let going_on = self.scene.as_mut().and_then(|scene| scene.decoding.take());
        let skip = going_on.as_ref().map_or(0, |_| 1 + self.windows.shared());
        let mut decoding = match going_on {
            Some(decoding) => decoding,
            None => ColumnDecoding::new(&vae, latent.dim(4)?, self.plan.decode),
        };
        let slice = self.plan.extent.slice;
        progress.emit(Event::Started {
            step: DECODE,
            total: Some(count as u64),
        });
        let enhanced = self.model.vae_runtime().install(|| {
            let latent = latent.narrow(1, skip, latent.dim(1)? - skip)?;
            decoding.decode(&latent, slice, skip == 0, progress)
        })?;
        let before = match skip {
            0 => frames.len() - count,
            _ => 0,
        };
        let enhanced = enhanced.narrow(0, before, enhanced.dim(0)? - before)?;
        let enhanced = crop(&enhanced, count, self.output)?;
        let fresh_clip = clip.narrow(0, frames.len() - count, count)?;
        let mut finished = Vec::with_capacity(count);
        for (index, like) in fresh.iter().enumerate() {
            progress.check()?;
            let one = |frames: &Tensor| frames.narrow(0, index, 1);
            let picture = keep_colours(&one(&enhanced)?, &one(&fresh_clip)?)?;
            finished.push(colour::to_frame(&picture, 0, like, progress)?);
            progress.emit(Event::Advanced {
                step: DECODE,
                done: finished.len() as u64,
            });
        }
        progress.emit(Event::Finished { step: DECODE });

        // Nothing can fail from here on: the frames leave the queue and are finished, both or neither.
        self.waiting.drain(..count);
        self.done.extend(finished);
        self.evaluations += states.len() as u64;
        self.evaluating += evaluating;
        let length = self.windows.length();
        self.scene = (frames.len() == length).then(|| Scene {
            number,
            tail: frames.split_off(length - self.windows.overlap()),
            states,
            first: first + self.windows.stride(),
            decoding: Some(decoding),
        });
        Ok(())
    }
}

/// Decoders that go through the latent frames of a scene, one for each column tile.
#[derive(Debug)]
struct ColumnDecoding(Vec<(Tile, Decoding<Arc<Vae>>)>);

impl ColumnDecoding {
    /// The tiles of a latent of `width` columns.
    fn new(vae: &Arc<Vae>, width: usize, tiling: Tiling) -> Self {
        let tiles = columns(width, tiling.columns, tiling.overlap).into_iter();
        Self(
            tiles
                .map(|tile| (tile, Decoding::new(vae.clone(), tiling.frugal)))
                .collect(),
        )
    }

    /// Decodes the next latent frames `[1, latent frames, channels, h, w]` of a scene, `slice` at a time, to frames
    /// `[frames, height, width, 3]` in 0..=255. At the `beginning` of a scene the first slice has one more.
    fn decode(
        &mut self,
        latent: &Tensor,
        slice: usize,
        beginning: bool,
        progress: &Progress,
    ) -> Result<Tensor> {
        let latent = (latent / LATENT_SCALE)?.transpose(1, 2)?.contiguous()?;
        let (_, _, count, _, width) = latent.dims5()?;
        let mut strips = Vec::with_capacity(self.0.len());
        for (tile, decoding) in &mut self.0 {
            let columns = latent.narrow(4, tile.decoded.start, tile.decoded.len())?;
            let mut parts = Vec::with_capacity(count / slice + 1);
            let mut start = 0;
            while start < count {
                let length = (slice + usize::from(beginning && start == 0)).min(count - start);
                let frames = decoding.push(&columns.narrow(2, start, length)?, true, progress)?;
                let factor = frames.dim(4)? / tile.decoded.len();
                let first = (tile.kept.start - tile.decoded.start) * factor;
                parts.push(to_bytes_range(&frames.narrow(
                    4,
                    first,
                    tile.kept.len() * factor,
                )?)?);
                start += length;
            }
            strips.push(Tensor::cat(&parts, 0)?);
        }
        if strips.is_empty() {
            return Err(Error::invalid(format!(
                "a latent of {width} columns cannot be decoded"
            )));
        }
        Ok(Tensor::cat(&strips, 2)?)
    }
}

impl Session for ReleasedSession {
    fn set_options(&mut self, options: &EnhanceOptions, _: &Progress) -> Result<()> {
        let steps = resolve_steps(&self.enhancer, options)?;
        let release = FlowOptions::default();
        let flow = FlowOptions {
            steps,
            guidance: options.guidance_scale.unwrap_or(release.guidance),
            noise_step: match options.noise {
                Some(noise) => (noise * NOISE_STEPS).round() as usize,
                None => release.noise_step,
            },
            ..release
        };
        let new = ReleasedOptions {
            prompt: options.prompt.clone(),
            size: self.output,
            seed: options.seed,
            flow,
            tile: self.plan.extent.tile,
            encode: self.plan.encode,
            decode: self.plan.decode,
            keep_colours: true,
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

    /// A window is one piece of work: its frames are not paced one by one.
    fn is_ready(&self, _: bool) -> bool {
        false
    }

    fn next(&mut self, end: bool, _: Rung, progress: &Progress) -> Result<Option<Frame>> {
        if let Some(frame) = self.done.pop_front() {
            return Ok(Some(frame));
        }
        let (Some(&(_, scene)), Some(options)) = (self.waiting.front(), self.options.clone())
        else {
            return Ok(None);
        };
        // A window may have ended with its scene.
        self.scene.take_if(|before| before.number != scene);
        let wanted = self.windows.fresh(self.scene.is_some());
        let same = |(_, number): &&(Frame, u64)| *number == scene;
        let there = self.waiting.iter().take(wanted).take_while(same).count();
        let cut = self.waiting.len() > there;
        if there < wanted && !end && !cut {
            return Ok(None);
        }
        self.window(scene, there, &options, progress)?;
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
        self.plan.bytes
    }

    fn look_ahead(&self) -> usize {
        self.windows.look_ahead()
    }
}

#[cfg(test)]
mod tests;
