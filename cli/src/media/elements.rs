// SPDX-License-Identifier: MPL-2.0
//! Elements of GStreamer: how they are found, and what to install where one is missing.

use std::path::PathBuf;

use anyhow::{Context, Result, anyhow, bail};

/// Starts GStreamer and loads the plugin with this project's elements: the one that was built or installed with this
/// program if it is there, else the one that GStreamer finds. The program has no copy of its own, which would be another
/// 30 MB.
///
/// # Errors
///
/// If there is no plugin, or it is not of this program's version.
pub fn init() -> Result<()> {
    gst::init().context("GStreamer does not start")?;
    let beside = candidates().into_iter().find(|path| path.is_file());
    let plugin = match &beside {
        Some(path) => gst::Plugin::load_file(path).with_context(|| format!("loading '{}'", path.display()))?,
        None => gst::Plugin::load_by_name("flashvideo").ok().context(
            "the plugin with flashupscale is not installed: libgstflashvideo.so belongs beside this program or in \
             GStreamer's folder of plugins (make install puts it there)",
        )?,
    };
    let (theirs, ours) = (plugin.version(), env!("CARGO_PKG_VERSION"));
    if !theirs.starts_with(ours) {
        let place = plugin
            .filename()
            .map_or_else(String::new, |path| format!(" '{}'", path.display()));
        bail!(
            "the plugin{place} is of version {theirs}, this program of version {ours}: install both together"
        );
    }
    Ok(())
}

/// Where the plugin is relative to the program: in a folder of builds, for one user, in a wheel, for everybody.
fn candidates() -> Vec<PathBuf> {
    let Some(folder) = std::env::current_exe()
        .ok()
        .and_then(|path| Some(path.parent()?.to_owned()))
    else {
        return Vec::new();
    };
    let prefix = folder.join("..");
    let mut folders = vec![
        folder.clone(),
        prefix.join("share/gstreamer-1.0/plugins"),
        prefix.join("lib/gstreamer-1.0"),
    ];
    // Debian keeps libraries of each architecture apart.
    let entries = std::fs::read_dir(prefix.join("lib"))
        .into_iter()
        .flatten()
        .flatten();
    folders.extend(entries.map(|entry| entry.path().join("gstreamer-1.0")));
    folders
        .into_iter()
        .map(|folder| folder.join("libgstflashvideo.so"))
        .collect()
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

/// Raw video of this size.
pub fn size_caps(width: u32, height: u32) -> gst::Caps {
    gst::Caps::builder("video/x-raw")
        .field("width", width as i32)
        .field("height", height as i32)
        .build()
}

/// Debian's package with an element that is not part of GStreamer's core.
fn package(factory: &str) -> &'static str {
    match factory {
        "autovideosink" => "gstreamer1.0-plugins-good",
        // One of the base plugins, but Debian packs it with what needs X libraries.
        "textoverlay" => "gstreamer1.0-x",
        _ => "gstreamer1.0-plugins-base",
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use gst::prelude::*;

    use super::package;

    const ELEMENTS: &[&str] = &[
        "autovideosink",
        "textoverlay",
        "videoconvert",
        "videoscale",
        "videotestsrc",
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
