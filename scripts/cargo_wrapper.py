"""Builds the plugin with cargo on behalf of meson.

    cargo_wrapper.py --cargo CARGO --source DIR --target-dir DIR --profile dev|release --output FILE --depfile FILE
        [--features a,b]

Copies the library to --output and writes what it was made from to --depfile, so that ninja runs cargo again only when
one of those files changes, and `meson install` as another user does not run it at all.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys

PACKAGE = "gst-plugin-flashvideo"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("cargo", "source", "target-dir", "profile", "output", "depfile"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--features", default="")
    args = parser.parse_args()

    command = [args.cargo, "build", "--package", PACKAGE, "--lib", "--profile", args.profile, "--locked"]
    command += ["--manifest-path", os.path.join(args.source, "Cargo.toml"), "--target-dir", args.target_dir]
    command += ["--no-default-features", "--features", args.features]
    # Cargo's progress goes to the terminal; what it made comes as JSON on standard output.
    done = subprocess.run([*command, "--message-format", "json-render-diagnostics"], stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        return done.returncode
    library = None
    for line in done.stdout.splitlines():
        message = json.loads(line)
        if message["reason"] == "compiler-artifact" and "cdylib" in message["target"]["kind"]:
            library = next(f for f in message["filenames"] if f.endswith((".so", ".dylib", ".dll")))
    if library is None:
        print(f"cargo made no shared library of {PACKAGE}", file=sys.stderr)
        return 1
    # A copy under a new name: a process that has the old one mapped keeps it.
    shutil.copy2(library, args.output + ".new")
    os.replace(args.output + ".new", args.output)
    # Cargo's own dependency file, of one line, names the library in its target directory.
    with open(os.path.splitext(library)[0] + ".d") as file:
        sources = file.read().split(": ", 1)[1].strip()
    manifests = [os.path.join(args.source, name) for name in ("Cargo.toml", "Cargo.lock")]
    with open(args.depfile, "w") as file:
        file.write(f"{args.output}: {sources} {' '.join(manifests)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
