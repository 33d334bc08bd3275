// SPDX-License-Identifier: MPL-2.0
//! Formats, depth, range, colour, shape, size, fields.

use crate::fixture::{Folder, apart, colours, frames, said, size, video};

#[test]
fn every_pixel_format_comes_with_its_own_colours() {
    let folder = Folder::new();
    for (pixels, codec) in [
        ("yuv420p", "ffv1"),
        ("yuvj422p", "mjpeg"),
        ("yuv440p", "ffv1"),
        ("yuv410p", "ffv1"),
        ("yuv411p", "ffv1"),
        ("yuv420p9le", "ffv1"),
        ("yuv422p12le", "ffv1"),
        ("yuv444p16le", "ffv1"),
        ("yuva420p", "ffv1"),
        ("yuva444p10le", "ffv1"),
        ("gray", "ffv1"),
        ("gray10le", "ffv1"),
        ("gbrp", "ffv1"),
        ("gbrp12le", "ffv1"),
        ("rgb24", "png"),
        ("rgba", "png"),
        ("rgb48be", "png"),
        ("pal8", "png"),
        ("bgr0", "ffv1"),
        ("nv12", "rawvideo"),
        ("yuyv422", "rawvideo"),
        ("uyvy422", "rawvideo"),
        ("yuv422p10le", "v210"),
        ("p010le", "rawvideo"),
    ] {
        let name = if codec == "rawvideo" || codec == "v210" {
            "in.nut"
        } else {
            "in.mkv"
        };
        folder.ffmpeg(&format!(
            "-f lavfi -i smptebars=s=192x108:r=25:d=0.08 -pix_fmt {pixels} -c:v {codec} -strict -1 {name}"
        ));
        let output = folder.enhance(name, "out.mkv", &["--codec", "ffv1", "--force"]);
        assert_eq!(frames(&output), 2, "{pixels}");
        let apart = apart(&folder.file(name), &output);
        assert!(apart < 3.0, "{pixels}: colours off by {apart:.1}");
    }
}

#[test]
fn ten_bits_stay_ten_bits_and_twelve_twelve() {
    let folder = Folder::new();
    folder.clip(
        "ten.mov",
        "64x48",
        0.2,
        "-pix_fmt yuv422p10le -c:v prores_ks",
    );
    folder.clip("twelve.mkv", "64x48", 0.2, "-pix_fmt yuv444p12le -c:v ffv1");
    let pixels = |input: &str, output: &str, more: &[&str]| {
        let path = folder.enhance(input, output, more);
        video(&path)["pix_fmt"].as_str().unwrap().to_owned()
    };
    assert_eq!(pixels("ten.mov", "a.mp4", &[]), "yuv420p10le");
    assert_eq!(
        pixels("ten.mov", "a.mkv", &["--codec", "hevc", "--chroma", "422"]),
        "yuv422p10le"
    );
    assert_eq!(
        pixels("ten.mov", "a.mov", &["--codec", "prores"]),
        "yuv422p10le"
    );
    assert_eq!(pixels("twelve.mkv", "b.mkv", &[]), "yuv420p12le");
}

#[test]
fn every_codec_is_written_where_it_belongs() {
    let folder = Folder::new();
    folder.clip("in.mp4", "64x64", 0.2, "-c:v libx264");
    for (codec, name, found) in [
        ("h264", "h.mkv", "h264"),
        ("hevc", "h.mp4", "hevc"),
        ("av1", "a.mp4", "av1"),
        ("vp9", "v.webm", "vp9"),
        ("prores", "p.mov", "prores"),
        ("ffv1", "f.mkv", "ffv1"),
        ("png", "p.mkv", "png"),
    ] {
        let output = folder.enhance("in.mp4", name, &["--codec", codec, "--size", "128x128"]);
        assert_eq!(video(&output)["codec_name"], found);
        assert_eq!(frames(&output), 5, "{codec}");
        let apart = apart(&folder.file("in.mp4"), &output);
        assert!(apart < 4.0, "{codec}: colours off by {apart:.1}");
    }
}

