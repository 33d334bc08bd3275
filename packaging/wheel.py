#!/usr/bin/env python3
# SPDX-License-Identifier: MPL-2.0
"""Writes the wheel: a zip file in the layout of the binary distribution format, with nothing but the standard library.

    packaging/wheel.py --version 0.1.0 --platform linux_x86_64 --output FOLDER FILE=PLACE...

PLACE is below `flashvideo/` (the module), `data/` (the prefix of a venv, of the user or of the system), `scripts/` (its
programs) or `info/` (beside the metadata).
"""

import argparse
import base64
import hashlib
import os
import time
import zipfile

METADATA = """\
Metadata-Version: 2.1
Name: flashvideo
Version: {version}
Summary: GStreamer elements that make video larger and sharper, and clips from prompts
Home-page: https://github.com/flashvideo/gst-plugin-flashvideo
Author: The FlashVideo for GStreamer developers
License: MPL-2.0
Keywords: gstreamer,video,upscaling,super-resolution
Classifier: Environment :: Console
Classifier: License :: OSI Approved :: Mozilla Public License 2.0 (MPL 2.0)
Classifier: Operating System :: POSIX :: Linux
Classifier: Programming Language :: Python :: 3
Classifier: Programming Language :: Rust
Classifier: Topic :: Multimedia :: Video
Requires-Python: >=3.9
License-File: LICENSE
License-File: third-party.txt
Description-Content-Type: text/markdown

{readme}"""

WHEEL = """\
Wheel-Version: 1.0
Generator: packaging/wheel.py
Root-Is-Purelib: false
Tag: {tag}
"""


class Archive:
    """A wheel that is being written, and the list of its files."""

    def __init__(self, path, moment):
        self.zip = zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9)
        # No earlier time fits into a zip file.
        self.moment = time.gmtime(max(moment, 315532800))[:6]
        self.record = []

    def add(self, place, content, executable=False):
        entry = zipfile.ZipInfo(place, self.moment)
        entry.compress_type = zipfile.ZIP_DEFLATED
        entry.external_attr = (0o100755 if executable else 0o100644) << 16
        self.zip.writestr(entry, content)
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        self.record.append(f"{place},sha256={digest},{len(content)}\n")

    def close(self, record):
        self.record.append(f"{record},,\n")
        entry = zipfile.ZipInfo(record, self.moment)
        entry.external_attr = 0o100644 << 16
        self.zip.writestr(entry, "".join(self.record))
        self.zip.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--version", required=True)
    parser.add_argument("--platform", required=True)
    parser.add_argument("--output", required=True)
    parser.add_argument("--readme", required=True)
    parser.add_argument("files", nargs="+", metavar="FILE=PLACE")
    args = parser.parse_args()

    tag = f"py3-none-{args.platform}"
    base = f"flashvideo-{args.version}"
    folders = {"data": f"{base}.data/data", "scripts": f"{base}.data/scripts", "info": f"{base}.dist-info"}
    path = os.path.join(args.output, f"{base}-{tag}.whl")
    archive = Archive(path, int(os.environ.get("SOURCE_DATE_EPOCH", time.time())))
    for pair in args.files:
        file, _, place = pair.rpartition("=")
        top, _, rest = place.partition("/")
        with open(file, "rb") as opened:
            archive.add(f"{folders.get(top, top)}/{rest}", opened.read(), executable=top == "scripts")
    with open(args.readme, encoding="utf-8") as file:
        readme = file.read()
    info = folders["info"]
    archive.add(f"{info}/METADATA", METADATA.format(version=args.version, readme=readme).encode())
    archive.add(f"{info}/WHEEL", WHEEL.format(tag=tag).encode())
    archive.close(f"{info}/RECORD")
    print(path)


main()
