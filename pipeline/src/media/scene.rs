// SPDX-License-Identifier: MPL-2.0
//! Scene cuts between neighbouring frames, from luma alone.

use super::luma::LumaPlane;

/// Cells of the thumbnail on each axis, at most.
const CELLS: usize = 24;
/// Classes of the histogram.
const CLASSES: usize = 32;
/// Mean difference of cells, in model units, that is a cut by itself.
const DIFFERENT: f32 = 0.36;
/// Mean difference of cells that is a cut if the histograms differ, too.
const CHANGED: f32 = 0.12;
/// Share of pixels in other classes of brightness from which histograms count as different.
const MOVED: f32 = 0.4;

/// What is left of a frame to compare the next one with.
#[derive(Clone, Debug, PartialEq)]
pub struct Signature {
    cells: Vec<f32>,
    histogram: [f32; CLASSES],
}

impl Signature {
    /// Means of up to 24 x 24 cells, and the share of each of 32 classes of brightness.
    pub fn of(luma: &LumaPlane) -> Self {
        let size = luma.size();
        let (columns, rows) = (size.width.min(CELLS), size.height.min(CELLS));
        let mut sums = vec![(0f32, 0u32); columns * rows];
        let mut histogram = [0f32; CLASSES];
        for (y, line) in luma.rows().enumerate() {
            let row = y * rows / size.height;
            for (x, &value) in line.iter().enumerate() {
                let (sum, count) = &mut sums[row * columns + x * columns / size.width];
                *sum += value;
                *count += 1;
                // NaN and values below black go to the first class.
                let class = ((value + 1.0) * 0.5 * CLASSES as f32) as usize;
                histogram[class.min(CLASSES - 1)] += 1.0;
            }
        }
        let pixels = size.pixels() as f32;
        Self {
            cells: sums
                .iter()
                .map(|(sum, count)| sum / (*count).max(1) as f32)
                .collect(),
            histogram: histogram.map(|count| count / pixels),
        }
    }

    /// Whether a scene ends between this frame and `next`.
    ///
    /// A wrong answer costs little: across a cut the current frame stands in for its neighbour.
    pub fn cut_before(&self, next: &Self) -> bool {
        let mean = |a: &[f32], b: &[f32]| {
            let sum: f32 = a.iter().zip(b).map(|(a, b)| (a - b).abs()).sum();
            sum / a.len().max(1) as f32
        };
        if self.cells.len() != next.cells.len() {
            return true;
        }
        let cells = mean(&self.cells, &next.cells);
        let moved = mean(&self.histogram, &next.histogram) * CLASSES as f32 / 2.0;
        cells > DIFFERENT || (cells > CHANGED && moved > MOVED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::size::Size;

    fn picture(size: Size, value: impl Fn(f32, f32) -> f32) -> Signature {
        let data = (0..size.pixels()).map(|i| {
            let (x, y) = (i % size.width, i / size.width);
            value(x as f32, y as f32).clamp(-1.0, 1.0)
        });
        // A margin is no part of the picture.
        Signature::of(&LumaPlane::of_values(size, 1, &data.collect::<Vec<_>>()))
    }

    fn hills(shift: f32) -> impl Fn(f32, f32) -> f32 {
        move |x, y| 0.5 * ((x + shift) * 0.05).sin() + 0.4 * ((y - shift) * 0.08).cos()
    }

    const SIZE: Size = Size::new(320, 180);

    #[test]
    fn motion_grain_and_fades_are_no_cuts() {
        let still = picture(SIZE, hills(0.0));
        assert!(!still.cut_before(&still));
        assert!(
            !still.cut_before(&picture(SIZE, hills(8.0))),
            "a pan of 8 pixels"
        );
        assert!(
            !still.cut_before(&picture(SIZE, |x, y| hills(0.0)(x, y) * 0.85 - 0.05)),
            "a fade"
        );
        let grain = |x: f32, y: f32| {
            hills(0.0)(x, y) + 0.3 * ((x * 12.9898 + y * 78.233).sin() * 43758.547).fract()
        };
        assert!(!still.cut_before(&picture(SIZE, grain)), "grain");
    }

    #[test]
    fn other_pictures_are_cuts() {
        let hills = picture(SIZE, hills(0.0));
        let dark = picture(SIZE, |x, _| -0.8 + 0.05 * (x * 0.3).sin());
        let stripes = picture(SIZE, |x, _| {
            if (x / 40.0) as i32 % 2 == 0 {
                0.9
            } else {
                -0.9
            }
        });
        for (a, b) in [
            (&hills, &dark),
            (&dark, &hills),
            (&hills, &stripes),
            (&stripes, &dark),
        ] {
            assert!(a.cut_before(b));
        }
    }

    #[test]
    fn tiny_and_odd_frames_work() {
        for size in [
            Size::new(1, 1),
            Size::new(3, 1),
            Size::new(1, 50),
            Size::new(25, 23),
        ] {
            let (low, high) = (picture(size, |_, _| -0.9), picture(size, |_, _| 0.9));
            assert!(low.cut_before(&high) && !low.cut_before(&low));
        }
        assert!(!picture(SIZE, |_, _| f32::NAN).cells.is_empty());
    }
}
