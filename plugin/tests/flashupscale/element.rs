// SPDX-License-Identifier: MPL-2.0
//! What `gst-inspect-1.0` shows.

use gst::prelude::*;

use crate::fixture::{element, init};

#[test]
fn metadata_and_rank() {
    init();
    let factory = gst::ElementFactory::find("flashupscale").unwrap();
    assert_eq!(factory.rank(), gst::Rank::NONE);
    assert_eq!(factory.metadata("klass"), Some("Filter/Effect/Video"));
    assert_eq!(
        factory.metadata("long-name"),
        Some("Enlarge and Sharpen (FlashVideo)")
    );
    assert!(
        factory
            .metadata("description")
            .is_some_and(|d| !d.is_empty())
    );
    assert!(factory.metadata("author").is_some_and(|a| !a.is_empty()));
}

#[test]
fn one_pad_on_each_side_for_all_formats_in_whole_frames() {
    let element = element(&[]);
    let templates = element.pad_template_list();
    assert_eq!(templates.len(), 2);
    for template in templates {
        assert_eq!(template.presence(), gst::PadPresence::Always);
        let caps = template.caps();
        let structure = caps.structure(0).unwrap();
        assert_eq!(structure.get::<&str>("interlace-mode"), Ok("progressive"));
        assert_eq!(structure.get::<gst::List>("format").unwrap().len(), 55);
        // The sink pad takes what is interlaced as well, to say what to do about it.
        let others = caps.iter().skip(1);
        let modes: Vec<_> = others.map(|s| s.value("interlace-mode").unwrap()).collect();
        let sink = template.direction() == gst::PadDirection::Sink;
        assert_eq!(modes.len(), if sink { 2 } else { 0 });
        assert!(
            caps.features(0)
                .unwrap()
                .is_equal(&gst::CapsFeatures::new_empty())
                || !caps.features(0).unwrap().is_any()
        );
    }
    assert_eq!(
        element.static_pad("sink").unwrap().direction(),
        gst::PadDirection::Sink
    );
    assert_eq!(
        element.static_pad("src").unwrap().direction(),
        gst::PadDirection::Src
    );
}

#[test]
fn properties_say_what_they_are_and_when_they_change() {
    let element = element(&[]);
    let names = [
        ("model", true),
        ("scale", false),
        ("steps", false),
        ("noise", false),
        ("seed", false),
        ("prompt", false),
        ("guidance-scale", false),
        ("preset", true),
        ("bypass", false),
        ("adaptive", false),
        ("device", true),
        ("dtype", true),
        ("threads", true),
    ];
    for (name, only_ready) in names {
        let property = element
            .find_property(name)
            .unwrap_or_else(|| panic!("{name}"));
        assert!(property.blurb().is_some_and(|b| b.len() > 20), "{name}");
        let flags = property.flags();
        assert_eq!(
            flags.contains(gst::PARAM_FLAG_MUTABLE_READY),
            only_ready,
            "{name}"
        );
        assert_eq!(
            flags.contains(gst::PARAM_FLAG_MUTABLE_PLAYING),
            !only_ready,
            "{name}"
        );
    }
    let stats = element.find_property("stats").unwrap();
    assert!(!stats.flags().contains(glib::ParamFlags::WRITABLE));
    let own: Vec<_> = element
        .list_properties()
        .iter()
        .filter(|p| p.owner_type() == element.type_())
        .map(|p| p.name().to_owned())
        .collect();
    assert_eq!(own.len(), names.len() + 1, "{own:?}");
}

#[test]
fn a_stored_preset_can_be_loaded() {
    // Read when the element's class looks for presets first, which is here.
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/presets");
    init();
    let element = gst::ElementFactory::make("flashupscale").build().unwrap();
    let file = std::fs::read_to_string(format!("{folder}/GstFlashUpscale.prs")).unwrap();
    let key_file = glib::KeyFile::new();
    key_file
        .load_from_data(&file, glib::KeyFileFlags::NONE)
        .unwrap();
    assert_eq!(
        key_file.string("_presets_", "element-name").unwrap(),
        "GstFlashUpscale"
    );
    // Every group sets properties that exist, to values that these take.
    for group in key_file
        .groups()
        .iter()
        .filter(|g| g.as_str() != "_presets_")
    {
        for key in key_file
            .keys(group)
            .unwrap()
            .iter()
            .filter(|k| !k.starts_with("_meta/"))
        {
            assert!(element.find_property(key).is_some(), "[{group}] {key}");
            element.set_property_from_str(key, &key_file.string(group, key).unwrap());
        }
        assert_eq!(
            glib::EnumValue::from_value(&element.property_value("preset"))
                .unwrap()
                .1
                .nick(),
            group.as_str()
        );
    }
    assert!(element.is::<gst::Preset>());
}
