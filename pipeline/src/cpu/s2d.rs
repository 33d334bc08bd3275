// SPDX-License-Identifier: MPL-2.0
//! Between planes of sample codes, planes of floats and space-to-depth latents.
//!
//! A latent has 16 values for each pixel of the small picture: value `4 * a + b` is the pixel of row `a`, column `b`
//! of the 4x4 block that this pixel covers in the large one.

use rayon::prelude::*;

use super::level::CpuLevel;
use super::vector::{Work, cut, run};

/// Side of the block of large pixels behind one small pixel.
pub const FACTOR: usize = 4;
/// Values of a latent pixel.
pub const LATENT: usize = FACTOR * FACTOR;
/// Samples that one task converts.
const PART: usize = 1 << 15;

/// An integer sample type.
pub trait Code: Copy + Default + Send + Sync + 'static {
    /// The value as a float.
    fn to_f32(self) -> f32;

    /// The nearest code within 0..=`max`; NaN gives 0.
    fn from_f32(value: f32, max: f32) -> Self;
}

impl Code for u8 {
    #[inline(always)]
    fn to_f32(self) -> f32 {
        f32::from(self)
    }

    #[inline(always)]
    fn from_f32(value: f32, max: f32) -> Self {
        cut(value + 0.5, max) as Self
    }
}

impl Code for u16 {
    #[inline(always)]
    fn to_f32(self) -> f32 {
        f32::from(self)
    }

    #[inline(always)]
    fn from_f32(value: f32, max: f32) -> Self {
        cut(value + 0.5, max) as Self
    }
}

/// `value = gain * code + offset`, codes in 0..=`max`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scale {
    /// Units for each code.
    pub gain: f32,
    /// Value of code 0.
    pub offset: f32,
    /// Largest code.
    pub max: f32,
}

impl Scale {
    /// The values of `codes`, as many as `out` holds: a row or so, by one thread.
    pub fn decode<S: Code>(&self, codes: &[S], out: &mut [f32]) {
        for (out, code) in out.iter_mut().zip(codes) {
            *out = code.to_f32() * self.gain + self.offset;
        }
    }

    /// The codes nearest to `values`.
    pub fn encode<S: Code>(&self, level: CpuLevel, values: &[f32], out: &mut [S]) {
        let (gain, offset) = self.inverse();
        out.par_chunks_mut(PART)
            .zip(values.par_chunks(PART))
            .for_each(|(out, values)| {
                let max = self.max;
                let work = Codes {
                    values,
                    gain,
                    offset,
                    max,
                    out,
                };
                run(level, work);
            });
    }

    /// `code = gain * value + offset`.
    pub fn inverse(&self) -> (f32, f32) {
        (1.0 / self.gain, -self.offset / self.gain)
    }
}

/// Which columns of a latent's grid make the picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Columns {
    /// Columns of the grid.
    pub grid: usize,
    /// The first one of the picture.
    pub first: usize,
    /// How many the picture has.
    pub count: usize,
}

impl From<usize> for Columns {
    /// All columns of a grid of this width.
    fn from(width: usize) -> Self {
        Self {
            grid: width,
            first: 0,
            count: width,
        }
    }
}

/// The large picture of some columns of a latent `[h, grid, 16]` as floats: `out` is `[4h, 4 * count]`.
pub fn latent_to_plane(latent: &[f32], columns: impl Into<Columns>, out: &mut [f32]) {
    let columns = columns.into();
    let large = columns.count * FACTOR;
    latent
        .par_chunks_exact(columns.grid * LATENT)
        .zip(out.par_chunks_exact_mut(large * FACTOR))
        .for_each(|(latent, out)| {
            let latent = &latent[columns.first * LATENT..][..columns.count * LATENT];
            for (line, out) in out.chunks_exact_mut(large).enumerate() {
                for (out, block) in out
                    .chunks_exact_mut(FACTOR)
                    .zip(latent.chunks_exact(LATENT))
                {
                    out.copy_from_slice(&block[line * FACTOR..][..FACTOR]);
                }
            }
        });
}

/// The large picture of some columns of a latent `[h, grid, 16]` as sample codes, rounded and clamped: `out` is
/// `[4h, 4 * count]`.
pub fn latent_to_codes<S: Code>(
    level: CpuLevel,
    latent: &[f32],
    columns: impl Into<Columns>,
    scale: Scale,
    out: &mut [S],
) {
    let columns = columns.into();
    latent
        .par_chunks_exact(columns.grid * LATENT)
        .zip(out.par_chunks_exact_mut(columns.count * LATENT))
        .for_each(|(latent, out)| {
            let latent = &latent[columns.first * LATENT..][..columns.count * LATENT];
            run(level, CodeRow { latent, scale, out });
        });
}

/// `code = gain * value + offset`, rounded, in 0..=`max`.
pub(super) struct Codes<'a, S> {
    pub values: &'a [f32],
    pub gain: f32,
    pub offset: f32,
    pub max: f32,
    pub out: &'a mut [S],
}

impl<S: Code> Work for Codes<'_, S> {
    type Result = ();

    #[inline(always)]
    fn run(self) {
        for (out, value) in self.out.iter_mut().zip(self.values) {
            *out = S::from_f32(value * self.gain + self.offset, self.max);
        }
    }
}

/// A row of the latent, four rows of codes.
struct CodeRow<'a, S> {
    latent: &'a [f32],
    scale: Scale,
    out: &'a mut [S],
}

