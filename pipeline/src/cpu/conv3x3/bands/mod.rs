// SPDX-License-Identifier: MPL-2.0
//! Networks of convolutions computed row by row, with all layers on their way through the picture at once.
//!
//! A layer computes a row as soon as the layer before has given the row below it. So the layers follow each other one
//! row apart, each finds what it reads in the nearest caches, and of each only the three rows under the next window are
//! kept. Every thread takes a band of the result's rows. What other layers must give beyond the ends of a band is
//! computed for both bands, which is why there are only as many bands as threads.
//!
//! Layers that are too many for the cache go through in groups, with a whole plane between two groups.

mod shape;
#[cfg(test)]
pub(crate) mod tests;

use std::ops::Range;

use half::bf16;
use rayon::prelude::*;

pub use self::shape::{CACHE, Layer, Shape};
use super::{Cell, Window};
use crate::cpu::aligned::AlignedVec;
use crate::error::Result;
use crate::progress::CancelToken;
use crate::size::Size;

/// Rows kept of a layer: those under the window of the next one.
const KEPT: usize = 3;
/// A band has at least this many rows; in a picture with fewer for each thread, threads stay idle.
const LEAST_ROWS: usize = 4;

/// A row of a layer without its border.
#[derive(Clone, Copy, Debug)]
pub struct Pixels<'a, C> {
    /// Values of the layer.
    pub values: &'a [C],
    /// Its sums, if it keeps them.
    pub sums: &'a [bf16],
}

/// As [`Pixels`], to be written.
#[derive(Debug)]
pub struct PixelsMut<'a, C> {
    /// Values of the layer.
    pub values: &'a mut [C],
    /// Its sums, if it keeps them.
    pub sums: &'a mut [bf16],
}

/// A network, one row at a time. Any row may be asked for, in any order and more than once.
pub trait Network: Sync {
    /// Number type of the layers.
    type Cell: Cell;

    /// The input and what every convolution but the last gives.
    fn layers(&self) -> &[Layer<Self::Cell>];

    /// Writes row `row` of the state that the result is added to.
    fn state(&self, row: usize, state: &mut [f32]);

    /// Writes row `row` of the input, where the state is `state`.
    fn input(&self, row: usize, state: &[f32], to: &mut [Self::Cell]);

    /// Writes a row of layer `layer`, at least 1, from the one before and, if that is inside of a residual pair, the row
    /// to be added.
    fn layer(
        &self,
        layer: usize,
        from: Window<'_, Self::Cell>,
        skip: Option<Pixels<'_, Self::Cell>>,
        to: PixelsMut<'_, Self::Cell>,
    );

    /// Writes a row of the result from the last layer and the state.
    fn result(&self, from: Window<'_, Self::Cell>, state: &[f32], to: &mut [f32]);
}

/// `rows` and `more` rows on each side, as far as there are any.
fn widened(rows: &Range<usize>, more: usize, height: usize) -> Range<usize> {
    rows.start.saturating_sub(more)..(rows.end + more).min(height)
}

/// Some rows of a picture: row r is where r modulo their number says.
#[derive(Debug)]
struct Rows<T> {
    data: AlignedVec<T>,
    count: usize,
    len: usize,
}

impl<T: Cell> Rows<T> {
    fn new(count: usize, len: usize) -> Self {
        Self {
            data: AlignedVec::zeroed(count * len),
            count,
            len,
        }
    }

    fn row(&self, row: usize) -> &[T] {
        &self.data[row % self.count * self.len..][..self.len]
    }

    fn row_mut(&mut self, row: usize) -> &mut [T] {
        &mut self.data[row % self.count * self.len..][..self.len]
    }
}

/// Rows of a layer.
#[derive(Debug)]
struct Kept<C> {
    values: Rows<C>,
    sums: Rows<bf16>,
}

/// Buffers for running networks of one shape on pictures of one size with some number of threads.
#[derive(Debug)]
pub struct Bands<C> {
    size: Size,
    outputs: usize,
    groups: Vec<Range<usize>>,
    /// For each layer a row outside of the picture.
    outside: Vec<AlignedVec<C>>,
    bands: Vec<Band<C>>,
    /// Between groups: every other one writes the first, the others the second.
    planes: [Kept<C>; 2],
}

/// Buffers of one thread.
#[derive(Debug)]
struct Band<C> {
    layers: Vec<Kept<C>>,
    states: Rows<f32>,
    result: Vec<f32>,
}

/// A group of layers on some rows of the last of them.
struct Task<'a, N: Network> {
    network: &'a N,
    group: Range<usize>,
    rows: Range<usize>,
    height: usize,
    outside: &'a [AlignedVec<N::Cell>],
    /// The layer before the first of the group.
    from: &'a Kept<N::Cell>,
    cancel: &'a CancelToken,
}

