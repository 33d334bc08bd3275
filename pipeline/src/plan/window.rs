// SPDX-License-Identifier: MPL-2.0
//! Windows of frames: arithmetic alone, the same for every model.
//!
//! A clip of any length is worked on in windows of `granule * k + 1` frames: causal video autoencoders take one frame and
//! then whole granules.

use crate::error::{Error, Result};

/// How the frames of a scene are cut into windows that share frames with the one before.
///
/// Windows begin on whole granules, so that the latent frames of an overlap are those of both windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowShape {
    length: usize,
    overlap: usize,
    granule: usize,
}

impl WindowShape {
    /// Windows of `length` frames, `overlap` of which the one before has, too; after its first frame a latent frame
    /// stands for `granule` frames (4 for the released autoencoder; 1 if every frame stands alone).
    ///
    /// # Errors
    /// [`Error::Invalid`] when `length` is not `granule * k + 1`, or `length - overlap` is not a positive multiple of
    /// `granule`.
    pub fn new(length: usize, overlap: usize, granule: usize) -> Result<Self> {
        let whole = |frames: usize| granule > 0 && frames.is_multiple_of(granule);
        if length == 0 || !whole(length - 1) {
            return Err(Error::invalid(format!(
                "windows of {length} frames; expected {granule} k + 1"
            )));
        }
        if overlap >= length || !whole(length - overlap) {
            return Err(Error::invalid(format!(
                "windows of {length} frames that share {overlap}; what is not shared must be a multiple of {granule}"
            )));
        }
        Ok(Self {
            length,
            overlap,
            granule,
        })
    }

    /// Frames in a window, the most there are.
    pub fn length(&self) -> usize {
        self.length
    }

    /// Frames that consecutive windows of a scene share.
    pub fn overlap(&self) -> usize {
        self.overlap
    }

    /// Frames that a window is the first to have; `continued` when there is one before it in its scene.
    pub fn fresh(&self, continued: bool) -> usize {
        match continued {
            true => self.length - self.overlap,
            false => self.length,
        }
    }

    /// Latent frames from the beginning of a window to that of the next.
    pub fn stride(&self) -> usize {
        (self.length - self.overlap) / self.granule
    }

    /// Latent frames that consecutive windows share, beside the first one of the later window: that one stands for a
    /// single frame there and for a granule before.
    pub fn shared(&self) -> usize {
        self.overlap.saturating_sub(1) / self.granule
    }

    /// Frames after the first of a window that must be there before that is finished.
    pub fn look_ahead(&self) -> usize {
        self.length - 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn windows_of_a_scene_cover_each_frame_and_each_is_fresh_once(
            frames in 1usize..=200,
            k in 0usize..20,
            granule in 1usize..=8,
            strides in 1usize..20,
        ) {
            let length = granule * k + 1;
            let stride = (strides * granule).min(length);
            prop_assume!(stride % granule == 0);
            let shape = WindowShape::new(length, length - stride, granule).unwrap();
            // As a stream does: the fresh frames of a window, behind what it shares with the one before.
            let (mut fresh, mut latent) = (0, 0);
            while fresh < frames {
                let continued = fresh > 0;
                let start = fresh - if continued { shape.overlap() } else { 0 };
                prop_assert_eq!(start, latent * granule);
                let end = (fresh + shape.fresh(continued)).min(frames);
                prop_assert!(end > fresh && end - start <= shape.length());
                // What lies between the first frame and the fresh ones are the shared latent frames.
                if continued && shape.overlap() > 0 {
                    prop_assert_eq!(1 + shape.shared() * granule, shape.overlap());
                }
                latent += shape.stride();
                fresh = end;
            }
            prop_assert_eq!(fresh, frames);
        }
    }

    #[test]
    fn windows_of_the_release() {
        // The second window starts on a granule: 32 frames are 8 latent frames.
        let shape = WindowShape::new(49, 17, 4).unwrap();
        assert_eq!((shape.fresh(false), shape.fresh(true)), (49, 32));
        assert_eq!((shape.stride(), shape.shared()), (8, 4));
        assert_eq!(shape.look_ahead(), 48);
        assert!(WindowShape::new(48, 16, 4).is_err());
        assert!(WindowShape::new(49, 16, 4).is_err());
        assert!(WindowShape::new(49, 49, 4).is_err());
    }
}
