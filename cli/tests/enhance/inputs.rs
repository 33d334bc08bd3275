// SPDX-License-Identifier: MPL-2.0
//! Files, folders, pictures, pipes, parts of clips, and what is told meanwhile.

use std::process::{Command, Stdio};

use crate::fixture::{Folder, apart, frames, program, said, size, times};

#[test]
fn folders_are_mirrored() {
    let folder = Folder::new();
    std::fs::create_dir_all(folder.file("in/sub")).unwrap();
    folder.clip("in/a.mp4", "48x32", 0.2, "-c:v libx264");
    folder.clip("in/sub/b.avi", "48x32", 0.2, "-c:v mpeg4");
    std::fs::write(folder.file("in/notes.txt"), "no clip").unwrap();
    folder.enhance("in", "out", &[]);
    assert_eq!(size(&folder.file("out/a.mp4")), (96, 64));
    assert_eq!(frames(&folder.file("out/sub/b.mkv")), 5);
    // What is there is left alone, and one that fails does not keep the others from being done.
    std::fs::write(folder.file("in/bad.mp4"), "no film\n".repeat(9)).unwrap();
    std::fs::remove_file(folder.file("out/sub/b.mkv")).unwrap();
    let done = folder.run("in", "out", &[]);
    assert_eq!(done.status.code(), Some(1));
    assert!(
        said(&done).contains("bad.mp4") && said(&done).contains("1 were there"),
        "{}",
        said(&done)
    );
    assert_eq!(frames(&folder.file("out/sub/b.mkv")), 5);
}

#[test]
fn pictures_become_pictures() {
    let folder = Folder::new();
    folder.ffmpeg("-f lavfi -i testsrc2=s=40x30:r=25:d=0.24 -start_number 7 f_%03d.png");
    folder
        .ffmpeg("-f lavfi -i smptebars=s=400x300,scale=161:121 -frames:v 1 -pix_fmt rgba one.png");
    folder.ffmpeg("-f lavfi -i smptebars=s=400x300,scale=161:121 -frames:v 1 photo.jpg");
    folder.enhance("f_%03d.png", "g_%03d.png", &[]);
    let names = folder.names();
    assert_eq!(
        names.iter().filter(|name| name.starts_with("g_")).count(),
        6
    );
    assert_eq!(size(&folder.file("g_012.png")), (80, 60));
    assert!(apart(&folder.file("f_009.png"), &folder.file("g_009.png")) < 3.0);
    let clip = folder.enhance("f_%03d.png", "clip.mp4", &["--fps", "12.5"]);
    assert_eq!(times(&clip, "v"), [0, 80, 160, 240, 320, 400]);
    for (input, output) in [
        ("one.png", "two.png"),
        ("photo.jpg", "large.jpg"),
        ("photo.jpg", "large.png"),
    ] {
        let path = folder.enhance(input, output, &[]);
        assert_eq!(size(&path), (322, 242), "{output}");
        assert!(apart(&folder.file(input), &path) < 5.0, "{output}");
    }
    let hidden = folder
        .names()
        .into_iter()
        .find(|name| name.starts_with('.'));
    assert_eq!(hidden, None);
    let done = folder.run("f_%03d.png", "g_%03d.png", &[]);
    assert!(said(&done).contains("--force"), "{}", said(&done));
}

#[test]
fn y4m_goes_through_pipes() {
    let folder = Folder::new();
    for pixels in ["yuv420p", "yuv444p10le"] {
        let mut maker = Command::new("ffmpeg")
            .args([
                "-v",
                "error",
                "-f",
                "lavfi",
                "-i",
                "testsrc2=s=50x30:r=25:d=0.2",
                "-pix_fmt",
                pixels,
            ])
            .args(["-strict", "-1", "-f", "yuv4mpegpipe", "-"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let done = program()
            .args(["-", "-", "--scale", "2", "--model", "builtin:live"])
            .stdin(maker.stdout.take().unwrap())
            .output()
            .unwrap();
        maker.wait().unwrap();
        assert!(done.status.success(), "{}", said(&done));
        std::fs::write(folder.file("out.y4m"), &done.stdout).unwrap();
        assert_eq!(
            (
                frames(&folder.file("out.y4m")),
                size(&folder.file("out.y4m"))
            ),
            (5, (100, 60))
        );
        let header = done.stdout.split(|byte| *byte == b'\n').next().unwrap();
        assert!(
            String::from_utf8_lossy(header).contains(" F25:1 "),
            "{}",
            String::from_utf8_lossy(header)
        );
        let found = crate::fixture::video(&folder.file("out.y4m"));
        assert_eq!(found["pix_fmt"], pixels);
    }
    let done = program()
        .args(["-", "out.mp4"])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(done.status.code(), Some(1));
    assert!(said(&done).contains("nothing comes"), "{}", said(&done));
}

#[test]
fn parts_of_clips() {
    let folder = Folder::new();
    folder.ffmpeg(
        "-f lavfi -i testsrc2=s=48x32:r=25:d=2 -f lavfi -i sine=d=2 -c:v libx264 -c:a aac in.mp4",
    );
    let output = folder.enhance("in.mp4", "a.mp4", &["--start", "0.5", "--end", "0:01.5"]);
    assert_eq!(frames(&output), 25);
    let sound = *times(&output, "a").last().unwrap();
    assert!((900..1100).contains(&sound), "{sound}");
    let output = folder.enhance("in.mp4", "b.mkv", &["--frames", "5"]);
    assert_eq!(frames(&output), 5);
    assert!(*times(&output, "a").last().unwrap() < 300);
    let done = folder.run("in.mp4", "c.mp4", &["--start", "1", "--end", "0.5"]);
    assert!(said(&done).contains("--end"), "{}", said(&done));
}

#[test]
fn gifs_end() {
    let folder = Folder::new();
    folder.ffmpeg("-f lavfi -i smptebars=s=80x60:r=10:d=0.6 -loop 0 in.gif");
    let output = folder.enhance("in.gif", "out.mp4", &[]);
    assert_eq!(frames(&output), 6);
    assert!(apart(&folder.file("in.gif"), &output) < 3.0);
}

#[test]
fn programs_are_told_in_json_and_quiet_is_quiet() {
    let folder = Folder::new();
    folder.clip("in.mp4", "48x32", 0.2, "-c:v libx264");
    let done = folder.run("in.mp4", "a.mp4", &["--json"]);
    let text = String::from_utf8(done.stdout).unwrap();
    let last: serde_json::Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    assert_eq!(
        (&last["event"], &last["frames"], &last["width"]),
        (&"done".into(), &5.into(), &96.into())
    );
    let done = folder.run("in.mp4", "b.mp4", &["--quiet"]);
    assert!(
        done.stdout.is_empty() && done.stderr.is_empty(),
        "{}",
        said(&done)
    );
    let done = folder.run("none.mp4", "c.mp4", &["--quiet"]);
    assert!(said(&done).contains("none.mp4"));
}

#[test]
fn before_and_after_in_one_picture() {
    let folder = Folder::new();
    folder.clip("in.mp4", "48x32", 0.2, "-c:v libx264");
    folder.enhance("in.mp4", "out.mp4", &["--before-after", "look.png"]);
    assert_eq!(size(&folder.file("look.png")), (96 + 4 + 96, 64));
}
