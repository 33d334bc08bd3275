// SPDX-License-Identifier: MPL-2.0
//! Between frames as they come from a decoder and the R, G, B that the released models work on.

use candle_core::{Device, Tensor};

use crate::cpu::resize::ResizeBuffers;
use crate::error::{Error, Result};
use crate::media::frame::{Frame, FrameFormat, Planes, Samples, Siting};
use crate::media::resize::resize_frame_plane;
use crate::progress::Progress;
use crate::size::Size;

/// Frames of one size as a tensor `[frames, height, width, 3]` in 0..=255.
///
/// # Errors
/// [`Error::Invalid`] when there are none or they differ in size, or a failed tensor operation.
pub fn to_tensor(frames: &[Frame]) -> Result<Tensor> {
    let size = frames
        .first()
        .ok_or_else(|| Error::invalid("a clip without frames"))?
        .size();
    let mut values = Vec::with_capacity(frames.len() * size.pixels() * 3);
    for frame in frames {
        if frame.size() != size {
            return Err(Error::invalid(format!(
                "a frame of {} in a clip of {size}",
                frame.size()
            )));
        }
        append_rgb(frame, &mut values);
    }
    let shape = (frames.len(), size.height, size.width, 3);
    Ok(Tensor::from_vec(values, shape, &Device::Cpu)?)
}

/// One picture of a tensor `[frames, height, width, 3]` in 0..=255 as a frame in the format of `like`, whose alpha it gets.
///
/// # Errors
/// [`Error::Cancelled`], [`Error::Invalid`] for another shape, or a failed tensor operation.
pub fn to_frame(frames: &Tensor, index: usize, like: &Frame, progress: &Progress) -> Result<Frame> {
    let (_, height, width, _) = frames.dims4()?;
    let format = *like.format();
    let alpha = format
        .alpha
        .then(|| {
            let plane = format.plane_count() - 1;
            let size = Size::new(width, height);
            let buffers = &mut ResizeBuffers::default();
            resize_frame_plane(like, plane, size, buffers, progress.cancel_token())
        })
        .transpose()?;
    encode(frames, index, &format, alpha)
}

/// One picture of a tensor `[frames, height, width, 3]` in 0..=255 as a frame of `format`, with the plane `alpha` if that
/// has one.
///
/// # Errors
/// [`Error::Invalid`] for another shape, or a failed tensor operation.
pub fn encode(
    frames: &Tensor,
    index: usize,
    format: &FrameFormat,
    alpha: Option<Samples>,
) -> Result<Frame> {
    let (_, height, width, _) = frames.dims4()?;
    let size = Size::new(width, height);
    let rgb: Vec<f32> = frames.get(index)?.flatten_all()?.to_vec1()?;
    let mut planes = colour_planes(&rgb, size, format);
    planes.extend(alpha);
    Frame::new(*format, size, planes)
}

/// What codes mean: `value = (code - offset) / span`, luma in 0..=1, chroma in -0.5..=0.5.
#[derive(Clone, Copy)]
struct Codes {
    offset: f32,
    span: f32,
    max: f32,
}

impl Codes {
    fn luma(format: &FrameFormat) -> Self {
        let max = f32::from(format.max_value());
        let unit = f32::from(1u16 << (format.depth - 8));
        let (offset, span) = if format.full_range {
            (0.0, max)
        } else {
            (16.0 * unit, 219.0 * unit)
        };
        Self { offset, span, max }
    }

    fn chroma(format: &FrameFormat) -> Self {
        let unit = f32::from(1u16 << (format.depth - 8));
        let luma = Self::luma(format);
        Self {
            offset: 128.0 * unit,
            span: if format.full_range {
                luma.span
            } else {
                224.0 * unit
            },
            ..luma
        }
    }

    fn value(self, code: f32) -> f32 {
        (code - self.offset) / self.span
    }

    fn code(self, value: f32) -> f32 {
        (value * self.span + self.offset)
            .round()
            .clamp(0.0, self.max)
    }
}

fn floats(samples: &Samples) -> Vec<f32> {
    match samples {
        Samples::U8(codes) => codes.iter().map(|v| f32::from(*v)).collect(),
        Samples::U16(codes) => codes.iter().map(|v| f32::from(*v)).collect(),
    }
}

fn samples(values: impl Iterator<Item = f32>, depth: u8) -> Samples {
    if depth <= 8 {
        Samples::U8(values.map(|v| v as u8).collect())
    } else {
        Samples::U16(values.map(|v| v as u16).collect())
    }
}

