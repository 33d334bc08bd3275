//! 3x3 convolutions over clips, one or several frames deep in time, without copying windows.
//!
//! A task owns a tile of the picture and carries it through all frames. It keeps the last frames of its tile,
//! channels innermost and with a border, in a ring; so every frame is rearranged once, and the three horizontal taps
//! of a pixel lie side by side: they are a row of a matrix product whose rows overlap.

use rayon::prelude::*;

use super::aligned::AlignedVec;
use super::conv3x3::Activation;
use super::cpu::CpuLevel;
use super::gemm::{Element, Packed, Tile, panel_width, rows};
use super::shared::Shared;
use super::transpose::{SQUARE, turn};
use super::vector::{Work, run};
use crate::error::{Error, Result};
use crate::progress::CancelToken;

/// Columns of a tile: a multiple of the rows of a product's tile.
const COLUMNS: usize = 120;
/// Pixels of a tile, about.
const PIXELS: usize = 480;

/// A convolution `[outputs, inputs, time, 3, 3]` with padding 1 in space and none in time.
#[derive(Debug)]
pub struct Conv3d<T> {
    inputs: usize,
    time: usize,
    weights: Packed<T>,
    bias: Vec<f32>,
}

/// A clip `[frames, channels, height, width]`, frame by frame.
#[derive(Clone, Copy, Debug)]
pub struct Clip<'a> {
    /// Each `[channels, height, width]`.
    pub frames: &'a [&'a [f32]],
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
}

impl<T: Element> Conv3d<T> {
    /// Packs `weight` `[outputs, inputs, time, 3, 3]` and `bias` `[outputs]`.
    ///
    /// # Panics
    /// When the lengths do not fit.
    pub fn new(level: CpuLevel, weight: &[T], bias: &[f32], inputs: usize, time: usize) -> Self {
        let outputs = bias.len();
        assert_eq!(weight.len(), outputs * inputs * time * 9);
        let padded = inputs.next_multiple_of(T::GROUP);
        let mut weights = Packed::zeroed(level, outputs, time * 9 * padded);
        let mut row = vec![T::default(); time * 9 * padded];
        for (output, weight) in weight.chunks_exact((inputs * time * 9).max(1)).enumerate() {
            for (input, taps) in weight.chunks_exact(time * 9).enumerate() {
                for (tap, weight) in taps.iter().enumerate() {
                    row[tap * padded + input] = *weight;
                }
            }
            weights.set_output(output, &row);
        }
        Self {
            inputs,
            time,
            weights,
            bias: bias.to_vec(),
        }
    }

    /// Channels that come out.
    pub fn outputs(&self) -> usize {
        self.bias.len()
    }

    /// The weight `[outputs, inputs, time, 3, 3]`.
    pub fn weight(&self) -> Vec<T> {
        let padded = self.padded();
        let packed = self.weights.unpacked();
        packed
            .chunks_exact(self.weights.inputs().max(1))
            .flat_map(|row| {
                (0..self.inputs)
                    .flat_map(move |input| row.iter().skip(input).step_by(padded).copied())
            })
            .collect()
    }

    fn padded(&self) -> usize {
        self.inputs.next_multiple_of(T::GROUP)
    }

    /// Convolves `clip` into `out` `[frames - time + 1, outputs, height, width]`, adding `residual` of that shape.
    ///
    /// # Errors
    /// [`Error::Invalid`] when sizes do not fit together, [`Error::Cancelled`].
    pub fn run(
        &self,
        clip: Clip<'_>,
        residual: Option<&[f32]>,
        out: &mut [f32],
        cancel: &CancelToken,
    ) -> Result<()> {
        let Clip { height, width, .. } = clip;
        let plane = height * width;
        let frames = (clip.frames.len() + 1).saturating_sub(self.time);
        let fits = out.len() == frames * self.outputs() * plane
            && residual.is_none_or(|residual| residual.len() == out.len())
            && clip
                .frames
                .iter()
                .all(|frame| frame.len() == self.inputs * plane);
        if !fits {
            return Err(Error::invalid(format!(
                "a convolution of {} channels and {} frames of {width}x{height} into {} values",
                self.inputs,
                clip.frames.len(),
                out.len()
            )));
        }
        if out.is_empty() {
            return Ok(());
        }
        let columns = COLUMNS.min(width);
        // Some tiles for every thread.
        let threads = rayon::current_num_threads();
        let across = width.div_ceil(columns);
        let high =
            (PIXELS / columns).clamp(1, height.div_ceil((4 * threads).div_ceil(across)).max(2));
        let down = height.div_ceil(high);
        let out = Shared::new(out);
        (0..across * down).into_par_iter().try_for_each_init(
            || Buffers::new(self, high, columns),
            |buffers, index| {
                let (row, column) = (index / across * high, index % across * columns);
                let area = Area {
                    row,
                    column,
                    rows: high.min(height - row),
                    columns: columns.min(width - column),
                };
                buffers.carry(self, clip, area, residual, &out, cancel)
            },
        )
    }
}

