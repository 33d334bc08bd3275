// SPDX-License-Identifier: MPL-2.0
//! `flashvideo enhance` on small files made here.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use gst::prelude::*;

const FRAMES: usize = 12;

/// A folder of one test's own, removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        gst::init().unwrap();
        let path =
            std::env::temp_dir().join(format!("flashvideo-enhance-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.0).unwrap();
        let mut names: Vec<_> = entries
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    /// A clip of one second: `size` of moving ball, a tone through `audio`, and one subtitle where the format has them.
    fn clip(&self, name: &str, size: (u32, u32), audio: &str, muxer: &str) -> PathBuf {
        let (path, titles) = (self.file(name), self.file("titles.srt"));
        std::fs::write(
            &titles,
            "1\n00:00:00,100 --> 00:00:00,800\n<i>Rock &amp; roll</i>\n",
        )
        .unwrap();
        let subtitles = match muxer {
            "matroskamux" => format!(
                "filesrc location={} ! subparse ! queue ! mux.",
                titles.display()
            ),
            _ => String::new(),
        };
        play(&format!(
            "videotestsrc num-buffers={FRAMES} pattern=ball \
             ! video/x-raw,format=I420,width={},height={},framerate=12/1 \
             ! x264enc speed-preset=ultrafast tune=zerolatency ! h264parse ! queue ! mux. \
             audiotestsrc num-buffers=10 samplesperbuffer=4800 ! audio/x-raw,rate=48000 ! {audio} ! queue ! mux. \
             {subtitles} {muxer} name=mux ! filesink location={}",
            size.0,
            size.1,
            path.display()
        ));
        std::fs::remove_file(titles).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn play(description: &str) {
    let pipeline: gst::Pipeline = gst::parse::launch(description).unwrap().downcast().unwrap();
    to_the_end(&pipeline);
}

/// Runs until EOS; an error on the bus fails the test.
fn to_the_end(pipeline: &gst::Pipeline) {
    pipeline.set_state(gst::State::Playing).unwrap();
    let ends = [gst::MessageType::Eos, gst::MessageType::Error];
    let bus = pipeline.bus().unwrap();
    let last = bus.timed_pop_filtered(gst::ClockTime::NONE, &ends).unwrap();
    assert_eq!(last.type_(), gst::MessageType::Eos, "{last:?}");
    pipeline.set_state(gst::State::Null).unwrap();
}

fn program() -> Command {
    let mut program = Command::new(env!("CARGO_BIN_EXE_flashvideo"));
    program.arg("enhance");
    program
}

fn enhance(input: &Path, output: &Path, more: &[&str]) -> Output {
    program()
        .arg(input)
        .arg(output)
        .args(more)
        .output()
        .unwrap()
}

#[track_caller]
fn succeed(output: &Output) {
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// One stream of a file, as ffprobe knows it.
struct Stream {
    kind: String,
    size: (u64, u64),
    packets: Vec<Packet>,
}

#[derive(Clone, PartialEq)]
struct Packet {
    hash: String,
    seconds: f64,
}

impl Stream {
    fn milliseconds(&self) -> Vec<u64> {
        let mut times: Vec<_> = self
            .packets
            .iter()
            .map(|p| (p.seconds * 1000.0).round() as u64)
            .collect();
        times.sort();
        times
    }

    fn hashes(&self) -> Vec<&str> {
        self.packets.iter().map(|p| p.hash.as_str()).collect()
    }
}

/// What ffprobe says of a file, asked with these words more.
fn probe(path: &Path, words: &[&str]) -> serde_json::Value {
    let done = Command::new("ffprobe")
        .args(["-v", "error", "-of", "json"])
        .args(words)
        .arg(path)
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", path.display());
    serde_json::from_slice(&done.stdout).unwrap()
}

/// The streams of a file, in its order.
fn streams(path: &Path) -> Vec<Stream> {
    let words = ["-show_streams", "-show_packets", "-show_data_hash", "md5"];
    let found = probe(path, &words);
    let list = |name: &str| found[name].as_array().unwrap().clone();
    let packets = list("packets");
    let of = |index: &serde_json::Value| {
        packets
            .iter()
            .filter(|packet| &packet["stream_index"] == index)
            .map(|packet| Packet {
                hash: packet["data_hash"].as_str().unwrap().to_owned(),
                seconds: packet["pts_time"].as_str().unwrap().parse().unwrap(),
            })
            .collect()
    };
    list("streams")
        .iter()
        .map(|stream| Stream {
            kind: stream["codec_name"].as_str().unwrap().to_owned(),
            size: (
                stream["width"].as_u64().unwrap_or(0),
                stream["height"].as_u64().unwrap_or(0),
            ),
            packets: of(&stream["index"]),
        })
        .collect()
}

fn kinds(streams: &[Stream]) -> Vec<&str> {
    streams.iter().map(|s| s.kind.as_str()).collect()
}

#[test]
fn sound_and_subtitles_are_kept_and_every_frame_comes_out() {
    let folder = Folder::new("keep");
    let input = folder.clip("in.mkv", (64, 48), "opusenc", "matroskamux");
    let output = folder.file("out.mkv");
    succeed(&enhance(&input, &output, &[]));
    let (before, after) = (streams(&input), streams(&output));
    assert_eq!(kinds(&after), ["h264", "opus", "subrip"]);
    assert_eq!(after[0].size, (256, 192));
    assert_eq!(after[0].packets.len(), FRAMES);
    assert_eq!(
        after[0].milliseconds(),
        before[0].milliseconds(),
        "the frames keep their times"
    );
    assert_eq!(after[1].hashes(), before[1].hashes());
    assert_eq!(after[1].milliseconds(), before[1].milliseconds());
    assert_eq!(
        after[2].hashes(),
        before[2].hashes(),
        "sound is copied, not encoded anew"
    );
    assert_eq!(folder.names(), ["in.mkv", "out.mkv"]);
}

#[test]
fn mp4_gets_plain_subtitles_and_what_it_can_carry() {
    let folder = Folder::new("mp4");
    let input = folder.clip("in.mkv", (64, 48), "flacenc", "matroskamux");
    let output = folder.file("out.mp4");
    let done = enhance(&input, &output, &["--size", "128x96"]);
    succeed(&done);
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(
        said.contains("sound (flac"),
        "it says what it encodes anew: {said}"
    );
    let after = streams(&output);
    assert_eq!(kinds(&after), ["video/x-h264", "text/x-raw", "audio/mpeg"]);
    assert_eq!(after[0].size, (128, 96));
    // The demuxer of MP4 escapes plain text; the tags are gone, the text is whole.
    let text = String::from_utf8(after[1].packets[0].bytes.clone()).unwrap();
    assert_eq!(text.replace("&amp;", "&"), "Rock & roll");
    assert!(!text.contains("<i>"), "{text}");
}

#[test]
fn webm_is_written_with_its_own_codecs() {
    let folder = Folder::new("webm");
    let input = folder.clip("in.mp4", (32, 32), "avenc_aac", "mp4mux");
    let output = folder.file("out.webm");
    succeed(&enhance(&input, &output, &["--size", "64x64"]));
    assert_eq!(kinds(&streams(&output)), ["video/x-vp9", "audio/x-opus"]);
}

#[test]
fn an_existing_file_is_only_overwritten_by_force() {
    let folder = Folder::new("force");
    let input = folder.clip("in.mp4", (32, 32), "avenc_aac", "mp4mux");
    let output = folder.file("out.mp4");
    std::fs::write(&output, "mine").unwrap();
    let refused = enhance(&input, &output, &["--size", "64x64"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("--force"));
    assert_eq!(std::fs::read(&output).unwrap(), b"mine");
    succeed(&enhance(&input, &output, &["--size", "64x64", "--force"]));
    let after = streams(&output);
    assert_eq!(after[0].size, (64, 64));
    assert_eq!(
        after[1].hashes(),
        streams(&input)[1].hashes(),
        "AAC is copied"
    );
}

#[test]
fn what_cannot_be_done_is_said_and_leaves_nothing_behind() {
    let folder = Folder::new("errors");
    let (sound, text, output) = (
        folder.file("sound.ogg"),
        folder.file("text.mp4"),
        folder.file("out.mp4"),
    );
    play(&format!(
        "audiotestsrc num-buffers=10 ! opusenc ! oggmux ! filesink location={}",
        sound.display()
    ));
    std::fs::write(&text, "no film\n".repeat(100)).unwrap();
    let refuse = |input: &Path, more: &[&str], code: i32, words: &str| {
        let done = enhance(input, &output, more);
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert_eq!(done.status.code(), Some(code), "{said}");
        assert!(said.contains(words), "expected '{words}' in: {said}");
        assert_eq!(folder.names(), ["sound.ogg", "text.mp4"]);
    };
    refuse(&folder.file("none.mp4"), &[], 1, "none.mp4");
    refuse(&sound, &[], 1, "only sound");
    refuse(&text, &[], 1, "error: ");
    refuse(&text, &["--scale", "0.5"], 2, "--scale");
    refuse(&text, &["--scale", "4", "--size", "64x64"], 2, "--size");
    let done = enhance(&sound, &folder.file("out.avi"), &[]);
    assert!(String::from_utf8_lossy(&done.stderr).contains(".avi"));
}

#[test]
fn ctrl_c_ends_it_and_removes_what_was_written() {
    let folder = Folder::new("interrupt");
    let input = folder.file("long.mp4");
    play(&format!(
        "videotestsrc num-buffers=2000 pattern=black ! video/x-raw,format=I420,width=640,height=360,framerate=25/1 \
         ! x264enc speed-preset=ultrafast ! h264parse ! mp4mux ! filesink location={}",
        input.display()
    ));
    let mut child = program()
        .arg(&input)
        .arg(folder.file("out.mp4"))
        .spawn()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(120);
    while folder.names().len() < 2 {
        assert!(
            child.try_wait().unwrap().is_none(),
            "it ended before it was interrupted"
        );
        assert!(Instant::now() < deadline, "it never began to write");
        std::thread::sleep(Duration::from_millis(20));
    }
    let sent = Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status()
        .unwrap();
    assert!(sent.success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(folder.names(), ["long.mp4"]);
}
