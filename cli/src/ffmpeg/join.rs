// SPDX-License-Identifier: MPL-2.0
//! The finished video with everything else of the clip: sound, subtitles, fonts, chapters, covers, titles. The picture is
//! not encoded again.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::container::Container;
use super::damage;
use super::decode::{Clip, DecodeOptions};
use super::probe::Stream;
use super::program::{ffmpeg, file, output, reason, succeed, with, without_address};
use super::streams::{Fate, SideStream};
use crate::interrupt::Interrupted;

/// Tags of a video stream that are about its old packets.
const STALE: &[&str] = &[
    "BPS",
    "DURATION",
    "NUMBER_OF",
    "_STATISTICS",
    "ENCODER",
    "ROTATE",
    "VENDOR_ID",
];

/// Languages that QuickTime knows by the other one of their two codes in ISO 639-2.
const QUICKTIME_LANGUAGES: &[(&str, &str)] = &[
    ("fre", "fra"),
    ("deu", "ger"),
    ("nld", "dut"),
    ("rum", "ron"),
    ("cze", "ces"),
    ("slo", "slk"),
    ("ell", "gre"),
    ("isl", "ice"),
    ("zho", "chi"),
    ("sqi", "alb"),
    ("mkd", "mac"),
    ("hye", "arm"),
    ("kat", "geo"),
    ("bod", "tib"),
    ("mya", "bur"),
    ("msa", "may"),
];

/// What is joined.
#[derive(Debug)]
pub struct Join<'a> {
    /// The old clip.
    pub clip: &'a Clip,
    /// Which part of it.
    pub part: &'a DecodeOptions,
    /// The finished video.
    pub video: &'a Path,
    /// Seconds from the begin of the part to the first frame.
    pub offset: f64,
    /// Seconds after which everything ends, where the video is only a part of what was asked for.
    pub limit: Option<f64>,
    /// The file format.
    pub container: Container,
    /// Ticks in a second of the video.
    pub timescale: u32,
}

/// What people should know of it.
#[derive(Debug)]
pub struct Joined {
    /// Of streams that do not come through as they are.
    pub notes: Vec<String>,
    /// Of streams that are broken.
    pub damage: Option<String>,
}