/// A tile of the picture.
#[derive(Clone, Copy)]
struct Area {
    row: usize,
    column: usize,
    rows: usize,
    columns: usize,
}

/// What a task works on.
struct Buffers<T> {
    /// For each tap in time `[rows + 2, columns + 2, padded inputs]`.
    ring: Vec<AlignedVec<T>>,
    /// `[pixels, panel width]`
    sums: AlignedVec<f32>,
}

impl<T: Element> Buffers<T> {
    fn new(conv: &Conv3d<T>, rows: usize, columns: usize) -> Self {
        let size = (rows + 2) * (columns + 2) * conv.padded();
        Self {
            ring: (0..conv.time).map(|_| AlignedVec::zeroed(size)).collect(),
            sums: AlignedVec::zeroed(rows * columns * panel_width(conv.weights.level())),
        }
    }

    /// One tile through all frames.
    fn carry(
        &mut self,
        conv: &Conv3d<T>,
        clip: Clip<'_>,
        area: Area,
        residual: Option<&[f32]>,
        out: &Shared<'_, f32>,
        cancel: &CancelToken,
    ) -> Result<()> {
        let level = conv.weights.level();
        for (index, frame) in clip.frames.iter().enumerate() {
            cancel.check()?;
            let slot = index % conv.time;
            let gather = Gather {
                level,
                frame,
                size: (clip.height, clip.width),
                area,
                channels: (conv.inputs, conv.padded()),
                to: &mut self.ring[slot],
            };
            run(level, gather);
            let Some(first) = (index + 1).checked_sub(conv.time) else {
                continue;
            };
            let width = panel_width(level);
            for (panel, output) in (0..conv.outputs()).step_by(width).enumerate() {
                let lanes = self.panel(conv, panel, first, area);
                let channels = width.min(conv.outputs() - output);
                let plane = clip.height * clip.width;
                let scatter = Scatter {
                    level,
                    sums: &self.sums,
                    lanes,
                    area,
                    bias: &conv.bias[output..][..channels],
                    residual,
                    out,
                    first: (first * conv.outputs() + output) * plane
                        + area.row * clip.width
                        + area.column,
                    strides: (plane, clip.width),
                };
                run(level, scatter);
            }
        }
        Ok(())
    }

    /// The sums of one panel of outputs, whose width is returned; frame `first` is the first tap in time.
    fn panel(&mut self, conv: &Conv3d<T>, panel: usize, first: usize, area: Area) -> usize {
        let (level, padded) = (conv.weights.level(), conv.padded());
        let stride = (area.columns + 2) * padded;
        let depth = 3 * padded;
        let mut lanes = 0;
        for tap in 0..3 * conv.time {
            let (lines, width) = conv.weights.lines(panel, tap * depth, depth);
            lanes = width;
            let (time, row_tap) = (tap / 3, tap % 3);
            let plane = &self.ring[(first + time) % conv.time];
            for row in 0..area.rows {
                let tile = Tile {
                    x: plane[(row + row_tap) * stride..][..stride].as_ptr(),
                    x_stride: padded,
                    depth,
                    weights: lines.as_ptr(),
                    sums: self.sums[row * area.columns * width..][..area.columns * width]
                        .as_mut_ptr(),
                    sums_stride: width,
                    add: tap > 0,
                };
                // SAFETY: a row of the ring has `columns + 2` pixels, so that a window of three begins at each of
                // `columns`; `lines` has `depth` lines of `width`, `sums` a row of `width` for each pixel.
                unsafe { rows(level, area.columns, width, tile) };
            }
        }
        lanes
    }
}

/// Copies a tile of planes, with its border, to pixels; what lies outside of the picture is zero.
struct Gather<'a, T> {
    level: CpuLevel,
    frame: &'a [f32],
    size: (usize, usize),
    area: Area,
    /// Of the planes and of a pixel in memory.
    channels: (usize, usize),
    to: &'a mut [T],
}

