# SPDX-License-Identifier: MPL-2.0
"""The family of networks on the grid of the output: factors 1, 2 and 4, luma and chroma. See README.md beside this file."""
