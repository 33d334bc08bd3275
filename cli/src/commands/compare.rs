// SPDX-License-Identifier: MPL-2.0
//! `flashvideo compare`: two clips, or one before and after, in one picture, one clip, or a window.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Args;

use super::enhance::parse_time;
use crate::ffmpeg::codec::{CRF, Plan, Wish};
use crate::ffmpeg::colour::Mastering;
use crate::ffmpeg::container::Container;
use crate::ffmpeg::decode::{Clip, DecodeOptions, Decoder};
use crate::ffmpeg::encode::{EncodeOptions, Encoder};
use crate::ffmpeg::pixel::PixelFormat;
use crate::ffmpeg::raw::{RawFrame, RawVideo};
use crate::interrupt;
use crate::jobs::inputs::{self, Source, is_numbered};
use crate::media::compose::{Composer, Layout};
use crate::media::enhancer::Options;
use crate::media::pair::{self, Crop};
use crate::media::pump::{self, Next};
use crate::media::window::Window;
use crate::output::PartialFile;
use crate::report::{Report, Style};

/// Shows two clips, or one before and after, in one picture, clip or window
///
/// Of one clip the plain enlargement (Lanczos) is on the left and flashupscale's on the right. Two clips are brought to the
/// size of the larger one. To a .png it is one frame; to a clip or in a window it moves, without sound.
#[derive(Debug, Args)]
#[command(
    after_help = EXAMPLES,
    override_usage = "flashvideo compare [OPTIONS] <CLIP> [CLIP] <OUT>\n       flashvideo compare [OPTIONS] --window <CLIP> [CLIP]"
)]
pub struct Compare {
    /// One clip or two, then the file to write (.png, .mp4, .mkv, ...), which --window has not
    #[arg(required = true, num_args = 1..=3, value_names = ["CLIP", "OUT"])]
    files: Vec<PathBuf>,

    /// How the two are shown
    #[arg(long, value_enum, default_value_t)]
    layout: Layout,

    /// Show it in a window instead of writing it
    #[arg(long)]
    window: bool,

    /// Which frame, or where to begin: seconds, or HH:MM:SS
    #[arg(long, default_value = "0", value_name = "TIME", value_parser = parse_time)]
    at: f64,

    /// Only so many frames
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    frames: Option<u64>,

    /// What to show in a picture of the enlarged frame, in pixels; the middle unless a place is given
    #[arg(
        long,
        default_value = "640x540",
        value_name = "WIDTHxHEIGHT[+LEFT+TOP]"
    )]
    crop: Crop,

    #[command(flatten)]
    options: Options,

    /// Overwrite the output if it exists
    #[arg(long)]
    force: bool,
}

const EXAMPLES: &str = "\
Examples:
  flashvideo compare clip.mp4 look.png --at 1.5 --crop 800x720
  flashvideo compare --layout wipe clip.mp4 wipe.mp4 --frames 150
  flashvideo compare --window old.mp4 new.mp4";

impl Compare {
    /// Runs the command.
    ///
    /// # Errors
    /// When a clip cannot be read or enhanced, or the output cannot be written.
    pub fn run(self) -> Result<ExitCode> {
        let (clips, output) = match (self.window, self.files.split_last()) {
            (true, _) if self.files.len() <= 2 => (self.files.as_slice(), None),
            (false, Some((output, clips))) if !clips.is_empty() => (clips, Some(output.as_path())),
            (true, _) => bail!("a window shows one clip or two: name no file to write"),
            _ => bail!("name a file to write, or --window"),
        };
        crate::media::init()?;
        interrupt::watch();
        let clips = clips
            .iter()
            .map(|path| open(path, output))
            .collect::<Result<Vec<_>>>()?;
        match (clips.as_slice(), output) {
            ([clip], Some(output)) if is_picture(output)? => self.picture(clip, output),
            ([clip], _) => self.enhanced(clip, output),
            ([left, right], Some(output)) if is_picture(output)? => {
                self.two(left, right, Some(output), Some(1))
            }
            ([left, right], _) => self.two(left, right, output, self.frames),
            _ => bail!("name one clip or two"),
        }
    }