#[test]
fn range_matrix_and_half_known_colours_are_those_of_the_input() {
    let folder = Folder::new();
    let how = "-c:v libx264 -vf scale=out_range=pc:out_color_matrix=bt709,format=yuvj420p";
    folder.clip(
        "full.mp4",
        "96x54",
        0.2,
        &format!("{how} -colorspace bt709 -color_primaries bt709 -color_trc bt709"),
    );
    folder.clip("half.mkv", "96x54", 0.2, &format!("{how} -color_range pc"));
    folder.clip(
        "old.mkv",
        "96x54",
        0.2,
        "-c:v libx264 -vf scale=out_color_matrix=bt601 -colorspace smpte170m",
    );
    for input in ["full.mp4", "half.mkv", "old.mkv"] {
        for name in ["out.mp4", "out.mkv", "out.webm", "out.mov"] {
            let output = folder.enhance(input, name, &["--force"]);
            let apart = apart(&folder.file(input), &output);
            assert!(apart < 3.0, "{input} to {name}: colours off by {apart:.1}");
            let (before, after) = (video(&folder.file(input)), video(&output));
            assert_eq!(
                before["color_range"], after["color_range"],
                "{input} to {name}"
            );
        }
    }
}

#[test]
fn high_dynamic_range_keeps_its_mastering_display() {
    let folder = Folder::new();
    folder.clip(
        "hdr.mkv",
        "64x64",
        0.2,
        "-pix_fmt yuv420p10le -c:v libx265 -color_primaries bt2020 -color_trc smpte2084 -colorspace bt2020nc -x265-params \
         log-level=error:hdr10=1:master-display=G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50):max-cll=1000,400",
    );
    for (name, codec) in [
        ("out.mp4", "hevc"),
        ("out.mkv", "hevc"),
        ("out.webm", "vp9"),
    ] {
        let output = folder.enhance("hdr.mkv", name, &[]);
        let found = crate::fixture::probe(
            &output,
            &["-show_streams", "-show_frames", "-read_intervals", "%+#1"],
        );
        let video = video(&output);
        assert_eq!(video["codec_name"], codec);
        assert_eq!(video["color_transfer"], "smpte2084", "{name}");
        assert_eq!(video["color_primaries"], "bt2020", "{name}");
        let text = found.to_string();
        assert!(
            text.contains("Mastering display metadata") && text.contains("\"max_content\":1000"),
            "{name}: {text}"
        );
    }
}

#[test]
fn transparency_is_kept_where_there_is_room_and_named_where_not() {
    let folder = Folder::new();
    folder.ffmpeg(
        "-f lavfi -i color=red@0.4:s=64x48:r=25:d=0.2,format=yuva420p -c:v libvpx-vp9 in.webm",
    );
    let before = colours(&folder.file("in.webm"), "rgba");
    let output = folder.enhance("in.webm", "out.webm", &[]);
    let after = colours(&output, "rgba");
    let alpha = |bytes: &[u8]| {
        bytes
            .chunks(4)
            .map(|pixel| u32::from(pixel[3]))
            .sum::<u32>()
            / 144
    };
    assert!(alpha(&before).abs_diff(102) < 4, "{}", alpha(&before));
    assert!(alpha(&after).abs_diff(102) < 4, "{}", alpha(&after));
    let done = folder.run("in.webm", "out.mp4", &[]);
    assert!(
        said(&done).contains("transparency is left out"),
        "{}",
        said(&done)
    );
}

#[test]
fn odd_sizes_are_made_possible() {
    let folder = Folder::new();
    folder.clip("odd.mkv", "51x35", 0.2, "-pix_fmt yuv444p -c:v ffv1");
    for (scale, name) in [
        ("2", "a.mp4"),
        ("1.5", "b.mp4"),
        ("3", "c.webm"),
        ("3", "d.mov"),
    ] {
        let output = folder.enhance("odd.mkv", name, &["--scale", scale]);
        assert_eq!(frames(&output), 5, "{name}");
    }
    assert_eq!(
        size(&folder.enhance("odd.mkv", "e.mkv", &["--scale", "3", "--codec", "ffv1"])),
        (153, 105)
    );
    let done = folder.run("odd.mkv", "f.mp4", &["--size", "153x105"]);
    assert_eq!(done.status.code(), Some(1));
    assert!(said(&done).contains("even"), "{}", said(&done));
}

