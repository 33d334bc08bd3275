// SPDX-License-Identifier: MPL-2.0
//! A whole text-to-video model in one safetensors file.
//!
//! | tensors | what |
//! |---|---|
//! | `dit.*` | the diffusion transformer, under the release's names |
//! | `vae.*` | the VAE, of which the decoder is enough |
//! | `text.*` | the T5 encoder, under Hugging Face's names |
//! | `tokenizer` | the bytes of `spiece.model` |
//!
//! The note `flashvideo` in the header is a JSON object, [`GeneratorInfo`].

use std::path::{Path, PathBuf};

use candle_core::{DType, Device};
use serde::Deserialize;

use super::Checkpoint;
use crate::error::{Error, Result};
use crate::size::Size;

/// Key of the note.
pub(super) const NOTE: &str = "flashvideo";
/// What a file of this kind calls itself.
const KIND: &str = "generator";
/// Limits of what a file may say, so that a damaged one does not ask for all memory.
const MAX_SIDE: usize = 4096;
const MAX_FRAMES: usize = 4096;
const MAX_TOKENS: usize = 4096;

/// How the guidance scale follows from its strength.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GuidanceRule {
    /// The strength is the scale of every step.
    Constant,
    /// Less and less, see [`Guidance::Falling`](crate::flow::guidance::Guidance::Falling).
    Falling,
    /// The release's ramp, see [`DynamicGuidance`](crate::flow::guidance::DynamicGuidance).
    Dynamic,
}

/// What a model says about itself.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct GeneratorInfo {
    /// Its name.
    pub name: String,
    /// Columns of the clip.
    pub width: usize,
    /// Rows of the clip.
    pub height: usize,
    /// Columns that are generated; what is more than `width` is cut off, half on each side.
    pub grid_width: usize,
    /// Rows that are generated; what is more than `height` is cut off, half above and half below.
    pub grid_height: usize,
    /// Frames of a whole clip, 4k + 1; also the most that can be asked for.
    pub frames: usize,
    /// Frames in a second.
    pub fps: u32,
    /// Tokens that a prompt is cut or filled up to.
    pub tokens: usize,
    /// Sampling steps.
    pub steps: usize,
    /// Strength of the guidance.
    pub guidance: f64,
    /// What becomes of that strength.
    pub guidance_rule: GuidanceRule,
    /// What latents are divided by before they are decoded.
    pub latent_scale: f64,
    /// Groups of the VAE's normalisations.
    pub vae_groups: usize,
    /// A prompt that shows the model well.
    #[serde(default)]
    pub prompt: String,
    /// Lower-case words that the model was trained with; none when it knows the language.
    #[serde(default)]
    pub words: Vec<String>,
    /// What the model can show, in a sentence for people.
    #[serde(default)]
    pub world: String,
}

impl GeneratorInfo {
    /// Size of the clip.
    pub fn size(&self) -> Size {
        Size::new(self.width, self.height)
    }

    /// Size of what is generated.
    pub fn grid(&self) -> Size {
        Size::new(self.grid_width, self.grid_height)
    }

    /// Whether `prompt` has a word that the model was trained with.
    pub fn knows(&self, prompt: &str) -> bool {
        self.words.is_empty()
            || prompt
                .split(|c: char| !c.is_alphanumeric())
                .map(str::to_lowercase)
                .any(|word| !word.is_empty() && self.words.contains(&word))
    }

    fn problem(&self) -> Option<String> {
        let within = |value: usize, most: usize| (1..=most).contains(&value);
        let (size, grid) = (self.size(), self.grid());
        if ![size.width, size.height, grid.width, grid.height]
            .into_iter()
            .all(|side| within(side, MAX_SIDE))
            || size.width > grid.width
            || size.height > grid.height
        {
            return Some(format!("clips of {size} on a grid of {grid}"));
        }
        if !within(self.frames, MAX_FRAMES) || self.frames % 4 != 1 {
            return Some(format!(
                "clips of {} frames; the number must be one more than a multiple of 4",
                self.frames
            ));
        }
        if !within(self.tokens, MAX_TOKENS) || self.fps == 0 || self.vae_groups == 0 {
            return Some(format!(
                "{} tokens, {} frames in a second and {} groups",
                self.tokens, self.fps, self.vae_groups
            ));
        }
        if !(2..=1000).contains(&self.steps) || !self.guidance.is_finite() {
            return Some(format!(
                "{} steps with a guidance of {}",
                self.steps, self.guidance
            ));
        }
        if !(self.latent_scale.is_finite() && self.latent_scale > 0.0) {
            return Some(format!("latents scaled by {}", self.latent_scale));
        }
        None
    }
}

/// The note of a file of any kind.
#[derive(Deserialize)]
struct Note {
    kind: String,
}

