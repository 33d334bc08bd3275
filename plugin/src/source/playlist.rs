// SPDX-License-Identifier: MPL-2.0
//! Which clip comes when.
//!
//! Clips are counted from 0 for as long as the stream goes on, also when it goes round. What a clip shows is fixed when
//! it begins; changed settings are for the clips after it.

use flashvideo::{GenerateOptions, GeneratorInfo, Size};

use super::prompts;
use super::settings::{Clips, Settings};

/// What the clips from a certain one on have in common.
#[derive(Clone, Debug, PartialEq)]
struct Stretch {
    first: u64,
    prompts: Vec<String>,
    seed: u64,
    steps: usize,
    guidance: f64,
}

/// The clips of a stream.
#[derive(Clone, Debug)]
pub(super) struct Playlist {
    /// By their first clip; the first stretch begins with clip 0.
    stretches: Vec<Stretch>,
    from_file: bool,
    /// Clips until the end, or until it goes round; `None`: there is no end.
    clips: Option<u64>,
    repeat: bool,
    frames: usize,
    size: Size,
}

impl Playlist {
    /// The clips that `settings` ask of the model described by `info`; `prompts` are those of the file, if there is one.
    pub fn new(
        settings: &Settings,
        info: &GeneratorInfo,
        prompts: Option<Vec<String>>,
        random: u64,
    ) -> Self {
        let from_file = prompts.is_some();
        let prompts = prompts.unwrap_or_else(|| vec![settings.prompt(info).to_owned()]);
        let clips = match settings.num_clips {
            Clips::OneForEachPrompt => Some(prompts.len() as u64),
            Clips::Endless => None,
            Clips::Exactly(clips) => Some(clips),
        };
        Self {
            stretches: vec![stretch(0, prompts, settings, info, random)],
            from_file,
            clips,
            repeat: settings.repeat,
            frames: settings.frames(info),
            size: info.size(),
        }
    }

    /// Frames of a clip.
    pub fn frames(&self) -> usize {
        self.frames
    }

    /// All frames, if there is an end.
    pub fn total(&self) -> Option<u64> {
        let clips = self.clips.filter(|_| !self.repeat)?;
        Some(clips.saturating_mul(self.frames as u64))
    }

    /// Frames are generated in this size from now on.
    pub fn set_size(&mut self, size: Size) {
        self.size = size;
    }

    /// Clips from `first` on follow `settings`; a prompt that is none leaves the one before it.
    pub fn change(&mut self, first: u64, settings: &Settings, info: &GeneratorInfo, random: u64) {
        let Some(last) = self.stretches.last() else {
            return;
        };
        let prompt = settings.prompt(info);
        let prompts = if self.from_file || prompts::problem(prompt).is_some() {
            last.prompts.clone()
        } else {
            vec![prompt.to_owned()]
        };
        self.stretches.retain(|stretch| stretch.first < first);
        let new = stretch(first, prompts, settings, info, random);
        let differs = |last: &Stretch| {
            *last
                != Stretch {
                    first: last.first,
                    ..new.clone()
                }
        };
        if self.stretches.last().is_none_or(differs) {
            self.stretches.push(new);
        }
    }

    /// What clip `index` shows; nothing after the last one.
    pub fn clip(&self, index: u64) -> Option<GenerateOptions> {
        let place = match self.clips {
            None => index,
            Some(clips) if self.repeat => index % clips.max(1),
            Some(clips) if index < clips => index,
            Some(_) => return None,
        };
        let stretch = self
            .stretches
            .iter()
            .rev()
            .find(|stretch| stretch.first <= index)
            .or(self.stretches.first())?;
        let line = (place % stretch.prompts.len().max(1) as u64) as usize;
        Some(GenerateOptions {
            prompt: stretch.prompts.get(line)?.clone(),
            seed: stretch.seed.wrapping_add(place),
            steps: stretch.steps,
            guidance: stretch.guidance,
            size: self.size,
            frames: self.frames,
        })
    }
}

fn stretch(
    first: u64,
    prompts: Vec<String>,
    settings: &Settings,
    info: &GeneratorInfo,
    random: u64,
) -> Stretch {
    Stretch {
        first,
        prompts,
        seed: settings.seed.unwrap_or(random),
        steps: settings.steps(info),
        guidance: settings.guidance(info),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use flashvideo::checkpoint::GuidanceRule;

    pub fn info() -> GeneratorInfo {
        GeneratorInfo {
            name: "test".to_owned(),
            width: 96,
            height: 54,
            grid_width: 96,
            grid_height: 64,
            frames: 9,
            fps: 8,
            tokens: 16,
            steps: 4,
            guidance: 2.0,
            guidance_rule: GuidanceRule::Constant,
            latent_scale: 1.0,
            vae_groups: 4,
            prompt: "the model's own".to_owned(),
            words: Vec::new(),
            world: String::new(),
        }
    }

    fn named(prompt: &str) -> Settings {
        Settings {
            prompt: Some(prompt.to_owned()),
            ..Settings::default()
        }
    }

    #[test]
    fn one_clip_of_the_model_itself() {
        let list = Playlist::new(&Settings::default(), &info(), None, 7);
        let clip = list.clip(0).unwrap();
        assert_eq!((clip.prompt.as_str(), clip.seed), ("the model's own", 0));
        assert_eq!((clip.steps, clip.guidance, clip.frames), (4, 2.0, 9));
        assert_eq!((list.clip(1), list.total()), (None, Some(9)));
    }

    #[test]
    fn a_file_gives_one_clip_for_each_line() {
        let lines = || Some(vec!["one".to_owned(), "two".to_owned()]);
        let settings = Settings {
            seed: Some(40),
            ..Settings::default()
        };
        let list = Playlist::new(&settings, &info(), lines(), 7);
        let shown = |list: &Playlist, index| {
            let clip = list.clip(index)?;
            Some((clip.prompt, clip.seed))
        };
        assert_eq!(shown(&list, 1), Some(("two".to_owned(), 41)));
        assert_eq!((list.clip(2), list.total()), (None, Some(18)));
        let endless = Settings {
            num_clips: Clips::Endless,
            ..settings.clone()
        };
        let list = Playlist::new(&endless, &info(), lines(), 7);
        assert_eq!(shown(&list, 4), Some(("one".to_owned(), 44)));
        assert_eq!(list.total(), None);
        let round = Settings {
            repeat: true,
            ..settings
        };
        let list = Playlist::new(&round, &info(), lines(), 7);
        assert_eq!((list.clip(5), list.total()), (list.clip(1), None));
    }

    #[test]
    fn changes_are_for_the_clips_after_them() {
        let endless = |prompt| Settings {
            num_clips: Clips::Endless,
            ..named(prompt)
        };
        let mut list = Playlist::new(&endless("a"), &info(), None, 7);
        list.change(3, &endless("b"), &info(), 7);
        list.change(2, &endless("c"), &info(), 7);
        list.change(2, &endless("c"), &info(), 7);
        let prompts: Vec<_> = (0..4).map(|i| list.clip(i).unwrap().prompt).collect();
        assert_eq!(prompts, ["a", "a", "c", "c"]);
        list.change(1, &endless("a"), &info(), 7);
        assert_eq!(list.stretches.len(), 1);
    }

    #[test]
    fn a_random_seed_is_the_one_that_was_drawn() {
        let settings = Settings {
            seed: None,
            ..named("a")
        };
        assert_eq!(
            Playlist::new(&settings, &info(), None, 7)
                .clip(0)
                .unwrap()
                .seed,
            7
        );
    }
}
