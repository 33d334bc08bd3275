// SPDX-License-Identifier: MPL-2.0
//! Random sequences of what hosts do, in a process of its own under the leaks tracer. One that fails is made shorter as long as
//! it fails, and printed.
//!
//! `FLASHVIDEO_SOAK` is how many there are, `FLASHVIDEO_SEED` which ones; a soak draws a seed of its own, and prints it.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, mpsc};
use std::time::Duration;

use gst::prelude::*;
use gst_video::VideoInfo;
use proptest::strategy::Strategy;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};

const SEQUENCES: u32 = 300;
/// Far more than a sequence takes, and what is waited for in it: longer is for ever.
const PATIENCE: Duration = Duration::from_secs(15);

/// What GLib and GStreamer have warned of.
static WARNINGS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// What an environment variable says, if it is a number.
fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Runs `test` on random values of `strategy`.
pub fn check<S: Strategy>(strategy: S, test: fn(S::Value) -> Result<(), String>)
where
    S::Value: Debug + Send + 'static,
{
    super::init();
    glib::log_set_default_handler(|domain, level, text| {
        let serious = [
            glib::LogLevel::Error,
            glib::LogLevel::Critical,
            glib::LogLevel::Warning,
        ];
        if serious.contains(&level) {
            let text = format!("{}: {text}", domain.unwrap_or_default());
            WARNINGS.lock().unwrap().push(text);
        }
    });
    let soak = number("FLASHVIDEO_SOAK").and_then(|cases| u32::try_from(cases).ok());
    let fresh = || soak.map_or(0, |_| RandomState::new().build_hasher().finish());
    let seed = number("FLASHVIDEO_SEED").unwrap_or_else(fresh);
    let config = Config {
        cases: soak.unwrap_or(SEQUENCES),
        failure_persistence: None,
        max_shrink_iters: 300,
        max_shrink_time: 60_000,
        ..Config::default()
    };
    eprintln!("{} sequences, FLASHVIDEO_SEED={seed}", config.cases);
    let seed: Vec<u8> = seed.to_le_bytes().into_iter().cycle().take(32).collect();
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &seed);
    let mut runner = TestRunner::new_with_rng(config, rng);
    let result = runner.run(&strategy, |value| {
        guarded(value, test).map_err(TestCaseError::fail)
    });
    if let Err(error) = result {
        panic!("{error}");
    }
}

/// Runs `test` in a thread of its own, so that what hangs is seen.
fn guarded<V: Debug + Send + 'static>(
    value: V,
    test: fn(V) -> Result<(), String>,
) -> Result<(), String> {
    let shown = format!("{value:?}");
    let (done, end) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        let _ = done.send(test(value));
    });
    let result = match end.recv_timeout(4 * PATIENCE) {
        Ok(result) => result,
        Err(mpsc::RecvTimeoutError::Timeout) => {
            // What hangs is in the way of all that follows, and to wait for it again and again would take hours.
            eprintln!("it hangs: {shown}");
            std::process::exit(1);
        }
        Err(mpsc::RecvTimeoutError::Disconnected) => {
            let panic = thread.join().unwrap_err();
            let text = panic.downcast_ref::<String>().cloned();
            Err(text.unwrap_or_else(|| "a panic".to_owned()))
        }
    };
    let warnings = std::mem::take(&mut *WARNINGS.lock().unwrap());
    match warnings.first() {
        Some(warning) if result.is_ok() => Err(warning.clone()),
        _ => result,
    }
}

/// What the pads behind an element saw and shall answer.
#[derive(Default)]
struct Seen {
    answers: VecDeque<gst::FlowError>,
    /// Caps that can be had; any where there are none.
    open: Option<gst::Caps>,
    slow: Duration,
    info: Option<VideoInfo>,
    numbers: Vec<u64>,
    eos: bool,
    problem: Option<String>,
}

/// What is behind an element, one pad after the other.
#[derive(Clone)]
pub struct Downstream {
    seen: Arc<(Mutex<Seen>, Condvar)>,
    /// Whether frames and marks have rising numbers.
    numbered: bool,
}

impl Downstream {
    pub fn new(numbered: bool) -> Self {
        Self {
            seen: Arc::default(),
            numbered,
        }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.0.lock().unwrap()
    }

    /// The next frames are answered so.
    pub fn answer(&self, answers: impl IntoIterator<Item = gst::FlowError>) {
        self.seen().answers.extend(answers);
    }

    /// Only `caps` from now on.
    pub fn open(&self, caps: Option<gst::Caps>) {
        self.seen().open = caps;
    }

    /// Each frame takes so long.
    pub fn slow(&self, time: Duration) {
        self.seen().slow = time;
    }

