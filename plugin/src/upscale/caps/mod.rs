// SPDX-License-Identifier: MPL-2.0
//! Negotiation: what the pads can do, and which size comes out.
//!
//! Only width and height change; every other field passes. Downstream may fix the output size, but its size is never
//! mirrored into what the sink pad offers: a scaler before this element would otherwise do the enlarging.

use once_cell::sync::Lazy;

use gst_video::{VideoColorMatrix, VideoInfo, VideoInterlaceMode};

use super::settings::MAX_SCALE;
use crate::common::caps::{best_formats_first, filtered, lasting, parse, progressive, raw_video};
use crate::common::frame::FORMATS;

/// Largest width and height on either side.
pub(super) const MAX_SIDE: i32 = 16384;

/// What the source pad's template offers: whole frames.
pub(super) static TEMPLATE: Lazy<gst::Caps> = Lazy::new(|| {
    let any_size = raw_video()
        .width_range(1..=MAX_SIDE)
        .height_range(1..=MAX_SIDE);
    lasting(progressive(any_size).build())
});

/// What the sink pad's template offers: whole frames, and behind them interlaced ones, see [`sink_offer`].
pub(super) static SINK_TEMPLATE: Lazy<gst::Caps> = Lazy::new(|| {
    let mut caps = TEMPLATE.copy();
    caps.make_mut().append(interlaced(&TEMPLATE));
    lasting(caps)
});

/// `caps` of whole frames as interlaced ones.
fn interlaced(caps: &gst::Caps) -> gst::Caps {
    let modes = [
        VideoInterlaceMode::Interleaved,
        VideoInterlaceMode::Mixed,
        VideoInterlaceMode::Fields,
    ];
    let both_fields = gst::List::new(modes.map(|mode| mode.to_str()));
    let one_field = VideoInterlaceMode::Alternate.to_str();
    let mut interlaced = gst::Caps::new_empty();
    for structure in caps.iter() {
        let mut structure = structure.to_owned();
        let interlaced = interlaced.make_mut();
        structure.set("interlace-mode", both_fields.clone());
        interlaced.append_structure(structure.clone());
        structure.set("interlace-mode", one_field);
        let feature = gst::CapsFeatures::new([gst_video::CAPS_FEATURE_FORMAT_INTERLACED]);
        interlaced.append_structure_full(structure, Some(feature));
    }
    interlaced
}

/// Whether the sink pad takes a CAPS event with these caps.
pub(super) fn accepts(caps: &gst::Caps) -> bool {
    caps.can_intersect(&SINK_TEMPLATE)
}

/// The field of a pixel's shape.
const PIXEL_ASPECT: &str = "pixel-aspect-ratio";

/// Checks input caps that were set on the sink pad.
pub(super) fn parse_input(caps: &gst::CapsRef) -> Result<VideoInfo, String> {
    let info = parse(caps)?;
    if info.interlace_mode() != VideoInterlaceMode::Progressive {
        return Err(format!(
            "the video is interlaced ({}); put `deinterlace` before flashupscale",
            info.interlace_mode().to_str()
        ));
    }
    if !FORMATS.contains(&info.format()) {
        return Err(format!(
            "format {} is not supported; put `videoconvert` before flashupscale",
            info.format()
        ));
    }
    if info.width().max(info.height()) > MAX_SIDE as u32 {
        return Err(format!(
            "{}x{} is too large, each side can be {MAX_SIDE} at most",
            info.width(),
            info.height()
        ));
    }
    Ok(info)
}

/// `caps` with any width and height. Where both are fixed, a pixel's shape follows from them, and any will do here.
pub(super) fn without_size(caps: &gst::Caps) -> gst::Caps {
    if caps.is_any() {
        // ANY has no structures to go through.
        return caps.clone();
    }
    caps.iter_with_features()
        .map(|(structure, features)| {
            let mut structure = structure.to_owned();
            if ["width", "height"]
                .iter()
                .all(|side| structure.get::<i32>(*side).is_ok())
            {
                structure.remove_field(PIXEL_ASPECT);
            }
            structure.set("width", gst::IntRange::new(1, MAX_SIDE));
            structure.set("height", gst::IntRange::new(1, MAX_SIDE));
            (structure, features.to_owned())
        })
        .collect::<gst::Caps>()
}

/// What the sink pad offers, given what downstream takes.
///
/// Interlaced video comes last, and only for whom asks for it by name: nobody who can send whole frames sends it, and who
/// cannot gets as far as the CAPS event, where there is somebody to tell what to put in between. Were it not offered, an
/// element before this one would fail to negotiate and say nothing of the reason.
pub(super) fn sink_offer(downstream: Option<&gst::Caps>, filter: Option<&gst::Caps>) -> gst::Caps {
    let mut caps = TEMPLATE.clone();
    if let Some(downstream) = downstream {
        caps = without_size(downstream).intersect_with_mode(&caps, gst::CapsIntersectMode::First);
    }
    let filter = filter.filter(|filter| !filter.is_any());
    let named = filter.map(naming_interlace_mode);
    let interlaced = filtered(interlaced(&caps), named.as_ref());
    let mut offer = best_formats_first(filtered(caps, filter));
    offer.make_mut().append(interlaced);
    offer
}

