// SPDX-License-Identifier: MPL-2.0
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

/// Subtitles of two cues.
const TITLES: &str = "1\n00:00:00,100 --> 00:00:00,300\n<i>Rock & roll</i>\n\n2\n00:00:00,400 --> 00:00:00,600\ntwo\n";

/// A folder of one test's own, removed at the end.
pub struct Folder(tempfile::TempDir);

impl Folder {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<_> = std::fs::read_dir(self.0.path())
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    /// Runs ffmpeg in the folder; `words` are separated by spaces.
    #[track_caller]
    pub fn ffmpeg(&self, words: &str) {
        let done = Command::new("ffmpeg")
            .args(["-v", "error", "-y", "-nostdin"])
            .args(words.split_whitespace())
            .current_dir(self.0.path())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "ffmpeg {words}: {said}");
    }

    /// A clip of `seconds` at 25 frames a second, from ffmpeg's test picture; `how` encodes it.
    #[track_caller]
    pub fn clip(&self, name: &str, size: &str, seconds: f64, how: &str) -> PathBuf {
        let size = size.replace('x', ":");
        self.ffmpeg(&format!(
            "-f lavfi -i testsrc2=s=400x300:r=25:d={seconds},scale={size},setsar=1 {how} {name}"
        ));
        self.file(name)
    }

    /// The same with a tone and two subtitles before `how`.
    #[track_caller]
    pub fn film(&self, name: &str, size: &str, how: &str) -> PathBuf {
        std::fs::write(self.file("titles.srt"), TITLES).unwrap();
        self.ffmpeg(&format!(
            "-f lavfi -i testsrc2=s={size}:r=25:d=0.8 -f lavfi -i sine=d=0.8 -i titles.srt -map 0 -map 1 -map 2 {how} {name}"
        ));
        std::fs::remove_file(self.file("titles.srt")).unwrap();
        self.file(name)
    }

    /// Enhances `input` to `output` by two with the small model, and `more`; it must succeed.
    #[track_caller]
    pub fn enhance(&self, input: &str, output: &str, more: &[&str]) -> PathBuf {
        let done = self.run(input, output, more);
        let said = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "{input} to {output}: {said}");
        self.file(output)
    }

    /// The same, however it ends.
    pub fn run(&self, input: &str, output: &str, more: &[&str]) -> Output {
        let sized = more
            .iter()
            .any(|word| ["--size", "--to", "--scale"].contains(word));
        let scale: &[&str] = if sized { &[] } else { &["--scale", "2"] };
        let model: &[&str] = if more.contains(&"--model") {
            &[]
        } else {
            &["--model", "builtin:live"]
        };
        program()
            .args([input, output])
            .args(model)
            .args(scale)
            .args(more)
            .current_dir(self.0.path())
            .output()
            .unwrap()
    }
}

pub fn program() -> Command {
    let mut program = Command::new(env!("CARGO_BIN_EXE_flashvideo"));
    program.arg("enhance");
    program
}

pub fn said(done: &Output) -> String {
    String::from_utf8_lossy(&done.stderr).into_owned()
}

/// What ffprobe says of a file, asked with these words.
pub fn probe(path: &Path, words: &[&str]) -> Value {
    let done = Command::new("ffprobe")
        .args(["-v", "error", "-of", "json"])
        .args(words)
        .arg(path)
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", path.display());
    serde_json::from_slice(&done.stdout).unwrap()
}

/// The streams of a file.
pub fn streams(path: &Path) -> Vec<Value> {
    probe(path, &["-show_streams"])["streams"]
        .as_array()
        .unwrap()
        .clone()
}

/// The film of a file: the video that is no cover.
pub fn video(path: &Path) -> Value {
    let mut films = streams(path).into_iter().filter(|stream| {
        stream["codec_type"] == "video" && stream["disposition"]["attached_pic"] == 0
    });
    films.next().unwrap()
}

/// Names of the codecs, in the order of the streams.
pub fn codecs(path: &Path) -> Vec<String> {
    streams(path)
        .iter()
        .map(|stream| stream["codec_name"].as_str().unwrap_or("none").to_owned())
        .collect()
}

pub fn size(path: &Path) -> (u64, u64) {
    let video = video(path);
    (
        video["width"].as_u64().unwrap(),
        video["height"].as_u64().unwrap(),
    )
}

/// Times of the packets of one kind of stream (`v`, `a`, `s`) in milliseconds, in order, with a hash of each.
pub fn packets(path: &Path, kind: &str) -> Vec<(i64, String)> {
    let words = [
        "-select_streams",
        kind,
        "-show_packets",
        "-show_data_hash",
        "md5",
    ];
    let found = probe(path, &words);
    let mut packets: Vec<_> = found["packets"]
        .as_array()
        .unwrap()
        .iter()
        .map(|packet| {
            let seconds: f64 = packet["pts_time"].as_str().unwrap().parse().unwrap();
            let hash = packet["data_hash"].as_str().unwrap().to_owned();
            ((seconds * 1000.0).round() as i64, hash)
        })
        .collect();
    packets.sort();
    packets
}

pub fn times(path: &Path, kind: &str) -> Vec<i64> {
    packets(path, kind)
        .into_iter()
        .map(|packet| packet.0)
        .collect()
}

pub fn hashes(path: &Path, kind: &str) -> Vec<String> {
    packets(path, kind)
        .into_iter()
        .map(|packet| packet.1)
        .collect()
}

/// Frames that decode.
pub fn frames(path: &Path) -> usize {
    let words = "-map 0:v:0 -fps_mode passthrough -f framemd5 -";
    let done = Command::new("ffmpeg")
        .args(["-v", "error", "-i"])
        .arg(path)
        .args(words.split_whitespace())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    text.lines().filter(|line| !line.starts_with('#')).count()
}

/// The first frame on a coarse grid, as a decoder that honours all tags shows it; `pixels` is what it is shown in.
pub fn colours(path: &Path, pixels: &str) -> Vec<u8> {
    let done = Command::new("ffmpeg")
        .args(["-v", "error"])
        // The decoder that knows of alpha.
        .args(if pixels == "rgba" {
            &["-c:v", "libvpx-vp9"][..]
        } else {
            &[]
        })
        .arg("-i")
        .arg(path)
        .args(["-map", "0:v:0", "-frames:v", "1", "-vf"])
        .arg("scale=16:9:flags=area+accurate_rnd+full_chroma_int")
        .args(["-f", "rawvideo", "-pix_fmt", pixels, "-"])
        .output()
        .unwrap();
    done.stdout
}

/// How far two clips' first frames are apart, in codes on average.
#[track_caller]
pub fn apart(a: &Path, b: &Path) -> f64 {
    let (a, b) = (colours(a, "rgb24"), colours(b, "rgb24"));
    assert_eq!((a.len(), b.len()), (16 * 9 * 3, 16 * 9 * 3));
    let sum: u32 = a
        .iter()
        .zip(&b)
        .map(|(a, b)| u32::from(a.abs_diff(*b)))
        .sum();
    f64::from(sum) / a.len() as f64
}