/// The note in the header of `checkpoint`, which must be of the kind `kind`.
pub(super) fn note<T: for<'a> Deserialize<'a>>(
    checkpoint: &Checkpoint,
    kind: &str,
    what: &str,
) -> Result<T> {
    let fail = |problem: String| Error::checkpoint(checkpoint.path(), problem);
    let text = checkpoint.note(NOTE).ok_or_else(|| {
        fail(format!(
            "not {what} of FlashVideo: its header has no note \"{NOTE}\""
        ))
    })?;
    let found: Note = serde_json::from_str(text)
        .map_err(|e| fail(format!("the note \"{NOTE}\" in its header: {e}")))?;
    if found.kind != kind {
        return Err(fail(format!(
            "a file of the kind \"{}\" where {what} (\"{kind}\") is needed",
            found.kind
        )));
    }
    serde_json::from_str(text).map_err(|e| fail(format!("the note \"{NOTE}\" in its header: {e}")))
}

/// A text-to-video model in one file. Nothing but the header is read before a part is asked for.
#[derive(Clone, Debug)]
pub struct GeneratorFile {
    checkpoint: Checkpoint,
    info: GeneratorInfo,
}

impl GeneratorFile {
    /// The model in the file at `path`.
    ///
    /// # Errors
    /// [`Error::Io`], or [`Error::Checkpoint`] when it is not such a file or says what cannot be.
    pub fn open(path: &Path) -> Result<Self> {
        Self::new(Checkpoint::open(path)?)
    }

    /// The model in `bytes`, which are part of the program.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn from_static(name: impl Into<PathBuf>, bytes: &'static [u8]) -> Result<Self> {
        Self::new(Checkpoint::from_static(name, bytes)?)
    }

    fn new(checkpoint: Checkpoint) -> Result<Self> {
        let info: GeneratorInfo = note(&checkpoint, KIND, "a text-to-video model")?;
        match info.problem() {
            Some(problem) => Err(Error::checkpoint(
                checkpoint.path(),
                format!("its header promises {problem}"),
            )),
            None => Ok(Self { checkpoint, info }),
        }
    }

    /// The file, or the name of a built-in model.
    pub fn path(&self) -> &Path {
        self.checkpoint.path()
    }

    /// What the model says about itself.
    pub fn info(&self) -> &GeneratorInfo {
        &self.info
    }

    /// The weights of the transformer.
    ///
    /// # Errors
    /// As [`Checkpoint::into_dit`].
    pub fn dit(&self) -> Result<Checkpoint> {
        self.checkpoint.under("dit.").into_dit()
    }

    /// The weights of the VAE.
    pub fn vae(&self) -> Checkpoint {
        self.checkpoint.under("vae.").into_vae()
    }

    /// The weights of the text encoder.
    pub fn text(&self) -> Checkpoint {
        self.checkpoint.under("text.").into_t5()
    }

    /// The bytes of `spiece.model`.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] when there are none.
    pub fn tokenizer(&self) -> Result<Vec<u8>> {
        let bytes = self
            .checkpoint
            .tensor("tokenizer", &Device::Cpu, DType::U8)?;
        Ok(bytes.flatten_all()?.to_vec1()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info() -> GeneratorInfo {
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
            prompt: String::new(),
            words: vec!["balloon".to_owned(), "red".to_owned()],
            world: String::new(),
        }
    }

    #[test]
    fn words_are_found_in_any_case_and_punctuation() {
        let info = info();
        assert!(info.knows("A big,Red\nthing"));
        assert!(!info.knows("a redder thing, balloons"));
        assert!(!info.knows(""));
        let any = GeneratorInfo {
            words: Vec::new(),
            ..info
        };
        assert!(any.knows("whatever"));
    }

    #[test]
    fn impossible_promises_are_found() {
        assert_eq!(info().problem(), None);
        let changes: [fn(&mut GeneratorInfo); 8] = [
            |i| i.grid_height = 50,
            |i| i.width = 0,
            |i| i.frames = 8,
            |i| i.frames = 1 << 40 | 1,
            |i| i.steps = 1,
            |i| i.guidance = f64::NAN,
            |i| i.latent_scale = 0.0,
            |i| i.vae_groups = 0,
        ];
        for change in changes {
            let mut info = info();
            change(&mut info);
            assert!(info.problem().is_some(), "{info:?}");
        }
    }

    #[test]
    fn other_files_are_refused() {
        let empty = Checkpoint::from_tensors(Default::default()).unwrap();
        let error = GeneratorFile::new(empty.clone()).unwrap_err().to_string();
        assert!(error.contains("no note"), "{error}");
        for (note, says) in [
            ("[", "EOF"),
            (r#"{"kind":"lora"}"#, "kind \"lora\""),
            (r#"{"kind":"generator"}"#, "missing field"),
        ] {
            let mut other = empty.clone();
            other.notes.insert(NOTE.to_owned(), note.to_owned());
            let error = GeneratorFile::new(other).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}
