// SPDX-License-Identifier: MPL-2.0
//! One clip, from its file to the finished one: decoded, enhanced, encoded, joined with its sound, counted, and only then
//! given its name.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::json;

use super::inputs::{self, Job, Source};
use super::timing::Timing;
use crate::ffmpeg::codec::{Plan, Wish};
use crate::ffmpeg::container::Container;
use crate::ffmpeg::decode::{Clip, DecodeOptions, Decoder, Deinterlace};
use crate::ffmpeg::encode::{EncodeOptions, Encoded, Encoder};
use crate::ffmpeg::join::Join;
use crate::ffmpeg::raw::RawVideo;
use crate::ffmpeg::{pixel, probe, y4m};
use crate::interrupt;
use crate::media::enhancer::Options;
use crate::media::pair;
use crate::media::pump::{self, Next, Outcome, Pair};
use crate::output::{PartialFile, Scratch};
use crate::report::{Report, clock};

/// How every job is done.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The enhancement.
    pub options: Options,
    /// Which part of each clip.
    pub part: DecodeOptions,
    /// What it is encoded with.
    pub wish: Wish,
    /// Quality on H.264's scale.
    pub crf: u32,
    /// Existing files are replaced.
    pub force: bool,
    /// Ctrl-C keeps what is done.
    pub keep_partial: bool,
    /// Where a picture of one frame before and after goes.
    pub before_after: Option<PathBuf>,
}

/// How a job ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// All of it is done.
    Done,
    /// What can be read of a damaged clip is done.
    Damaged,
    /// Ctrl-C, and nothing was kept.
    Interrupted,
    /// Ctrl-C, and what was done is kept.
    Kept,
}

/// Does a job.
///
/// # Errors
/// Why there is no result.
pub fn run(job: &Job, settings: &Settings, report: &mut Report) -> Result<End> {
    let container = Container::from_path(&job.output)?;
    let target = Target::new(&job.output, container, settings.force)?;
    let picture = settings
        .before_after
        .as_deref()
        .map(|path| PartialFile::new(path, settings.force))
        .transpose()?;
    let clip = match &job.source {
        Source::Named(input) => Clip::open(input.clone())?,
        Source::StandardInput => {
            let (input, probe) = y4m::standard_input()?;
            Clip::known(input, probe)?
        }
    };
    let mut part = settings.part.clone();
    // A still picture becomes a still picture.
    if container.is_pictures() && !inputs::is_numbered(&job.output) {
        part.frames = Some(1);
    }
    let decoder = clip.decode(&part)?;
    let prepared = Prepared::new(&clip, container, settings, decoder.video())?;
    for note in &prepared.plan.notes {
        report.say(note);
    }
    report.expect(clip.frames(&part));
    let work = Work {
        job,
        clip: &clip,
        part: &part,
        container,
        settings,
        prepared: &prepared,
    };
    let (outcome, damage, encoded) = work.pictures(&target, decoder, report, picture.as_ref())?;
    if outcome == Outcome::Interrupted {
        if !settings.keep_partial || encoded.frames == 0 {
            return Ok(End::Interrupted);
        }
        interrupt::obeyed();
    }
    let whole = outcome == Outcome::Finished && settings.part.frames.is_none();
    let damage = work.join(&target, &encoded, whole, report)?.or(damage);
    target.verify(container, encoded.frames)?;
    target.keep()?;
    if let Some(picture) = picture {
        picture.keep()?;
    }
    if let Some(damage) = &damage {
        report.warn(&format!(
            "{damage}; what can be read is in '{}'",
            job.output.display()
        ));
    }
    work.tell(&encoded, damage.as_deref(), report);
    Ok(match (outcome, damage) {
        (Outcome::Interrupted, _) => End::Kept,
        (_, Some(_)) => End::Damaged,
        _ => End::Done,
    })
}

/// What follows from the clip and the wishes.
struct Prepared {
    output: RawVideo,
    plan: Plan,
    timing: Timing,
}

