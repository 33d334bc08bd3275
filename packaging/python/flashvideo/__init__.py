# SPDX-License-Identifier: MPL-2.0
"""The GStreamer elements flashupscale and flashvideosrc for programs in Python.

Importing this module is all there is to do, before or after Gst.init:

    import flashvideo
    import gi

    gi.require_version("Gst", "1.0")
    from gi.repository import Gst

    Gst.init(None)
    Gst.parse_launch("filesrc location=in.mp4 ! decodebin ! videoconvert ! flashupscale scale=2 ! ...")

GStreamer itself and PyGObject are not part of the package: on Debian they are gstreamer1.0-plugins-good and
python3-gi, gir1.2-gstreamer-1.0.
"""

import os
import sys
from importlib import metadata

__all__ = ["plugin_path", "preset_path", "register"]
__version__ = metadata.version("flashvideo")

_PLUGIN = "libgstflashvideo.so"
_PRESETS = "GstFlashUpscale.prs"


def _folder_of(name):
    """The installer notes where it has put each file: below the prefix of a venv, of the user or of the system."""
    for file in metadata.files("flashvideo") or ():
        if file.name == name:
            return os.path.dirname(os.path.realpath(file.locate()))
    raise FileNotFoundError(f"{name} is not among the files of the installed package flashvideo: install it again")


def plugin_path():
    """The folder of the plugin, for GST_PLUGIN_PATH."""
    return _folder_of(_PLUGIN)


def preset_path():
    """The folder of the presets, for GST_PRESET_PATH."""
    return _folder_of(_PRESETS)


def register():
    """Lets GStreamer find the elements in this process and in those it starts. Importing the module has done it."""
    for variable, folder in (("GST_PLUGIN_PATH", plugin_path()), ("GST_PRESET_PATH", preset_path())):
        others = [other for other in os.environ.get(variable, "").split(os.pathsep) if other and other != folder]
        os.environ[variable] = os.pathsep.join([folder, *others])
    # A GStreamer that runs already reads the variables no more.
    gst = sys.modules.get("gi.repository.Gst")
    if gst is not None and gst.is_initialized():
        gst.Registry.get().scan_path(plugin_path())


register()
