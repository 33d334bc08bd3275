// SPDX-License-Identifier: MPL-2.0
//! Rotary positions in time, row and column.
//!
//! A head's features are divided into a quarter for time and three eighths each for row and column. Every angle turns
//! two adjacent features. Positions start at 0 and are never rescaled.

use super::config::Grid;

/// Cosines and sines of all image tokens of one grid.
#[derive(Clone, Debug)]
pub struct Rope {
    half: usize,
    cos: Vec<f32>,
    sin: Vec<f32>,
}

impl Rope {
    /// The table for heads of `head_dim` features, a multiple of 16.
    pub fn new(grid: Grid, head_dim: usize, theta: f64) -> Self {
        let (time, space) = (head_dim / 4, head_dim / 8 * 3);
        let axes = [
            Axis::new(grid.frames, time, theta),
            Axis::new(grid.rows, space, theta),
            Axis::new(grid.columns, space, theta),
        ];
        let half = head_dim / 2;
        let mut cos = Vec::with_capacity(grid.tokens() * half);
        let mut sin = Vec::with_capacity(grid.tokens() * half);
        let rows = grid.rows * grid.columns;
        for token in 0..grid.tokens() {
            let position = [
                token / rows,
                token % rows / grid.columns,
                token % grid.columns,
            ];
            for (axis, position) in axes.iter().zip(position) {
                let range = position * axis.angles..(position + 1) * axis.angles;
                cos.extend_from_slice(&axis.cos[range.clone()]);
                sin.extend_from_slice(&axis.sin[range]);
            }
        }
        Self { half, cos, sin }
    }

    /// From cosines and sines `[tokens, head_dim / 2]`.
    pub fn from_tables(cos: Vec<f32>, sin: Vec<f32>, head_dim: usize) -> Self {
        let half = head_dim / 2;
        Self { half, cos, sin }
    }

    /// Cosines `[tokens, head_dim / 2]`.
    pub fn cos(&self) -> &[f32] {
        &self.cos
    }

    /// Sines `[tokens, head_dim / 2]`.
    pub fn sin(&self) -> &[f32] {
        &self.sin
    }

    /// Cosines and sines of image token `token`, half as many as a head has features.
    pub fn angles(&self, token: usize) -> (&[f32], &[f32]) {
        let range = token * self.half..(token + 1) * self.half;
        (&self.cos[range.clone()], &self.sin[range])
    }

    /// Turns the features of one head by the angles of its token, in place.
    #[inline(always)]
    pub fn turn((cos, sin): (&[f32], &[f32]), features: &mut [f32]) {
        for (pair, (cos, sin)) in features.chunks_exact_mut(2).zip(cos.iter().zip(sin)) {
            let (a, b) = (pair[0], pair[1]);
            pair[0] = a * cos - b * sin;
            pair[1] = b * cos + a * sin;
        }
    }
}

struct Axis {
    angles: usize,
    cos: Vec<f32>,
    sin: Vec<f32>,
}

impl Axis {
    fn new(positions: usize, features: usize, theta: f64) -> Self {
        let angles = features / 2;
        // Every value is a float32 like the reference's, but correctly rounded.
        let frequency = |j: usize| {
            let exponent = (2 * j) as f32 / features as f32;
            1.0 / theta.powf(f64::from(exponent)) as f32
        };
        let all = || {
            let of = move |p: usize| (0..angles).map(move |j| f64::from(p as f32 * frequency(j)));
            (0..positions).flat_map(of)
        };
        Self {
            angles,
            cos: all().map(|angle| angle.cos() as f32).collect(),
            sin: all().map(|angle| angle.sin() as f32).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adjacent_features_turn_together() {
        let grid = Grid {
            frames: 2,
            rows: 3,
            columns: 4,
        };
        let rope = Rope::new(grid, 16, 10_000.0);
        assert_eq!(rope.cos().len(), 24 * 8);
        // Token 23 is frame 1, row 2, column 3; features 0..4 are time, 4..10 row, 10..16 column.
        let mut features = [0.0; 16];
        features[0] = 1.0;
        features[4] = 1.0;
        features[11] = 1.0;
        Rope::turn(rope.angles(23), &mut features);
        let want = [
            (0, 1f32.cos()),
            (1, 1f32.sin()),
            (4, 2f32.cos()),
            (5, 2f32.sin()),
        ];
        for (index, value) in want
            .into_iter()
            .chain([(10, -3f32.sin()), (11, 3f32.cos())])
        {
            assert!((features[index] - value).abs() < 1e-6, "feature {index}");
        }
        let mut first = [0.5; 16];
        Rope::turn(rope.angles(0), &mut first);
        assert_eq!(first, [0.5; 16]);
    }
}
