// SPDX-License-Identifier: MPL-2.0
//! Reads NUT, the container in which decoded frames come through a pipe: one video stream, each frame with its exact
//! timestamp. Its format is FFmpeg's "NUT Open Container Format", version 3 of the bitstream.

use std::io::{self, BufReader, ErrorKind, Read};

use anyhow::{Context, Result, bail};

use super::raw::RawFrame;

const MAGIC: &[u8; 25] = b"nut/multimedia container\0";
const MAIN: u64 = 0x4e4d_7a56_1f5f_04ad;
const STREAM: u64 = 0x4e53_1140_5bf2_f9db;
const SYNCPOINT: u64 = 0x4e4b_e4ad_eeca_4569;

const FLAG_CODED_PTS: u64 = 1 << 3;
const FLAG_STREAM_ID: u64 = 1 << 4;
const FLAG_SIZE_MSB: u64 = 1 << 5;
const FLAG_CHECKSUM: u64 = 1 << 6;
const FLAG_RESERVED: u64 = 1 << 7;
const FLAG_SIDE_DATA: u64 = 1 << 8;
const FLAG_HEADER_INDEX: u64 = 1 << 10;
const FLAG_MATCH_TIME: u64 = 1 << 11;
const FLAG_CODED: u64 = 1 << 12;
const FLAG_INVALID: u64 = 1 << 13;

/// Headers are small; what claims to be larger is broken.
const MAX_HEADER: u64 = 1 << 20;
/// No frame is larger: 16384 x 16384 pixels of 8 bytes.
const MAX_FRAME: u64 = 1 << 31;

/// What the header says of the video.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// Columns.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// Width and height of a pixel.
    pub pixel_aspect: (u32, u32),
    /// Seconds of a tick, as a fraction.
    pub time_base: (u32, u32),
}

/// One line of the table that frames' first bytes point into.
#[derive(Clone, Copy, Debug, Default)]
struct FrameCode {
    flags: u64,
    size_multiplier: u64,
    size: u64,
    pts_delta: i64,
    reserved: u64,
    header: usize,
}

/// Frames from a pipe.
#[derive(Debug)]
pub struct NutReader<R: Read> {
    input: BufReader<R>,
    codes: Vec<FrameCode>,
    /// Bytes that frames begin with and that are not written again.
    elided: Vec<Vec<u8>>,
    time_bases: Vec<(u32, u32)>,
    pts_shift: u64,
    last_pts: i64,
    header: Header,
}