/// Where the rows of the last layer of a group go.
enum Target<'a, C> {
    /// To a plane, whose rows of the band these are.
    Plane(&'a mut [C], &'a mut [bf16]),
    /// To whoever wants the result; rows are counted from the first of the band.
    Result(Put<'a>),
}

/// Takes rows of the result with their numbers.
type Put<'a> = Box<dyn FnMut(usize, &[f32]) + Send + 'a>;

impl<C: Cell> Bands<C> {
    /// Buffers for `shape` and the current number of threads.
    pub fn new(shape: Shape<'_, C>) -> Self {
        let threads = rayon::current_num_threads();
        let groups = shape.groups(threads);
        let cuts = Shape::<C>::cuts(&groups);
        let (layers, size) = (shape.layers, shape.size);
        let band = |_| Band {
            layers: (0..layers.len())
                .map(|layer| {
                    let count = if cuts.contains(&layer) { 0 } else { KEPT };
                    Kept {
                        values: Rows::new(count, shape.line(layer)),
                        sums: Rows::new(count, shape.sums(layer)),
                    }
                })
                .collect(),
            // From the input to the result, if these are in one group.
            states: Rows::new(groups[0].len(), size.width * shape.outputs),
            result: vec![0.0; size.width * shape.outputs],
        };
        let plane = |index: usize| {
            let rows = if groups.len() > index + 1 {
                size.height
            } else {
                0
            };
            let cuts = || cuts.iter();
            Kept {
                values: Rows::new(rows, cuts().map(|l| shape.line(*l)).max().unwrap_or(0)),
                sums: Rows::new(rows, cuts().map(|l| shape.sums(*l)).max().unwrap_or(0)),
            }
        };
        Self {
            size,
            outputs: shape.outputs,
            outside: layers
                .iter()
                .map(|l| l.border.repeat(size.width + 2).into_iter().collect())
                .collect(),
            bands: (0..threads).map(band).collect(),
            planes: [plane(0), plane(1)],
            groups,
        }
    }

    /// Whether these buffers are as [`new`](Self::new) would make them.
    pub fn fit(&self, shape: Shape<'_, C>) -> bool {
        let outside = |(line, layer): (&AlignedVec<C>, &Layer<C>)| {
            line.len() == (shape.size.width + 2) * layer.border.len()
                && line.starts_with(&layer.border)
        };
        self.size == shape.size
            && self.outputs == shape.outputs
            && self.bands.len() == rayon::current_num_threads()
            && self.groups == shape.groups(self.bands.len())
            && self.outside.len() == shape.layers.len()
            && self.outside.iter().zip(shape.layers).all(outside)
    }

    /// Runs `network` for `rows` of the result and calls `put` with each of these and the part of `out` that it has there;
    /// `out` is as many equal parts as `rows` has.
    ///
    /// # Errors
    /// [`Error::Cancelled`](crate::Error::Cancelled); the token is checked for each row of each layer.
    pub fn run<N: Network<Cell = C>, O: Send>(
        &mut self,
        network: &N,
        rows: Range<usize>,
        out: &mut [O],
        put: impl Fn(&[f32], &mut [O]) + Sync,
        cancel: &CancelToken,
    ) -> Result<()> {
        assert!(rows.end <= self.size.height && network.layers().len() == self.outside.len());
        if rows.is_empty() {
            return Ok(());
        }
        let (height, put) = (self.size.height, &put);
        let (result, part) = (self.outside.len(), out.len() / rows.len());
        for (index, group) in self.groups.iter().enumerate() {
            let last = group.end - 1;
            let needed = widened(&rows, result - last, height);
            let each = needed.len().div_ceil(self.bands.len()).max(LEAST_ROWS);
            let [even, odd] = &mut self.planes;
            let (from, to) = if index % 2 == 0 {
                (&*odd, even)
            } else {
                (&*even, odd)
            };
            let targets: Vec<Target<'_, C>> = if last == result {
                let bands = out.chunks_mut(each * part);
                bands
                    .map(|out| Target::Result(put_rows(out, part, put)))
                    .collect()
            } else {
                let (values, sums) = (to.values.len, to.sums.len);
                let values = to.values.data[needed.start * values..needed.end * values]
                    .chunks_mut(each * values);
                let mut sums = to.sums.data[needed.start * sums..needed.end * sums]
                    .chunks_mut((each * sums).max(1));
                values
                    .map(|values| Target::Plane(values, sums.next().unwrap_or_default()))
                    .collect()
            };
            let outside = &self.outside;
            self.bands
                .par_iter_mut()
                .zip(targets)
                .enumerate()
                .with_max_len(1)
                .for_each(|(index, (band, target))| {
                    let start = needed.start + index * each;
                    let task = Task {
                        network,
                        group: group.clone(),
                        rows: start..(start + each).min(needed.end),
                        height,
                        outside,
                        from,
                        cancel,
                    };
                    band.run(&task, target);
                });
        }
        cancel.check()
    }
}

