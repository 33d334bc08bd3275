// SPDX-License-Identifier: MPL-2.0
//! What a decoder says about a broken clip.

/// Words by which ffmpeg tells that data is missing or wrong. Others, such as missing parameter sets at the begin of a
/// recording, are about what is still to come.
const SIGNS: &[&str] = &[
    "partial file",
    "ended prematurely",
    "truncated",
    "corrupt",
    "error while decoding",
    "Error while decoding",
    "Error submitting packet",
    "Invalid data found",
    "Invalid NAL",
    "concealing",
    "Error splitting",
    "invalid as first byte of an EBML",
    "Packet mismatch",
    "damaged",
    "Inserting keyframe",
    "bytes left",
    "EOI missing",
    "IDAT",
    "CRC",
    "overread",
];

/// A share of the stated length that may be missing before a clip counts as cut off, and seconds that may in any case.
const MISSING_SHARE: f64 = 0.02;
const MISSING_SECONDS: f64 = 0.6;

/// What is wrong with a clip, in words; nothing where all is well. `complaints` are the decoder's lines, `stated` is how
/// long the video is by its container, `decoded` how long it was.
pub fn of(complaints: &[String], stated: Option<f64>, decoded: f64) -> Option<String> {
    let cut =
        stated.filter(|stated| stated - decoded > (MISSING_SHARE * stated).max(MISSING_SECONDS));
    if let Some(stated) = cut {
        return Some(format!(
            "it is damaged or truncated: {decoded:.1} of {stated:.1} seconds can be decoded"
        ));
    }
    let sign = complaints
        .iter()
        .find(|line| SIGNS.iter().any(|sign| line.contains(sign)))?;
    Some(format!(
        "it is damaged: {}",
        super::program::without_address(sign)
    ))
}

/// The same by the number of frames that the container states; frames last `duration` seconds. Containers also count what
/// stands for "as before", so more than a few must be missing.
pub fn missing(stated: Option<u64>, decoded: u64, duration: f64) -> Option<String> {
    let stated = stated?;
    let gone = stated.saturating_sub(decoded);
    let much = gone > stated / 10 && gone as f64 * duration > MISSING_SECONDS;
    much.then(|| format!("it is damaged or truncated: {decoded} of {stated} frames can be decoded"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_of_damage_are_told_from_other_complaints() {
        let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
        let broken = lines("[matroska,webm @ 0x55] File ended prematurely at pos. 512 (0x200)");
        assert_eq!(
            of(&broken, None, 1.0).unwrap(),
            "it is damaged: File ended prematurely at pos. 512 (0x200)"
        );
        assert_eq!(
            of(
                &lines("[h264 @ 0x1] non-existing PPS 0 referenced"),
                Some(2.0),
                2.0
            ),
            None
        );
        assert_eq!(of(&[], Some(60.0), 59.5), None);
        assert_eq!(missing(Some(100), 95, 0.04), None);
        assert!(missing(Some(100), 60, 0.04).unwrap().contains("60 of 100"));
        assert!(of(&[], Some(60.0), 40.0).unwrap().contains("40.0 of 60.0"));
    }
}
