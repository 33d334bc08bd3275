// SPDX-License-Identifier: MPL-2.0
//! What becomes of everything in a clip that is not the enhanced video: copied where the new file takes it, encoded anew
//! where it does not, and left out, with a word, where nothing else is possible.

use super::container::Container;
use super::probe::{Probe, Stream};

/// What becomes of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// As it is.
    Copy,
    /// Encoded anew, by this encoder of ffmpeg.
    Encode(&'static str),
    /// A picture that goes with the file as an attachment.
    Attach,
    /// Left out: why.
    Leave(String),
    /// Carried by other means (chapters, timecode): no word is due.
    Implied,
}

/// A stream and what becomes of it.
#[derive(Clone, Debug)]
pub struct SideStream {
    /// The stream.
    pub stream: Stream,
    /// What becomes of it.
    pub fate: Fate,
    /// Why the fate that was meant for it did not work.
    pub why: Option<String>,
}

const SUBTITLE_TEXT: &[&str] = &[
    "subrip",
    "srt",
    "ass",
    "ssa",
    "webvtt",
    "mov_text",
    "text",
    "ttml",
    "hdmv_text_subtitle",
    "microdvd",
    "subviewer",
    "subviewer1",
    "sami",
    "realtext",
    "stl",
    "mpl2",
    "vplayer",
    "pjs",
    "jacosub",
];

impl SideStream {
    /// What becomes of every stream of a clip but `video`.
    pub fn all(probe: &Probe, video: u32, container: Container) -> Vec<Self> {
        let others = probe.streams.iter().filter(|stream| stream.index != video);
        others
            .map(|stream| Self {
                stream: stream.clone(),
                fate: fate(stream, container, !probe.chapters.is_empty()),
                why: None,
            })
            .collect()
    }

    /// The stream as people know it.
    pub fn label(&self) -> String {
        let kind = match self.stream.codec_type.as_str() {
            _ if self.stream.is_cover() => "cover picture",
            "audio" => "sound",
            "subtitle" => "subtitles",
            "attachment" => "attachment",
            "video" => "second video",
            "data" => "data",
            other => other,
        };
        let mut details = vec![match self.stream.codec_name.as_str() {
            "" => "unknown".to_owned(),
            name => name.to_owned(),
        }];
        details.extend(
            self.stream
                .tag("language")
                .filter(|language| *language != "und")
                .map(str::to_owned),
        );
        details.extend(
            self.stream
                .tag("title")
                .or(self.stream.tag("filename"))
                .map(str::to_owned),
        );
        format!("{kind} ({})", details.join(", "))
    }

    /// A sentence about a stream that does not come through as it is.
    pub fn note(&self) -> Option<String> {
        let label = self.label();
        match (&self.fate, &self.why) {
            (Fate::Encode(encoder), None) => Some(format!(
                "{label}: does not fit the file as it is and becomes {encoder}"
            )),
            (Fate::Encode(encoder), Some(why)) => Some(format!(
                "{label}: cannot be copied ({why}) and becomes {encoder}"
            )),
            (Fate::Leave(why), None) => Some(format!("{label}: is left out, {why}")),
            (Fate::Leave(_), Some(why)) => Some(format!("{label}: is left out ({why})")),
            (Fate::Copy | Fate::Attach | Fate::Implied, _) => None,
        }
    }

    /// The next best fate, where the last one did not work.
    pub fn worse(&self, container: Container) -> Fate {
        let failed = || Fate::Leave("it cannot be read or carried".to_owned());
        match (&self.fate, self.stream.codec_type.as_str()) {
            (Fate::Copy, "audio") => Fate::Encode(audio_encoder(container)),
            (Fate::Copy, "subtitle")
                if SUBTITLE_TEXT.contains(&self.stream.codec_name.as_str()) =>
            {
                Fate::Encode(subtitle_encoder(container))
            }
            _ => failed(),
        }
    }
}

fn audio_encoder(container: Container) -> &'static str {
    match container {
        Container::WebM => "libopus",
        _ => "aac",
    }
}

fn subtitle_encoder(container: Container) -> &'static str {
    match container {
        Container::WebM => "webvtt",
        Container::Matroska => "subrip",
        _ => "mov_text",
    }
}