impl<T: Activation> Work for Gather<'_, T> {
    type Result = ();

    #[inline(always)]
    fn run(self) {
        let ((height, width), (inputs, padded), area) = (self.size, self.channels, self.area);
        let stride = (area.columns + 2) * padded;
        let plane = height * width;
        // Columns of the picture that the bordered row covers, and where they begin in it.
        let left = area.column.saturating_sub(1);
        let right = (area.column + area.columns + 1).min(width);
        let skip = usize::from(area.column == 0);
        let mut square = [[0f32; SQUARE]; SQUARE];
        for (line, to) in self.to[..(area.rows + 2) * stride]
            .chunks_exact_mut(stride)
            .enumerate()
        {
            let Some(row) = (area.row + line).checked_sub(1).filter(|row| *row < height) else {
                to.fill(T::default());
                continue;
            };
            to[..skip * padded].fill(T::default());
            to[(skip + right - left) * padded..].fill(T::default());
            let to = &mut to[skip * padded..][..(right - left) * padded];
            for channel in (0..inputs).step_by(SQUARE) {
                let channels = SQUARE.min(inputs - channel);
                for (column, pixels) in to.chunks_mut(SQUARE * padded).enumerate() {
                    let count = pixels.len() / padded;
                    let start = row * width + left + column * SQUARE;
                    let from = &self.frame[channel * plane + start..];
                    turn(self.level, from, plane, (channels, count), &mut square);
                    for (pixel, values) in pixels.chunks_exact_mut(padded).zip(&square) {
                        if channels == SQUARE {
                            let to = &mut pixel[channel..][..SQUARE];
                            for (to, value) in to.iter_mut().zip(values) {
                                *to = T::from_f32(*value);
                            }
                        } else {
                            for (to, value) in pixel[channel..][..channels].iter_mut().zip(values) {
                                *to = T::from_f32(*value);
                            }
                        }
                    }
                }
            }
            if padded > inputs {
                for pixel in to.chunks_exact_mut(padded) {
                    pixel[inputs..].fill(T::default());
                }
            }
        }
    }
}

/// Copies sums of pixels to planes, adding bias and residual.
struct Scatter<'a> {
    level: CpuLevel,
    sums: &'a [f32],
    lanes: usize,
    area: Area,
    bias: &'a [f32],
    residual: Option<&'a [f32]>,
    out: &'a Shared<'a, f32>,
    /// Where the tile begins in the plane of the first channel.
    first: usize,
    /// From a plane to the next and from a row to the next.
    strides: (usize, usize),
}