fn append_rgb(frame: &Frame, out: &mut Vec<f32>) {
    let (format, size) = (frame.format(), frame.size());
    let luma = Codes::luma(format);
    let planes: Vec<Vec<f32>> = frame.planes().iter().map(|plane| floats(plane)).collect();
    let level = |plane: usize, at: usize| {
        let code = planes.get(plane).and_then(|plane| plane.get(at));
        luma.value(code.copied().unwrap_or(luma.offset))
    };
    let (kr, kb) = (format.matrix.0 as f32, format.matrix.1 as f32);
    let chroma = match format.planes {
        Planes::Yuv { sub_x, sub_y } => {
            let codes = Codes::chroma(format);
            let from = format.plane_size(1, size);
            let x = Positions::new(size.width, from.width, sub_x, format.siting.0);
            let y = Positions::new(size.height, from.height, sub_y, format.siting.1);
            [1, 2].map(|plane| {
                let plane = planes.get(plane).map_or(&[][..], Vec::as_slice);
                let full = enlarge(plane, from.width, &x, &y);
                full.into_iter().map(|code| codes.value(code)).collect()
            })
        }
        _ => [Vec::new(), Vec::new()],
    };
    for at in 0..size.pixels() {
        let rgb = match format.planes {
            Planes::Rgb => [level(0, at), level(1, at), level(2, at)],
            Planes::Gray => [level(0, at); 3],
            Planes::Yuv { .. } => {
                let y = level(0, at);
                let value = |chroma: &Vec<f32>| chroma.get(at).copied().unwrap_or(0.0);
                let (cb, cr) = (value(&chroma[0]), value(&chroma[1]));
                let r = y + 2.0 * (1.0 - kr) * cr;
                let b = y + 2.0 * (1.0 - kb) * cb;
                [r, (y - kr * r - kb * b) / (1.0 - kr - kb), b]
            }
        };
        out.extend(rgb.map(|v| v.clamp(0.0, 1.0) * 255.0));
    }
}

fn colour_planes(rgb: &[f32], size: Size, format: &FrameFormat) -> Vec<Samples> {
    let luma = Codes::luma(format);
    let (kr, kb) = (format.matrix.0 as f32, format.matrix.1 as f32);
    let y_of = |p: &[f32; 3]| (kr * p[0] + (1.0 - kr - kb) * p[1] + kb * p[2]) / 255.0;
    let (pixels, _) = rgb.as_chunks::<3>();
    let depth = format.depth;
    let y = || samples(pixels.iter().map(|p| luma.code(y_of(p))), depth);
    match format.planes {
        Planes::Gray => vec![y()],
        Planes::Rgb => (0..3)
            .map(|c| samples(pixels.iter().map(|p| luma.code(p[c] / 255.0)), depth))
            .collect(),
        Planes::Yuv { sub_x, sub_y } => {
            let codes = Codes::chroma(format);
            let to = format.plane_size(1, size);
            let x = Groups::new(size.width, to.width, sub_x, format.siting.0);
            let rows = Groups::new(size.height, to.height, sub_y, format.siting.1);
            let chroma = |colour: usize, weight: f32| {
                let full: Vec<f32> = pixels
                    .iter()
                    .map(|p| (p[colour] / 255.0 - y_of(p)) / (2.0 * (1.0 - weight)))
                    .collect();
                let small = reduce(&full, size.width, &x, &rows);
                samples(small.into_iter().map(|v| codes.code(v)), depth)
            };
            vec![y(), chroma(2, kb), chroma(0, kr)]
        }
    }
}

/// For each luma position the two chroma samples around it and the share of the second.
struct Positions(Vec<(usize, usize, f32)>);

impl Positions {
    fn new(luma: usize, chroma: usize, sub: u8, siting: Siting) -> Self {
        let group = f32::from(1u16 << sub);
        let shift = match siting {
            Siting::Cosited => 0.0,
            Siting::Centre => (group - 1.0) / 2.0,
        };
        let last = chroma.saturating_sub(1);
        let at = |index: usize| {
            let place = ((index as f32 - shift) / group).clamp(0.0, last as f32);
            let first = place as usize;
            (first, (first + 1).min(last), place - first as f32)
        };
        Self((0..luma).map(at).collect())
    }
}

fn enlarge(plane: &[f32], width: usize, x: &Positions, y: &Positions) -> Vec<f32> {
    let mut out = Vec::with_capacity(x.0.len() * y.0.len());
    let row = |index: usize| {
        plane
            .get(index * width..(index + 1) * width)
            .unwrap_or_default()
    };
    for &(top, bottom, down) in &y.0 {
        let (top, bottom) = (row(top), row(bottom));
        out.extend(x.0.iter().map(|&(left, right, across)| {
            let mix = |row: &[f32]| match (row.get(left), row.get(right)) {
                (Some(a), Some(b)) => a + (b - a) * across,
                _ => 0.0,
            };
            mix(top) + (mix(bottom) - mix(top)) * down
        }));
    }
    out
}

/// For each chroma sample the luma positions that it stands for, with their weights.
struct Groups(Vec<Vec<(usize, f32)>>);

impl Groups {
    /// A mean of the group where chroma lies in its centre, a triangle around its first position where it lies there.
    fn new(luma: usize, chroma: usize, sub: u8, siting: Siting) -> Self {
        let group = 1isize << sub;
        let last = luma as isize - 1;
        let of = |index: usize| {
            let first = index as isize * group;
            let raw: Vec<(isize, f32)> = match siting {
                Siting::Centre => (first..first + group).map(|at| (at, 1.0)).collect(),
                Siting::Cosited => (1 - group..group)
                    .map(|offset| (first + offset, (group - offset.abs()) as f32))
                    .collect(),
            };
            let total: f32 = raw.iter().map(|(_, weight)| weight).sum();
            raw.into_iter()
                .map(|(at, weight)| (at.clamp(0, last) as usize, weight / total))
                .collect()
        };
        Self((0..chroma).map(of).collect())
    }
}

