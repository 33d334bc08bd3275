// SPDX-License-Identifier: MPL-2.0
//! Antialiased Lanczos resize of one plane, of any part of it that begins and ends between samples.

use std::sync::{Mutex, PoisonError};

#[cfg(target_arch = "x86_64")]
use fast_image_resize::CpuExtensions;
use fast_image_resize::images::{TypedImage, TypedImageRef};
use fast_image_resize::pixels::F32;
use fast_image_resize::{FilterType, ResizeAlg, ResizeOptions, Resizer};
use rayon::prelude::*;

use super::level::CpuLevel;
use super::s2d::{Code, Codes};
use super::vector::run;
use crate::error::{Error, Result};
use crate::progress::CancelToken;
use crate::size::Size;

/// Samples of the result that one task makes: about a millisecond of work, after which it looks at the cancel token.
const PART: usize = 1 << 18;

/// Samples on each side of a position that Lanczos weighs, of the plane or of the result, whichever are larger.
pub const SUPPORT: f64 = 3.0;

/// The part of one axis of a plane that becomes the whole axis of the result, in samples from the outer edge of the
/// first sample. It may reach beyond the plane, whose edge samples are then repeated.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Span {
    /// First position.
    pub start: f64,
    /// Length.
    pub length: f64,
}

impl Span {
    /// All of an axis of `length` samples.
    pub fn whole(length: usize) -> Self {
        Self {
            start: 0.0,
            length: length as f64,
        }
    }

    /// Samples missing before and after a plane of `length` samples.
    fn missing(&self, length: usize) -> (usize, usize) {
        const TOUCH: f64 = 1e-6;
        let before = (-self.start - TOUCH).max(0.0).ceil();
        let after = (self.start + self.length - length as f64 - TOUCH)
            .max(0.0)
            .ceil();
        (before as usize, after as usize)
    }
}

/// Buffers for resizing, kept from one plane to the next, and the level of the instructions that do it.
#[derive(Debug)]
pub struct ResizeBuffers {
    level: CpuLevel,
    /// Those that no thread has at the moment.
    free: Mutex<Vec<Worker>>,
}

/// Buffers of one thread.
#[derive(Debug)]
struct Worker {
    resizer: Resizer,
    values: Vec<f32>,
}

impl ResizeBuffers {
    /// Buffers for kernels of `level`, or the fastest below it that the processor has.
    pub fn new(level: CpuLevel) -> Self {
        Self {
            level: level.available(),
            free: Mutex::new(Vec::new()),
        }
    }

    /// Lends the buffers of a thread to `work`.
    fn lend<R>(&self, work: impl FnOnce(&mut Worker) -> R) -> R {
        let free = || self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = free().pop();
        let mut worker = kept.unwrap_or_else(|| Worker::new(self.level));
        let result = work(&mut worker);
        free().push(worker);
        result
    }
}

impl Default for ResizeBuffers {
    /// Buffers for the selected level, or for the processor's if none can be selected.
    fn default() -> Self {
        Self::new(CpuLevel::selected_or_detected())
    }
}

impl Worker {
    fn new(level: CpuLevel) -> Self {
        let mut resizer = Resizer::new();
        // Other processors have one level, which stands for whatever the resizer finds.
        #[cfg(target_arch = "x86_64")]
        {
            let extensions = match level {
                CpuLevel::Scalar => CpuExtensions::None,
                CpuLevel::Avx2 | CpuLevel::Avx512 | CpuLevel::Bf16 => CpuExtensions::Avx2,
            };
            // SAFETY: the level is one that the processor has, and AVX2 is part of all but the first.
            unsafe { resizer.set_cpu_extensions(extensions) };
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = level;
        Self {
            resizer,
            values: Vec::new(),
        }
    }
}

/// Bytes that a resize of `rows` rows to `target` takes beside planes, with so many threads.
pub fn working_bytes(rows: usize, target: Size, threads: usize) -> u64 {
    let part = part_rows(target);
    let step = rows as f64 / target.height.max(1) as f64;
    // The resizer goes along the rows first.
    let along = (part as f64 * step + 2.0 * SUPPORT * step.max(1.0)).ceil() as usize + 1;
    let values = target.width * (part + along.min(rows));
    (values * size_of::<f32>() * threads) as u64
}

/// Rows of the result that one task makes. Their number must not depend on that of threads, or results would.
fn part_rows(target: Size) -> usize {
    (PART / target.width.max(1)).clamp(1, target.height.max(1))
}

/// Resizes `plane` of `size`, the part `x` by `y` of it, to `target`.
///
/// # Errors
/// [`Error::Invalid`] when sizes are empty or beyond what the resizer takes, [`Error::Cancelled`].
pub fn resize(
    plane: &[f32],
    size: Size,
    spans: (Span, Span),
    target: Size,
    buffers: &mut ResizeBuffers,
    cancel: &CancelToken,
) -> Result<Vec<f32>> {
    let mut out = vec![0.0; target.pixels()];
    let work = |part: &Part<'_>, out: &mut [f32]| {
        buffers.lend(|worker| part.resize(&mut worker.resizer, out))
    };
    parts(plane, size, spans, target, cancel, &mut out, work)?;
    Ok(out)
}

