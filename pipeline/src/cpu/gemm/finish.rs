// SPDX-License-Identifier: MPL-2.0
//! What happens to the sums of a product before they are stored.

use std::ops::Range;

use half::bf16;

use crate::cpu::conv3x3::Activation;
use crate::cpu::elementwise::gelu_tanh;
use crate::cpu::level::CpuLevel;
use crate::cpu::shared::Shared;
use crate::cpu::vector::{Work, run};

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
            let mut values = [0f32; WIDEST];
            values[..valid].copy_from_slice(&all[column..][..valid]);
            values
        };
        let bias = self.bias.map_or([0.0; WIDEST], part);
        let gate = self.finish.gate().map_or([0.0; WIDEST], part);
        let rows = SomeRows {
            block: self,
            sums,
            width,
            columns,
            bias: &bias,
            gate: &gate,
            out,
        };
        // One step into the instruction set for all rows: stepping takes as long as a row does.
        match self.finish {
            Finish::Store => run(self.level, Finished(rows, Store)),
            Finish::Gelu => run(self.level, Finished(rows, Gelu)),
            Finish::AddGated(_) => run(self.level, Finished(rows, AddGated)),
        }
    }
}

/// Widest panel.
const WIDEST: usize = 64;

/// Sums of a block's rows and where they go.
struct SomeRows<'a, O> {
    block: &'a Block<'a>,
    sums: &'a [f32],
    width: usize,
    columns: Range<usize>,
    bias: &'a [f32; WIDEST],
    gate: &'a [f32; WIDEST],
    out: &'a Shared<'a, O>,
}

/// What a value becomes, from its sum, its gate and what there is.
trait Rule {
    fn value(sum: f32, gate: f32, old: f32) -> f32;
}

struct Store;
impl Rule for Store {
    #[inline(always)]
    fn value(sum: f32, _: f32, _: f32) -> f32 {
        sum
    }
}

struct Gelu;
impl Rule for Gelu {
    #[inline(always)]
    fn value(sum: f32, _: f32, _: f32) -> f32 {
        gelu_tanh(sum)
    }
}

struct AddGated;
impl Rule for AddGated {
    #[inline(always)]
    fn value(sum: f32, gate: f32, old: f32) -> f32 {
        old + gate * sum
    }
}

struct Finished<'a, O, R>(SomeRows<'a, O>, R);

impl<O: Number, R: Rule> Work for Finished<'_, O, R> {
    type Result = ();

    #[inline(always)]
    fn run(self) {
        let all = self.0;
        let (block, valid) = (all.block, all.columns.len());
        for (row, sums) in all
            .sums
            .chunks_exact(all.width)
            .take(block.rows)
            .enumerate()
        {
            let first = (block.first + row) * block.stride + all.columns.start;
            // SAFETY: `store` asks its caller for this.
            let out = unsafe { all.out.part_mut(first, valid) };
            match (
                <&mut [O; WIDEST]>::try_from(&mut *out),
                <&[f32; WIDEST]>::try_from(sums),
            ) {
                (Ok(out), Ok(sums)) => each::<O, R>(out, sums, all.bias, all.gate),
                _ => each::<O, R>(out, sums, all.bias, all.gate),
            }
        }
    }
}

#[inline(always)]
fn each<O: Number, R: Rule>(out: &mut [O], sums: &[f32], bias: &[f32], gate: &[f32]) {
    for (out, ((sum, bias), gate)) in out.iter_mut().zip(sums.iter().zip(bias).zip(gate)) {
        *out = O::from_f32(R::value(sum + bias, *gate, out.to_f32()));
    }
}
