#!/bin/bash
# SPDX-License-Identifier: MPL-2.0
# Installs the plugin, its presets and the program `flashvideo`, or removes them:
#
#     scripts/install.sh install|uninstall
#
# Without PREFIX for this user alone, where GStreamer and the shell look by themselves. With PREFIX for everybody, in
# GStreamer's own plugin folder if that is below PREFIX. DESTDIR is put before every path, for packages.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$HOME/.cargo/bin:$PATH"

action=${1:?usage: install.sh install|uninstall}
prefix=${PREFIX:-}
destination=${DESTDIR:-}

if [ -z "$prefix" ]; then
    if [ -n "${SUDO_USER:-}" ]; then
        echo "With sudo, say for whom: 'make install' without sudo is for you, 'sudo make install PREFIX=/usr' for everybody." >&2
        exit 1
    fi
    data=${XDG_DATA_HOME:-$HOME/.local/share}
    programs=$HOME/.local/bin
    plugins=$data/gstreamer-1.0/plugins
    presets=$data/gstreamer-1.0/presets
else
    programs=$prefix/bin
    presets=$prefix/share/gstreamer-1.0/presets
    # GStreamer's folders are the same in every version, but each distribution has its own.
    plugins=$(pkg-config --variable=pluginsdir gstreamer-1.0 2>/dev/null || true)
    if [[ $plugins != "$prefix"/lib* ]]; then
        plugins=$prefix/lib/gstreamer-1.0
    fi
fi

files=(
    "$programs/flashvideo" "$plugins/libgstflashvideo.so"
    "$presets/GstFlashUpscale.prs" "$presets/GstFlashVideoSrc.prs"
)

if [ "$action" = uninstall ]; then
    for file in "${files[@]}"; do
        rm -fv "$destination$file"
    done
    exit 0
fi

if [ -n "${SUDO_USER:-}" ]; then
    # Another user's Rust, and files that this user could not write over later: only what is built already.
    built=${CARGO_TARGET_DIR:-target}/release
    if [ ! -e "$built/flashvideo" ] || [ ! -e "$built/libgstflashvideo.so" ]; then
        echo "nothing is built yet: run 'make build' without sudo first" >&2
        exit 1
    fi
else
    scripts/prepare.sh build
    cargo build --release --locked
    built=$(cargo metadata --locked --no-deps --format-version 1 | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')/release
fi

for file in "${files[@]}"; do
    name=${file##*/}
    case $name in
        *.prs) how=(-m 644) from=plugin/presets/$name ;;
        # Without what only debuggers read, which is half of it.
        *.so) how=(-m 644 -s) from=$built/$name ;;
        *) how=(-m 755 -s) from=$built/$name ;;
    esac
    # A new file in place of the old one: a process that has the old one mapped keeps it.
    install -D "${how[@]}" "$from" "$destination$file.new"
    mv -f "$destination$file.new" "$destination$file"
    echo "$destination$file"
done
[ -z "$destination" ] || exit 0

# Not --exists: that wants a version of GStreamer's own.
if ! gst-inspect-1.0 flashupscale >/dev/null 2>&1; then
    cat <<END

GStreamer does not look into $plugins by itself. Set in your profile

    export GST_PLUGIN_PATH=$plugins GST_PRESET_PATH=$presets

or install below the prefix of GStreamer: sudo make install PREFIX=$(pkg-config --variable=prefix gstreamer-1.0)
END
else
    printf '\nGStreamer has the elements: gst-inspect-1.0 flashupscale\n'
fi
case ":$PATH:" in
    *":$programs:"*) ;;
    *) printf '%s is not among the folders of programs. Set in your profile\n\n    export PATH="%s:$PATH"\n' "$programs" "$programs" ;;
esac
