// SPDX-License-Identifier: MPL-2.0
//! The file formats that are written, chosen by the name of the output.

use std::path::Path;

use anyhow::{Context, Result, bail};

/// What can be written.
pub const WRITTEN: &str = ".mp4, .mov, .mkv, .webm, a picture (.png, .jpg), numbered pictures (frame_%05d.png), .y4m, or - for y4m";

/// A file format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Container {
    /// `.mp4`, `.m4v`.
    Mp4,
    /// `.mov`.
    QuickTime,
    /// `.mkv`.
    Matroska,
    /// `.webm`.
    WebM,
    /// `.y4m`, or `-` for standard output: pictures alone, uncompressed.
    Y4m,
    /// `.png`: one picture, or a pattern for the numbered names of many.
    Png,
    /// `.jpg`, `.jpeg`: the same.
    Jpeg,
}

impl Container {
    /// By the file name's extension.
    ///
    /// # Errors
    /// If there is none or it is not one of those above.
    pub fn from_path(path: &Path) -> Result<Self> {
        if path == Path::new("-") {
            return Ok(Self::Y4m);
        }
        let extension = path
            .extension()
            .and_then(|extension| extension.to_str())
            .with_context(|| {
                format!(
                    "'{}' does not say which format to write: name the output {WRITTEN}",
                    path.display()
                )
            })?;
        Ok(match extension.to_ascii_lowercase().as_str() {
            "mp4" | "m4v" => Self::Mp4,
            "mov" => Self::QuickTime,
            "mkv" => Self::Matroska,
            "webm" => Self::WebM,
            "y4m" => Self::Y4m,
            "png" => Self::Png,
            "jpg" | "jpeg" => Self::Jpeg,
            other => bail!("'.{other}' files are not written: name the output {WRITTEN}"),
        })
    }

    /// ffmpeg's name of the muxer.
    pub fn muxer(self) -> &'static str {
        match self {
            Self::Mp4 => "mp4",
            Self::QuickTime => "mov",
            Self::Matroska => "matroska",
            Self::WebM => "webm",
            Self::Y4m => "yuv4mpegpipe",
            Self::Png | Self::Jpeg => "image2",
        }
    }

    /// Whether sound, subtitles and tags have a place in it.
    pub fn has_side_streams(self) -> bool {
        matches!(
            self,
            Self::Mp4 | Self::QuickTime | Self::Matroska | Self::WebM
        )
    }

    /// Whether it is made of picture files.
    pub fn is_pictures(self) -> bool {
        matches!(self, Self::Png | Self::Jpeg)
    }
}

/// Whether a name is a pattern for numbered files, such as `frame_%05d.png`.
pub fn is_pattern(path: &Path) -> bool {
    split_pattern(path).is_some()
}

/// What stands before and after the number in the name of numbered files, and the number's digits.
pub fn split_pattern(path: &Path) -> Option<(String, usize, String)> {
    let name = path.file_name()?.to_str()?;
    let (before, rest) = name.split_once('%')?;
    let (digits, after) = rest.split_once('d')?;
    let width = match digits {
        "" => 1,
        text => text
            .strip_prefix('0')
            .unwrap_or(text)
            .parse()
            .ok()
            .filter(|width| (1..=18).contains(width))?,
    };
    (!after.contains('%')).then(|| (before.to_owned(), width, after.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_extension_chooses_the_format() {
        let of = |name: &str| Container::from_path(Path::new(name));
        assert_eq!(of("a/b.MP4").unwrap(), Container::Mp4);
        assert_eq!(of("b.m4v").unwrap(), Container::Mp4);
        assert_eq!(of("b.c.mkv").unwrap(), Container::Matroska);
        assert_eq!(of("-").unwrap(), Container::Y4m);
        assert_eq!(of("f_%05d.png").unwrap(), Container::Png);
        assert!(of("b.avi").unwrap_err().to_string().contains(".avi"));
        assert!(of("mp4").unwrap_err().to_string().contains(".mp4, .mov"));
    }

    #[test]
    fn patterns_have_one_number() {
        let of = |name: &str| split_pattern(Path::new(name));
        assert_eq!(
            of("a/frame_%05d.png"),
            Some(("frame_".into(), 5, ".png".into()))
        );
        assert_eq!(of("%d.png").unwrap().1, 1);
        for wrong in ["frame.png", "100%.png", "a%sb.png", "%d_%d.png", "%0xd.png"] {
            assert!(!is_pattern(Path::new(wrong)), "{wrong}");
        }
    }
}