impl Prepared {
    fn new(
        clip: &Clip,
        container: Container,
        settings: &Settings,
        video: &RawVideo,
    ) -> Result<Self> {
        let named = |error: anyhow::Error| error.context(format!("'{}'", clip.input.title));
        let alpha = clip.has_alpha(&video.format);
        let plan = |factor| Plan::new(container, settings.wish, video, alpha, factor);
        let (width, height) = settings
            .options
            .enlarge
            .size_of(video, plan(2.0)?.needs_even())
            .map_err(named)?;
        let timing = Timing::new(video.time_base, clip.time_base(), video.rate);
        let mut output = video.resized(width, height);
        output.colour = video.colour.enlarged(video.height);
        output.time_base = timing.time_base();
        let mut plan = plan(f64::from(width) / f64::from(video.width))?;
        let bits = pixel::depth_of(&clip.video.pix_fmt);
        if bits > video.format.depth {
            plan.notes.push(format!(
                "{bits} bits become {}: the enhancer has no more for such pixels",
                video.format.depth
            ));
        }
        Ok(Self {
            plan,
            output,
            timing,
        })
    }
}

struct Work<'a> {
    job: &'a Job,
    clip: &'a Clip,
    part: &'a DecodeOptions,
    container: Container,
    settings: &'a Settings,
    prepared: &'a Prepared,
}

impl Work<'_> {
    /// Decodes, enhances and encodes.
    fn pictures(
        &self,
        target: &Target,
        decoder: Decoder,
        report: &Report,
        picture: Option<&PartialFile>,
    ) -> Result<(Outcome, Option<String>, Encoded)> {
        let output = &self.prepared.output;
        let video = decoder.video().clone();
        let options = EncodeOptions {
            container: self.container,
            plan: self.prepared.plan.clone(),
            crf: self.settings.crf,
            mastering: self.clip.mastering,
            first_number: self.first_number(),
        };
        let title = shown(&self.job.output);
        let mut encoder = Encoder::start(&target.video(self.container), &title, output, &options)?;
        // A third into the clip something is to be seen.
        let shown = self.clip.frames(self.part).unwrap_or(0) / 3;
        let mut bytes = Vec::new();
        let mut count = 0;
        let (outcome, decoder) = pump::enhance(
            decoder,
            &self.settings.options,
            output,
            &|line| report.say(line),
            |pair: Pair| {
                if let Some(picture) = picture
                    && (count == shown || count == 0)
                {
                    save_pair(&pair, &video, output, picture.path())?;
                }
                count += 1;
                bytes.clear();
                output.unpack(&pair.large, &mut bytes)?;
                encoder.write(self.prepared.timing.ticks(pair.pts), &bytes)?;
                report.frame();
                Ok(Next::More)
            },
        )?;
        let all =
            self.part.start.is_none() && self.part.end.is_none() && self.part.frames.is_none();
        let mut stated = (None, None);
        if all && self.part.deinterlace == Deinterlace::Auto {
            // AVI is cut to what is there by whoever reads it, but for the number of frames.
            let is_avi = self.clip.probe.format.format_name == "avi";
            let frames = self.clip.video.nb_frames.as_deref().filter(|_| is_avi);
            stated = (
                self.clip.video.seconds(),
                frames.and_then(|text| text.parse().ok()),
            );
        }
        let damage = match outcome {
            Outcome::Finished => decoder.finish(stated)?,
            _ => None,
        };
        if count == 0 && outcome == Outcome::Interrupted {
            return Ok((
                outcome,
                None,
                Encoded {
                    frames: 0,
                    first: 0,
                },
            ));
        }
        Ok((outcome, damage, encoder.finish()?))
    }

    fn first_number(&self) -> u64 {
        let own = match &self.job.source {
            Source::Named(input) => inputs::first_number(Path::new(&input.title)),
            Source::StandardInput => None,
        };
        own.unwrap_or(1)
    }

    /// Adds what else is in the clip. `whole` is whether the new video is as long as the part that was asked for.
    fn join(
        &self,
        target: &Target,
        encoded: &Encoded,
        whole: bool,
        report: &Report,
    ) -> Result<Option<String>> {
        let Some(file) = target.file().filter(|_| self.container.has_side_streams()) else {
            return Ok(None);
        };
        let others = self.clip.probe.streams.len() > 1;
        if !self.clip.input.again {
            if others {
                report
                    .say("sound and everything else is left out: the input can be read only once");
            }
            fs::rename(target.video(self.container), file.path()).context("renaming")?;
            return Ok(None);
        }
        let timing = &self.prepared.timing;
        // Matroska tells how long sound warms up, and players take that off the sound's times alone.
        let warm_up = match self.container {
            Container::Matroska | Container::WebM => self.clip.warm_up(),
            _ => 0.0,
        };
        let offset = timing.seconds(encoded.first) - warm_up;
        let frame = self.prepared.output.frame_seconds().unwrap_or(0.04);
        let join = Join {
            clip: self.clip,
            part: self.part,
            video: &target.video(self.container),
            offset,
            limit: (!whole).then_some(offset + encoded.frames as f64 * frame),
            container: self.container,
            timescale: timing.time_base().1,
        };
        let joined = join
            .write(file.path())
            .with_context(|| format!("'{}' cannot be written", self.job.output.display()))?;
        for note in joined.notes {
            report.say(&note);
        }
        Ok(joined.damage)
    }

    fn tell(&self, encoded: &Encoded, damage: Option<&str>, report: &Report) {
        let output = &self.prepared.output;
        let (frames, seconds) = (encoded.frames, report.seconds());
        let name = shown(&self.job.output);
        let rate = frames as f64 / seconds.max(1e-3);
        let plural = if frames == 1 { "frame" } else { "frames" };
        let line = format!(
            "{name}: {frames} {plural} of {}x{} in {} ({rate:.2} frames/s)",
            output.width,
            output.height,
            clock(seconds)
        );
        report.done(
            &line,
            &json!({
                "event": "done", "input": self.job.title(), "output": name, "frames": frames, "width": output.width,
                "height": output.height, "seconds": (seconds * 100.0).round() / 100.0, "codec": self.prepared.plan.codec.label(),
                "damage": damage,
            }),
        );
    }
}

