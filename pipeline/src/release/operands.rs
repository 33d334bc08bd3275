// SPDX-License-Identifier: MPL-2.0
//! The largest operands of the released Stage II on a GPU, part by part, by arithmetic.

use super::extent::{MULTIPLE, Room, Shapes, WindowPlan};
use super::tiles::tile_size;
use crate::error::Result;
use crate::plan::operands::OperandLimit;
use crate::progress::Progress;
use crate::release::text::TOKENS;
use crate::release::vae::{Tiling, chunks, tiles};
use crate::size::Size;

impl Shapes {
    /// The fastest way to pictures of `size` within `room`: all at once, decoded in columns as the release does; then
    /// saving memory at the cost of time, then in more columns, then half the tile, half the window and half the slice,
    /// again and again. Warns where results differ from the release's or frames take much longer for want of memory.
    ///
    /// # Errors
    /// [`Error::Memory`] when even the smallest needs more, [`Error::Invalid`] for pictures that a GPU cannot number.
    pub fn plan(&self, size: Size, room: Room, progress: &Progress) -> Result<WindowPlan> {
        let plan = self.within(size, room, progress)?;
        if self.gpu.is_some() {
            largest(self, &plan, size, &OperandLimit::gpu())?;
        }
        Ok(plan)
    }
}

/// The largest operand of every part of the network while windows are made into pictures of `size` as `plan` says: the
/// name of the part and a number of elements.
///
/// # Errors
/// [`Error::Invalid`](crate::Error::Invalid) when a part cannot be cut into small enough ones.
pub(crate) fn largest(
    shapes: &Shapes,
    plan: &WindowPlan,
    size: Size,
    limit: &OperandLimit,
) -> Result<Vec<(String, usize)>> {
    let side = |side: usize| side.next_multiple_of(MULTIPLE);
    let (width, height) = (side(size.width), side(size.height));
    let factor = shapes.vae.space_factor();
    // Latent columns of the widest tile.
    let columns = |tiling: Tiling| {
        let tiles = tiles::columns(width / factor, tiling.columns, tiling.overlap).into_iter();
        tiles.map(|tile| tile.decoded.len()).max().unwrap_or(0)
    };
    let frames = chunks::encode(plan.extent.window);
    let frames = frames.first().map_or(0, ExactSizeIterator::len);
    let encoded = (height, columns(plan.encode) * factor);
    let decoded = (height / factor, columns(plan.decode));
    let tile = tile_size(size, plan.extent.tile, MULTIPLE);
    let latents = shapes.vae.latent_frames(plan.extent.window);
    let patches = tile.width.min(width) * tile.height.min(height) / (MULTIPLE * MULTIPLE);

    let mut list = shapes.vae.encoder_operands(frames, encoded, limit)?;
    let latent = latents * shapes.dit.in_channels * (height / factor) * (width / factor);
    limit.admit(latent)?;
    list.push(("latent".to_owned(), latent));
    list.extend(shapes.dit.operands((TOKENS, latents * patches), limit)?);
    list.extend(
        shapes
            .vae
            .decoder_operands(plan.extent.slice + 1, decoded, limit)?,
    );
    Ok(list)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::{Checkpoint, Weights};
    use crate::plan::operands::ELEMENTS;
    use crate::release::dit::DitConfig;
    use crate::release::text::T5Config;
    use crate::release::vae::VaeConfig;
    use candle_core::{DType, Device, Tensor};
    use std::collections::HashMap;

    /// The tensors of a released model, of zeros that take no memory.
    fn released(part: &str) -> Checkpoint {
        let file = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../tests/golden/real_shapes.json"
        );
        let text = std::fs::read_to_string(file).unwrap();
        let mut all: HashMap<String, HashMap<String, Vec<usize>>> =
            serde_json::from_str(&text).unwrap();
        let zero = Tensor::zeros((), DType::F32, &Device::Cpu).unwrap();
        let tensors = all.remove(part).unwrap().into_iter();
        let tensors = tensors.map(|(name, shape)| (name, zero.broadcast_as(shape).unwrap()));
        Checkpoint::from_tensors(tensors.collect()).unwrap()
    }

    fn shapes(stage: &str) -> Shapes {
        let view = |checkpoint| Weights::new(checkpoint, &Device::Cpu, DType::F32);
        Shapes {
            dit: DitConfig::infer(&view(released(stage).into_dit().unwrap())).unwrap(),
            vae: VaeConfig::infer(&view(released("vae").into_vae())).unwrap(),
            gpu: Some(2),
        }
    }

    #[test]
    fn every_operand_of_the_released_models_can_be_numbered() {
        for (stage, size) in [
            ("stage2", Size::new(1920, 1072)),
            ("stage2", Size::new(3840, 2160)),
            ("stage2", Size::new(15_360, 8640)),
            // The transformer of Stage I at its own size and at its largest.
            ("stage1", Size::new(480, 256)),
            ("stage1", Size::new(2048, 2048)),
        ] {
            let shapes = shapes(stage);
            let plan = shapes
                .plan(size, Room::default(), &Progress::none())
                .unwrap();
            let gpu = OperandLimit::gpu();
            let mut list = largest(&shapes, &plan, size, &gpu).unwrap();
            list.extend(T5Config::XXL.operands(TOKENS));
            let names: Vec<&str> = list.iter().map(|(part, _)| part.as_str()).collect();
            for part in [
                "encoder.conv_in",
                "encoder.down.0",
                "dit.layer.scores",
                "decoder.up.0",
                "decoder.conv_out",
                "t5.layer.scores",
            ] {
                assert!(names.contains(&part), "{part} in {names:?}");
            }
            for (part, elements) in &list {
                println!("{stage} {size} {part}: {elements}");
                assert!(*elements < ELEMENTS, "{part} {elements}");
            }
        }
    }

    #[test]
    fn what_no_parts_help_against_is_refused() {
        let (shapes, size) = (shapes("stage2"), Size::new(1920, 1072));
        let plan = shapes
            .plan(size, Room::default(), &Progress::none())
            .unwrap();
        let list = |elements| largest(&shapes, &plan, size, &OperandLimit::new(elements));
        // All tokens of a window with their features.
        assert!(list(104_746 * 1920 + 1).is_ok());
        assert!(list(104_746 * 1920).is_err());
    }
}
