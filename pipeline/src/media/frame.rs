// SPDX-License-Identifier: MPL-2.0
//! Frames as they come from a decoder: planes of integer samples and what these mean.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::size::Size;

/// Which planes a frame has, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Planes {
    /// Y.
    Gray,
    /// Y, Cb, Cr; chroma planes are smaller by powers of two.
    Yuv {
        /// log2 of the horizontal chroma reduction (1 for 4:2:0 and 4:2:2).
        sub_x: u8,
        /// log2 of the vertical chroma reduction (1 for 4:2:0).
        sub_y: u8,
    },
    /// R, G, B.
    Rgb,
}

/// Where a subsampled chroma sample lies between the luma samples of its group, on one axis.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Siting {
    /// On the first luma sample (MPEG-2 horizontally).
    #[default]
    Cosited,
    /// Half way (JPEG, MPEG-1; MPEG-2 vertically).
    Centre,
}

/// Meaning of the samples of a frame; the same for all frames of a stream.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FrameFormat {
    /// Colour planes.
    pub planes: Planes,
    /// Whether an alpha plane of full size follows the colour planes.
    pub alpha: bool,
    /// Bits in a sample, 8 to 16. Samples of more than 8 bits are stored as u16, value in the low bits.
    pub depth: u8,
    /// Full range (0..=max) rather than limited (16..=235 of 255, scaled to the depth).
    pub full_range: bool,
    /// Luma weights of red and blue (Kr, Kb) of the colour matrix; green has the rest.
    pub matrix: (f64, f64),
    /// Chroma siting, horizontal and vertical.
    pub siting: (Siting, Siting),
}

impl FrameFormat {
    /// 8-bit 4:2:0, limited range, BT.709, MPEG-2 siting: what most clips are.
    pub const fn i420() -> Self {
        Self {
            planes: Planes::Yuv { sub_x: 1, sub_y: 1 },
            alpha: false,
            depth: 8,
            full_range: false,
            matrix: (0.2126, 0.0722),
            siting: (Siting::Cosited, Siting::Centre),
        }
    }

    /// 8-bit full range R, G, B.
    pub const fn rgb() -> Self {
        Self {
            planes: Planes::Rgb,
            full_range: true,
            ..Self::i420()
        }
    }

    /// 8-bit limited range luma alone.
    pub const fn gray() -> Self {
        Self {
            planes: Planes::Gray,
            ..Self::i420()
        }
    }

    /// Number of planes, alpha included.
    pub fn plane_count(&self) -> usize {
        let colour = if self.planes == Planes::Gray { 1 } else { 3 };
        colour + usize::from(self.alpha)
    }

    /// Size of plane `index` of a frame of `size`: chroma sizes are rounded up.
    pub fn plane_size(&self, index: usize, size: Size) -> Size {
        match self.planes {
            Planes::Yuv { sub_x, sub_y } if index == 1 || index == 2 => Size::new(
                size.width.div_ceil(1 << sub_x),
                size.height.div_ceil(1 << sub_y),
            ),
            _ => size,
        }
    }

    /// Largest sample value.
    pub fn max_value(&self) -> u16 {
        ((1u32 << self.depth) - 1) as u16
    }
}

/// Samples of one plane, rows without padding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Samples {
    /// 8-bit.
    U8(Vec<u8>),
    /// 9 to 16 bits in the low bits of each value.
    U16(Vec<u16>),
}

impl Samples {
    /// `len` zeros of the type for `depth` bits.
    pub fn zeros(depth: u8, len: usize) -> Self {
        if depth <= 8 {
            Self::U8(vec![0; len])
        } else {
            Self::U16(vec![0; len])
        }
    }

    /// Number of samples.
    pub fn len(&self) -> usize {
        match self {
            Self::U8(v) => v.len(),
            Self::U16(v) => v.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// One picture. Clones share the samples.
#[derive(Clone, Debug)]
pub struct Frame {
    format: FrameFormat,
    size: Size,
    planes: Vec<Arc<Samples>>,
}

impl Frame {
    /// A frame of `planes` in the order of `format`.
    ///
    /// # Errors
    /// [`Error::Invalid`] when number, length or sample type of the planes do not fit.
    pub fn new(format: FrameFormat, size: Size, planes: Vec<Samples>) -> Result<Self> {
        if size.pixels() == 0 {
            return Err(Error::invalid(format!("a frame of {size} has no pixels")));
        }
        if !(8..=16).contains(&format.depth) {
            return Err(Error::invalid(format!("samples of {} bits", format.depth)));
        }
        if planes.len() != format.plane_count() {
            return Err(Error::invalid(format!(
                "{} planes given, {:?} has {}",
                planes.len(),
                format.planes,
                format.plane_count()
            )));
        }
        for (index, plane) in planes.iter().enumerate() {
            let expected = format.plane_size(index, size).pixels();
            if plane.len() != expected {
                return Err(Error::invalid(format!(
                    "plane {index} of a {size} frame has {} samples, expected {expected}",
                    plane.len()
                )));
            }
            if matches!(plane, Samples::U8(_)) != (format.depth == 8) {
                return Err(Error::invalid(format!(
                    "plane {index} has the wrong sample type for {} bits",
                    format.depth
                )));
            }
        }
        Ok(Self {
            format,
            size,
            planes: planes.into_iter().map(Arc::new).collect(),
        })
    }

    /// Meaning of the samples.
    pub fn format(&self) -> &FrameFormat {
        &self.format
    }

    /// Size of the picture (and of its luma plane).
    pub fn size(&self) -> Size {
        self.size
    }

    /// The planes in the order of the format, rows without padding.
    pub fn planes(&self) -> &[Arc<Samples>] {
        &self.planes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_sizes_round_chroma_up() {
        let format = FrameFormat::i420();
        let size = Size::new(5, 3);
        assert_eq!(format.plane_size(1, size), Size::new(3, 2));
        let planes = vec![
            Samples::zeros(8, 15),
            Samples::zeros(8, 6),
            Samples::zeros(8, 6),
        ];
        assert!(Frame::new(format, size, planes).is_ok());
    }

    #[test]
    fn wrong_planes_are_refused() {
        let size = Size::new(4, 4);
        let rgb = FrameFormat::rgb();
        assert!(Frame::new(rgb, size, vec![Samples::zeros(8, 16); 2]).is_err());
        assert!(Frame::new(rgb, size, vec![Samples::zeros(8, 15); 3]).is_err());
        assert!(Frame::new(rgb, size, vec![Samples::zeros(10, 16); 3]).is_err());
        assert!(Frame::new(rgb, Size::new(0, 4), vec![Samples::zeros(8, 0); 3]).is_err());
    }
}
