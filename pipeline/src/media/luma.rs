// SPDX-License-Identifier: MPL-2.0
//! Luma of frames in model units: video luma codes c in 0..255 as c / 127.5 - 1.

use std::ops::Range;

use rayon::prelude::*;

use crate::cpu::s2d::Scale;
use crate::media::frame::{Frame, FrameFormat, Planes, Samples};
use crate::size::Size;

/// Luma in model units, continued beyond its edges by copies of the outermost pixels. Values beyond black and white are
/// kept.
#[derive(Clone, Debug, PartialEq)]
pub struct LumaPlane {
    size: Size,
    margin: usize,
    /// `[margin + height + margin, margin + width + margin]`
    data: Vec<f32>,
}

impl LumaPlane {
    /// Luma of `frame`; of R, G, B by the matrix of its format.
    pub fn of(frame: &Frame) -> Self {
        Self::framed(frame, 0)
    }

    /// As [`of`](Self::of), continued by `margin` pixels on every side: the one copy of a frame on its way into a model.
    pub fn framed(frame: &Frame, margin: usize) -> Self {
        let (size, format) = (frame.size(), frame.format());
        let scale = scale(format);
        let units = |plane: usize, row: usize, out: &mut [f32]| {
            decode(scale, &frame.planes()[plane], row * size.width, out);
        };
        let (red, blue) = (format.matrix.0 as f32, format.matrix.1 as f32);
        let data = continued(size, Margins::all(margin), |row, out| match format.planes {
            Planes::Gray | Planes::Yuv { .. } => units(0, row, out),
            Planes::Rgb => {
                let (mut g, mut b) = (vec![0.0; out.len()], vec![0.0; out.len()]);
                units(0, row, out);
                units(1, row, &mut g);
                units(2, row, &mut b);
                for ((luma, g), b) in out.iter_mut().zip(g).zip(b) {
                    *luma = red * *luma + (1.0 - red - blue) * g + blue * b;
                }
            }
        });
        Self { size, margin, data }
    }

    /// A plane of these `values` `[height, width]`.
    #[cfg(test)]
    pub(crate) fn of_values(size: Size, margin: usize, values: &[f32]) -> Self {
        let data = continued(size, Margins::all(margin), |row, out| {
            out.copy_from_slice(&values[row * size.width..][..size.width]);
        });
        Self { size, margin, data }
    }

    /// Width and height of the picture, without the margin.
    pub fn size(&self) -> Size {
        self.size
    }

    /// Pixels by which the picture is continued on every side.
    pub fn margin(&self) -> usize {
        self.margin
    }

    /// The rows of the picture, without the margin.
    pub fn rows(&self) -> impl Iterator<Item = &[f32]> {
        let (width, margin) = (self.size.width, self.margin);
        let lines = self.data.chunks_exact(width + 2 * margin);
        let inside = lines.skip(margin).take(self.size.height);
        inside.map(move |line| &line[margin..][..width])
    }

    /// Some rows of the picture with the margins at their sides, and those above and below where they are the picture's
    /// first and last: as large as [`Margins::around`] says.
    pub(crate) fn strip(&self, rows: &Range<usize>) -> &[f32] {
        let width = self.size.width + 2 * self.margin;
        let Margins { top, bottom, .. } = Margins::of(rows, self.size.height, self.margin);
        let start = rows.start + self.margin - top;
        let end = rows.end + self.margin + bottom;
        &self.data[start * width..end * width]
    }
}

/// A picture of `size` whose rows `row` writes, continued beyond its edges by copies of the outermost pixels.
pub(crate) fn continued(
    size: Size,
    margins: Margins,
    row: impl Fn(usize, &mut [f32]) + Sync,
) -> Vec<f32> {
    let framed = margins.around(size);
    let mut out = vec![0.0; framed.pixels()];
    let end = margins.sides + size.width;
    out.par_chunks_exact_mut(framed.width)
        .enumerate()
        .for_each(|(index, line)| {
            let inside = index.saturating_sub(margins.top).min(size.height - 1);
            row(inside, &mut line[margins.sides..end]);
            let (first, last) = (line[margins.sides], line[end - 1]);
            line[..margins.sides].fill(first);
            line[end..].fill(last);
        });
    out
}

/// Pixels by which a strip of a picture is continued beyond its edges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Margins {
    pub top: usize,
    pub bottom: usize,
    /// On the left and on the right.
    pub sides: usize,
}

impl Margins {
    /// The same on every side.
    pub fn all(margin: usize) -> Self {
        Self {
            top: margin,
            bottom: margin,
            sides: margin,
        }
    }

    /// Those of some rows of a picture of so many: where they end inside of it they have rows to spare instead.
    pub fn of(rows: &Range<usize>, height: usize, margin: usize) -> Self {
        Self {
            top: if rows.start == 0 { margin } else { 0 },
            bottom: if rows.end == height { margin } else { 0 },
            sides: margin,
        }
    }

    /// The size of a picture of `size` with these margins.
    pub fn around(&self, size: Size) -> Size {
        Size::new(
            size.width + 2 * self.sides,
            self.top + size.height + self.bottom,
        )
    }
}

