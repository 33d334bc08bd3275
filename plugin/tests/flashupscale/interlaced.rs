// SPDX-License-Identifier: MPL-2.0
//! Interlaced video is refused by one message, which says what to do.

use std::sync::mpsc;

use gst::prelude::*;

use crate::fixture::{PATIENCE, init};

/// The errors of a pipeline until the end of the stream, as the element called `e` sees it: a source posts what it has to say,
/// then it sends EOS.
fn errors(line: &str) -> Vec<String> {
    init();
    let pipeline = gst::parse::launch(line).unwrap_or_else(|error| panic!("{line}: {error}"));
    let pipeline = pipeline.downcast::<gst::Pipeline>().unwrap();
    let (ended, end) = mpsc::channel();
    let sink = pipeline.by_name("e").unwrap().static_pad("sink").unwrap();
    sink.add_probe(gst::PadProbeType::EVENT_DOWNSTREAM, move |_, info| {
        if let Some(gst::PadProbeData::Event(event)) = &info.data
            && event.type_() == gst::EventType::Eos
        {
            let _ = ended.send(());
        }
        gst::PadProbeReturn::Ok
    });
    pipeline.set_state(gst::State::Playing).unwrap();
    end.recv_timeout(PATIENCE.into())
        .unwrap_or_else(|_| panic!("{line}: no end"));
    let bus = pipeline.bus().unwrap();
    let errors = std::iter::from_fn(|| bus.pop_filtered(&[gst::MessageType::Error]))
        .map(|message| match message.view() {
            gst::MessageView::Error(error) => error.error().to_string(),
            _ => unreachable!("filtered"),
        })
        .collect();
    pipeline.set_state(gst::State::Null).unwrap();
    errors
}

const INTERLACED: &str = "videotestsrc num-buffers=20 ! video/x-raw,format=I420,width=16,height=16,\
                          interlace-mode=interleaved";

#[test]
fn one_error_names_the_remedy_whatever_is_in_front() {
    for before in [
        "",
        "videoconvert !",
        "videoscale !",
        "videoconvert ! videoscale ! videorate !",
        "queue ! videoconvert ! queue !",
        "tee !",
    ] {
        for after in [
            "fakesink",
            "videoconvert ! fakesink",
            "video/x-raw,width=64,height=64 ! fakesink",
        ] {
            let line = format!("{INTERLACED} ! {before} flashupscale name=e preset=live ! {after}");
            let errors = errors(&line);
            assert_eq!(errors.len(), 1, "{line}: {errors:?}");
            assert!(errors[0].contains("`deinterlace`"), "{line}: {errors:?}");
        }
    }
}

#[test]
fn mixed_video_is_interlaced() {
    let line = INTERLACED.replace("interleaved", "mixed");
    let errors = errors(&format!(
        "{line} ! videoconvert ! flashupscale name=e preset=live ! fakesink"
    ));
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert!(errors[0].contains("mixed"), "{errors:?}");
}

#[test]
fn the_remedy_is_one() {
    if gst::ElementFactory::find("deinterlace").is_none() {
        init();
        println!("skipped: there is no element deinterlace");
        return;
    }
    for before in [
        "deinterlace !",
        "videoconvert ! deinterlace !",
        "deinterlace ! videoconvert !",
    ] {
        let line = format!("{INTERLACED} ! {before} flashupscale name=e preset=live ! fakesink");
        assert_eq!(errors(&line), Vec::<String>::new(), "{line}");
    }
}

#[test]
fn who_can_send_whole_frames_sends_them() {
    init();
    for modes in [
        "{interleaved,progressive}",
        "{mixed,interleaved,progressive}",
    ] {
        let line = format!(
            "videotestsrc num-buffers=2 ! capsfilter caps=\"video/x-raw,width=16,height=16,interlace-mode={modes}\" ! \
             flashupscale name=e preset=live ! fakesink"
        );
        assert_eq!(errors(&line), Vec::<String>::new(), "{line}");
    }
}