    fn picture(&self, clip: &Clip, output: &Path) -> Result<ExitCode> {
        let partial = PartialFile::new(output, self.force)?;
        let (plain, ours) = pair::both(clip, self.at, &self.options)?;
        let picture = pair::side_by_side(&plain, &ours, self.crop)?;
        picture.save(partial.path())?;
        partial.keep()?;
        tell!(
            "{}: {}x{}, plain Lanczos | flashupscale",
            output.display(),
            picture.width(),
            picture.height()
        );
        Ok(ExitCode::SUCCESS)
    }

    fn part(
        &self,
        frames: Option<u64>,
        size: Option<(u32, u32)>,
        format: PixelFormat,
    ) -> DecodeOptions {
        DecodeOptions {
            start: (self.at > 0.0).then_some(self.at),
            frames,
            size,
            format: Some(format),
            ..DecodeOptions::default()
        }
    }

    /// One clip, plain and enhanced.
    fn enhanced(&self, clip: &Clip, output: Option<&Path>) -> Result<ExitCode> {
        let format = common_format(&[clip])?;
        let decoder = clip.decode(&self.part(self.frames, None, format))?;
        let (width, height) = self
            .options
            .enlarge
            .size_of(decoder.video(), (true, true))?;
        let video = decoder.video().resized(width, height);
        let mut plain = clip.decode(&self.part(self.frames, Some((width, height)), format))?;
        let mut screen = Screen::open(self, &video, output, clip)?;
        let mut ours = Vec::new();
        let say = |line: &str| eprintln!("{line}");
        let (outcome, _) = pump::enhance(decoder, &self.options, &video, &say, |pair| {
            let Some(left) = plain.next_frame()? else {
                return Ok(Next::Enough);
            };
            ours.clear();
            video.unpack(&pair.large, &mut ours)?;
            screen.show(pair.pts, &left.data, &ours)?;
            Ok(Next::More)
        })?;
        finished(screen, outcome == pump::Outcome::Interrupted)
    }

    /// Two clips at the size of the larger.
    fn two(
        &self,
        left: &Clip,
        right: &Clip,
        output: Option<&Path>,
        frames: Option<u64>,
    ) -> Result<ExitCode> {
        let format = common_format(&[left, right])?;
        let sizes = [left, right].map(|clip| (clip.video.width, clip.video.height));
        let (width, height) = sizes
            .into_iter()
            .max_by_key(|(width, height)| u64::from(*width) * u64::from(*height))
            .unwrap_or_default();
        let size = (width / 2 * 2, height / 2 * 2);
        let mut decoders: Vec<Decoder> = [left, right]
            .into_iter()
            .map(|clip| clip.decode(&self.part(frames, Some(size), format)))
            .collect::<Result<_>>()?;
        let [first, second] = decoders.as_mut_slice() else {
            bail!("name two clips");
        };
        let video = first.video().clone();
        let mut screen = Screen::open(self, &video, output, left)?;
        let other = second.video().clone();
        // Beside each frame of the left clip what the right one shows at that time.
        let (mut shown, mut next) = (second.next_frame()?, second.next_frame()?);
        while let Some(left) = first.next_frame()? {
            let time = video.seconds(left.pts) + 1e-4;
            while next
                .as_ref()
                .is_some_and(|frame| other.seconds(frame.pts) <= time)
            {
                shown = std::mem::replace(&mut next, second.next_frame()?);
            }
            let Some(right) = &shown else {
                break;
            };
            if interrupt::wanted() {
                return finished(screen, true);
            }
            screen.show(left.pts, &left.data, &right.data)?;
        }
        finished(screen, false)
    }
}

