// SPDX-License-Identifier: MPL-2.0
//! Buffers that outlive a frame, and the rows of a result on their way out of them.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use crate::cpu::conv3x3::Cell;
use crate::cpu::conv3x3::bands::{Bands, CACHE, Layer, Network, Shape};
use crate::cpu::s2d::LATENT;
use crate::error::Result;
use crate::progress::CancelToken;
use crate::size::Size;

/// Sets of buffers of a kind that are kept for the next run: a picture above a factor of 4 takes two.
pub(in crate::compact) const KEPT_BUFFERS: usize = 2;

/// Buffers that are kept for the next run.
#[derive(Debug)]
pub(in crate::compact) struct Pool<S>(Mutex<Vec<S>>);

impl<S> Pool<S> {
    pub fn new() -> Self {
        Self(Mutex::new(Vec::new()))
    }

    /// Lends kept buffers if some fit, else new ones, to `work`, and keeps them.
    pub fn lend<R>(
        &self,
        fit: impl Fn(&S) -> bool,
        new: impl FnOnce() -> S,
        work: impl FnOnce(&mut S) -> R,
    ) -> R {
        let lock = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut kept = lock();
        let found = kept.iter().position(fit).map(|index| kept.remove(index));
        if found.is_none() && kept.len() == KEPT_BUFFERS {
            // Freed before new ones are taken.
            kept.remove(0);
        }
        drop(kept);
        let mut buffers = found.unwrap_or_else(new);
        let result = work(&mut buffers);
        let mut kept = lock();
        if kept.len() < KEPT_BUFFERS {
            kept.push(buffers);
        }
        result
    }

    /// Number of sets that are kept.
    #[cfg(test)]
    pub fn kept(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

impl<C: Cell> Pool<Bands<C>> {
    /// Runs `network` for `rows` of the result, as [`Bands::run`] does.
    pub fn run<N: Network<Cell = C>, O: Send>(
        &self,
        network: &N,
        (size, planes): (Size, bool),
        rows: Rows<'_, O, impl Fn(&[f32], &mut [O]) + Sync>,
        cancel: &CancelToken,
    ) -> Result<()> {
        let shape = shape(network.layers(), size, planes);
        self.lend(
            |bands| bands.fit(shape),
            || Bands::new(shape),
            |bands| bands.run(network, rows.rows, rows.out, rows.put, cancel),
        )
    }
}

/// Rows of a result and what is done with them: `put` gets each one and the part of `out` that it has there.
pub(in crate::compact) struct Rows<'a, O, P> {
    pub rows: Range<usize>,
    pub out: &'a mut [O],
    pub put: P,
}

/// All rows of a result as they are, to `out`.
pub(in crate::compact) fn copied(
    out: &mut [f32],
    height: usize,
) -> Rows<'_, f32, impl Fn(&[f32], &mut [f32]) + Sync> {
    Rows {
        rows: 0..height,
        out,
        put: |values: &[f32], out: &mut [f32]| out.copy_from_slice(values),
    }
}

/// The shape of a network with `layers` on a picture of `size`.
pub(in crate::compact) fn shape<C>(layers: &[Layer<C>], size: Size, planes: bool) -> Shape<'_, C> {
    Shape {
        layers,
        outputs: LATENT,
        size,
        group: if planes { CACHE } else { usize::MAX },
    }
}
