// SPDX-License-Identifier: MPL-2.0
//! The models and adapters that are part of the program.

/// A model, or adapters for one, that is part of the program.
#[derive(Clone, Copy, Debug)]
pub struct Builtin {
    /// As users name it.
    pub name: &'static str,
    /// Its safetensors file.
    pub bytes: &'static [u8],
}

/// The Stage II models that are built in; none without the feature `builtin`.
pub const ENHANCERS: &[Builtin] = &[
    #[cfg(feature = "builtin")]
    Builtin {
        name: "builtin",
        bytes: include_bytes!("../../../models/builtin.safetensors"),
    },
    #[cfg(feature = "builtin")]
    Builtin {
        name: "builtin:live",
        bytes: include_bytes!("../../../models/builtin-live.safetensors"),
    },
];

/// The Stage I models that are built in: text to clip, one file each; none without the feature `builtin`.
pub const GENERATORS: &[Builtin] = &[
    #[cfg(feature = "builtin")]
    Builtin {
        name: "builtin",
        bytes: include_bytes!("../../../models/builtin-source.safetensors"),
    },
];

/// The adapters for the built-in Stage I model that are built in; none without the feature `builtin`.
pub const ADAPTERS: &[Builtin] = &[
    #[cfg(feature = "builtin")]
    Builtin {
        name: "builtin:watercolour",
        bytes: include_bytes!("../../../models/builtin-watercolour.safetensors"),
    },
];

fn named(all: &[Builtin], name: &str) -> Option<Builtin> {
    all.iter().copied().find(|builtin| builtin.name == name)
}

/// The built-in Stage I model of that name.
pub fn generator(name: &str) -> Option<Builtin> {
    named(GENERATORS, name)
}

/// The built-in adapters of that name.
pub fn adapter(name: &str) -> Option<Builtin> {
    named(ADAPTERS, name)
}

/// The built-in Stage II model of that name.
pub fn enhancer(name: &str) -> Option<Builtin> {
    named(ENHANCERS, name)
}
