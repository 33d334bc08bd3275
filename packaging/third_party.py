#!/usr/bin/env python3
# SPDX-License-Identifier: MPL-2.0
"""Writes the licences of the crates that are linked into packages of the workspace, each text once.

    packaging/third_party.py gst-plugin-flashvideo flashvideo-cli > third-party.txt

Their licences ask that whoever gets the program gets their notices too. What only builds or tests is left out, and so are
macros: none of it is in the program.
"""

import json
import os
import re
import subprocess
import sys

NOTICES = ("LICENSE", "LICENCE", "COPYING", "COPYRIGHT", "NOTICE", "UNLICENSE")

# Rust's own library is linked into every program, and no crate tells about it.
STANDARD_LIBRARY = """\
Rust's standard library (https://www.rust-lang.org), (c) The Rust Project Developers, is under the Apache License,
Version 2.0, or the MIT licence, at your option."""


def metadata():
    host = re.search(r"host: (\S+)", subprocess.run(["rustc", "-vV"], check=True, capture_output=True, text=True).stdout)
    command = ["cargo", "metadata", "--format-version", "1", "--locked", "--filter-platform", host.group(1)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def linked(data, names):
    """The packages that are in the programs of the packages `names`, from registries only."""
    packages = {package["id"]: package for package in data["packages"]}
    nodes = {node["id"]: node for node in data["resolve"]["nodes"]}
    waiting = [member for member in data["workspace_members"] if packages[member]["name"] in names]
    found = set()
    while waiting:
        this = waiting.pop()
        if this in found or any("proc-macro" in target["kind"] for target in packages[this]["targets"]):
            continue
        found.add(this)
        for dependency in nodes[this]["deps"]:
            if any(kind["kind"] is None for kind in dependency["dep_kinds"]):
                waiting.append(dependency["pkg"])
    return sorted((packages[this] for this in found if packages[this]["source"]), key=lambda p: (p["name"], p["version"]))


def notices(package):
    """The texts in the folder of a crate; of a choice with MIT only that one, which is the shortest."""
    folder = os.path.dirname(package["manifest_path"])
    names = sorted(name for name in os.listdir(folder) if name.upper().startswith(NOTICES))
    names = [name for name in names if os.path.isfile(os.path.join(folder, name))]
    if re.search(r"\bOR\b|/", package["license"] or ""):
        names = [name for name in names if "MIT" in name.upper() or "NOTICE" in name.upper()] or names
    texts = []
    for name in names:
        with open(os.path.join(folder, name), encoding="utf-8", errors="replace") as file:
            texts.append("\n".join(line.rstrip() for line in file.read().strip().splitlines()))
    return texts


def main():
    packages = linked(metadata(), sys.argv[1:])
    if not packages:
        sys.exit(f"the workspace has none of: {' '.join(sys.argv[1:])}")
    texts = {package["id"]: notices(package) for package in packages}
    # Some crates leave the text to their repository: then that of another crate from there holds.
    of_repository = {package["repository"]: texts[package["id"]] for package in packages if texts[package["id"]]}
    users = {}
    without = []
    for package in packages:
        found = texts[package["id"]] or of_repository.get(package["repository"], [])
        if not found:
            without.append(package)
        for text in found:
            # The same words in lines of another length are the same text.
            users.setdefault(" ".join(text.split()), (text, []))[1].append(package)

    print("FlashVideo for GStreamer is under the Mozilla Public License 2.0. These libraries are linked into it.\n")
    print(STANDARD_LIBRARY)
    for package in without:
        authors = ", ".join(package["authors"]) or "its authors"
        print(f"\n{package['name']} {package['version']} ({package['repository']}), (c) {authors}, is under {package['license']}.")
    for text, of in users.values():
        print("\n" + "-" * 120)
        for package in of:
            print(f"{package['name']} {package['version']} ({package['license']})")
        print(f"\n{text}")


main()
