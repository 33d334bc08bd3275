// SPDX-License-Identifier: MPL-2.0
use super::*;

fn caps(text: &str) -> gst::Caps {
    gst::init().unwrap();
    text.parse().unwrap()
}

fn input(width: i32, height: i32) -> gst::Caps {
    caps(&format!(
        "video/x-raw,format=I420,width={width},height={height},framerate=25/1,pixel-aspect-ratio=1/1,\
         interlace-mode=progressive,colorimetry=bt709"
    ))
}

fn chosen(width: i32, height: i32, downstream: &str, scale: f64) -> Result<(i32, i32), String> {
    let out = choose_output(&input(width, height), &caps(downstream), scale)?;
    let s = out.structure(0).unwrap();
    assert!(out.is_fixed(), "{out}");
    Ok((s.get("width").unwrap(), s.get("height").unwrap()))
}

#[test]
fn the_size_is_downstreams_or_scaled() {
    for (downstream, scale, expected) in [
        ("ANY", 4.0, (640, 480)),
        ("video/x-raw", 1.5, (240, 180)),
        ("video/x-raw,width=1920,height=1080", 4.0, (1920, 1080)),
        ("video/x-raw,width=333,height=251", 4.0, (333, 251)),
        ("video/x-raw,width=1280", 4.0, (1280, 960)),
        ("video/x-raw,height=720", 4.0, (960, 720)),
        ("video/x-raw,width=[1,400],height=[1,4096]", 4.0, (400, 300)),
        ("video/x-raw,width=[1,4096],height=[1,300]", 4.0, (400, 300)),
        (
            "video/x-raw,width=[1,4096],height=[1,4096]",
            4.0,
            (640, 480),
        ),
        (
            "video/x-raw,width={320,500},height={240,375}",
            4.0,
            (500, 375),
        ),
        ("video/x-raw,width=160,height=120", 4.0, (160, 120)),
    ] {
        assert_eq!(
            chosen(160, 120, downstream, scale),
            Ok(expected),
            "{downstream}"
        );
    }
    assert_eq!(chosen(1, 1, "ANY", 1.0), Ok((1, 1)));
    assert_eq!(chosen(3, 5, "ANY", 2.5), Ok((8, 13)));
}

#[test]
fn impossible_sizes_are_refused_with_advice() {
    let smaller = chosen(160, 120, "video/x-raw,width=80,height=60", 4.0).unwrap_err();
    assert!(
        smaller.contains("2560x1920") && smaller.contains("videoscale"),
        "{smaller}"
    );
    let larger = chosen(16, 16, "video/x-raw,width=257,height=256", 4.0).unwrap_err();
    assert!(larger.contains("256x256"), "{larger}");
    let huge = chosen(8192, 8192, "ANY", 4.0).unwrap_err();
    assert!(huge.contains("lower `scale`"), "{huge}");
    // The size that downstream asks for is possible although the scaled one is not.
    assert_eq!(
        chosen(8192, 8192, "video/x-raw,width=16384,height=16384", 4.0),
        Ok((16384, 16384))
    );
    let format = chosen(160, 120, "video/x-raw,format=RGB", 4.0).unwrap_err();
    assert!(format.contains("videoconvert"), "{format}");
}

#[test]
fn interlaced_input_names_deinterlace() {
    let caps = caps(
        "video/x-raw,format=I420,width=64,height=64,framerate=25/1,interlace-mode=interleaved",
    );
    assert!(accepts(&caps));
    assert!(!caps.can_intersect(&TEMPLATE));
    assert!(parse_input(&caps).unwrap_err().contains("deinterlace"));
}

#[test]
fn other_fields_pass() {
    let hdr = caps(
        "video/x-raw,format=P010_10LE,width=64,height=36,framerate=30000/1001,pixel-aspect-ratio=8/9,\
         interlace-mode=progressive,colorimetry=bt2100-pq,chroma-site=mpeg2,\
         mastering-display-info=(string)35400:14600:8500:39850:6550:2300:15635:16450:10000000:1,\
         content-light-level=(string)1000:400",
    );
    let out = choose_output(&hdr, &caps("ANY"), 4.0).unwrap();
    let (before, after) = (hdr.structure(0).unwrap(), out.structure(0).unwrap());
    for (name, value) in before.iter() {
        if name != "width" && name != "height" {
            assert_eq!(
                format!("{:?}", after.value(name).unwrap()),
                format!("{value:?}"),
                "{name}"
            );
        }
    }
    assert_eq!(before.n_fields(), after.n_fields());
}

#[test]
fn implied_colorimetry_does_not_change_with_the_size() {
    let sd = caps("video/x-raw,format=I420,width=320,height=240,framerate=25/1");
    let out = choose_output(&sd, &caps("ANY"), 4.0).unwrap();
    let (before, after) = (
        VideoInfo::from_caps(&sd).unwrap(),
        VideoInfo::from_caps(&out).unwrap(),
    );
    assert_eq!(after.height(), 960);
    assert_eq!(after.colorimetry(), before.colorimetry());
    assert_eq!(
        after.colorimetry().matrix(),
        gst_video::VideoColorMatrix::Bt601
    );
}

