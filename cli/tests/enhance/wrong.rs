// SPDX-License-Identifier: MPL-2.0
//! What cannot be done: what is said, and that nothing is lost.

use std::process::Command;
use std::time::{Duration, Instant};

use crate::fixture::{Folder, frames, program, said, size};

#[test]
fn an_existing_file_is_only_overwritten_by_force_and_an_input_never() {
    let folder = Folder::new();
    let input = folder.clip("in.mp4", "32x32", 0.2, "-c:v libx264");
    let before = std::fs::read(&input).unwrap();
    std::fs::write(folder.file("out.mp4"), "mine").unwrap();
    let refused = folder.run("in.mp4", "out.mp4", &[]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(said(&refused).contains("--force"));
    assert_eq!(std::fs::read(folder.file("out.mp4")).unwrap(), b"mine");
    folder.enhance("in.mp4", "out.mp4", &["--force"]);
    assert_eq!(size(&folder.file("out.mp4")), (64, 64));
    for output in ["in.mp4", "./in.mp4", "."] {
        let refused = folder.run("in.mp4", output, &["--force"]);
        assert_eq!(refused.status.code(), Some(1), "{output}");
        assert!(
            said(&refused).contains("never replaced"),
            "{}",
            said(&refused)
        );
        assert_eq!(std::fs::read(&input).unwrap(), before);
    }
}

#[test]
fn what_cannot_be_done_is_said_in_a_line_and_leaves_nothing_behind() {
    let folder = Folder::new();
    folder.ffmpeg("-f lavfi -i sine=d=0.3 -c:a libopus sound.ogg");
    folder.ffmpeg("-f lavfi -i color=s=32x32 -frames:v 1 cover.png");
    folder.ffmpeg("-i sound.ogg -i cover.png -map 0 -map 1 -c:a flac -c:v copy -disposition:v attached_pic album.flac");
    folder.clip("film.mp4", "32x32", 0.2, "-c:v libx264");
    std::fs::write(folder.file("text.mp4"), "no film\n".repeat(100)).unwrap();
    std::fs::write(folder.file("empty.mp4"), "").unwrap();
    let names = folder.names();
    let refuse = |input: &str, output: &str, more: &[&str], code: i32, words: &str| {
        let done = folder.run(input, output, more);
        let said = said(&done);
        assert_eq!(done.status.code(), Some(code), "{said}");
        assert!(said.contains(words), "expected '{words}' in: {said}");
        for nobody in [".rs:", ".c(", "deserialize", "0x", "video/x-raw"] {
            assert!(
                !said.contains(nobody),
                "'{nobody}' is nothing for people: {said}"
            );
        }
        assert_eq!(folder.names(), names);
    };
    refuse(
        "none.mp4",
        "o.mp4",
        &[],
        1,
        "'none.mp4' cannot be read: No such file",
    );
    refuse("empty.mp4", "o.mp4", &[], 1, "'empty.mp4' is empty");
    refuse("sound.ogg", "o.mp4", &[], 1, "no video in it, only sound");
    refuse("album.flac", "o.mp4", &[], 1, "cover picture");
    refuse(
        "text.mp4",
        "o.mp4",
        &[],
        1,
        "'text.mp4' cannot be read: it is no clip",
    );
    refuse("film.mp4", "o.avi", &[], 1, "'.avi' files are not written");
    refuse("film.mp4", "o", &[], 1, ".mp4, .mov");
    refuse(
        "film.mp4",
        "o.webm",
        &["--codec", "h264"],
        2,
        "it takes vp9, av1",
    );
    refuse(
        "film.mp4",
        "o.mp4",
        &["--size", "16x16"],
        1,
        "can only be enlarged",
    );
    refuse("film.mp4", "o.mp4", &["--scale", "0.5"], 2, "--scale");
    refuse(
        "film.mp4",
        "o.mp4",
        &["--scale", "4", "--size", "64x64"],
        2,
        "--size",
    );
    refuse("film.mp4", "o.mp4", &["--dtype", "f64"], 2, "auto, f32");
    refuse(
        "film.mp4",
        "o.mp4",
        &["--model", "/no/model"],
        1,
        "/no/model",
    );
    refuse("film.mp4", "o.mp4", &["--device", "toaster"], 1, "toaster");
    refuse(
        "film.mp4",
        "/proc/o.mp4",
        &[],
        1,
        "'/proc' cannot be written",
    );
    let done = program().output().unwrap();
    assert_eq!(done.status.code(), Some(2));
    assert!(said(&done).contains("Usage"));
}

#[test]
fn a_damaged_clip_is_done_as_far_as_it_can_be_read() {
    let folder = Folder::new();
    for (name, how) in [
        ("d.mkv", "-c:v libx264 -g 10"),
        ("d.mp4", "-c:v libx264 -g 10 -movflags faststart"),
        ("d.avi", "-c:v mpeg4 -g 10"),
    ] {
        folder.clip(name, "64x48", 2.0, how);
        let bytes = std::fs::read(folder.file(name)).unwrap();
        let cut = format!("cut-{name}");
        std::fs::write(folder.file(&cut), &bytes[..bytes.len() * 6 / 10]).unwrap();
        let whole = frames(&folder.file(&cut));
        let done = folder.run(&cut, "out.mkv", &["--force"]);
        assert_eq!(done.status.code(), Some(3), "{}", said(&done));
        assert!(said(&done).contains("damaged"), "{}", said(&done));
        assert!(frames(&folder.file("out.mkv")) + 1 >= whole && whole > 10);
    }
}

/// A clip that takes a while, and the program at work on it until Ctrl-C, with at least a frame done.
fn interrupted(folder: &Folder, more: &[&str]) -> std::process::Output {
    interrupted_by(folder, "Ctrl-C", more)
}

/// The same until something else happens.
fn interrupted_by(folder: &Folder, what: &str, more: &[&str]) -> std::process::Output {
    folder.clip(
        "long.mp4",
        "320x180",
        40.0,
        "-c:v libx264 -preset ultrafast",
    );
    let mut child = program()
        .args([folder.file("long.mp4"), folder.file("out.mkv")])
        .args(["--json"])
        .args(more)
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(120);
    let begun = || {
        let names = folder.names();
        names.iter().any(|name| {
            name.ends_with(".video")
                && std::fs::metadata(folder.file(name)).is_ok_and(|file| file.len() > 0)
        })
    };
    while !begun() {
        if Instant::now() > deadline {
            child.kill().unwrap();
            panic!("it never began to write");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    std::thread::sleep(Duration::from_millis(1500));
    let sent = match what {
        "Ctrl-C" => Command::new("kill")
            .args(["-INT", &child.id().to_string()])
            .status(),
        // The first of its helpers.
        _ => Command::new("pkill")
            .args(["-9", "-o", "-P", &child.id().to_string(), "ffmpeg"])
            .status(),
    };
    assert!(sent.unwrap().success());
    child.wait_with_output().unwrap()
}

#[test]
fn ctrl_c_ends_it_and_removes_what_was_written() {
    let folder = Folder::new();
    let done = interrupted(&folder, &["--model", "builtin:live", "--scale", "2"]);
    assert_eq!(done.status.code(), Some(130), "{}", said(&done));
    assert_eq!(folder.names(), ["long.mp4"]);
}

#[test]
fn ctrl_c_keeps_what_is_done_if_asked() {
    let folder = Folder::new();
    let done = interrupted(
        &folder,
        &["--keep-partial", "--model", "builtin:live", "--scale", "2"],
    );
    assert_eq!(done.status.code(), Some(130), "{}", said(&done));
    assert_eq!(folder.names(), ["long.mp4", "out.mkv"]);
    let kept = frames(&folder.file("out.mkv"));
    assert!((1..1000).contains(&kept), "{kept}");
}

#[test]
fn a_full_disk_is_called_that() {
    let folder = Folder::new();
    folder.clip("in.mp4", "64x48", 0.4, "-c:v libx264");
    let full = std::fs::OpenOptions::new()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let done = program()
        .arg(folder.file("in.mp4"))
        .args(["-", "--scale", "2", "--model", "builtin:live"])
        .stdout(full)
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap()
        .wait_with_output()
        .unwrap();
    assert_eq!(done.status.code(), Some(1));
    assert!(said(&done).contains("the disk is full"), "{}", said(&done));
}

#[test]
fn no_other_name_of_an_input_is_an_output() {
    let folder = Folder::new();
    let clip = folder.clip("a.mp4", "32x32", 0.2, "-c:v libx264");
    folder.ffmpeg("-f lavfi -i testsrc2=s=32x32:r=25:d=0.12 p_%d.png");
    std::fs::write(folder.file("file%05d.mkv"), "precious").unwrap();
    let uri = format!("file://{}", clip.display());
    for (input, output, more) in [
        ("p_%d.png", "./p_%d.png", &[][..]),
        ("p_%d.png", "p_%01d.png", &[]),
        ("p_%d.png", "p_1.png", &[]),
        ("p_1.png", "p_%d.png", &[]),
        (&uri, "a.mp4", &[]),
        ("a.mp4", "b.mp4", &["--before-after", "a.png"]),
    ] {
        // A picture of before and after that is the clip by another name.
        if !more.is_empty() {
            std::fs::hard_link(&clip, folder.file("a.png")).unwrap();
        }
        let before: Vec<_> = folder
            .names()
            .iter()
            .map(|name| std::fs::read(folder.file(name)).unwrap())
            .collect();
        let more: Vec<_> = more.iter().copied().chain(["--force"]).collect();
        let done = folder.run(input, output, &more);
        assert_eq!(
            done.status.code(),
            Some(1),
            "{input} to {output}: {}",
            said(&done)
        );
        let after: Vec<_> = folder
            .names()
            .iter()
            .map(|name| std::fs::read(folder.file(name)).unwrap())
            .collect();
        assert_eq!(before, after, "{input} to {output}");
    }
    // A number in the name of a clip is a name.
    let done = folder.run("a.mp4", "file%05d.mkv", &[]);
    assert!(said(&done).contains("--force"), "{}", said(&done));
    assert_eq!(
        std::fs::read(folder.file("file%05d.mkv")).unwrap(),
        b"precious"
    );
}

#[test]
fn who_does_not_listen_loses_nothing() {
    let folder = Folder::new();
    std::fs::create_dir(folder.file("in")).unwrap();
    for name in ["in/a.mp4", "in/b.mp4"] {
        folder.clip(name, "32x32", 0.2, "-c:v libx264");
    }
    let full = std::fs::OpenOptions::new()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let done = program()
        .args([folder.file("in"), folder.file("out")])
        .args(["--scale", "2", "--model", "builtin:live"])
        .stdout(full)
        .stderr(std::process::Stdio::piped())
        .output()
        .unwrap();
    assert_eq!(done.status.code(), Some(0), "{}", said(&done));
    for name in ["out/a.mp4", "out/b.mp4"] {
        assert_eq!(frames(&folder.file(name)), 5);
    }
}

#[test]
fn a_decoder_that_is_killed_is_no_damaged_clip() {
    let folder = Folder::new();
    let killed = interrupted_by(
        &folder,
        "the decoder",
        &["--model", "builtin:live", "--scale", "2"],
    );
    assert_eq!(killed.status.code(), Some(1), "{}", said(&killed));
    assert!(said(&killed).contains("signal 9"), "{}", said(&killed));
    assert_eq!(folder.names(), ["long.mp4"]);
}
