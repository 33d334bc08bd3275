// SPDX-License-Identifier: MPL-2.0
//! Sixteen small matrix products instead of nine for each four pixels: F(2x2, 3x3) of Lavin and Gray, "Fast Algorithms
//! for Convolutional Neural Networks" (2016), with 2.25 times fewer multiplications.
//!
//! A block is 4x4 pixels of a channel that give 2x2 pixels of the result. Transformed blocks and kernels are
//! multiplied value by value, which over channels and taps in time is one matrix product for each of 16 places.

use super::direct::Gather;
use super::{Activation, Area, Clip, Sums, Target};
use crate::cpu::aligned::AlignedVec;
use crate::cpu::gemm::{Ahead, Element, Packed, Tile, panel_width, rows};
use crate::cpu::level::CpuLevel;
use crate::cpu::vector::{Work, run};
use crate::error::Result;
use crate::progress::CancelToken;

/// Values of a transformed block.
const PLACES: usize = 16;
/// Columns of an area, at most.
pub(super) const COLUMNS: usize = 32;
/// Pixels of an area, about.
pub(super) const PIXELS: usize = 384;
/// Channels that are transformed together.
const LANES: usize = 16;

type Lane = [f32; LANES];

/// Transformed kernels: for each place a weight `[outputs, time * padded inputs]`.
#[derive(Debug)]
pub(super) struct Kernels<T> {
    inputs: usize,
    time: usize,
    places: Vec<Packed<T>>,
}

impl<T: Element> Kernels<T> {
    /// From `weight` `[outputs, inputs, time, 3, 3]`.
    pub fn new(level: CpuLevel, weight: &[T], outputs: usize, inputs: usize, time: usize) -> Self {
        let padded = inputs.next_multiple_of(LANES);
        let mut places: Vec<_> = (0..PLACES)
            .map(|_| Packed::zeroed(level, outputs, time * padded))
            .collect();
        let mut lines = vec![vec![T::default(); time * padded]; PLACES];
        for (output, weight) in weight.chunks_exact(inputs * time * 9).enumerate() {
            for (input, taps) in weight.chunks_exact(time * 9).enumerate() {
                for (tap, kernel) in taps.chunks_exact(9).enumerate() {
                    let values = transformed(kernel);
                    for (line, value) in lines.iter_mut().zip(values) {
                        line[tap * padded + input] = T::from_f32(value);
                    }
                }
            }
            for (place, line) in places.iter_mut().zip(&lines) {
                place.set_output(output, line);
            }
        }
        Self {
            inputs,
            time,
            places,
        }
    }

    pub fn level(&self) -> CpuLevel {
        self.places[0].level()
    }

    fn padded(&self) -> usize {
        self.inputs.next_multiple_of(LANES)
    }
}

/// `G g G^T` of a kernel `[3, 3]`.
fn transformed<T: Activation>(kernel: &[T]) -> [f32; PLACES] {
    let line = |a: f32, b: f32, c: f32| [a, 0.5 * (a + b + c), 0.5 * (a - b + c), c];
    let mut wide = [[0f32; 4]; 3];
    for (to, row) in wide.iter_mut().zip(kernel.chunks_exact(3)) {
        *to = line(row[0].to_f32(), row[1].to_f32(), row[2].to_f32());
    }
    let mut out = [0.0; PLACES];
    for column in 0..4 {
        let high = line(wide[0][column], wide[1][column], wide[2][column]);
        for (row, value) in high.into_iter().enumerate() {
            out[4 * row + column] = value;
        }
    }
    out
}

/// What a task works on.
pub(super) struct Buffers<T> {
    /// Pixels of an area with a border of one, `[rows + 2, columns + 2, padded inputs]`.
    pixels: AlignedVec<f32>,
    /// For each tap in time the transformed blocks, `[place, block, padded inputs]`.
    ring: Vec<AlignedVec<T>>,
    /// `[panel][place, block, width]`
    sums: AlignedVec<f32>,
    /// `[rows, columns, width]`
    made: AlignedVec<f32>,
}