impl<R: Read> NutReader<R> {
    /// Reads up to the first frame. Nothing if the input is empty, as it is where a decoder failed.
    ///
    /// # Errors
    /// If it is no NUT.
    pub fn new(input: R) -> Result<Option<Self>> {
        let mut reader = Self {
            input: BufReader::with_capacity(1 << 16, input),
            codes: Vec::new(),
            elided: vec![Vec::new()],
            time_bases: Vec::new(),
            pts_shift: 0,
            last_pts: 0,
            header: Header::default(),
        };
        let mut magic = [0; MAGIC.len()];
        match reader.input.read_exact(&mut magic) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(None),
            other => other.context("reading decoded frames")?,
        }
        if &magic != MAGIC {
            bail!("the decoder's output is no NUT");
        }
        // Main header, stream header, perhaps tags, then a syncpoint before the first frame.
        loop {
            let mut first = [0];
            match reader.input.read_exact(&mut first) {
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(None),
                other => other?,
            }
            if first[0] != b'N' {
                bail!("a frame before its headers");
            }
            if reader.packet()? == SYNCPOINT {
                break;
            }
        }
        if reader.codes.len() != 256 || reader.header.width == 0 {
            bail!("the decoder's output has no header");
        }
        Ok(Some(reader))
    }

    /// What the frames are.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The next frame; nothing at the end. A frame that is cut off is the end.
    ///
    /// # Errors
    /// If what comes is no NUT.
    pub fn next_frame(&mut self) -> Result<Option<RawFrame>> {
        match self.read_frame() {
            Ok(frame) => Ok(frame),
            Err(error) => match error.downcast_ref::<io::Error>() {
                Some(cause) if cause.kind() == ErrorKind::UnexpectedEof => Ok(None),
                _ => Err(error),
            },
        }
    }

    fn read_frame(&mut self) -> Result<Option<RawFrame>> {
        loop {
            let mut first = [0];
            self.input.read_exact(&mut first)?;
            if first[0] == b'N' {
                self.packet()?;
                continue;
            }
            let code = *self
                .codes
                .get(usize::from(first[0]))
                .context("no such frame code")?;
            let mut flags = code.flags;
            if flags & FLAG_CODED != 0 {
                flags ^= self.number()?;
            }
            if flags & (FLAG_INVALID | FLAG_SIDE_DATA) != 0 {
                bail!("a frame with flags {flags:#x}");
            }
            if flags & FLAG_STREAM_ID != 0 && self.number()? != 0 {
                bail!("a frame of a second stream");
            }
            if flags & FLAG_CODED_PTS != 0 {
                let coded = self.number()? as i64;
                let base = 1i64 << self.pts_shift;
                self.last_pts = if coded < base {
                    // The low bits, next to the last timestamp.
                    let nearest = self.last_pts - (base - 1) / 2;
                    ((coded - nearest) & (base - 1)) + nearest
                } else {
                    coded - base
                };
            } else {
                self.last_pts += code.pts_delta;
            }
            let mut size = code.size;
            if flags & FLAG_SIZE_MSB != 0 {
                let high = self.number()?;
                size = high
                    .checked_mul(code.size_multiplier)
                    .and_then(|high| high.checked_add(size))
                    .unwrap_or(u64::MAX);
            }
            if flags & FLAG_MATCH_TIME != 0 {
                self.number()?;
            }
            let header = if flags & FLAG_HEADER_INDEX != 0 {
                self.number()? as usize
            } else {
                code.header
            };
            let reserved = if flags & FLAG_RESERVED != 0 {
                self.number()?
            } else {
                code.reserved
            };
            for _ in 0..reserved {
                self.number()?;
            }
            if flags & FLAG_CHECKSUM != 0 {
                self.skip(4)?;
            }
            if size > MAX_FRAME {
                bail!("a frame of {size} bytes");
            }
            let mut data = self
                .elided
                .get(header)
                .context("no such header of frames")?
                .clone();
            let begin = data.len();
            data.resize((size as usize).max(begin), 0);
            self.input.read_exact(&mut data[begin..])?;
            if data.is_empty() {
                continue; // Ends a stream.
            }
            return Ok(Some(RawFrame {
                pts: self.last_pts,
                data,
            }));
        }
    }

    /// A packet, whose first byte is read: its start code.
    fn packet(&mut self) -> Result<u64> {
        let mut rest = [0; 8];
        rest[0] = b'N';
        self.input.read_exact(&mut rest[1..])?;
        let start = u64::from_be_bytes(rest);
        let length = self.number()?;
        if length > 4096 {
            self.skip(4)?;
        }
        if length > MAX_HEADER {
            bail!("a header of {length} bytes");
        }
        let mut body = vec![0; length as usize];
        self.input.read_exact(&mut body)?;
        let mut body = Fields(&body);
        match start {
            // Headers are repeated now and then.
            MAIN if self.codes.is_empty() => self.main_header(&mut body)?,
            STREAM if self.header.width == 0 => self.stream_header(&mut body)?,
            SYNCPOINT => self.syncpoint(&mut body)?,
            _ => {}
        }
        Ok(start)
    }

    fn main_header(&mut self, body: &mut Fields<'_>) -> Result<()> {
        let version = body.number()?;
        if version > 3 {
            bail!("NUT of version {version}");
        }
        if body.number()? != 1 {
            bail!("the decoder gave more than one stream");
        }
        body.number()?; // The largest distance between syncpoints.
        for _ in 0..body.number()?.min(64) {
            let (numerator, denominator) = (body.number()?, body.number()?);
            self.time_bases
                .push((u32::try_from(numerator)?, u32::try_from(denominator)?));
        }
        let (mut pts_delta, mut multiplier, mut header) = (0, 1, 0);
        while self.codes.len() < 256 {
            let (flags, fields) = (body.number()?, body.number()?);
            let mut field = |index: u64| (fields > index).then(|| body.number()).transpose();
            if let Some(value) = field(0)? {
                pts_delta = signed(value);
            }
            multiplier = field(1)?.unwrap_or(multiplier);
            field(2)?; // The stream.
            let size = field(3)?.unwrap_or(0);
            let reserved = field(4)?.unwrap_or(0);
            let count = field(5)?.unwrap_or(multiplier.saturating_sub(size));
            field(6)?; // The match time.
            header = field(7)?.unwrap_or(header);
            for index in 8..fields {
                field(index)?;
            }
            let mut made = 0;
            while made < count && self.codes.len() < 256 {
                // That byte begins a packet.
                if self.codes.len() == usize::from(b'N') {
                    self.codes.push(FrameCode {
                        flags: FLAG_INVALID,
                        ..FrameCode::default()
                    });
                    continue;
                }
                self.codes.push(FrameCode {
                    flags,
                    size_multiplier: multiplier,
                    size: size + made,
                    pts_delta,
                    reserved,
                    header: header as usize,
                });
                made += 1;
            }
            if count == 0 {
                bail!("a table of frame codes that does not end");
            }
        }
        for _ in 0..body.number()?.min(256) {
            let length = body.number()? as usize;
            self.elided.push(body.bytes(length)?.to_vec());
        }
        Ok(())
    }

    fn stream_header(&mut self, body: &mut Fields<'_>) -> Result<()> {
        body.number()?; // Its number.
        if body.number()? != 0 {
            bail!("the decoder gave no video");
        }
        let length = body.number()? as usize;
        body.bytes(length)?; // The codec.
        let time_base = body.number()? as usize;
        self.header.time_base = *self
            .time_bases
            .get(time_base)
            .context("no such time base")?;
        self.pts_shift = body.number()?.min(62);
        body.number()?; // The largest distance of timestamps.
        body.number()?; // The decoder's delay.
        body.number()?; // Flags.
        let length = body.number()? as usize;
        body.bytes(length)?; // The codec's own header.
        let mut side = || anyhow::Ok(u32::try_from(body.number()?)?);
        (self.header.width, self.header.height) = (side()?, side()?);
        let aspect = (side()?, side()?);
        self.header.pixel_aspect = if aspect.0 == 0 || aspect.1 == 0 {
            (1, 1)
        } else {
            aspect
        };
        Ok(())
    }

    fn syncpoint(&mut self, body: &mut Fields<'_>) -> Result<()> {
        let coded = body.number()?;
        let count = self.time_bases.len().max(1) as u64;
        let from = *self
            .time_bases
            .get((coded % count) as usize)
            .context("no such time base")?;
        let to = self.header.time_base;
        let ticks = i128::from(coded / count) * i128::from(from.0) * i128::from(to.1);
        let per = i128::from(from.1) * i128::from(to.0);
        self.last_pts = i64::try_from(ticks / per.max(1))?;
        Ok(())
    }

    /// A number of the stream: seven bits a byte, the highest first.
    fn number(&mut self) -> Result<u64> {
        let mut value = 0u64;
        loop {
            let mut byte = [0];
            self.input.read_exact(&mut byte)?;
            value = append(value, byte[0])?;
            if byte[0] & 0x80 == 0 {
                return Ok(value);
            }
        }
    }

    fn skip(&mut self, count: u64) -> Result<()> {
        io::copy(&mut (&mut self.input).take(count), &mut io::sink())?;
        Ok(())
    }
}