/// Those of `caps` that tell the interlace mode.
fn naming_interlace_mode(caps: &gst::Caps) -> gst::Caps {
    caps.iter_with_features()
        .filter(|(structure, _)| structure.has_field("interlace-mode"))
        .map(|(structure, features)| (structure.to_owned(), features.to_owned()))
        .collect()
}

/// What the source pad offers, given what upstream can send: the scaled size first, then all sizes that can be made.
pub(super) fn src_offer(
    upstream: Option<&gst::Caps>,
    scale: f64,
    filter: Option<&gst::Caps>,
) -> gst::Caps {
    let caps = match upstream {
        Some(upstream) => enlarged(
            &deinterlaced(upstream).intersect_with_mode(&TEMPLATE, gst::CapsIntersectMode::First),
            scale,
        ),
        None => TEMPLATE.clone(),
    };
    filtered(caps, filter)
}

/// `caps` as whole frames, also where there are only interlaced ones: with an empty offer nothing could be linked behind this
/// element, which is no advice.
fn deinterlaced(caps: &gst::Caps) -> gst::Caps {
    if caps.is_any() || caps.can_intersect(&TEMPLATE) {
        return caps.clone();
    }
    caps.iter()
        .map(|structure| {
            let mut structure = structure.to_owned();
            structure.set("interlace-mode", VideoInterlaceMode::Progressive.to_str());
            structure.remove_field("field-order");
            structure
        })
        .collect()
}

/// `side` times `scale`, if that is a possible size.
fn scaled(side: i32, scale: f64) -> Option<i32> {
    let scaled = (f64::from(side) * scale).round();
    (scaled >= 1.0 && scaled <= f64::from(MAX_SIDE)).then_some(scaled as i32)
}

/// Lowest and highest value of a size field.
fn bounds(structure: &gst::StructureRef, field: &str) -> (i32, i32) {
    if let Ok(side) = structure.get::<i32>(field) {
        (side, side)
    } else if let Ok(range) = structure.get::<gst::IntRange<i32>>(field) {
        (range.min(), range.max())
    } else if let Ok(list) = structure.get::<gst::List>(field) {
        let sides = || list.iter().filter_map(|v| v.get::<i32>().ok());
        (
            sides().min().unwrap_or(1),
            sides().max().unwrap_or(MAX_SIDE),
        )
    } else {
        (1, MAX_SIDE)
    }
}

/// Sizes that can be made of the sizes in `caps`.
fn enlarged(caps: &gst::Caps, scale: f64) -> gst::Caps {
    let mut preferred = gst::Caps::new_empty();
    let mut possible = gst::Caps::new_empty();
    for (structure, features) in caps.iter_with_features() {
        let (width, height) = (bounds(structure, "width"), bounds(structure, "height"));
        if width.0 == width.1
            && height.0 == height.1
            && let (Some(width), Some(height)) = (scaled(width.0, scale), scaled(height.0, scale))
        {
            let mut structure = structure.to_owned();
            structure.set("width", width);
            structure.set("height", height);
            preferred
                .make_mut()
                .append_structure_full(structure, Some(features.to_owned()));
        }
        let mut structure = structure.to_owned();
        for (field, (low, high)) in [("width", width), ("height", height)] {
            let high = scaled(high, MAX_SCALE).unwrap_or(MAX_SIDE);
            if low < high {
                structure.set(field, gst::IntRange::new(low, high));
            } else {
                structure.set(field, low);
            }
        }
        structure.set(
            PIXEL_ASPECT,
            gst::FractionRange::new(
                gst::Fraction::new(1, i32::MAX),
                gst::Fraction::new(i32::MAX, 1),
            ),
        );
        possible
            .make_mut()
            .append_structure_full(structure, Some(features.to_owned()));
    }
    preferred.make_mut().append(possible);
    preferred
}

/// Input caps with the colorimetry spelled out where it was only implied: what is implied depends on the size.
fn with_explicit_colorimetry(caps: &gst::CapsRef, info: &VideoInfo) -> gst::Caps {
    let mut caps = caps.to_owned();
    let colorimetry = info.colorimetry();
    // R, G and B imply nothing that depends on the size.
    if !info.format_info().is_rgb() && colorimetry.matrix() != VideoColorMatrix::Unknown {
        for structure in caps.make_mut().iter_mut() {
            if !structure.has_field("colorimetry") {
                structure.set("colorimetry", colorimetry.to_string());
            }
        }
    }
    caps
}

