// SPDX-License-Identifier: MPL-2.0
//! How much is worked on at a time, and less where memory is short.

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
