# SPDX-License-Identifier: MPL-2.0
"""Training of the built-in text-to-video model on a drawn storybook world."""
