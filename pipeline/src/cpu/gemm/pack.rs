// SPDX-License-Identifier: MPL-2.0
//! Weights in the order in which the kernels read them.

use std::marker::PhantomData;
use std::ops::Range;

use rayon::prelude::*;

use super::tile::LANES;
use super::unit::{Element, Unit};
use crate::cpu::aligned::AlignedVec;
use crate::cpu::level::CpuLevel;

/// Columns that a kernel of `level` computes at once.
pub fn panel_width(level: CpuLevel) -> usize {
    match level {
        CpuLevel::Scalar | CpuLevel::Avx2 => LANES,
        CpuLevel::Avx512 | CpuLevel::Bf16 => 4 * LANES,
    }
}

/// A weight `[outputs, inputs]` as `[panel][inputs / GROUP][width][GROUP]`, in panels of [`panel_width`] columns. The
/// last one may be narrower, but is a multiple of 16 wide; columns beyond the outputs are zero.
///
/// Of a weight for another [`Unit`] than numbers the inputs count such units, and its panels are `[panel][inputs]` times
/// what the kernels read for one unit and all columns.
#[derive(Debug)]
pub struct Packed<T, W = T> {
    level: CpuLevel,
    inputs: usize,
    outputs: usize,
    data: AlignedVec<W>,
    units: PhantomData<T>,
}

/// Some columns of a [`Packed`] weight.
#[derive(Clone, Copy, Debug)]
pub(super) struct Panel<'a, W> {
    /// First column.
    pub first: usize,
    /// Columns in memory.
    pub width: usize,
    /// Columns that are outputs.
    pub valid: usize,
    /// Weights of a line: of all columns, for one unit of a row.
    line: usize,
    data: &'a [W],
}

impl<T: Element> Packed<T> {
    /// A weight of zeros for the fastest kernel at or below `level`.
    ///
    /// # Panics
    /// When `inputs` is no multiple of [`GROUP`](crate::cpu::conv3x3::Activation::GROUP).
    pub fn zeroed(level: CpuLevel, outputs: usize, inputs: usize) -> Self {
        assert!(inputs.is_multiple_of(T::GROUP));
        Self::of_units(T::supported(level.available()), outputs, inputs)
    }

    /// Packs `weight` `[outputs, inputs]`.
    ///
    /// # Panics
    /// When `weight` does not have that many values, or as [`zeroed`](Self::zeroed).
    pub fn new(level: CpuLevel, weight: &[T], outputs: usize, inputs: usize) -> Self {
        assert!(weight.len() == outputs * inputs);
        let mut packed = Self::zeroed(level, outputs, inputs);
        packed.set_outputs(0, weight);
        packed
    }

    /// Sets the weights `[any, inputs]` of the outputs from `first` on, which begins a panel.
    pub fn set_outputs(&mut self, first: usize, weights: &[T]) {
        let inputs = self.inputs.max(1);
        let panel = panel_width(self.level) * inputs;
        debug_assert!((first * inputs).is_multiple_of(panel));
        self.data[first * inputs..]
            .par_chunks_mut(panel)
            .zip(weights.par_chunks(panel))
            .for_each(|(to, weights)| {
                let width = to.len() / inputs;
                for (lane, weights) in weights.chunks_exact(inputs).enumerate() {
                    set_lane(to, width, lane, weights);
                }
            });
    }

    /// Sets the weights `[inputs]` of one output.
    pub fn set_output(&mut self, output: usize, weights: &[T]) {
        let (start, width, lane) = self.place(output);
        set_lane(&mut self.data[start..], width, lane, weights);
    }

    /// Sets the weights `[outputs]` of one input.
    pub fn set_input(&mut self, input: usize, weights: &[T]) {
        let panel = panel_width(self.level);
        for (index, weights) in weights.chunks(panel).enumerate() {
            let (start, width, _) = self.place(index * panel);
            let line = start + input / T::GROUP * width * T::GROUP + input % T::GROUP;
            let line = &mut self.data[line..];
            for (to, weight) in line.iter_mut().step_by(T::GROUP).zip(weights) {
                *to = *weight;
            }
        }
    }

