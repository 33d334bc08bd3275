// SPDX-License-Identifier: MPL-2.0
//! Elements of GStreamer: how they are found, and what to install where one is missing.

use anyhow::{Context, Result, anyhow};
use gst::prelude::*;

/// Starts GStreamer and registers this project's elements in the process.
pub fn init() -> Result<()> {
    gst::init().context("GStreamer does not start")?;
    gstflashvideo::plugin_register_static().context("the flashvideo plugin does not register")
}

/// Makes an element, or says which package has it.
///
/// # Errors
///
/// If no installed plugin has an element of that name.
pub fn make(factory: &str) -> Result<gst::Element> {
    gst::ElementFactory::make(factory).build().map_err(|_| {
        let package = package(factory);
        anyhow!(
            "the GStreamer element '{factory}' is not installed: on Debian, apt install {package}"
        )
    })
}

/// Debian's package with an element that is not part of GStreamer's core.
fn package(factory: &str) -> &'static str {
    match factory {
        "x264enc" => "gstreamer1.0-plugins-ugly",
        "avenc_aac" => "gstreamer1.0-libav",
        "h264parse" => "gstreamer1.0-plugins-bad",
        "mp4mux" | "qtmux" | "matroskamux" | "webmmux" | "vp9enc" | "deinterlace" | "videoflip"
        | "videocrop" | "aacparse" => "gstreamer1.0-plugins-good",
        // One of the base plugins, but Debian packs it with what needs X libraries.
        "textoverlay" => "gstreamer1.0-x",
        _ => "gstreamer1.0-plugins-base",
    }
}

/// Links a request pad of `sink` that takes `caps` to `source`.
///
/// # Errors
///
/// If there is no such pad or it does not link.
pub fn link_to_request_pad(source: &gst::Pad, sink: &gst::Element, caps: &gst::Caps) -> Result<()> {
    let template = request_template(sink, caps)
        .with_context(|| format!("{} takes no {}", sink.name(), caps_name(caps)))?;
    let pad = sink
        .request_pad(&template, None, None)
        .with_context(|| format!("{} gives no more pads for {}", sink.name(), caps_name(caps)))?;
    source
        .link(&pad)
        .with_context(|| format!("linking {} to {}", caps_name(caps), sink.name()))?;
    Ok(())
}

/// The template of `element`'s request sink pads that takes `caps`, if there is one.
pub fn request_template(element: &gst::Element, caps: &gst::Caps) -> Option<gst::PadTemplate> {
    element.pad_template_list().into_iter().find(|template| {
        template.direction() == gst::PadDirection::Sink
            && template.presence() == gst::PadPresence::Request
            && template.caps().can_intersect(caps)
    })
}

/// The media type of caps, for messages.
pub fn caps_name(caps: &gst::CapsRef) -> &str {
    caps.structure(0)
        .map_or("data of unknown type", |s| s.name().as_str())
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use gst::prelude::*;

    use super::package;

    const ELEMENTS: &[&str] = &[
        "aacparse",
        "audioconvert",
        "audioresample",
        "avenc_aac",
        "decodebin",
        "deinterlace",
        "h264parse",
        "matroskamux",
        "mp4mux",
        "parsebin",
        "qtmux",
        "textoverlay",
        "videoconvert",
        "videocrop",
        "videoflip",
        "videotestsrc",
        "vp9enc",
        "webmmux",
        "x264enc",
    ];

    #[test]
    fn what_the_program_needs_is_installed_by_the_makefile() {
        let script = include_str!("../../../scripts/prepare.sh");
        let packages = script
            .split_once("packages=(")
            .and_then(|(_, rest)| rest.split_once(')'))
            .map_or("", |(list, _)| list);
        for factory in ELEMENTS {
            let package = package(factory);
            assert!(
                packages.split_whitespace().any(|listed| listed == package),
                "{package}, for {factory}"
            );
        }
    }

    #[test]
    fn the_package_named_for_an_element_has_its_plugin() {
        gst::init().unwrap();
        for factory in ELEMENTS {
            let plugin = gst::ElementFactory::find(factory)
                .and_then(|found| found.plugin())
                .and_then(|plugin| plugin.filename());
            let name = plugin.unwrap_or_else(|| panic!("{factory} is not installed"));
            let name = name.file_name().unwrap();
            let Ok(output) = Command::new("dpkg").arg("-S").arg(name).output() else {
                return; // Not a relative of Debian.
            };
            let owners = String::from_utf8_lossy(&output.stdout);
            let package = package(factory);
            assert!(
                owners.is_empty() || owners.starts_with(package),
                "{factory}: {owners}"
            );
        }
    }
}