#[test]
fn downstream_size_is_not_offered_upstream() {
    let offer = sink_offer(
        Some(&caps("video/x-raw,format={RGB,I420},width=1280,height=720")),
        None,
    );
    assert!(input(160, 120).is_subset(&offer), "{offer}");
    assert!(!offer.can_intersect(&caps("video/x-raw,format=NV12")));
    let filter = caps("video/x-raw,format=RGB,width=[2,9],height=7");
    let filtered = sink_offer(Some(&caps("ANY")), Some(&filter));
    assert!(
        filtered.is_subset(&filter) && filtered.is_subset(&SINK_TEMPLATE),
        "{filtered}"
    );
    assert_eq!(filtered.structure(0).unwrap().get::<i32>("height"), Ok(7));
    assert_eq!(sink_offer(Some(&caps("ANY")), None), *SINK_TEMPLATE);
}

#[test]
fn interlaced_video_is_offered_last_and_only_by_name() {
    let any = caps("ANY");
    let offer = |filter: &str| sink_offer(Some(&any), Some(&caps(filter)));
    let modes = |offer: &gst::Caps| -> Vec<String> {
        let mode = |s: &gst::StructureRef| s.get::<String>("interlace-mode").unwrap();
        offer.iter().map(mode).collect()
    };
    // Who does not tell means whole frames.
    let silent = offer("video/x-raw,format=I420,width=16,height=16");
    assert_eq!(modes(&silent), ["progressive"]);
    let both = offer("video/x-raw,format=I420,interlace-mode={mixed,progressive}");
    assert_eq!(modes(&both), ["progressive", "mixed"]);
    let only = offer("video/x-raw,format=I420,interlace-mode=interleaved");
    assert_eq!(modes(&only), ["interleaved"]);
    let one_field = offer("video/x-raw(format:Interlaced),interlace-mode=alternate");
    assert_eq!(modes(&one_field), ["alternate"]);
    // Where nothing else is possible it is not the fields that are to blame.
    let nothing = sink_offer(Some(&caps("audio/x-raw")), None);
    assert!(nothing.is_empty(), "{nothing}");
}

#[test]
fn behind_the_element_everything_is_whole() {
    let interlaced = caps(
        "video/x-raw,format=I420,width=16,height=16,framerate=25/1,interlace-mode=interleaved,\
         field-order=top-field-first",
    );
    let offer = src_offer(Some(&interlaced), 2.0, None);
    let first = offer.structure(0).unwrap();
    assert_eq!(first.get::<&str>("interlace-mode"), Ok("progressive"));
    assert!(!first.has_field("field-order") && first.get::<i32>("width") == Ok(32));
}

#[test]
fn the_source_offers_the_scaled_size_first() {
    let offer = src_offer(Some(&input(160, 120)), 4.0, None);
    let first = offer.structure(0).unwrap();
    assert_eq!(
        (first.get("width"), first.get("height")),
        (Ok(640), Ok(480))
    );
    let second = offer.structure(1).unwrap();
    let range = second.get::<gst::IntRange<i32>>("width").unwrap();
    assert_eq!((range.min(), range.max()), (160, 2560));
    let filter = caps("video/x-raw,width=1000,height=1000");
    assert!(!src_offer(Some(&input(160, 120)), 4.0, Some(&filter)).is_empty());
    assert!(
        src_offer(
            Some(&input(160, 120)),
            4.0,
            Some(&caps("video/x-raw,width=100"))
        )
        .is_empty()
    );
}

#[test]
fn an_exact_size_keeps_the_shape_of_the_picture() {
    gst::init().unwrap();
    let caps = |text: &str| text.parse::<gst::Caps>().unwrap();
    let wide = caps(
        "video/x-raw,format=I420,width=180,height=144,framerate=25/1,pixel-aspect-ratio=64/45",
    );
    let shape = |downstream: &str| {
        let chosen = choose_output(&wide, &caps(downstream), 2.0)?;
        let structure = chosen.structure(0).unwrap();
        let par: gst::Fraction = structure.get("pixel-aspect-ratio").unwrap();
        Ok::<_, String>((structure.get::<i32>("width").unwrap(), par))
    };
    let square = gst::Fraction::new(1, 1);
    assert_eq!(
        shape("video/x-raw,width=1024,height=576"),
        Ok((1024, square))
    );
    assert_eq!(
        shape("video/x-raw,width=1024,height=576,pixel-aspect-ratio=1/1"),
        Ok((1024, square))
    );
    assert_eq!(shape("video/x-raw"), Ok((360, gst::Fraction::new(64, 45))));
    assert_eq!(
        shape("video/x-raw,width=720,height=144"),
        Ok((720, gst::Fraction::new(16, 45)))
    );
    // Pixels of another shape than there is room for would change the picture.
    assert!(shape("video/x-raw,width=360,height=288,pixel-aspect-ratio=1/1").is_err());
    // Upstream may send any shape where the size is fixed, since it follows.
    let offer = sink_offer(
        Some(&caps(
            "video/x-raw,width=1024,height=576,pixel-aspect-ratio=1/1",
        )),
        None,
    );
    assert!(offer.can_intersect(&wide));
}