fn fate(stream: &Stream, container: Container, has_chapters: bool) -> Fate {
    let codec = stream.codec_name.as_str();
    let keeps_more = |what: &str| {
        Fate::Leave(format!(
            "{} files have no {what} (.mkv keeps it)",
            container.muxer()
        ))
    };
    match stream.codec_type.as_str() {
        "video" if stream.is_cover() => match container {
            Container::Matroska => Fate::Attach,
            Container::Mp4 if matches!(codec, "mjpeg" | "png" | "bmp") => Fate::Copy,
            _ => keeps_more("cover pictures of this kind"),
        },
        "video" => Fate::Copy,
        "audio" => audio(codec, container),
        "subtitle" => subtitles(codec, container),
        "attachment" if container == Container::Matroska => Fate::Copy,
        "attachment" => keeps_more("attachments"),
        // The track of timecode is made anew from the tag that ffmpeg reads from it.
        "data" if stream.tag("timecode").is_some() => Fate::Implied,
        // QuickTime keeps its chapters in a track of text.
        "data" if codec == "bin_data" && has_chapters => Fate::Implied,
        _ => Fate::Leave("its meaning may depend on the old picture".to_owned()),
    }
}

fn audio(codec: &str, container: Container) -> Fate {
    let pcm = codec.starts_with("pcm_");
    let fits = match container {
        Container::Mp4 => matches!(
            codec,
            "aac" | "mp3" | "mp2" | "ac3" | "eac3" | "alac" | "opus" | "flac" | "dts" | "vorbis"
        ),
        Container::QuickTime => pcm || matches!(codec, "aac" | "mp3" | "ac3" | "eac3" | "alac"),
        Container::WebM => matches!(codec, "opus" | "vorbis"),
        _ => !matches!(
            codec,
            "" | "unknown" | "none" | "aac_latm" | "pcm_bluray" | "pcm_dvd"
        ),
    };
    match (fits, container) {
        (true, _) => Fate::Copy,
        (false, Container::Matroska) if pcm => Fate::Encode("flac"),
        (false, _) if matches!(codec, "" | "unknown" | "none") => {
            Fate::Leave("nothing decodes it".to_owned())
        }
        (false, _) => Fate::Encode(audio_encoder(container)),
    }
}

fn subtitles(codec: &str, container: Container) -> Fate {
    let text = SUBTITLE_TEXT.contains(&codec);
    let fits = match container {
        Container::Mp4 | Container::QuickTime => codec == "mov_text",
        Container::WebM => codec == "webvtt",
        _ => matches!(
            codec,
            "subrip"
                | "srt"
                | "ass"
                | "ssa"
                | "webvtt"
                | "hdmv_pgs_subtitle"
                | "dvd_subtitle"
                | "dvb_subtitle"
                | "hdmv_text_subtitle"
        ),
    };
    match (fits, text, container) {
        (true, ..) => Fate::Copy,
        (false, true, _) => Fate::Encode(subtitle_encoder(container)),
        (false, false, Container::Matroska) => {
            Fate::Leave("Matroska has no place for this kind".to_owned())
        }
        (false, false, _) => Fate::Leave(format!(
            "{} files have no subtitles made of pictures (.mkv keeps them)",
            container.muxer()
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(kind: &str, codec: &str) -> Stream {
        Stream {
            codec_type: kind.into(),
            codec_name: codec.into(),
            ..Stream::default()
        }
    }

    #[test]
    fn what_fits_is_copied_and_what_does_not_is_encoded_or_named() {
        let of = |kind: &str, codec: &str, container| fate(&stream(kind, codec), container, false);
        assert_eq!(of("audio", "eac3", Container::Mp4), Fate::Copy);
        assert_eq!(
            of("audio", "aac_latm", Container::Matroska),
            Fate::Encode("aac")
        );
        assert_eq!(
            of("audio", "pcm_bluray", Container::Matroska),
            Fate::Encode("flac")
        );
        assert_eq!(of("audio", "aac", Container::WebM), Fate::Encode("libopus"));
        assert_eq!(of("subtitle", "ass", Container::Matroska), Fate::Copy);
        assert_eq!(
            of("subtitle", "ass", Container::Mp4),
            Fate::Encode("mov_text")
        );
        assert!(
            matches!(of("subtitle", "hdmv_pgs_subtitle", Container::Mp4), Fate::Leave(why) if why.contains(".mkv"))
        );
        assert_eq!(of("attachment", "ttf", Container::Matroska), Fate::Copy);
        assert!(matches!(
            of("data", "klv", Container::Matroska),
            Fate::Leave(_)
        ));
    }

    #[test]
    fn what_failed_gets_something_worse_until_it_is_left_out() {
        let mut side = SideStream {
            stream: stream("audio", "ac3"),
            fate: Fate::Copy,
            why: None,
        };
        side.fate = side.worse(Container::Mp4);
        assert_eq!(side.fate, Fate::Encode("aac"));
        side.fate = side.worse(Container::Mp4);
        assert!(side.note().unwrap().contains("sound (ac3): is left out"));
    }
}
