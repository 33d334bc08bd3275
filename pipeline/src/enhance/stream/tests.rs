// SPDX-License-Identifier: MPL-2.0
use std::path::PathBuf;
use std::sync::Mutex;

use super::*;
use crate::compact::test_model;
use crate::enhance::Target;
use crate::media::frame::{Planes, Samples, Siting};
use crate::media::resize::plain_resize;
use crate::progress::CancelToken;
use crate::runtime::{DeviceSpec, NumberType, Runtime};

/// A small random model in a file.
struct Model {
    _folder: tempfile::TempDir,
    path: PathBuf,
}

impl Model {
    fn new(residual: bool, frames: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        std::fs::write(&path, test_model(residual, frames)).unwrap();
        Self {
            _folder: folder,
            path,
        }
    }

    fn load(&self, threads: usize) -> Arc<Enhancer> {
        let runtime = Runtime::new(DeviceSpec::Cpu, NumberType::F32, Some(threads)).unwrap();
        Enhancer::load(self.path.to_str().unwrap(), &runtime, &Progress::none()).unwrap()
    }

    fn stream(
        &self,
        format: FrameFormat,
        size: Size,
        options: EnhanceOptions,
    ) -> EnhanceStream<usize> {
        EnhanceStream::new(self.load(2), format, size, options, Progress::none()).unwrap()
    }
}

fn frame(format: FrameFormat, size: Size, number: usize) -> Frame {
    let planes = (0..format.plane_count()).map(|index| {
        let plane = format.plane_size(index, size);
        let max = usize::from(format.max_value()) + 1;
        let value = |i: usize| (i * (7 + index) + number * 3) % max;
        match format.depth {
            8 => Samples::U8((0..plane.pixels()).map(|i| value(i) as u8).collect()),
            _ => Samples::U16((0..plane.pixels()).map(|i| value(i) as u16).collect()),
        }
    });
    Frame::new(format, size, planes.collect()).unwrap()
}

fn run(stream: &mut EnhanceStream<usize>, frames: &[Frame]) -> Vec<Frame> {
    let mut out = Vec::new();
    for (index, frame) in frames.iter().enumerate() {
        out.extend(stream.push(frame.clone(), index).unwrap());
    }
    out.extend(stream.drain().unwrap());
    assert!(
        out.iter().map(|(_, token)| *token).eq(0..frames.len()),
        "tokens in order"
    );
    out.into_iter().map(|(frame, _)| frame).collect()
}

fn scale(scale: f64) -> EnhanceOptions {
    EnhanceOptions {
        target: Target::Scale(scale),
        ..EnhanceOptions::default()
    }
}

fn equal(a: &[Frame], b: &[Frame]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.planes() == b.planes())
}

fn formats() -> Vec<FrameFormat> {
    let i420 = FrameFormat::i420();
    let yuv = |sub_x, sub_y| FrameFormat {
        planes: Planes::Yuv { sub_x, sub_y },
        ..i420
    };
    vec![
        i420,
        yuv(1, 0),
        yuv(0, 0),
        FrameFormat { depth: 10, ..i420 },
        FrameFormat {
            depth: 16,
            full_range: true,
            ..i420
        },
        FrameFormat {
            siting: (Siting::Centre, Siting::Cosited),
            ..yuv(2, 1)
        },
        FrameFormat::gray(),
        FrameFormat::rgb(),
        FrameFormat {
            alpha: true,
            ..FrameFormat::rgb()
        },
        FrameFormat {
            alpha: true,
            depth: 12,
            ..FrameFormat::rgb()
        },
        FrameFormat {
            alpha: true,
            ..yuv(1, 1)
        },
    ]
}

#[test]
fn every_format_and_odd_size() {
    for model in [Model::new(true, 3), Model::new(false, 1)] {
        for format in formats() {
            for (size, factor) in [
                ((1, 1), 4.0),
                ((5, 3), 4.0),
                ((7, 2), 2.3),
                ((3, 4), 7.0),
                ((2, 2), 16.0),
            ] {
                let size = Size::new(size.0, size.1);
                let mut stream = model.stream(format, size, scale(factor));
                let frames: Vec<Frame> = (0..3).map(|n| frame(format, size, n)).collect();
                for out in run(&mut stream, &frames) {
                    assert_eq!(*out.format(), format);
                    assert_eq!(out.size(), stream.output_size());
                }
            }
        }
    }
}