impl Join<'_> {
    /// Writes `target`.
    ///
    /// # Errors
    /// If not even the video can be written.
    pub fn write(&self, target: &Path) -> Result<Joined> {
        let mut sides = SideStream::all(&self.clip.probe, self.clip.video.index, self.container);
        let folder = tempfile::tempdir().context("making a folder for covers")?;
        let mut damage = None;
        if let Err(error) = self.run(&sides, folder.path(), target) {
            if error.is::<Interrupted>() {
                return Err(error);
            }
            // Whichever stream is to blame gets something worse.
            for side in &mut sides {
                while matches!(side.fate, Fate::Copy | Fate::Encode(_))
                    && let Some(why) = self.trouble(side)?
                {
                    damage = damage.or_else(|| damage::of(std::slice::from_ref(&why), None, 0.0));
                    side.fate = side.worse(self.container);
                    side.why = Some(without_address(&why).to_owned());
                }
            }
            if let Err(error) = self.run(&sides, folder.path(), target) {
                if error.is::<Interrupted>() {
                    return Err(error);
                }
                self.run(&[], folder.path(), target)?;
                return Ok(Joined {
                    notes: vec![format!("sound and everything else is left out: {error:#}")],
                    damage,
                });
            }
        }
        Ok(Joined {
            notes: sides.iter().filter_map(SideStream::note).collect(),
            damage,
        })
    }

    /// Why a stream on its own does not go into such a file, if it does not.
    fn trouble(&self, side: &SideStream) -> Result<Option<String>> {
        let mut command = with(ffmpeg(), self.clip.reading(self.part));
        command.args(["-map", &format!("0:{}", side.stream.index), "-c"]);
        command.arg(encoder_of(&side.fate));
        command.args(["-strict", "-2", "-f", self.container.muxer(), "/dev/null"]);
        let done = output(&mut command)?;
        if done.status.success() {
            return Ok(None);
        }
        let lines: Vec<String> = String::from_utf8_lossy(&done.stderr)
            .lines()
            .map(str::to_owned)
            .collect();
        Ok(Some(reason(&lines)))
    }

    fn has_edit_lists(&self) -> bool {
        self.clip
            .probe
            .format
            .format_name
            .split(',')
            .any(|name| name == "mov")
    }

    fn run(&self, sides: &[SideStream], folder: &Path, target: &Path) -> Result<()> {
        let mut command = ffmpeg();
        if self.offset.abs() > 1e-6 {
            command.args(["-itsoffset", &format!("{:.6}", self.offset)]);
        }
        command.args([OsString::from("-i"), file(self.video)]);
        command.args(self.clip.reading(self.part));
        // Only sound is where its warm-up makes it be; everything else comes from a reading without that.
        let warm_up = self.clip.warm_up();
        let late = warm_up > 0.0
            && sides
                .iter()
                .any(|side| side.stream.codec_type == "subtitle");
        if late {
            command.args(["-itsoffset", &format!("{:.6}", -warm_up)]);
            command.args(self.clip.reading(self.part));
        }
        command.args(["-map", "0:v:0", "-c:0", "copy"]);
        let mut attached: Vec<(&SideStream, PathBuf)> = Vec::new();
        let mut index = 0;
        for side in sides {
            match &side.fate {
                Fate::Copy | Fate::Encode(_) => {
                    index += 1;
                    let input = if late && side.stream.codec_type == "subtitle" {
                        2
                    } else {
                        1
                    };
                    command.args(["-map", &format!("{input}:{}", side.stream.index)]);
                    command.args([
                        format!("-map_metadata:s:{index}"),
                        format!("1:s:{}", side.stream.index),
                    ]);
                    command.args([format!("-c:{index}"), encoder_of(&side.fate).to_owned()]);
                    if side.fate == Fate::Encode("libopus") {
                        let layouts =
                            "aformat=channel_layouts=7.1|6.1|5.1|5.0|quad|3.0|stereo|mono";
                        command.args([format!("-filter:{index}"), layouts.to_owned()]);
                    }
                    if side.fate == Fate::Copy
                        && side.stream.codec_type == "audio"
                        && self.has_edit_lists()
                    {
                        // What ends before the begin is there for an editor to undo a cut; players do not play it.
                        let before = "noise=amount=0:drop='lt(pts+duration,0)'";
                        command.args([format!("-bsf:{index}"), before.to_owned()]);
                    }
                    command.args(self.names(index, &side.stream));
                    if side.stream.is_cover() {
                        command.args([format!("-disposition:{index}"), "attached_pic".to_owned()]);
                    }
                }
                Fate::Attach => attached.push((side, self.cover(side, folder)?)),
                Fate::Leave(_) | Fate::Implied => {}
            }
        }
        for (side, path) in &attached {
            index += 1;
            command.arg("-attach").arg(path);
            let png = side.stream.codec_name == "png";
            let kind =
                side.stream
                    .tag("mimetype")
                    .unwrap_or(if png { "image/png" } else { "image/jpeg" });
            let name =
                side.stream
                    .tag("filename")
                    .unwrap_or(if png { "cover.png" } else { "cover.jpg" });
            command.args([format!("-metadata:s:{index}"), format!("mimetype={kind}")]);
            command.args([format!("-metadata:s:{index}"), format!("filename={name}")]);
        }
        command.args(["-map_metadata", "1", "-map_chapters", "1", "-strict", "-2"]);
        command.args(self.video_tags());
        command.args(self.names(0, &self.clip.video));
        if let Some(limit) = self.limit {
            command.args(["-t", &format!("{limit:.6}")]);
        }
        if matches!(self.container, Container::Mp4 | Container::QuickTime) {
            // Players may begin before the whole file is there.
            command.args(["-movflags", "+faststart"]);
            command.args(["-video_track_timescale", &self.timescale.to_string()]);
        } else {
            // Matroska has times before its begin.
            command.args(["-avoid_negative_ts", "disabled"]);
        }
        command
            .args(["-f", self.container.muxer()])
            .arg(file(target));
        command.args(
            self.clip
                .enabling(&format!("1:{}", self.clip.video.index), self.limit),
        );
        let done = output(&mut command)?;
        if !done.status.success() {
            let lines: Vec<String> = String::from_utf8_lossy(&done.stderr)
                .lines()
                .map(str::to_owned)
                .collect();
            anyhow::bail!("{}", reason(&lines));
        }
        Ok(())
    }

    /// Title and language of a stream, where the file has them under another name.
    fn names(&self, index: usize, stream: &Stream) -> Vec<String> {
        let mut words = Vec::new();
        let mut set = |key: &str, value: &str| {
            words.extend([format!("-metadata:s:{index}"), format!("{key}={value}")]);
        };
        if let (Container::Mp4 | Container::QuickTime, Some(title)) =
            (self.container, stream.tag("title"))
        {
            set("handler_name", title);
        }
        let language = stream.tag("language").unwrap_or_default();
        let quicktime = QUICKTIME_LANGUAGES
            .iter()
            .find(|(name, _)| *name == language);
        if let (Container::QuickTime, Some((_, name))) = (self.container, quicktime) {
            set("language", name);
        }
        words
    }

    /// Tags and marks of the old video stream for the new one.
    fn video_tags(&self) -> Vec<String> {
        let video = &self.clip.video;
        let mut words = vec![
            "-map_metadata:s:0".to_owned(),
            format!("1:s:{}", video.index),
        ];
        for name in video.tags.keys() {
            let upper = name.to_ascii_uppercase();
            if STALE.iter().any(|stale| upper.starts_with(stale)) {
                words.extend(["-metadata:s:0".to_owned(), format!("{name}=")]);
            }
        }
        let marks: Vec<&str> = video
            .disposition
            .iter()
            .filter(|(name, set)| {
                **set == 1
                    && !matches!(
                        name.as_str(),
                        "attached_pic" | "timed_thumbnails" | "still_image"
                    )
            })
            .map(|(name, _)| name.as_str())
            .collect();
        let marks = if marks.is_empty() {
            "0".to_owned()
        } else {
            marks.join("+")
        };
        words.extend(["-disposition:0".to_owned(), marks]);
        words
    }

    /// A cover picture as a file.
    fn cover(&self, side: &SideStream, folder: &Path) -> Result<PathBuf> {
        let extension = if side.stream.codec_name == "png" {
            "png"
        } else {
            "jpg"
        };
        let path = folder.join(format!("cover{}.{extension}", side.stream.index));
        let mut command = ffmpeg();
        command.args(&self.clip.input.words);
        command.arg("-i").arg(&self.clip.input.name);
        command.args([
            "-map",
            &format!("0:{}", side.stream.index),
            "-frames:v",
            "1",
            "-c",
            "copy",
            "-update",
            "1",
            "-f",
            "image2",
        ]);
        command.arg(file(&path));
        succeed(&mut command).with_context(|| side.label())?;
        Ok(path)
    }
}

fn encoder_of(fate: &Fate) -> &'static str {
    match fate {
        Fate::Encode(encoder) => encoder,
        _ => "copy",
    }
}
