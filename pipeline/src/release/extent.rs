// SPDX-License-Identifier: MPL-2.0
//! How much of a clip the released Stage II works on at a time, and what memory that takes.

use crate::error::{Error, Result};
use crate::plan::Budget;
use crate::plan::budget::mib;
use crate::plan::extent::Extent;
use crate::progress::{Event, Progress};
use crate::release::dit::DitConfig;
use crate::release::text::TOKENS;
use crate::release::vae::{Keeping, TILE_OVERLAP, Tiling, VaeConfig, chunks, tiles};
use crate::runtime::Runtime;
use crate::size::Size;

use super::tiles::{TRAINED_SIDE, tile_size};

/// Frames must have sides that are multiples of this: eight pixels to a latent position, two of these to a token.
pub(crate) const MULTIPLE: usize = 16;
/// Column tiles in which the release decodes.
pub(crate) const RELEASE_COLUMNS: usize = 2;
/// Numbers of column tiles for encoding and for decoding.
const COLUMNS: [usize; 4] = [1, RELEASE_COLUMNS, 4, 8];
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

/// Bytes that may be taken, beside the weights; `None` where nobody knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Room {
    /// Where the model runs.
    pub device: Option<u64>,
    /// In the memory of the CPU; the same as the former for a model that runs there.
    pub host: Option<u64>,
}

impl Room {
    /// What there is now for a model on `runtime`.
    pub fn of(runtime: &Runtime) -> Self {
        Self {
            device: Budget::of(runtime.device()).limit(),
            host: Budget::host().limit(),
        }
    }
}

/// What is worked on at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowPlan {
    /// Tiles of the flow, windows and slices.
    pub extent: Extent,
    /// How windows are encoded: whole, as in the release, unless memory is short.
    pub encode: Tiling,
    /// How pictures are decoded; the release takes two columns.
    pub decode: Tiling,
    /// Estimated peak memory where the model runs, beside the weights.
    pub bytes: u64,
    /// Estimated peak memory of the CPU for a model on a GPU; 0 for one on the CPU.
    pub host_bytes: u64,
}

/// The sizes that decide about memory.
#[derive(Clone, Debug)]
pub(crate) struct Shapes {
    pub dit: DitConfig,
    pub vae: VaeConfig,
    /// Bytes of a value on a GPU; none on the CPU.
    pub gpu: Option<usize>,
}

/// How pictures go through the VAE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Columns {
    encode: usize,
    decode: usize,
    frugal: bool,
}

impl Shapes {
    /// The sizes of a model on `runtime`.
    pub fn new(dit: DitConfig, vae: VaeConfig, runtime: &Runtime) -> Self {
        let gpu = !runtime.device().is_cpu();
        Self {
            dit,
            vae,
            gpu: gpu.then(|| runtime.dtype().size_in_bytes()),
        }
    }

    /// Estimated peak memory in bytes of enhancing windows to pictures of `size` with nothing cut up, beside the weights.
    pub fn bytes(&self, size: Size) -> u64 {
        let whole = Columns {
            encode: 1,
            decode: 1,
            frugal: false,
        };
        self.of(FULL, whole, size).bytes
    }

    /// What working in `extent` and `columns` takes.
    fn of(&self, extent: Extent, columns: Columns, size: Size) -> WindowPlan {
        let side = |side: usize| side.next_multiple_of(MULTIPLE);
        let (width, height) = (side(size.width), side(size.height));
        let pixels = (width * height) as u64;
        let tile = tile_size(size, extent.tile, MULTIPLE);
        let patches = tile.width.min(width) * tile.height.min(height) / (MULTIPLE * MULTIPLE);
        let tokens = TOKENS + self.vae.latent_frames(extent.window) * patches;
        let attention = match self.gpu {
            None => self.dit.cpu_bytes(tokens),
            Some(element) => self.dit.gpu_bytes(tokens, element),
        };
        let keeping = match self.gpu {
            None => Keeping::CPU,
            Some(element) => Keeping {
                apart: true,
                element,
                frugal: columns.frugal,
            },
        };
        // The widths of the column tiles, in latent columns.
        let widths = |count| {
            let tiles = tiles::columns(width / 8, count, TILE_OVERLAP).into_iter();
            tiles.map(|tile| tile.decoded.len())
        };
        let most =
            |bytes: &dyn Fn(usize) -> u64, count| widths(count).map(bytes).max().unwrap_or(0);
        let frames = chunks::encode(extent.window)
            .first()
            .map_or(0, ExactSizeIterator::len);
        let encoding = most(
            &|width| {
                self.vae
                    .encoding_bytes(frames, (height, 8 * width), keeping)
            },
            columns.encode,
        );
        let encoder = most(
            &|width| {
                self.vae
                    .encoder_memory((height, 8 * width), keeping.element)
            },
            columns.encode,
        );
        let slice = extent.slice + 1;
        let decoding = most(
            &|width| {
                self.vae
                    .decoding_bytes(slice, true, (height / 8, width), keeping)
            },
            columns.decode,
        );
        // The decoders of a scene go on from window to window, all of them.
        let decoders: u64 = widths(columns.decode)
            .map(|width| {
                self.vae
                    .decoder_memory((height / 8, width), keeping.element)
            })
            .sum();
        // The latent, its noise, a velocity without and with the prompt, and the state of each step that the next window
        // takes over.
        let latents = 4
            * 12
            * (self.vae.latent_frames(extent.window) * self.dit.in_channels) as u64
            * (pixels / 64);
        let clip = 4 * 3 * 3 * extent.window as u64 * pixels;
        let (here, there) = match (self.gpu, columns.frugal) {
            (None, _) => (
                clip + decoders + attention.max(encoding + encoder).max(decoding),
                0,
            ),
            (Some(_), false) => (
                decoders + attention.max(encoding + encoder).max(decoding),
                clip,
            ),
            (Some(_), true) => (
                attention.max(encoding).max(decoding),
                clip + decoders + encoder,
            ),
        };
        let tiling = |columns: usize| Tiling {
            frugal: keeping.frugal,
            ..Tiling::columns(columns)
        };
        WindowPlan {
            extent,
            encode: tiling(columns.encode),
            decode: tiling(columns.decode),
            bytes: here + latents,
            host_bytes: there,
        }
    }

