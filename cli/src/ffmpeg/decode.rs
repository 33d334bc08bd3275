// SPDX-License-Identifier: MPL-2.0
//! A clip to frames.

use std::ffi::OsString;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStdout, Stdio};

use anyhow::{Context, Result, anyhow, bail};

use super::colour::{Colour, Mastering};
use super::nut::NutReader;
use super::pixel::{Kind, PixelFormat};
use super::probe::{Probe, Stream, first_frame_side_data, ratio};
use super::program::{Complaints, ffmpeg, reason, start};
use super::raw::{RawFrame, RawVideo};
use super::{damage, pixel, program};

/// Frames that are looked at for transparency.
const LOOKED_AT: u64 = 12;

/// What becomes of interlaced pictures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Deinterlace {
    /// A frame of each frame, where the clip says that it is interlaced
    #[default]
    Auto,
    /// A frame of each field, so 50 or 60 in a second
    Fields,
    /// The 24 frames of a film that was brought to 30 (hard telecine)
    Telecine,
    /// As they are
    Off,
}

/// Where a clip comes from.
#[derive(Clone, Debug)]
pub struct Input {
    /// As ffmpeg takes it: `file:PATH`, a URI, `pipe:0`.
    pub name: OsString,
    /// As people know it.
    pub title: String,
    /// Words that ffmpeg must have before the input: a format, a frame rate.
    pub words: Vec<OsString>,
    /// Whether it can be read again, for its sound.
    pub again: bool,
    /// What was read of standard input to know it.
    pub begin: Option<Vec<u8>>,
}

/// Which part of a clip, and how.
#[derive(Clone, Debug, Default)]
pub struct DecodeOptions {
    /// Seconds that are left out at the begin.
    pub start: Option<f64>,
    /// Seconds at which it ends.
    pub end: Option<f64>,
    /// So many frames at most.
    pub frames: Option<u64>,
    /// What becomes of interlaced pictures.
    pub deinterlace: Deinterlace,
    /// A plain enlargement (Lanczos) to this size.
    pub size: Option<(u32, u32)>,
    /// This format, whatever the enhancer takes.
    pub format: Option<PixelFormat>,
}

/// A clip and the stream of it that is to be enhanced.
#[derive(Clone, Debug)]
pub struct Clip {
    /// Where it comes from.
    pub input: Input,
    /// What it holds.
    pub probe: Probe,
    /// The video.
    pub video: Stream,
    /// Mastering display of a picture of high dynamic range.
    pub mastering: Mastering,
}

impl Clip {
    /// Looks what is in `input`.
    ///
    /// # Errors
    /// If it cannot be read or holds no video.
    pub fn open(input: Input) -> Result<Self> {
        let say = |error: anyhow::Error| {
            let why = error.to_string();
            // ffmpeg says it of everything that it knows nothing of.
            if why.ends_with("Invalid data found when processing input") {
                return anyhow!(
                    "'{}' cannot be read: it is no clip, or too damaged to tell",
                    input.title
                );
            }
            error.context(format!("'{}' cannot be read", input.title))
        };
        let probe = Probe::of(&input.name, &input.words).map_err(say)?;
        let video = probe
            .video()
            .map_err(|error| anyhow!("'{}': {error}", input.title))?
            .clone();
        let mut mastering = Mastering::from_side_data(&video.side_data_list);
        if mastering.is_empty() && Colour::of(&video).is_hdr() && input.again {
            let side_data =
                first_frame_side_data(&input.name, &input.words, video.index).map_err(say)?;
            mastering = Mastering::from_side_data(&side_data);
        }
        Ok(Self {
            input,
            probe,
            video,
            mastering,
        })
    }

    /// Of a clip whose streams are known already.
    ///
    /// # Errors
    /// If there is no video.
    pub fn known(input: Input, probe: Probe) -> Result<Self> {
        let video = probe.video()?.clone();
        Ok(Self {
            input,
            probe,
            video,
            mastering: Mastering::default(),
        })
    }

    /// Frames in a second, where the clip has an even rate.
    pub fn rate(&self) -> Option<(u32, u32)> {
        let rate = ratio(self.video.avg_frame_rate.as_deref())
            .or_else(|| ratio(self.video.r_frame_rate.as_deref()))?;
        let per_second = f64::from(rate.0) / f64::from(rate.1);
        (per_second <= 1000.0).then_some(rate)
    }

