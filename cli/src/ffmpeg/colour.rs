// SPDX-License-Identifier: MPL-2.0
//! What the codes of a picture mean: range, matrix, primaries, transfer, siting, mastering display. What a clip does not
//! say stays unsaid.

use std::ffi::OsString;

use serde_json::Value;

use super::probe::Stream;

/// Lines of a picture up to which players take colours without a tag as those of standard definition.
const STANDARD_LINES: u32 = 576;

/// Tags of a stream, by ffmpeg's names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Colour {
    /// Codes from 0 to the largest rather than 16 to 235 (luma of 8 bits).
    pub full_range: bool,
    /// Y'CbCr matrix.
    pub matrix: Option<String>,
    /// Primaries.
    pub primaries: Option<String>,
    /// Transfer function.
    pub transfer: Option<String>,
    /// Where chroma samples lie.
    pub location: Option<String>,
}

fn known(text: Option<&String>) -> Option<String> {
    text.filter(|text| !matches!(text.as_str(), "unknown" | "unspecified" | "reserved"))
        .cloned()
}

impl Colour {
    /// Of a stream that is decoded.
    pub fn of(stream: &Stream) -> Self {
        let full_name = stream.pix_fmt.starts_with("yuvj");
        // ffmpeg reads gray without a tag as full range.
        let gray = stream.pix_fmt.starts_with("gray") && stream.color_range.is_none();
        Self {
            full_range: stream.color_range.as_deref() == Some("pc") || full_name || gray,
            matrix: known(stream.color_space.as_ref()),
            primaries: known(stream.color_primaries.as_ref()),
            transfer: known(stream.color_transfer.as_ref()),
            location: known(stream.chroma_location.as_ref()),
        }
    }

    /// As the larger picture must be tagged to look the same. Players guess the matrix of an untagged picture from its
    /// size: what was small and untagged must not be guessed anew when it is large.
    pub fn enlarged(&self, lines: u32) -> Self {
        let mut colour = self.clone();
        if colour.matrix.is_none() && lines <= STANDARD_LINES {
            colour.matrix = Some("smpte170m".to_owned());
        }
        colour
    }

    /// Whether it is a picture of high dynamic range.
    pub fn is_hdr(&self) -> bool {
        matches!(self.transfer.as_deref(), Some("smpte2084" | "arib-std-b67"))
    }

    /// Words that tag an output of ffmpeg.
    pub fn arguments(&self) -> Vec<OsString> {
        let range = if self.full_range { "pc" } else { "tv" };
        let tags = [
            ("-color_range", Some(range)),
            ("-colorspace", self.matrix.as_deref()),
            ("-color_primaries", self.primaries.as_deref()),
            ("-color_trc", self.transfer.as_deref()),
            ("-chroma_sample_location", self.location.as_deref()),
        ];
        let words = tags
            .iter()
            .filter_map(|(option, value)| Some([*option, (*value)?]));
        words.flatten().map(OsString::from).collect()
    }

    /// `colorimetry` of GStreamer's caps, as far as the enhancer asks: range and matrix.
    pub fn colorimetry(&self, is_rgb: bool) -> String {
        let range = if self.full_range || is_rgb { 1 } else { 2 };
        // GstVideoColorMatrix.
        let matrix = match self.matrix.as_deref() {
            _ if is_rgb => 1,
            Some("fcc") => 2,
            Some("bt709") => 3,
            Some("smpte170m" | "bt470bg") => 4,
            Some("smpte240m") => 5,
            Some("bt2020nc" | "bt2020c" | "bt2020_ncl" | "bt2020_cl") => 6,
            _ => 0,
        };
        format!("{range}:{matrix}:0:0")
    }

    /// `chroma-site` of GStreamer's caps.
    pub fn chroma_site(&self) -> Option<&'static str> {
        match self.location.as_deref()? {
            "left" => Some("mpeg2"),
            "center" => Some("jpeg"),
            "topleft" => Some("cosited"),
            "top" => Some("v-cosited"),
            _ => None,
        }
    }

    /// H.273's numbers for matrix, transfer and primaries, 2 for what is not known.
    pub fn numbers(&self) -> [u8; 3] {
        let number = |name: &Option<String>, names: &[(&str, u8)]| {
            let name = name.as_deref().unwrap_or_default();
            names
                .iter()
                .find(|(known, _)| *known == name)
                .map_or(2, |(_, number)| *number)
        };
        [
            number(&self.matrix, MATRICES),
            number(&self.transfer, TRANSFERS),
            number(&self.primaries, PRIMARIES),
        ]
    }
}

const MATRICES: &[(&str, u8)] = &[
    ("gbr", 0),
    ("bt709", 1),
    ("fcc", 4),
    ("bt470bg", 5),
    ("smpte170m", 6),
    ("smpte240m", 7),
    ("ycgco", 8),
    ("bt2020nc", 9),
    ("bt2020c", 10),
];
const TRANSFERS: &[(&str, u8)] = &[
    ("bt709", 1),
    ("bt470m", 4),
    ("bt470bg", 5),
    ("smpte170m", 6),
    ("smpte240m", 7),
    ("linear", 8),
    ("iec61966-2-4", 11),
    ("bt1361e", 12),
    ("iec61966-2-1", 13),
    ("bt2020-10", 14),
    ("bt2020-12", 15),
    ("smpte2084", 16),
    ("smpte428", 17),
    ("arib-std-b67", 18),
];
const PRIMARIES: &[(&str, u8)] = &[
    ("bt709", 1),
    ("bt470m", 4),
    ("bt470bg", 5),
    ("smpte170m", 6),
    ("smpte240m", 7),
    ("film", 8),
    ("bt2020", 9),
    ("smpte428", 10),
    ("smpte431", 11),
    ("smpte432", 12),
    ("jedec-p22", 22),
];

