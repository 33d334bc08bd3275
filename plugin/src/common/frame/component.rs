// SPDX-License-Identifier: MPL-2.0
//! One component of a mapped picture: strides, interleaving, packing and byte order of wide samples.

use flashvideo::{Samples, Size};
use gst_video::VideoInfo;

/// Where the samples of one component lie in its plane.
pub(super) struct Component {
    pub plane: u32,
    /// Bytes before the first sample of a row.
    offset: usize,
    /// Bytes from a sample to the next one.
    step: usize,
    /// Bytes from a row to the next one.
    stride: usize,
    size: Size,
    /// Unused low bits of a 16-bit sample.
    shift: u32,
    /// Bytes of a sample, 1 or 2.
    bytes: usize,
    /// Order of the bytes of a 16-bit sample.
    little_endian: bool,
    /// Luma of packed 4:2:2, whose rows are whole pairs of pixels also where the width is odd.
    pairs: bool,
}

impl Component {
    /// Component `index` of a mapped picture with these strides.
    ///
    /// # Errors
    /// When its rows go backwards, or its samples are not whole bytes apart.
    pub fn new(info: &VideoInfo, strides: &[i32], index: u8) -> Result<Self, String> {
        let format = info.format_info();
        let plane = info.comp_plane(index);
        let stride = strides
            .get(plane as usize)
            .and_then(|&stride| usize::try_from(stride).ok())
            .filter(|&stride| stride > 0)
            .ok_or_else(|| format!("plane {plane} has no forward stride"))?;
        let step = usize::try_from(info.comp_pstride(index)).unwrap_or(0);
        if step == 0 {
            return Err(format!(
                "format {} has no fixed pixel stride",
                info.format()
            ));
        }
        let bytes = if info.comp_depth(index) > 8 { 2 } else { 1 };
        // GStreamer 1.22 counts the offset of interleaved 16-bit chroma in samples, later versions in bytes. In bytes it is even.
        let offset = info.comp_poffset(index) as usize;
        let offset = if offset.is_multiple_of(bytes) {
            offset
        } else {
            bytes * offset
        };
        let halved = format.w_sub().get(1).is_some_and(|&sub| sub > 0);
        Ok(Self {
            plane,
            offset,
            step,
            stride,
            size: Size::new(
                info.comp_width(index) as usize,
                info.comp_height(index) as usize,
            ),
            shift: format.shift().get(usize::from(index)).copied().unwrap_or(0),
            bytes,
            little_endian: format.is_le(),
            pairs: index == 0 && format.n_planes() == 1 && halved,
        })
    }

