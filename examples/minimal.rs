// SPDX-License-Identifier: MPL-2.0
//! The shortest program with `flashupscale`: a file in, an MP4 file of four times the size out (video only).
//!
//! ```sh
//! cargo run --release --example minimal -- in.mp4 out.mp4
//! ```

use anyhow::{Context, Result, bail};
use gst::prelude::*;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (input, output) = arguments
        .next()
        .zip(arguments.next())
        .context("usage: minimal IN OUT.mp4")?;
    gst::init()?;
    // The elements are linked into this program. Where the plugin is installed, GStreamer finds them without this line.
    gstflashvideo::plugin_register_static()?;
    let pipeline = gst::parse::launch(
        "filesrc name=in ! decodebin ! videoconvert ! flashupscale ! videoconvert \
         ! x264enc pass=qual vbv-buf-capacity=0 ! h264parse ! mp4mux ! filesink name=out",
    )?;
    let pipeline = pipeline
        .downcast_ref::<gst::Pipeline>()
        .context("no pipeline")?;
    for (name, path) in [("in", input), ("out", output)] {
        let element = pipeline.by_name(name).context("no such element")?;
        element.set_property("location", path);
    }
    let bus = pipeline.bus().context("no bus")?;
    // An error of a state change is on the bus too, in more words.
    let _ = pipeline.set_state(gst::State::Playing);
    let ends = [gst::MessageType::Eos, gst::MessageType::Error];
    let last = bus.timed_pop_filtered(gst::ClockTime::NONE, &ends);
    pipeline.set_state(gst::State::Null)?;
    if let Some(gst::MessageView::Error(error)) = last.as_ref().map(|last| last.view()) {
        bail!("{}", error.error());
    }
    Ok(())
}
