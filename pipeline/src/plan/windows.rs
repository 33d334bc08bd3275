// SPDX-License-Identifier: MPL-2.0
//! Windows of frames and tiles of pictures: arithmetic alone, the same for every model.
//!
//! A clip of any length is worked on in windows of `granule * k + 1` frames (causal video autoencoders take one frame
//! and then whole granules), a picture of any size in tiles. Neighbours overlap, and where they do, feathered weights
//! that sum to one blend them.

use std::ops::Range;

use crate::error::{Error, Result};

/// How the frames of a scene are cut into windows that share frames with the one before.
///
/// Windows begin on whole granules, so that the latent frames of an overlap are those of both windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowShape {
    length: usize,
    overlap: usize,
    granule: usize,
}

impl WindowShape {
    /// Windows of `length` frames, `overlap` of which the one before has, too; after its first frame a latent frame
    /// stands for `granule` frames (4 for the released autoencoder; 1 if every frame stands alone).
    ///
    /// # Errors
    /// [`Error::Invalid`] when `length` is not `granule * k + 1`, or `length - overlap` is not a positive multiple of
    /// `granule`.
    pub fn new(length: usize, overlap: usize, granule: usize) -> Result<Self> {
        let whole = |frames: usize| granule > 0 && frames.is_multiple_of(granule);
        if length == 0 || !whole(length - 1) {
            return Err(Error::invalid(format!(
                "windows of {length} frames; expected {granule} k + 1"
            )));
        }
        if overlap >= length || !whole(length - overlap) {
            return Err(Error::invalid(format!(
                "windows of {length} frames that share {overlap}; what is not shared must be a multiple of {granule}"
            )));
        }
        Ok(Self {
            length,
            overlap,
            granule,
        })
    }

    /// Frames in a window, the most there are.
    pub fn length(&self) -> usize {
        self.length
    }

    /// Frames that consecutive windows of a scene share.
    pub fn overlap(&self) -> usize {
        self.overlap
    }

    /// Frames that a window is the first to have; `continued` when there is one before it in its scene.
    pub fn fresh(&self, continued: bool) -> usize {
        match continued {
            true => self.length - self.overlap,
            false => self.length,
        }
    }

    /// Latent frames from the beginning of a window to that of the next.
    pub fn stride(&self) -> usize {
        (self.length - self.overlap) / self.granule
    }

    /// Latent frames that consecutive windows share, beside the first one of the later window: that one stands for a
    /// single frame there and for a granule before.
    pub fn shared(&self) -> usize {
        self.overlap.saturating_sub(1) / self.granule
    }

    /// Frames after the first of a window that must be there before that is finished.
    pub fn look_ahead(&self) -> usize {
        self.length - 1
    }
}

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

/// How much of a clip is worked on at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Longer side of a tile.
    pub tile: usize,
    /// Frames in a window.
    pub window: usize,
    /// Latent frames that are decoded at a time.
    pub slice: usize,
}

impl Extent {
    /// The next smaller extent when memory is short: half the tile, then half the window, then half the slice, none of
    /// them below `least`. Windows stay `granule * k + 1` long.
    pub fn smaller(self, least: Self, granule: usize) -> Option<Self> {
        let granule = granule.max(1);
        let half_window = (self.window.saturating_sub(1) / 2) / granule * granule + 1;
        if self.tile / 2 >= least.tile && self.tile > 1 {
            Some(Self {
                tile: self.tile / 2,
                ..self
            })
        } else if half_window >= least.window && half_window < self.window {
            Some(Self {
                window: half_window,
                ..self
            })
        } else if self.slice / 2 >= least.slice && self.slice > 1 {
            Some(Self {
                slice: self.slice / 2,
                ..self
            })
        } else {
            None
        }
    }

    /// The first extent from `self` downwards whose memory by `bytes` is at most `limit`, and whether it is smaller
    /// than `self`; or the bytes of the smallest one.
    ///
    /// # Errors
    /// The estimate for the smallest extent, when even that is beyond the limit.
    pub fn within(
        self,
        least: Self,
        granule: usize,
        limit: u64,
        bytes: impl Fn(Self) -> u64,
    ) -> std::result::Result<(Self, bool), u64> {
        let mut extent = self;
        loop {
            let needed = bytes(extent);
            if needed <= limit {
                return Ok((extent, extent != self));
            }
            extent = extent.smaller(least, granule).ok_or(needed)?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn windows_of_a_scene_cover_each_frame_and_each_is_fresh_once(
            frames in 1usize..=200,
            k in 0usize..20,
            granule in 1usize..=8,
            strides in 1usize..20,
        ) {
            let length = granule * k + 1;
            let stride = (strides * granule).min(length);
            prop_assume!(stride % granule == 0);
            let shape = WindowShape::new(length, length - stride, granule).unwrap();
            // As a stream does: the fresh frames of a window, behind what it shares with the one before.
            let (mut fresh, mut latent) = (0, 0);
            while fresh < frames {
                let continued = fresh > 0;
                let start = fresh - if continued { shape.overlap() } else { 0 };
                prop_assert_eq!(start, latent * granule);
                let end = (fresh + shape.fresh(continued)).min(frames);
                prop_assert!(end > fresh && end - start <= shape.length());
                // What lies between the first frame and the fresh ones are the shared latent frames.
                if continued && shape.overlap() > 0 {
                    prop_assert_eq!(1 + shape.shared() * granule, shape.overlap());
                }
                latent += shape.stride();
                fresh = end;
            }
            prop_assert_eq!(fresh, frames);
        }

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
    fn windows_of_the_release() {
        // The second window starts on a granule: 32 frames are 8 latent frames.
        let shape = WindowShape::new(49, 17, 4).unwrap();
        assert_eq!((shape.fresh(false), shape.fresh(true)), (49, 32));
        assert_eq!((shape.stride(), shape.shared()), (8, 4));
        assert_eq!(shape.look_ahead(), 48);
        assert!(WindowShape::new(48, 16, 4).is_err());
        assert!(WindowShape::new(49, 16, 4).is_err());
        assert!(WindowShape::new(49, 49, 4).is_err());
    }

    #[test]
    fn impossible_tiles_are_refused() {
        assert!(Axis::new(0, 4, 1).is_err());
        assert!(Axis::new(9, 0, 0).is_err());
        assert!(Axis::new(9, 4, 4).is_err());
    }

    #[test]
    fn memory_is_saved_tile_first() {
        let full = Extent {
            tile: 1024,
            window: 49,
            slice: 2,
        };
        let least = Extent {
            tile: 256,
            window: 13,
            slice: 1,
        };
        let mut steps = vec![full];
        while let Some(next) = steps[steps.len() - 1].smaller(least, 4) {
            steps.push(next);
        }
        let sizes: Vec<_> = steps.iter().map(|e| (e.tile, e.window, e.slice)).collect();
        assert_eq!(
            sizes,
            [
                (1024, 49, 2),
                (512, 49, 2),
                (256, 49, 2),
                (256, 25, 2),
                (256, 13, 2),
                (256, 13, 1)
            ]
        );
        let bytes = |extent: Extent| (extent.tile * extent.tile * extent.window) as u64;
        assert_eq!(full.within(least, 4, u64::MAX, bytes), Ok((full, false)));
        assert_eq!(
            full.within(least, 4, 512 * 512 * 49, bytes),
            Ok((steps[1], true))
        );
        assert_eq!(full.within(least, 4, 1, bytes), Err(256 * 256 * 13));
    }
}
