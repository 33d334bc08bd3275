// SPDX-License-Identifier: MPL-2.0
//! The header of y4m, by which a clip on standard input is known before it is decoded.

use std::io::{BufRead, Read};

use anyhow::{Context, Result, bail};

use super::decode::Input;
use super::probe::{Probe, Stream};

/// The input that stands for standard input: its header is read here and handed to the decoder before all else.
///
/// # Errors
/// If what comes is no y4m.
pub fn standard_input() -> Result<(Input, Probe)> {
    let line = header(&mut std::io::stdin().lock())?;
    let stream = parse(&line)?;
    let input = Input {
        name: "pipe:0".into(),
        title: "standard input".into(),
        words: vec!["-f".into(), "yuv4mpegpipe".into()],
        again: false,
        begin: Some(line),
    };
    let probe = Probe {
        streams: vec![stream],
        ..Probe::default()
    };
    Ok((input, probe))
}

/// The first line.
fn header(input: &mut impl BufRead) -> Result<Vec<u8>> {
    const MAGIC: &[u8] = b"YUV4MPEG2 ";
    let mut line = Vec::new();
    input
        .take(1000)
        .read_until(b'\n', &mut line)
        .context("reading standard input")?;
    if line.is_empty() {
        bail!("nothing comes by standard input");
    }
    if !line.starts_with(MAGIC) || line.last() != Some(&b'\n') {
        bail!(
            "what comes by standard input is no y4m, which `ffmpeg -i CLIP -f yuv4mpegpipe -strict -1 -` makes"
        );
    }
    Ok(line)
}

fn parse(line: &[u8]) -> Result<Stream> {
    let line = String::from_utf8_lossy(line);
    let mut stream = Stream {
        codec_type: "video".into(),
        codec_name: "rawvideo".into(),
        pix_fmt: "yuv420p".into(),
        ..Stream::default()
    };
    for word in line.split_whitespace().skip(1) {
        let Some((kind, value)) = word.split_at_checked(1) else {
            continue;
        };
        match kind {
            "W" => stream.width = value.parse().context("the width of y4m")?,
            "H" => stream.height = value.parse().context("the height of y4m")?,
            "F" => {
                stream.avg_frame_rate = Some(value.replace(':', "/"));
                stream.time_base = value
                    .split_once(':')
                    .map(|(rate, per)| format!("{per}/{rate}"));
            }
            "A" => stream.sample_aspect_ratio = Some(value.to_owned()),
            "I" => {
                let order = match value {
                    "t" => Some("tt"),
                    "b" => Some("bb"),
                    _ => None,
                };
                stream.field_order = order.map(str::to_owned);
            }
            "C" => (stream.pix_fmt, stream.chroma_location) = pixels(value),
            "X" if value == "COLORRANGE=FULL" => stream.color_range = Some("pc".into()),
            _ => {}
        }
    }
    if stream.width == 0 || stream.height == 0 {
        bail!("y4m by standard input without a size");
    }
    Ok(stream)
}

/// ffmpeg's name of the pixels and of the place of chroma.
fn pixels(name: &str) -> (String, Option<String>) {
    let (format, place) = match name {
        "420jpeg" => ("yuv420p", Some("center")),
        "420mpeg2" | "420" => ("yuv420p", Some("left")),
        "420paldv" => ("yuv420p", Some("topleft")),
        "444alpha" => ("yuva444p", None),
        "mono" => ("gray", None),
        _ => {
            let own = match (name.strip_prefix("mono"), name.split_once('p')) {
                (Some(bits), _) => format!("gray{bits}le"),
                (None, Some((chroma, bits))) => format!("yuv{chroma}p{bits}le"),
                (None, None) => format!("yuv{name}p"),
            };
            return (own, None);
        }
    };
    (format.to_owned(), place.map(str::to_owned))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_tell_what_frames_are() {
        let stream = parse(
            b"YUV4MPEG2 W720 H576 F30000:1001 It A64:45 C422p10 XYSCSS=422P10 XCOLORRANGE=FULL\n",
        )
        .unwrap();
        assert_eq!(
            (stream.width, stream.height, stream.pix_fmt.as_str()),
            (720, 576, "yuv422p10le")
        );
        assert_eq!(stream.time_base.as_deref(), Some("1001/30000"));
        assert_eq!(
            (stream.field_order.as_deref(), stream.color_range.as_deref()),
            (Some("tt"), Some("pc"))
        );
        assert_eq!(pixels("420jpeg"), ("yuv420p".into(), Some("center".into())));
        assert_eq!(pixels("mono16").0, "gray16le");
        assert!(parse(b"YUV4MPEG2 F25:1\n").is_err());
    }

    #[test]
    fn what_is_no_y4m_is_told() {
        assert!(
            header(&mut &b""[..])
                .unwrap_err()
                .to_string()
                .contains("nothing comes")
        );
        assert!(
            header(&mut &b"RIFF....AVI LIST"[..])
                .unwrap_err()
                .to_string()
                .contains("no y4m")
        );
        assert_eq!(
            header(&mut &b"YUV4MPEG2 W2 H2\nFRAME\n"[..]).unwrap(),
            b"YUV4MPEG2 W2 H2\n"
        );
    }
}
