// SPDX-License-Identifier: MPL-2.0
//! The crate `flashvideo` without GStreamer: enlarges a YUV4MPEG2 stream (8-bit 4:2:0) from standard input by two, to
//! standard output.
//!
//! ```sh
//! ffmpeg -i in.mp4 -pix_fmt yuv420p -f yuv4mpegpipe - | cargo run --release --example library | ffplay -
//! ```

use std::io::{BufRead, BufReader, BufWriter, Read, Write, stdin, stdout};

use anyhow::{Context, Result, bail, ensure};
use flashvideo::{
    DeviceSpec, EnhanceOptions, EnhanceStream, Enhancer, Frame, FrameFormat, NumberType, Progress,
    Runtime, Samples, Siting, Size, Target,
};

fn main() -> Result<()> {
    let (mut input, mut output) = (
        BufReader::new(stdin().lock()),
        BufWriter::new(stdout().lock()),
    );
    let header = line(&mut input)?.context("standard input is empty")?;
    ensure!(
        header.starts_with("YUV4MPEG2"),
        "standard input is no YUV4MPEG2 stream"
    );
    let field = |kind| {
        header
            .split(' ')
            .skip(1)
            .find_map(|word| word.strip_prefix(kind))
    };
    let side =
        |kind| -> Result<usize> { Ok(field(kind).context("a stream without a size")?.parse()?) };
    let chroma = field('C').unwrap_or("420jpeg");
    let mut format = FrameFormat::i420();
    format.siting = match chroma {
        "420jpeg" => (Siting::Centre, Siting::Centre),
        "420" | "420mpeg2" | "420paldv" => format.siting,
        other => bail!("the stream is {other}, not 8-bit 4:2:0"),
    };
    let size = Size::new(side('W')?, side('H')?);

    // All cores, and the number type that this processor is fastest with.
    let runtime = Runtime::new(DeviceSpec::Cpu, NumberType::Auto, None)?;
    let enhancer = Enhancer::load("builtin", &runtime, &Progress::none())?;
    let options = EnhanceOptions {
        target: Target::Scale(2.0),
        ..EnhanceOptions::default()
    };
    // With each frame goes whatever belongs to it; here its own header.
    let mut stream = EnhanceStream::new(enhancer, format, size, options, Progress::none())?;
    let large = stream.output_size();
    let words = header.split(' ').map(|word| match word.chars().next() {
        Some('W') => format!("W{}", large.width),
        Some('H') => format!("H{}", large.height),
        _ => word.to_owned(),
    });
    writeln!(output, "{}", words.collect::<Vec<_>>().join(" "))?;

    while let Some(header) = line(&mut input)? {
        let planes = (0..format.plane_count()).map(|plane| {
            let mut samples = vec![0; format.plane_size(plane, size).pixels()];
            input
                .read_exact(&mut samples)
                .context("the last frame is cut off")?;
            Ok(Samples::U8(samples))
        });
        let frame = Frame::new(format, size, planes.collect::<Result<_>>()?)?;
        // A frame comes out when those after it that the model looks at are in.
        write(&mut output, stream.push(frame, header)?)?;
    }
    write(&mut output, stream.drain()?)?;
    Ok(output.flush()?)
}

/// The next line without its end; nothing at the end of the stream.
fn line(input: &mut impl BufRead) -> Result<Option<String>> {
    let mut text = String::new();
    let read = input
        .read_line(&mut text)
        .context("the stream is no YUV4MPEG2")?;
    Ok((read > 0).then(|| text.trim_end().to_owned()))
}

fn write(output: &mut impl Write, frames: Vec<(Frame, String)>) -> Result<()> {
    for (frame, header) in frames {
        writeln!(output, "{header}")?;
        for plane in frame.planes() {
            if let Samples::U8(samples) = plane.as_ref() {
                output.write_all(samples)?;
            }
        }
    }
    Ok(())
}
