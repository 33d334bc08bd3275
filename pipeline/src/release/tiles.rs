// SPDX-License-Identifier: MPL-2.0
//! Stage II beyond the size that it was trained at: tiles whose velocities are blended at every step of the flow.
//!
//! The tiles share one state x_t. Each gets the velocity of the network for itself, and where tiles overlap, their
//! velocities are mixed with weights that fade towards a seam and sum to one. All tiles so follow one trajectory, and
//! there is no seam that a blend of finished pictures would have to hide.

use candle_core::{Device, Tensor};

use crate::error::{Error, Result};
use crate::flow::euler::{FlowTime, VelocityField};
use crate::plan::tile::{Tile, Tiles};
use crate::progress::Progress;
use crate::size::Size;

/// The size that the released model was trained at, in the wide orientation.
const TRAINED: Size = Size::new(1920, 1088);
/// Longer side of a tile that the model was trained at, in pixels.
pub const TRAINED_SIDE: usize = TRAINED.width;
/// Share of a tile's shorter side that neighbours have in common.
const SHARED: usize = 4;

/// The tile with a longer side of at most `side` pixels, in multiples of `grain`, that has the trained shape and the
/// orientation of `picture`.
pub fn tile_size(picture: Size, side: usize, grain: usize) -> Size {
    let whole = |length: usize| (length / grain).max(1) * grain;
    let long = whole(side);
    let short = whole(
        (side * TRAINED.height)
            .div_ceil(TRAINED.width)
            .next_multiple_of(grain),
    );
    if picture.width >= picture.height {
        Size::new(long, short)
    } else {
        Size::new(short, long)
    }
}

/// A field that works on tiles of a latent `[1, frames, channels, h, w]`.
#[derive(Debug)]
pub struct TiledField<F> {
    field: F,
    /// Largest tile, in patches.
    tile: Size,
    /// Latent positions on a side of a patch; tiles begin on whole patches.
    patch: usize,
}

impl<F> TiledField<F> {
    /// `field` on tiles of at most `tile` latent positions, which must be multiples of `patch`.
    ///
    /// # Errors
    /// [`Error::Invalid`] when they are not.
    pub fn new(field: F, tile: Size, patch: usize) -> Result<Self> {
        let whole = |side: usize| patch > 0 && side > 0 && side.is_multiple_of(patch);
        if !whole(tile.width) || !whole(tile.height) {
            return Err(Error::invalid(format!(
                "tiles of {tile} latent positions; sides must be multiples of {patch}"
            )));
        }
        Ok(Self {
            field,
            tile: Size::new(tile.width / patch, tile.height / patch),
            patch,
        })
    }

    /// The tiles of a latent of `height` x `width` positions, counted in patches.
    fn tiles(&self, height: usize, width: usize) -> Result<Tiles> {
        if !height.is_multiple_of(self.patch) || !width.is_multiple_of(self.patch) {
            return Err(Error::invalid(format!(
                "a latent of {width}x{height} positions; sides must be multiples of {}",
                self.patch
            )));
        }
        Tiles::new(
            (width / self.patch, height / self.patch),
            (self.tile.width, self.tile.height),
            self.tile.width.min(self.tile.height) / SHARED,
        )
    }
}

/// The weights of a tile's positions, `[1, 1, 1, rows, columns]`.
fn weights(tile: &Tile, axes: &(Vec<Vec<f32>>, Vec<Vec<f32>>), patch: usize) -> Result<Tensor> {
    let axis = |weights: &[f32]| -> Vec<f32> {
        let repeated = weights
            .iter()
            .map(|weight| std::iter::repeat_n(*weight, patch));
        repeated.flatten().collect()
    };
    let none = Vec::new();
    let columns = axis(axes.0.get(tile.part.0).unwrap_or(&none));
    let rows = axis(axes.1.get(tile.part.1).unwrap_or(&none));
    let shape = (1, 1, 1, rows.len(), columns.len());
    let product = rows
        .iter()
        .flat_map(|row| columns.iter().map(move |column| row * column));
    Ok(Tensor::from_vec(product.collect(), shape, &Device::Cpu)?)
}

impl<F: VelocityField> VelocityField for TiledField<F> {
    type Condition = F::Condition;

