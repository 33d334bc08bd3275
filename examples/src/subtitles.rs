//! Subtitles with markup for formats that take only plain text.
//!
//! MP4's demuxer gives `text/x-raw,format=pango-markup`, its muxer takes only `format=utf8`; GStreamer has no element
//! in between, so a probe on the pad takes the markup off.

use gst::prelude::*;

/// Whether caps are text with markup.
pub fn has_markup(caps: &gst::CapsRef) -> bool {
    caps.structure(0)
        .is_some_and(|s| s.name() == "text/x-raw" && s.get::<&str>("format") == Ok("pango-markup"))
}

/// From here on, `pad` gives plain text instead of markup.
pub fn strip_markup_on(pad: &gst::Pad) {
    pad.add_probe(
        gst::PadProbeType::BUFFER | gst::PadProbeType::EVENT_DOWNSTREAM,
        |_, info| {
            match &mut info.data {
                Some(gst::PadProbeData::Buffer(buffer)) => {
                    if let Some(plain) = stripped(buffer) {
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
        },
    );
}

/// Caps of text without markup.
pub fn plain_caps() -> gst::Caps {
    gst::Caps::builder("text/x-raw")
        .field("format", "utf8")
        .build()
}

/// The buffer's text without markup, with its timestamps and flags; nothing if it is no UTF-8.
fn stripped(buffer: &gst::Buffer) -> Option<gst::Buffer> {
    let map = buffer.map_readable().ok()?;
    let text = strip_markup(std::str::from_utf8(&map).ok()?);
    let mut plain = gst::Buffer::from_slice(text.into_bytes());
    let target = plain.get_mut()?;
    let what = gst::BufferCopyFlags::TIMESTAMPS | gst::BufferCopyFlags::FLAGS;
    buffer.copy_into(target, what, ..).ok()?;
    Some(plain)
}

/// `<b>Rock &amp; roll</b>` becomes `Rock & roll`. What is no tag or entity stays as it is.
pub fn strip_markup(markup: &str) -> String {
    let mut plain = String::with_capacity(markup.len());
    let mut rest = markup;
    while let Some(start) = rest.find(['<', '&']) {
        plain.push_str(&rest[..start]);
        rest = &rest[start..];
        let taken = match rest.as_bytes()[0] {
            b'<' => rest.find('>').map(|end| (end + 1, None)),
            _ => rest
                .find(';')
                .and_then(|end| Some((end + 1, Some(entity(&rest[1..end])?)))),
        };
        match taken {
            Some((length, letter)) => {
                plain.extend(letter);
                rest = &rest[length..];
            }
            None => {
                plain.push_str(&rest[..1]);
                rest = &rest[1..];
            }
        }
    }
    plain + rest
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
            assert_eq!(strip_markup(markup), plain, "{markup}");
        }
    }

    #[test]
    fn a_stripped_buffer_keeps_its_times() {
        gst::init().unwrap();
        let mut buffer = gst::Buffer::from_slice(*b"<i>hm</i>");
        {
            let buffer = buffer.get_mut().unwrap();
            buffer.set_pts(gst::ClockTime::from_seconds(3));
            buffer.set_duration(gst::ClockTime::from_seconds(2));
        }
        let plain = stripped(&buffer).unwrap();
        assert_eq!(&*plain.map_readable().unwrap(), b"hm");
        assert_eq!(plain.pts(), buffer.pts());
        assert_eq!(plain.duration(), buffer.duration());
        assert!(stripped(&gst::Buffer::from_slice([0xffu8, 0xfe])).is_none());
    }
}