#[test]
fn pictures_keep_their_shape() {
    let folder = Folder::new();
    folder.clip("wide.mp4", "90x72", 0.2, "-vf setsar=64/45 -c:v libx264");
    folder.clip("lying.mp4", "96x54", 0.2, "-c:v libx264");
    folder.ffmpeg("-i lying.mp4 -c copy -metadata:s:v rotate=90 upright.mp4");
    let shape = |path: &std::path::Path| {
        video(path)["sample_aspect_ratio"]
            .as_str()
            .unwrap_or("1:1")
            .to_owned()
    };
    let output = folder.enhance("wide.mp4", "a.mp4", &["--size", "512x288"]);
    assert_eq!(shape(&output), "1:1");
    let output = folder.enhance("wide.mp4", "b.mkv", &[]);
    assert_eq!(
        (size(&output), shape(&output).as_str()),
        ((180, 144), "64:45")
    );
    let output = folder.enhance("wide.mp4", "c.mp4", &["--to", "720p"]);
    assert_eq!(
        (size(&output), shape(&output).as_str()),
        ((1280, 720), "1:1")
    );
    // Turned by its tag: the pixels are upright, and the tag is gone.
    let output = folder.enhance("upright.mp4", "d.mp4", &[]);
    assert_eq!(size(&output), (108, 192));
    assert!(
        !video(&output).to_string().contains("rotat"),
        "{}",
        video(&output)
    );
    let apart = apart(&folder.file("upright.mp4"), &output);
    assert!(apart < 4.0, "turned the wrong way? {apart:.1}");
}

#[test]
fn what_changes_on_the_way_is_held_and_no_frame_is_lost() {
    let folder = Folder::new();
    let part = |name: &str, size: &str, sar: &str, at: &str| {
        folder.ffmpeg(&format!(
            "-f lavfi -i testsrc2=s={size}:r=25:d=0.4,setsar={sar} -c:v mpeg2video -bf 0 -muxdelay 0 -output_ts_offset {at} {name}"
        ));
        std::fs::read(folder.file(name)).unwrap()
    };
    for (second, sar) in [("64x48", "16/15"), ("96x48", "1")] {
        let bytes = [
            part("a.ts", "64x48", "1", "0"),
            part("b.ts", second, sar, "0.4"),
        ]
        .concat();
        std::fs::write(folder.file("two.ts"), bytes).unwrap();
        for name in ["out.mp4", "out.mkv"] {
            let output = folder.enhance("two.ts", name, &["--force"]);
            assert!(frames(&output) >= 19, "{} frames", frames(&output));
            assert_eq!(size(&output), (128, 96));
        }
    }
}

#[test]
fn fields_become_frames() {
    let folder = Folder::new();
    folder.ffmpeg(
        "-f lavfi -i testsrc2=s=64x48:r=50:d=0.8 -vf tinterlace=interleave_top,fieldorder=tff -c:v libx264 -flags +ilme+ildct -x264-params tff=1 tv.mkv",
    );
    assert!(
        ["tt", "tb"].contains(
            &video(&folder.file("tv.mkv"))["field_order"]
                .as_str()
                .unwrap()
        )
    );
    let output = folder.enhance("tv.mkv", "a.mp4", &[]);
    assert_eq!(
        (frames(&output), video(&output)["avg_frame_rate"].as_str()),
        (20, Some("25/1"))
    );
    let output = folder.enhance("tv.mkv", "b.mp4", &["--deinterlace", "fields"]);
    assert_eq!(
        (frames(&output), video(&output)["avg_frame_rate"].as_str()),
        (40, Some("50/1"))
    );
}

#[test]
fn photographs_are_of_the_colours_of_their_clip() {
    let folder = Folder::new();
    folder.ffmpeg(
        "-f lavfi -i color=0x20a0e0:s=64x48:r=5:d=0.4 -vf scale=out_color_matrix=bt709 -pix_fmt yuv420p -colorspace bt709 -color_primaries bt709 -color_trc bt709 -c:v libx264 in.mp4",
    );
    for name in ["out.jpg", "out.png"] {
        let output = folder.enhance("in.mp4", name, &[]);
        let apart = apart(&folder.file("in.mp4"), &output);
        assert!(apart < 2.0, "{name}: colours off by {apart:.1}");
    }
}
