// SPDX-License-Identifier: MPL-2.0
//! Frames to a video file.

use std::ffi::OsString;
use std::io::{BufWriter, ErrorKind, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Stdio};

use anyhow::{Context, Result, bail};

use super::codec::Plan;
use super::colour::{Colour, Mastering};
use super::container::{Container, is_pattern};
use super::pixel::Kind;
use super::program::{Complaints, ffmpeg, file, is_full, reason, start};
use super::raw::RawVideo;
use super::{codec::Codec, matroska};

/// What is written, and how.
#[derive(Clone, Debug)]
pub struct EncodeOptions {
    /// The file format.
    pub container: Container,
    /// The codec.
    pub plan: Plan,
    /// Quality on H.264's scale.
    pub crf: u32,
    /// Mastering display of a picture of high dynamic range.
    pub mastering: Mastering,
    /// The number of the first of numbered pictures.
    pub first_number: u64,
}

/// An encoder that runs beside.
#[derive(Debug)]
pub struct Encoder {
    child: Child,
    input: Option<BufWriter<ChildStdin>>,
    complaints: Option<Complaints>,
    title: String,
    time_base: (u32, u32),
    first: Option<i64>,
    last: Option<i64>,
    frames: u64,
}

/// What an encoder wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// Frames.
    pub frames: u64,
    /// Ticks of the first one, which is at zero in the file.
    pub first: i64,
}

/// What the codes of the encoder's pixels mean: those of the frames, but where RGB becomes Y'CbCr or the other way round.
fn encoded_colour(video: &RawVideo, plan: &Plan) -> Colour {
    let mut colour = video.colour.clone();
    match (video.format.kind, plan.is_rgb()) {
        (Kind::Rgb, false) => {
            let wide = colour.primaries.as_deref() == Some("bt2020");
            colour.matrix = Some(if wide { "bt2020nc" } else { "bt709" }.to_owned());
            colour.full_range = plan.codec == Codec::Jpeg;
        }
        (_, true) => {
            colour.matrix = Some("rgb".to_owned());
            colour.full_range = true;
        }
        // Gray is full range; with colour planes it is as other video.
        (Kind::Gray, _) if !plan.pixels.starts_with("gray") => {
            colour.full_range = plan.codec == Codec::Jpeg;
        }
        _ if plan.codec == Codec::Jpeg => colour.full_range = true,
        _ => {}
    }
    if plan.codec == Codec::Jpeg {
        // Its only matrix.
        colour.matrix = Some("smpte170m".to_owned());
    }
    colour
}

fn filters(video: &RawVideo, plan: &Plan, colour: &Colour) -> String {
    let range = |full: bool| if full { "full" } else { "limited" };
    let mut scale = vec!["flags=lanczos+accurate_rnd+full_chroma_int+full_chroma_inp".to_owned()];
    if !matches!(video.format.kind, Kind::Rgb) && video.format.kind != Kind::Gray {
        scale.push(format!("in_range={}", range(video.colour.full_range)));
    }
    if !plan.is_rgb() {
        scale.push(format!("out_range={}", range(colour.full_range)));
        if let Some(matrix) = &colour.matrix
            && (video.format.kind == Kind::Rgb || plan.codec == Codec::Jpeg)
        {
            scale.push(format!(
                "out_color_matrix={}",
                matrix.trim_end_matches("nc")
            ));
        }
    }
    let (across, down) = video.pixel_aspect;
    format!(
        "scale={},format={},setsar={across}/{down}",
        scale.join(":"),
        plan.pixels
    )
}

