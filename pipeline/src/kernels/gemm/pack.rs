//! Weights in the order in which the kernels read them.

use std::ops::Range;

use rayon::prelude::*;

use super::tile::{Element, LANES};
use crate::kernels::aligned::AlignedVec;
use crate::kernels::cpu::CpuLevel;

/// Columns that a kernel of `level` computes at once.
pub fn panel_width(level: CpuLevel) -> usize {
    match level {
        CpuLevel::Scalar | CpuLevel::Avx2 => LANES,
        CpuLevel::Avx512 | CpuLevel::Bf16 => 4 * LANES,
    }
}

/// A weight `[outputs, inputs]` as `[panel][inputs / GROUP][width][GROUP]`, in panels of [`panel_width`] columns. The
/// last one may be narrower, but is a multiple of 16 wide; columns beyond the outputs are zero.
#[derive(Debug)]
pub struct Packed<T> {
    level: CpuLevel,
    inputs: usize,
    outputs: usize,
    data: AlignedVec<T>,
}

/// Some columns of a [`Packed`] weight.
#[derive(Clone, Copy, Debug)]
pub(super) struct Panel<'a, T> {
    /// First column.
    pub first: usize,
    /// Columns in memory.
    pub width: usize,
    /// Columns that are outputs.
    pub valid: usize,
    data: &'a [T],
}

impl<T: Element> Packed<T> {
    /// A weight of zeros for the fastest kernel at or below `level`.
    pub fn zeroed(level: CpuLevel, outputs: usize, inputs: usize) -> Self {
        let level = T::supported(level.min(CpuLevel::detected()));
        Self {
            level,
            inputs,
            outputs,
            data: AlignedVec::zeroed(inputs * outputs.next_multiple_of(LANES)),
        }
    }

    /// Packs `weight` `[outputs, inputs]`; `inputs` must be a multiple of [`GROUP`](crate::kernels::conv3x3::Activation::GROUP).
    ///
    /// # Panics
    /// When `weight` does not have that many values.
    pub fn new(level: CpuLevel, weight: &[T], outputs: usize, inputs: usize) -> Self {
        assert!(weight.len() == outputs * inputs && inputs.is_multiple_of(T::GROUP));
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

    /// Start and width of the panel of `output`, and its column in it.
    fn place(&self, output: usize) -> (usize, usize, usize) {
        let panel = panel_width(self.level);
        let first = output / panel * panel;
        let columns = self.outputs.next_multiple_of(LANES);
        (
            first * self.inputs,
            panel.min(columns - first),
            output - first,
        )
    }

    /// The panels of `columns`, which begin with a panel.
    pub(super) fn panels(&self, columns: Range<usize>) -> impl Iterator<Item = Panel<'_, T>> {
        columns.step_by(panel_width(self.level)).map(|first| {
            let (start, width, _) = self.place(first);
            Panel {
                first,
                width,
                valid: width.min(self.outputs - first),
                data: &self.data[start..][..width * self.inputs],
            }
        })
    }

    /// The lines of panel number `panel` from input `first` on, `inputs` of them, and the panel's width.
    pub fn lines(&self, panel: usize, first: usize, inputs: usize) -> (&[T], usize) {
        let (start, width, _) = self.place(panel * panel_width(self.level));
        (&self.data[start + first * width..][..inputs * width], width)
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

impl<'a, T> Panel<'a, T> {
    /// The weights of some inputs, a line for each [`GROUP`](crate::kernels::conv3x3::Activation::GROUP) of them.
    pub fn lines(&self, inputs: &Range<usize>) -> &'a [T] {
        &self.data[inputs.start * self.width..inputs.end * self.width]
    }
}
