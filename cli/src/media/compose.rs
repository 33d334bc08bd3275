// SPDX-License-Identifier: MPL-2.0
//! Two frames in one: beside each other, or one half of each with a line between them that may move.

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;

use crate::ffmpeg::pixel::Kind;
use crate::ffmpeg::raw::RawVideo;

/// How two clips are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Layout {
    /// The left half of one, the right half of the other
    #[default]
    Split,
    /// The same with a line that moves to and fro
    Wipe,
    /// Both whole, beside each other
    Side,
}

/// Seconds in which the line goes to and fro.
const PERIOD: f64 = 6.0;
/// Columns of the line.
const LINE: usize = 2;

/// Puts frames of planar 4:2:0 video together.
#[derive(Clone, Debug)]
pub struct Composer {
    layout: Layout,
    video: RawVideo,
}

impl Composer {
    /// For frames of `video`.
    ///
    /// # Errors
    /// If that is no planar 4:2:0 of even width.
    pub fn new(layout: Layout, video: &RawVideo) -> Result<Self> {
        let planar = matches!(video.format.name, "yuv420p" | "yuv420p10le");
        ensure!(
            video.format.kind == Kind::Yuv(1, 1) && planar && video.width.is_multiple_of(2),
            "frames of {} cannot be put together",
            video.format.name
        );
        Ok(Self {
            layout,
            video: video.clone(),
        })
    }

    /// What comes out.
    pub fn output(&self) -> RawVideo {
        let wider = if self.layout == Layout::Side { 2 } else { 1 };
        RawVideo {
            width: wider * self.video.width,
            ..self.video.clone()
        }
    }

    /// `left` and `right` at `seconds`, in the layout of [`output`](Self::output), appended to `out`.
    ///
    /// # Errors
    /// If one of them is too short.
    pub fn compose(
        &self,
        left: &[u8],
        right: &[u8],
        seconds: f64,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        let width = self.video.width as usize;
        let edge = match self.layout {
            Layout::Split => width / 2,
            Layout::Wipe => ((0.5 - 0.5 * (std::f64::consts::TAU * seconds / PERIOD).cos())
                * width as f64)
                .round() as usize,
            Layout::Side => width,
        };
        // Where chroma has a sample too.
        let edge = edge / 2 * 2;
        for (index, (begin, row, rows)) in self.video.planes()?.into_iter().enumerate() {
            let at = |column: usize| column * row / width;
            let sample = row
                .checked_div(if index == 0 { width } else { width / 2 })
                .unwrap_or(1)
                .max(1);
            let value = self.line(index);
            for line in 0..rows {
                let of = |frame| <[u8]>::get(frame, begin + line * row..begin + (line + 1) * row);
                let left = of(left).context("a frame too short")?;
                let right = of(right).context("a frame too short")?;
                let start = out.len();
                out.extend_from_slice(left.get(..at(edge)).unwrap_or_default());
                match self.layout {
                    Layout::Side => out.extend_from_slice(right),
                    _ => out.extend_from_slice(right.get(at(edge)..).unwrap_or_default()),
                }
                // White, where there is something on both sides of it.
                let marked = at(edge)..at((edge + LINE).min(self.output().width as usize));
                if self.layout != Layout::Wipe || (edge > 0 && edge < width) {
                    for place in out
                        .get_mut(start + marked.start..start + marked.end)
                        .unwrap_or_default()
                        .chunks_mut(sample)
                    {
                        place.copy_from_slice(value.get(..place.len()).unwrap_or_default());
                    }
                }
            }
        }
        Ok(())
    }

    /// A sample of the line in plane `index`.
    fn line(&self, index: usize) -> [u8; 2] {
        let value: u16 = if index == 0 { 235 } else { 128 };
        (value << (self.video.format.depth - 8)).to_le_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ffmpeg::colour::Colour;
    use crate::ffmpeg::pixel::PixelFormat;

    fn composer(layout: Layout, name: &str, gst: &str) -> Composer {
        gst::init().unwrap();
        let video = RawVideo {
            format: PixelFormat::for_clip(name, &[gst_video::VideoFormat::from_string(gst)])
                .unwrap(),
            width: 8,
            height: 2,
            pixel_aspect: (1, 1),
            colour: Colour::default(),
            time_base: (1, 25),
            rate: None,
            bits: 8,
        };
        Composer::new(layout, &video).unwrap()
    }

    fn rows(composer: &Composer, seconds: f64) -> Vec<Vec<u8>> {
        let bytes = composer.video.bytes().unwrap();
        let mut out = Vec::new();
        composer
            .compose(&vec![1; bytes], &vec![2; bytes], seconds, &mut out)
            .unwrap();
        assert_eq!(out.len(), composer.output().bytes().unwrap());
        let row = composer.output().planes().unwrap()[0].1;
        out.chunks(row).take(2).map(<[u8]>::to_vec).collect()
    }

    #[test]
    fn halves_meet_in_the_middle() {
        let split = composer(Layout::Split, "yuv420p", "I420");
        assert_eq!(rows(&split, 0.0)[1], [1, 1, 1, 1, 235, 235, 2, 2]);
        let deep = composer(Layout::Split, "yuv420p10le", "I420_10LE");
        assert_eq!(
            rows(&deep, 0.0)[0],
            [1, 1, 1, 1, 1, 1, 1, 1, 0xac, 3, 0xac, 3, 2, 2, 2, 2]
        );
    }

    #[test]
    fn the_line_moves_from_edge_to_edge() {
        let wipe = composer(Layout::Wipe, "yuv420p", "I420");
        assert_eq!(rows(&wipe, 0.0)[0], [2; 8]);
        assert_eq!(rows(&wipe, PERIOD / 2.0)[0], [1; 8]);
        assert_eq!(rows(&wipe, PERIOD / 4.0)[0][..4], [1; 4]);
    }

    #[test]
    fn both_stand_beside_each_other() {
        let side = composer(Layout::Side, "yuv420p", "I420");
        let row = rows(&side, 0.0)[0].clone();
        assert_eq!(
            (row.len(), &row[..6], &row[10..]),
            (16, &[1u8; 6][..], &[2u8; 6][..])
        );
    }
}