    /// The rate after deinterlacing.
    fn decoded_rate(&self, deinterlace: Deinterlace) -> Option<(u32, u32)> {
        let (frames, per) = self.rate()?;
        Some(match deinterlace {
            Deinterlace::Fields => (2 * frames, per),
            Deinterlace::Telecine => (4 * frames, 5 * per),
            Deinterlace::Auto | Deinterlace::Off => (frames, per),
        })
    }

    /// Seconds of a tick of the clip's own timestamps, as a fraction.
    pub fn time_base(&self) -> (u32, u32) {
        ratio(self.video.time_base.as_deref()).unwrap_or((1, 90_000))
    }

    /// Seconds of all of it, if it tells.
    fn whole_seconds(&self) -> Option<f64> {
        self.video.seconds().or_else(|| self.probe.seconds())
    }

    /// Seconds of the part that `options` asks for, if the clip tells how long it is.
    pub fn seconds(&self, options: &DecodeOptions) -> Option<f64> {
        let end = match (self.whole_seconds(), options.end) {
            (Some(whole), Some(end)) => whole.min(end),
            (whole, end) => whole.or(end)?,
        };
        Some((end - options.start.unwrap_or(0.0)).max(0.0))
    }

    /// How many frames that part has, about.
    pub fn frames(&self, options: &DecodeOptions) -> Option<u64> {
        let per_second = self
            .decoded_rate(options.deinterlace)
            .map(|(rate, per)| f64::from(rate) / f64::from(per));
        let part = self
            .seconds(options)
            .zip(per_second)
            .map(|(seconds, rate)| (seconds * rate).round() as u64);
        let whole = (options.start.is_none() && options.end.is_none())
            .then(|| self.video.nb_frames.as_deref()?.parse().ok())
            .flatten();
        let fields = if options.deinterlace == Deinterlace::Fields {
            2
        } else {
            1
        };
        let whole = whole.map(|frames: u64| fields * frames);
        match (whole.or(part), options.frames) {
            (Some(part), Some(limit)) => Some(part.min(limit)),
            (part, limit) => part.or(limit),
        }
    }

    /// Words that make ffmpeg read the asked part of the input.
    pub fn reading(&self, options: &DecodeOptions) -> Vec<OsString> {
        let mut words = Vec::new();
        for (option, seconds) in [("-ss", options.start), ("-to", options.end)] {
            if let Some(seconds) = seconds {
                words.extend([option.into(), format!("{seconds:.6}").into()]);
            }
        }
        words.extend(self.input.words.iter().cloned());
        words.extend(["-i".into(), self.input.name.clone()]);
        words
    }

    /// Words that make ffmpeg read the streams of `map` too, and drop them.
    ///
    /// In formats whose times may jump, it lets the earliest of the streams that it reads begin at zero. Reading the same ones
    /// when pictures are decoded and when everything is joined keeps them together.
    pub fn enabling(&self, map: &str, limit: Option<f64>) -> Vec<OsString> {
        let formats = ["mpegts", "mpeg", "ogg", "hls"];
        let names = self.probe.format.format_name.split(',');
        if !names.into_iter().any(|name| formats.contains(&name)) {
            return Vec::new();
        }
        let mut words = vec![
            "-map".to_owned(),
            map.to_owned(),
            "-c".to_owned(),
            "copy".to_owned(),
        ];
        if let Some(limit) = limit {
            words.extend(["-t".to_owned(), format!("{limit:.6}")]);
        }
        words.extend(["-f", "null", "/dev/null"].map(str::to_owned));
        words.into_iter().map(OsString::from).collect()
    }