/// Resizes a plane of sample codes, clamped to `max`, through floats.
///
/// # Errors
/// As [`resize`].
pub fn resize_codes<S: Code>(
    plane: &[S],
    size: Size,
    spans: (Span, Span),
    target: Size,
    max: u16,
    buffers: &mut ResizeBuffers,
    cancel: &CancelToken,
) -> Result<Vec<S>> {
    let plane: Vec<f32> = plane.par_iter().map(|code| code.to_f32()).collect();
    let mut out = vec![S::default(); target.pixels()];
    let work = |part: &Part<'_>, out: &mut [S]| {
        buffers.lend(|Worker { resizer, values }| {
            values.resize(out.len(), 0.0);
            part.resize(resizer, values)?;
            let work = Codes {
                values,
                gain: 1.0,
                offset: 0.0,
                max: f32::from(max),
                out,
            };
            run(buffers.level, work);
            Ok(())
        })
    };
    parts(&plane, size, spans, target, cancel, &mut out, work)?;
    Ok(out)
}

/// Some rows of a result and what they are made from.
struct Part<'a> {
    plane: &'a [f32],
    size: Size,
    spans: (Span, Span),
    target: Size,
}

/// Has `work` make some rows of the result at a time, so that threads share the work and cancelling is quick.
fn parts<S: Send>(
    plane: &[f32],
    size: Size,
    (mut x, mut y): (Span, Span),
    target: Size,
    cancel: &CancelToken,
    out: &mut [S],
    work: impl Fn(&Part<'_>, &mut [S]) -> Result<()> + Sync,
) -> Result<()> {
    if plane.len() != size.pixels() || size.pixels() == 0 || target.pixels() == 0 {
        let samples = plane.len();
        return Err(Error::invalid(format!(
            "cannot resize {samples} samples of {size} to {target}"
        )));
    }
    let (left, right) = x.missing(size.width);
    let (top, bottom) = y.missing(size.height);
    let padded = Size::new(size.width + left + right, size.height + top + bottom);
    x.start += left as f64;
    y.start += top as f64;
    let enlarged = (padded != size).then(|| pad(plane, size, left, top, padded));
    let plane = enlarged.as_deref().unwrap_or(plane);

    let rows = part_rows(target);
    let step = y.length / target.height as f64;
    out.par_chunks_mut(rows * target.width)
        .enumerate()
        .with_max_len(1)
        .try_for_each(|(index, out)| {
            cancel.check()?;
            let height = out.len() / target.width;
            let y = Span {
                start: y.start + step * (index * rows) as f64,
                length: step * height as f64,
            };
            let part = Part {
                plane,
                size: padded,
                spans: (x, y),
                target: Size::new(target.width, height),
            };
            work(&part, out)
        })
}

impl Part<'_> {
    fn resize(&self, resizer: &mut Resizer, out: &mut [f32]) -> Result<()> {
        let Self {
            plane,
            size,
            spans: (x, y),
            target,
        } = *self;
        let failed = |e: &dyn std::fmt::Display| {
            Error::invalid(format!("cannot resize {size} to {target}: {e}"))
        };
        let side = |value: usize| u32::try_from(value).map_err(|e| failed(&e));
        // SAFETY: any bytes of floats may be read.
        let (_, source, _) = unsafe { plane.align_to::<u8>() };
        // SAFETY: as above, and any bytes make valid floats.
        let (_, sink, _) = unsafe { out.align_to_mut::<u8>() };
        let source =
            TypedImageRef::<F32>::from_buffer(side(size.width)?, side(size.height)?, source);
        let sink = TypedImage::<F32>::from_buffer(side(target.width)?, side(target.height)?, sink);
        let (source, mut sink) = (
            source.map_err(|e| failed(&e))?,
            sink.map_err(|e| failed(&e))?,
        );
        // Rounding must not carry the span over the edge of the plane.
        let inside = |span: Span, length: usize| {
            let start = span.start.clamp(0.0, length as f64);
            (start, span.length.min(length as f64 - start))
        };
        let ((left, width), (top, height)) = (inside(x, size.width), inside(y, size.height));
        let options = ResizeOptions::new()
            .resize_alg(ResizeAlg::Convolution(FilterType::Lanczos3))
            .crop(left, top, width, height);
        // The typed call, for one type: the untyped one would compile a resizer for each pixel type there is.
        resizer
            .resize_typed(&source, &mut sink, &options)
            .map_err(|e| failed(&e))
    }
}

