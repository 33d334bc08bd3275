# SPDX-License-Identifier: MPL-2.0
"""For shells: eval "$(python3 -m flashvideo)" lets every GStreamer program started from there find the elements."""

import shlex

from flashvideo import plugin_path, preset_path

print(f"export GST_PLUGIN_PATH={shlex.quote(plugin_path())}${{GST_PLUGIN_PATH:+:$GST_PLUGIN_PATH}}")
print(f"export GST_PRESET_PATH={shlex.quote(preset_path())}${{GST_PRESET_PATH:+:$GST_PRESET_PATH}}")
