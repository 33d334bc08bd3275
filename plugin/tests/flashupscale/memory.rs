// SPDX-License-Identifier: MPL-2.0
//! Too little memory is an answer: slower work with a warning, then an error with what to do.

use std::process::Command;

use flashvideo::{Enhancer, FrameFormat, Progress, Runtime, Size, Target};
use gst::prelude::*;
use gst::subclass::prelude::*;

use crate::fixture::{Fixture, PATIENCE, caps, i420};

const WIDTH: u32 = 160;
const HEIGHT: u32 = 120;

/// Runs an ignored test of this file in a process that may take `mib` MiB.
fn with_limit(test: &str, mib: u64) {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--ignored", "--nocapture"])
        .env(flashvideo::plan::memory::LIMIT_VARIABLE, mib.to_string())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "with {mib} MiB: {text}");
}

#[test]
fn no_memory_at_all_is_an_error() {
    with_limit("memory::a_picture_that_does_not_fit", 1);
}

#[test]
#[ignore = "run by no_memory_at_all_is_an_error with a limit on memory"]
fn a_picture_that_does_not_fit() {
    let mut fixture = Fixture::with_size(WIDTH, HEIGHT, &[]);
    let flow = (0..1000).find_map(|index| fixture.harness.push(i420(WIDTH, HEIGHT, index)).err());
    assert_eq!(flow, Some(gst::FlowError::Error));
    let (error, text) = fixture.error();
    assert!(error.matches(gst::ResourceError::NoSpaceLeft), "{error:?}");
    assert!(
        text.contains("640x480") && text.contains("MiB") && text.contains("smaller target size"),
        "{text}"
    );
    fixture.element.set_state(gst::State::Null).unwrap();
    assert!(fixture.harness.try_pull().is_none());
}

#[test]
fn little_memory_is_a_warning() {
    let runtime = Runtime::cpu().unwrap();
    let model = Enhancer::load("builtin:live", &runtime, &Progress::none()).unwrap();
    // By three: what the model makes is resized, and so has to be in memory, whole or in strips.
    let size = Size::new(2 * WIDTH as usize, 2 * HEIGHT as usize);
    let needed = model
        .memory_needed(&FrameFormat::i420(), size, Target::Scale(3.0))
        .unwrap();
    // A quarter stays free for the rest of the pipeline; half of what is needed is left.
    with_limit(
        "memory::a_picture_in_strips",
        (needed / 2 / 3 * 4).div_ceil(1 << 20),
    );
}

#[test]
#[ignore = "run by little_memory_is_a_warning with a limit on memory"]
fn a_picture_in_strips() {
    let (width, height) = (2 * WIDTH, 2 * HEIGHT);
    let mut fixture = Fixture::with_size(width, height, &[("scale", "3")]);
    for index in 0..2 {
        fixture.harness.push(i420(width, height, index)).unwrap();
    }
    let buffers = fixture.finish();
    assert_eq!(buffers.len(), 2, "no frame is dropped to save memory");
    let message = fixture
        .bus
        .timed_pop_filtered(
            PATIENCE,
            &[gst::MessageType::Warning, gst::MessageType::Error],
        )
        .unwrap();
    let gst::MessageView::Warning(warning) = message.view() else {
        panic!("{message:?}")
    };
    assert!(warning.error().to_string().contains("strips"));
    // Once for the stream, not for each frame.
    assert!(
        fixture
            .bus
            .pop_filtered(&[gst::MessageType::Warning])
            .is_none()
    );
}

/// In MiB: enough for one evaluation of a frame of [`EIGHT_TIMES_TOO_LARGE`] in any number type, and too little for eight,
/// which depend on more rows.
const ONE_EVALUATION: u64 = 16;
const EIGHT_TIMES_TOO_LARGE: (u32, u32) = (1024, 128);

#[test]
fn settings_that_do_not_fit_are_refused() {
    with_limit("memory::evaluations_that_do_not_fit", ONE_EVALUATION);
}

