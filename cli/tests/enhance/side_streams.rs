// SPDX-License-Identifier: MPL-2.0
//! Sound, subtitles, chapters, covers, fonts, titles, times.

use crate::fixture::{Folder, codecs, frames, hashes, packets, probe, said, streams, times, video};

#[test]
fn sound_and_subtitles_are_copied_and_frames_keep_their_times() {
    let folder = Folder::new();
    let input = folder.film("in.mkv", "64x48", "-c:v libx264 -c:a libopus -c:s ass");
    let output = folder.enhance("in.mkv", "out.mkv", &[]);
    assert_eq!(codecs(&output), ["h264", "opus", "ass"]);
    assert_eq!(frames(&output), 20);
    assert_eq!(times(&output, "v"), times(&input, "v"));
    for kind in ["a", "s"] {
        assert_eq!(packets(&output, kind), packets(&input, kind), "{kind}");
    }
    assert_eq!(folder.names(), ["in.mkv", "out.mkv"]);
}

#[test]
fn mp4_gets_what_it_can_carry_and_the_rest_is_told() {
    let folder = Folder::new();
    folder.film("in.mkv", "64x48", "-c:v libx264 -c:a libvorbis -c:s ass");
    // Vorbis fits; Windows Media does not.
    folder.ffmpeg("-i in.mkv -map 0:v -map 0:a -c copy -c:a wmav2 w.mkv");
    let done = folder.run("w.mkv", "out.mp4", &[]);
    assert!(said(&done).contains("sound (wmav2"), "{}", said(&done));
    assert_eq!(codecs(&folder.file("out.mp4")), ["h264", "aac"]);
    let output = folder.enhance("in.mkv", "titles.mp4", &[]);
    assert_eq!(codecs(&output), ["h264", "vorbis", "mov_text"]);
    folder.ffmpeg("-i titles.mp4 -map 0:s -f srt text.srt");
    let text = std::fs::read_to_string(folder.file("text.srt")).unwrap();
    assert!(
        text.contains("Rock & roll") && text.contains("two"),
        "{text}"
    );
}

#[test]
fn webm_is_written_with_its_own_codecs() {
    let folder = Folder::new();
    folder.film(
        "in.mp4",
        "64x48",
        "-c:v libx264 -c:a aac -ac 6 -c:s mov_text",
    );
    let output = folder.enhance("in.mp4", "out.webm", &[]);
    assert_eq!(codecs(&output), ["vp9", "opus", "webvtt"]);
}

#[test]
fn awkward_sound_never_ends_the_job() {
    let folder = Folder::new();
    for (name, how) in [
        ("latm.ts", "-c:v libx264 -c:a aac -mpegts_flags latm"),
        ("eac3.mkv", "-c:v libx264 -c:a eac3"),
        ("pcm.mkv", "-c:v libx264 -c:a pcm_s24le"),
        (
            "bluray.m2ts",
            "-c:v libx264 -c:a pcm_bluray -ar 48000 -ac 2 -mpegts_m2ts_mode 1",
        ),
    ] {
        folder.ffmpeg(&format!(
            "-f lavfi -i testsrc2=s=64x48:r=25:d=1 -f lavfi -i sine=d=1 {how} {name}"
        ));
        for to in ["out.mkv", "out.mp4", "out.mov"] {
            let output = folder.enhance(name, to, &["--force"]);
            let found = codecs(&output);
            assert_eq!(found.len(), 2, "{name} to {to}: {found:?}");
            assert!(times(&output, "a").last() > Some(&800), "{name} to {to}");
        }
    }
}

#[test]
fn pictures_as_subtitles_stay_in_matroska_and_are_told_elsewhere() {
    let folder = Folder::new();
    folder.film("in.mkv", "64x48", "-c:v libx264 -c:a aac -c:s ass");
    // Subtitles as pictures, drawn from nothing but themselves.
    let pictures = folder.file("dvb.mkv");
    folder.ffmpeg("-f lavfi -i testsrc2=s=64x48:r=25:d=0.8 -c:v libx264 plain.mkv");
    std::fs::write(folder.file("p.sup"), presentation_graphics()).unwrap();
    folder.ffmpeg("-i plain.mkv -i p.sup -map 0 -map 1 -c copy dvb.mkv");
    let output = folder.enhance("dvb.mkv", "out.mkv", &[]);
    assert_eq!(codecs(&output), codecs(&pictures));
    assert_eq!(hashes(&output, "s"), hashes(&pictures, "s"));
    let done = folder.run("dvb.mkv", "out.mp4", &[]);
    assert_eq!(done.status.code(), Some(0));
    assert!(
        said(&done).contains("is left out") && said(&done).contains(".mkv"),
        "{}",
        said(&done)
    );
    assert_eq!(codecs(&folder.file("out.mp4")), ["h264"]);
}

