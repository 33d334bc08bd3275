//! How much of a clip the released Stage II works on at a time, and what that takes.

use crate::clip::Size;
use crate::dit::DitConfig;
use crate::error::{Error, Result};
use crate::plan::Extent;
use crate::progress::{Event, Progress};
use crate::text::TOKENS;
use crate::vae::{TILE_OVERLAP, VaeConfig, tiles};

use super::tiles::{TRAINED_SIDE, tile_size};

/// Frames must have sides that are multiples of this: eight pixels to a latent position, two of these to a token.
pub(crate) const MULTIPLE: usize = 16;
/// Column tiles in which the release decodes.
pub(crate) const RELEASE_COLUMNS: usize = 2;
/// As the model was trained, with the release's chunks of two latent frames.
pub(crate) const FULL: Extent = Extent {
    tile: TRAINED_SIDE,
    window: 49,
    slice: 2,
};
/// Below this the model does not see enough of a scene.
const LEAST: Extent = Extent {
    tile: TRAINED_SIDE / 4,
    window: 13,
    slice: 1,
};
/// Frames of a latent frame after the first of a window.
pub(crate) const GRANULE: usize = 4;

/// What is worked on at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effort {
    /// Tiles, windows and slices.
    pub extent: Extent,
    /// Column tiles in which pictures are decoded, each with an overlap; the release takes two.
    pub columns: usize,
    /// Estimated peak memory beside the weights.
    pub bytes: u64,
}

/// The sizes that decide about memory.
#[derive(Clone, Debug)]
pub(crate) struct Shapes {
    pub dit: DitConfig,
    pub vae: VaeConfig,
}

impl Shapes {
    /// Estimated peak memory in bytes of enhancing windows to pictures of `size`, beside the weights.
    pub fn bytes(&self, extent: Extent, columns: usize, size: Size) -> u64 {
        let side = |side: usize| side.next_multiple_of(MULTIPLE);
        let (width, height) = (side(size.width), side(size.height));
        let pixels = (width * height) as u64;
        let tile = tile_size(size, extent.tile, MULTIPLE);
        let patches = tile.width.min(width) * tile.height.min(height) / (MULTIPLE * MULTIPLE);
        let tokens = (TOKENS + self.vae.latent_frames(extent.window) * patches) as u64;
        // Tokens, queries, keys and values, and the result of the attention.
        let attention = 4 * 5 * tokens * self.dit.hidden as u64;
        // The latent, its noise, a velocity without and with the prompt, and the state of each step that the next window
        // takes over.
        let latents = 4
            * 12
            * (self.vae.latent_frames(extent.window) * self.dit.in_channels) as u64
            * (pixels / 64);
        // The first chunk of a decoding, on the level where an enlarged activation still has the channels of the level
        // below: that and its convolution, later a block's input, two values inside of it and its output.
        let channels = |level: usize| self.vae.decoder_channels.get(level).copied().unwrap_or(0);
        let depth = (2 * channels(1)).max(4 * channels(0)) as u64;
        let decoded = tiles::columns(width / 8, columns, TILE_OVERLAP)
            .iter()
            .map(|tile| tile.decoded.len() * 8)
            .max()
            .unwrap_or(width);
        let decoding = 4 * (self.vae.frames(extent.slice + 1) * decoded * height) as u64 * depth;
        let clip = 4 * 3 * 3 * extent.window as u64 * pixels;
        clip + latents + attention.max(decoding)
    }