impl Work for Scatter<'_> {
    type Result = ();

    #[inline(always)]
    fn run(self) {
        let area = self.area;
        let mut square = [[0f32; SQUARE]; SQUARE];
        for channel in (0..self.bias.len()).step_by(SQUARE) {
            let channels = SQUARE.min(self.bias.len() - channel);
            for row in 0..area.rows {
                let pixels =
                    &self.sums[row * area.columns * self.lanes..][..area.columns * self.lanes];
                for (column, pixels) in pixels.chunks(SQUARE * self.lanes).enumerate() {
                    let count = pixels.len() / self.lanes;
                    let from = &pixels[channel..];
                    turn(self.level, from, self.lanes, (count, SQUARE), &mut square);
                    for (index, values) in square.iter().enumerate().take(channels) {
                        let start = self.first
                            + (channel + index) * self.strides.0
                            + row * self.strides.1
                            + column * SQUARE;
                        let bias = self.bias[channel + index];
                        // SAFETY: tiles do not overlap, nor do channels.
                        let out = unsafe { self.out.part_mut(start, count) };
                        match self.residual {
                            Some(residual) => {
                                let values = values.iter().zip(&residual[start..][..count]);
                                for (out, (value, residual)) in out.iter_mut().zip(values) {
                                    *out = value + bias + residual;
                                }
                            }
                            None => {
                                for (out, value) in out.iter_mut().zip(values) {
                                    *out = value + bias;
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use half::bf16;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    /// Random layer and clip of values that bf16 holds exactly.
    struct Case {
        inputs: usize,
        outputs: usize,
        time: usize,
        frames: usize,
        size: (usize, usize),
        clip: Vec<f32>,
        weight: Vec<f32>,
        bias: Vec<f32>,
        residual: Vec<f32>,
    }

    impl Case {
        fn new(channels: (usize, usize), time: usize, frames: usize, size: (usize, usize)) -> Self {
            let (inputs, outputs) = channels;
            let mut rng = ChaCha8Rng::seed_from_u64((inputs * 31 + outputs + size.1) as u64);
            let mut draw = |len: usize| -> Vec<f32> {
                (0..len)
                    .map(|_| rng.random_range(-16..=16) as f32 / 16.0)
                    .collect()
            };
            let plane = size.0 * size.1;
            Self {
                inputs,
                outputs,
                time,
                frames,
                size,
                clip: draw(frames * inputs * plane),
                weight: draw(outputs * inputs * time * 9),
                bias: draw(outputs),
                residual: draw((frames + 1 - time) * outputs * plane),
            }
        }

        /// The definition.
        fn want(&self) -> Vec<f64> {
            let (height, width) = self.size;
            let mut out = Vec::new();
            for frame in 0..=self.frames - self.time {
                for output in 0..self.outputs {
                    for at in 0..height * width {
                        let mut sum = f64::from(self.bias[output]);
                        for input in 0..self.inputs {
                            for tap in 0..self.time * 9 {
                                let (t, dy, dx) = (tap / 9, tap / 3 % 3, tap % 3);
                                let (y, x) = (at / width + dy, at % width + dx);
                                if (1..=height).contains(&y) && (1..=width).contains(&x) {
                                    let plane = (frame + t) * self.inputs + input;
                                    let value = self.clip[(plane * height + y - 1) * width + x - 1];
                                    let weight = (output * self.inputs + input) * self.time * 9;
                                    sum += f64::from(value * self.weight[weight + tap]);
                                }
                            }
                        }
                        out.push(sum);
                    }
                }
            }
            out
        }

        /// Sums of products of multiples of 1/16 are exact in f32.
        fn check<T: Element>(&self, level: CpuLevel) {
            let weight: Vec<T> = self.weight.iter().map(|v| T::from_f32(*v)).collect();
            let conv = Conv3d::new(level, &weight, &self.bias, self.inputs, self.time);
            let same = |(a, b): (&T, &T)| a.to_f32() == b.to_f32();
            assert!(conv.weight().iter().zip(&weight).all(same));
            let want = self.want();
            let plane = self.inputs * self.size.0 * self.size.1;
            let frames: Vec<&[f32]> = self.clip.chunks(plane).collect();
            let clip = Clip {
                frames: &frames,
                height: self.size.0,
                width: self.size.1,
            };
            for residual in [None, Some(&self.residual[..])] {
                let mut out = vec![f32::NAN; want.len()];
                conv.run(clip, residual, &mut out, &CancelToken::new())
                    .unwrap();
                for (index, (got, want)) in out.iter().zip(&want).enumerate() {
                    let want = want + residual.map_or(0.0, |r| f64::from(r[index]));
                    assert_eq!(
                        f64::from(*got),
                        want,
                        "{level} at {index} of {:?}",
                        self.size
                    );
                }
            }
        }
    }

    fn cases() -> Vec<Case> {
        vec![
            Case::new((1, 1), 1, 1, (1, 1)),
            Case::new((3, 5), 3, 4, (5, 7)),
            Case::new((16, 16), 1, 2, (17, 16)),
            Case::new((18, 33), 3, 3, (9, 31)),
            Case::new((32, 80), 3, 5, (2, 19)),
            Case::new((2, 17), 1, 1, (7, 251)),
        ]
    }

    #[test]
    fn all_levels_equal_the_definition() {
        for case in cases() {
            for level in CpuLevel::ALL
                .into_iter()
                .filter(|level| *level <= CpuLevel::detected())
            {
                case.check::<f32>(level);
                case.check::<bf16>(level);
            }
        }
    }

    #[test]
    fn wrong_sizes_and_a_triggered_token_are_errors() {
        let conv = Conv3d::<f32>::new(CpuLevel::detected(), &[1.0; 18], &[0.0], 2, 1);
        let frame = [0.0; 2 * 12];
        let clip = Clip {
            frames: &[&frame],
            height: 3,
            width: 4,
        };
        let (mut out, cancel) = (vec![0.0; 12], CancelToken::new());
        assert!(conv.run(clip, None, &mut out, &cancel).is_ok());
        assert!(conv.run(clip, None, &mut out[..11], &cancel).is_err());
        assert!(conv.run(clip, Some(&[0.0; 3]), &mut out, &cancel).is_err());
        assert!(
            conv.run(Clip { width: 5, ..clip }, None, &mut out, &cancel)
                .is_err()
        );
        cancel.cancel();
        let stopped = conv.run(clip, None, &mut out, &cancel);
        assert!(stopped.unwrap_err().is_cancelled());
    }
}