/// Between the codes of luma, R, G or B and model units.
pub(crate) fn scale(format: &FrameFormat) -> Scale {
    let max = f64::from(format.max_value());
    // Luma codes of 8-bit limited range video are the model's units up to c / 127.5 - 1.
    let (gain, offset) = if format.full_range {
        (219.0 / max, 16.0)
    } else {
        (1.0 / f64::from(1u32 << (format.depth - 8)), 0.0)
    };
    Scale {
        gain: (gain / 127.5) as f32,
        offset: (offset / 127.5 - 1.0) as f32,
        max: max as f32,
    }
}

/// The values of `samples` from index `first` on, as many as `out` holds.
fn decode(scale: Scale, samples: &Samples, first: usize, out: &mut [f32]) {
    match samples {
        Samples::U8(codes) => scale.decode(&codes[first..], out),
        Samples::U16(codes) => scale.decode(&codes[first..], out),
    }
}

/// Some rows of a full-size plane in model units.
pub(crate) fn units(frame: &Frame, plane: usize, rows: Range<usize>) -> Vec<f32> {
    let width = frame.size().width;
    let mut out = vec![0.0; rows.len() * width];
    let (samples, scale) = (&frame.planes()[plane], scale(frame.format()));
    out.par_chunks_exact_mut(width)
        .zip(rows)
        .for_each(|(out, row)| decode(scale, samples, row * width, out));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(format: FrameFormat, codes: &[u16]) -> Frame {
        let planes = codes.iter().map(|code| match format.depth {
            8 => Samples::U8(vec![*code as u8]),
            _ => Samples::U16(vec![*code]),
        });
        Frame::new(format, Size::new(1, 1), planes.collect()).unwrap()
    }

    fn luma(format: FrameFormat, codes: &[u16]) -> f32 {
        LumaPlane::of(&frame(format, codes)).data[0]
    }

    #[test]
    fn limited_range_codes_are_the_units() {
        let gray = FrameFormat::gray();
        for code in [0, 16, 100, 235, 255] {
            assert!((luma(gray, &[code]) - (f32::from(code) / 127.5 - 1.0)).abs() < 1e-6);
        }
        let ten = FrameFormat { depth: 10, ..gray };
        assert!((luma(ten, &[4 * 100 + 2]) - (100.5 / 127.5 - 1.0)).abs() < 1e-6);
    }

    #[test]
    fn black_and_white_meet_in_every_format() {
        let (black, white) = (16.0 / 127.5 - 1.0, 235.0 / 127.5 - 1.0);
        let full = FrameFormat {
            full_range: true,
            ..FrameFormat::gray()
        };
        let full_ten = FrameFormat { depth: 10, ..full };
        let cases: [(FrameFormat, &[u16], &[u16]); 4] = [
            (FrameFormat::gray(), &[16], &[235]),
            (full, &[0], &[255]),
            (full_ten, &[0], &[1023]),
            (FrameFormat::rgb(), &[0, 0, 0], &[255, 255, 255]),
        ];
        for (format, low, high) in cases {
            assert!((luma(format, low) - black).abs() < 1e-5, "{format:?}");
            assert!((luma(format, high) - white).abs() < 1e-5, "{format:?}");
        }
    }

    #[test]
    fn margins_repeat_the_edges() {
        let size = Size::new(2, 3);
        let plane = LumaPlane::of_values(size, 2, &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        assert_eq!((plane.size(), plane.margin()), (size, 2));
        let line = |a: f32, b: f32| [a, a, a, b, b, b];
        let (first, second, last) = (line(1.0, 2.0), line(3.0, 4.0), line(5.0, 6.0));
        assert_eq!(
            plane.data,
            [first, first, first, second, last, last, last].concat()
        );
        assert!(plane.rows().eq([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]));
        // Margins above and below belong to the first and the last row.
        assert_eq!(plane.strip(&(0..3)), plane.data);
        assert_eq!(plane.strip(&(0..1)), [first, first, first].concat());
        assert_eq!(plane.strip(&(1..2)), second);
        assert_eq!(plane.strip(&(1..3)), [second, last, last, last].concat());
        let margins = Margins::of(&(1..3), 3, 2);
        assert_eq!(margins.around(Size::new(2, 2)), Size::new(6, 4));
    }

    #[test]
    fn a_margin_changes_nothing_inside() {
        let size = Size::new(5, 4);
        for format in [FrameFormat::gray(), FrameFormat::rgb()] {
            let codes = |plane: usize| {
                (0..20)
                    .map(move |i| (i * (7 + plane) % 256) as u8)
                    .collect()
            };
            let planes = (0..format.plane_count()).map(|plane| Samples::U8(codes(plane)));
            let frame = Frame::new(format, size, planes.collect()).unwrap();
            let (plain, framed) = (LumaPlane::of(&frame), LumaPlane::framed(&frame, 3));
            assert!(plain.rows().eq(framed.rows()), "{format:?}");
        }
    }

    #[test]
    fn colours_are_weighed_by_the_matrix() {
        let units = |y: f32| (16.0 + 219.0 * y) / 127.5 - 1.0;
        let rgb = FrameFormat::rgb();
        assert!((luma(rgb, &[255, 0, 0]) - units(0.2126)).abs() < 1e-5);
        assert!((luma(rgb, &[0, 255, 0]) - units(0.7152)).abs() < 1e-5);
        assert!((luma(rgb, &[0, 0, 255]) - units(0.0722)).abs() < 1e-5);
    }
}