/// An empty set of Blu-ray subtitles: one that clears the screen at 0.2 seconds.
fn presentation_graphics() -> Vec<u8> {
    let time = 18_000u32.to_be_bytes();
    let mut bytes = Vec::new();
    let mut segment = |kind: u8, body: &[u8]| {
        bytes.extend(b"PG");
        bytes.extend(time);
        bytes.extend([0; 4]);
        bytes.push(kind);
        bytes.extend((body.len() as u16).to_be_bytes());
        bytes.extend(body);
    };
    segment(0x16, &[0, 64, 0, 48, 0x10, 0, 0, 0x80, 0, 0, 0]);
    segment(0x80, &[]);
    bytes
}

#[test]
fn chapters_titles_marks_fonts_and_covers_arrive() {
    let folder = Folder::new();
    let meta = ";FFMETADATA1\ntitle=Holiday\n[CHAPTER]\nTIMEBASE=1/1000\nSTART=0\nEND=400\ntitle=A\n[CHAPTER]\nTIMEBASE=1/1000\nSTART=400\nEND=800\ntitle=B\n";
    std::fs::write(folder.file("meta.txt"), meta).unwrap();
    std::fs::write(folder.file("font.ttf"), "not really a font").unwrap();
    folder.ffmpeg("-f lavfi -i color=red:s=32x32 -frames:v 1 cover.png");
    folder.film("film.mkv", "64x48", "-c:v libx264 -c:a aac -c:s ass");
    folder.ffmpeg(
        "-i film.mkv -i meta.txt -map 0 -map_metadata 1 -map_chapters 1 -c copy -metadata:s:a:0 language=fra \
         -metadata:s:a:0 title=Comment -disposition:a:0 0 -disposition:s:0 forced -attach font.ttf \
         -metadata:s:t:0 mimetype=font/ttf -attach cover.png -metadata:s:t:1 mimetype=image/png in.mkv",
    );
    for name in ["out.mkv", "out.mp4"] {
        let output = folder.enhance("in.mkv", name, &[]);
        let found = probe(&output, &["-show_chapters", "-show_format"]);
        let titles: Vec<_> = found["chapters"]
            .as_array()
            .unwrap()
            .iter()
            .map(|chapter| chapter["tags"]["title"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(titles, ["A", "B"], "{name}");
        assert_eq!(found["format"]["tags"]["title"], "Holiday", "{name}");
        let streams = streams(&output);
        let of = |kind: &str| streams.iter().find(|s| s["codec_type"] == kind);
        let sound = of("audio").unwrap();
        assert_eq!(sound["tags"]["language"], "fra", "{name}");
        let cover = streams
            .iter()
            .find(|s| s["disposition"]["attached_pic"] == 1);
        assert_eq!(cover.unwrap()["codec_name"], "png", "{name}");
        if name == "out.mkv" {
            assert_eq!(sound["tags"]["title"], "Comment");
            assert_eq!(sound["disposition"]["default"], 0);
            assert_eq!(of("subtitle").unwrap()["disposition"]["forced"], 1);
            assert_eq!(of("attachment").unwrap()["tags"]["filename"], "font.ttf");
        }
    }
    let done = folder.run("in.mkv", "again.mp4", &[]);
    assert!(said(&done).contains("attachment"), "{}", said(&done));
}

#[test]
fn timecode_is_carried() {
    let folder = Folder::new();
    folder.clip("in.mov", "64x48", 0.4, "-c:v libx264 -timecode 10:11:12:13");
    for name in ["out.mov", "out.mp4", "out.mkv"] {
        let output = folder.enhance("in.mov", name, &[]);
        let text = probe(&output, &["-show_streams", "-show_format"]).to_string();
        assert!(text.contains("10:11:12:13"), "{name}");
    }
}

#[test]
fn cuts_by_edit_lists_are_heard_and_seen_as_in_a_player() {
    let folder = Folder::new();
    folder.ffmpeg(
        "-f lavfi -i testsrc2=s=64x48:r=25:d=4 -f lavfi -i sine=d=4 -c:v libx264 -g 50 -c:a aac long.mp4",
    );
    folder.ffmpeg("-ss 1.5 -i long.mp4 -c copy -t 2 cut.mp4");
    let want = frames(&folder.file("cut.mp4"));
    for name in ["out.mkv", "out.mp4"] {
        let output = folder.enhance("cut.mp4", name, &[]);
        assert_eq!(frames(&output), want, "{name}");
        let sound = times(&output, "a")
            .into_iter()
            .filter(|time| *time >= 0)
            .count();
        assert!(
            (84..=90).contains(&sound),
            "{name}: {sound} packets of 2 seconds"
        );
    }
}

#[test]
fn uneven_times_late_starts_and_odd_rates_are_kept() {
    let folder = Folder::new();
    folder.ffmpeg(
        "-f lavfi -i testsrc2=s=64x48:r=30000/1001:d=1 -vf select='not(eq(mod(n\\,5)\\,2))' -fps_mode passthrough -c:v libx264 uneven.mkv",
    );
    folder.ffmpeg("-f lavfi -i testsrc2=s=64x48:r=24000/1001:d=0.5 -c:v libx264 even.mkv");
    folder.ffmpeg("-f lavfi -i testsrc2=s=64x48:r=25:d=0.5 -f lavfi -i sine=d=1 -c:v libx264 -c:a aac both.mkv");
    folder.ffmpeg("-i both.mkv -itsoffset 0.4 -i both.mkv -map 1:v -map 0:a -c copy late.mkv");
    for input in ["uneven.mkv", "late.mkv"] {
        let want = times(&folder.file(input), "v");
        for name in ["out.mkv", "out.mp4"] {
            let output = folder.enhance(input, name, &["--force"]);
            let got = times(&output, "v");
            assert_eq!(got.len(), want.len(), "{input} to {name}");
            let off = got.iter().zip(&want).map(|(a, b)| (a - b).abs()).max();
            assert!(
                off <= Some(1),
                "{input} to {name}: {got:?}, expected {want:?}"
            );
        }
    }
    // Matroska counts in milliseconds; in MP4 the frames are even again.
    let output = folder.enhance("even.mkv", "even.mp4", &[]);
    assert_eq!(video(&output)["r_frame_rate"], "24000/1001");
    assert_eq!(video(&output)["avg_frame_rate"], "24000/1001");
}

/// Milliseconds at which a file's flash is seen and its beep is heard.
fn flash_and_beep(path: &std::path::Path) -> (f64, f64) {
    let ffmpeg = |words: &str| {
        let done = std::process::Command::new("ffmpeg")
            .args(["-v", "info", "-i"])
            .arg(path)
            .args(words.split_whitespace())
            .output()
            .unwrap();
        String::from_utf8_lossy(&done.stderr).into_owned()
    };
    let after = |text: &str, key: &str| {
        let rest = text
            .split_once(key)
            .unwrap_or_else(|| panic!("no {key} in {text}"))
            .1;
        let number: String = rest
            .chars()
            .take_while(|c| c.is_ascii_digit() || *c == '.')
            .collect();
        1000.0 * number.parse::<f64>().unwrap()
    };
    let dark = ffmpeg("-vf blackdetect=d=0.05:pix_th=0.3 -f null -");
    let quiet = ffmpeg("-af silencedetect=n=-30dB:d=0.1 -f null -");
    (after(&dark, "black_end:"), after(&quiet, "silence_end: "))
}

#[test]
fn streams_of_a_recording_that_begin_apart_stay_together() {
    let folder = Folder::new();
    folder.ffmpeg(
        "-itsoffset 0.4 -f lavfi -i color=black:s=64x48:r=25:d=2,drawbox=c=white:t=fill:enable='between(t\\,1\\,1.1)' \
         -f lavfi -i sine=1000:d=2.4:r=48000,volume='if(between(t\\,1.4\\,1.5)\\,1\\,0)':eval=frame -map 0 -map 1 -c:v libx264 -c:a aac in.ts",
    );
    let apart = |path: &std::path::Path| {
        let (flash, beep) = flash_and_beep(path);
        beep - flash
    };
    let before = apart(&folder.file("in.ts"));
    for name in ["out.mp4", "out.mkv"] {
        let after = apart(&folder.enhance("in.ts", name, &[]));
        assert!(
            (after - before).abs() < 45.0,
            "{name}: {before} became {after} ms"
        );
    }
}
