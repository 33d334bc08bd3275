//! Luma of frames in model units: video luma codes c in 0..255 as c / 127.5 - 1.

use std::ops::Range;

use crate::clip::{Frame, FrameFormat, Planes, Size};
use crate::kernels::s2d::Scale;

/// Luma `[height, width]` in model units. Values beyond black and white are kept.
#[derive(Clone, Debug, PartialEq)]
pub struct LumaPlane {
    /// Width and height.
    pub size: Size,
    /// Rows without padding.
    pub data: Vec<f32>,
}

impl LumaPlane {
    /// Luma of `frame`; of R, G, B by the matrix of its format.
    pub fn of(frame: &Frame) -> Self {
        Self::of_rows(frame, 0..frame.size().height)
    }

    /// Luma of some rows of `frame`.
    pub(super) fn of_rows(frame: &Frame, rows: Range<usize>) -> Self {
        let planes = match frame.format().planes {
            Planes::Rgb => 3,
            Planes::Gray | Planes::Yuv { .. } => 1,
        };
        let colours: Vec<_> = (0..planes)
            .map(|plane| units(frame, plane, rows.clone()))
            .collect();
        let size = Size::new(frame.size().width, rows.len());
        let data = weigh(colours, frame.format());
        Self { size, data }
    }

    /// Some rows as a plane of their own, continued beyond its edges by copies of the outermost pixels.
    pub(super) fn framed(&self, rows: Range<usize>, margins: Margins) -> Self {
        let width = self.size.width;
        let size = margins.around(Size::new(width, rows.len()));
        let mut data = Vec::with_capacity(size.pixels());
        let above = std::iter::repeat_n(rows.start, margins.top);
        let below = std::iter::repeat_n(rows.end.saturating_sub(1), margins.bottom);
        for row in above.chain(rows).chain(below) {
            let row = &self.data[row * width..][..width];
            let (Some(first), Some(last)) = (row.first(), row.last()) else {
                continue;
            };
            data.extend(std::iter::repeat_n(*first, margins.sides));
            data.extend_from_slice(row);
            data.extend(std::iter::repeat_n(*last, margins.sides));
        }
        Self { size, data }
    }
}

/// Pixels by which a picture is continued beyond its edges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Margins {
    pub top: usize,
    pub bottom: usize,
    /// On the left and on the right.
    pub sides: usize,
}

impl Margins {
    /// The size of a picture of `size` with these margins.
    pub fn around(&self, size: Size) -> Size {
        Size::new(
            size.width + 2 * self.sides,
            self.top + size.height + self.bottom,
        )
    }
}

/// Between the codes of luma, R, G or B and model units.
pub(super) fn scale(format: &FrameFormat) -> Scale {
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

/// Some rows of a full-size plane in model units.
pub(super) fn units(frame: &Frame, plane: usize, rows: Range<usize>) -> Vec<f32> {
    let width = frame.size().width;
    let mut out = vec![0.0; rows.len() * width];
    let samples = &frame.planes()[plane];
    scale(frame.format()).decode_from(samples, rows.start * width, &mut out);
    out
}

/// Luma of one luma plane (itself) or of R, G and B.
pub(super) fn weigh(mut colours: Vec<Vec<f32>>, format: &FrameFormat) -> Vec<f32> {
    let (red, blue) = (format.matrix.0 as f32, format.matrix.1 as f32);
    let mut luma = colours.swap_remove(0);
    // `swap_remove` leaves B, G.
    if let [b, g] = &colours[..] {
        for ((luma, g), b) in luma.iter_mut().zip(g).zip(b) {
            *luma = red * *luma + (1.0 - red - blue) * g + blue * b;
        }
    }
    luma
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clip::Samples;

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
        let plane = LumaPlane {
            size: Size::new(2, 3),
            data: vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
        };
        let margins = Margins {
            top: 0,
            bottom: 2,
            sides: 1,
        };
        let framed = plane.framed(1..3, margins);
        assert_eq!(framed.size, Size::new(4, 4));
        let rows: Vec<&[f32]> = framed.data.chunks(4).collect();
        let last: &[f32] = &[5.0, 5.0, 6.0, 6.0];
        assert_eq!(rows, [&[3.0, 3.0, 4.0, 4.0][..], last, last, last]);
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
