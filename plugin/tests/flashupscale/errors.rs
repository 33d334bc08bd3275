// SPDX-License-Identifier: MPL-2.0
//! What goes wrong is said on the bus, once, with what to do.

use gst::prelude::*;

use crate::fixture::{Fixture, caps, element, i420};

fn push_until_error(fixture: &mut Fixture) -> gst::FlowError {
    (0..1000)
        .find_map(|index| fixture.harness.push(i420(8, 8, index)).err())
        .expect("the flow ends")
}

/// No other error than the one that was taken from the bus.
fn assert_no_more_errors(fixture: &Fixture) {
    let more = fixture.bus.pop_filtered(&[gst::MessageType::Error]);
    assert!(more.is_none(), "{more:?}");
}

#[test]
fn an_unknown_model() {
    let mut fixture = Fixture::with_size(8, 8, &[("model", "no-such-model")]);
    assert_eq!(push_until_error(&mut fixture), gst::FlowError::Error);
    let (error, text) = fixture.error();
    assert!(error.matches(gst::ResourceError::NotFound), "{error:?}");
    assert!(
        text.contains("no-such-model") && text.contains("builtin"),
        "{text}"
    );
    assert_no_more_errors(&fixture);
    // The element can be used again with a model that exists.
    fixture.element.set_state(gst::State::Null).unwrap();
    fixture.element.set_property("model", "builtin:live");
    fixture.element.set_state(gst::State::Playing).unwrap();
    assert!(
        fixture
            .harness
            .push_event(gst::event::StreamStart::new("again"))
    );
    fixture
        .harness
        .set_src_caps(caps(gst_video::VideoFormat::I420, 8, 8));
    fixture.harness.push(i420(8, 8, 0)).unwrap();
    assert_eq!(fixture.finish().len(), 1);
}

#[test]
fn a_damaged_model_file() {
    let path = std::env::temp_dir().join(format!(
        "flashupscale-damaged-{}.safetensors",
        std::process::id()
    ));
    std::fs::write(
        &path,
        b"\x20\0\0\0\0\0\0\0{\"this is\": not a checkpoint   }",
    )
    .unwrap();
    let mut fixture = Fixture::with_size(8, 8, &[("model", path.to_str().unwrap())]);
    assert_eq!(push_until_error(&mut fixture), gst::FlowError::Error);
    let (error, text) = fixture.error();
    assert!(error.is::<gst::ResourceError>(), "{error:?}");
    assert!(text.contains("flashupscale-damaged"), "{text}");
    assert_no_more_errors(&fixture);
    std::fs::remove_file(&path).unwrap();
}

#[cfg(not(feature = "cuda"))]
#[test]
fn a_device_that_is_not_built_in() {
    for device in ["cuda:0", "metal", "abacus"] {
        let element = element(&[("device", device)]);
        let bus = gst::Bus::new();
        element.set_bus(Some(&bus));
        assert!(element.set_state(gst::State::Ready).is_err(), "{device}");
        let message = bus.pop_filtered(&[gst::MessageType::Error]).unwrap();
        let gst::MessageView::Error(error) = message.view() else {
            unreachable!("filtered")
        };
        assert!(error.error().matches(gst::ResourceError::Settings));
        let text = error.error().to_string();
        assert!(text.contains(device) && text.contains("cpu"), "{text}");
        element.set_state(gst::State::Null).unwrap();
    }
}

#[test]
fn a_buffer_that_is_too_short() {
    let mut fixture = Fixture::with_size(8, 8, &[]);
    let _ = fixture.harness.push(gst::Buffer::with_size(11).unwrap());
    let (error, text) = fixture.error();
    assert!(error.matches(gst::StreamError::Format), "{error:?}");
    assert!(text.contains("11 bytes") && text.contains("8x8"), "{text}");
    assert_eq!(push_until_error(&mut fixture), gst::FlowError::Error);
    assert_no_more_errors(&fixture);
}

#[test]
fn nothing_downstream_after_the_last_frame_went_in() {
    // Upstream does not ask for the flow after EOS, so the element itself has to say that nobody took the frames.
    let element = element(&[]);
    let bus = gst::Bus::new();
    element.set_bus(Some(&bus));
    let mut harness = gst_check::Harness::with_element(&element, Some("sink"), None);
    harness.play();
    harness.set_src_caps(caps(gst_video::VideoFormat::I420, 8, 8));
    let _ = harness.push(i420(8, 8, 0));
    let _ = harness.push_event(gst::event::Eos::new());
    let message = bus
        .timed_pop_filtered(crate::fixture::PATIENCE, &[gst::MessageType::Error])
        .unwrap();
    let gst::MessageView::Error(error) = message.view() else {
        unreachable!("filtered")
    };
    assert!(error.error().matches(gst::StreamError::Failed));
}