    fn velocity(
        &self,
        x: &Tensor,
        at: FlowTime,
        condition: &F::Condition,
        progress: &Progress,
    ) -> Result<Tensor> {
        let (_, _, _, height, width) = x.dims5()?;
        let tiles = self.tiles(height, width)?;
        let list = tiles.tiles();
        if list.len() == 1 {
            return self.field.velocity(x, at, condition, progress);
        }
        let axes = (tiles.x.weights(), tiles.y.weights());
        let mut sum: Option<Tensor> = None;
        for tile in &list {
            progress.check()?;
            let (left, top) = (tile.x.start * self.patch, tile.y.start * self.patch);
            let (columns, rows) = (tile.x.len() * self.patch, tile.y.len() * self.patch);
            let part = x.narrow(3, top, rows)?.narrow(4, left, columns)?;
            let velocity = self
                .field
                .velocity(&part.contiguous()?, at, condition, progress)?;
            let weights = weights(tile, &axes, self.patch)?
                .to_device(velocity.device())?
                .to_dtype(velocity.dtype())?;
            let share = velocity
                .broadcast_mul(&weights)?
                .pad_with_zeros(3, top, height - top - rows)?
                .pad_with_zeros(4, left, width - left - columns)?;
            sum = Some(match sum {
                Some(sum) => (sum + share)?,
                None => share,
            });
        }
        sum.ok_or_else(|| Error::invalid("a latent without positions"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    /// A velocity that knows nothing but its input, and remembers the sizes it was asked for.
    #[derive(Default)]
    struct Local(Mutex<Vec<(usize, usize)>>);

    impl VelocityField for Local {
        type Condition = Tensor;

        fn velocity(&self, x: &Tensor, _: FlowTime, _: &Tensor, _: &Progress) -> Result<Tensor> {
            let (_, _, _, height, width) = x.dims5()?;
            self.0.lock().unwrap().push((height, width));
            Ok(((x * 2.0)? + 1.0)?)
        }
    }

    /// A velocity that is another in each tile.
    struct Mean;

    impl VelocityField for Mean {
        type Condition = Tensor;

        fn velocity(&self, x: &Tensor, _: FlowTime, _: &Tensor, _: &Progress) -> Result<Tensor> {
            Ok(x.zeros_like()?.broadcast_add(&x.mean_all()?)?)
        }
    }

    const AT: FlowTime = FlowTime {
        t: 0.0,
        dt: 1.0,
        index: 0,
    };

    fn latent(height: usize, width: usize) -> Tensor {
        let count = 2 * 3 * height * width;
        let values: Vec<f32> = (0..count)
            .map(|i| (i * 37 % 101) as f32 / 50.0 - 1.0)
            .collect();
        Tensor::from_vec(values, (1, 2, 3, height, width), &Device::Cpu).unwrap()
    }

    fn velocity<F: VelocityField<Condition = Tensor>>(field: &TiledField<F>, x: &Tensor) -> Tensor {
        field.velocity(x, AT, x, &Progress::none()).unwrap()
    }

    fn values(tensor: &Tensor) -> Vec<f32> {
        tensor.flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn weights_sum_to_one() {
        for (height, width) in [(12, 10), (30, 22), (14, 64), (16, 8)] {
            let field = TiledField::new(Local::default(), Size::new(12, 8), 2).unwrap();
            let x = latent(height, width);
            let whole = values(&((&x * 2.0).unwrap() + 1.0).unwrap());
            for (got, want) in values(&velocity(&field, &x)).iter().zip(&whole) {
                assert!((got - want).abs() < 1e-5, "{width}x{height}: {got} {want}");
            }
            let asked = field.field.0.lock().unwrap();
            assert!(asked.iter().all(|(h, w)| *h <= 8 && *w <= 12), "{asked:?}");
        }
    }

    #[test]
    fn one_tile_is_the_field_itself() {
        let field = TiledField::new(Mean, Size::new(12, 8), 2).unwrap();
        let x = latent(8, 12);
        let alone = Mean.velocity(&x, AT, &x, &Progress::none()).unwrap();
        assert_eq!(values(&velocity(&field, &x)), values(&alone));
    }

    #[test]
    fn tiles_blend_without_a_step() {
        // Bright on the left, dark on the right; the tiles see their own means.
        let (height, width) = (8, 96);
        let rows = (0..2 * 3 * height).flat_map(|_| (0..width).map(|x| x as f32 / width as f32));
        let x = Tensor::from_vec(rows.collect(), (1, 2, 3, height, width), &Device::Cpu).unwrap();
        let field = TiledField::new(Mean, Size::new(32, 32), 2).unwrap();
        let row: Vec<f32> = values(&velocity(&field, &x))[..width].to_vec();
        assert!(row[width - 1] - row[0] > 0.5);
        for pair in row.windows(2) {
            // The whole change of a seam is spread over an overlap of 8 positions or more.
            assert!(pair[1] >= pair[0] && pair[1] - pair[0] < 0.15, "{row:?}");
        }
    }

    #[test]
    fn trained_shape_in_both_orientations() {
        assert_eq!(
            tile_size(Size::new(3840, 2160), 1920, 16),
            Size::new(1920, 1088)
        );
        assert_eq!(
            tile_size(Size::new(1080, 1920), 960, 16),
            Size::new(544, 960)
        );
        assert_eq!(tile_size(Size::new(40, 40), 1, 16), Size::new(16, 16));
    }

    #[test]
    fn broken_tiles_are_refused() {
        assert!(TiledField::new(Mean, Size::new(7, 8), 2).is_err());
        assert!(TiledField::new(Mean, Size::new(0, 8), 2).is_err());
        let field = TiledField::new(Mean, Size::new(12, 8), 2).unwrap();
        let odd = latent(9, 12);
        assert!(field.velocity(&odd, AT, &odd, &Progress::none()).is_err());
    }
}
