//! 3x3 convolution of channels-last planes, zero-padded, with bias and what follows it in one pass.
//!
//! A kernel computes a tile of some pixels by a block of output channels in registers. In a channels-last row the
//! three horizontal taps of a pixel are contiguous, so a tile is three runs of multiply-adds, each over 3 x inputs
//! values: input broadcast, weights streamed in the order of [`pack`](self::pack). Then the sink (activation,
//! residual, Euler step) is applied before anything is stored.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod bf16;
pub mod int8;
mod pack;
mod plane;
mod scalar;
#[cfg(test)]
mod tests;

use std::ops::Range;

use rayon::prelude::*;

pub use self::plane::{Activation, Cell, Plane};
use crate::error::Result;
use crate::kernels::aligned::AlignedVec;
use crate::kernels::cpu::CpuLevel;
use crate::progress::CancelToken;

/// Rows of a task, at most: what a thread may still be at when the others are done.
const TASK_ROWS: usize = 8;

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

/// What a row kernel reads and writes.
///
/// `x` points at the left border pixel of the row above; the three rows are `stride` values apart and
/// `(width + 2) * inputs` long.
#[derive(Clone, Copy, Debug)]
#[doc(hidden)]
pub struct RawRow<T> {
    x: *const T,
    stride: usize,
    width: usize,
    sink: RawSink<T>,
}

/// Where the sums of a row go. Pointers are to `width * outputs` values, `slope` to `outputs`.
#[derive(Clone, Copy, Debug)]
enum RawSink<T> {
    /// `out = s < 0 ? s * slope : s`
    Prelu { out: *mut T, slope: *const f32 },
    /// `out += s`
    Add { out: *mut T },
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
    /// a kernel for `T`). Input planes have [`padded_inputs`](Self::padded_inputs) channels.
    ///
    /// # Panics
    /// When the lengths do not fit or `outputs` is no multiple of [`LANES`]; loaders check both.
    pub fn new(level: CpuLevel, weight: &[f32], bias: &[f32], inputs: usize) -> Self {
        let outputs = bias.len();
        assert!(outputs.is_multiple_of(LANES) && weight.len() == outputs * inputs * 9);
        let level = T::supported(level.min(CpuLevel::detected()));
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

    /// `rows` of `to` = PReLU(conv(`from`)) with one slope for each output channel.
    ///
    /// # Errors
    /// [`Error::Cancelled`](crate::Error::Cancelled); the token is checked for each row.
    pub fn prelu(
        &self,
        from: &Plane<T>,
        slope: &[f32],
        to: &mut Plane<T>,
        rows: Range<usize>,
        cancel: &CancelToken,
    ) -> Result<()> {
        assert_eq!(slope.len(), self.outputs);
        self.each_row(from, to, rows, cancel, |out| RawSink::Prelu {
            out,
            slope: slope.as_ptr(),
        })
    }

    /// `rows` of `to` += conv(`from`).
    ///
    /// # Errors
    /// As [`prelu`](Self::prelu).
    pub fn add(
        &self,
        from: &Plane<T>,
        to: &mut Plane<T>,
        rows: Range<usize>,
        cancel: &CancelToken,
    ) -> Result<()> {
        self.each_row(from, to, rows, cancel, |out| RawSink::Add { out })
    }

    fn each_row(
        &self,
        from: &Plane<T>,
        to: &mut Plane<T>,
        rows: Range<usize>,
        cancel: &CancelToken,
        sink: impl Fn(*mut T) -> RawSink<T> + Send + Sync,
    ) -> Result<()> {
        assert_fit(from, to, [self.inputs, self.outputs], &rows);
        let first = rows.start;
        each_row(to.par_rows_mut(rows), cancel, |index, out| {
            self.row(from, first + index, sink(out.as_mut_ptr()));
        })
    }

    /// `out` = `base` + `scale` * conv(`from`) over `rows`, in f32, `[rows, width, outputs]` without border.
    ///
    /// Without `base` it is the scaled convolution alone. This is a flow's last layer together with its Euler step.
    ///
    /// # Errors
    /// As [`prelu`](Self::prelu).
    pub fn step(
        &self,
        from: &Plane<T>,
        rows: Range<usize>,
        base: Option<&[f32]>,
        scale: f32,
        out: &mut [f32],
        cancel: &CancelToken,
    ) -> Result<()> {
        let channels = [self.inputs, self.outputs];
        each_step(from, channels, rows, base, out, cancel, |row, base, out| {
            self.row(from, row, RawSink::Step { out, base, scale });
        })
    }

    fn row(&self, from: &Plane<T>, row: usize, sink: RawSink<T>) {
        let raw = RawRow {
            x: from.window(row).as_ptr(),
            stride: from.stride(),
            width: from.width(),
            sink,
        };
        // SAFETY: `window` has three whole rows; the callers' sinks point at whole rows of `outputs` channels, which no
        // other task writes; `new` took no level that the processor lacks.
        unsafe { T::run_row(self, &raw) }
    }
}

/// # Panics
/// When a convolution of `channels` (in, out) cannot make `rows` of `to` of `from`.
fn assert_fit<A: Cell, B: Cell>(
    from: &Plane<A>,
    to: &Plane<B>,
    channels: [usize; 2],
    rows: &Range<usize>,
) {
    assert_eq!([from.channels(), to.channels()], channels);
    assert!(from.width() == to.width() && rows.end <= from.rows() && rows.end <= to.rows());
}

/// Calls `work` with the number of each of `rows` and the row, on all threads; looks at the token before each.
fn each_row<R: Send>(
    rows: impl IndexedParallelIterator<Item = R>,
    cancel: &CancelToken,
    work: impl Fn(usize, R) + Send + Sync,
) -> Result<()> {
    rows.with_max_len(TASK_ROWS)
        .enumerate()
        .for_each(|(index, row)| {
            if !cancel.is_cancelled() {
                work(index, row);
            }
        });
    cancel.check()
}

/// Calls `work` with each of `rows`, where `base` has it (null without one) and where it goes in `out`.
///
/// # Panics
/// When the sizes do not fit a convolution of `channels` (in, out).
fn each_step<T: Cell>(
    from: &Plane<T>,
    [inputs, outputs]: [usize; 2],
    rows: Range<usize>,
    base: Option<&[f32]>,
    out: &mut [f32],
    cancel: &CancelToken,
    work: impl Fn(usize, *const f32, *mut f32) + Send + Sync,
) -> Result<()> {
    let length = from.width() * outputs;
    assert!(from.channels() == inputs && rows.end <= from.rows());
    assert_eq!(out.len(), rows.len() * length);
    assert!(base.is_none_or(|base| base.len() == out.len()));
    each_row(out.par_chunks_exact_mut(length), cancel, |index, out| {
        let base = base.map_or(std::ptr::null(), |base| {
            base[index * length..][..length].as_ptr()
        });
        work(rows.start + index, base, out.as_mut_ptr());
    })
}
