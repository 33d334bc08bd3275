// SPDX-License-Identifier: MPL-2.0
use std::path::Path;

use super::*;
use crate::enhance::Model;
use crate::enhance::stream::EnhanceStream;
use crate::media::frame::{FrameFormat, Samples};
use crate::plan::extent::Extent;
use crate::progress::CancelToken;
use crate::runtime::Runtime;

/// A folder like the release's at tiny sizes.
fn enhancer() -> (tempfile::TempDir, Arc<Enhancer>) {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden");
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("t5")).unwrap();
    for name in [
        "stage2.pt",
        "3d-vae.pt",
        "t5/config.json",
        "t5/model.safetensors",
        "t5/spiece.model",
    ] {
        std::fs::copy(golden.join(name), folder.path().join(name)).unwrap();
    }
    let name = folder.path().to_str().unwrap().to_owned();
    let runtime = Runtime::cpu().unwrap();
    let enhancer = Enhancer::load(&name, &runtime, &Progress::none()).unwrap();
    (folder, enhancer)
}

fn frame(level: usize, index: usize) -> Frame {
    let size = Size::new(24, 16);
    let value = |at: usize| (level + at % 24 + at / 24 + index) as u8;
    let luma = Samples::U8((0..size.pixels()).map(value).collect());
    Frame::new(FrameFormat::gray(), size, vec![luma]).unwrap()
}

fn codes(frame: &Frame) -> Vec<u8> {
    match frame.planes()[0].as_ref() {
        Samples::U8(codes) => codes.clone(),
        Samples::U16(_) => unreachable!("8 bits"),
    }
}

fn session(enhancer: &Arc<Enhancer>, plan: WindowPlan) -> ReleasedSession {
    let Model::Released(model) = enhancer.model() else {
        unreachable!("a release was loaded")
    };
    let (enhancer, model, size) = (enhancer.clone(), model.clone(), Size::new(72, 48));
    let mut session = ReleasedSession::with_plan(enhancer, model, size, plan).unwrap();
    let options = EnhanceOptions {
        steps: Some(2),
        ..EnhanceOptions::default()
    };
    session.set_options(&options, &Progress::none()).unwrap();
    session
}

fn run(enhancer: &Arc<Enhancer>, level: usize, frames: usize, plan: WindowPlan) -> Vec<Vec<u8>> {
    let mut session = session(enhancer, plan);
    (0..frames).for_each(|index| session.push(frame(level, index)));
    let next = || session.next(true, Rung::Full, &Progress::none()).unwrap();
    std::iter::from_fn(next)
        .map(|frame| codes(&frame))
        .collect()
}

fn plan(tile: usize, window: usize, slice: usize, columns: usize) -> WindowPlan {
    WindowPlan {
        extent: Extent {
            tile,
            window,
            slice,
        },
        encode: Tiling::default(),
        decode: Tiling::columns(columns),
        bytes: 0,
        host_bytes: 0,
    }
}

#[test]
fn smaller_parts_give_as_many_frames() {
    let (_folder, enhancer) = enhancer();
    let run = |plan| run(&enhancer, 90, 15, plan);
    let whole = run(plan(1920, 49, 2, 1));
    assert_eq!(whole.len(), 15);
    // A tile that holds the whole picture changes nothing.
    assert!(run(plan(96, 49, 2, 1)) == whole);
    // The network is a random one, so what it sees less of comes out as something else.
    for smaller in [
        plan(48, 49, 2, 1),
        plan(1920, 13, 2, 1),
        plan(1920, 49, 1, 1),
        plan(1920, 49, 2, 2),
        plan(48, 13, 1, 2),
        WindowPlan {
            encode: Tiling::columns(2),
            ..plan(1920, 49, 2, 1)
        },
    ] {
        let frames = run(smaller);
        assert_eq!(frames.len(), 15, "{smaller:?}");
        assert!(frames != whole, "{smaller:?} had no effect");
    }
}

#[test]
fn brightness_is_that_of_the_input() {
    let (_folder, enhancer) = enhancer();
    let mean = |level| {
        let frames = run(&enhancer, level, 5, plan(1920, 49, 2, 1));
        let codes = frames.iter().flatten().map(|code| f64::from(*code));
        codes.sum::<f64>() / frames.iter().map(Vec::len).sum::<usize>() as f64
    };
    // By itself the random network makes nearly the same of both.
    let (dark, bright) = (mean(40), mean(180));
    assert!(bright - dark > 90.0, "{dark} and {bright}");
}