impl<S: Code> Work for CodeRow<'_, S> {
    type Result = ();

    #[inline(always)]
    fn run(self) {
        let (gain, offset) = self.scale.inverse();
        let mut lines = self.out.chunks_exact_mut(self.latent.len() / FACTOR);
        let (Some(a), Some(b), Some(c), Some(d)) =
            (lines.next(), lines.next(), lines.next(), lines.next())
        else {
            return;
        };
        let mut lines = (a.as_chunks_mut::<FACTOR>().0.iter_mut())
            .zip(b.as_chunks_mut::<FACTOR>().0)
            .zip((c.as_chunks_mut::<FACTOR>().0.iter_mut()).zip(d.as_chunks_mut::<FACTOR>().0));
        // A long plain loop for the arithmetic, then the codes to their places.
        let mut codes = [S::default(); 32 * LATENT];
        for values in self.latent.chunks(codes.len()) {
            for (code, value) in codes.iter_mut().zip(values) {
                *code = S::from_f32(value * gain + offset, self.scale.max);
            }
            let (blocks, _) = codes[..values.len()].as_chunks::<LATENT>();
            for (block, ((a, b), (c, d))) in blocks.iter().zip(&mut lines) {
                a.copy_from_slice(&block[..4]);
                b.copy_from_slice(&block[4..8]);
                c.copy_from_slice(&block[8..12]);
                d.copy_from_slice(&block[12..]);
            }
        }
    }
}

/// The latent `[h, w, 16]` of a large picture `[4h, 4w]`; the inverse of [`latent_to_plane`].
pub fn plane_to_latent(plane: &[f32], width: usize, out: &mut [f32]) {
    let large = width * FACTOR;
    out.par_chunks_exact_mut(width * LATENT)
        .zip(plane.par_chunks_exact(large * FACTOR))
        .for_each(|(latent, plane)| {
            for (line, plane) in plane.chunks_exact(large).enumerate() {
                for (block, values) in latent
                    .chunks_exact_mut(LATENT)
                    .zip(plane.chunks_exact(FACTOR))
                {
                    block[line * FACTOR..][..FACTOR].copy_from_slice(values);
                }
            }
        });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latent_order_is_that_of_pixel_shuffle() {
        // One small row of two pixels: values 0..16 and 16..32.
        let latent: Vec<f32> = (0..32).map(|v| v as f32).collect();
        let mut plane = vec![0.0; 32];
        latent_to_plane(&latent, 2, &mut plane);
        assert_eq!(plane[..8], [0.0, 1.0, 2.0, 3.0, 16.0, 17.0, 18.0, 19.0]);
        assert_eq!(
            plane[24..],
            [12.0, 13.0, 14.0, 15.0, 28.0, 29.0, 30.0, 31.0]
        );
        let mut back = vec![0.0; 32];
        plane_to_latent(&plane, 2, &mut back);
        assert_eq!(back, latent);
    }

    #[test]
    fn columns_are_cut_out() {
        let latent: Vec<f32> = (0..2 * 5 * 16).map(|v| v as f32).collect();
        let mut whole = vec![0.0; latent.len()];
        latent_to_plane(&latent, 5, &mut whole);
        let columns = Columns {
            grid: 5,
            first: 1,
            count: 3,
        };
        let mut part = vec![0.0; 2 * 3 * 16];
        latent_to_plane(&latent, columns, &mut part);
        for (whole, part) in whole.chunks(20).zip(part.chunks(12)) {
            assert_eq!(whole[4..16], *part);
        }
    }

    #[test]
    fn codes_are_those_of_the_plane_at_every_level() {
        for width in [1, 3, 17] {
            let latent: Vec<f32> = (0..2 * width * LATENT)
                .map(|v| ((v * 7919) % 300) as f32 / 120.0 - 1.2)
                .collect();
            let scale = Scale {
                gain: 1.0 / 127.5,
                offset: -1.0,
                max: 255.0,
            };
            let mut plane = vec![0.0; latent.len()];
            latent_to_plane(&latent, width, &mut plane);
            let mut want = vec![0u8; latent.len()];
            scale.encode(CpuLevel::Scalar, &plane, &mut want);
            for level in CpuLevel::ALL {
                let mut got = vec![7u8; latent.len()];
                latent_to_codes(level, &latent, width, scale, &mut got);
                assert_eq!(got, want, "{level}");
            }
        }
    }

    #[test]
    fn codes_round_trip_at_every_depth() {
        for depth in [8u32, 10, 12, 16] {
            let max = ((1u32 << depth) - 1) as f32;
            let scale = Scale {
                gain: 2.0 / max,
                offset: -1.0,
                max,
            };
            let codes: Vec<u16> = (0..=max as u16).collect();
            let mut values = vec![0.0; codes.len()];
            scale.decode(&codes, &mut values);
            let mut back = vec![0u16; codes.len()];
            scale.encode(CpuLevel::detected(), &values, &mut back);
            assert_eq!(back, codes, "{depth} bits");
        }
    }

    #[test]
    fn codes_are_clamped_and_never_nan() {
        let scale = Scale {
            gain: 1.0,
            offset: 0.0,
            max: 255.0,
        };
        for level in CpuLevel::ALL {
            let mut out = [7u8; 5];
            let values = [-3.0, 300.0, f32::NAN, 1.5, f32::INFINITY];
            scale.encode(level, &values, &mut out);
            assert_eq!(out, [0, 255, 0, 2, 255], "{level}");
        }
    }
}
