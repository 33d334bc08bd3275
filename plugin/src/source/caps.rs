// SPDX-License-Identifier: MPL-2.0
//! Negotiation: the model's own size and rate first, then what can be made of them.

use once_cell::sync::Lazy;

use flashvideo::{GeneratorInfo, Size};

use crate::common::caps::{Builder, best_formats_first, lasting, progressive, raw_video};

/// Smallest size that is offered.
const SMALLEST: (i32, i32) = (64, 36);
/// Largest size that is asked of models that make any.
const LARGEST: (i32, i32) = (1280, 768);
/// Slowest and fastest frame rate.
const RATES: (gst::Fraction, gst::Fraction) = (
    gst::Fraction::new_raw(1, 10),
    gst::Fraction::new_raw(240, 1),
);

/// What the pad template offers.
pub(super) static TEMPLATE: Lazy<gst::Caps> = Lazy::new(|| {
    let longest = flashvideo::release::generate::MAX_SIDE as i32;
    let any_size = builder().width_range(1..=longest).height_range(1..=longest);
    lasting(any_size.build())
});

fn builder() -> Builder {
    progressive(raw_video())
        .framerate_range(RATES.0..=RATES.1)
        .pixel_aspect_ratio(gst::Fraction::new(1, 1))
}

fn sides(size: Size) -> (i32, i32) {
    let side = |side: usize| i32::try_from(side).unwrap_or(i32::MAX);
    (side(size.width), side(size.height))
}

/// What a model offers: its own size, then others. A model of `fixed` size is reduced to smaller ones.
pub(super) fn offer(info: &GeneratorInfo, fixed: bool) -> gst::Caps {
    let (width, height) = sides(info.size());
    let (most_wide, most_high) = if fixed {
        (width, height)
    } else {
        (LARGEST.0.max(width), LARGEST.1.max(height))
    };
    let own = builder().width(width).height(height).build();
    let mut caps = own;
    // A range of one value is none.
    if SMALLEST.0 < most_wide && SMALLEST.1 < most_high {
        caps.make_mut().append(
            builder()
                .width_range(SMALLEST.0..=most_wide)
                .height_range(SMALLEST.1..=most_high)
                .build(),
        );
    }
    caps
}

/// One of the possibilities in `caps`: as near to the model's own size and rate as can be, and where one side is given,
/// of the same shape.
pub(super) fn choose(caps: gst::Caps, info: &GeneratorInfo) -> gst::Caps {
    let mut caps = best_formats_first(caps);
    caps.truncate();
    let (width, height) = sides(info.size());
    if let Some(structure) = caps.make_mut().structure_mut(0) {
        let given = |structure: &gst::StructureRef, field| structure.get::<i32>(field).ok();
        let like = |side: i32, of: i32, to: i32| {
            let side = f64::from(side) * f64::from(to) / f64::from(of.max(1));
            side.round().clamp(1.0, 65535.0) as i32
        };
        match (given(structure, "width"), given(structure, "height")) {
            (None, Some(fixed)) => {
                structure.fixate_field_nearest_int("width", like(fixed, height, width));
            }
            (None, None) => {
                structure.fixate_field_nearest_int("width", width);
                let chosen = given(structure, "width").unwrap_or(width);
                structure.fixate_field_nearest_int("height", like(chosen, width, height));
            }
            (Some(fixed), None) => {
                structure.fixate_field_nearest_int("height", like(fixed, width, height));
            }
            (Some(_), Some(_)) => {}
        }
        let fps = i32::try_from(info.fps).unwrap_or(1);
        structure.fixate_field_nearest_fraction("framerate", gst::Fraction::new(fps, 1));
    }
    caps
}

#[cfg(test)]
mod tests {
    use super::super::playlist::tests::info;
    use super::*;

    fn chosen(fixed: bool, wish: &str) -> Option<(i32, i32, gst::Fraction)> {
        gst::init().unwrap();
        let info = GeneratorInfo {
            width: 480,
            height: 270,
            ..info()
        };
        let wish: gst::Caps = wish.parse().unwrap();
        let common = offer(&info, fixed).intersect_with_mode(&wish, gst::CapsIntersectMode::First);
        if common.is_empty() {
            return None;
        }
        let caps = choose(common, &info);
        let s = caps.structure(0).unwrap();
        Some((
            s.get("width").unwrap(),
            s.get("height").unwrap(),
            s.get("framerate").unwrap(),
        ))
    }

    #[test]
    fn the_own_size_and_rate_come_first() {
        let eight = gst::Fraction::new(8, 1);
        assert_eq!(chosen(true, "video/x-raw"), Some((480, 270, eight)));
        assert_eq!(
            chosen(true, "video/x-raw,framerate=[20/1,30/1]"),
            Some((480, 270, gst::Fraction::new(20, 1)))
        );
        assert_eq!(
            chosen(true, "video/x-raw,width=320"),
            Some((320, 180, eight))
        );
        assert_eq!(
            chosen(true, "video/x-raw,height=90"),
            Some((160, 90, eight))
        );
        assert_eq!(
            chosen(true, "video/x-raw,width=[100,200],height=[10,100]"),
            Some((200, 100, eight))
        );
    }

    #[test]
    fn only_models_of_any_size_go_beyond_their_own() {
        let large = "video/x-raw,width=640,height=360";
        assert_eq!(chosen(true, large), None);
        assert!(chosen(false, large).is_some());
        assert_eq!(chosen(false, "video/x-raw,width=32,height=16"), None);
    }
}
