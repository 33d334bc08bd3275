// SPDX-License-Identifier: MPL-2.0
//! Clips that are kept, so that seeking and going round do not make them again.

use std::collections::VecDeque;

use flashvideo::{Frame, GenerateOptions};

/// Bytes of pictures that are kept: 14 clips of 49 frames of 480x270. A clip that had to go is made again when it is
/// wanted again, and is the same.
pub(super) const CAPACITY: usize = 256 << 20;

/// A clip, as far as it is made.
#[derive(Debug)]
pub(super) struct Clip {
    pub options: GenerateOptions,
    pub frames: Vec<Frame>,
    pub complete: bool,
}

impl Clip {
    /// Bytes that all its frames will have, 8-bit R, G, B.
    fn bytes(&self) -> usize {
        3 * self.options.frames * self.options.size.pixels()
    }
}

/// Clips by what they show, the last used one in front.
#[derive(Debug, Default)]
pub(super) struct Cache(VecDeque<Clip>);

impl Cache {
    /// The clip that `options` stand for.
    pub fn get(&mut self, options: &GenerateOptions) -> Option<&Clip> {
        let index = self.0.iter().position(|clip| clip.options == *options)?;
        if index > 0 {
            let clip = self.0.remove(index)?;
            self.0.push_front(clip);
        }
        self.0.front()
    }

    /// Whether the whole clip is there.
    pub fn has(&self, options: &GenerateOptions) -> bool {
        let found = self.0.iter().find(|clip| clip.options == *options);
        found.is_some_and(|clip| clip.complete)
    }

    /// Makes room for a new clip, but keeps those that are `wanted`.
    pub fn begin(&mut self, options: &GenerateOptions, wanted: &[GenerateOptions]) {
        self.remove(options);
        self.0.push_front(Clip {
            options: options.clone(),
            frames: Vec::new(),
            complete: false,
        });
        while self.bytes() > CAPACITY {
            let old = self
                .0
                .iter()
                .rposition(|clip| clip.options != *options && !wanted.contains(&clip.options));
            match old {
                Some(index) => drop(self.0.remove(index)),
                None => break,
            }
        }
    }

    /// Adds a frame to the clip of `options`, if that is still there.
    pub fn push(&mut self, options: &GenerateOptions, frame: Frame) {
        if let Some(clip) = self.find(options) {
            clip.frames.push(frame);
        }
    }

    /// All frames of the clip are there.
    pub fn complete(&mut self, options: &GenerateOptions) {
        if let Some(clip) = self.find(options) {
            clip.complete = true;
        }
    }

    /// Forgets the clip of `options`.
    pub fn remove(&mut self, options: &GenerateOptions) {
        self.0.retain(|clip| clip.options != *options);
    }

    fn find(&mut self, options: &GenerateOptions) -> Option<&mut Clip> {
        self.0.iter_mut().find(|clip| clip.options == *options)
    }

    /// Number of whole clips.
    pub fn clips(&self) -> usize {
        self.0.iter().filter(|clip| clip.complete).count()
    }

    /// Bytes of all clips.
    pub fn bytes(&self) -> usize {
        self.0.iter().map(Clip::bytes).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flashvideo::Size;

    fn options(seed: u64) -> GenerateOptions {
        GenerateOptions {
            seed,
            // Four of them fill the cache.
            size: Size::new(1 << 10, 1 << 10),
            frames: CAPACITY / (3 << 20) / 4,
            ..GenerateOptions::default()
        }
    }

    #[test]
    fn the_clip_that_was_not_used_longest_goes_first() {
        let mut cache = Cache::default();
        for seed in 0..4 {
            cache.begin(&options(seed), &[]);
            cache.complete(&options(seed));
        }
        assert_eq!(cache.clips(), 4);
        assert!(cache.get(&options(0)).is_some());
        cache.begin(&options(4), &[options(1)]);
        assert!(cache.bytes() <= CAPACITY && !cache.has(&options(2)));
        assert!([0, 1, 3].into_iter().all(|seed| cache.has(&options(seed))));
        assert!(!cache.has(&options(4)), "it is not complete");
        cache.remove(&options(4));
        assert!(cache.get(&options(4)).is_none());
    }
}
