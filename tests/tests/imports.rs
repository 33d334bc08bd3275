// SPDX-License-Identifier: MPL-2.0
//! The rule of floors (docs/ARCHITECTURE.md): files import downwards only, so that there are no circles. The test reads
//! the imports themselves.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Top-level modules of `pipeline/src`, from the ground up: each imports from those before it only.
const FLOORS: [&str; 15] = [
    "error",
    "progress",
    "size",
    "cpu",
    "media",
    "flow",
    "plan",
    "runtime",
    "registry",
    "linear",
    "checkpoint",
    "compact",
    "release",
    "enhance",
    "parity",
];

/// Crates whose files must not import each other in circles.
const CRATES: [&str; 4] = ["pipeline", "plugin", "cli", "bench"];

type Module = Vec<String>;

/// Modules of a crate, and of each the modules that it imports. Tests may import what they like.
struct Imports(BTreeMap<Module, BTreeSet<Module>>);

impl Imports {
    fn of_crate(name: &str) -> Self {
        let src = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("..")
            .join(name)
            .join("src");
        let mut files = Vec::new();
        collect(&src, &mut files);
        let sources = files.iter().map(|file| {
            let text = std::fs::read_to_string(file).unwrap();
            (module(file.strip_prefix(&src).unwrap()), text)
        });
        Self::of_sources(sources.collect())
    }

    fn of_sources(sources: BTreeMap<Module, String>) -> Self {
        let imports = sources.iter().map(|(here, text)| {
            let text = without_tests_and_comments(text);
            let owners = paths(&text, here)
                .into_iter()
                .filter_map(|path| owner(&path, &sources))
                // A file may use what the modules around it define, as privacy in Rust has it.
                .filter(|owner| !here.starts_with(owner))
                .collect();
            (here.clone(), owners)
        });
        Self(imports.collect())
    }

    /// A circle of imports, if there is one.
    fn circle(&self) -> Option<Vec<String>> {
        fn visit<'a>(
            graph: &'a BTreeMap<Module, BTreeSet<Module>>,
            at: &'a Module,
            way: &mut Vec<&'a Module>,
            done: &mut BTreeSet<&'a Module>,
        ) -> Option<Vec<String>> {
            if let Some(start) = way.iter().position(|module| *module == at) {
                return Some(
                    way[start..]
                        .iter()
                        .map(|module| module.join("::"))
                        .collect(),
                );
            }
            if !done.insert(at) {
                return None;
            }
            way.push(at);
            let found = graph[at]
                .iter()
                .find_map(|next| visit(graph, next, way, done));
            way.pop();
            found
        }
        let mut done = BTreeSet::new();
        self.0
            .keys()
            .find_map(|module| visit(&self.0, module, &mut Vec::new(), &mut done))
    }
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let stem = path.file_stem().unwrap().to_owned();
        if stem == "tests" {
            continue;
        }
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
}

/// The module that the file at `path`, relative to `src`, holds.
fn module(path: &Path) -> Module {
    let path = path.with_extension("");
    let mut parts: Module = path
        .iter()
        .map(|part| part.to_str().unwrap().to_owned())
        .collect();
    if matches!(
        parts.last().map(String::as_str),
        Some("mod" | "lib" | "main")
    ) {
        parts.pop();
    }
    parts
}

/// The code without comments and without what is compiled for tests only: modules at the end, declarations and imports.
fn without_tests_and_comments(text: &str) -> String {
    let mut code = String::new();
    let mut lines = text
        .lines()
        .map(|line| line.split("//").next().unwrap_or_default());
    while let Some(line) = lines.next() {
        if line.trim() == "#[cfg(test)]" {
            match lines.next().map(str::trim) {
                Some(item) if item.ends_with(';') => continue,
                Some(item) if item.contains("mod ") => break,
                _ => {}
            }
        }
        code.push_str(line);
        code.push('\n');
    }
    code
}

