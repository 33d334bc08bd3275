//! What happens to the sums of a product before they are stored.

use std::ops::Range;

use half::bf16;

use crate::kernels::conv3x3::Activation;
use crate::kernels::cpu::CpuLevel;
use crate::kernels::elementwise::gelu_tanh;
use crate::kernels::shared::Shared;
use crate::kernels::vector::{Work, run};

/// What is made of the sums, bias included.
#[derive(Clone, Copy, Debug)]
pub enum Finish<'a> {
    /// They are stored.
    Store,
    /// Their GELU (tanh form) is stored.
    Gelu,
    /// Multiplied by the gate of their column they are added to what there is.
    AddGated(&'a [f32]),
}

impl<'a> Finish<'a> {
    pub(super) fn gate(&self) -> Option<&'a [f32]> {
        match self {
            Self::AddGated(gate) => Some(gate),
            Self::Store | Self::Gelu => None,
        }
    }
}

/// Number type of a result.
pub trait Number: Activation {}
impl Number for f32 {}
impl Number for bf16 {}

/// A block of rows of the result.
#[derive(Clone, Copy)]
pub(super) struct Block<'a> {
    /// First row.
    pub first: usize,
    /// Number of rows.
    pub rows: usize,
    /// Values from a row of the result to the next.
    pub stride: usize,
    pub bias: Option<&'a [f32]>,
    pub finish: Finish<'a>,
    pub level: CpuLevel,
}

impl Block<'_> {
    /// Stores `sums` `[rows, width]`, the first `columns.len()` of each row, in these columns of `out`.
    ///
    /// # Safety
    /// No one else may use these columns of the block's rows at the same time.
    pub unsafe fn store<O: Number>(
        &self,
        sums: &[f32],
        width: usize,
        columns: Range<usize>,
        out: &Shared<'_, O>,
    ) {
        let (column, valid) = (columns.start, columns.len());
        let part = |all: &[f32]| {
            let mut values = [0f32; 64];
            values[..valid].copy_from_slice(&all[column..][..valid]);
            values
        };
        let bias = self.bias.map_or([0.0; 64], part);
        let gate = self.finish.gate().map_or([0.0; 64], part);
        for (row, sums) in sums.chunks_exact(width).take(self.rows).enumerate() {
            // SAFETY: passed on to the caller.
            let out = unsafe { out.part_mut((self.first + row) * self.stride + column, valid) };
            let (sums, bias, gate) = (&sums[..valid], &bias[..valid], &gate[..valid]);
            match self.finish {
                Finish::Store => run(self.level, Store { out, sums, bias }),
                Finish::Gelu => run(self.level, Gelu { out, sums, bias }),
                Finish::AddGated(_) => run(
                    self.level,
                    AddGated {
                        out,
                        sums,
                        bias,
                        gate,
                    },
                ),
            }
        }
    }
}

struct Store<'a, O> {
    out: &'a mut [O],
    sums: &'a [f32],
    bias: &'a [f32],
}

impl<O: Number> Work for Store<'_, O> {
    type Result = ();

    #[inline(always)]
    fn run(self) {
        for ((out, sum), bias) in self.out.iter_mut().zip(self.sums).zip(self.bias) {
            *out = O::from_f32(sum + bias);
        }
    }
}

struct Gelu<'a, O> {
    out: &'a mut [O],
    sums: &'a [f32],
    bias: &'a [f32],
}

impl<O: Number> Work for Gelu<'_, O> {
    type Result = ();

    #[inline(always)]
    fn run(self) {
        for ((out, sum), bias) in self.out.iter_mut().zip(self.sums).zip(self.bias) {
            *out = O::from_f32(gelu_tanh(sum + bias));
        }
    }
}

struct AddGated<'a, O> {
    out: &'a mut [O],
    sums: &'a [f32],
    bias: &'a [f32],
    gate: &'a [f32],
}

impl<O: Number> Work for AddGated<'_, O> {
    type Result = ();

    #[inline(always)]
    fn run(self) {
        let sums = self.sums.iter().zip(self.bias).zip(self.gate);
        for (out, ((sum, bias), gate)) in self.out.iter_mut().zip(sums) {
            *out = O::from_f32(out.to_f32() + gate * (sum + bias));
        }
    }
}
