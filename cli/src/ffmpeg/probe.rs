// SPDX-License-Identifier: MPL-2.0
//! What a clip holds, as `ffprobe` tells.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use super::program::{self, ffprobe, succeed, with};

/// What `ffprobe` prints.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Probe {
    /// All streams, in the order of the file.
    #[serde(default)]
    pub streams: Vec<Stream>,
    /// Marks with titles.
    #[serde(default)]
    pub chapters: Vec<serde_json::Value>,
    /// The container.
    #[serde(default)]
    pub format: Format,
}

/// The container of a clip.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Format {
    /// Names of the demuxer, separated by commas.
    #[serde(default)]
    pub format_name: String,
    /// Seconds.
    pub duration: Option<String>,
    /// Seconds at which the earliest stream begins.
    pub start_time: Option<String>,
}

/// One stream of a clip. Names are those of `ffprobe`.
#[derive(Clone, Debug, Default, Deserialize)]
#[allow(missing_docs)]
pub struct Stream {
    pub index: u32,
    #[serde(default)]
    pub codec_type: String,
    #[serde(default)]
    pub codec_name: String,
    #[serde(default)]
    pub width: u32,
    #[serde(default)]
    pub height: u32,
    #[serde(default)]
    pub pix_fmt: String,
    pub sample_aspect_ratio: Option<String>,
    pub color_range: Option<String>,
    pub color_space: Option<String>,
    pub color_transfer: Option<String>,
    pub color_primaries: Option<String>,
    pub chroma_location: Option<String>,
    pub field_order: Option<String>,
    pub r_frame_rate: Option<String>,
    pub avg_frame_rate: Option<String>,
    pub time_base: Option<String>,
    pub duration: Option<String>,
    pub nb_frames: Option<String>,
    pub nb_read_packets: Option<String>,
    #[serde(default)]
    pub disposition: BTreeMap<String, u8>,
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
    #[serde(default)]
    pub side_data_list: Vec<serde_json::Value>,
}

impl Stream {
    /// Whether it is a still picture that belongs to the file: the cover of an album, of a film.
    pub fn is_cover(&self) -> bool {
        self.codec_type == "video"
            && ["attached_pic", "timed_thumbnails"]
                .iter()
                .any(|name| self.disposition.get(*name) == Some(&1))
    }

    /// A tag, whatever its letters' case.
    pub fn tag(&self, name: &str) -> Option<&str> {
        self.tags
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// Seconds that the stream itself lasts, if its container says so.
    pub fn seconds(&self) -> Option<f64> {
        let own = self.duration.as_deref().and_then(|text| text.parse().ok());
        own.or_else(|| self.tag("DURATION").and_then(clock))
            .filter(|&seconds: &f64| seconds > 0.0)
    }
}

/// `HH:MM:SS.fraction` in seconds.
fn clock(text: &str) -> Option<f64> {
    text.split(':')
        .map(|part| part.parse::<f64>().ok())
        .try_fold(0.0, |sum, part| Some(60.0 * sum + part?))
}

/// `numerator/denominator` or `numerator:denominator`, both positive.
pub fn ratio(text: Option<&str>) -> Option<(u32, u32)> {
    let (numerator, denominator) = text?.split_once(['/', ':'])?;
    let ratio = (numerator.parse().ok()?, denominator.parse().ok()?);
    (ratio.0 > 0 && ratio.1 > 0).then_some(ratio)
}

impl Probe {
    /// Of `input`, a file or URI, with `before` as further words for reading it.
    ///
    /// # Errors
    /// Why it cannot be read.
    pub fn of(input: &OsStr, before: &[OsString]) -> Result<Self> {
        let words = [
            "-of",
            "json",
            "-show_streams",
            "-show_chapters",
            "-show_format",
        ];
        let mut command = with(with(ffprobe(), before), words);
        command.arg(input);
        let text = succeed(&mut command)?;
        serde_json::from_slice(&text).context("ffprobe printed what is no JSON")
    }