/// Runs 17 frames in windows of 13, the second of which fails once when `event` says so, and then goes on.
fn interrupted(
    enhancer: &Arc<Enhancer>,
    event: impl Fn(&Event) -> bool + Send + Sync + 'static,
) -> Vec<Vec<u8>> {
    let mut session = session(enhancer, plan(1920, 13, 2, 1));
    (0..17).for_each(|index| session.push(frame(40, 8 * index)));
    let mut out = Vec::new();
    for _ in 0..13 {
        let frame = session.next(true, Rung::Full, &Progress::none()).unwrap();
        out.push(codes(&frame.unwrap()));
    }
    let cancel = CancelToken::new();
    let trigger = cancel.clone();
    let progress = Progress::new(cancel, move |seen| {
        if event(&seen) {
            trigger.cancel();
        }
    });
    let error = session.next(true, Rung::Full, &progress).unwrap_err();
    assert!(error.is_cancelled(), "{error}");
    assert_eq!((session.waiting.len(), session.done.len()), (4, 0));
    let next = || session.next(true, Rung::Full, &Progress::none()).unwrap();
    out.extend(std::iter::from_fn(next).map(|frame| codes(&frame)));
    out
}

#[test]
fn a_window_that_fails_before_its_flow_is_tried_again_as_it_was() {
    let (_folder, enhancer) = enhancer();
    let mut whole = session(&enhancer, plan(1920, 13, 2, 1));
    (0..17).for_each(|index| whole.push(frame(40, 8 * index)));
    let next = || whole.next(true, Rung::Full, &Progress::none()).unwrap();
    let want: Vec<_> = std::iter::from_fn(next)
        .map(|frame| codes(&frame))
        .collect();
    let got = interrupted(&enhancer, |event| {
        matches!(event, Event::Advanced { step: "encode", .. })
    });
    assert!(got == want, "the scene went on");
}

#[test]
fn a_window_that_fails_with_frames_finished_repeats_none() {
    let (_folder, enhancer) = enhancer();
    let frames = interrupted(&enhancer, |event| {
        matches!(
            event,
            Event::Advanced {
                step: DECODE,
                done: 2
            }
        )
    });
    assert_eq!(frames.len(), 17);
    // Each frame of the input is brighter than the one before.
    let mean = |codes: &Vec<u8>| {
        codes.iter().map(|code| f64::from(*code)).sum::<f64>() / codes.len() as f64
    };
    let means: Vec<f64> = frames.iter().map(mean).collect();
    assert!(
        means.windows(2).all(|pair| pair[1] > pair[0] + 2.0),
        "{means:?}"
    );
}

#[test]
fn a_scene_that_ends_with_its_window_ends() {
    let (_folder, enhancer) = enhancer();
    let plan = plan(1920, 13, 2, 1);
    let alone = run(&enhancer, 150, 3, plan);
    let mut session = session(&enhancer, plan);
    let mut out = Vec::new();
    // Frame by frame, so that the first window has ended when the cut comes.
    for index in 0..16 {
        session.push(match index {
            0..13 => frame(20, index),
            _ => frame(150, index - 13),
        });
        while let Some(frame) = session.next(false, Rung::Full, &Progress::none()).unwrap() {
            out.push(codes(&frame));
        }
    }
    let next = || session.next(true, Rung::Full, &Progress::none()).unwrap();
    out.extend(std::iter::from_fn(next).map(|frame| codes(&frame)));
    assert_eq!(out.len(), 16);
    assert!(out[13..] == alone, "the scene before shows");
}

#[test]
fn look_ahead_is_that_of_the_windows_in_force() {
    let (_folder, enhancer) = enhancer();
    for window in [49, 25, 13] {
        let mut session = session(&enhancer, plan(1920, window, 2, 1));
        assert_eq!(session.look_ahead(), window - 1);
        for index in 0..window {
            let early = session.next(false, Rung::Full, &Progress::none()).unwrap();
            assert!(early.is_none(), "frame {index} of {window}");
            session.push(frame(90, index));
        }
        assert!(
            session
                .next(false, Rung::Full, &Progress::none())
                .unwrap()
                .is_some()
        );
    }
    // Nothing to enlarge: a plain resize waits for nothing.
    let size = Size::new(24, 16);
    let options = EnhanceOptions {
        target: crate::enhance::Target::Size(size),
        ..EnhanceOptions::default()
    };
    let format = FrameFormat::gray();
    let stream =
        EnhanceStream::<()>::new(enhancer.clone(), format, size, options, Progress::none());
    assert_eq!(stream.unwrap().look_ahead(), 0);
    assert_eq!(enhancer.look_ahead(), 48);
}
