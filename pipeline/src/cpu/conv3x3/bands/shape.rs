// SPDX-License-Identifier: MPL-2.0
//! What the buffers of [`Bands`](super::Bands)(super::Bands) depend on.

use std::ops::Range;

use half::bf16;

use super::{Cell, KEPT};
use crate::size::Size;

/// Bytes of kept rows and of weights in a group of layers: the second cache of a core and somewhat more, since not all
/// of them are in use at a time. Half of it is slower, more makes no difference.
pub const CACHE: usize = 3 << 19;
/// Bands have this many rows for each layer that a group has beyond its first, at least: what they repeat of each
/// other's work is one row in so many.
const ROWS_PER_LAYER: usize = 8;

/// What a convolution gives to the next one, or what the first one reads.
#[derive(Clone, Debug, PartialEq)]
pub struct Layer<C> {
    /// A pixel outside of the picture; it also says how many channels there are.
    pub border: Vec<C>,
    /// Whether sums are kept in bf16 beside the values, for the skip of a residual pair.
    pub sums: bool,
    /// Whether it is inside of a residual pair: the convolution that reads it also adds the layer before.
    pub inside: bool,
}

/// For which networks and pictures [`Bands`](super::Bands) are.
#[derive(Clone, Copy, Debug)]
pub struct Shape<'a, C> {
    /// Those of the network.
    pub layers: &'a [Layer<C>],
    /// Channels of the state and of the result.
    pub outputs: usize,
    /// Of the picture.
    pub size: Size,
    /// Bytes of kept rows and of weights in a group of layers, at most: [`CACHE`] is fastest. With `usize::MAX` there is
    /// one group and no plane in memory, but threads repeat more of each other's work.
    pub group: usize,
}

impl<C: Cell> Shape<'_, C> {
    /// Values of a row of `layer` with its border.
    pub(super) fn line(&self, layer: usize) -> usize {
        (self.size.width + 2) * self.layers[layer].border.len()
    }

    /// Values of a row of sums of `layer`.
    pub(super) fn sums(&self, layer: usize) -> usize {
        let layer = &self.layers[layer];
        usize::from(layer.sums) * self.size.width * layer.border.len()
    }

    /// Bytes of a row of `layer`.
    fn row_bytes(&self, layer: usize) -> usize {
        self.line(layer) * size_of::<C>() + self.sums(layer) * size_of::<bf16>()
    }

    /// The layers of each group by their numbers, the result's being the number of layers.
    pub(super) fn groups(&self, threads: usize) -> Vec<Range<usize>> {
        let result = self.layers.len();
        let bytes = |layers: Range<usize>| -> usize {
            let kept = layers.clone().filter(|layer| *layer < result);
            let weights = layers.filter(|layer| (1..result).contains(layer)).map(|l| {
                let channels = |layer: usize| self.layers[layer].border.len();
                9 * channels(l - 1) * channels(l) * size_of::<C>()
            });
            KEPT * kept.map(|layer| self.row_bytes(layer)).sum::<usize>() + weights.sum::<usize>()
        };
        let deep = |layers: Range<usize>| {
            let rows = self.size.height / threads;
            self.group < usize::MAX && threads > 1 && (layers.len() - 1) * ROWS_PER_LAYER > rows
        };
        let mut groups = Vec::new();
        let (mut start, mut end) = (0, 0);
        let ends = (1..result).filter(|layer| !self.layers[*layer].inside);
        for next in ends.map(|layer| layer + 1).chain([result + 1]) {
            if end > start && (bytes(start..next) > self.group || deep(start..next)) {
                groups.push(start..end);
                start = end;
            }
            end = next;
        }
        groups.push(start..end);
        groups
    }

    /// Bytes of the [`Bands`](super::Bands) of so many threads.
    pub fn bytes(&self, threads: usize) -> u64 {
        let groups = self.groups(threads);
        let rows: usize = (0..self.layers.len()).map(|l| self.row_bytes(l)).sum();
        let states = (groups[0].len() + 2) * self.size.width * self.outputs * size_of::<f32>();
        let cuts = Self::cuts(&groups).into_iter();
        let planes = cuts.map(|layer| self.row_bytes(layer)).max().unwrap_or(0)
            * self.size.height
            * (groups.len() - 1).min(2);
        ((KEPT * rows + states) * threads + planes) as u64
    }

    /// The layers that go from one group to the next.
    pub(super) fn cuts(groups: &[Range<usize>]) -> Vec<usize> {
        let last = groups.len() - 1;
        groups[..last].iter().map(|group| group.end - 1).collect()
    }
}
