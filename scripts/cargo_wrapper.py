# SPDX-License-Identifier: MPL-2.0
"""Builds the plugin and the program with cargo on behalf of meson.

    cargo_wrapper.py --cargo CARGO --source DIR --profile dev|release|dist --plugin FILE --program FILE --depfile FILE
        [--target-dir DIR] [--features a,b]

Copies the results to --plugin and --program and writes what they were made from to --depfile, so that ninja runs cargo
again only when one of those files changes, and `meson install` as another user does not run it at all.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys

# The packages with features, and what they have by default: what every other build of this project has too.
PACKAGES = ("flashvideo", "gst-plugin-flashvideo", "flashvideo-cli")
DEFAULT = ["builtin"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("cargo", "source", "profile", "plugin", "program", "depfile"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--target-dir", default="")
    parser.add_argument("--features", default="")
    args = parser.parse_args()

    # All that users get in one build: to select packages would select other features of the crates below.
    command = [args.cargo, "build", "--profile", args.profile, "--locked"]
    command += ["--manifest-path", os.path.join(args.source, "Cargo.toml")]
    if args.target_dir:
        command += ["--target-dir", args.target_dir]
    features = [name for name in args.features.split(",") if name]
    if features != DEFAULT:
        command += ["--no-default-features"]
        command += ["--features", ",".join(f"{package}/{name}" for package in PACKAGES for name in features)]
    # Cargo's progress goes to the terminal; what it made comes as JSON on standard output.
    done = subprocess.run([*command, "--message-format", "json-render-diagnostics"], stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        return done.returncode
    library = program = None
    for line in done.stdout.splitlines():
        message = json.loads(line)
        if message["reason"] != "compiler-artifact":
            continue
        if "cdylib" in message["target"]["kind"]:
            library = next(f for f in message["filenames"] if f.endswith((".so", ".dylib", ".dll")))
        elif message["executable"]:
            program = message["executable"]
    if library is None or program is None:
        print("cargo made no plugin or no program", file=sys.stderr)
        return 1
    sources = set()
    for made, output in ((library, args.plugin), (program, args.program)):
        # A copy under a new name: a process that has the old one mapped keeps it.
        shutil.copy2(made, output + ".new")
        os.replace(output + ".new", output)
        # Cargo's own dependency file, of one line, names what it made.
        with open(os.path.splitext(made)[0] + ".d") as file:
            sources.update(re.split(r"(?<!\\) ", file.read().split(": ", 1)[1].strip()))
    sources.update(os.path.join(args.source, name) for name in ("Cargo.toml", "Cargo.lock"))
    with open(args.depfile, "w") as file:
        file.write(f"{args.plugin} {args.program}: {' '.join(sorted(sources))}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