#[test]
fn as_many_out_as_in() {
    let (format, size) = (FrameFormat::i420(), Size::new(4, 3));
    for model in [
        Model::new(true, 3),
        Model::new(true, 5),
        Model::new(false, 1),
    ] {
        let look_ahead = model.load(1).look_ahead();
        for count in 0..7 {
            let mut stream = model.stream(format, size, scale(4.0));
            let mut given = 0;
            for index in 0..count {
                given += stream
                    .push(frame(format, size, index), index)
                    .unwrap()
                    .len();
                assert_eq!(
                    given,
                    (index + 1).saturating_sub(look_ahead),
                    "no frame waits longer than it must"
                );
            }
            assert_eq!(given + stream.drain().unwrap().len(), count);
            assert!(stream.drain().unwrap().is_empty());
            assert_eq!(stream.stats().frames, count as u64);
        }
    }
}

#[test]
fn neighbours_matter_and_scenes_do_not_mix() {
    let model = Model::new(true, 3);
    let (format, size) = (FrameFormat::gray(), Size::new(16, 16));
    let flat = |code: u8| Frame::new(format, size, vec![Samples::U8(vec![code; 256])]).unwrap();
    let options = scale(4.0);
    let alone = |frames: &[Frame]| run(&mut model.stream(format, size, options.clone()), frames);
    let (dark, dim, light) = (flat(30), flat(36), flat(220));
    let dark_scene = alone(&[dark.clone(), dim.clone()]);
    let light_scene = alone(std::slice::from_ref(&light));
    let both = alone(&[dark.clone(), dim.clone(), light.clone()]);
    assert!(
        equal(&both[..2], &dark_scene) && equal(&both[2..], &light_scene),
        "a cut parts them"
    );
    assert!(
        !equal(&alone(&[dark.clone(), dark.clone()])[..1], &dark_scene[..1]),
        "the next frame is seen"
    );
}

#[test]
fn still_frames_stay_still_with_noise() {
    let model = Model::new(true, 3);
    let (format, size) = (FrameFormat::i420(), Size::new(12, 10));
    let options = EnhanceOptions {
        noise: Some(1.0),
        steps: Some(2),
        seed: 5,
        ..scale(4.0)
    };
    let still = vec![frame(format, size, 0); 4];
    let out = run(&mut model.stream(format, size, options.clone()), &still);
    assert!(out.iter().all(|frame| frame.planes() == out[0].planes()));
    let other = EnhanceOptions {
        seed: 6,
        ..options.clone()
    };
    assert!(
        !equal(&run(&mut model.stream(format, size, other), &still), &out),
        "the seed matters"
    );
    let faithful = EnhanceOptions {
        noise: Some(0.0),
        ..options
    };
    assert!(
        !equal(
            &run(&mut model.stream(format, size, faithful), &still),
            &out
        ),
        "the noise matters"
    );
}

#[test]
fn threads_do_not_change_the_result() {
    let model = Model::new(false, 1);
    let (format, size) = (FrameFormat::i420(), Size::new(31, 23));
    let options = EnhanceOptions {
        noise: Some(0.5),
        ..scale(3.0)
    };
    let with = |threads| {
        let mut stream = EnhanceStream::new(
            model.load(threads),
            format,
            size,
            options.clone(),
            Progress::none(),
        )
        .unwrap();
        run(&mut stream, &[frame(format, size, 0)])
    };
    assert!(equal(&with(1), &with(5)));
}

