#!/bin/bash
# SPDX-License-Identifier: MPL-2.0
# Makes the Debian package, build/packages/flashvideo_VERSION_ARCHITECTURE.deb. What is in it and what it needs is written in
# plugin/Cargo.toml, [package.metadata.deb]. It runs on the release of Debian that it is built on, and on later ones: build
# on Debian 12 for 12 and 13.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PWD/build/tools/bin:$HOME/.cargo/bin:$PATH"
tool=cargo-deb@3.8.0

if ! command -v dpkg >/dev/null; then
    echo "a Debian package is made on Debian or a relative" >&2
    exit 1
fi
packaging/build.sh
# Beside what is built, not into the user's folders.
cargo deb --version >/dev/null 2>&1 || cargo install --locked --root build/tools "$tool"

architecture=$(dpkg --print-architecture)
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml | head -n 1)
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || date +%s)}
export SOURCE_DATE_EPOCH

# Debian wants a changelog of the package beside the project's own.
maintainer=$(sed -n 's/^maintainer = "\(.*\)"$/\1/p' plugin/Cargo.toml)
cat >build/package/changelog.Debian <<END
flashvideo ($version-1) unstable; urgency=medium

  * Version $version. What is new is told in changelog.gz.

 -- $maintainer  $(LC_ALL=C date --utc --date="@$SOURCE_DATE_EPOCH" -R)
END

gzip -9nk build/package/third-party.txt

variant=()
[ "$architecture" = amd64 ] || variant=(--variant "$architecture")
mkdir -p build/packages
cargo deb --no-build --no-dbgsym --strip --locked -p gst-plugin-flashvideo --profile dist "${variant[@]}" \
    --output "build/packages/flashvideo_$version-1_$architecture.deb"
