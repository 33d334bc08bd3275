// SPDX-License-Identifier: MPL-2.0
//! `flashupscale` among the elements people use it with.

use std::sync::Once;

use gst::prelude::*;

const PATIENCE: gst::ClockTime = gst::ClockTime::from_seconds(180);
const SMALL: &str = "video/x-raw,format=I420,width=32,height=24,framerate=25/1";

fn init() {
    static INIT: Once = Once::new();
    INIT.call_once(|| {
        gst::init().unwrap();
        gstflashvideo::plugin_register_static().unwrap();
    });
}

fn launch(line: &str) -> gst::Pipeline {
    init();
    gst::parse::launch(line)
        .unwrap_or_else(|e| panic!("{line}: {e}"))
        .downcast::<gst::Pipeline>()
        .unwrap()
}

/// Runs until EOS; an error on the bus fails the test.
fn run_to_eos(pipeline: &gst::Pipeline) {
    pipeline.set_state(gst::State::Playing).unwrap();
    wait_for_eos(pipeline);
}

fn wait_for_eos(pipeline: &gst::Pipeline) {
    let message = pipeline
        .bus()
        .unwrap()
        .timed_pop_filtered(PATIENCE, &[gst::MessageType::Eos, gst::MessageType::Error])
        .expect("EOS in time");
    assert_eq!(message.type_(), gst::MessageType::Eos, "{message:?}");
}

/// The frames that arrived at the appsink `sink`: width, height, PTS.
fn samples(pipeline: &gst::Pipeline) -> Vec<(i32, i32, Option<gst::ClockTime>)> {
    let sink = pipeline
        .by_name("sink")
        .unwrap()
        .downcast::<gst_app::AppSink>()
        .unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    let mut frames = Vec::new();
    while let Some(sample) = sink.try_pull_sample(PATIENCE) {
        let structure = sample.caps().unwrap().structure(0).unwrap();
        frames.push((
            structure.get("width").unwrap(),
            structure.get("height").unwrap(),
            sample.buffer().unwrap().pts(),
        ));
    }
    wait_for_eos(pipeline);
    pipeline.set_state(gst::State::Null).unwrap();
    frames
}

fn pad_size(pipeline: &gst::Pipeline, pad: &str) -> (i32, i32) {
    let element = pipeline.by_name("up").unwrap();
    let caps = element.static_pad(pad).unwrap().current_caps().unwrap();
    let s = caps.structure(0).unwrap();
    (s.get("width").unwrap(), s.get("height").unwrap())
}

#[test]
fn encoded_and_decoded_again() {
    let pipeline = launch(&format!(
        "videotestsrc num-buffers=12 ! {SMALL} ! flashupscale preset=live scale=2 ! x264enc bframes=2 ! h264parse ! \
         avdec_h264 ! appsink name=sink sync=false"
    ));
    let frames = samples(&pipeline);
    assert_eq!(frames.len(), 12);
    assert!(frames.iter().all(|(w, h, _)| (*w, *h) == (64, 48)));
    assert!(frames.windows(2).all(|pair| pair[0].2 < pair[1].2));
}

#[test]
fn a_file_from_end_to_end_with_a_seek() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("small.mp4");
    let path = path.to_str().unwrap();
    let encode = launch(&format!(
        "videotestsrc num-buffers=50 ! {SMALL} ! x264enc key-int-max=10 ! mp4mux ! filesink location={path}"
    ));
    run_to_eos(&encode);
    encode.set_state(gst::State::Null).unwrap();

    let pipeline = launch(&format!(
        "filesrc location={path} ! decodebin ! videoconvert ! flashupscale preset=live scale=2 ! appsink name=sink sync=false"
    ));
    pipeline.set_state(gst::State::Paused).unwrap();
    pipeline.state(PATIENCE).0.unwrap();
    pipeline
        .seek_simple(
            gst::SeekFlags::FLUSH | gst::SeekFlags::ACCURATE,
            gst::ClockTime::from_seconds(1),
        )
        .unwrap();
    pipeline.state(PATIENCE).0.unwrap();
    let frames = samples(&pipeline);
    assert_eq!(frames.len(), 25);
}