    /// Decoders that know more of a stream than the one that ffmpeg takes by itself.
    fn decoder(&self) -> Option<&'static str> {
        let has_alpha = self.video.tag("alpha_mode") == Some("1");
        match self.video.codec_name.as_str() {
            "vp8" if has_alpha => Some("libvpx"),
            "vp9" if has_alpha => Some("libvpx-vp9"),
            _ => None,
        }
    }

    /// ffmpeg's name of the decoded pixels.
    fn pixels(&self) -> String {
        match self.decoder() {
            Some(_) => self.video.pix_fmt.replacen("yuv4", "yuva4", 1),
            None => self.video.pix_fmt.clone(),
        }
    }

    /// Whether the decoded pictures have alpha that is worth keeping: some of the first ones are not opaque.
    pub fn has_alpha(&self, format: &PixelFormat) -> bool {
        // What has alpha only because no other format would do has none to keep.
        let name = self.pixels();
        let sources = [
            "yuva", "rgba", "bgra", "argb", "abgr", "gbrap", "ya8", "ya16", "pal8", "vuya", "ayuv",
        ];
        let may = format.alpha && sources.iter().any(|source| name.starts_with(source));
        may && (!self.input.again || self.is_transparent().unwrap_or(true))
    }

    fn is_transparent(&self) -> Result<bool> {
        let part = DecodeOptions {
            frames: Some(LOOKED_AT),
            format: PixelFormat::for_clip("rgba", &[gst_video::VideoFormat::Rgba]),
            ..DecodeOptions::default()
        };
        let mut decoder = self.decode(&part)?;
        while let Some(frame) = decoder.next_frame()? {
            if frame
                .data
                .chunks(4)
                .any(|pixel| pixel.last() != Some(&u8::MAX))
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Seconds before the clip's begin at which sound begins, to warm up its decoder; ffmpeg lets the earliest stream begin
    /// at zero, so everything else is so much later.
    pub fn warm_up(&self) -> f64 {
        let start = self.probe.format.start_time.as_deref();
        let start = start.and_then(|text| text.parse::<f64>().ok());
        start
            .filter(|start| (-0.2..0.0).contains(start))
            .map_or(0.0, |start| -start)
    }

    fn is_interlaced(&self) -> bool {
        matches!(
            self.video.field_order.as_deref(),
            Some("tt" | "bb" | "tb" | "bt")
        )
    }

    fn filters(&self, options: &DecodeOptions, format: &PixelFormat) -> Vec<String> {
        let mut filters = Vec::new();
        match options.deinterlace {
            Deinterlace::Auto if self.is_interlaced() => {
                filters.push("bwdif=mode=send_frame:deint=interlaced".to_owned());
            }
            Deinterlace::Fields => filters.push("bwdif=mode=send_field".to_owned()),
            Deinterlace::Telecine => {
                filters.push("fieldmatch,yadif=deint=interlaced,decimate".to_owned());
            }
            Deinterlace::Auto | Deinterlace::Off => {}
        }
        let exact = "flags=lanczos+accurate_rnd+full_chroma_int+full_chroma_inp";
        if let Some((width, height)) = options.size {
            filters.push(format!("scale={width}:{height}:{exact}"));
        }
        let plain = self.pixels().replacen("yuvj", "yuv", 1);
        if plain != format.name {
            // Between formats of one kind nothing but the number of bits and chroma samples changes.
            let range = if Colour::of(&self.video).full_range {
                "full"
            } else {
                "limited"
            };
            let ranges = match format.kind {
                Kind::Rgb => String::new(),
                _ => format!("in_range={range}:out_range={range}:"),
            };
            filters.push(format!("scale={ranges}{exact}"));
        }
        filters
    }

    /// Begins to decode.
    ///
    /// # Errors
    /// If no frame comes; the message says why.
    pub fn decode(&self, options: &DecodeOptions) -> Result<Decoder> {
        if let (Some(start), Some(whole)) = (options.start, self.whole_seconds())
            && start >= whole
        {
            bail!(
                "'{}' ends at {whole:.2} seconds, before {start}",
                self.input.title
            );
        }
        let pixels = self.pixels();
        let format = match options.format {
            Some(format) => format,
            None => PixelFormat::for_clip(&pixels, &PixelFormat::taken_by_enhancer())
                .with_context(|| {
                    format!(
                        "'{}': nothing is known of pixels of {pixels}",
                        self.input.title
                    )
                })?,
        };
        let (tick, per) = self.time_base();
        let mut command = ffmpeg();
        if let Some(decoder) = self.decoder() {
            command.args(["-c:v", decoder]);
        }
        command.args(self.reading(options));
        command.args([
            "-map",
            &format!("0:{}", self.video.index),
            "-an",
            "-sn",
            "-dn",
        ]);
        let filters = self.filters(options, &format);
        if !filters.is_empty() {
            command.args(["-vf", &filters.join(",")]);
        }
        if let Some(frames) = options.frames {
            command.args(["-frames:v", &frames.to_string()]);
        }
        // The old name of 8-bit pictures of full range spares a conversion of the range.
        let full = self.pixels().starts_with("yuvj") && filters.is_empty();
        let target = if full {
            format.name.replacen("yuv", "yuvj", 1)
        } else {
            format.name.to_owned()
        };
        command.args([
            "-fps_mode",
            "passthrough",
            "-enc_time_base",
            &format!("{tick}/{per}"),
        ]);
        command.args([
            "-c:v",
            "rawvideo",
            "-pix_fmt",
            &target,
            "-f",
            "nut",
            "-write_index",
            "0",
            "pipe:1",
        ]);
        for kind in ["0:a?", "0:s?"] {
            command.args(self.enabling(kind, None));
        }
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        if self.input.begin.is_some() {
            command.stdin(Stdio::piped());
        }
        let mut child = start(&mut command)?;
        if let (Some(begin), Some(mut pipe)) = (self.input.begin.clone(), child.stdin.take()) {
            // Ends with standard input, or with the decoder.
            std::thread::spawn(move || {
                pipe.write_all(&begin)
                    .and_then(|()| std::io::copy(&mut std::io::stdin().lock(), &mut pipe))
            });
        }
        let output = child.stdout.take().context("a decoder without an output")?;
        let complaints =
            Complaints::collect(child.stderr.take().context("a decoder without a voice")?);
        let reader = match NutReader::new(output) {
            Ok(Some(reader)) => reader,
            Ok(None) => {
                let _ = child.wait();
                let lines = complaints.all();
                let why = if lines.is_empty() {
                    "no frame comes out of it".to_owned()
                } else {
                    reason(&lines)
                };
                bail!("'{}' cannot be decoded: {why}", self.input.title);
            }
            Err(error) => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(error);
            }
        };
        let header = reader.header();
        let mut colour = Colour::of(&self.video);
        if format.kind == Kind::Rgb {
            colour.full_range = true;
        }
        let video = RawVideo {
            format,
            width: header.width,
            height: header.height,
            pixel_aspect: header.pixel_aspect,
            colour,
            time_base: header.time_base,
            rate: self.decoded_rate(options.deinterlace),
            bits: format.depth.min(pixel::depth_of(&pixels)),
        };
        Ok(Decoder {
            video,
            reader,
            child,
            complaints: Some(complaints),
            last: None,
            frames: 0,
            limited: options.frames.is_some(),
        })
    }
}