    /// The fourth byte of a pixel of RGBx and its kin, which no component has.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn padding(info: &VideoInfo, strides: &[i32]) -> Result<Option<Self>, String> {
        let format = info.format_info();
        if !format.is_rgb() || format.has_alpha() || info.comp_pstride(0) != 4 {
            return Ok(None);
        }
        let components = (0..info.n_components() as u8)
            .map(|index| Self::new(info, strides, index))
            .collect::<Result<Vec<_>, _>>()?;
        let taken = |offset: &usize| components.iter().any(|one| one.offset == *offset);
        let free = (0..4).find(|offset| !taken(offset));
        let first = components.into_iter().next();
        Ok(first
            .zip(free)
            .map(|(first, offset)| Self { offset, ..first }))
    }

    /// The samples in the plane `data`; none when that is too short.
    pub fn read(&self, data: &[u8], depth: u8) -> Option<Samples> {
        let pixels = self.size.pixels();
        let rows = data.chunks(self.stride).take(self.size.height);
        if depth == 8 {
            let mut samples = Vec::with_capacity(pixels);
            for row in rows {
                let row = row.get(self.offset..)?;
                let width = self.size.width;
                match self.step {
                    1 => samples.extend_from_slice(row.get(..width)?),
                    2 => samples.extend(row.chunks(2).take(width).map(|pixel| pixel[0])),
                    3 => samples.extend(row.chunks(3).take(width).map(|pixel| pixel[0])),
                    4 => samples.extend(row.chunks(4).take(width).map(|pixel| pixel[0])),
                    step => samples.extend(row.iter().step_by(step).take(width)),
                }
            }
            (samples.len() == pixels).then_some(Samples::U8(samples))
        } else {
            let mut samples = Vec::with_capacity(pixels);
            for row in rows {
                let row = row.get(self.offset..)?;
                match self.step {
                    2 => self.read_wide::<2>(row, &mut samples),
                    4 => self.read_wide::<4>(row, &mut samples),
                    8 => self.read_wide::<8>(row, &mut samples),
                    _ => return None,
                }
            }
            (samples.len() == pixels).then_some(Samples::U16(samples))
        }
    }

    /// The 16-bit samples at every `STEP`th byte of `row`.
    fn read_wide<const STEP: usize>(&self, row: &[u8], samples: &mut Vec<u16>) {
        let pixels = row.chunks(STEP).take(self.size.width);
        let bytes = pixels.filter_map(|pixel| pixel.first_chunk::<2>());
        if self.little_endian {
            samples.extend(bytes.map(|bytes| u16::from_le_bytes(*bytes) >> self.shift));
        } else {
            samples.extend(bytes.map(|bytes| u16::from_be_bytes(*bytes) >> self.shift));
        }
    }

    /// Writes `samples` to the plane `data`; nothing when these or that are too short.
    pub fn write(&self, data: &mut [u8], samples: &Samples) -> Option<()> {
        if samples.len() != self.size.pixels() || data.len() < self.needed() {
            return None;
        }
        let rows = data.chunks_mut(self.stride).take(self.size.height);
        let width = self.size.width;
        match samples {
            Samples::U8(samples) => {
                for (row, values) in rows.zip(samples.chunks(width)) {
                    let row = row.get_mut(self.offset..)?;
                    match self.step {
                        1 => row.get_mut(..width)?.copy_from_slice(values),
                        2 => interleave::<2>(row, values),
                        3 => interleave::<3>(row, values),
                        4 => interleave::<4>(row, values),
                        step => {
                            for (pixel, value) in row.chunks_mut(step).zip(values) {
                                pixel[0] = *value;
                            }
                        }
                    }
                    // The pixel beyond the edge has a luma of its own, which readers may average with its neighbour.
                    if self.pairs
                        && width % 2 == 1
                        && let Some((beyond, last)) =
                            row.get_mut(width * self.step).zip(values.last())
                    {
                        *beyond = *last;
                    }
                }
            }
            Samples::U16(samples) => {
                for (row, values) in rows.zip(samples.chunks(width)) {
                    let row = row.get_mut(self.offset..)?;
                    for (pixel, value) in row.chunks_mut(self.step).zip(values) {
                        let value = value << self.shift;
                        *pixel.first_chunk_mut::<2>()? = if self.little_endian {
                            value.to_le_bytes()
                        } else {
                            value.to_be_bytes()
                        };
                    }
                }
            }
        }
        Some(())
    }

    /// Writes `value` to all 8-bit samples in the plane `data`; nothing when that is too short.
    pub fn fill(&self, data: &mut [u8], value: u8) -> Option<()> {
        if data.len() < self.needed() {
            return None;
        }
        for row in data.chunks_mut(self.stride).take(self.size.height) {
            let samples = row.iter_mut().skip(self.offset).step_by(self.step);
            samples.take(self.size.width).for_each(|to| *to = value);
        }
        Some(())
    }

    /// Bytes that the plane must have for this component.
    fn needed(&self) -> usize {
        let last = (self.size.height - 1) * self.stride + (self.size.width - 1) * self.step;
        last + self.offset + self.bytes
    }
}

/// Writes `values` to every `STEP`th byte of `row`.
fn interleave<const STEP: usize>(row: &mut [u8], values: &[u8]) {
    for (pixel, value) in row.chunks_mut(STEP).zip(values) {
        pixel[0] = *value;
    }
}