/// `plane` inside a larger one of size `padded`, at `left`, `top`, with its edges repeated.
fn pad(plane: &[f32], size: Size, left: usize, top: usize, padded: Size) -> Vec<f32> {
    let mut out = Vec::with_capacity(padded.pixels());
    for y in 0..padded.height {
        let row = &plane[y.saturating_sub(top).min(size.height - 1) * size.width..][..size.width];
        out.extend(std::iter::repeat_n(row[0], left));
        out.extend_from_slice(row);
        out.extend(std::iter::repeat_n(
            row[size.width - 1],
            padded.width - size.width - left,
        ));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_bit_overshoot_is_clamped() {
        let plane: Vec<u16> = (0..16).map(|i| if i < 8 { 0 } else { 1023 }).collect();
        let spans = (Span::whole(16), Span::whole(1));
        let target = Size::new(64, 1);
        let got = resize_codes(
            &plane,
            Size::new(16, 1),
            spans,
            target,
            1023,
            &mut ResizeBuffers::default(),
            &CancelToken::new(),
        )
        .unwrap();
        assert_eq!(got.iter().max(), Some(&1023));
    }

    #[test]
    fn same_span_and_size_copies() {
        let plane: Vec<f32> = (0..35).map(|v| v as f32).collect();
        let size = Size::new(7, 5);
        let spans = (Span::whole(7), Span::whole(5));
        assert_eq!(
            resize(
                &plane,
                size,
                spans,
                size,
                &mut ResizeBuffers::default(),
                &CancelToken::new()
            )
            .unwrap(),
            plane
        );
    }

    #[test]
    fn parts_join_without_a_seam() {
        // More samples than one part has.
        let size = Size::new(64, 8);
        let target = Size::new(PART / 64, 96);
        let plane: Vec<f32> = (0..size.height)
            .flat_map(|y| vec![y as f32; size.width])
            .collect();
        let spans = (Span::whole(size.width), Span::whole(size.height));
        let got = resize(
            &plane,
            size,
            spans,
            target,
            &mut ResizeBuffers::default(),
            &CancelToken::new(),
        )
        .unwrap();
        let column: Vec<f32> = got.chunks(target.width).map(|row| row[100]).collect();
        for (y, pair) in column.windows(2).enumerate().take(84).skip(12) {
            let step = pair[1] - pair[0];
            assert!(
                (step - 8.0 / 96.0).abs() < 0.05,
                "step {step} after row {y}"
            );
        }
    }

    /// A plane with structure.
    fn waves(size: Size) -> Vec<f32> {
        let value = |i: usize| ((i % size.width * 3) ^ (i / size.width * 5)) as f32 % 64.0;
        (0..size.pixels()).map(value).collect()
    }

    #[test]
    fn threads_do_not_change_the_result() {
        let (size, target) = (Size::new(300, 200), Size::new(1111, 700));
        assert!(target.pixels() > 2 * PART, "several parts");
        let plane = waves(size);
        let spans = (Span::whole(size.width), Span::whole(size.height));
        let with = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
            let buffers = &mut ResizeBuffers::default();
            let resize = || resize(&plane, size, spans, target, buffers, &CancelToken::new());
            pool.unwrap().install(resize).unwrap()
        };
        assert_eq!(with(1), with(5));
    }

    #[test]
    fn levels_agree() {
        let (size, target) = (Size::new(50, 40), Size::new(71, 33));
        let spans = (Span::whole(size.width), Span::whole(size.height));
        let of = |level| {
            let buffers = &mut ResizeBuffers::new(level);
            let cancel = CancelToken::new();
            resize(&waves(size), size, spans, target, buffers, &cancel).unwrap()
        };
        let want = of(CpuLevel::Scalar);
        for level in CpuLevel::ALL {
            for (got, want) in of(level).iter().zip(&want) {
                assert!((got - want).abs() < 1e-4, "{level}: {got} {want}");
            }
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn the_resizer_takes_no_instructions_beyond_the_level() {
        let extensions = |level| {
            let buffers = ResizeBuffers::new(level);
            buffers.lend(|worker| worker.resizer.cpu_extensions())
        };
        assert_eq!(extensions(CpuLevel::Scalar), CpuExtensions::None);
        for level in CpuLevel::ALL {
            assert!(extensions(level).is_supported(), "{level}");
        }
    }

    #[test]
    fn a_triggered_token_stops_it() {
        let cancel = CancelToken::new();
        cancel.cancel();
        let spans = (Span::whole(1), Span::whole(1));
        let size = Size::new(1, 1);
        assert!(
            resize(
                &[0.0],
                size,
                spans,
                size,
                &mut ResizeBuffers::default(),
                &cancel
            )
            .unwrap_err()
            .is_cancelled()
        );
    }
}
