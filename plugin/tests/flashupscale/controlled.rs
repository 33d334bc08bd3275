// SPDX-License-Identifier: MPL-2.0
//! Properties that follow a controller, and many elements at once.

use std::thread;

use gst::prelude::*;
use gst_controller::prelude::*;
use gst_controller::{DirectControlBinding, InterpolationControlSource, InterpolationMode};

use crate::fixture::{FRAME, Fixture, bytes, i420};

#[test]
fn each_frame_gets_the_values_of_its_stream_time() {
    let still = |fixture: &mut Fixture, index: u64| {
        let mut buffer = i420(16, 16, 0);
        let buffer_ref = buffer.get_mut().unwrap();
        buffer_ref.set_pts(FRAME * index);
        fixture.harness.push(buffer).unwrap();
    };
    let alone = |bypass: &str| {
        let mut fixture = Fixture::with_size(16, 16, &[("bypass", bypass)]);
        still(&mut fixture, 0);
        bytes(&fixture.finish()[0])
    };
    let (enhanced, plain) = (alone("false"), alone("true"));
    assert_ne!(enhanced, plain);

    let mut fixture = Fixture::with_size(16, 16, &[]);
    let source = InterpolationControlSource::new();
    source.set_mode(InterpolationMode::None);
    // Plain from half a second on, enhanced again after a second.
    for (frame, bypass) in [(0, 0.0), (13, 1.0), (25, 0.0)] {
        assert!(source.set(FRAME * frame, bypass));
    }
    let binding = DirectControlBinding::new_absolute(&fixture.element, "bypass", &source);
    fixture.element.add_control_binding(&binding).unwrap();
    for index in 0..30 {
        still(&mut fixture, index);
    }
    for (index, buffer) in fixture.finish().iter().enumerate() {
        let want = if (13..25).contains(&index) {
            &plain
        } else {
            &enhanced
        };
        assert!(bytes(buffer) == *want, "frame {index}");
    }
}

#[test]
fn ten_elements_with_one_model_do_not_disturb_each_other() {
    let run = || {
        let mut fixture = Fixture::with_size(24, 18, &[("preset", "balanced")]);
        for index in 0..4 {
            fixture.harness.push(i420(24, 18, index)).unwrap();
        }
        fixture.finish().iter().map(bytes).collect::<Vec<_>>()
    };
    let want = run();
    let runs: Vec<_> = (0..10).map(|_| thread::spawn(run)).collect();
    for run in runs {
        assert!(run.join().unwrap() == want);
    }
}
