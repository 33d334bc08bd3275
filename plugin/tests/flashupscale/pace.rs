// SPDX-License-Identifier: MPL-2.0
//! A live pipeline on a machine that is too slow: every frame is shown in its time, and gets what there is time for.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use flashvideo::enhance::drag;
use gst::prelude::*;

/// Seconds of each part; `FLASHVIDEO_PACE_SECONDS` makes them minutes.
fn seconds() -> u64 {
    let asked = std::env::var("FLASHVIDEO_PACE_SECONDS").ok();
    asked.and_then(|text| text.parse().ok()).unwrap_or(4)
}

const FRAME: Duration = Duration::from_millis(40);

/// The drag is the whole process's: one test at a time. It is taken off at the end.
struct Drag(#[allow(dead_code)] MutexGuard<'static, ()>);

impl Drag {
    /// Everything takes `full` frames' time longer, the lighter model `light`.
    fn new(full: f64, light: f64) -> Self {
        static ONE: Mutex<()> = Mutex::new(());
        let guard = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        let drag = Self(guard);
        drag.change(full, light);
        drag
    }

    fn change(&self, full: f64, light: f64) {
        drag::set(FRAME.mul_f64(full), FRAME.mul_f64(light));
    }
}

impl Drop for Drag {
    fn drop(&mut self) {
        drag::set(Duration::ZERO, Duration::ZERO);
    }
}

/// A camera's worth of frames into a sink that drops what is late, as windows do.
struct Live {
    pipeline: gst::Pipeline,
}

/// What happened since the last look.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Seen {
    shown: u64,
    dropped: u64,
    plain: u64,
    light: u64,
    full: u64,
}

impl Live {
    fn play(properties: &str) -> Self {
        gst::init().unwrap();
        gstflashvideo::plugin_register_static().unwrap();
        let pipeline = gst::parse::launch(&format!(
            "videotestsrc is-live=true pattern=ball ! video/x-raw,format=I420,width=32,height=16,framerate=25/1 \
             ! flashupscale name=enhance scale=2 {properties} ! fakesink name=sink sync=true qos=true max-lateness=20000000"
        ));
        let pipeline: gst::Pipeline = pipeline.unwrap().downcast().unwrap();
        pipeline.set_state(gst::State::Playing).unwrap();
        // The model is loaded meanwhile, and the latency settled.
        std::thread::sleep(Duration::from_secs(2));
        Self { pipeline }
    }

    fn seen(&self) -> Seen {
        let stats = |name: &str| {
            let element = self.pipeline.by_name(name).unwrap();
            element.property::<gst::Structure>("stats")
        };
        let (sink, enhance) = (stats("sink"), stats("enhance"));
        let count = |name: &str| enhance.get::<u64>(name).unwrap();
        Seen {
            shown: sink.get("rendered").unwrap(),
            dropped: sink.get("dropped").unwrap(),
            plain: count("plain-frames"),
            light: count("light-frames"),
            full: count("full-frames") + count("one-evaluation-frames"),
        }
    }

    /// What happens in so many seconds.
    fn watch(&self, seconds: f64) -> Seen {
        let before = self.seen();
        std::thread::sleep(Duration::from_secs_f64(seconds));
        let after = self.seen();
        Seen {
            shown: after.shown - before.shown,
            dropped: after.dropped - before.dropped,
            plain: after.plain - before.plain,
            light: after.light - before.light,
            full: after.full - before.full,
        }
    }

    fn messages(&self) -> Vec<gst::Message> {
        let bus = self.pipeline.bus().unwrap();
        std::iter::from_fn(|| bus.pop()).collect()
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.pipeline.set_state(gst::State::Null).unwrap();
    }
}

#[test]
fn whatever_the_load_frames_are_shown_in_their_time_and_the_best_comes_back() {
    let drag = Drag::new(0.0, 0.0);
    let live = Live::play("model=builtin");
    let calm = live.watch(2.0);
    assert!(calm.full > 25 && calm.dropped == 0, "{calm:?}");
    for load in [1.25, 2.0, 6.0] {
        drag.change(load, 0.3);
        // The first frames tell that there is too little time.
        live.watch(0.5);
        let seconds = seconds() as f64;
        let seen = live.watch(seconds);
        let due = 25.0 * seconds;
        eprintln!("{load} times too slow for {seconds} s: {seen:?}");
        assert!(
            seen.shown as f64 > 0.95 * due,
            "{load} times too slow: {seen:?}"
        );
        assert!((seen.dropped as f64) < 0.05 * due, "{load}: {seen:?}");
        assert!(seen.light as f64 > 0.7 * due, "{load}: {seen:?}");
        drag.change(0.0, 0.0);
        live.watch(2.0);
        let calm = live.watch(1.0);
        eprintln!("the third second after it: {calm:?}");
        assert!(calm.full > 20, "after {load}: {calm:?}");
    }
}

#[test]
fn where_even_the_light_model_is_too_slow_frames_are_resized_and_it_is_told_once() {
    let _drag = Drag::new(6.0, 4.0);
    let live = Live::play("model=builtin");
    let seen = live.watch(3.0);
    assert!(seen.shown > 70 && seen.dropped < 4, "{seen:?}");
    assert!(seen.plain > 60, "{seen:?}");
    let messages = live.messages();
    let texts: Vec<String> = messages
        .iter()
        .filter_map(|message| match message.view() {
            gst::MessageView::Warning(warning) => Some(warning.error().to_string()),
            _ => None,
        })
        .collect();
    assert_eq!(texts.len(), 1, "{texts:?}");
    assert!(
        texts[0].contains("of 25 frames/s can be enhanced here"),
        "{texts:?}"
    );
    assert!(
        messages
            .iter()
            .any(|message| message.type_() == gst::MessageType::Qos)
    );
}

#[test]
fn never_means_everything() {
    let _drag = Drag::new(2.0, 0.0);
    let live = Live::play("model=builtin adaptive=never");
    let seen = live.watch(2.0);
    assert_eq!((seen.plain, seen.light), (0, 0), "{seen:?}");
}

#[test]
fn files_get_everything_however_long_it_takes() {
    let _drag = Drag::new(1.5, 0.0);
    gst::init().unwrap();
    gstflashvideo::plugin_register_static().unwrap();
    for properties in ["model=builtin", "preset=live adaptive=always"] {
        let pipeline = gst::parse::launch(&format!(
            "videotestsrc num-buffers=12 ! video/x-raw,format=I420,width=32,height=16,framerate=25/1 \
             ! flashupscale name=enhance {properties} ! fakesink"
        ));
        let pipeline: gst::Pipeline = pipeline.unwrap().downcast().unwrap();
        pipeline.set_state(gst::State::Playing).unwrap();
        let bus = pipeline.bus().unwrap();
        let ends = [gst::MessageType::Eos, gst::MessageType::Error];
        let end = bus.timed_pop_filtered(gst::ClockTime::from_seconds(60), &ends);
        assert_eq!(end.unwrap().type_(), gst::MessageType::Eos);
        let stats: gst::Structure = pipeline.by_name("enhance").unwrap().property("stats");
        assert_eq!(stats.get::<u64>("frames"), Ok(12));
        if properties == "model=builtin" {
            assert_eq!(stats.get::<u64>("plain-frames"), Ok(0), "{stats}");
        }
        pipeline.set_state(gst::State::Null).unwrap();
    }
}