fn append(value: u64, byte: u8) -> Result<u64> {
    if value >> 57 != 0 {
        bail!("a number of more than 64 bits");
    }
    Ok(value << 7 | u64::from(byte & 0x7f))
}

/// 0, 1, -1, 2, -2, ...
fn signed(value: u64) -> i64 {
    let half = (value.wrapping_add(1) >> 1) as i64;
    if value & 1 == 1 { half } else { -half }
}

/// The fields of a header.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn bytes(&mut self, count: usize) -> Result<&'a [u8]> {
        let (bytes, rest) = self
            .0
            .split_at_checked(count)
            .context("a header that is cut off")?;
        self.0 = rest;
        Ok(bytes)
    }

    fn number(&mut self) -> Result<u64> {
        let mut value = 0;
        loop {
            let byte = self.bytes(1)?[0];
            value = append(value, byte)?;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::program::{ffmpeg, succeed, with};
    use super::*;

    /// Frames of 6x4 that ffmpeg itself writes, at times that are not even.
    fn written() -> Vec<u8> {
        let words = [
            "-f",
            "lavfi",
            "-i",
            "testsrc2=s=6x4:r=30000/1001:d=2",
            "-vf",
            "select='not(eq(mod(n\\,7)\\,3))',setsar=4/3",
            "-fps_mode",
            "passthrough",
            "-enc_time_base",
            "1/30000",
            "-c:v",
            "rawvideo",
            "-pix_fmt",
            "yuv420p",
            "-f",
            "nut",
            "pipe:1",
        ];
        succeed(&mut with(ffmpeg(), words)).unwrap()
    }

    #[test]
    fn every_frame_comes_with_its_time() {
        let bytes = written();
        let mut reader = NutReader::new(bytes.as_slice()).unwrap().unwrap();
        let header = reader.header().clone();
        assert_eq!(
            (header.width, header.height, header.pixel_aspect),
            (6, 4, (4, 3))
        );
        // The muxer counts finer than it was told to.
        let (tick, per) = header.time_base;
        assert_eq!((tick, per % 30_000), (1, 0));
        let mut frames = Vec::new();
        while let Some(frame) = reader.next_frame().unwrap() {
            assert_eq!(frame.data.len(), 6 * 4 * 3 / 2);
            frames.push(frame.pts);
        }
        let expected: Vec<i64> = (0..60)
            .filter(|n| n % 7 != 3)
            .map(|n| n * 1001 * i64::from(per / 30_000))
            .collect();
        assert_eq!(frames, expected);
    }

    #[test]
    fn what_is_cut_off_or_broken_ends_without_a_panic() {
        let bytes = written();
        assert!(NutReader::new(&bytes[..0]).unwrap().is_none());
        assert!(NutReader::new(&b"something else that is long enough"[..]).is_err());
        for length in (25..bytes.len()).step_by(7) {
            if let Ok(Some(mut reader)) = NutReader::new(&bytes[..length]) {
                while let Ok(Some(_)) = reader.next_frame() {}
            }
        }
        // Every byte of the headers changed in turn.
        for at in 25..400.min(bytes.len()) {
            let mut broken = bytes.clone();
            broken[at] ^= 0x55;
            if let Ok(Some(mut reader)) = NutReader::new(broken.as_slice()) {
                for _ in 0..200 {
                    if !matches!(reader.next_frame(), Ok(Some(_))) {
                        break;
                    }
                }
            }
        }
    }

    #[test]
    fn signed_numbers_alternate() {
        assert_eq!([0, 1, 2, 3, 4].map(signed), [0, 1, -1, 2, -2]);
    }
}