/// An output as people know it.
fn shown(output: &Path) -> String {
    if output == Path::new("-") {
        return "standard output".to_owned();
    }
    output.display().to_string()
}

fn save_pair(pair: &Pair, before: &RawVideo, after: &RawVideo, path: &Path) -> Result<()> {
    let (small, large) = (before.sample(&pair.small)?, after.sample(&pair.large)?);
    pair::halves(&small, &large)?.save(path)
}

/// Where the result goes.
enum Target {
    /// A file, which gets its name at the end, and the video alone, before everything else is joined to it.
    File(PartialFile, Scratch),
    /// Numbered pictures, in a folder of their own until all are there.
    Pictures(tempfile::TempDir, PathBuf),
    /// Standard output.
    StandardOutput,
}

impl Target {
    fn new(path: &Path, container: Container, force: bool) -> Result<Self> {
        if path == Path::new("-") {
            return Ok(Self::StandardOutput);
        }
        let parent = match path.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        };
        if !parent.exists() {
            fs::create_dir_all(parent)
                .with_context(|| format!("the folder '{}' cannot be made", parent.display()))?;
        }
        if container.is_pictures() && inputs::is_numbered(path) {
            if !force && inputs::first_number(path).is_some() {
                bail!(
                    "there are pictures named like '{}': pass --force to overwrite them",
                    path.display()
                );
            }
            let folder = tempfile::Builder::new()
                .prefix(".flashvideo-")
                .tempdir_in(parent)
                .with_context(|| format!("the folder '{}' cannot be written", parent.display()))?;
            return Ok(Self::Pictures(folder, path.to_owned()));
        }
        let file = PartialFile::new(path, force)?;
        let video = file.beside(".video");
        Ok(Self::File(file, video))
    }

    fn file(&self) -> Option<&PartialFile> {
        match self {
            Self::File(file, _) => Some(file),
            _ => None,
        }
    }

    /// Where the encoder writes.
    fn video(&self, container: Container) -> PathBuf {
        match self {
            Self::File(_, video) if container.has_side_streams() => video.path().to_owned(),
            Self::File(file, _) => file.path().to_owned(),
            Self::Pictures(folder, pattern) => {
                folder.path().join(pattern.file_name().unwrap_or_default())
            }
            Self::StandardOutput => "-".into(),
        }
    }

    /// Whether as many frames are in the file as went into it.
    fn verify(&self, container: Container, frames: u64) -> Result<()> {
        let found = match self {
            Self::File(file, _) if container.has_side_streams() => probe::frames_in(file.path())?,
            Self::Pictures(folder, _) => fs::read_dir(folder.path())?.count() as u64,
            _ => return Ok(()),
        };
        if found != frames {
            bail!("{frames} frames were enhanced, but {found} are in what was written");
        }
        Ok(())
    }

    fn keep(self) -> Result<()> {
        match self {
            Self::File(file, _) => file.keep(),
            Self::Pictures(folder, pattern) => {
                for entry in fs::read_dir(folder.path())? {
                    let entry = entry?;
                    fs::rename(entry.path(), pattern.with_file_name(entry.file_name()))
                        .context("renaming")?;
                }
                Ok(())
            }
            Self::StandardOutput => Ok(()),
        }
    }
}