#[test]
#[ignore = "run by settings_that_do_not_fit_are_refused with a limit on memory"]
fn evaluations_that_do_not_fit() {
    let (width, height) = EIGHT_TIMES_TOO_LARGE;
    let mut fixture = Fixture::with_size(width, height, &[("threads", "1"), ("steps", "1")]);
    let mut enhance = |steps: u32, index| {
        fixture.element.set_property("steps", steps);
        fixture.harness.push(i420(width, height, index)).unwrap();
        fixture.harness.pull().unwrap();
        (
            fixture.stats::<u32>("steps"),
            fixture.stats::<u64>("evaluations"),
        )
    };
    let (steps, each) = enhance(1, 0);
    assert_eq!(steps, 1);
    assert_eq!(
        enhance(8, 1),
        (1, 2 * each),
        "the old settings are in force"
    );
    assert_eq!(enhance(8, 2), (1, 3 * each));
    assert_eq!(enhance(1, 3), (1, 4 * each));
    let warnings = std::iter::from_fn(|| fixture.bus.pop_filtered(&[gst::MessageType::Warning]));
    let refusals: Vec<String> = warnings
        .filter_map(|message| match message.view() {
            gst::MessageView::Warning(warning) => Some(warning.error().to_string()),
            _ => None,
        })
        .filter(|text| text.contains("the old settings stay"))
        .collect();
    // Once, not for each frame.
    assert_eq!(refusals.len(), 1, "{refusals:?}");
    assert!(refusals[0].contains("MiB"), "{refusals:?}");
}

mod exhausted {
    use super::*;

    /// A pool whose memory is used up after two buffers.
    #[derive(Default)]
    pub struct Pool(std::sync::atomic::AtomicUsize);

    #[glib::object_subclass]
    impl ObjectSubclass for Pool {
        const NAME: &'static str = "FlashUpscaleTestExhaustedPool";
        type Type = super::ExhaustedPool;
        type ParentType = gst::BufferPool;
    }

    impl ObjectImpl for Pool {}
    impl GstObjectImpl for Pool {}
    impl BufferPoolImpl for Pool {
        fn alloc_buffer(
            &self,
            params: Option<&gst::BufferPoolAcquireParams>,
        ) -> Result<gst::Buffer, gst::FlowError> {
            if self.0.fetch_add(1, std::sync::atomic::Ordering::SeqCst) < 2 {
                self.parent_alloc_buffer(params)
            } else {
                Err(gst::FlowError::Error)
            }
        }
    }
}

glib::wrapper! {
    pub struct ExhaustedPool(ObjectSubclass<exhausted::Pool>) @extends gst::BufferPool, gst::Object;
}

#[test]
fn no_buffer_for_a_frame_is_an_error() {
    let mut fixture = Fixture::new(&[]);
    let pool = glib::Object::new::<ExhaustedPool>().upcast::<gst::BufferPool>();
    let src = fixture.element.static_pad("src").unwrap();
    let size = 32 * 32 * 3 / 2;
    src.add_probe(gst::PadProbeType::QUERY_DOWNSTREAM, move |_, info| {
        if let Some(gst::PadProbeData::Query(query)) = &mut info.data
            && let gst::QueryViewMut::Allocation(query) = query.view_mut()
        {
            query.add_allocation_pool(Some(&pool), size, 0, 0);
            return gst::PadProbeReturn::Handled;
        }
        gst::PadProbeReturn::Ok
    });
    // Only now: the pool is chosen as soon as caps have arrived.
    fixture
        .harness
        .set_src_caps(caps(gst_video::VideoFormat::I420, 8, 8));
    // The harness keeps what arrives, so the pool gets nothing back.
    let flow = (0..1000).find_map(|index| fixture.harness.push(i420(8, 8, index)).err());
    assert_eq!(flow, Some(gst::FlowError::Error));
    let (error, text) = fixture.error();
    assert!(error.matches(gst::ResourceError::NoSpaceLeft), "{error:?}");
    assert!(text.contains("32x32") && text.contains("smaller"), "{text}");
    fixture.element.set_state(gst::State::Null).unwrap();
    let given = std::iter::from_fn(|| fixture.harness.try_pull()).count();
    assert_eq!(given, 2);
}

#[test]
fn nothing_of_a_stream_stays_because_nobody_reads_the_bus() {
    let mut fixture = Fixture::new(&[("bypass", "true")]);
    let pool = gst_video::VideoBufferPool::new().upcast::<gst::BufferPool>();
    let offered = pool.clone();
    let src = fixture.element.static_pad("src").unwrap();
    src.add_probe(gst::PadProbeType::QUERY_DOWNSTREAM, move |_, info| {
        if let Some(gst::PadProbeData::Query(query)) = &mut info.data
            && let gst::QueryViewMut::Allocation(query) = query.view_mut()
        {
            query.add_allocation_pool(Some(&offered), 32 * 32 * 3 / 2, 0, 0);
            return gst::PadProbeReturn::Handled;
        }
        gst::PadProbeReturn::Ok
    });
    fixture
        .harness
        .set_src_caps(caps(gst_video::VideoFormat::I420, 8, 8));
    fixture.harness.push(i420(8, 8, 0)).unwrap();
    fixture.harness.pull().unwrap();
    assert!(pool.is_active());
    // Messages on the bus, which hold the task, are still there.
    fixture.element.set_state(gst::State::Ready).unwrap();
    assert!(!pool.is_active());
}
