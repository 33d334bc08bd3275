// SPDX-License-Identifier: MPL-2.0
//! Writes uncompressed pictures in Matroska (RFC 9559), to an encoder through a pipe: each with its timestamp, all with
//! the meaning of their codes and their mastering display.

use std::io::{self, Write};

use super::colour::Mastering;
use super::pixel::Kind;
use super::raw::RawVideo;

/// A size that is not known yet.
const UNKNOWN: [u8; 8] = [0x01, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];

/// Writes the header of a stream of `video`.
///
/// # Errors
/// If `out` takes no more.
pub fn write_header(
    out: &mut impl Write,
    video: &RawVideo,
    mastering: &Mastering,
) -> io::Result<()> {
    let ebml = [
        unsigned(&[0x42, 0x86], 1),
        unsigned(&[0x42, 0xf7], 1),
        unsigned(&[0x42, 0xf2], 4),
        unsigned(&[0x42, 0xf3], 8),
        element(&[0x42, 0x82], b"matroska"),
        unsigned(&[0x42, 0x87], 4),
        unsigned(&[0x42, 0x85], 2),
    ];
    out.write_all(&element(&[0x1a, 0x45, 0xdf, 0xa3], &ebml.concat()))?;
    out.write_all(&[0x18, 0x53, 0x80, 0x67])?; // Segment
    out.write_all(&UNKNOWN)?;
    // Timestamps are nanoseconds.
    let info = [
        unsigned(&[0x2a, 0xd7, 0xb1], 1),
        element(&[0x4d, 0x80], b"flashvideo"),
        element(&[0x57, 0x41], b"flashvideo"),
    ];
    out.write_all(&element(&[0x15, 0x49, 0xa9, 0x66], &info.concat()))?;
    let mut picture = vec![
        unsigned(&[0x9a], 2), // Progressive.
        unsigned(&[0xb0], u64::from(video.width)),
        unsigned(&[0xba], u64::from(video.height)),
        element(&[0x2e, 0xb5, 0x24], &video.format.fourcc),
        element(&[0x55, 0xb0], &colour(video, mastering)),
    ];
    let (across, down) = video.pixel_aspect;
    if across != down {
        picture.push(unsigned(
            &[0x54, 0xb0],
            u64::from(video.width) * u64::from(across),
        ));
        picture.push(unsigned(
            &[0x54, 0xba],
            u64::from(video.height) * u64::from(down),
        ));
    }
    let mut track = vec![
        unsigned(&[0xd7], 1),
        unsigned(&[0x73, 0xc5], 1),
        unsigned(&[0x83], 1), // Video.
        unsigned(&[0x9c], 0), // No lacing.
        element(&[0x86], b"V_UNCOMPRESSED"),
        element(&[0xe0], &picture.concat()),
    ];
    if let Some((rate, per)) = video.rate {
        track.push(unsigned(
            &[0x23, 0xe3, 0x83],
            1_000_000_000 * u64::from(per) / u64::from(rate.max(1)),
        ));
    }
    let tracks = element(&[0xae], &track.concat());
    out.write_all(&element(&[0x16, 0x54, 0xae, 0x6b], &tracks))
}

/// Writes a frame at `nanoseconds`.
///
/// # Errors
/// If `out` takes no more.
pub fn write_frame(out: &mut impl Write, nanoseconds: u64, data: &[u8]) -> io::Result<()> {
    // Track 1, at the cluster's own time, a key frame.
    const BLOCK: [u8; 4] = [0x81, 0, 0, 0x80];
    let time = unsigned(&[0xe7], nanoseconds);
    let block_size = BLOCK.len() + data.len();
    let mut head = vec![0x1f, 0x43, 0xb6, 0x75]; // Cluster
    head.extend(size(time.len() + 1 + 8 + block_size));
    head.extend(time);
    head.push(0xa3); // SimpleBlock
    head.extend(size(block_size));
    head.extend(BLOCK);
    out.write_all(&head)?;
    out.write_all(data)
}

fn colour(video: &RawVideo, mastering: &Mastering) -> Vec<u8> {
    let [matrix, transfer, primaries] = video.colour.numbers();
    let matrix = if video.format.kind == Kind::Rgb {
        0
    } else {
        matrix
    };
    let full = video.colour.full_range || video.format.kind == Kind::Rgb;
    let mut parts = vec![
        unsigned(&[0x55, 0xb1], u64::from(matrix)),
        unsigned(&[0x55, 0xb9], if full { 2 } else { 1 }),
        unsigned(&[0x55, 0xba], u64::from(transfer)),
        unsigned(&[0x55, 0xbb], u64::from(primaries)),
    ];
    // 1 is on the first sample, 2 half way.
    let siting = match video.colour.location.as_deref() {
        Some("left") => Some((1, 2)),
        Some("center") => Some((2, 2)),
        Some("topleft") => Some((1, 1)),
        Some("top") => Some((2, 1)),
        _ => None,
    };
    if let (Kind::Yuv(..), Some((across, down))) = (video.format.kind, siting) {
        parts.push(unsigned(&[0x55, 0xb7], across));
        parts.push(unsigned(&[0x55, 0xb8], down));
    }
    if let Some((content, average)) = mastering.light {
        parts.push(unsigned(&[0x55, 0xbc], u64::from(content)));
        parts.push(unsigned(&[0x55, 0xbd], u64::from(average)));
    }
    if let Some((places, max, min)) = mastering.display {
        // Red, green, blue, white (x and y each), then luminance.
        let values = places.into_iter().chain([max, min]);
        let display: Vec<u8> = (0xd1..=0xda)
            .zip(values)
            .flat_map(|(id, value)| float(&[0x55, id], value))
            .collect();
        parts.push(element(&[0x55, 0xd0], &display));
    }
    parts.concat()
}

fn size(bytes: usize) -> [u8; 8] {
    let mut size = (bytes as u64).to_be_bytes();
    size[0] = 0x01;
    size
}

fn element(id: &[u8], body: &[u8]) -> Vec<u8> {
    [id, &size(body.len()), body].concat()
}

fn unsigned(id: &[u8], value: u64) -> Vec<u8> {
    element(id, &value.to_be_bytes())
}

fn float(id: &[u8], value: f64) -> Vec<u8> {
    element(id, &value.to_be_bytes())
}
