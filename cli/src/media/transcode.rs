// SPDX-License-Identifier: MPL-2.0
//! The pipeline of `enhance`: one video stream through `flashupscale`, everything else kept as it is where the output
//! format can carry it.
//!
//! ```text
//! filesrc ! parsebin ─┬─ queue ! decodebin ! deinterlace ! videoflip ! flashupscale ! convert ! encoder ─┬─ muxer ! filesink
//!                     ├─ queue ──────────────────────────────── audio as it is ──────────────────────────┤
//!                     └─ queue ────────────────────────────── subtitles as they are ─────────────────────┘
//! ```
//!
//! `parsebin` gives the streams still encoded, all of them before the first data flows, so the muxer knows every track
//! when it writes its header.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, bail};
use gst::prelude::*;

use super::container::Container;
use super::elements::{caps_name, link_to_request_pad, make, request_template};
use super::enhancer::Options;
use super::subtitles::{self, Tags};
use crate::progress::Watch;

/// What to do.
#[derive(Debug, Clone)]
pub struct Job {
    /// The enhancement.
    pub options: Options,
    /// The format of the output.
    pub container: Container,
    /// Constant quality of the video encoder: 0 is lossless, 51 the worst.
    pub crf: u32,
}

/// The pipeline that reads `input`, does the job and writes to `output`. `watch` is told of every frame.
///
/// # Errors
///
/// If an element that every job needs is not installed or refuses an option. What depends on the streams in the file is
/// reported on the pipeline's bus.
pub fn pipeline(input: &Path, output: &Path, job: &Job, watch: &Watch) -> Result<gst::Pipeline> {
    let pipeline = gst::Pipeline::with_name("enhance");
    let reader = make("filesrc")?;
    reader.set_property("location", input);
    let parser = make("parsebin")?;
    let muxer = job.container.muxer()?;
    let writer = make("filesink")?;
    writer.set_property("location", output);
    pipeline.add_many([&reader, &parser, &muxer, &writer])?;
    gst::Element::link_many([&reader, &parser])?;
    gst::Element::link_many([&muxer, &writer])?;

    // Built now, so that a wrong option is an error before anything runs.
    let video = VideoBranch::new(&pipeline, &muxer, job, watch)?;
    let connect = Arc::new(Connect {
        pipeline: pipeline.downgrade(),
        muxer: muxer.downgrade(),
        container: job.container,
        watch: watch.clone(),
        state: Mutex::new(State {
            pads: Vec::new(),
            video: Some(video),
        }),
    });
    parser.connect_pad_added(move |parser, pad| {
        connect.lock().pads.push(pad.clone());
        let (connect, parser) = (Arc::clone(&connect), parser.downgrade());
        // All pads are there before anything flows through one of them: whichever is first connects them all.
        pad.add_probe(gst::PadProbeType::BLOCK_DOWNSTREAM, move |_, _| {
            if let Err(error) = connect.streams()
                && let Some(parser) = parser.upgrade()
            {
                gst::element_error!(parser, gst::StreamError::Failed, ("{error:#}"));
            }
            gst::PadProbeReturn::Remove
        });
    });
    Ok(pipeline)
}

/// The elements of the video stream that do not depend on its codec.
#[derive(Debug)]
struct VideoBranch {
    decoder: gst::Element,
}

impl VideoBranch {
    fn new(
        pipeline: &gst::Pipeline,
        muxer: &gst::Element,
        job: &Job,
        watch: &Watch,
    ) -> Result<Self> {
        let decoder = make("decodebin")?;
        // One frame in, one frame out: of an interlaced frame's two fields the first one counts.
        let deinterlace = make("deinterlace")?;
        deinterlace.set_property_from_str("fields", "top");
        // Phones store portrait clips lying down, with a note to turn them. Turning small frames is cheap.
        let turn = make("videoflip")?;
        turn.set_property_from_str("video-direction", "auto");
        let before = make("videoconvert")?;
        let enhance = job.options.element()?;
        let size = make("capsfilter")?;
        size.set_property("caps", job.options.output_caps());
        let after = make("videoconvert")?;
        let format = make("capsfilter")?;
        format.set_property("caps", job.container.video_caps());
        let queue = make("queue")?;
        // The encoder gets a thread of its own; large frames, so few of them.
        queue.set_property("max-size-buffers", 4u32);
        queue.set_property("max-size-bytes", 0u32);
        queue.set_property("max-size-time", 0u64);

        let mut chain = vec![
            deinterlace,
            turn,
            before,
            enhance.clone(),
            size,
            after,
            format,
            queue,
        ];
        chain.extend(job.container.video_encoder(job.crf)?);
        pipeline.add(&decoder)?;
        pipeline.add_many(&chain)?;
        gst::Element::link_many(&chain)?;
        let (first, last) = (chain.first(), chain.last());
        let (first, last) = first.zip(last).context("an empty chain of elements")?;
        let source = last
            .static_pad("src")
            .context("the encoder has no source pad")?;
        link_to_request_pad(&source, muxer, &source.pad_template_caps())?;
        watch.attach(
            &enhance
                .static_pad("src")
                .context("flashupscale has no source pad")?,
        );

        let sink = first
            .static_pad("sink")
            .context("deinterlace has no sink pad")?
            .downgrade();
        decoder.connect_pad_added(move |decoder, pad| {
            let linked = sink.upgrade().map(|sink| pad.link(&sink));
            if let Some(Err(error)) = linked {
                let caps = pad.query_caps(None);
                gst::element_error!(
                    decoder,
                    gst::StreamError::Format,
                    ("cannot enhance {caps}: {error}")
                );
            }
        });
        Ok(Self { decoder })
    }
}