impl<T: Element> Buffers<T> {
    pub fn new(kernels: &Kernels<T>, outputs: usize, rows: usize, columns: usize) -> Self {
        let (rows, columns) = (rows.next_multiple_of(2), columns.next_multiple_of(2));
        let (padded, blocks) = (kernels.padded(), rows * columns / 4);
        let ring = || AlignedVec::zeroed(PLACES * blocks * padded);
        Self {
            pixels: AlignedVec::zeroed((rows + 2) * (columns + 2) * padded),
            ring: (0..kernels.time).map(|_| ring()).collect(),
            sums: AlignedVec::zeroed(PLACES * blocks * outputs.next_multiple_of(LANES)),
            made: AlignedVec::zeroed(rows * columns * panel_width(kernels.level())),
        }
    }

    /// One area through all frames.
    pub fn carry(
        &mut self,
        kernels: &Kernels<T>,
        clip: Clip<'_>,
        area: Area,
        target: &Target<'_>,
        cancel: &CancelToken,
    ) -> Result<()> {
        let (level, padded) = (kernels.level(), kernels.padded());
        let even = Area {
            rows: area.rows.next_multiple_of(2),
            columns: area.columns.next_multiple_of(2),
            ..area
        };
        for (index, frame) in clip.frames.iter().enumerate() {
            cancel.check()?;
            let slot = index % kernels.time;
            let before = index.checked_sub(1).map(|before| clip.frames[before]);
            if before.is_some_and(|before| std::ptr::eq(before, *frame)) {
                // The start of a clip is its first frame several times.
                let pair = self
                    .ring
                    .get_disjoint_mut([(index - 1) % kernels.time, slot]);
                // The same slot twice has it already.
                if let Ok([from, to]) = pair {
                    to.copy_from_slice(from);
                }
            } else {
                let gather = Gather {
                    level,
                    frame,
                    size: (clip.height, clip.width),
                    area: even,
                    channels: (kernels.inputs, padded),
                    to: &mut self.pixels[..],
                };
                run(level, gather);
                let blocks = IntoBlocks {
                    pixels: &self.pixels,
                    area: even,
                    padded,
                    to: &mut self.ring[slot],
                };
                run(level, blocks);
            }
            let Some(first) = (index + 1).checked_sub(kernels.time) else {
                continue;
            };
            let outputs = target.bias.len();
            self.multiply(kernels, outputs, first, even);
            let blocks = even.rows * even.columns / 4;
            for output in target.panels(level) {
                let lanes = panel_width(level).min(outputs.next_multiple_of(LANES) - output);
                let from = FromBlocks {
                    sums: &self.sums[output * PLACES * blocks..][..lanes * PLACES * blocks],
                    area: even,
                    lanes,
                    to: &mut self.made,
                };
                run(level, from);
                let sums = Sums {
                    values: &self.made,
                    lanes,
                    stride: even.columns,
                };
                target.store(level, sums, area, (first, output));
            }
        }
        Ok(())
    }

    /// The products of all places; frame `first` is the first tap in time.
    fn multiply(&mut self, kernels: &Kernels<T>, outputs: usize, first: usize, area: Area) {
        let (level, padded) = (kernels.level(), kernels.padded());
        let blocks = area.rows * area.columns / 4;
        for (place, weights) in kernels.places.iter().enumerate() {
            for (panel, output) in (0..outputs).step_by(panel_width(level)).enumerate() {
                for tap in 0..kernels.time {
                    let (lines, width) = weights.lines(panel, tap * padded, padded);
                    let from = &self.ring[(first + tap) % kernels.time];
                    let sums = &mut self.sums[(output * PLACES + place * width) * blocks..];
                    let tile = Tile {
                        x: from[place * blocks * padded..][..blocks * padded].as_ptr(),
                        x_stride: padded,
                        depth: padded,
                        weights: lines.as_ptr(),
                        sums: sums[..blocks * width].as_mut_ptr(),
                        sums_stride: width,
                        add: tap > 0,
                        ahead: Ahead::NONE,
                    };
                    // SAFETY: there are `blocks` rows of `padded` values and of `width` sums, and `padded` lines of
                    // `width` weights; `Packed` takes no level that the CPU lacks.
                    unsafe { rows(level, blocks, width, tile) };
                }
            }
        }
    }
}

