# SPDX-License-Identifier: MPL-2.0
"""flashupscale as an effect on a clip of a GStreamer Editing Services timeline.

    ges_effect.py CLIP      a clip of 64x48 pixels, a second or longer, 25 frames each second

Plays from half of the clip on, seeks, and prints a JSON object with what arrived at the end of the timeline.
"""

import json
import pathlib
import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GES", "1.0")
from gi.repository import GES, Gst  # noqa: E402

PATIENCE = 120 * Gst.SECOND
SIZE = (256, 192)


def wait(pipeline, *kinds):
    """The next message of these kinds; an error ends the program."""
    wanted = Gst.MessageType.ERROR
    for kind in kinds:
        wanted |= kind
    message = pipeline.get_bus().timed_pop_filtered(PATIENCE, wanted)
    if message is None:
        sys.exit("nothing happened for two minutes")
    if message.type == Gst.MessageType.ERROR:
        error, detail = message.parse_error()
        sys.exit(f"{message.src.get_name()}: {error.message} ({detail})")
    return message


def caps_size(pad):
    structure = pad.get_current_caps().get_structure(0)
    return [structure.get_value("width"), structure.get_value("height")]


def main():
    Gst.init(None)
    GES.init()
    timeline = GES.Timeline.new()
    track = GES.VideoTrack.new()
    width, height = SIZE
    caps = f"video/x-raw,width={width},height={height},framerate=25/1"
    track.set_restriction_caps(Gst.Caps.from_string(caps))
    timeline.add_track(track)
    asset = GES.UriClipAsset.request_sync(pathlib.Path(sys.argv[1]).resolve().as_uri())
    clip = timeline.append_layer().add_asset(asset, 0, Gst.SECOND // 5, Gst.SECOND * 3 // 5, GES.TrackType.VIDEO)
    effect = GES.Effect.new("flashupscale preset=live")
    if not clip.add(effect):
        sys.exit("GES does not take flashupscale as an effect")
    # The editor shows the element's properties as settings of the effect.
    if not effect.set_child_property("scale", 4.0) or effect.get_child_property("scale") != (True, 4.0):
        sys.exit("the effect has no property 'scale'")
    timeline.commit()

    pipeline = GES.Pipeline.new()
    pipeline.set_timeline(timeline)
    sink = Gst.ElementFactory.make("fakesink")
    sink.set_property("sync", False)
    sink.set_property("signal-handoffs", True)
    times = []
    sink.connect("handoff", lambda _, buffer, __: times.append(buffer.pts))
    pipeline.preview_set_video_sink(sink)
    pipeline.set_mode(GES.PipelineFlags.VIDEO_PREVIEW)
    pipeline.set_state(Gst.State.PAUSED)
    wait(pipeline, Gst.MessageType.ASYNC_DONE)
    upscale = effect.get_nleobject().iterate_recurse()
    upscale = [e for e in elements(upscale) if e.get_factory() and e.get_factory().get_name() == "flashupscale"]
    sizes = [caps_size(upscale[0].get_static_pad(name)) for name in ("sink", "src")]
    pipeline.seek_simple(Gst.Format.TIME, Gst.SeekFlags.FLUSH | Gst.SeekFlags.ACCURATE, Gst.SECOND // 5)
    wait(pipeline, Gst.MessageType.ASYNC_DONE)
    times.clear()
    pipeline.set_state(Gst.State.PLAYING)
    wait(pipeline, Gst.MessageType.EOS)
    final = caps_size(sink.get_static_pad("sink"))
    pipeline.set_state(Gst.State.NULL)
    # GES 1.22 shows a frame at the very end too, whatever the effect.
    end = Gst.SECOND * 3 // 5
    milliseconds = sorted({time // Gst.MSECOND for time in times if time < end})
    print(json.dumps(dict(effects=len(upscale), sink=sizes[0], src=sizes[1], final=final, times=milliseconds)))


def elements(iterator):
    while True:
        result, element = iterator.next()
        if result != Gst.IteratorResult.OK:
            return
        yield element


if __name__ == "__main__":
    main()
