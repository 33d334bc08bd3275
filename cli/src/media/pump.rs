// SPDX-License-Identifier: MPL-2.0
//! Decoded frames through `flashupscale`: `appsrc ! flashupscale ! capsfilter ! appsink`.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, bail};
use gst::prelude::*;

use super::enhancer::Options;
use super::run::describe;
use crate::ffmpeg::decode::Decoder;
use crate::ffmpeg::raw::RawVideo;
use crate::interrupt;

/// A frame before and after.
#[derive(Debug)]
pub struct Pair {
    /// Ticks of its time.
    pub pts: i64,
    /// As it was decoded.
    pub small: gst::Buffer,
    /// As it was enhanced.
    pub large: gst::Buffer,
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All frames went through.
    Finished,
    /// The taker of the frames wants no more.
    Enough,
    /// Ctrl-C.
    Interrupted,
}

/// What a taker of frames wants next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// The next frame.
    More,
    /// Nothing.
    Enough,
}

type Waiting = Arc<Mutex<VecDeque<(i64, gst::Buffer)>>>;

/// Enhances all frames of `decoder` to the size of `output` and hands each to `take`, in order. Warnings go to `say`.
/// The decoder comes back for its last words.
///
/// # Errors
/// What the element, the decoder or `take` says.
pub fn enhance(
    decoder: Decoder,
    options: &Options,
    output: &RawVideo,
    say: &dyn Fn(&str),
    mut take: impl FnMut(Pair) -> Result<Next>,
) -> Result<(Outcome, Decoder)> {
    let video = decoder.video().clone();
    let source = gst_app::AppSrc::builder()
        .caps(&video.caps()?)
        .format(gst::Format::Time)
        .block(true)
        .max_buffers(2)
        .max_bytes(0)
        .build();
    let enhancer = options.element()?;
    let size = super::elements::make("capsfilter")?;
    size.set_property(
        "caps",
        super::elements::size_caps(output.width, output.height),
    );
    // Large frames: none waits but the one that is taken next.
    let sink = gst_app::AppSink::builder()
        .sync(false)
        .max_buffers(1)
        .build();
    let chain = [
        source.clone().upcast(),
        enhancer,
        size,
        sink.clone().upcast::<gst::Element>(),
    ];
    let pipeline = gst::Pipeline::with_name("enhance");
    pipeline.add_many(&chain)?;
    gst::Element::link_many(&chain)?;
    let bus = pipeline.bus().context("a pipeline without a bus")?;
    if pipeline.set_state(gst::State::Playing).is_err() {
        let reason = bus.pop_filtered(&[gst::MessageType::Error]);
        // An element may only be dropped at rest.
        let _ = pipeline.set_state(gst::State::Null);
        bail!(reason.map_or_else(
            || "the enhancer does not start".into(),
            |message| describe(&message, &[])
        ));
    }

    let waiting: Waiting = Arc::default();
    let feeder = {
        let waiting = Arc::clone(&waiting);
        std::thread::spawn(move || feed(decoder, &video, &source, &waiting))
    };
    let taken = drain(&bus, &sink, &waiting, say, &mut take);
    // Wakes the feeder, wherever it waits.
    let stopped = pipeline.set_state(gst::State::Null);
    let (decoder, fed) = feeder
        .join()
        .map_err(|_| anyhow::anyhow!("the decoder's thread panicked"))?;
    let outcome = taken?;
    stopped.context("stopping the enhancer")?;
    if outcome == Outcome::Finished {
        fed?;
    }
    Ok((outcome, decoder))
}

/// Hands the decoder's frames to the pipeline until one of the two ends.
fn feed(
    mut decoder: Decoder,
    video: &RawVideo,
    source: &gst_app::AppSrc,
    waiting: &Waiting,
) -> (Decoder, Result<()>) {
    let fed = (|| {
        while let Some(frame) = decoder.next_frame()? {
            let pts = frame.pts;
            let buffer = video.buffer(frame)?;
            lock(waiting).push_back((pts, buffer.clone()));
            if source.push_buffer(buffer).is_err() {
                return Ok(()); // The pipeline is being stopped, and knows why.
            }
        }
        Ok(())
    })();
    // Refused where the pipeline is being stopped.
    let _ = source.end_of_stream();
    (decoder, fed)
}

fn lock(waiting: &Waiting) -> std::sync::MutexGuard<'_, VecDeque<(i64, gst::Buffer)>> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

fn drain(
    bus: &gst::Bus,
    sink: &gst_app::AppSink,
    waiting: &Waiting,
    say: &dyn Fn(&str),
    take: &mut impl FnMut(Pair) -> Result<Next>,
) -> Result<Outcome> {
    loop {
        while let Some(message) = bus.pop() {
            match message.view() {
                gst::MessageView::Error(_) => bail!(describe(&message, &[])),
                gst::MessageView::Warning(warning) => say(&warning.error().to_string()),
                _ => {}
            }
        }
        if interrupt::wanted() {
            return Ok(Outcome::Interrupted);
        }
        let Some(sample) = sink.try_pull_sample(gst::ClockTime::from_mseconds(50)) else {
            if sink.is_eos() {
                // An error that came with the end is the reason for it.
                if let Some(message) = bus.pop_filtered(&[gst::MessageType::Error]) {
                    bail!(describe(&message, &[]));
                }
                return Ok(Outcome::Finished);
            }
            continue;
        };
        let large = sample.buffer_owned().context("a sample without a frame")?;
        let (pts, small) = lock(waiting)
            .pop_front()
            .context("a frame more than was decoded")?;
        if take(Pair { pts, small, large })? == Next::Enough {
            return Ok(Outcome::Enough);
        }
    }
}