/// `B^T d B` of every block of an area.
struct IntoBlocks<'a, T> {
    pixels: &'a [f32],
    area: Area,
    padded: usize,
    to: &'a mut [T],
}

impl<T: Activation> Work for IntoBlocks<'_, T> {
    type Result = ();

    #[inline(always)]
    fn run(self) {
        let (padded, wide) = (self.padded, self.area.columns / 2);
        let blocks = self.area.rows / 2 * wide;
        let stride = (self.area.columns + 2) * padded;
        for block in 0..blocks {
            let corner = block / wide * 2 * stride + block % wide * 2 * padded;
            for channel in (0..padded).step_by(LANES) {
                let mut d = [[[0f32; LANES]; 4]; 4];
                for (row, d) in d.iter_mut().enumerate() {
                    for (column, d) in d.iter_mut().enumerate() {
                        let at = corner + row * stride + column * padded + channel;
                        d.copy_from_slice(&self.pixels[at..][..LANES]);
                    }
                }
                let mut tall = [[[0f32; LANES]; 4]; 4];
                for column in 0..4 {
                    let line = spread([d[0][column], d[1][column], d[2][column], d[3][column]]);
                    for (tall, line) in tall.iter_mut().zip(line) {
                        tall[column] = line;
                    }
                }
                for (row, tall) in tall.into_iter().enumerate() {
                    for (column, lane) in spread(tall).into_iter().enumerate() {
                        let at = ((4 * row + column) * blocks + block) * padded + channel;
                        for (to, value) in self.to[at..][..LANES].iter_mut().zip(lane) {
                            *to = T::from_f32(value);
                        }
                    }
                }
            }
        }
    }
}

#[inline(always)]
fn spread([a, b, c, d]: [Lane; 4]) -> [Lane; 4] {
    let each = |f: fn(f32, f32) -> f32, x: Lane, y: Lane| -> Lane {
        std::array::from_fn(|lane| f(x[lane], y[lane]))
    };
    let (less, more) = (|x: f32, y: f32| x - y, |x: f32, y: f32| x + y);
    [
        each(less, a, c),
        each(more, b, c),
        each(less, c, b),
        each(less, b, d),
    ]
}

/// `A^T m A` of every block: the pixels of an area.
struct FromBlocks<'a> {
    sums: &'a [f32],
    area: Area,
    lanes: usize,
    to: &'a mut [f32],
}

impl Work for FromBlocks<'_> {
    type Result = ();

    #[inline(always)]
    fn run(self) {
        let (lanes, wide) = (self.lanes, self.area.columns / 2);
        let blocks = self.area.rows / 2 * wide;
        for block in 0..blocks {
            let corner = (block / wide * 2 * self.area.columns + block % wide * 2) * lanes;
            for channel in (0..lanes).step_by(LANES) {
                let mut low = [[[0f32; LANES]; 2]; 4];
                for (row, low) in low.iter_mut().enumerate() {
                    let line = std::array::from_fn(|column| {
                        let at = ((4 * row + column) * blocks + block) * lanes + channel;
                        let mut lane = [0f32; LANES];
                        lane.copy_from_slice(&self.sums[at..][..LANES]);
                        lane
                    });
                    *low = gathered(line);
                }
                for column in 0..2 {
                    let line = low.map(|lanes| lanes[column]);
                    for (row, lane) in gathered(line).into_iter().enumerate() {
                        let at = corner + (row * self.area.columns + column) * lanes + channel;
                        self.to[at..][..LANES].copy_from_slice(&lane);
                    }
                }
            }
        }
    }
}

#[inline(always)]
fn gathered([a, b, c, d]: [Lane; 4]) -> [Lane; 2] {
    [
        std::array::from_fn(|lane| a[lane] + b[lane] + c[lane]),
        std::array::from_fn(|lane| b[lane] - c[lane] - d[lane]),
    ]
}