fn reduce(plane: &[f32], width: usize, x: &Groups, y: &Groups) -> Vec<f32> {
    let mut out = Vec::with_capacity(x.0.len() * y.0.len());
    for rows in &y.0 {
        for columns in &x.0 {
            let sum = rows.iter().flat_map(|(row, down)| {
                let value = move |(column, across): &(usize, f32)| {
                    plane.get(row * width + column).copied().unwrap_or(0.0) * down * across
                };
                columns.iter().map(value)
            });
            out.push(sum.sum());
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(format: FrameFormat, colour: [u16; 3]) {
        let size = Size::new(7, 5);
        let planes = (0..format.plane_count())
            .map(|plane| {
                let len = format.plane_size(plane, size).pixels();
                let code = colour.get(plane).copied().unwrap_or(9);
                samples(std::iter::repeat_n(f32::from(code), len), format.depth)
            })
            .collect();
        let frame = Frame::new(format, size, planes).unwrap();
        let tensor = to_tensor(std::slice::from_ref(&frame)).unwrap();
        let back = to_frame(&tensor, 0, &frame, &Progress::none()).unwrap();
        for (a, b) in frame.planes().iter().zip(back.planes()) {
            let worst = floats(a)
                .iter()
                .zip(floats(b))
                .map(|(a, b)| (a - b).abs())
                .fold(0.0, f32::max);
            assert!(worst <= 1.0, "{format:?}: {a:?} became {b:?}");
        }
    }

    #[test]
    fn flat_colours_survive_in_every_format() {
        let yuv = |sub_x, sub_y| FrameFormat {
            planes: Planes::Yuv { sub_x, sub_y },
            ..FrameFormat::i420()
        };
        for (sub_x, sub_y) in [(0, 0), (1, 0), (1, 1), (2, 0), (2, 2)] {
            round_trip(yuv(sub_x, sub_y), [120, 100, 150]);
            let twelve = FrameFormat {
                depth: 12,
                ..yuv(sub_x, sub_y)
            };
            round_trip(twelve, [1920, 1600, 2400]);
        }
        let jpeg = FrameFormat {
            full_range: true,
            siting: (Siting::Centre, Siting::Centre),
            ..FrameFormat::i420()
        };
        round_trip(jpeg, [90, 140, 120]);
        let deep = FrameFormat {
            depth: 10,
            alpha: true,
            ..FrameFormat::i420()
        };
        round_trip(deep, [500, 600, 480]);
        round_trip(FrameFormat::rgb(), [10, 128, 250]);
        round_trip(FrameFormat::gray(), [77, 0, 0]);
        for (format, colour) in [
            (FrameFormat::rgb(), [1000, 33_000, 65_535]),
            (FrameFormat::gray(), [44_444, 0, 0]),
            (FrameFormat::i420(), [30_000, 26_000, 38_000]),
        ] {
            let wide = FrameFormat {
                depth: 16,
                alpha: format.planes != Planes::Gray,
                ..format
            };
            round_trip(wide, colour);
        }
    }

    #[test]
    fn white_is_white_and_red_is_red() {
        let size = Size::new(2, 2);
        let frame = |codes: [u8; 3]| {
            let [y, cb, cr] = codes;
            let planes = vec![
                Samples::U8(vec![y; 4]),
                Samples::U8(vec![cb]),
                Samples::U8(vec![cr]),
            ];
            Frame::new(FrameFormat::i420(), size, planes).unwrap()
        };
        let first = |codes| {
            let rgb = to_tensor(&[frame(codes)]).unwrap().flatten_all().unwrap();
            rgb.to_vec1::<f32>().unwrap()[..3].to_vec()
        };
        assert_eq!(first([235, 128, 128]), [255.0; 3]);
        // BT.709 red is 63, 102, 240.
        let red = first([63, 102, 240]);
        assert!(red[0] > 253.0 && red[1] < 2.0 && red[2] < 2.0, "{red:?}");
        assert!(to_tensor(&[]).is_err());
    }

    #[test]
    fn chroma_is_found_where_it_lies() {
        let cosited = Positions::new(4, 2, 1, Siting::Cosited);
        assert_eq!(cosited.0[1], (0, 1, 0.5));
        let centre = Positions::new(4, 2, 1, Siting::Centre);
        assert_eq!(centre.0[1], (0, 1, 0.25));
        let ramp = [0.0, 1.0, 2.0, 3.0];
        let one = Groups(vec![vec![(0, 1.0)]]);
        let middle = reduce(&ramp, 4, &Groups::new(4, 2, 1, Siting::Centre), &one);
        assert_eq!(middle, [0.5, 2.5]);
        let first = reduce(&ramp, 4, &Groups::new(4, 2, 1, Siting::Cosited), &one);
        assert_eq!(first, [0.25, 2.0]);
    }
}
