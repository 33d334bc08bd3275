// SPDX-License-Identifier: MPL-2.0
//! Pictures in memory: what the sheets and comparisons are put together from.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::{Context, Result};
use fast_image_resize::images::{TypedImage, TypedImageRef};
use fast_image_resize::pixels::U8x3;
use fast_image_resize::{ResizeAlg, ResizeOptions, Resizer};

pub use fast_image_resize::FilterType;

/// Red, green and blue.
pub type Colour = [u8; 3];

/// The ground of everything that is put together.
pub const WHITE: Colour = [255; 3];

/// A picture of 8 bits in RGB.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    width: u32,
    height: u32,
    /// Row by row.
    pixels: Vec<Colour>,
}

impl Picture {
    /// A picture of one colour.
    pub fn filled(width: u32, height: u32, colour: Colour) -> Self {
        let pixels = vec![colour; width as usize * height as usize];
        Self {
            width,
            height,
            pixels,
        }
    }

    /// From rows of RGB without gaps; nothing if there are not enough bytes.
    pub fn from_bytes(width: u32, height: u32, bytes: &[u8]) -> Option<Self> {
        let (pixels, _) = bytes.as_chunks();
        let pixels = pixels.get(..width as usize * height as usize)?.to_vec();
        Some(Self {
            width,
            height,
            pixels,
        })
    }

    /// Columns.
    pub fn width(&self) -> u32 {
        self.width
    }

    /// Rows.
    pub fn height(&self) -> u32 {
        self.height
    }

    /// Columns and rows.
    pub fn size(&self) -> (u32, u32) {
        (self.width, self.height)
    }

    /// The colour in column `x` of row `y`.
    ///
    /// # Panics
    /// Outside of the picture.
    pub fn pixel(&self, x: u32, y: u32) -> Colour {
        self.row(y)[x as usize]
    }

    fn row(&self, y: u32) -> &[Colour] {
        &self.pixels[y as usize * self.width as usize..][..self.width as usize]
    }

    /// Puts `other` over this picture with its corner at `left`, `top`; what reaches beyond the edges is left out.
    pub fn paste(&mut self, other: &Self, left: u32, top: u32) {
        let width = self.width.saturating_sub(left).min(other.width) as usize;
        for y in 0..self.height.saturating_sub(top).min(other.height) {
            let start = (top + y) as usize * self.width as usize + left as usize;
            self.pixels[start..][..width].copy_from_slice(&other.row(y)[..width]);
        }
    }

    /// The part of `width` x `height` pixels with its corner at `left`, `top`, as much of it as there is.
    pub fn crop(&self, left: u32, top: u32, width: u32, height: u32) -> Self {
        let (left, top) = (left.min(self.width), top.min(self.height));
        let (width, height) = (width.min(self.width - left), height.min(self.height - top));
        let rows = (top..top + height).map(|y| &self.row(y)[left as usize..][..width as usize]);
        Self {
            width,
            height,
            pixels: rows.flatten().copied().collect(),
        }
    }

    /// The whole picture at another size.
    ///
    /// # Errors
    /// If the sizes are beyond what the resizer takes.
    pub fn resized(&self, width: u32, height: u32, filter: FilterType) -> Result<Self> {
        let mut out = Self::filled(width, height, WHITE);
        let from = self.pixels.as_flattened();
        let from = TypedImageRef::<U8x3>::from_buffer(self.width, self.height, from)?;
        let to = out.pixels.as_flattened_mut();
        let mut to = TypedImage::<U8x3>::from_buffer(width, height, to)?;
        let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(filter));
        // The typed call, for one type: the untyped one would compile a resizer for each pixel type there is.
        Resizer::new().resize_typed(&from, &mut to, &options)?;
        Ok(out)
    }

    /// Writes a PNG file.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        let write = || -> Result<()> {
            let mut file = BufWriter::new(File::create(path)?);
            let mut encoder = png::Encoder::new(&mut file, self.width, self.height);
            encoder.set_color(png::ColorType::Rgb);
            encoder.set_depth(png::BitDepth::Eight);
            let mut writer = encoder.write_header()?;
            writer.write_image_data(self.pixels.as_flattened())?;
            writer.finish()?;
            Ok(file.flush()?)
        };
        write().with_context(|| format!("writing '{}'", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every pixel tells its place.
    fn map(width: u32, height: u32) -> Picture {
        let mut picture = Picture::filled(width, height, WHITE);
        for (index, pixel) in (0u32..).zip(&mut picture.pixels) {
            *pixel = [(index % width) as u8, (index / width) as u8, 7];
        }
        picture
    }

    #[test]
    fn bytes_become_pixels_row_by_row() {
        let picture = Picture::from_bytes(2, 2, &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]).unwrap();
        assert_eq!(picture.pixel(1, 0), [4, 5, 6]);
        assert_eq!(picture.pixel(0, 1), [7, 8, 9]);
        assert_eq!(Picture::from_bytes(2, 2, &[0; 11]), None);
    }

    #[test]
    fn parts_are_taken_and_put_where_they_belong() {
        let part = map(9, 7).crop(2, 3, 4, 2);
        assert_eq!((part.size(), part.pixel(3, 1)), ((4, 2), [5, 4, 7]));
        assert_eq!(map(9, 7).crop(8, 6, 4, 4).size(), (1, 1));
        assert_eq!(map(9, 7).crop(20, 20, 4, 4).size(), (0, 0));
        let mut canvas = Picture::filled(6, 5, WHITE);
        canvas.paste(&part, 1, 2);
        assert_eq!(canvas.pixel(1, 2), [2, 3, 7]);
        assert_eq!((canvas.pixel(0, 2), canvas.pixel(5, 3)), (WHITE, WHITE));
        // Over the edges.
        canvas.paste(&part, 5, 4);
        assert_eq!(canvas.pixel(5, 4), [2, 3, 7]);
        canvas.paste(&part, 9, 9);
    }

    #[test]
    fn resizing_keeps_what_is_flat_and_where_things_are() {
        let flat = Picture::filled(40, 30, [9, 80, 200]);
        let small = flat.resized(7, 5, FilterType::Lanczos3).unwrap();
        assert_eq!(small, Picture::filled(7, 5, [9, 80, 200]));
        let mut half = Picture::filled(40, 30, WHITE);
        half.paste(&Picture::filled(20, 30, [0; 3]), 0, 0);
        let small = half.resized(8, 4, FilterType::Bilinear).unwrap();
        assert_eq!((small.pixel(0, 0), small.pixel(7, 3)), ([0; 3], WHITE));
    }

    #[test]
    fn a_saved_picture_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("map.png");
        map(9, 7).save(&path).unwrap();
        let file = std::io::BufReader::new(File::open(&path).unwrap());
        let mut reader = png::Decoder::new(file).read_info().unwrap();
        let mut bytes = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut bytes).unwrap();
        assert_eq!(info.color_type, png::ColorType::Rgb);
        assert_eq!(
            Picture::from_bytes(info.width, info.height, &bytes),
            Some(map(9, 7))
        );
        let nowhere = folder.path().join("none/map.png");
        assert!(map(1, 1).save(&nowhere).is_err());
    }
}