#[derive(Debug)]
struct State {
    pads: Vec<gst::Pad>,
    /// Taken when the streams are connected.
    video: Option<VideoBranch>,
}

/// Joins the streams that `parsebin` found to the muxer.
#[derive(Debug)]
struct Connect {
    pipeline: gst::glib::WeakRef<gst::Pipeline>,
    muxer: gst::glib::WeakRef<gst::Element>,
    container: Container,
    watch: Watch,
    state: Mutex<State>,
}

impl Connect {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn streams(&self) -> Result<()> {
        let (Some(pipeline), Some(muxer)) = (self.pipeline.upgrade(), self.muxer.upgrade()) else {
            return Ok(());
        };
        // Held to the end: the other streams wait here until they are connected.
        let mut state = self.lock();
        let pads = std::mem::take(&mut state.pads);
        if pads.is_empty() {
            return Ok(());
        }
        let Some(video) = state.video.take() else {
            bail!("the file is a chain of several programmes: split it first");
        };
        let streams: Vec<(gst::Pad, gst::Caps)> = pads
            .into_iter()
            .map(|pad| {
                let caps = pad.current_caps().unwrap_or_else(|| pad.query_caps(None));
                (pad, caps)
            })
            .collect();
        // A cover picture is a stream too: it is the one to enhance only where there is no other.
        let of_kind = |kind: &str| {
            streams
                .iter()
                .position(|(_, caps)| caps_name(caps).starts_with(kind))
        };
        let main = of_kind("video/")
            .or_else(|| of_kind("image/"))
            .context("the file has no video stream")?;

        for (index, (pad, caps)) in streams.iter().enumerate() {
            let name = caps_name(caps);
            if index == main {
                if let Some(duration) = pad.query_duration::<gst::ClockTime>() {
                    self.watch.set_duration(duration);
                }
                // Bounded: this queue's back-pressure is what holds the reader to the enhancer's pace.
                let queue = branch(&pipeline, [queue(64 << 20)?, video.decoder.clone()])?;
                link(pad, &queue)?;
            } else if name.starts_with("audio/") {
                self.audio(&pipeline, &muxer, pad, caps)?;
            } else if name.starts_with("text/")
                || name.contains("sub")
                || name.contains("ass")
                || name.contains("ssa")
            {
                self.subtitles(&pipeline, &muxer, pad, caps)?;
            } else {
                self.drop_stream(&pipeline, pad, caps)?;
            }
        }
        Ok(())
    }

    /// As it is if the muxer takes it, else decoded and encoded anew.
    fn audio(
        &self,
        pipeline: &gst::Pipeline,
        muxer: &gst::Element,
        pad: &gst::Pad,
        caps: &gst::Caps,
    ) -> Result<()> {
        // AAC from transport streams comes framed in a way that files do not use; its parser changes that.
        let aac = caps.structure(0).is_some_and(|s| {
            s.name() == "audio/mpeg" && s.get::<i32>("mpegversion").is_ok_and(|v| v == 2 || v == 4)
        });
        let parser = if aac { Some(make("aacparse")?) } else { None };
        let offered = match &parser {
            // What it can give is this stream in any framing.
            Some(_) => gst::Caps::builder("audio/mpeg")
                .field("mpegversion", 4i32)
                .field("stream-format", "raw")
                .build(),
            None => caps.clone(),
        };
        if request_template(muxer, &offered).is_some() {
            let chain: Vec<_> = std::iter::once(queue(0)?).chain(parser).collect();
            return self.to_muxer(pipeline, muxer, pad, chain, &offered);
        }
        self.watch.say(&format!(
            "{} does not fit the output format: it is encoded anew",
            caps_name(caps)
        ));
        let decoder = make("decodebin")?;
        let convert = make("audioconvert")?;
        let encoder = self.container.audio_encoder()?;
        let chain = [
            convert.clone(),
            make("audioresample")?,
            encoder.clone(),
            queue(0)?,
        ];
        let encoded = encoder
            .static_pad("src")
            .context("the audio encoder has no source pad")?
            .pad_template_caps();
        branch(pipeline, chain.clone())?;
        let source = chain[3]
            .static_pad("src")
            .context("queue has no source pad")?;
        link_to_request_pad(&source, muxer, &encoded)?;
        let first = branch(pipeline, [queue(0)?, decoder.clone()])?;
        let sink = convert
            .static_pad("sink")
            .context("audioconvert has no sink pad")?
            .downgrade();
        decoder.connect_pad_added(move |decoder, pad| {
            if let Some(Err(error)) = sink.upgrade().map(|sink| pad.link(&sink)) {
                gst::element_error!(
                    decoder,
                    gst::StreamError::Format,
                    ("the decoded audio does not link: {error}")
                );
            }
        });
        link(pad, &first)
    }

