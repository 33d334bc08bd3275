// SPDX-License-Identifier: MPL-2.0
//! Values of GObject properties.
//!
//! A property of numbers has no room for "unset", so there 0 or -1 stand for it, as is usual in GStreamer. Here is where
//! these become `Option` and back; no other file knows them.

use gst::glib;
use gst::glib::prelude::*;

/// Stands for "unset" in [`amount`] and [`seed`].
pub(crate) const UNSET: i8 = -1;

/// The property `stats`, a structure that is read only.
pub(crate) fn stats(blurb: &'static str) -> glib::ParamSpec {
    glib::ParamSpecBoxed::builder::<gst::Structure>("stats")
        .nick("Statistics")
        .blurb(blurb)
        .read_only()
        .build()
}

/// The value of a property, whose type GObject has checked.
pub(crate) fn get<'a, T: glib::value::FromValue<'a>>(value: &'a glib::Value) -> T {
    value.get().expect("type checked by GObject")
}

/// A text; none where it is empty.
pub(crate) fn text(value: &glib::Value) -> Option<String> {
    get::<Option<String>>(value).filter(|text| !text.is_empty())
}

/// A number where 0 is none.
pub(crate) fn count(value: &glib::Value) -> Option<usize> {
    let count: u32 = get(value);
    (count > 0).then_some(count as usize)
}

/// As [`count`], the other way round.
pub(crate) fn from_count(count: Option<usize>) -> glib::Value {
    u32::try_from(count.unwrap_or(0))
        .unwrap_or(u32::MAX)
        .to_value()
}

/// A number where everything below 0 is none.
pub(crate) fn amount(value: &glib::Value) -> Option<f64> {
    let amount: f64 = get(value);
    (amount >= 0.0).then_some(amount)
}

/// As [`amount`], the other way round.
pub(crate) fn from_amount(amount: Option<f64>) -> glib::Value {
    amount.unwrap_or(UNSET.into()).to_value()
}

/// A seed where -1 is none.
pub(crate) fn seed(value: &glib::Value) -> Option<u64> {
    u64::try_from(get::<i64>(value)).ok()
}

/// As [`seed`], the other way round.
pub(crate) fn from_seed(seed: Option<u64>) -> glib::Value {
    seed.and_then(|seed| i64::try_from(seed).ok())
        .unwrap_or(UNSET.into())
        .to_value()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unset_is_none_inside_and_the_same_number_outside() {
        assert_eq!(count(&0u32.to_value()), None);
        assert_eq!(count(&7u32.to_value()), Some(7));
        assert_eq!(amount(&(-1.0).to_value()), None);
        assert_eq!(amount(&0.0.to_value()), Some(0.0));
        assert_eq!(seed(&(-1i64).to_value()), None);
        assert_eq!(seed(&0i64.to_value()), Some(0));
        assert_eq!(text(&"".to_value()), None);
        assert_eq!(text(&None::<String>.to_value()), None);
        for value in [None, Some(1), Some(1000)] {
            assert_eq!(count(&from_count(value)), value);
            assert_eq!(
                seed(&from_seed(value.map(|v| v as u64))),
                value.map(|v| v as u64)
            );
        }
        for value in [None, Some(0.0), Some(0.5)] {
            assert_eq!(amount(&from_amount(value)), value);
        }
        assert_eq!(get::<u32>(&from_count(None)), 0);
        assert_eq!(get::<f64>(&from_amount(None)), -1.0);
        assert_eq!(get::<i64>(&from_seed(None)), -1);
    }
}