    /// The weight as `[outputs, inputs]`.
    pub fn unpacked(&self) -> Vec<T> {
        let mut weight = Vec::with_capacity(self.outputs * self.inputs);
        for output in 0..self.outputs {
            let (start, width, lane) = self.place(output);
            for line in self.data[start..]
                .chunks_exact(width * T::GROUP)
                .take(self.inputs / T::GROUP)
            {
                weight.extend_from_slice(&line[lane * T::GROUP..][..T::GROUP]);
            }
        }
        weight
    }
}

impl<T: Unit> Packed<T, T::Weight> {
    /// A weight of zeros for the kernel of `level`, which the processor must have and which must have one for `T`.
    pub(in crate::cpu) fn of_units(level: CpuLevel, outputs: usize, inputs: usize) -> Self {
        let columns = outputs.next_multiple_of(LANES);
        Self {
            level,
            inputs,
            outputs,
            data: AlignedVec::zeroed(inputs * columns * T::WEIGHTS),
            units: PhantomData,
        }
    }

    /// All panels, to be set: `[inputs]` lines of so many weights for all of a panel's columns, which are [`panel_width`]
    /// or, of the last panel, the fewer that there are.
    pub(in crate::cpu) fn panels_mut(
        &mut self,
    ) -> impl IndexedParallelIterator<Item = &mut [T::Weight]> {
        let panel = panel_width(self.level) * self.inputs * T::WEIGHTS;
        self.data.par_chunks_mut(panel.max(1))
    }

    /// Start and width of the panel of `output`, and its column in it.
    fn place(&self, output: usize) -> (usize, usize, usize) {
        let panel = panel_width(self.level);
        let first = output / panel * panel;
        let columns = self.outputs.next_multiple_of(LANES);
        (
            first * self.inputs * T::WEIGHTS,
            panel.min(columns - first),
            output - first,
        )
    }

    /// The panels of `columns`, which begin with a panel.
    pub(super) fn panels(
        &self,
        columns: Range<usize>,
    ) -> impl Iterator<Item = Panel<'_, T::Weight>> {
        columns.step_by(panel_width(self.level)).map(|first| {
            let (start, width, _) = self.place(first);
            Panel {
                first,
                width,
                valid: width.min(self.outputs - first),
                line: width * T::WEIGHTS,
                data: &self.data[start..][..width * self.inputs * T::WEIGHTS],
            }
        })
    }

    /// The lines of panel number `panel` from input `first` on, `inputs` of them, and the panel's width.
    pub fn lines(&self, panel: usize, first: usize, inputs: usize) -> (&[T::Weight], usize) {
        let (start, width, _) = self.place(panel * panel_width(self.level));
        let line = width * T::WEIGHTS;
        (&self.data[start + first * line..][..inputs * line], width)
    }

    /// The level whose kernel runs.
    pub fn level(&self) -> CpuLevel {
        self.level
    }

    /// Features that go in.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// Features that come out.
    pub fn outputs(&self) -> usize {
        self.outputs
    }
}

fn set_lane<T: Element>(panel: &mut [T], width: usize, lane: usize, weights: &[T]) {
    let lines = panel.chunks_exact_mut(width * T::GROUP);
    for (line, values) in lines.zip(weights.chunks_exact(T::GROUP)) {
        line[lane * T::GROUP..][..T::GROUP].copy_from_slice(values);
    }
}

impl<'a, W> Panel<'a, W> {
    /// The weights of some inputs, a line for each [`GROUP`](crate::cpu::conv3x3::Activation::GROUP) of them.
    pub fn lines(&self, inputs: &Range<usize>) -> &'a [W] {
        &self.data[inputs.start * self.line..inputs.end * self.line]
    }
}
