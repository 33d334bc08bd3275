// SPDX-License-Identifier: MPL-2.0
//! Model folders: which file is which part.

use std::fs;
use std::path::{Path, PathBuf};

use super::Checkpoint;
use crate::error::{Error, Result};

/// Where a folder comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// FlashVideo's own files: `stage1.pt`, `stage2.pt`, `3d-vae.pt`.
    Release,
    /// Written by `flashvideo convert`: the same names with `.safetensors` or `.gguf`.
    Converted,
    /// A CogVideoX folder in the layout of diffusers: `transformer/`, `vae/`, `text_encoder/`.
    Diffusers,
}

/// The parts of a model on disk. Parts may be absent: Stage II alone is a model of its own.
#[derive(Clone, Debug)]
pub struct ModelFolder {
    /// The folder.
    pub path: PathBuf,
    /// Where it comes from.
    pub layout: Layout,
    /// Weights of Stage I.
    pub stage1: Option<PathBuf>,
    /// Weights of Stage II.
    pub stage2: Option<PathBuf>,
    /// Weights of the causal 3D VAE.
    pub vae: Option<PathBuf>,
    /// Weights of the T5 encoder.
    pub text_encoder: Option<PathBuf>,
    /// `spiece.model`.
    pub tokenizer: Option<PathBuf>,
}

const TEXT_FOLDERS: [&str; 5] = [
    "text_encoder",
    "t5",
    "t5-v1_1-xxl",
    "google/t5-v1_1-xxl",
    ".",
];
const HINT: &str = "run `flashvideo fetch` for the released weights, or give a folder with stage1.pt, stage2.pt and \
                    3d-vae.pt, one written by `flashvideo convert`, or a CogVideoX folder of diffusers";

impl ModelFolder {
    /// Looks what lies in the folder at `path`. Nothing is read yet.
    ///
    /// # Errors
    /// [`Error::ModelNotFound`] when `path` is no folder or holds no part of a model.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let part = |stem: &str| {
            ["gguf", "safetensors", "safetensors.index.json", "pt"]
                .map(|extension| path.join(format!("{stem}.{extension}")))
                .into_iter()
                .find(|file| file.is_file())
        };
        let weights = |folder: &str| find_weights(&path.join(folder)).ok();
        let mut found = Self {
            path: path.to_owned(),
            layout: Layout::Release,
            stage1: part("stage1"),
            stage2: part("stage2"),
            vae: part("3d-vae"),
            text_encoder: TEXT_FOLDERS
                .iter()
                .filter(|name| **name != ".")
                .find_map(|name| weights(name))
                .or_else(|| part("t5")),
            tokenizer: None,
        };
        let from_release = |file: &Option<PathBuf>| {
            file.as_ref()
                .is_none_or(|f| f.extension().is_some_and(|e| e == "pt"))
        };
        if ![&found.stage1, &found.stage2, &found.vae]
            .into_iter()
            .all(from_release)
        {
            found.layout = Layout::Converted;
        } else if let (None, None, Some(transformer)) =
            (&found.stage1, &found.stage2, weights("transformer"))
        {
            found.layout = Layout::Diffusers;
            found.stage1 = Some(transformer);
            found.vae = weights("vae");
        }
        found.tokenizer = TEXT_FOLDERS
            .iter()
            .chain(["tokenizer"].iter())
            .map(|name| path.join(name).join("spiece.model"))
            .find(|file| file.is_file());
        if [
            &found.stage1,
            &found.stage2,
            &found.vae,
            &found.text_encoder,
        ]
        .into_iter()
        .all(Option::is_none)
        {
            return Err(Error::ModelNotFound {
                name: path.display().to_string(),
                hint: HINT.to_owned(),
            });
        }
        Ok(found)
    }

    /// The weights of Stage I under the release's names without `model.diffusion_model.`.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] when the part is absent or damaged.
    pub fn open_stage1(&self) -> Result<Checkpoint> {
        Checkpoint::open(self.part("Stage I", "stage1.pt", &self.stage1)?)?.into_dit()
    }

    /// The weights of Stage II under the release's names without `model.diffusion_model.`.
    ///
    /// # Errors
    /// As [`open_stage1`](Self::open_stage1).
    pub fn open_stage2(&self) -> Result<Checkpoint> {
        Checkpoint::open(self.part("Stage II", "stage2.pt", &self.stage2)?)?.into_dit()
    }

    /// The weights of the VAE under the release's names.
    ///
    /// # Errors
    /// As [`open_stage1`](Self::open_stage1).
    pub fn open_vae(&self) -> Result<Checkpoint> {
        Ok(Checkpoint::open(self.part("the VAE", "3d-vae.pt", &self.vae)?)?.into_vae())
    }

    /// The weights of the T5 encoder under Hugging Face's names.
    ///
    /// # Errors
    /// As [`open_stage1`](Self::open_stage1).
    pub fn open_text_encoder(&self) -> Result<Checkpoint> {
        let file = self.part("the T5 encoder", "text_encoder/", &self.text_encoder)?;
        Ok(Checkpoint::open(file)?.into_t5())
    }

    /// The file of the tokenizer.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] when it is absent.
    pub fn tokenizer(&self) -> Result<&Path> {
        self.part(
            "the tokenizer",
            "text_encoder/spiece.model",
            &self.tokenizer,
        )
    }

    fn part<'a>(&self, what: &str, usual: &str, file: &'a Option<PathBuf>) -> Result<&'a Path> {
        file.as_deref().ok_or_else(|| {
            Error::checkpoint(
                &self.path,
                format!("{what} is not in this folder (usually {usual}); {HINT}"),
            )
        })
    }
}

/// The weights in the folder of one model: the index of a sharded one, or its only file.
///
/// # Errors
/// [`Error::Checkpoint`] when there are none, or several that belong to no index.
pub fn find_weights(folder: &Path) -> Result<PathBuf> {
    let list = fs::read_dir(folder).map_err(|e| Error::io(folder, e))?;
    let mut files: Vec<PathBuf> = list
        .filter_map(|file| Some(file.ok()?.path()))
        .filter(|f| f.is_file())
        .collect();
    files.sort();
    // Safetensors before GGUF before torch: the first kind that is there is the best of them.
    for ending in [
        ".safetensors.index.json",
        ".safetensors",
        ".gguf",
        ".bin.index.json",
        ".bin",
        ".pt",
    ] {
        let mut of_kind = files.iter().filter(|file| {
            file.file_name()
                .is_some_and(|name| name.to_string_lossy().ends_with(ending))
        });
        match (of_kind.next(), of_kind.next()) {
            (None, _) => {}
            (Some(file), None) => return Ok(file.clone()),
            (Some(_), Some(_)) => {
                return Err(Error::checkpoint(
                    folder,
                    format!(
                        "several {ending} files and no index of them; name the one that is meant"
                    ),
                ));
            }
        }
    }
    Err(Error::checkpoint(
        folder,
        "no weights here (safetensors, GGUF, .bin or .pt)",
    ))
}