#[test]
fn nothing_to_enlarge_is_resized_plainly() {
    let model = Model::new(false, 1);
    let (format, size) = (FrameFormat::i420(), Size::new(10, 8));
    for target in [
        Size::new(10, 8),
        Size::new(5, 4),
        Size::new(40, 4),
        Size::new(9, 32),
    ] {
        let options = EnhanceOptions {
            target: Target::Size(target),
            ..scale(1.0)
        };
        let mut stream = model.stream(format, size, options);
        let input = frame(format, size, 0);
        let out = run(&mut stream, std::slice::from_ref(&input));
        assert_eq!(
            out[0].planes(),
            plain_resize(&input, target).unwrap().planes()
        );
        assert_eq!(stream.stats().evaluations, 0);
    }
    let same = run(
        &mut model.stream(format, size, scale(1.0)),
        &[frame(format, size, 0)],
    );
    assert_eq!(same[0].planes(), frame(format, size, 0).planes());
}

#[test]
fn settings_change_between_frames() {
    let model = Model::new(false, 1);
    let (format, size) = (FrameFormat::i420(), Size::new(6, 6));
    let mut stream = model.stream(format, size, scale(4.0));
    stream.push(frame(format, size, 0), 0).unwrap();
    assert_eq!(stream.stats().evaluations, 1);
    let four = EnhanceOptions {
        steps: Some(4),
        target: Target::Scale(9.0),
        ..EnhanceOptions::default()
    };
    stream.set_options(four.clone()).unwrap();
    let out = stream.push(frame(format, size, 1), 1).unwrap();
    assert_eq!(out[0].0.size(), Size::new(24, 24), "the target stays");
    assert_eq!(stream.stats().evaluations, 5);
    for wrong in [
        EnhanceOptions {
            steps: Some(9),
            ..four.clone()
        },
        EnhanceOptions {
            steps: Some(0),
            ..four.clone()
        },
        EnhanceOptions {
            noise: Some(-1.0),
            ..four.clone()
        },
        EnhanceOptions {
            guidance_scale: Some(-1.0),
            ..four.clone()
        },
        EnhanceOptions {
            noise: Some(1.5),
            ..four.clone()
        },
        EnhanceOptions {
            noise: Some(f64::NAN),
            ..four.clone()
        },
        EnhanceOptions {
            guidance_scale: Some(f64::INFINITY),
            ..four
        },
    ] {
        assert!(matches!(stream.set_options(wrong), Err(Error::Invalid(_))));
    }
    stream.push(frame(format, size, 2), 2).unwrap();
    assert_eq!(stream.stats().evaluations, 9, "the old settings stay");
}

/// Gives each frame what a list says, and remembers what became of it.
#[derive(Debug)]
struct Script {
    paces: VecDeque<Pace>,
    done: Arc<Mutex<Vec<(Rung, bool)>>>,
}

impl Pacer<usize> for Script {
    fn decide(&mut self, _: &usize) -> Pace {
        self.paces.pop_front().unwrap_or(Pace::FULL)
    }

    fn done(&mut self, rung: Rung, _: Duration, broken_off: bool) {
        self.done.lock().unwrap().push((rung, broken_off));
    }
}