/// Mastering display (SMPTE ST 2086) and content light levels (CTA-861.3) of a picture of high dynamic range.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Mastering {
    /// Chromaticities of red, green, blue and white (x, y each), then largest and smallest luminance in cd/m².
    pub display: Option<([f64; 8], f64, f64)>,
    /// Largest light level of a pixel and of a frame's average, in cd/m².
    pub light: Option<(u32, u32)>,
}

impl Mastering {
    /// From `side_data_list` of a stream or a frame.
    pub fn from_side_data(list: &[Value]) -> Self {
        let mut mastering = Self::default();
        for data in list {
            let number = |name: &str| fraction(data.get(name)?);
            match data.get("side_data_type").and_then(Value::as_str) {
                Some("Mastering display metadata") => {
                    let names = [
                        "red_x",
                        "red_y",
                        "green_x",
                        "green_y",
                        "blue_x",
                        "blue_y",
                        "white_point_x",
                        "white_point_y",
                    ];
                    let places: Option<Vec<f64>> = names.iter().map(|name| number(name)).collect();
                    let places = places.and_then(|list| <[f64; 8]>::try_from(list).ok());
                    let luminance = number("max_luminance").zip(number("min_luminance"));
                    if let Some((places, (max, min))) = places.zip(luminance) {
                        mastering.display = Some((places, max, min));
                    }
                }
                Some("Content light level metadata") => {
                    let level = |name: &str| number(name).map(|value| value as u32);
                    mastering.light = level("max_content").zip(level("max_average"));
                }
                _ => {}
            }
        }
        mastering
    }

    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Options of libx265, which writes what it is told into the stream itself.
    pub fn x265(&self) -> String {
        let mut text = String::new();
        if let Some((places, max, min)) = self.display {
            let [rx, ry, gx, gy, bx, by, wx, wy] = places.map(|place| (place * 50_000.0).round());
            let (max, min) = ((max * 10_000.0).round(), (min * 10_000.0).round());
            text += &format!(
                ":master-display=G({gx},{gy})B({bx},{by})R({rx},{ry})WP({wx},{wy})L({max},{min})"
            );
        }
        if let Some((content, average)) = self.light {
            text += &format!(":max-cll={content},{average}");
        }
        if !text.is_empty() {
            text += ":hdr10=1";
        }
        text
    }

    /// Options of SVT-AV1.
    pub fn svt_av1(&self) -> String {
        let mut text = String::new();
        if let Some((places, max, min)) = self.display {
            let [rx, ry, gx, gy, bx, by, wx, wy] = places;
            text += &format!(
                ":mastering-display=G({gx},{gy})B({bx},{by})R({rx},{ry})WP({wx},{wy})L({max},{min})"
            );
        }
        if let Some((content, average)) = self.light {
            text += &format!(":content-light={content},{average}");
        }
        text
    }
}

/// A number, or `numerator/denominator`.
fn fraction(value: &Value) -> Option<f64> {
    if let Some(number) = value.as_f64() {
        return Some(number);
    }
    let (numerator, denominator) = value.as_str()?.split_once('/')?;
    let (numerator, denominator): (f64, f64) = (numerator.parse().ok()?, denominator.parse().ok()?);
    (denominator != 0.0).then(|| numerator / denominator)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_known_is_said() {
        let stream = Stream {
            color_range: Some("pc".into()),
            color_space: Some("unknown".into()),
            color_transfer: Some("bt709".into()),
            ..Stream::default()
        };
        let colour = Colour::of(&stream);
        assert_eq!(
            colour.arguments(),
            ["-color_range", "pc", "-color_trc", "bt709"]
        );
        assert_eq!(colour.colorimetry(false), "1:0:0:0");
        assert_eq!(colour.numbers(), [2, 1, 2]);
        // Small and untagged is standard definition; large and untagged is left to the player.
        assert_eq!(colour.enlarged(480).matrix.as_deref(), Some("smpte170m"));
        assert_eq!(colour.enlarged(1080).matrix, None);
    }

    #[test]
    fn mastering_displays_are_told_to_encoders() {
        let list = serde_json::json!([
            {"side_data_type": "Mastering display metadata", "red_x": "34000/50000", "red_y": "16000/50000",
             "green_x": "13250/50000", "green_y": "34500/50000", "blue_x": "7500/50000", "blue_y": "3000/50000",
             "white_point_x": "15635/50000", "white_point_y": "16450/50000",
             "min_luminance": "50/10000", "max_luminance": "10000000/10000"},
            {"side_data_type": "Content light level metadata", "max_content": 1000, "max_average": 400}
        ]);
        let mastering = Mastering::from_side_data(list.as_array().unwrap());
        assert_eq!(
            mastering.x265(),
            ":master-display=G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50):max-cll=1000,400:hdr10=1"
        );
        assert!(Mastering::default().is_empty() && Mastering::default().x265().is_empty());
    }
}