    /// As they are if the muxer takes them, without markup if that is what it takes, else left out.
    fn subtitles(
        &self,
        pipeline: &gst::Pipeline,
        muxer: &gst::Element,
        pad: &gst::Pad,
        caps: &gst::Caps,
    ) -> Result<()> {
        if request_template(muxer, caps).is_some() {
            return self.to_muxer(pipeline, muxer, pad, vec![queue(0)?], caps);
        }
        let plain = subtitles::plain_caps();
        if subtitles::has_markup(caps) && request_template(muxer, &plain).is_some() {
            let queue = branch(pipeline, [queue(0)?])?;
            let source = queue.static_pad("src").context("queue has no source pad")?;
            link_to_request_pad(&source, muxer, &plain)?;
            let tags = match self.container {
                Container::Matroska => Tags::KeepSubRip,
                _ => Tags::Remove,
            };
            subtitles::rewrite_on(pad, tags);
            let sink = queue.static_pad("sink").context("queue has no sink pad")?;
            pad.link_full(&sink, gst::PadLinkCheck::HIERARCHY)
                .context("linking the subtitles")?;
            return Ok(());
        }
        self.drop_stream(pipeline, pad, caps)
    }

    fn to_muxer(
        &self,
        pipeline: &gst::Pipeline,
        muxer: &gst::Element,
        pad: &gst::Pad,
        chain: Vec<gst::Element>,
        caps: &gst::Caps,
    ) -> Result<()> {
        let source = chain
            .last()
            .and_then(|e| e.static_pad("src"))
            .context("no element to link")?;
        let first = branch(pipeline, chain)?;
        link_to_request_pad(&source, muxer, caps)?;
        link(pad, &first)
    }

    fn drop_stream(
        &self,
        pipeline: &gst::Pipeline,
        pad: &gst::Pad,
        caps: &gst::Caps,
    ) -> Result<()> {
        let advice = match self.container {
            Container::Matroska => "",
            _ => " (.mkv keeps more)",
        };
        self.watch.say(&format!(
            "a stream of {} is left out{advice}",
            caps_name(caps)
        ));
        let sink = make("fakesink")?;
        // Neither waits for data nor for a clock.
        sink.set_property("async", false);
        sink.set_property("sync", false);
        let first = branch(pipeline, [sink])?;
        link(pad, &first)
    }
}

/// A queue in front of a branch; `bytes` 0 is no limit. Branches that only copy have none: they hold what the reader is
/// ahead of the video, which is encoded and small, and a limit there could starve the video into a deadlock.
fn queue(bytes: u32) -> Result<gst::Element> {
    let queue = make("queue")?;
    queue.set_property("max-size-buffers", 0u32);
    queue.set_property(
        "max-size-time",
        if bytes == 0 {
            0
        } else {
            10 * gst::ClockTime::SECOND.nseconds()
        },
    );
    queue.set_property("max-size-bytes", bytes);
    Ok(queue)
}

/// Adds elements to the running pipeline, linked in order; those already there are left alone. Returns the first.
fn branch(
    pipeline: &gst::Pipeline,
    chain: impl IntoIterator<Item = gst::Element>,
) -> Result<gst::Element> {
    let chain: Vec<gst::Element> = chain.into_iter().collect();
    for element in chain.iter().filter(|e| e.parent().is_none()) {
        pipeline.add(element)?;
    }
    gst::Element::link_many(&chain)?;
    for element in &chain {
        element
            .sync_state_with_parent()
            .with_context(|| format!("starting {}", element.name()))?;
    }
    chain
        .into_iter()
        .next()
        .context("an empty chain of elements")
}

fn link(pad: &gst::Pad, element: &gst::Element) -> Result<()> {
    let sink = element
        .static_pad("sink")
        .with_context(|| format!("{} has no sink pad", element.name()))?;
    pad.link(&sink)
        .with_context(|| format!("linking {} to {}", pad.name(), element.name()))?;
    Ok(())
}