#[test]
fn a_scaler_upstream_leaves_the_enlarging_to_us() {
    let pipeline = launch(&format!(
        "videotestsrc num-buffers=2 ! {SMALL} ! videoconvert ! videoscale ! flashupscale name=up preset=live ! \
         video/x-raw,width=100,height=70 ! fakesink"
    ));
    run_to_eos(&pipeline);
    assert_eq!(pad_size(&pipeline, "sink"), (32, 24));
    assert_eq!(pad_size(&pipeline, "src"), (100, 70));
    pipeline.set_state(gst::State::Null).unwrap();
}

#[test]
fn a_queue_that_waits_for_many_frames_fills() {
    // More frames than a bounded pool would have.
    let pipeline = launch(&format!(
        "videotestsrc num-buffers=40 ! {SMALL} ! flashupscale preset=live scale=2 ! \
         queue min-threshold-buffers=30 ! appsink name=sink sync=false"
    ));
    assert_eq!(samples(&pipeline).len(), 40);
}

#[test]
fn converters_find_a_common_format_on_both_sides() {
    let pipeline = launch(
        "videotestsrc num-buffers=3 ! video/x-raw,format=AYUV,width=16,height=12 ! videoconvert ! \
         flashupscale preset=live ! videoconvert ! video/x-raw,format=UYVY ! appsink name=sink sync=false",
    );
    let frames = samples(&pipeline);
    assert_eq!(frames.len(), 3);
    assert!(frames.iter().all(|(w, h, _)| (*w, *h) == (64, 48)));
}

#[test]
fn a_live_source_gets_latency() {
    let pipeline = launch(
        "videotestsrc is-live=true num-buffers=8 ! video/x-raw,format=I420,width=8,height=8,framerate=10/1 ! \
         flashupscale preset=live scale=2 ! fakesink name=end sync=true qos=false",
    );
    run_to_eos(&pipeline);
    let mut query = gst::query::Latency::new();
    assert!(pipeline.query(&mut query));
    let (live, min, _) = query.result();
    assert!(live);
    assert!(min >= gst::ClockTime::from_mseconds(100), "{min}");
    let stats = pipeline
        .by_name("end")
        .unwrap()
        .property::<gst::Structure>("stats");
    assert_eq!(
        stats.get::<u64>("rendered").unwrap() + stats.get::<u64>("dropped").unwrap(),
        8
    );
    pipeline.set_state(gst::State::Null).unwrap();
}

#[test]
fn two_elements_in_a_row() {
    let pipeline = launch(&format!(
        "videotestsrc num-buffers=5 ! {SMALL} ! flashupscale preset=live scale=2 ! flashupscale name=up preset=live scale=1.5 ! \
         appsink name=sink sync=false"
    ));
    let frames = samples(&pipeline);
    assert_eq!(frames.len(), 5);
    assert!(frames.iter().all(|(w, h, _)| (*w, *h) == (96, 72)));
}

#[test]
fn tags_reach_the_other_side() {
    let pipeline = launch(&format!(
        "videotestsrc num-buffers=3 ! {SMALL} ! taginject tags=\"title=garden\" ! flashupscale name=up preset=live ! fakesink"
    ));
    run_to_eos(&pipeline);
    let pad = pipeline.by_name("up").unwrap().static_pad("src").unwrap();
    let tag = pad.sticky_event::<gst::event::Tag>(0).unwrap();
    assert_eq!(tag.tag().get::<gst::tags::Title>().unwrap().get(), "garden");
    pipeline.set_state(gst::State::Null).unwrap();
}

#[test]
fn an_error_stops_the_pipeline_cleanly() {
    let pipeline = launch(&format!(
        "videotestsrc ! {SMALL} ! flashupscale name=up model=/no/such/folder ! fakesink"
    ));
    let _ = pipeline.set_state(gst::State::Playing);
    let message = pipeline
        .bus()
        .unwrap()
        .timed_pop_filtered(PATIENCE, &[gst::MessageType::Error])
        .unwrap();
    assert_eq!(
        message.src(),
        pipeline.by_name("up").as_ref().map(|e| e.upcast_ref())
    );
    pipeline.set_state(gst::State::Null).unwrap();
}