    /// All is taken again, and quickly.
    pub fn recover(&self) {
        let mut seen = self.seen();
        seen.answers.clear();
        seen.open = None;
        seen.slow = Duration::ZERO;
    }

    /// What was not as it should be.
    pub fn problem(&self) -> Option<String> {
        self.seen().problem.clone()
    }

    /// Waits for EOS, or until there are `count` frames and marks; the numbers of them all.
    pub fn wait(&self, count: usize, eos: bool) -> Result<Vec<u64>, String> {
        let enough = |seen: &mut Seen| {
            if eos {
                !seen.eos
            } else {
                seen.numbers.len() < count
            }
        };
        let (changed, guard) = (&self.seen.1, self.seen());
        let (seen, timeout) = changed
            .wait_timeout_while(guard, PATIENCE, enough)
            .map_err(|error| error.to_string())?;
        if timeout.timed_out() {
            return Err(format!("nothing after {:?}", seen.numbers.last()));
        }
        Ok(seen.numbers.clone())
    }

    /// How many frames and marks there were.
    #[allow(dead_code, reason = "only one of the two elements' tests asks for it")]
    pub fn count(&self) -> usize {
        self.seen().numbers.len()
    }

    /// How many frames and marks there were; that there was an EOS is forgotten.
    pub fn restart(&self) -> usize {
        let mut seen = self.seen();
        seen.eos = false;
        seen.numbers.len()
    }

    /// A new, active pad.
    pub fn pad(&self) -> gst::Pad {
        let (on_frame, on_event, on_query) = (self.clone(), self.clone(), self.clone());
        let pad = gst::Pad::builder(gst::PadDirection::Sink)
            .chain_function(move |_, _, buffer| on_frame.frame(&buffer))
            .event_function(move |_, _, event| on_event.event(&event))
            .query_function(move |pad, _, query| on_query.query(pad, query))
            .build();
        pad.set_active(true).unwrap();
        pad
    }

    fn frame(&self, buffer: &gst::BufferRef) -> Result<gst::FlowSuccess, gst::FlowError> {
        let (answer, slow) = {
            let mut seen = self.seen();
            let size = seen.info.as_ref().map(VideoInfo::size);
            if size.is_none_or(|size| size > buffer.size()) {
                let problem = format!("{} bytes for {:?}", buffer.size(), seen.info);
                seen.tell(problem);
            }
            if seen.eos {
                seen.tell("a frame after EOS".to_owned());
            }
            self.number(&mut seen, buffer.offset());
            let answer = seen.answers.pop_front();
            (answer, seen.slow)
        };
        self.seen.1.notify_all();
        if !slow.is_zero() {
            std::thread::sleep(slow);
        }
        answer.map_or(Ok(gst::FlowSuccess::Ok), Err)
    }

    fn number(&self, seen: &mut Seen, number: u64) {
        if self.numbered
            && let Some(last) = seen.numbers.last()
            && *last >= number
        {
            seen.tell(format!("{number} after {last}"));
        }
        seen.numbers.push(number);
    }

    fn event(&self, event: &gst::Event) -> bool {
        let mut seen = self.seen();
        match event.view() {
            gst::EventView::Caps(caps) => match VideoInfo::from_caps(caps.caps()) {
                Ok(info) => seen.info = Some(info),
                Err(error) => seen.tell(error.to_string()),
            },
            gst::EventView::Eos(_) => seen.eos = true,
            gst::EventView::StreamStart(_)
            | gst::EventView::Segment(_)
            | gst::EventView::FlushStop(_) => seen.eos = false,
            gst::EventView::CustomDownstream(mark) => {
                let number = mark
                    .structure()
                    .and_then(|mark| mark.get::<u64>("number").ok());
                if let Some(number) = number {
                    self.number(&mut seen, number);
                }
            }
            _ => {}
        }
        drop(seen);
        self.seen.1.notify_all();
        true
    }

    fn query(&self, pad: &gst::Pad, query: &mut gst::QueryRef) -> bool {
        let open = self.seen().open.clone();
        match (query.view_mut(), open) {
            (gst::QueryViewMut::Caps(query), open) => {
                let open = open.unwrap_or_else(gst::Caps::new_any);
                let caps = match query.filter_owned() {
                    Some(filter) => {
                        filter.intersect_with_mode(&open, gst::CapsIntersectMode::First)
                    }
                    None => open,
                };
                query.set_result(&caps);
                true
            }
            (gst::QueryViewMut::AcceptCaps(query), open) => {
                let caps = query.caps_owned();
                query.set_result(open.is_none_or(|open| caps.can_intersect(&open)));
                true
            }
            _ => gst::Pad::query_default(pad, None::<&gst::Object>, query),
        }
    }
}

impl Seen {
    fn tell(&mut self, problem: String) {
        self.problem.get_or_insert(problem);
    }
}
