// SPDX-License-Identifier: MPL-2.0
//! `flashvideo enhance`: clips in, larger and sharper ones out, with everything else that is in them.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use super::DAMAGED;
use crate::ffmpeg::codec::{CRF, Chroma, Codec, Engine, Wish};
use crate::ffmpeg::decode::{DecodeOptions, Deinterlace};
use crate::interrupt;
use crate::jobs::inputs::{self, Job};
use crate::jobs::job::{self, End, Settings};
use crate::media::enhancer::Options;
use crate::report::{Report, Style};
use crate::usage::Usage;

/// Enlarges and sharpens clips; sound, subtitles, chapters and tags are kept
///
/// Any clip that ffmpeg reads goes in: files, folders (which are mirrored), numbered pictures (frame_%05d.png), single
/// pictures, URIs, y4m by standard input (-). The extension of OUT chooses the format: .mp4, .mov, .mkv, .webm, .png, .jpg,
/// frame_%05d.png, .y4m, or - for y4m by standard output. What does not come through as it is is named.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, override_usage = "flashvideo enhance [OPTIONS] <IN>... <OUT>")]
pub struct Enhance {
    /// The clips to enhance, then the file or folder to write
    #[arg(required = true, num_args = 1.., value_name = "IN... OUT")]
    files: Vec<PathBuf>,

    #[command(flatten)]
    options: Options,

    /// Codec of the video [default: h264; hevc for high dynamic range, vp9 in .webm; with transparency what keeps it]
    #[arg(long, value_enum)]
    codec: Option<Codec>,

    /// Quality of the encoded video, 0 (lossless) to 51 (worst)
    #[arg(long, default_value_t = CRF, value_parser = clap::value_parser!(u32).range(0..=51))]
    crf: u32,

    /// Resolution of colour in the encoded video
    #[arg(long, value_enum, default_value_t)]
    chroma: Chroma,

    /// Who encodes
    #[arg(long, value_enum, default_value_t)]
    encoder: Engine,

    /// What becomes of interlaced pictures
    #[arg(long, value_enum, default_value_t)]
    deinterlace: Deinterlace,

    /// Begin at this time: seconds, or HH:MM:SS
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    start: Option<f64>,

    /// End at this time
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    end: Option<f64>,

    /// Only so many frames: a quick look
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    frames: Option<u64>,

    /// Frames in a second of numbered pictures
    #[arg(long, value_name = "RATE", default_value = "25", value_parser = parse_rate)]
    fps: String,

    /// Also writes a picture of one frame: the plain enlargement on the left, the result on the right
    #[arg(long, value_name = "FILE.png")]
    before_after: Option<PathBuf>,

    /// Ctrl-C keeps what is done, as a clip that ends there
    #[arg(long)]
    keep_partial: bool,

    /// Overwrite outputs that exist
    #[arg(long)]
    force: bool,

    /// Tell what happens in lines of JSON on standard output, progress once a second
    #[arg(long)]
    json: bool,

    /// Tell nothing but warnings and errors
    #[arg(long, conflicts_with = "json")]
    quiet: bool,
}

const EXAMPLES: &str = "\
Examples:
  flashvideo enhance old.mp4 new.mp4
  flashvideo enhance --to 4k --codec hevc holiday/ out/
  flashvideo enhance --start 1:30 --frames 50 --before-after look.png film.mkv look.mkv
  ffmpeg -i in.avi -f yuv4mpegpipe - | flashvideo enhance - - | ffplay -

Exit codes: 0 done; 1 failed; 2 wrong arguments; 3 done as far as a damaged clip can be read; 130 ended by Ctrl-C.";

/// Seconds, `MM:SS` or `HH:MM:SS`, with a fraction.
pub(super) fn parse_time(text: &str) -> Result<f64, String> {
    let wrong = || {
        format!("'{text}' is no time: expected seconds or HH:MM:SS, as in 90, 1:30 or 0:01:30.5")
    };
    let parts: Vec<f64> = text
        .split(':')
        .map(str::parse)
        .collect::<Result<_, _>>()
        .map_err(|_| wrong())?;
    let right = parts.len() <= 3 && parts.iter().all(|part| part.is_finite() && *part >= 0.0);
    let small = parts.iter().skip(1).all(|part| *part < 60.0);
    if !right || !small {
        return Err(wrong());
    }
    Ok(parts.iter().fold(0.0, |sum, part| 60.0 * sum + part))
}

/// A positive number, or a ratio such as `30000/1001`.
fn parse_rate(text: &str) -> Result<String, String> {
    let (frames, seconds) = text.split_once('/').unwrap_or((text, "1"));
    match (frames.parse::<f64>(), seconds.parse::<f64>()) {
        (Ok(frames), Ok(seconds))
            if frames > 0.0 && seconds > 0.0 && frames / seconds <= 1000.0 =>
        {
            Ok(text.to_owned())
        }
        _ => Err(format!(
            "'{text}' is no frame rate: expected a number or a ratio, as in 25 or 30000/1001"
        )),
    }
}

