// SPDX-License-Identifier: MPL-2.0
#[cfg(feature = "builtin")]
mod built_in;
mod int8;

use std::path::Path;
use std::sync::Arc;

use super::cpu::CpuModel;
use super::net::weights::tests::{metadata, random_tensors, small, write};
use super::strips::{PassRows, Strip};
use super::*;
use crate::cpu::level::CpuLevel;
use crate::flow::euler::time_grid;
use crate::media::frame::{Frame, FrameFormat, Planes, Samples};
use crate::progress::{CancelToken, Progress};
use crate::size::Size;

fn parse(bytes: &[u8], level: CpuLevel) -> CpuModel {
    let net = Net::parse(bytes, Path::new("test")).unwrap();
    CpuModel::new(Arc::new(net), level)
}

/// A small random model.
pub(super) fn random(residual: bool, frames: usize) -> CpuModel {
    let config = small(residual, frames);
    parse(
        &write(&random_tensors(&config, 21), metadata(&config)),
        CpuLevel::detected().min(CpuLevel::Avx512),
    )
}

/// The model with what is around it.
fn whole(model: CpuModel) -> CompactModel {
    let (net, level) = (model.net().clone(), model.level());
    CompactModel::of(net, level, Box::new(model))
}

pub(super) fn frame(format: FrameFormat, size: Size) -> Frame {
    let planes = (0..format.plane_count()).map(|index| {
        let plane = format.plane_size(index, size);
        let value = |i: usize| {
            let (x, y) = ((i % plane.width) as f64, (i / plane.width) as f64);
            let wave = (x * 0.7 + index as f64).sin() * 0.3 + (y * 0.4).cos() * 0.2 + 0.5;
            wave * f64::from(format.max_value())
        };
        match format.depth {
            8 => Samples::U8((0..plane.pixels()).map(|i| value(i) as u8).collect()),
            _ => Samples::U16((0..plane.pixels()).map(|i| value(i) as u16).collect()),
        }
    });
    Frame::new(format, size, planes.collect()).unwrap()
}

/// Hundreds of tiny layers: waking other threads for each takes longer than the work, most of all on a busy machine.
pub(super) fn one_thread<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(1)
        .build()
        .unwrap();
    pool.install(work)
}

pub(super) fn job(frame: &Frame, output: Size, steps: usize) -> Job {
    Job {
        format: *frame.format(),
        input: frame.size(),
        output,
        steps,
        threads: 1,
    }
}

fn enlarged(
    model: &CompactModel,
    frame: &Frame,
    output: Size,
    steps: usize,
    sigma: f64,
    count: usize,
) -> Frame {
    let job = job(frame, output, steps);
    let plan = StripPlan::of(&job, model.config(), (count, count == 1), |_, _| 0);
    assert!(count == 1 || plan.strips() > 1);
    let flow = Flow {
        times: time_grid(steps, SHIFT).unwrap(),
        sigma,
        seed: 3,
    };
    let luma = Arc::new(model.luma(frame));
    let request = Enlarge {
        model,
        frame,
        window: &vec![luma; model.config().frames],
        output,
        flow: &flow,
        plan: &plan,
    };
    one_thread(|| enlarge(&request, &Progress::none()).unwrap().0)
}

fn largest_difference(a: &Frame, b: &Frame) -> i32 {
    let codes = |samples: &Samples| -> Vec<i32> {
        match samples {
            Samples::U8(v) => v.iter().map(|v| i32::from(*v)).collect(),
            Samples::U16(v) => v.iter().map(|v| i32::from(*v)).collect(),
        }
    };
    let planes = a.planes().iter().zip(b.planes());
    planes
        .flat_map(|(a, b)| codes(a).into_iter().zip(codes(b)))
        .map(|(a, b)| (a - b).abs())
        .max()
        .unwrap()
}

#[test]
fn resize_buffers_are_kept_for_the_next_frame() {
    let model = whole(random(true, 3));
    let frame = frame(FrameFormat::i420(), Size::new(6, 8));
    for _ in 0..3 {
        enlarged(&model, &frame, Size::new(24, 32), 1, 0.0, 1);
    }
    assert_eq!(model.resizing.kept(), 1);
}