    /// The fastest way to pictures of `size` within `available` bytes: all at once, decoded in columns as the release
    /// does, then half the tile, half the window and half the slice, again and again. Warns where frames take longer
    /// for want of memory.
    ///
    /// # Errors
    /// [`Error::Memory`] when even the smallest needs more.
    pub fn plan(&self, size: Size, available: Option<u64>, progress: &Progress) -> Result<Effort> {
        let bytes = |extent, columns| self.bytes(extent, columns, size);
        let effort = |extent, columns| Effort {
            extent,
            columns,
            bytes: bytes(extent, columns),
        };
        let limit = available.unwrap_or(u64::MAX);
        for columns in [1, RELEASE_COLUMNS] {
            if bytes(FULL, columns) <= limit {
                return Ok(effort(FULL, columns));
            }
        }
        let mib = |bytes: u64| bytes >> 20;
        let (extent, _) = FULL
            .within(LEAST, GRANULE, limit, |extent| {
                bytes(extent, RELEASE_COLUMNS)
            })
            .map_err(|needed| Error::Memory {
                what: format!("enhancing {} frames of {size} at a time", LEAST.window),
                needed_mib: mib(needed),
                available_mib: mib(limit),
                hint: "choose a smaller target size or the built-in model".to_owned(),
            })?;
        // What turned out not to decide need not be small.
        let roomy = [
            Extent {
                tile: FULL.tile,
                ..extent
            },
            Extent {
                window: FULL.window,
                ..extent
            },
        ];
        let fits = |extent: &Extent| bytes(*extent, RELEASE_COLUMNS) <= limit;
        let extent = roomy.into_iter().find(fits).unwrap_or(extent);
        progress.emit(Event::Warning(format!(
            "{} MiB of memory are too few for windows of {} frames of {size} ({} MiB): working on windows of {} frames in \
             tiles of {}, {} latent frames decoded at a time",
            mib(limit),
            FULL.window,
            mib(bytes(FULL, RELEASE_COLUMNS)),
            extent.window,
            tile_size(size, extent.tile, MULTIPLE),
            extent.slice
        )));
        Ok(effort(extent, RELEASE_COLUMNS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::CancelToken;
    use std::sync::{Arc, Mutex};

    fn vae(decoder_channels: Vec<usize>) -> VaeConfig {
        VaeConfig {
            colours: 3,
            latent: 16,
            base: 128,
            encoder_channels: vec![128, 256, 256, 512],
            encoder_blocks: vec![3; 4],
            decoder_channels,
            decoder_blocks: vec![4; 4],
            groups: 32,
        }
    }

    /// Sizes of the release.
    fn release() -> Shapes {
        Shapes {
            dit: DitConfig {
                layers: 30,
                hidden: 1920,
                heads: 30,
                head_dim: 64,
                mlp: 7680,
                time_dim: 512,
                text_dim: 4096,
                in_channels: 16,
                out_channels: 16,
                patch: 2,
                reference: true,
                rope_theta: 10000.0,
            },
            vae: vae(vec![128, 256, 256, 512]),
        }
    }

    #[test]
    fn less_memory_takes_smaller_parts_until_none_is_left() {
        let shapes = release();
        for size in [
            Size::new(1920, 1080),
            Size::new(3840, 2160),
            Size::new(1080, 1920),
        ] {
            let warnings = Arc::new(Mutex::new(Vec::new()));
            let sink = warnings.clone();
            let progress = Progress::new(CancelToken::new(), move |event| {
                if let Event::Warning(text) = event {
                    sink.lock().unwrap().push(text);
                }
            });
            let whole = shapes.plan(size, None, &progress).unwrap();
            assert_eq!((whole.extent, whole.columns), (FULL, 1));
            let columns = shapes.plan(size, Some(whole.bytes - 1), &progress).unwrap();
            assert_eq!((columns.extent, columns.columns), (FULL, RELEASE_COLUMNS));
            assert!(columns.bytes < whole.bytes);
            assert!(
                warnings.lock().unwrap().is_empty(),
                "as the release does it"
            );

            let mut last = columns;
            let error = loop {
                match shapes.plan(size, Some(last.bytes - 1), &progress) {
                    Ok(effort) => {
                        assert!(effort.bytes < last.bytes);
                        assert!((effort.extent.window - 1).is_multiple_of(GRANULE));
                        last = effort;
                    }
                    Err(error) => break error,
                }
            };
            assert!(!warnings.lock().unwrap().is_empty());
            assert!(matches!(error, Error::Memory { .. }), "{error}");
        }
    }

    #[test]
    fn beyond_the_trained_size_attention_does_not_grow() {
        let shapes = Shapes {
            // Nothing but attention counts.
            vae: vae(vec![0; 4]),
            ..release()
        };
        let attention = |size: Size| {
            let clip = 4 * 3 * 3 * 49 * (size.width * size.height) as u64;
            let latents = 4 * 12 * 13 * 16 * (size.width * size.height / 64) as u64;
            shapes.bytes(FULL, 1, size) - clip - latents
        };
        assert_eq!(
            attention(Size::new(3840, 2176)),
            attention(Size::new(1920, 1088))
        );
    }
}
