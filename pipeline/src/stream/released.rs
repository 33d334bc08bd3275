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
use crate::released::effort::{Effort, GRANULE};
use crate::released::flow::FlowOptions;
use crate::released::stage2::{Carry, LATENT_SCALE, ReleasedEnhancer, ReleasedOptions, crop};
use crate::released::tone::keep_colours;
use crate::stage2::{EnhanceOptions, Enhancer, resolve_steps};
use crate::vae::tiles::{Tile, columns};
use crate::vae::{Decoding, TILE_OVERLAP, Vae, to_bytes_range};

/// Frames that a window shares with the one before it.
const OVERLAP: usize = 9;
/// Latent frames that are taken over, and the shared one before these that is not.
const SHARED: usize = (OVERLAP - 1) / GRANULE;
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
    decoding: ColumnDecoding,
}

#[derive(Debug)]
pub(super) struct ReleasedSession {
    enhancer: Arc<Enhancer>,
    model: Arc<ReleasedEnhancer>,
    output: Size,
    effort: Effort,
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
        let effort = model
            .shapes()?
            .plan(output, memory::available(), progress)?;
        Ok(Self::with_effort(enhancer, model, output, effort))
    }

    fn with_effort(
        enhancer: Arc<Enhancer>,
        model: Arc<ReleasedEnhancer>,
        output: Size,
        effort: Effort,
    ) -> Self {
        Self {
            enhancer,
            model,
            output,
            effort,
            options: None,
            waiting: VecDeque::new(),
            last: None,
            scene: None,
            done: VecDeque::new(),
            evaluations: 0,
            evaluating: Duration::ZERO,
        }
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
        let mut decoding = match old {
            Some(scene) => scene.decoding,
            None => ColumnDecoding::new(&vae, latent.dim(4)?, self.effort.columns),
        };
        let slice = self.effort.extent.slice;
        let enhanced = self.model.vae_runtime().install(|| {
            let latent = latent.narrow(1, skip, latent.dim(1)? - skip)?;
            decoding.decode(&latent, slice, skip == 0, progress)
        })?;
        let enhanced = crop(&enhanced, count, self.output)?;
        let fresh_clip = clip.narrow(0, frames.len() - count, count)?;
        for (index, like) in fresh.iter().enumerate() {
            progress.check()?;
            let one = |frames: &Tensor| frames.narrow(0, index, 1);
            let picture = keep_colours(&one(&enhanced)?, &one(&fresh_clip)?)?;
            let frame = colour::to_frame(&picture, 0, like, progress)?;
            self.done.push_back(frame);
        }
        self.waiting.drain(..count);
        let window = self.effort.extent.window;
        if frames.len() == window {
            self.scene = Some(Scene {
                tail: frames.split_off(window - OVERLAP),
                states,
                first: first + (window - OVERLAP) / GRANULE,
                decoding,
            });
        }
        Ok(())
    }
}

/// Decoders that go through the latent frames of a scene, one for each column tile.
#[derive(Debug)]
struct ColumnDecoding(Vec<(Tile, Decoding<Arc<Vae>>)>);

