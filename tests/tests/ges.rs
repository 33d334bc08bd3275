// SPDX-License-Identifier: MPL-2.0
//! `flashupscale` on an editor's timeline.

use std::path::PathBuf;
use std::process::Command;

use gst::prelude::*;

/// The folder where cargo put the plugin's library.
fn plugin() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    // target/PROFILE/deps/ges-HASH
    let folders = test.ancestors().skip(1).take(2);
    let with_plugin = |folder: &&std::path::Path| folder.join("libgstflashvideo.so").exists();
    folders
        .collect::<Vec<_>>()
        .into_iter()
        .rev()
        .find(|folder| with_plugin(folder))
        .expect("cargo built the plugin")
        .to_owned()
}

#[test]
fn an_effect_on_a_clip() {
    let bindings = "import gi; gi.require_version('Gst', '1.0'); gi.require_version('GES', '1.0')";
    let ready = Command::new("/usr/bin/python3")
        .args(["-c", bindings])
        .status();
    if !ready.is_ok_and(|status| status.success()) {
        eprintln!("skipped: python3-gi and gir1.2-ges-1.0 are not installed");
        return;
    }
    gst::init().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let clip = folder.path().join("clip.mp4");
    let pipeline = gst::parse::launch(&format!(
        "videotestsrc pattern=ball num-buffers=40 ! video/x-raw,format=I420,width=64,height=48,framerate=25/1 ! \
         x264enc key-int-max=5 ! h264parse ! mp4mux ! filesink location={}",
        clip.display()
    ))
    .unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    let message = pipeline.bus().unwrap().timed_pop_filtered(
        gst::ClockTime::from_seconds(60),
        &[gst::MessageType::Eos, gst::MessageType::Error],
    );
    assert_eq!(message.unwrap().type_(), gst::MessageType::Eos);
    pipeline.set_state(gst::State::Null).unwrap();

    let done = Command::new("/usr/bin/python3")
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/ges_effect.py"))
        .arg(&clip)
        .env("GST_PLUGIN_PATH", plugin())
        .env("GST_REGISTRY", folder.path().join("registry.bin"))
        // PyGObject and GES 1.22 have warnings of their own.
        .env_remove("G_DEBUG")
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{errors}");
    let answer: serde_json::Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(answer["effects"], 1, "{answer}");
    // The clip's own size goes in: the editor's scaler has left the enlarging to the effect.
    assert_eq!(answer["sink"], serde_json::json!([64, 48]), "{answer}");
    assert_eq!(answer["src"], serde_json::json!([256, 192]), "{answer}");
    assert_eq!(answer["final"], serde_json::json!([256, 192]), "{answer}");
    // After the seek to 0.2 s of 0.6 s: ten frames, each in its place.
    let times: Vec<i64> = serde_json::from_value(answer["times"].clone()).unwrap();
    assert_eq!(times, (5..15).map(|n| 40 * n).collect::<Vec<_>>());
}
