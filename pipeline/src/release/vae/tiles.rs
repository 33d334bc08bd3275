// SPDX-License-Identifier: MPL-2.0
//! Column tiles, in which the reference decodes to save memory.

use std::ops::Range;

use candle_core::Tensor;

use crate::error::Result;

/// A column tile in latent columns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tile {
    /// What goes through the VAE.
    pub decoded: Range<usize>,
    /// What is kept of it.
    pub kept: Range<usize>,
}

impl Tile {
    /// What is kept of `x` `[.., columns]`, `factor` columns for a latent one.
    pub(super) fn kept_of(&self, x: &Tensor, factor: usize) -> Result<Tensor> {
        let first = (self.kept.start - self.decoded.start) * factor;
        Ok(x.narrow(4, first, self.kept.len() * factor)?)
    }
}

/// `count` tiles of `width` latent columns, each extended by `overlap` columns on a side, but only where all of these
/// exist. Nothing is blended: a narrow clip gets a hard seam, like the reference's.
pub fn columns(width: usize, count: usize, overlap: usize) -> Vec<Tile> {
    (0..count)
        .map(|index| {
            let kept = index * width / count..(index + 1) * width / count;
            let start = kept.start.checked_sub(overlap).unwrap_or(kept.start);
            let end = if kept.end + overlap <= width {
                kept.end + overlap
            } else {
                kept.end
            };
            Tile {
                decoded: start..end,
                kept,
            }
        })
        .filter(|tile| !tile.kept.is_empty())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_of_the_release() {
        let tiles = columns(240, 2, 16);
        assert_eq!(
            (tiles[0].decoded.clone(), tiles[1].decoded.clone()),
            (0..136, 104..240)
        );
        assert_eq!(
            (tiles[0].kept.clone(), tiles[1].kept.clone()),
            (0..120, 120..240)
        );
        // Each side is tested by itself.
        let narrow = columns(10, 2, 16);
        assert_eq!(
            (narrow[0].decoded.clone(), narrow[1].decoded.clone()),
            (0..5, 5..10)
        );
        let middle = columns(30, 2, 15);
        assert_eq!(
            (middle[0].decoded.clone(), middle[1].decoded.clone()),
            (0..30, 0..30)
        );
    }

    #[test]
    fn any_width_is_covered_once() {
        for width in 1..50 {
            for count in 1..5 {
                let kept: Vec<usize> = columns(width, count, 4)
                    .into_iter()
                    .flat_map(|t| t.kept)
                    .collect();
                assert_eq!(kept, (0..width).collect::<Vec<_>>());
            }
        }
    }
}