impl ColumnDecoding {
    /// `count` column tiles of a latent of `width` columns; one decodes it whole.
    fn new(vae: &Arc<Vae>, width: usize, count: usize) -> Self {
        let tiles = columns(width, count, TILE_OVERLAP).into_iter();
        Self(
            tiles
                .map(|tile| (tile, Decoding::new(vae.clone())))
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
            tile: self.effort.extent.tile,
            decode_tiles: self.effort.columns,
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

    fn next(&mut self, end: bool, progress: &Progress) -> Result<Option<Frame>> {
        if let Some(frame) = self.done.pop_front() {
            return Ok(Some(frame));
        }
        let (Some(&(_, scene)), Some(options)) = (self.waiting.front(), self.options.clone())
        else {
            return Ok(None);
        };
        let wanted = match &self.scene {
            Some(scene) => self.effort.extent.window - scene.tail.len(),
            None => self.effort.extent.window,
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
        self.effort.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clip::{FrameFormat, Samples};
    use crate::plan::Extent;
    use crate::runtime::Runtime;
    use crate::stage2::Grade;
    use std::path::Path;

    /// A folder like the release's at tiny sizes.
    fn enhancer() -> (tempfile::TempDir, Arc<Enhancer>) {
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden");
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("t5")).unwrap();
        for name in [
            "stage2.pt",
            "3d-vae.pt",
            "t5/config.json",
            "t5/model.safetensors",
            "t5/spiece.model",
        ] {
            std::fs::copy(golden.join(name), folder.path().join(name)).unwrap();
        }
        let name = folder.path().to_str().unwrap().to_owned();
        let runtime = Runtime::cpu().unwrap();
        let enhancer = Enhancer::load(&name, &runtime, &Progress::none()).unwrap();
        (folder, enhancer)
    }

    fn frame(level: usize, index: usize) -> Frame {
        let size = Size::new(24, 16);
        let value = |at: usize| (level + at % 24 + at / 24 + index) as u8;
        let luma = Samples::U8((0..size.pixels()).map(value).collect());
        Frame::new(FrameFormat::gray(), size, vec![luma]).unwrap()
    }

    fn run(enhancer: &Arc<Enhancer>, level: usize, frames: usize, effort: Effort) -> Vec<Vec<u8>> {
        let Grade::Released(model) = enhancer.grade() else {
            unreachable!("a release was loaded")
        };
        let mut session = ReleasedSession::with_effort(
            enhancer.clone(),
            model.clone(),
            Size::new(72, 48),
            effort,
        );
        let options = EnhanceOptions {
            steps: Some(2),
            ..EnhanceOptions::default()
        };
        session.set_options(&options, &Progress::none()).unwrap();
        (0..frames).for_each(|index| session.push(frame(level, index)));
        let next = || session.next(true, &Progress::none()).unwrap();
        std::iter::from_fn(next)
            .map(|frame| match frame.planes()[0].as_ref() {
                Samples::U8(codes) => codes.clone(),
                Samples::U16(_) => unreachable!("8 bits"),
            })
            .collect()
    }

    fn effort(tile: usize, window: usize, slice: usize, columns: usize) -> Effort {
        Effort {
            extent: Extent {
                tile,
                window,
                slice,
            },
            columns,
            bytes: 0,
        }
    }

    #[test]
    fn smaller_parts_give_as_many_frames() {
        let (_folder, enhancer) = enhancer();
        let run = |effort| run(&enhancer, 90, 15, effort);
        let whole = run(effort(1920, 49, 2, 1));
        assert_eq!(whole.len(), 15);
        // A tile that holds the whole picture changes nothing.
        assert!(run(effort(96, 49, 2, 1)) == whole);
        // The network is a random one, so what it sees less of comes out as something else.
        for smaller in [
            effort(48, 49, 2, 1),
            effort(1920, 13, 2, 1),
            effort(1920, 49, 1, 1),
            effort(1920, 49, 2, 2),
            effort(48, 13, 1, 2),
        ] {
            let frames = run(smaller);
            assert_eq!(frames.len(), 15, "{smaller:?}");
            assert!(frames != whole, "{smaller:?} had no effect");
        }
    }

    #[test]
    fn brightness_is_that_of_the_input() {
        let (_folder, enhancer) = enhancer();
        let mean = |level| {
            let frames = run(&enhancer, level, 5, effort(1920, 49, 2, 1));
            let codes = frames.iter().flatten().map(|code| f64::from(*code));
            codes.sum::<f64>() / frames.iter().map(Vec::len).sum::<usize>() as f64
        };
        // By itself the random network makes nearly the same of both.
        let (dark, bright) = (mean(40), mean(180));
        assert!(bright - dark > 90.0, "{dark} and {bright}");
    }
}
