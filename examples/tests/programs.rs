// SPDX-License-Identifier: MPL-2.0
//! The programs to copy from, on small clips.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use gst::prelude::*;

/// The folder in which cargo puts programs and libraries; the tests are in its folder `deps`.
fn built() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.ancestors().nth(2).unwrap().to_owned()
}

fn play(description: &str) {
    gst::init().unwrap();
    let pipeline = gst::parse::launch(description).unwrap();
    let bus = pipeline.bus().unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    let ends = [gst::MessageType::Eos, gst::MessageType::Error];
    let last = bus
        .timed_pop_filtered(gst::ClockTime::from_seconds(60), &ends)
        .unwrap();
    assert_eq!(last.type_(), gst::MessageType::Eos, "{last:?}");
    pipeline.set_state(gst::State::Null).unwrap();
}

/// Width and height of the video in a file, and how many streams of sound are with it.
fn streams(path: &Path) -> ((u32, u32), usize) {
    let discoverer = gst_pbutils::Discoverer::new(gst::ClockTime::from_seconds(30)).unwrap();
    let uri = gst::glib::filename_to_uri(path, None).unwrap();
    let info = discoverer.discover_uri(&uri).unwrap();
    let video = &info.video_streams()[0];
    ((video.width(), video.height()), info.audio_streams().len())
}

/// Six frames of 32x32 with sound.
fn clip(folder: &Path) -> PathBuf {
    let path = folder.join("in.mp4");
    play(&format!(
        "videotestsrc num-buffers=6 ! video/x-raw,format=I420,width=32,height=32 ! x264enc ! h264parse ! mux. \
         audiotestsrc num-buffers=10 ! avenc_aac ! mux. mp4mux name=mux ! filesink location={}",
        path.display()
    ));
    path
}

#[test]
fn minimal_enlarges_by_four() {
    let folder = tempfile::tempdir().unwrap();
    let (input, output) = (clip(folder.path()), folder.path().join("out.mp4"));
    let program = built().join("examples/minimal");
    let done = Command::new(&program)
        .args([&input, &output])
        .output()
        .unwrap();
    assert!(
        done.status.success(),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );
    assert_eq!(streams(&output), ((128, 128), 0));

    let missing = folder.path().join("none.mp4");
    let done = Command::new(&program)
        .args([&missing, &output])
        .output()
        .unwrap();
    assert_eq!(done.status.code(), Some(1));
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(said.contains("Error:"), "{said}");
}

#[test]
fn library_enlarges_by_two_and_keeps_every_frame() {
    let folder = tempfile::tempdir().unwrap();
    let frame = |level: u8| {
        let samples = (0..24 * 16 * 3 / 2).map(|index: usize| level + (index % 7) as u8);
        [b"FRAME\n".to_vec(), samples.collect()].concat()
    };
    let frames: Vec<u8> = [40, 80, 120].into_iter().flat_map(frame).collect();
    let small = [b"YUV4MPEG2 W24 H16 F25:1 C420jpeg\n".to_vec(), frames].concat();
    let input = folder.path().join("in.y4m");
    let run = |bytes: &[u8]| {
        std::fs::write(&input, bytes).unwrap();
        Command::new(built().join("examples/library"))
            .stdin(Stdio::from(std::fs::File::open(&input).unwrap()))
            .output()
            .unwrap()
    };
    let done = run(&small);
    assert!(
        done.status.success(),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );
    let header = b"YUV4MPEG2 W48 H32 F25:1 C420jpeg\n";
    let (head, rest) = done.stdout.split_at(header.len());
    assert_eq!(head, header);
    let length = b"FRAME\n".len() + 48 * 32 * 3 / 2;
    assert_eq!(rest.len(), 3 * length);
    for (frame, level) in rest.chunks(length).zip([40u32, 80, 120]) {
        let (head, samples) = frame.split_at(6);
        assert_eq!(head, b"FRAME\n");
        let luma = &samples[..48 * 32];
        let mean = luma.iter().map(|&value| u32::from(value)).sum::<u32>() / luma.len() as u32;
        assert!(
            mean.abs_diff(level + 3) < 6,
            "frames of {mean} where {level} went in"
        );
    }

    let cut = run(&small[..small.len() - 1]);
    assert!(String::from_utf8_lossy(&cut.stderr).contains("cut off"));
    let ten_bits = run(b"YUV4MPEG2 W24 H16 F25:1 C420p10\n");
    assert!(String::from_utf8_lossy(&ten_bits.stderr).contains("8-bit"));
}

/// `enhance.py`, with the plugin as GStreamer loads it.
#[test]
fn the_python_program_enhances_a_clip_and_keeps_its_sound() {
    let ready = Command::new("/usr/bin/python3")
        .args(["-c", "import gi; gi.require_version('Gst', '1.0')"])
        .status();
    // Debian's own Python has the bindings; they are no part of this project.
    if !ready.is_ok_and(|status| status.success()) {
        eprintln!("skipped: python3-gi and gir1.2-gstreamer-1.0 are not installed");
        return;
    }
    // Cargo puts the plugin's library beside the programs, or among their parts if only the tests were built.
    let folders = [built(), built().join("deps")];
    let plugin = folders
        .iter()
        .find(|f| f.join("libgstflashvideo.so").exists())
        .expect("cargo built the plugin");

    let folder = tempfile::tempdir().unwrap();
    let (input, output) = (clip(folder.path()), folder.path().join("out.mp4"));
    let program = concat!(env!("CARGO_MANIFEST_DIR"), "/python/enhance.py");
    let run = |input: &Path, output: &Path| {
        Command::new("/usr/bin/python3")
            .arg(program)
            .args([input, output])
            .env("GST_PLUGIN_PATH", plugin)
            // Its own registry: the scan of this plugin must not end up in the user's.
            .env("GST_REGISTRY", folder.path().join("registry.bin"))
            // PyGObject itself warns on some Python versions.
            .env_remove("G_DEBUG")
            .output()
            .unwrap()
    };
    let done = run(&input, &output);
    assert!(
        done.status.success(),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );
    assert_eq!(streams(&output), ((128, 128), 1));

    // Sound alone ends with a message.
    let (sound, none) = (
        folder.path().join("sound.mp4"),
        folder.path().join("none.mp4"),
    );
    play(&format!(
        "audiotestsrc num-buffers=10 ! avenc_aac ! mp4mux ! filesink location={}",
        sound.display()
    ));
    let done = run(&sound, &none);
    assert_eq!(done.status.code(), Some(1));
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(said.contains("there is no video"), "{said}");
    assert!(!none.exists());
}
