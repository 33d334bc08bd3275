// SPDX-License-Identifier: MPL-2.0
//! Chunks in time: how many frames go through the VAE at once.
//!
//! The sizes matter: normalisation takes its statistics over a chunk, so other sizes give visibly other results.

use std::ops::Range;

/// Frames in the first chunk of an encoding.
const ENCODE_FIRST: usize = 17;
/// Frames in every further chunk of an encoding.
const ENCODE_NEXT: usize = 16;
/// Latent frames in the first chunk of a decoding.
pub(super) const DECODE_FIRST: usize = 3;
/// Latent frames in every further chunk of a decoding.
const DECODE_NEXT: usize = 2;

/// Chunks of a clip of `frames` frames for encoding: 17, 16, 16, …
pub fn encode(frames: usize) -> Vec<Range<usize>> {
    chunks(frames, ENCODE_FIRST, ENCODE_NEXT)
}

/// Chunks of `latents` latent frames for decoding: 3, 2, 2, …
///
/// The reference has no last chunk of one latent frame and loses it; here it becomes frames like all others.
pub fn decode(latents: usize) -> Vec<Range<usize>> {
    chunks(latents, DECODE_FIRST, DECODE_NEXT)
}

fn chunks(len: usize, first: usize, next: usize) -> Vec<Range<usize>> {
    let mut start = 0;
    let mut out = Vec::new();
    while start < len {
        let size = if start == 0 { first } else { next };
        let end = (start + size).min(len);
        out.push(start..end);
        start = end;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_of_the_release() {
        assert_eq!(encode(49), [0..17, 17..33, 33..49]);
        assert_eq!(decode(13), [0..3, 3..5, 5..7, 7..9, 9..11, 11..13]);
        assert_eq!(decode(4), [0..3, 3..4]);
        assert_eq!(decode(2).len() + encode(1).len(), 2);
        assert!(decode(0).is_empty());
    }
}