#[test]
fn strips_equal_the_whole() {
    let model = whole(random(true, 3));
    for format in [FrameFormat::i420(), FrameFormat::rgb()] {
        let size = Size::new(6, 40);
        let frame = frame(format, size);
        // The last number is by how many codes strips may differ. Without a resize, or with one to a whole fraction, the very
        // same sums are made; else the resizer rounds its positions.
        for (output, steps, sigma, rounding) in [
            (Size::new(24, 160), 1, 0.0, 0),
            (Size::new(24, 160), 2, 0.2, 0),
            (Size::new(19, 93), 1, 0.0, 1),
            (Size::new(30, 200), 1, 0.0, 1),
            (Size::new(96, 640), 1, 0.2, 0),
            (Size::new(48, 320), 2, 0.2, 0),
            (Size::new(40, 280), 1, 0.0, 1),
            (Size::new(43, 283), 1, 0.2, 1),
            (Size::new(60, 100), 1, 0.2, 1),
            (Size::new(7, 500), 1, 0.0, 1),
        ] {
            let whole = enlarged(&model, &frame, output, steps, sigma, 1);
            for count in [2, 40] {
                let strips = enlarged(&model, &frame, output, steps, sigma, count);
                // The plain colours of R, G, B are resized, too.
                let allowed = if format.planes == Planes::Rgb {
                    1
                } else {
                    rounding
                };
                let difference = largest_difference(&whole, &strips);
                assert!(
                    difference <= allowed,
                    "{output} in {count} strips: {difference}"
                );
            }
        }
    }
}

#[test]
fn strips_cover_every_row_once() {
    let config = small(false, 1);
    for (height, out_height) in [(1, 1), (1, 16), (7, 9), (7, 51), (100, 1600), (333, 1000)] {
        for count in [1, 2, 3, 50, 1000] {
            let job = Job {
                format: FrameFormat::gray(),
                input: Size::new(8, height),
                output: Size::new(20, out_height),
                steps: 2,
                threads: 1,
            };
            let plan = StripPlan::of(&job, &config, (count, count == 1), |_, _| 0);
            let mut next = 0;
            for Strip { output, passes } in &plan.strips {
                assert_eq!(output.start, next);
                assert_eq!(passes.len(), plan.route.passes());
                let grids = [height, plan.route.last().height];
                for (PassRows { made, read }, grid) in passes.iter().rev().zip(grids.iter().rev()) {
                    assert!(!made.is_empty() && read.end <= *grid);
                    assert!(read.start <= made.start && made.end <= read.end);
                }
                next = output.end;
            }
            assert_eq!(next, out_height, "{height} in {count}");
        }
    }
}

#[test]
fn less_memory_takes_more_strips() {
    let model = random(true, 3);
    for output in [Size::new(7680, 4320), Size::new(15360, 8640)] {
        let job = Job {
            format: FrameFormat::i420(),
            input: Size::new(1920, 1080),
            output,
            steps: 2,
            threads: 1,
        };
        let roomy = model.plan(&job, u64::MAX);
        assert_eq!(roomy.strips(), 1);
        let tight = model.plan(&job, roomy.bytes() / 2);
        assert!(tight.strips() > 1 && tight.bytes() <= roomy.bytes() / 2);
        // The result itself has to be somewhere.
        assert!(model.plan(&job, 0).bytes() >= output.pixels() as u64 * 3 / 2);
    }
}

/// A random network adds a pattern of four by four pixels to a flat colour. After one pass and a resize to six it is
/// spread over six pixels and less sharp; after a second pass there is a pattern of four again, whatever the factor.
#[test]
fn the_last_pass_is_on_the_grid_of_the_result() {
    let model = whole(random(false, 1));
    let size = Size::new(24, 24);
    let flat = Frame::new(FrameFormat::gray(), size, vec![Samples::U8(vec![100; 576])]).unwrap();
    for (side, period) in [(96, 4), (144, 6), (216, 4), (240, 4), (239, 4), (384, 4)] {
        let large = enlarged(&model, &flat, Size::new(side, side), 1, 0.0, 1);
        let Samples::U8(codes) = large.planes()[0].as_ref() else {
            panic!("8 bits")
        };
        let row = &codes[side / 2 * side..][side / 3..side / 3 * 2];
        let off = |period: usize| {
            let pairs = row.iter().zip(&row[period..]);
            pairs.map(|(a, b)| u32::from(a.abs_diff(*b))).sum::<u32>()
        };
        let other = if period == 4 { 6 } else { 4 };
        assert!(
            off(period) < off(other),
            "{side}: {} {}",
            off(period),
            off(other)
        );
    }
}

#[test]
fn a_triggered_token_stops_everything() {
    let model = whole(random(true, 1));
    let cancel = CancelToken::new();
    cancel.cancel();
    let progress = Progress::with_cancel(cancel);
    for format in [FrameFormat::i420(), FrameFormat::rgb()] {
        let frame = frame(format, Size::new(8, 8));
        for side in [32, 40, 64] {
            let job = job(&frame, Size::new(side, side), 1);
            let request = Enlarge {
                model: &model,
                frame: &frame,
                window: &[Arc::new(model.luma(&frame))],
                output: job.output,
                flow: &Flow {
                    times: time_grid(1, SHIFT).unwrap(),
                    sigma: 0.0,
                    seed: 0,
                },
                plan: &model.plan(&job, u64::MAX),
            };
            assert!(enlarge(&request, &progress).unwrap_err().is_cancelled());
        }
    }
}
