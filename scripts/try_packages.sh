#!/bin/bash
# SPDX-License-Identifier: MPL-2.0
# Installs what `make deb` and `make wheel` have made into bare Debian systems below build/roots, uses it there as an
# ordinary user, removes it, and shows all of that:
#
#     scripts/try_packages.sh [bookworm] [trixie]
#
# Needs root and debootstrap; the systems live in their own mounts and processes, and nothing of them stays mounted.
# MIRROR names another mirror of Debian; http_proxy and https_proxy reach apt and pip in there.
set -euo pipefail
cd "$(dirname "$0")/.."

suites=("$@")
[ $# -gt 0 ] || suites=(bookworm trixie)
mirror=${MIRROR:-http://deb.debian.org/debian}
roots=$PWD/build/roots
mkdir -p "$roots"

if [ "$(id -u)" != 0 ] || ! command -v debootstrap >/dev/null; then
    echo "only root can make such systems, and only with debootstrap: apt install debootstrap" >&2
    exit 1
fi
newest() { # PATTERN
    find build/packages -name "$1" -printf '%T@ %p\n' 2>/dev/null | sort -n | sed -n '$s/^[^ ]* //p'
}
deb=$(newest "*_$(dpkg --print-architecture).deb")
wheel=$(newest '*.whl')
if [ -z "$deb$wheel" ]; then
    echo "nothing to try yet: run 'make deb' or 'make wheel' first" >&2
    exit 1
fi

# What runs inside. A command is shown as it would be typed; the first that fails ends the trial.
prepare() {
    export DEBIAN_FRONTEND=noninteractive
    # The system's own matters, not shown: its packages are not written to the disk one by one.
    echo force-unsafe-io >/etc/dpkg/dpkg.cfg.d/trial
    apt-get update -q >/dev/null
    useradd --create-home --shell /bin/bash clip
    install -o clip /packages/towers.mp4 /home/clip/towers.mp4
    system=$(. /etc/os-release && echo "$PRETTY_NAME")
    enhance='--scale 2 --model builtin:live --frames 5 --force'
    size='ffprobe -v error -count_frames -show_entries stream=codec_name,width,height,nb_read_frames -of compact'
}

as_user() {
    printf '\n$ %s\n' "$1"
    runuser -u clip -- env HOME=/home/clip bash -c "cd ~ && $1" 2>&1
}

as_root() { # COMMAND
    printf '\n# %s\n' "$1"
    bash -c "cd /packages && $1" >/tmp/log 2>&1 || { cat /tmp/log; return 1; }
    # Of apt's many lines those that tell how much it was.
    grep -E '^([0-9]+ upgraded|After this operation)' /tmp/log || cat /tmp/log
}

try_deb() { # PACKAGE
    printf '\n==== %s: the Debian package\n' "$system"
    # What it depends on must be enough for the program.
    as_root "apt-get install -y --no-install-recommends ./$1"
    as_user "flashvideo --help"
    as_user "flashvideo enhance towers.mp4 large.mp4 $enhance && $size large.mp4"
    # As apt installs it by itself, with what it recommends.
    as_root "apt-get purge -y flashvideo && apt-get autoremove -y --purge"
    as_root "apt-get install -y man-db bash-completion"
    as_root "apt-get install -y ./$1"
    as_user "flashvideo enhance towers.mp4 large.mp4 $enhance && $size large.mp4"
    as_user "gst-inspect-1.0 flashupscale | sed -n '1,/^ *Version/p'"
    as_user "gst-launch-1.0 -q filesrc location=towers.mp4 ! decodebin ! videoconvert ! flashupscale preset=live scale=2 \
! videoconvert ! x264enc ! h264parse ! mp4mux ! filesink location=launched.mp4 && $size launched.mp4"
    as_user "man flashvideo | head -n 12"
    as_user "man -w flashvideo-enhance"
    # As the shell does it when the key is pressed; the loader has another name in each release.
    as_user ". /usr/share/bash-completion/bash_completion; { _comp_load flashvideo || __load_completion flashvideo; } 2>/dev/null
complete -p flashvideo; COMP_WORDS=(flashvideo en) COMP_CWORD=1; _flashvideo flashvideo en flashvideo; echo \"\${COMPREPLY[@]}\""
    as_root "dpkg -s flashvideo | grep -E 'Installed-Size|Depends'; dpkg -L flashvideo | xargs -I{} find {} -maxdepth 0 -not -type d"
    as_root "apt-get purge -y flashvideo && apt-get autoremove -y --purge"
    as_root "find / -xdev -iname '*flashv*' -not -path '/packages/*' -not -path '/home/*'; echo '(all that is left)'"
}

try_wheel() { # PACKAGE
    printf '\n==== %s: the wheel in a virtual environment\n' "$system"
    as_root "apt-get install -y --no-install-recommends ffmpeg gstreamer1.0-plugins-base gstreamer1.0-plugins-good \
gstreamer1.0-tools python3-venv python3-pip python3-gi gir1.2-gstreamer-1.0"
    as_user "python3 --version && python3 -m venv --system-site-packages venv && venv/bin/pip install -q /packages/$1"
    as_user "venv/bin/flashvideo enhance towers.mp4 large.mp4 $enhance && $size large.mp4"
    as_user "venv/bin/python /packages/try_elements.py && venv/bin/python /packages/try_elements.py --late"
    as_user 'eval "$(venv/bin/python -m flashvideo)"; gst-inspect-1.0 flashupscale | grep Filename'
    as_user "venv/bin/pip uninstall -q -y flashvideo; find venv -iname '*flashv*'; echo '(all that is left)'"

    printf '\n==== %s: the wheel for a user\n' "$system"
    as_user "pip install -q --user --break-system-packages --no-warn-script-location /packages/$1"
    as_user "gst-inspect-1.0 flashupscale | grep Filename"
    as_user ".local/bin/flashvideo enhance towers.mp4 large.mp4 $enhance && $size large.mp4"
    as_user "python3 /packages/try_elements.py"
    as_user "pip uninstall -q -y --break-system-packages flashvideo; find .local -iname '*flashv*'; echo '(all that is left)'"
}

trial() { # SUITE PART PACKAGE
    local root=$roots/$1 archives=$roots/archives/$1
    rm -rf "$root"
    mkdir -p "$root" "$archives/partial"
    tar -C "$root" -xf "$roots/$1.tar"
    install -d "$root/packages"
    cp "$3" examples/media/towers.mp4 packaging/python/try_elements.py "$root/packages"
    cp /etc/resolv.conf "$root/etc/resolv.conf"
    # The mounts end with this process. What apt fetches is kept for the next trial.
    unshare --mount --pid --fork bash -euc '
        mount --bind "$2" "$1/var/cache/apt/archives"
        mount -t proc proc "$1/proc"
        mount -t tmpfs tmpfs "$1/dev/shm"
        exec chroot "$1" env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 \
            TERM=dumb COLUMNS=120 MANWIDTH=120 http_proxy="${http_proxy:-}" https_proxy="${https_proxy:-}" bash -euc "$3"
    ' trial "$root" "$archives" "$(declare -f prepare as_user as_root try_deb try_wheel); prepare; try_$2 ${3##*/}"
}

for suite in "${suites[@]}"; do
    if [ ! -e "$roots/$suite.tar" ]; then
        # Whole or not at all: a trial that was ended leaves no half a system behind.
        rm -rf "${roots:?}/$suite" "$roots/$suite.tar.new"
        debootstrap --variant=minbase "$suite" "$roots/$suite" "$mirror" >"$roots/$suite.log"
        tar -C "$roots/$suite" -cf "$roots/$suite.tar.new" .
        mv "$roots/$suite.tar.new" "$roots/$suite.tar"
    fi
    [ -z "$deb" ] || trial "$suite" deb "$deb"
    [ -z "$wheel" ] || trial "$suite" wheel "$wheel"
done
printf '\nEverything worked on: %s\n' "${suites[*]}"
