// SPDX-License-Identifier: MPL-2.0
//! Tiles of pictures: arithmetic alone, the same for every model.
//!
//! A picture of any size is worked on in tiles. Neighbours overlap, and where they do, feathered weights that sum to one
//! blend them.

use std::ops::Range;

use crate::error::{Error, Result};

/// One axis of a picture cut into overlapping parts.
#[derive(Clone, Debug, PartialEq)]
pub struct Axis {
    parts: Vec<Range<usize>>,
    ramp: usize,
}

impl Axis {
    /// Parts of at most `part` positions over `length` positions; neighbours share `overlap` or more.
    ///
    /// All parts have the same length, and they are spread evenly, so that no sliver is left at the end.
    ///
    /// # Errors
    /// [`Error::Invalid`] when `length` or `part` is 0, or `overlap` is not less than `part`.
    pub fn new(length: usize, part: usize, overlap: usize) -> Result<Self> {
        if length == 0 || part == 0 || overlap >= part {
            return Err(Error::invalid(format!(
                "tiles of {part} that share {overlap}, over {length}"
            )));
        }
        if length <= part {
            return Ok(Self {
                parts: std::iter::once(0..length).collect(),
                ramp: 1,
            });
        }
        let count = (length - overlap).div_ceil(part - overlap);
        let last = length - part;
        let starts = (0..count).map(|index| index * last / (count - 1));
        Ok(Self {
            parts: starts.map(|start| start..start + part).collect(),
            ramp: overlap.max(1),
        })
    }

    /// The parts, from first to last.
    pub fn parts(&self) -> &[Range<usize>] {
        &self.parts
    }

    /// For each part the weight of each of its positions. At every position of the axis the weights of the parts that
    /// have it sum to one.
    pub fn weights(&self) -> Vec<Vec<f32>> {
        let length = self.parts.last().map_or(0, |part| part.end);
        let raw = |part: &Range<usize>, position: usize| {
            // Positions from the seams; the edges of the picture are no seams.
            let left = if part.start == 0 {
                self.ramp
            } else {
                position - part.start + 1
            };
            let right = if part.end == length {
                self.ramp
            } else {
                part.end - position
            };
            left.min(right).min(self.ramp) as f64
        };
        let mut sums = vec![0f64; length];
        for part in &self.parts {
            for position in part.clone() {
                sums[position] += raw(part, position);
            }
        }
        let weigh = |part: &Range<usize>| {
            part.clone()
                .map(|at| (raw(part, at) / sums[at]) as f32)
                .collect()
        };
        self.parts.iter().map(weigh).collect()
    }
}

/// A tile of a picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tile {
    /// Columns.
    pub x: Range<usize>,
    /// Rows.
    pub y: Range<usize>,
    /// Number of the part of the horizontal and of the vertical [`Axis`], whose weights multiply to the tile's.
    pub part: (usize, usize),
}

/// A picture cut into overlapping tiles.
#[derive(Clone, Debug, PartialEq)]
pub struct Tiles {
    /// Horizontal parts.
    pub x: Axis,
    /// Vertical parts.
    pub y: Axis,
}

impl Tiles {
    /// Tiles of at most `tile` (width, height) over `size` that share `overlap` or more on each axis.
    ///
    /// # Errors
    /// As [`Axis::new`].
    pub fn new(size: (usize, usize), tile: (usize, usize), overlap: usize) -> Result<Self> {
        let axis = |length: usize, part: usize| {
            Axis::new(length, part, if length <= part { 0 } else { overlap })
        };
        Ok(Self {
            x: axis(size.0, tile.0)?,
            y: axis(size.1, tile.1)?,
        })
    }

    /// All tiles, row by row.
    pub fn tiles(&self) -> Vec<Tile> {
        let row = |(row, y): (usize, &Range<usize>)| {
            let y = y.clone();
            let columns = self.x.parts().iter().enumerate();
            columns.map(move |(column, x)| Tile {
                x: x.clone(),
                y: y.clone(),
                part: (column, row),
            })
        };
        self.y.parts().iter().enumerate().flat_map(row).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn parts_cover_the_axis_and_weights_sum_to_one(
            length in 1usize..=8192,
            part in 1usize..=2048,
            share in 0.0f64..1.0,
        ) {
            let overlap = ((part as f64 * share) as usize).min(part - 1).min(part * 3 / 4);
            let axis = Axis::new(length, part, overlap).unwrap();
            let mut sums = vec![0f32; length];
            for (part, weights) in axis.parts().iter().zip(axis.weights()) {
                prop_assert_eq!(part.len(), weights.len());
                for (position, weight) in part.clone().zip(weights) {
                    prop_assert!(weight > 0.0);
                    sums[position] += weight;
                }
            }
            prop_assert!(sums.iter().all(|sum| (sum - 1.0).abs() < 1e-5));
            for pair in axis.parts().windows(2) {
                prop_assert!(pair[0].end - pair[1].start >= overlap && pair[0].start < pair[1].start);
            }
        }

        #[test]
        fn tiles_cover_the_picture(
            width in 1usize..=8192,
            height in 1usize..=8192,
            tile in 64usize..=1024,
            overlap in 0usize..48,
        ) {
            let tiles = Tiles::new((width, height), (tile, tile), overlap).unwrap();
            let list = tiles.tiles();
            prop_assert_eq!(list.len(), tiles.x.parts().len() * tiles.y.parts().len());
            // Axes are covered (above), and every pair of their parts is a tile: corners are enough.
            let has = |x: usize, y: usize| list.iter().any(|tile| tile.x.contains(&x) && tile.y.contains(&y));
            prop_assert!(has(0, 0) && has(width - 1, 0) && has(0, height - 1) && has(width - 1, height - 1));
            prop_assert!(has(width / 2, height / 3));
            prop_assert!(list.iter().all(|tile| tile.x.end <= width && tile.y.end <= height));
        }
    }

    #[test]
    fn impossible_tiles_are_refused() {
        assert!(Axis::new(0, 4, 1).is_err());
        assert!(Axis::new(9, 0, 0).is_err());
        assert!(Axis::new(9, 4, 4).is_err());
    }
}