impl Encoder {
    /// Begins to write `video` to `path` (`-` for standard output), which people know as `title`.
    ///
    /// # Errors
    /// If ffmpeg does not start.
    pub fn start(
        path: &Path,
        title: &str,
        video: &RawVideo,
        options: &EncodeOptions,
    ) -> Result<Self> {
        let plan = &options.plan;
        let colour = encoded_colour(video, plan);
        // The header of y4m tells a rate and not the times.
        let (tick, per) = match (options.container, video.rate) {
            (Container::Y4m, Some((rate, per))) => (per, rate),
            _ => video.time_base,
        };
        let mut command = ffmpeg();
        // The header tells everything: nothing is read ahead to find out.
        command.args([
            "-f",
            "matroska",
            "-analyzeduration",
            "0",
            "-fpsprobesize",
            "0",
            "-i",
            "pipe:0",
            "-map",
            "0:v",
        ]);
        command.args(["-vf", &filters(video, plan, &colour)]);
        command.args([
            "-fps_mode",
            "passthrough",
            "-enc_time_base",
            &format!("{tick}/{per}"),
        ]);
        command.args(plan.arguments(options.container, options.crf, &options.mastering));
        if plan.is_rgb() {
            command.args(["-color_range", "pc"]);
        } else {
            command.args(colour.arguments());
        }
        match options.container {
            Container::Mp4 | Container::QuickTime => {
                command.args(["-video_track_timescale", &per.to_string()]);
            }
            Container::Y4m => {
                command.args(["-strict", "-1"]);
            }
            Container::Png | Container::Jpeg if is_pattern(path) => {
                command.args(["-start_number", &options.first_number.to_string()]);
            }
            Container::Png | Container::Jpeg => {
                command.args(["-update", "1"]);
            }
            _ => {}
        }
        command.args(["-f", options.container.muxer()]);
        let target = if path == Path::new("-") {
            OsString::from("pipe:1")
        } else {
            file(path)
        };
        command.arg(target);
        command.stdin(Stdio::piped()).stderr(Stdio::piped());
        if path != Path::new("-") {
            command.stdout(Stdio::null());
        }
        let mut child = start(&mut command)?;
        let complaints =
            Complaints::collect(child.stderr.take().context("an encoder without a voice")?);
        let input = BufWriter::with_capacity(
            1 << 20,
            child.stdin.take().context("an encoder without an input")?,
        );
        let mut encoder = Self {
            child,
            input: Some(input),
            complaints: Some(complaints),
            title: title.to_owned(),
            time_base: video.time_base,
            first: None,
            last: None,
            frames: 0,
        };
        encoder.feed(|input| matroska::write_header(input, video, &options.mastering))?;
        Ok(encoder)
    }

    /// Encodes one frame, whose time is `pts` ticks. Times that do not rise are made to.
    ///
    /// # Errors
    /// If the encoder has ended: why.
    pub fn write(&mut self, pts: i64, data: &[u8]) -> Result<()> {
        let pts = self.last.map_or(pts, |last| pts.max(last + 1));
        let first = *self.first.get_or_insert(pts);
        self.last = Some(pts);
        let (tick, per) = self.time_base;
        let nanoseconds =
            i128::from(pts - first) * i128::from(tick) * 1_000_000_000 / i128::from(per.max(1));
        let nanoseconds = u64::try_from(nanoseconds)?;
        self.feed(|input| matroska::write_frame(input, nanoseconds, data))?;
        self.frames += 1;
        Ok(())
    }

    fn feed(
        &mut self,
        write: impl FnOnce(&mut BufWriter<ChildStdin>) -> std::io::Result<()>,
    ) -> Result<()> {
        let input = self.input.as_mut().context("the encoder has ended")?;
        match write(input) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Err(self.failure()),
            Err(error) => Err(error).context("handing a frame to the encoder"),
        }
    }

    fn failure(&mut self) -> anyhow::Error {
        self.input = None;
        let _ = self.child.wait();
        let lines = self.complaints();
        anyhow::anyhow!("'{}' cannot be written: {}", self.title, reason(&lines))
    }

    fn complaints(&mut self) -> Vec<String> {
        let complaints = self.complaints.take();
        complaints.map(Complaints::all).unwrap_or_default()
    }

    /// Ends the file.
    ///
    /// # Errors
    /// If the encoder failed, or got no frame.
    pub fn finish(mut self) -> Result<Encoded> {
        if let Some(mut input) = self.input.take()
            && input.flush().is_err()
        {
            return Err(self.failure());
        }
        let status = self.child.wait().context("waiting for the encoder")?;
        let Some(first) = self.first else {
            bail!("'{}': no frame came", self.title);
        };
        // A disk that is full when the end of the file is written is no failure to ffmpeg.
        let lines = self.complaints();
        if !status.success() || is_full(&lines) {
            bail!("'{}' cannot be written: {}", self.title, reason(&lines));
        }
        Ok(Encoded {
            frames: self.frames,
            first,
        })
    }
}

impl Drop for Encoder {
    fn drop(&mut self) {
        if self.input.take().is_some() {
            // Dropped before its end: what it wrote is not wanted.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
