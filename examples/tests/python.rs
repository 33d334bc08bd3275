//! The Python program, with the plugin as GStreamer loads it.

use std::path::Path;
use std::process::Command;

use gst::prelude::*;

#[test]
fn the_python_program_enhances_a_clip() {
    let ready = Command::new("/usr/bin/python3")
        .args(["-c", "import gi; gi.require_version('Gst', '1.0')"])
        .status();
    // Debian's own Python has the bindings; they are no part of this project.
    if !ready.is_ok_and(|status| status.success()) {
        eprintln!("skipped: python3-gi and gir1.2-gstreamer-1.0 are not installed");
        return;
    }
    gst::init().unwrap();
    // Cargo puts the plugin's library beside the programs, or among their parts if only the tests were built.
    let built = Path::new(env!("CARGO_BIN_EXE_enhance")).parent().unwrap();
    let folders = [built.to_owned(), built.join("deps")];
    let plugin = folders
        .iter()
        .find(|f| f.join("libgstflashvideo.so").exists())
        .expect("cargo built the plugin");

    let folder = std::env::temp_dir().join(format!("flashvideo-python-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let (input, output) = (folder.join("in.mp4"), folder.join("out.mp4"));
    let pipeline = gst::parse::launch(&format!(
        "videotestsrc num-buffers=6 ! video/x-raw,format=I420,width=32,height=32 ! x264enc ! h264parse ! mux. \
         audiotestsrc num-buffers=10 ! avenc_aac ! mux. mp4mux name=mux ! filesink location={}",
        input.display()
    ));
    let pipeline = pipeline.unwrap().downcast().unwrap();
    flashvideo_examples::run::to_the_end(&pipeline, |_| ()).unwrap();

    let program = concat!(env!("CARGO_MANIFEST_DIR"), "/python/enhance.py");
    let done = Command::new("/usr/bin/python3")
        .arg(program)
        .args([&input, &output])
        .env("GST_PLUGIN_PATH", plugin)
        // Its own registry: the scan of this plugin must not end up in the user's.
        .env("GST_REGISTRY", folder.join("registry.bin"))
        // PyGObject itself warns on some Python versions.
        .env_remove("G_DEBUG")
        .output()
        .unwrap();
    assert!(
        done.status.success(),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );
    let discoverer = gst_pbutils::Discoverer::new(gst::ClockTime::from_seconds(30)).unwrap();
    let uri = gst::glib::filename_to_uri(&output, None).unwrap();
    let info = discoverer.discover_uri(&uri).unwrap();
    let video = &info.video_streams()[0];
    assert_eq!((video.width(), video.height()), (128, 128));
    assert_eq!(info.audio_streams().len(), 1);
    std::fs::remove_dir_all(&folder).unwrap();
}
