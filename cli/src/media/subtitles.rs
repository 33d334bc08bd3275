// SPDX-License-Identifier: MPL-2.0
//! Subtitles with markup for formats whose muxers take only plain text.
//!
//! The demuxers of MP4 and Matroska give `text/x-raw,format=pango-markup`, their muxers take only `format=utf8`;
//! GStreamer has no element in between, so a probe on the pad rewrites the text.

use gst::prelude::*;

/// Whether caps are text with markup.
pub fn has_markup(caps: &gst::CapsRef) -> bool {
    caps.structure(0)
        .is_some_and(|s| s.name() == "text/x-raw" && s.get::<&str>("format") == Ok("pango-markup"))
}

/// What becomes of tags. Entities become the characters they stand for in either case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tags {
    /// All go: MP4's text tracks would show them.
    Remove,
    /// Bold, italics, underline and strike-through stay, as in SubRip files, which Matroska carries.
    KeepSubRip,
}

/// From here on, `pad` gives plain text instead of markup.
///
/// The pad's own caps query still names markup: link it without a check of caps.
pub fn rewrite_on(pad: &gst::Pad, tags: Tags) {
    let kinds = gst::PadProbeType::BUFFER | gst::PadProbeType::EVENT_DOWNSTREAM;
    pad.add_probe(kinds, move |_, info| {
        match &mut info.data {
            Some(gst::PadProbeData::Buffer(buffer)) => {
                if let Some(plain) = rewritten(buffer, tags) {
                    *buffer = plain;
                }
            }
            Some(gst::PadProbeData::Event(event)) => {
                if let gst::EventView::Caps(caps) = event.view()
                    && has_markup(caps.caps())
                {
                    let seqnum = event.seqnum();
                    *event = gst::event::Caps::builder(&plain_caps())
                        .seqnum(seqnum)
                        .build();
                }
            }
            _ => {}
        }
        gst::PadProbeReturn::Ok
    });
}

/// Caps of text without markup.
pub fn plain_caps() -> gst::Caps {
    gst::Caps::builder("text/x-raw")
        .field("format", "utf8")
        .build()
}

/// The buffer with plain text, its timestamps and flags; nothing if it is no UTF-8.
fn rewritten(buffer: &gst::Buffer, tags: Tags) -> Option<gst::Buffer> {
    let map = buffer.map_readable().ok()?;
    let text = plain_text(std::str::from_utf8(&map).ok()?, tags);
    let mut plain = gst::Buffer::from_slice(text.into_bytes());
    let target = plain.get_mut()?;
    let what = gst::BufferCopyFlags::TIMESTAMPS | gst::BufferCopyFlags::FLAGS;
    buffer.copy_into(target, what, ..).ok()?;
    Some(plain)
}

/// `<b>Rock &amp; roll</b>` becomes `Rock & roll`. What is no tag or entity stays as it is.
pub fn plain_text(markup: &str, tags: Tags) -> String {
    let mut plain = String::with_capacity(markup.len());
    let mut rest = markup;
    while let Some(start) = rest.find(['<', '&']) {
        plain.push_str(&rest[..start]);
        rest = &rest[start..];
        let length = if rest.starts_with('<') {
            rest.find('>').map(|end| {
                let tag = &rest[..=end];
                if tags == Tags::KeepSubRip && is_subrip(tag) {
                    plain.push_str(tag);
                }
                end + 1
            })
        } else {
            rest.find(';').and_then(|end| {
                plain.push(entity(&rest[1..end])?);
                Some(end + 1)
            })
        };
        let length = length.unwrap_or_else(|| {
            plain.push_str(&rest[..1]);
            1
        });
        rest = &rest[length..];
    }
    plain + rest
}

fn is_subrip(tag: &str) -> bool {
    let name = tag.trim_start_matches(['<', '/']).trim_end_matches('>');
    matches!(name, "b" | "i" | "u" | "s")
}

fn entity(name: &str) -> Option<char> {
    match name {
        "amp" => Some('&'),
        "lt" => Some('<'),
        "gt" => Some('>'),
        "quot" => Some('"'),
        "apos" => Some('\''),
        _ => {
            let number = name.strip_prefix('#')?;
            let code = match number.strip_prefix(['x', 'X']) {
                Some(hex) => u32::from_str_radix(hex, 16).ok()?,
                None => number.parse().ok()?,
            };
            char::from_u32(code)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_goes_and_text_stays() {
        for (markup, plain) in [
            ("", ""),
            ("plain", "plain"),
            ("<b>Rock &amp; roll</b>", "Rock & roll"),
            ("<span foreground=\"red\">no</span>\n<i>yes</i>", "no\nyes"),
            ("&lt;b&gt; &quot;&apos; &#233;&#xe9;", "<b> \"' éé"),
            ("a & b; 3 < 4", "a & b; 3 < 4"),
            ("&#xffffffff; &nothing; ü<", "&#xffffffff; &nothing; ü<"),
        ] {
            assert_eq!(plain_text(markup, Tags::Remove), plain, "{markup}");
        }
    }

    #[test]
    fn subrip_keeps_its_own_tags() {
        let markup = "<span size=\"9\"><i>Rock &amp; roll</i></span>";
        assert_eq!(plain_text(markup, Tags::KeepSubRip), "<i>Rock & roll</i>");
    }

    #[test]
    fn a_rewritten_buffer_keeps_its_times() {
        gst::init().unwrap();
        let mut buffer = gst::Buffer::from_slice(*b"<i>hm</i>");
        {
            let buffer = buffer.get_mut().unwrap();
            buffer.set_pts(gst::ClockTime::from_seconds(3));
            buffer.set_duration(gst::ClockTime::from_seconds(2));
        }
        let plain = rewritten(&buffer, Tags::Remove).unwrap();
        assert_eq!(&*plain.map_readable().unwrap(), b"hm");
        assert_eq!(plain.pts(), buffer.pts());
        assert_eq!(plain.duration(), buffer.duration());
        assert!(rewritten(&gst::Buffer::from_slice([0xffu8, 0xfe]), Tags::Remove).is_none());
    }
}
