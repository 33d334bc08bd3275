// SPDX-License-Identifier: MPL-2.0
//! The raw video of both elements' pads.

use gst_video::{
    VideoCapsBuilder, VideoColorMatrix, VideoColorRange, VideoColorimetry, VideoInfo,
    VideoInterlaceMode,
};

use super::frame::FORMATS;

/// A description of raw video.
pub(crate) type Builder = VideoCapsBuilder<gst::caps::NoFeature>;

/// Raw video of any format that can be read and written.
pub(crate) fn raw_video() -> Builder {
    VideoCapsBuilder::new().format_list(FORMATS)
}

/// Only whole frames.
pub(crate) fn progressive(builder: Builder) -> Builder {
    builder.field("interlace-mode", VideoInterlaceMode::Progressive.to_str())
}

/// Caps that are kept until the process ends, which the leaks tracer need not report.
pub(crate) fn lasting(mut caps: gst::Caps) -> gst::Caps {
    caps.make_mut().mark_may_be_leaked();
    caps
}

/// What fixed caps say about frames.
///
/// # Errors
/// A sentence, when they do not describe raw video.
pub(crate) fn parse(caps: &gst::CapsRef) -> Result<VideoInfo, String> {
    let info =
        VideoInfo::from_caps(caps).map_err(|_| format!("caps {caps} do not describe raw video"))?;
    Ok(half_known(caps, &info).unwrap_or(info))
}

/// `info` with as much of the colorimetry in `caps` as these tell, where that is not all.
///
/// GStreamer takes none of a colorimetry whose matrix is unknown, as in `1:0:0:0`, although the range that it tells is as true
/// as ever.
fn half_known(caps: &gst::CapsRef, info: &VideoInfo) -> Option<VideoInfo> {
    let told = caps.structure(0)?.get::<&str>("colorimetry").ok()?;
    let told: VideoColorimetry = told.parse().ok()?;
    let implied = info.colorimetry();
    if told == implied {
        return None;
    }
    let range = match told.range() {
        VideoColorRange::Unknown => implied.range(),
        range => range,
    };
    let matrix = match told.matrix() {
        VideoColorMatrix::Unknown | VideoColorMatrix::Rgb => implied.matrix(),
        _ if info.format_info().is_rgb() => implied.matrix(),
        matrix => matrix,
    };
    let colorimetry = VideoColorimetry::new(range, matrix, told.transfer(), told.primaries());
    VideoInfo::builder_from_info(info)
        .colorimetry(&colorimetry)
        .build()
        .ok()
}

/// `caps` as far as `filter` lets them pass, in the order of `filter`.
pub(crate) fn filtered(caps: gst::Caps, filter: Option<&gst::Caps>) -> gst::Caps {
    match filter {
        Some(filter) => filter.intersect_with_mode(&caps, gst::CapsIntersectMode::First),
        None => caps,
    }
}

/// `caps` with their lists of formats in the order of [`FORMATS`]. The order of the structures says what is preferred and stays;
/// that of a list says nothing where a peer names all that it can do.
pub(crate) fn best_formats_first(mut caps: gst::Caps) -> gst::Caps {
    if caps.is_any() {
        return caps;
    }
    for structure in caps.make_mut().iter_mut() {
        let Ok(list) = structure.get::<gst::List>("format") else {
            continue;
        };
        let mut names: Vec<String> = list.iter().filter_map(|name| name.get().ok()).collect();
        let rank = |name: &String| FORMATS.iter().position(|format| format.to_str() == name);
        // `None`, which would come first, is no format of ours.
        names.sort_by_key(|name| rank(name).unwrap_or(FORMATS.len()));
        structure.set("format", gst::List::new(names));
    }
    caps
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caps(text: &str) -> gst::Caps {
        gst::init().unwrap();
        text.parse().unwrap()
    }

    #[test]
    fn what_is_known_of_a_colorimetry_holds() {
        let parsed = |format: &str, colorimetry: &str| {
            let text = format!(
                "video/x-raw,format={format},width=320,height=240,framerate=25/1,colorimetry={colorimetry}"
            );
            let colorimetry = parse(&caps(&text)).unwrap().colorimetry();
            (colorimetry.range(), colorimetry.matrix())
        };
        let (full, limited) = (VideoColorRange::Range0_255, VideoColorRange::Range16_235);
        let (bt601, bt709) = (VideoColorMatrix::Bt601, VideoColorMatrix::Bt709);
        assert_eq!(parsed("I420", "1:0:0:0"), (full, bt601));
        assert_eq!(parsed("I420", "2:0:0:0"), (limited, bt601));
        assert_eq!(parsed("I420", "0:3:0:0").1, bt709);
        assert_eq!(parsed("I420", "bt709"), (limited, bt709));
        assert_eq!(parsed("I420", "1:1:0:0"), (full, bt601));
        assert_eq!(parsed("I420", "nonsense"), (limited, bt601));
        let rgb = VideoColorMatrix::Rgb;
        assert_eq!(parsed("RGB", "1:0:0:0"), (full, rgb));
        assert_eq!(parsed("RGB", "2:3:0:0"), (limited, rgb));
        assert_eq!(parsed("RGB", "sRGB"), (full, rgb));
    }

    #[test]
    fn formats_are_ordered_within_their_structures() {
        let mixed = caps(
            "video/x-raw,format={ABGR64_LE,Y444,v210,I420},width=8;video/x-raw,format=RGB;\
             video/x-raw,format={GRAY8,NV12}",
        );
        let ordered = caps(
            "video/x-raw,format={I420,Y444,ABGR64_LE,v210},width=8;video/x-raw,format=RGB;\
             video/x-raw,format={NV12,GRAY8}",
        );
        assert!(best_formats_first(mixed).is_strictly_equal(&ordered));
        assert!(best_formats_first(gst::Caps::new_any()).is_any());
    }
}
