//! The shortest program with `flashupscale`: a file in, an MP4 file of four times the size out (video only).
//!
//! ```sh
//! cargo run --release -p flashvideo-examples --bin minimal -- in.mp4 out.mp4
//! ```

use anyhow::{Context, Result};
use gst::prelude::*;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (input, output) = arguments
        .next()
        .zip(arguments.next())
        .context("usage: minimal IN OUT.mp4")?;
    flashvideo_examples::init()?;
    let pipeline = gst::parse::launch(
        "filesrc name=in ! decodebin ! videoconvert ! flashupscale ! videoconvert ! x264enc pass=qual vbv-buf-capacity=0 ! h264parse ! mp4mux ! filesink name=out",
    )?
    .downcast::<gst::Pipeline>()
    .map_err(|_| anyhow::anyhow!("the description is no pipeline"))?;
    for (name, path) in [("in", input), ("out", output)] {
        pipeline
            .by_name(name)
            .context("no such element")?
            .set_property("location", path);
    }
    flashvideo_examples::run::to_the_end(&pipeline, |line| eprintln!("{line}"))?;
    Ok(())
}