fn finished(screen: Screen, interrupted: bool) -> Result<ExitCode> {
    if interrupted {
        eprintln!("interrupted: nothing was written");
        return Ok(ExitCode::from(interrupt::EXIT_CODE));
    }
    screen.finish()?;
    Ok(ExitCode::SUCCESS)
}

fn is_picture(path: &Path) -> Result<bool> {
    Ok(Container::from_path(path)?.is_pictures() && !is_numbered(path))
}

fn open(path: &Path, output: Option<&Path>) -> Result<Clip> {
    let jobs = inputs::jobs(
        &[path.to_owned()],
        output.unwrap_or(Path::new("window")),
        "25",
    )?;
    match jobs.into_iter().next().map(|job| job.source) {
        Some(Source::Named(input)) => Clip::open(input),
        _ => bail!("'{}' cannot be compared: name a file", path.display()),
    }
}

/// 4:2:0, with ten bits where one of the clips has more than eight.
fn common_format(clips: &[&Clip]) -> Result<PixelFormat> {
    let taken = PixelFormat::taken_by_enhancer();
    let deep = clips.iter().any(|clip| {
        PixelFormat::for_clip(&clip.video.pix_fmt, &taken).is_some_and(|format| format.depth > 8)
    });
    let name = if deep { "yuv420p10le" } else { "yuv420p" };
    PixelFormat::for_clip(name, &taken)
        .ok_or_else(|| anyhow::anyhow!("the enhancer takes no {name}"))
}

/// Where both go together: a file or a window.
struct Screen {
    composer: Composer,
    video: RawVideo,
    place: Place,
    report: Report,
    buffer: Vec<u8>,
}

enum Place {
    File(Encoder, PartialFile, PathBuf),
    Window(Window),
}

impl Screen {
    fn open(
        command: &Compare,
        video: &RawVideo,
        output: Option<&Path>,
        clip: &Clip,
    ) -> Result<Self> {
        let composer = Composer::new(command.layout, video)?;
        let shown = composer.output();
        let place = match output {
            None => Place::Window(Window::open(&shown)?),
            Some(path) => {
                let container = Container::from_path(path)?;
                let partial = PartialFile::new(path, command.force)?;
                let options = EncodeOptions {
                    container,
                    plan: Plan::new(container, Wish::default(), &shown, false, 2.0)?,
                    crf: CRF,
                    mastering: Mastering::default(),
                    first_number: 1,
                };
                let target = if is_numbered(path) {
                    path
                } else {
                    partial.path()
                };
                let encoder =
                    Encoder::start(target, &path.display().to_string(), &shown, &options)?;
                Place::File(encoder, partial, path.to_owned())
            }
        };
        let mut report = Report::new(Style::of(false, false), false, &clip.input.title);
        report.expect(clip.frames(&command.part(command.frames, None, video.format)));
        Ok(Self {
            composer,
            video: shown,
            place,
            report,
            buffer: Vec::new(),
        })
    }

    fn show(&mut self, pts: i64, left: &[u8], right: &[u8]) -> Result<()> {
        let seconds = self.video.seconds(pts);
        self.buffer.clear();
        self.composer
            .compose(left, right, seconds, &mut self.buffer)?;
        match &mut self.place {
            Place::File(encoder, ..) => encoder.write(pts, &self.buffer)?,
            Place::Window(window) => window.show(RawFrame {
                pts,
                data: self.buffer.clone(),
            })?,
        }
        self.report.frame();
        Ok(())
    }

    fn finish(self) -> Result<()> {
        let (width, height) = (self.video.width, self.video.height);
        match self.place {
            Place::File(encoder, partial, path) => {
                let frames = encoder.finish()?.frames;
                if !is_numbered(&path) {
                    partial.keep()?;
                }
                let line = format!("{}: {frames} frames of {width}x{height}", path.display());
                self.report.done(&line, &serde_json::Value::Null);
            }
            Place::Window(window) => window.finish()?,
        }
        Ok(())
    }
}
