// SPDX-License-Identifier: MPL-2.0
//! 3x3 convolution of channels-last rows, with bias and what follows it in one pass.
//!
//! A kernel computes a tile of some pixels by a block of output channels in registers. In a channels-last row the
//! three horizontal taps of a pixel are contiguous, so a tile is three runs of multiply-adds, each over 3 x inputs
//! values: input broadcast, weights streamed in the order of [`pack`]. Then the sink (activation,
//! residual, Euler step) is applied before anything is stored.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
pub mod bands;
#[cfg(target_arch = "x86_64")]
mod bf16;
mod cell;
pub mod int8;
mod pack;
mod scalar;
#[cfg(test)]
mod tests;

pub use self::cell::{Activation, Cell};
use crate::cpu::aligned::AlignedVec;
use crate::cpu::level::CpuLevel;

/// Output channels come in multiples of this.
pub const LANES: usize = 16;

/// A convolution with weights packed for one CPU level.
#[derive(Debug)]
pub struct Conv3x3<T> {
    level: CpuLevel,
    inputs: usize,
    outputs: usize,
    block: usize,
    weights: AlignedVec<T>,
    bias: AlignedVec<f32>,
}

/// The row above, the row itself and the row below, each with a pixel of border on both sides.
pub type Window<'a, T> = [&'a [T]; 3];

/// What a row kernel reads and writes.
///
/// `x` points at the left border pixels of the three lines of a [`Window`], `(width + 2) * inputs` long.
#[derive(Clone, Copy, Debug)]
#[doc(hidden)]
pub struct RawRow<T> {
    x: [*const T; 3],
    width: usize,
    sink: RawSink<T>,
}

/// Where the sums of a row go. Pointers are to `width * outputs` values, `slope` to `outputs`.
#[derive(Clone, Copy, Debug)]
enum RawSink<T> {
    /// `out = s < 0 ? s * slope : s`
    Prelu { out: *mut T, slope: *const f32 },
    /// `out = skip + s`
    Add { out: *mut T, skip: *const T },
    /// `out = base + scale * s`; a null `base` is zero
    Step {
        out: *mut f32,
        base: *const f32,
        scale: f32,
    },
}

impl<T: Activation> Conv3x3<T> {
    /// Input channels in memory for a layer that has `inputs`: an even number, for kernels that take pairs.
    pub const fn padded_inputs(inputs: usize) -> usize {
        inputs.next_multiple_of(2)
    }

    /// Packs `weight` `[outputs, inputs, 3, 3]` and `bias` `[outputs]` for `level` (or the fastest below it that has
    /// a kernel for `T`). Inputs have [`padded_inputs`](Self::padded_inputs) channels.
    ///
    /// # Panics
    /// When the lengths do not fit or `outputs` is no multiple of [`LANES`]; loaders check both.
    pub fn new(level: CpuLevel, weight: &[f32], bias: &[f32], inputs: usize) -> Self {
        let outputs = bias.len();
        assert!(outputs.is_multiple_of(LANES) && weight.len() == outputs * inputs * 9);
        let level = T::supported(level.available());
        let block = pack::block(level, outputs);
        let padded = Self::padded_inputs(inputs);
        let group = if level == CpuLevel::Scalar {
            1
        } else {
            T::GROUP
        };
        Self {
            level,
            inputs: padded,
            outputs,
            block,
            weights: pack::pack(weight, outputs, inputs, padded, block, group, T::from_f32),
            bias: bias.iter().copied().collect(),
        }
    }

    /// The level whose kernel runs.
    pub fn level(&self) -> CpuLevel {
        self.level
    }

    /// A row of PReLU(conv(`from`)) with one slope for each output channel.
    ///
    /// # Panics
    /// As the other two: when the lengths do not fit. `out` has no border.
    pub fn prelu(&self, from: Window<'_, T>, slope: &[f32], out: &mut [T]) {
        assert_eq!(slope.len(), self.outputs);
        let sink = RawSink::Prelu {
            out: out.as_mut_ptr(),
            slope: slope.as_ptr(),
        };
        self.row(from, out.len(), sink);
    }

    /// A row of `skip` + conv(`from`).
    pub fn add(&self, from: Window<'_, T>, skip: &[T], out: &mut [T]) {
        assert_eq!(skip.len(), out.len());
        let sink = RawSink::Add {
            out: out.as_mut_ptr(),
            skip: skip.as_ptr(),
        };
        self.row(from, out.len(), sink);
    }

    /// A row of `base` + `scale` * conv(`from`) in f32; without `base`, of the scaled convolution alone.
    ///
    /// This is a flow's last layer together with its Euler step.
    pub fn step(&self, from: Window<'_, T>, base: Option<&[f32]>, scale: f32, out: &mut [f32]) {
        assert!(base.is_none_or(|base| base.len() == out.len()));
        let sink = RawSink::Step {
            out: out.as_mut_ptr(),
            base: base.map_or(std::ptr::null(), <[f32]>::as_ptr),
            scale,
        };
        self.row(from, out.len(), sink);
    }

    fn row(&self, from: Window<'_, T>, len: usize, sink: RawSink<T>) {
        let raw = RawRow {
            x: from.map(<[T]>::as_ptr),
            width: width(from, [self.inputs, self.outputs], len),
            sink,
        };
        // SAFETY: `width` checked the lines, the callers their sinks, which they borrow; `new` took no level that the
        // processor lacks.
        unsafe { T::run_row(self, &raw) }
    }
}

/// Width of a row of `len` values that a convolution of `channels` (in, out) makes of `from`.
///
/// # Panics
/// When they do not fit.
fn width<T>(from: Window<'_, T>, [inputs, outputs]: [usize; 2], len: usize) -> usize {
    let width = len / outputs;
    assert_eq!(width * outputs, len);
    assert!(from.iter().all(|line| line.len() == (width + 2) * inputs));
    width
}