#[test]
fn each_frame_gets_what_its_pacer_decides() {
    let (heavy, light) = (Model::new(true, 3), Model::new(false, 1));
    let (format, size) = (FrameFormat::i420(), Size::new(12, 8));
    let options = EnhanceOptions {
        steps: Some(2),
        ..scale(4.0)
    };
    let frames: Vec<Frame> = (0..5).map(|n| frame(format, size, n)).collect();
    let full = run(&mut heavy.stream(format, size, options.clone()), &frames);
    let one = EnhanceOptions {
        steps: Some(1),
        noise: Some(0.0),
        ..scale(4.0)
    };
    let once = run(&mut heavy.stream(format, size, one.clone()), &frames);
    let lightly = run(&mut light.stream(format, size, one), &frames);

    let mut stream = heavy.stream(format, size, options);
    assert_eq!(
        stream.rungs(),
        [Rung::Plain, Rung::OneEvaluation, Rung::Full]
    );
    stream.set_light(&light.load(2)).unwrap();
    assert_eq!(
        stream.rungs(),
        [Rung::Plain, Rung::Light, Rung::OneEvaluation, Rung::Full]
    );
    let at = |rung| Pace { rung, ..Pace::FULL };
    // Over before it begins: the pacer is asked again.
    let late = Pace {
        rung: Rung::Full,
        until: Some(Instant::now()),
    };
    let done = Arc::new(Mutex::new(Vec::new()));
    stream.set_pacer(Some(Box::new(Script {
        paces: [
            at(Rung::Plain),
            at(Rung::Light),
            at(Rung::OneEvaluation),
            late,
            at(Rung::Light),
            at(Rung::Full),
        ]
        .into(),
        done: done.clone(),
    })));
    let out = run(&mut stream, &frames);
    let plain = plain_resize(&frames[0], Size::new(48, 32)).unwrap();
    assert!(equal(&out[..1], &[plain]));
    assert!(equal(&out[1..2], &lightly[1..2]));
    assert!(equal(&out[2..3], &once[2..3]));
    assert!(equal(&out[3..4], &lightly[3..4]));
    assert!(equal(&out[4..], &full[4..]));
    let expected = [
        (Rung::Plain, false),
        (Rung::Light, false),
        (Rung::OneEvaluation, false),
        (Rung::Full, true),
        (Rung::Light, false),
        (Rung::Full, false),
    ];
    assert_eq!(*done.lock().unwrap(), expected);
}

#[test]
fn strange_frames_are_refused_and_not_taken() {
    let model = Model::new(true, 3);
    let (format, size) = (FrameFormat::i420(), Size::new(6, 6));
    let mut stream = model.stream(format, size, scale(4.0));
    assert!(stream.push(frame(format, Size::new(6, 5), 0), 0).is_err());
    assert!(stream.push(frame(FrameFormat::rgb(), size, 0), 0).is_err());
    assert!(stream.drain().unwrap().is_empty());
}

#[test]
fn reset_forgets_and_starts_anew() {
    let model = Model::new(true, 3);
    let (format, size) = (FrameFormat::i420(), Size::new(6, 6));
    let frames: Vec<Frame> = (0..3).map(|n| frame(format, size, n)).collect();
    let mut stream = model.stream(format, size, scale(4.0));
    let fresh = run(&mut stream, &frames);
    stream.push(frame(format, size, 9), 9).unwrap();
    stream.reset();
    assert!(equal(&run(&mut stream, &frames), &fresh));
}

#[test]
fn a_triggered_token_ends_the_stream() {
    let model = Model::new(false, 1);
    let (format, size) = (FrameFormat::i420(), Size::new(6, 6));
    let cancel = CancelToken::new();
    let progress = Progress::with_cancel(cancel.clone());
    let mut stream = EnhanceStream::new(model.load(1), format, size, scale(4.0), progress).unwrap();
    assert_eq!(stream.push(frame(format, size, 0), 0).unwrap().len(), 1);
    cancel.cancel();
    assert!(
        stream
            .push(frame(format, size, 1), 1)
            .unwrap_err()
            .is_cancelled()
    );
    assert!(stream.drain().unwrap_err().is_cancelled());
    assert_eq!(stream.stats().frames, 1);
}

#[test]
fn progress_counts_frames() {
    let model = Model::new(true, 3);
    let (format, size) = (FrameFormat::i420(), Size::new(4, 4));
    let events = Arc::new(Mutex::new(Vec::new()));
    let sink = events.clone();
    let progress = Progress::new(CancelToken::new(), move |event| {
        sink.lock().unwrap().push(event);
    });
    let mut stream = EnhanceStream::new(model.load(1), format, size, scale(4.0), progress).unwrap();
    run(
        &mut stream,
        &[frame(format, size, 0), frame(format, size, 1)],
    );
    let advanced = |done| Event::Advanced { step: STEP, done };
    let expected = [
        Event::Started {
            step: STEP,
            total: None,
        },
        advanced(1),
        advanced(2),
        Event::Finished { step: STEP },
    ];
    assert_eq!(*events.lock().unwrap(), expected);
}
