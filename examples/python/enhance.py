#!/usr/bin/env python3
# SPDX-License-Identifier: MPL-2.0
"""Enlarges a video file by four with flashupscale, from Python; sound is kept.

    GST_PLUGIN_PATH=target/release python3 examples/python/enhance.py in.mp4 out.mp4

Needs PyGObject and GStreamer's introspection data: apt install python3-gi gir1.2-gstreamer-1.0
"""

import argparse
import os
import sys

import gi

gi.require_version("Gst", "1.0")
from gi.repository import GLib, Gst  # noqa: E402


def build(args):
    """filesrc ! decodebin, whose pads go to the video branch or the audio branch of an MP4 file."""
    pipeline = Gst.parse_launch(
        "filesrc name=reader ! decodebin name=decoder "
        "mp4mux name=muxer ! filesink name=writer "
        "queue name=video ! videoconvert ! flashupscale name=enhancer ! videoconvert "
        "! x264enc pass=qual quantizer=18 vbv-buf-capacity=0 speed-preset=faster ! h264parse ! muxer."
    )
    pipeline.get_by_name("reader").set_property("location", args.input)
    pipeline.get_by_name("writer").set_property("location", args.output)
    enhancer = pipeline.get_by_name("enhancer")
    enhancer.set_property("model", args.model)
    enhancer.set_property("scale", args.scale)

    def link(decoder, pad):
        kind = pad.get_current_caps().get_structure(0).get_name()
        if kind == "video/x-raw":
            sink = pipeline.get_by_name("video").get_static_pad("sink")
        elif kind == "audio/x-raw":
            # The muxer must know of its tracks before data flows: decodebin adds all pads first.
            # The queue is unlimited: it holds what the reader is ahead of the video.
            audio = Gst.parse_bin_from_description(
                "audioconvert ! audioresample ! avenc_aac "
                "! queue max-size-buffers=0 max-size-bytes=0 max-size-time=0",
                True,
            )
            pipeline.add(audio)
            audio.link(pipeline.get_by_name("muxer"))
            audio.sync_state_with_parent()
            sink = audio.get_static_pad("sink")
        else:
            return
        if not sink.is_linked():
            pad.link(sink)

    pipeline.get_by_name("decoder").connect("pad-added", link)
    return pipeline


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("input")
    parser.add_argument("output", help="an .mp4 file")
    parser.add_argument("--model", default="builtin")
    parser.add_argument("--scale", type=float, default=4)
    args = parser.parse_args()
    if not os.path.isfile(args.input):
        sys.exit(f"'{args.input}' is no file")
    if os.path.exists(args.output):
        sys.exit(f"'{args.output}' exists")

    Gst.init(None)
    if Gst.ElementFactory.find("flashupscale") is None:
        sys.exit("GStreamer does not know flashupscale: set GST_PLUGIN_PATH to the folder of libgstflashvideo.so")
    pipeline, loop, failures = build(args), GLib.MainLoop(), []

    def on_message(_, message):
        if message.type == Gst.MessageType.ERROR:
            error, details = message.parse_error()
            failures.append(f"{message.src.get_name()}: {error.message}\n{details}")
        if message.type in (Gst.MessageType.ERROR, Gst.MessageType.EOS):
            loop.quit()

    def on_all_pads(_):
        # Without video the muxer would wait for it for ever.
        if not pipeline.get_by_name("video").get_static_pad("sink").is_linked():
            failures.append(f"there is no video in '{args.input}'")
            loop.quit()

    pipeline.get_by_name("decoder").connect("no-more-pads", on_all_pads)
    bus = pipeline.get_bus()
    bus.add_signal_watch()
    bus.connect("message", on_message)
    pipeline.set_state(Gst.State.PLAYING)
    try:
        loop.run()
    except KeyboardInterrupt:
        failures.append("interrupted")
    pipeline.set_state(Gst.State.NULL)
    if failures:
        if os.path.exists(args.output):
            os.remove(args.output)
        sys.exit(failures[0])


if __name__ == "__main__":
    main()