/// The paths within the crate that stand in `text`, absolute, groups taken apart.
fn paths(text: &str, here: &[String]) -> Vec<Module> {
    let mut found = Vec::new();
    for root in ["crate::", "super::", "self::"] {
        for (at, _) in text.match_indices(root) {
            let before = text[..at].chars().next_back();
            if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':' || c == '$') {
                continue;
            }
            for path in ungroup(&text[at..]) {
                let mut base: Module = if root == "crate::" {
                    Module::new()
                } else {
                    here.to_vec()
                };
                let mut parts = path.into_iter().peekable();
                while let Some(part) =
                    parts.next_if(|part| ["crate", "super", "self"].contains(&part.as_str()))
                {
                    if part == "super" {
                        base.pop();
                    }
                }
                base.extend(parts);
                found.push(base);
            }
        }
    }
    found
}

/// The paths of `a::b::{c, d::e}` at the start of `text`.
fn ungroup(text: &str) -> Vec<Module> {
    let end = text
        .find(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':'))
        .unwrap_or(text.len());
    let head: Module = text[..end]
        .split("::")
        .filter(|part| !part.is_empty())
        .map(str::to_owned)
        .collect();
    if !(text[..end].ends_with("::") && text[end..].starts_with('{')) {
        return vec![head];
    }
    let (mut depth, mut parts, mut start) = (0, Vec::new(), end + 1);
    for (at, c) in text[end..].char_indices().map(|(at, c)| (at + end, c)) {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if (c == ',' && depth == 1) || depth == 0 {
            parts.push(text[start..at].trim());
            start = at + 1;
        }
        if depth == 0 {
            break;
        }
    }
    let nested = parts
        .into_iter()
        .filter(|part| !part.is_empty())
        .flat_map(ungroup);
    nested
        .map(|tail| head.iter().cloned().chain(tail).collect())
        .collect()
}

/// The module of this crate that the item at `path` is in.
fn owner(path: &[String], sources: &BTreeMap<Module, String>) -> Option<Module> {
    (1..=path.len())
        .rev()
        .map(|length| path[..length].to_vec())
        .find(|module| sources.contains_key(module))
}

#[test]
fn there_are_no_circles() {
    for name in CRATES {
        let circle = Imports::of_crate(name).circle();
        assert_eq!(circle, None, "{name}: these files import each other");
    }
}

#[test]
fn the_runtime_imports_downwards() {
    let imports = Imports::of_crate("pipeline");
    let floor = |module: &Module| FLOORS.iter().position(|name| *name == module[0]);
    for (module, imported) in imports.0.iter().filter(|(module, _)| !module.is_empty()) {
        let own = floor(module).unwrap_or_else(|| panic!("{module:?} stands on no floor"));
        for other in imported.iter().filter(|other| !other.is_empty()) {
            let below = floor(other).unwrap_or_else(|| panic!("{other:?} stands on no floor"));
            assert!(
                below <= own,
                "{} imports {}, which stands above it",
                module.join("::"),
                other.join("::")
            );
        }
    }
}

#[test]
fn a_circle_is_found() {
    let sources = |list: &[(&str, &str)]| {
        let module = |name: &str| {
            name.split("::")
                .filter(|part| !part.is_empty())
                .map(str::to_owned)
                .collect()
        };
        Imports::of_sources(
            list.iter()
                .map(|(name, text)| (module(name), (*text).to_owned()))
                .collect(),
        )
    };
    let circle = sources(&[
        ("", "mod a; mod b;"),
        ("a", "use crate::b::{self, inner::{Thing, Other}};"),
        ("b", "use std::fmt;\nmod inner;"),
        ("b::inner", "fn f() { super::super::a::g() }"),
    ]);
    assert_eq!(
        circle.circle(),
        Some(vec!["a".to_owned(), "b::inner".to_owned()])
    );
    let tests_only = sources(&[
        ("a", "use crate::b::B;"),
        ("b", "// crate::a::A\n#[cfg(test)]\nuse crate::a::A;"),
    ]);
    assert_eq!(tests_only.circle(), None);
}