/// Hands rows to `put` with the parts of `out` that are theirs.
fn put_rows<'a, O: Send>(
    out: &'a mut [O],
    part: usize,
    put: &'a (impl Fn(&[f32], &mut [O]) + Sync),
) -> Put<'a> {
    Box::new(move |row, values| put(values, &mut out[row * part..][..part]))
}

impl<C: Cell> Band<C> {
    fn run<N: Network<Cell = C>>(&mut self, task: &Task<'_, N>, mut target: Target<'_, C>) {
        let (first, last) = (task.group.start, task.group.end - 1);
        let start = widened(&task.rows, last - first, task.height).start;
        for front in start..task.rows.end + (last - first) {
            for layer in task.group.clone() {
                let Some(row) = front.checked_sub(layer - first) else {
                    break;
                };
                if widened(&task.rows, last - layer, task.height).contains(&row) {
                    if task.cancel.is_cancelled() {
                        return;
                    }
                    self.row(task, layer, row, &mut target);
                }
            }
        }
    }

    /// Computes one row of one layer.
    fn row<N: Network<Cell = C>>(
        &mut self,
        task: &Task<'_, N>,
        layer: usize,
        row: usize,
        target: &mut Target<'_, C>,
    ) {
        let (network, first) = (task.network, task.group.start);
        let layers = network.layers();
        if layer == 0 {
            let state = self.states.row_mut(row);
            network.state(row, state);
            let line = self.layers[0].values.row_mut(row);
            network.input(row, state, inside(line, &layers[0].border));
            return;
        }
        let (before, rest) = self.layers.split_at_mut(layer);
        let before = |layer: usize| {
            if layer + 1 == first {
                task.from
            } else {
                &before[layer]
            }
        };
        let outside = &task.outside[layer - 1];
        let line = |row: usize| match row.checked_sub(1) {
            Some(row) if row < task.height => &before(layer - 1).values.row(row)[..outside.len()],
            _ => outside,
        };
        let from = [line(row), line(row + 1), line(row + 2)];
        let Some(Layer { border, .. }) = layers.get(layer) else {
            if first > 0 {
                network.state(row, self.states.row_mut(row));
            }
            network.result(from, self.states.row(row), &mut self.result);
            if let Target::Result(put) = target {
                put(row - task.rows.start, &self.result);
            }
            return;
        };
        let skip = layers[layer - 1].inside.then(|| {
            let (kept, channels) = (before(layer - 2), border.len());
            let line = &kept.values.row(row)[..task.outside[layer - 2].len()];
            Pixels {
                values: &line[channels..line.len() - channels],
                sums: kept.sums.row(row),
            }
        });
        let (line, sums) = match target {
            Target::Plane(values, sums) if layer + 1 == task.group.end => {
                let part = |len: usize| {
                    let len = len / task.rows.len();
                    (row - task.rows.start) * len..(row - task.rows.start + 1) * len
                };
                let (line, sums_line) = (part(values.len()), part(sums.len()));
                let line = &mut values[line][..task.outside[layer].len()];
                (line, &mut sums[sums_line])
            }
            _ => (rest[0].values.row_mut(row), rest[0].sums.row_mut(row)),
        };
        let to = PixelsMut {
            values: inside(line, border),
            sums,
        };
        network.layer(layer, from, skip, to);
    }
}

/// Makes both ends of a row `border`, since rows of other layers may have been there, and gives what is between them.
fn inside<'a, C: Cell>(line: &'a mut [C], border: &[C]) -> &'a mut [C] {
    let (left, rest) = line.split_at_mut(border.len());
    let (inside, right) = rest.split_at_mut(rest.len() - border.len());
    left.copy_from_slice(border);
    right.copy_from_slice(border);
    inside
}
