// SPDX-License-Identifier: MPL-2.0
//! What an evaluation starts from: a latent in memory, or one that is made row by row when it is read.

use crate::cpu::level::CpuLevel;
use crate::cpu::reference::reference_latent;
use crate::cpu::s2d::LATENT;
use crate::flow::picture_noise::add_noise;
use crate::size::Size;

/// The state x_t `[h, w, 16]` of a flow.
#[derive(Clone, Copy, Debug)]
pub(in crate::compact) enum State<'a> {
    /// In memory.
    Latent(&'a [f32]),
    /// At t = 0: the reference latent of a picture and perhaps noise. It never is in memory as a whole.
    Reference {
        level: CpuLevel,
        luma: &'a [f32],
        /// Of the luma.
        size: Size,
        noise: Noise,
    },
}

/// The noise that a flow starts from, as [`add_noise`] makes it.
#[derive(Clone, Copy, Debug)]
pub(in crate::compact) struct Noise {
    /// Strength in model units; 0 is none.
    pub sigma: f64,
    /// Chooses the noise.
    pub seed: u64,
    /// Row of the whole picture that the first row of this one is.
    pub first_row: i64,
}

impl State<'_> {
    /// Writes row `row`.
    pub fn row(&self, row: usize, out: &mut [f32]) {
        match self {
            Self::Latent(values) => out.copy_from_slice(&values[row * out.len()..][..out.len()]),
            Self::Reference {
                level,
                luma,
                size,
                noise,
            } => {
                reference_latent(*level, luma, *size, row..row + 1, out);
                if noise.sigma > 0.0 {
                    let (width, row) = (out.len() / LATENT, noise.first_row + row as i64);
                    add_noise(out, width, row, noise.sigma as f32, noise.seed);
                }
            }
        }
    }
}