    /// The stream to enhance: a film before a cover, and of films the one that is marked as the default.
    ///
    /// # Errors
    /// If there is none; the message tells what there is instead.
    pub fn video(&self) -> Result<&Stream> {
        let films = || {
            self.streams
                .iter()
                .filter(|s| s.codec_type == "video" && s.width > 0)
        };
        let is_default = |s: &&Stream| s.disposition.get("default") == Some(&1);
        let moving = || films().filter(|s| !s.is_cover());
        let found = moving().find(is_default).or_else(|| moving().next());
        if let Some(video) = found.or_else(|| films().find(|_| self.streams.len() == 1)) {
            return Ok(video);
        }
        let sound = self.streams.iter().any(|s| s.codec_type == "audio");
        if films().next().is_some() {
            bail!("there is no video in it, only sound with a cover picture");
        } else if sound {
            bail!("there is no video in it, only sound");
        }
        bail!("there is no video in it");
    }

    /// Seconds that the whole clip lasts.
    pub fn seconds(&self) -> Option<f64> {
        let text = self.format.duration.as_deref()?;
        text.parse().ok().filter(|&seconds: &f64| seconds > 0.0)
    }
}

/// What only the first frame of stream `index` tells.
///
/// # Errors
/// If the clip cannot be read.
pub fn first_frame_side_data(
    input: &OsStr,
    before: &[OsString],
    index: u32,
) -> Result<Vec<serde_json::Value>> {
    let stream = index.to_string();
    let mut command = with(
        with(ffprobe(), before),
        ["-of", "json", "-show_frames", "-read_intervals", "%+#1"],
    );
    command.args([
        "-select_streams",
        &stream,
        "-show_entries",
        "frame=side_data_list",
    ]);
    command.arg(input);
    let text = succeed(&mut command)?;
    let frames: serde_json::Value =
        serde_json::from_slice(&text).context("ffprobe printed what is no JSON")?;
    let side_data = frames
        .pointer("/frames/0/side_data_list")
        .and_then(|list| list.as_array());
    Ok(side_data.cloned().unwrap_or_default())
}

/// Packets of the first video stream in a file: its frames.
///
/// # Errors
/// If the file cannot be read.
pub fn frames_in(path: &Path) -> Result<u64> {
    let mut command = with(
        ffprobe(),
        ["-of", "json", "-count_packets", "-select_streams", "V:0"],
    );
    command.args(["-show_entries", "stream=index,nb_read_packets"]);
    command.arg(program::file(path));
    let probe: Probe = serde_json::from_slice(&succeed(&mut command)?)?;
    let count = probe
        .streams
        .first()
        .and_then(|s| s.nb_read_packets.as_deref());
    count
        .and_then(|text| text.parse().ok())
        .context("the file that was written has no video")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probe(streams: serde_json::Value) -> Probe {
        serde_json::from_value(serde_json::json!({ "streams": streams })).unwrap()
    }

    #[test]
    fn a_film_goes_before_a_cover_and_a_default_one_before_others() {
        let cover = serde_json::json!({"index": 0, "codec_type": "video", "width": 9, "disposition": {"attached_pic": 1}});
        let film = |index: u32, default: u8| serde_json::json!({"index": index, "codec_type": "video", "width": 9, "disposition": {"default": default}});
        let sound = serde_json::json!({"index": 3, "codec_type": "audio"});
        let of =
            |list: &[&serde_json::Value]| probe(serde_json::json!(list)).video().map(|s| s.index);
        assert_eq!(of(&[&cover, &film(1, 0), &film(2, 1), &sound]).unwrap(), 2);
        assert_eq!(of(&[&cover, &film(1, 0)]).unwrap(), 1);
        // A picture on its own is a picture to enhance.
        assert_eq!(of(&[&cover]).unwrap(), 0);
        assert!(
            of(&[&cover, &sound])
                .unwrap_err()
                .to_string()
                .contains("cover")
        );
        assert!(
            of(&[&sound])
                .unwrap_err()
                .to_string()
                .contains("only sound")
        );
    }

    #[test]
    fn times_and_ratios_are_read() {
        assert_eq!(ratio(Some("30000/1001")), Some((30000, 1001)));
        assert_eq!(ratio(Some("64:45")), Some((64, 45)));
        assert_eq!(ratio(Some("0/0")), None);
        assert_eq!(ratio(Some("0:1")), None);
        assert_eq!(ratio(None), None);
        let tagged = Stream {
            tags: [("duration".into(), "00:01:02.500000000".into())].into(),
            ..Stream::default()
        };
        assert_eq!(tagged.seconds(), Some(62.5));
    }
}
