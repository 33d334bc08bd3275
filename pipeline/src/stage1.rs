//! Stage I: prompt to clip.