    /// Ways through the VAE from the best to the one that takes the least memory where the model runs: as the release
    /// does it, at full speed and then frugally; then in more columns. The flag is for those that give other numbers
    /// than the release.
    fn columns(&self) -> Vec<(Columns, bool)> {
        let frugal: &[bool] = match self.gpu {
            None => &[false],
            Some(_) => &[false, true],
        };
        let mut all: Vec<(Columns, bool)> = Vec::new();
        for encode in COLUMNS {
            for decode in COLUMNS {
                all.extend(frugal.iter().map(|&frugal| {
                    let columns = Columns {
                        encode,
                        decode,
                        frugal,
                    };
                    (columns, encode > 1 || decode > RELEASE_COLUMNS)
                }));
            }
        }
        all.sort_by_key(|(columns, told)| (*told, !told && columns.frugal));
        all
    }

    /// As [`plan`](Self::plan), whatever the size of the operands.
    pub(super) fn within(&self, size: Size, room: Room, progress: &Progress) -> Result<WindowPlan> {
        let limit = room.device.unwrap_or(u64::MAX);
        let host = room.host.unwrap_or(u64::MAX);
        let fits = |plan: &WindowPlan| plan.bytes <= limit && plan.host_bytes <= host;
        let ways = self.columns();
        let first = |extent| {
            let plans = ways
                .iter()
                .map(|(columns, told)| (self.of(extent, *columns, size), *told));
            plans.into_iter().find(|(plan, _)| fits(plan))
        };
        if let Some((plan, false)) = first(FULL) {
            return Ok(plan);
        }
        // What the smallest way takes; the host's share of it does not shrink with the extent.
        let least = |extent| {
            let plans = ways
                .iter()
                .map(|(columns, _)| self.of(extent, *columns, size));
            let plans = plans.filter(|plan| plan.host_bytes <= host);
            plans.map(|plan| plan.bytes).min()
        };
        let (extent, _) = FULL
            .within(LEAST, GRANULE, limit, |extent| {
                least(extent).unwrap_or(u64::MAX)
            })
            .map_err(|_| self.too_little(size, room))?;
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
            extent,
        ];
        let (plan, _) = roomy
            .into_iter()
            .find_map(first)
            .ok_or_else(|| self.too_little(size, room))?;
        progress.emit(Event::Warning(format!(
            "{} MiB of memory are too few for windows of {} frames of {size} ({} MiB): working on windows of {} frames in \
             tiles of {}, encoded in {} and decoded in {} columns, {} latent frames at a time",
            mib(limit),
            FULL.window,
            mib(self.bytes(size)),
            plan.extent.window,
            tile_size(size, plan.extent.tile, MULTIPLE),
            plan.encode.columns,
            plan.decode.columns,
            plan.extent.slice
        )));
        Ok(plan)
    }

    /// Why nothing fits into `room`.
    fn too_little(&self, size: Size, room: Room) -> Error {
        let plans = self.columns().into_iter();
        let plans = plans.map(|(columns, _)| self.of(LEAST, columns, size));
        let least = plans.min_by_key(|plan| plan.bytes);
        let (bytes, host_bytes) = least.map_or((0, 0), |plan| (plan.bytes, plan.host_bytes));
        let what = format!("enhancing {} frames of {size} at a time", LEAST.window);
        let smaller = "choose a smaller target size or the built-in model";
        match room.device {
            Some(device) if bytes > device => Error::Memory {
                what,
                needed_mib: mib(bytes),
                available_mib: mib(device),
                hint: smaller.to_owned(),
            },
            _ => Error::Memory {
                what: format!("{what}, on the CPU beside the GPU"),
                needed_mib: mib(host_bytes),
                available_mib: mib(room.host.unwrap_or(0)),
                hint: format!("{smaller}, or close other programs"),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::CancelToken;
    use crate::release::text::T5Config;
    use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
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

    /// Sizes of the release, in bf16 on a GPU or on the CPU.
    fn release(gpu: bool) -> Shapes {
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
            gpu: gpu.then_some(2),
        }
    }

    fn on_device(device: u64) -> Room {
        Room {
            device: Some(device),
            host: None,
        }
    }

    #[test]
    fn less_memory_takes_smaller_parts_until_none_is_left() {
        for (gpu, size) in [
            (false, Size::new(1920, 1080)),
            (false, Size::new(3840, 2160)),
            (false, Size::new(1080, 1920)),
            (true, Size::new(1920, 1080)),
            (true, Size::new(3840, 2160)),
        ] {
            let shapes = release(gpu);
            let warnings = Arc::new(Mutex::new(Vec::new()));
            let sink = warnings.clone();
            let progress = Progress::new(CancelToken::new(), move |event| {
                if let Event::Warning(text) = event {
                    sink.lock().unwrap().push(text);
                }
            });
            let whole = shapes.plan(size, Room::default(), &progress).unwrap();
            assert_eq!(whole.extent, FULL);
            assert_eq!((whole.encode.columns, whole.decode.columns), (1, 1));
            assert_eq!(whole.bytes, shapes.bytes(size));
            let mut last = whole;
            let error = loop {
                match shapes.plan(size, on_device(last.bytes - 1), &progress) {
                    Ok(plan) => {
                        assert!(plan.bytes < last.bytes);
                        assert!((plan.extent.window - 1).is_multiple_of(GRANULE));
                        let release = plan.extent == FULL
                            && plan.encode.columns == 1
                            && plan.decode.columns <= RELEASE_COLUMNS;
                        let told = std::mem::take(&mut *warnings.lock().unwrap());
                        assert_eq!(told.is_empty(), release, "{told:?}");
                        last = plan;
                    }
                    Err(error) => break error,
                }
            };
            assert!(last.extent != FULL, "{last:?}");
            assert!(matches!(error, Error::Memory { .. }), "{error}");
        }
    }

    #[test]
    fn beyond_the_trained_size_attention_does_not_grow() {
        let shapes = Shapes {
            // Nothing but attention counts.
            vae: VaeConfig {
                base: 0,
                encoder_channels: vec![0; 4],
                colours: 0,
                latent: 0,
                ..vae(vec![0; 4])
            },
            ..release(false)
        };
        let attention = |size: Size| {
            let clip = 4 * 3 * 3 * 49 * (size.width * size.height) as u64;
            let latents = 4 * 12 * 13 * 16 * (size.width * size.height / 64) as u64;
            shapes.bytes(size) - clip - latents
        };
        assert_eq!(
            attention(Size::new(3840, 2176)),
            attention(Size::new(1920, 1088))
        );
    }

    /// What owners of a card with 24 GB asked for: Stage II at 1080p as the release does it, in windows of 49 frames.
    #[test]
    fn stage_two_at_1080p_fits_24_gb() {
        const CARD: u64 = 24_000_000_000;
        let bf16 = |parameters: u64| 2 * parameters;
        // The transformer and the VAE stay; the text encoder takes its turn with what they work on.
        let (dit, vae) = (bf16(1_696_399_168), bf16(215_583_907));
        let text = bf16(T5Config::XXL.parameters());
        let free = CARD - dit - vae;
        // A quarter stays for others.
        let limit = free / 4 * 3;
        let room = Room {
            device: Some(limit),
            host: Some(48_000_000_000),
        };
        let warned = Arc::new(AtomicBool::new(false));
        let sink = warned.clone();
        let progress = Progress::new(CancelToken::new(), move |_| sink.store(true, Relaxed));
        let size = Size::new(1920, 1072);
        let plan = release(true).plan(size, room, &progress).unwrap();
        assert_eq!(plan.extent, FULL);
        assert_eq!(
            (plan.encode.columns, plan.decode.columns),
            (1, RELEASE_COLUMNS)
        );
        assert!(plan.encode.frugal && plan.decode.frugal && !warned.load(Relaxed));
        assert!(
            plan.bytes <= limit && dit + vae + plan.bytes <= CARD,
            "{plan:?}"
        );
        assert!(dit + vae + text <= CARD);
        // Beside a machine with less memory of its own pictures are encoded in columns.
        let less = Room {
            host: Some(27_000_000_000),
            ..room
        };
        let columns = release(true).plan(size, less, &progress).unwrap();
        assert_eq!(columns.extent, FULL);
        assert!(columns.encode.columns > 1 && warned.load(Relaxed));
        // With too little memory beside the card it is refused, and says where.
        let small = Room {
            host: Some(8_000_000_000),
            ..room
        };
        let error = release(true).plan(size, small, &progress).unwrap_err();
        assert!(error.to_string().contains("on the CPU"), "{error}");
        // A card with 80 GB is not frugal.
        let large = on_device((80_000_000_000 - dit - vae) / 4 * 3);
        let plan = release(true).plan(size, large, &progress).unwrap();
        assert!(!plan.encode.frugal && plan.decode.columns == 1, "{plan:?}");
    }
}
