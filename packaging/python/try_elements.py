#!/usr/bin/env python3
# SPDX-License-Identifier: MPL-2.0
"""What a program with the wheel does: tells GStreamer of the elements and runs them, here five small frames.

With --late GStreamer runs already when the module is imported.
"""

import sys

import gi

gi.require_version("Gst", "1.0")
from gi.repository import Gst

if "--late" in sys.argv:
    Gst.init(None)
import flashvideo

Gst.init(None)
pipeline = Gst.parse_launch(
    "videotestsrc num-buffers=5 ! video/x-raw,width=64,height=48 ! flashupscale preset=live scale=2 name=enhancer ! fakesink"
)
pipeline.set_state(Gst.State.PLAYING)
message = pipeline.get_bus().timed_pop_filtered(Gst.CLOCK_TIME_NONE, Gst.MessageType.EOS | Gst.MessageType.ERROR)
pipeline.set_state(Gst.State.NULL)
if message.type == Gst.MessageType.ERROR:
    raise SystemExit(message.parse_error().gerror.message)
print(f"flashvideo {flashvideo.__version__} from {flashvideo.plugin_path()}")
print(f"plugin: {Gst.Registry.get().find_plugin('flashvideo').get_filename()}")
print(f"presets: {', '.join(pipeline.get_by_name('enhancer').get_preset_names())}")