/// Output caps for the frames described by `caps`: the size that downstream fixes, else `scale` times the input.
///
/// # Errors
/// What was asked for and what would be possible, when there is no common size.
pub(super) fn choose_output(
    caps: &gst::CapsRef,
    downstream: &gst::Caps,
    scale: f64,
) -> Result<gst::Caps, String> {
    let info = parse_input(caps)?;
    let (width, height) = (info.width() as i32, info.height() as i32);
    let fixed = with_explicit_colorimetry(caps, &info);
    let offer = enlarged(&fixed, scale);
    let common = offer.intersect_with_mode(downstream, gst::CapsIntersectMode::First);
    let fixate = |structure: &gst::StructureRef| fixate(&shaped(structure, &info));
    let Some(structure) = common.iter().find(|structure| fits(structure, &info)) else {
        return Err(format!(
            "{width}x{height} can become {width}x{height} up to {}x{}, but downstream takes only {downstream}; \
             choose a size in between, or put `videoconvert` or `videoscale` after flashupscale",
            scaled(width, MAX_SCALE).unwrap_or(MAX_SIDE),
            scaled(height, MAX_SCALE).unwrap_or(MAX_SIDE)
        ));
    };
    let (Some(wanted_width), Some(wanted_height)) = (scaled(width, scale), scaled(height, scale))
    else {
        if structure.get::<i32>("width").is_ok() && structure.get::<i32>("height").is_ok() {
            return Ok(fixate(structure));
        }
        return Err(format!(
            "{width}x{height} times {scale} is too large, each side can be {MAX_SIDE} at most; lower `scale`"
        ));
    };
    let mut chosen = structure.to_owned();
    let width_was_free = chosen.get::<i32>("width").is_err();
    if width_was_free && chosen.get::<i32>("height").is_ok() {
        // Only the height is fixed: keep the aspect ratio.
        let fixed_height = chosen.get::<i32>("height").unwrap_or(wanted_height);
        chosen.fixate_field_nearest_int("width", proportional(width, fixed_height, height));
        return Ok(fixate(&chosen));
    }
    let free_width = chosen.value("width").cloned().ok();
    chosen.fixate_field_nearest_int("width", wanted_width);
    let chosen_width = chosen.get::<i32>("width").unwrap_or(wanted_width);
    let like_width = if chosen_width == wanted_width {
        wanted_height
    } else {
        proportional(height, chosen_width, width)
    };
    chosen.fixate_field_nearest_int("height", like_width);
    let chosen_height = chosen.get::<i32>("height").unwrap_or(like_width);
    if width_was_free && chosen_height != like_width {
        // The height was the tighter bound: the width follows it.
        if let Some(free_width) = free_width {
            chosen.set_value("width", free_width);
        }
        chosen.fixate_field_nearest_int("width", proportional(width, chosen_height, height));
    }
    Ok(fixate(&chosen))
}

/// A pixel's shape in pictures of `width` x `height` made of those of `info`, such that the picture keeps its own. What
/// differs by less than the rounding of sizes is the same.
fn pixel_aspect(info: &VideoInfo, (width, height): (i32, i32)) -> gst::Fraction {
    let own = info.par();
    let across = i64::from(info.width()) * i64::from(height);
    let down = i64::from(info.height()) * i64::from(width);
    let change = across as f64 / down.max(1) as f64;
    let exact = change * f64::from(own.numer()) / f64::from(own.denom());
    if (change - 1.0).abs() < 0.01 {
        own
    } else if (exact - 1.0).abs() < 0.01 {
        gst::Fraction::new(1, 1)
    } else {
        gst::Fraction::approximate_f64(exact).unwrap_or(own)
    }
}

/// Whether the pixels of `structure` may have the shape that they must have, or the one that they had.
fn fits(structure: &gst::StructureRef, info: &VideoInfo) -> bool {
    let (Ok(width), Ok(height)) = (
        structure.get::<i32>("width"),
        structure.get::<i32>("height"),
    ) else {
        return true;
    };
    let Ok(fixed) = structure.get::<gst::Fraction>(PIXEL_ASPECT) else {
        return true;
    };
    let ratio =
        |fraction: gst::Fraction| f64::from(fraction.numer()) / f64::from(fraction.denom().max(1));
    let wanted = pixel_aspect(info, (width, height));
    fixed == info.par() || (ratio(fixed) / ratio(wanted) - 1.0).abs() < 0.01
}

/// `structure`, whose size is fixed, with the shape of its pixels.
fn shaped(structure: &gst::StructureRef, info: &VideoInfo) -> gst::Structure {
    let mut structure = structure.to_owned();
    if let (Ok(width), Ok(height)) = (
        structure.get::<i32>("width"),
        structure.get::<i32>("height"),
    ) {
        let wanted = pixel_aspect(info, (width, height));
        if structure.has_field(PIXEL_ASPECT) {
            structure.fixate_field_nearest_fraction(PIXEL_ASPECT, wanted);
        } else if wanted != gst::Fraction::new(1, 1) {
            structure.set(PIXEL_ASPECT, wanted);
        }
    }
    structure
}

/// `side * numerator / denominator`, rounded, within the possible sizes.
fn proportional(side: i32, numerator: i32, denominator: i32) -> i32 {
    let value = f64::from(side) * f64::from(numerator) / f64::from(denominator.max(1));
    value.round().clamp(1.0, f64::from(MAX_SIDE)) as i32
}

fn fixate(structure: &gst::StructureRef) -> gst::Caps {
    let mut caps = gst::Caps::builder_full_with_any_features()
        .structure(structure.to_owned())
        .build();
    caps.fixate();
    caps
}

#[cfg(test)]
mod tests;