/// Frames of a clip, one after the other.
#[derive(Debug)]
pub struct Decoder {
    video: RawVideo,
    reader: NutReader<ChildStdout>,
    child: Child,
    complaints: Option<Complaints>,
    last: Option<i64>,
    frames: u64,
    limited: bool,
}

impl Decoder {
    /// What the frames share.
    pub fn video(&self) -> &RawVideo {
        &self.video
    }

    /// The next frame; nothing at the end.
    ///
    /// # Errors
    /// If the decoder's output makes no sense.
    pub fn next_frame(&mut self) -> Result<Option<RawFrame>> {
        let frame = self.reader.next_frame()?;
        if let Some(frame) = &frame {
            self.last = Some(frame.pts);
            self.frames += 1;
        }
        Ok(frame)
    }

    /// Ends the decoder: what is wrong with the clip, in words, if anything is. `stated` is how long the video should
    /// be, in seconds and in frames.
    ///
    /// # Errors
    /// If the decoder did not end by itself.
    pub fn finish(mut self, stated: (Option<f64>, Option<u64>)) -> Result<Option<String>> {
        if self.limited {
            // It has more to read, which nobody wants.
            let _ = self.child.kill();
            let _ = self.child.wait();
            return Ok(None);
        }
        // Whatever stands in the pipe would keep the program waiting.
        let _ = self.reader_drained();
        let ended = self.child.wait().context("waiting for the decoder")?;
        let lines = self
            .complaints
            .take()
            .map(Complaints::all)
            .unwrap_or_default();
        if let Some(signal) = ended.signal() {
            bail!(
                "the decoder was ended by signal {signal}: nothing is known of the rest of the clip"
            );
        }
        let duration = self.video.frame_seconds().unwrap_or(0.0);
        let decoded = self
            .last
            .map_or(0.0, |last| self.video.seconds(last) + duration);
        let found = damage::of(&lines, stated.0, decoded);
        let found = found.or_else(|| damage::missing(stated.1, self.frames, duration));
        Ok(match found {
            None if !ended.success() => Some(format!("it is damaged: {}", program::reason(&lines))),
            found => found,
        })
    }

    fn reader_drained(&mut self) -> Result<()> {
        while self.reader.next_frame()?.is_some() {}
        Ok(())
    }
}

impl Drop for Decoder {
    fn drop(&mut self) {
        // Nobody reads on: it would wait for ever.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