impl Enhance {
    /// Runs the command; the exit code is that of the worst job.
    ///
    /// # Errors
    /// When the one job fails, or the arguments do not fit the files there are.
    pub fn run(self) -> Result<ExitCode> {
        let Some((output, inputs)) = self.files.split_last() else {
            return Err(Usage("name a clip to enhance and a file to write".to_owned()).into());
        };
        if inputs.is_empty() {
            let text = format!(
                "'{}' is a clip or a file to write: name both",
                output.display()
            );
            return Err(Usage(text).into());
        }
        if let (Some(start), Some(end)) = (self.start, self.end)
            && end <= start
        {
            return Err(Usage(format!("--end {end} is not after --start {start}")).into());
        }
        if self.end.is_some_and(|end| end <= 0.0) {
            return Err(Usage("--end 0 leaves nothing".to_owned()).into());
        }
        let style = Style::of(self.json, self.quiet);
        let jobs = match inputs::jobs(inputs, output, &self.fps) {
            Ok(jobs) => jobs,
            Err(error) => {
                Report::new(style, false, &output.display().to_string())
                    .failed(&format!("{error:#}"));
                return Err(error);
            }
        };
        if let Some(picture) = &self.before_after {
            if jobs.len() > 1 {
                return Err(Usage("--before-after is a picture of one clip".to_owned()).into());
            }
            if picture
                .extension()
                .is_none_or(|extension| !extension.eq_ignore_ascii_case("png"))
            {
                return Err(Usage(format!(
                    "--before-after '{}': its name must end in .png",
                    picture.display()
                ))
                .into());
            }
            inputs::check_extra(picture, &jobs)?;
        }
        crate::media::init()?;
        interrupt::watch();
        let settings = Settings {
            options: self.options.clone(),
            part: DecodeOptions {
                start: self.start,
                end: self.end,
                frames: self.frames,
                deinterlace: self.deinterlace,
                ..DecodeOptions::default()
            },
            wish: Wish {
                codec: self.codec,
                chroma: self.chroma,
                engine: self.encoder,
            },
            crf: self.crf,
            force: self.force,
            keep_partial: self.keep_partial,
            before_after: self.before_after.clone(),
        };
        match jobs.as_slice() {
            [job] => one(job, &settings, style),
            jobs => many(jobs, &settings, style),
        }
    }
}

fn one(job: &Job, settings: &Settings, style: Style) -> Result<ExitCode> {
    let mut report = Report::new(style, job.output.as_os_str() == "-", job.title());
    match job::run(job, settings, &mut report) {
        Ok(end) => Ok(exit_code(end)),
        Err(error) => {
            report.failed(&format!("{error:#}"));
            Err(error)
        }
    }
}

fn exit_code(end: End) -> ExitCode {
    match end {
        End::Done => ExitCode::SUCCESS,
        End::Damaged => ExitCode::from(DAMAGED),
        End::Interrupted => {
            eprintln!("interrupted: nothing was written (--keep-partial keeps what is done)");
            ExitCode::from(interrupt::EXIT_CODE)
        }
        End::Kept => {
            eprintln!("interrupted: the clip ends there");
            ExitCode::from(interrupt::EXIT_CODE)
        }
    }
}

/// One after the other; what fails does not keep the others from being done.
fn many(jobs: &[Job], settings: &Settings, style: Style) -> Result<ExitCode> {
    let (mut failed, mut damaged, mut skipped) = (0, 0, 0);
    for job in jobs {
        let mut report = Report::new(style, false, job.title());
        if !settings.force && job.output.exists() {
            report.say(&format!(
                "'{}' exists: left as it is (--force overwrites)",
                job.output.display()
            ));
            skipped += 1;
            continue;
        }
        match job::run(job, settings, &mut report) {
            Ok(End::Done) => {}
            Ok(End::Damaged) => damaged += 1,
            Ok(end @ (End::Interrupted | End::Kept)) => return Ok(exit_code(end)),
            Err(error) if interrupt::wanted() => return Err(error),
            Err(error) => {
                report.failed(&format!("{error:#}"));
                eprintln!("error: {error:#}");
                failed += 1;
            }
        }
    }
    if failed + damaged + skipped > 0 {
        eprintln!(
            "{} of {} clips done, {skipped} were there already, {damaged} are damaged, {failed} failed",
            jobs.len() - failed - skipped,
            jobs.len()
        );
    }
    Ok(match (failed, damaged) {
        (0, 0) => ExitCode::SUCCESS,
        (0, _) => ExitCode::from(DAMAGED),
        _ => ExitCode::FAILURE,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_and_wrong_ones_refused() {
        assert_eq!(parse_time("90.5"), Ok(90.5));
        assert_eq!(parse_time("1:30"), Ok(90.0));
        assert_eq!(parse_time("1:02:03.5"), Ok(3723.5));
        for wrong in ["", "-1", "1:60", "a", "1:2:3:4", "inf"] {
            assert!(parse_time(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn rates_are_read_and_wrong_ones_refused() {
        assert_eq!(parse_rate("30000/1001"), Ok("30000/1001".into()));
        for wrong in ["0", "x", "25/0", "-25", "1e9"] {
            assert!(parse_rate(wrong).is_err(), "{wrong}");
        }
    }
}
