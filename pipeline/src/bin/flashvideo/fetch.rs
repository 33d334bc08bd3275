//! `flashvideo fetch`: the released weights from the Hugging Face hub.

use std::fs::{self, File};
use std::io::{self, BufRead, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use flashvideo::{Error, Result};
use hf_hub::api::sync::{Api, ApiBuilder};
use indicatif::HumanBytes;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::Outcome;
use crate::write::bytes_bar;

/// Fetches the released weights into a folder that the other commands and the elements take as a model.
///
/// Interrupted downloads go on where they ended. HF_ENDPOINT names another server, HF_HOME the folder of the token.
#[derive(Args)]
pub struct Fetch {
    /// The folder to fill.
    folder: PathBuf,
    /// Agrees to the licences without asking.
    #[arg(long)]
    yes: bool,
    /// Leaves out the text encoder, the largest download.
    #[arg(long)]
    without_text: bool,
}

const MODEL: &str = "FoundationVision/FlashVideo";
const TEXT: &str = "google/t5-v1_1-xxl";
const TEXT_FOLDER: &str = "text_encoder";
/// Where incomplete files wait, inside of the folder.
const UNFINISHED: &str = ".unfinished";
const RETRIES: usize = 5;

/// What the hub says about a repository.
#[derive(Deserialize)]
struct Repository {
    siblings: Vec<Remote>,
    #[serde(default)]
    tags: Vec<String>,
    #[serde(default, rename = "cardData")]
    card: serde_json::Value,
}

#[derive(Clone, Deserialize)]
struct Remote {
    rfilename: String,
    size: Option<u64>,
    lfs: Option<Lfs>,
}

#[derive(Clone, Deserialize)]
struct Lfs {
    sha256: String,
    size: u64,
}

impl Remote {
    fn bytes(&self) -> Option<u64> {
        self.lfs.as_ref().map(|lfs| lfs.size).or(self.size)
    }
}

/// A file to fetch and where it goes.
struct Item {
    repository: &'static str,
    remote: Remote,
    target: PathBuf,
}

impl Fetch {
    /// Runs the command; exit code 1 when the licences were not agreed to.
    pub fn run(&self) -> Outcome {
        let unfinished = self.folder.join(UNFINISHED);
        fs::create_dir_all(&unfinished).map_err(|e| Error::io(&unfinished, e))?;
        let unfinished = unfinished
            .canonicalize()
            .map_err(|e| Error::io(&unfinished, e))?;
        let api = ApiBuilder::from_env()
            .with_cache_dir(unfinished.clone())
            .with_retries(RETRIES)
            .build()
            .map_err(|e| Error::invalid(format!("cannot set up the connection: {e}")))?;
        let items = self.items(&api)?;
        let total: u64 = items.iter().filter_map(|item| item.remote.bytes()).sum();
        if !self.yes
            && !agreed(&format!(
                "Fetch {} into {}?",
                HumanBytes(total),
                self.folder.display()
            ))?
        {
            eprintln!("nothing was fetched");
            return Ok(ExitCode::FAILURE);
        }
        for item in &items {
            item.fetch(&api)?;
        }
        fs::remove_dir_all(&unfinished).map_err(|e| Error::io(&unfinished, e))?;
        println!("{}: complete", self.folder.display());
        Ok(ExitCode::SUCCESS)
    }

    /// All files, after printing them and their licences.
    fn items(&self, api: &Api) -> Result<Vec<Item>> {
        let mut items = Vec::new();
        let repositories = [(MODEL, PathBuf::new()), (TEXT, PathBuf::from(TEXT_FOLDER))];
        for (repository, folder) in
            repositories
                .into_iter()
                .take(if self.without_text { 1 } else { 2 })
        {
            let found: Repository = api
                .model(repository.to_owned())
                .info_request()
                .query("blobs", "true")
                .call()
                .map_err(|e| failed(repository, &e))?
                .into_json()
                .map_err(|e| failed(repository, &e))?;
            println!("{repository}, licence: {}", licence(&found));
            let files = match repository {
                MODEL => ["stage1.pt", "stage2.pt", "3d-vae.pt"]
                    .map(str::to_owned)
                    .to_vec(),
                _ => text_files(&found)?,
            };
            for name in files {
                let remote = found
                    .siblings
                    .iter()
                    .find(|remote| remote.rfilename == name)
                    .cloned();
                let remote = remote.ok_or_else(|| {
                    Error::invalid(format!("{repository} has no {name} any more"))
                })?;
                let size = remote
                    .bytes()
                    .map(|size| HumanBytes(size).to_string())
                    .unwrap_or_default();
                println!("  {name}  {size}");
                items.push(Item {
                    repository,
                    target: self.folder.join(&folder).join(&name),
                    remote,
                });
            }
        }
        Ok(items)
    }
}

/// The files of a T5 encoder: tokenizer and weights, those that can be mapped before pickles.
fn text_files(repository: &Repository) -> Result<Vec<String>> {
    let names = || {
        repository
            .siblings
            .iter()
            .map(|remote| &remote.rfilename)
            .filter(|name| !name.contains(['/', '\\']))
    };
    let safe = |name: &&String| {
        name.ends_with(".safetensors") || name.ends_with(".safetensors.index.json")
    };
    let pickled = |name: &&String| {
        name.starts_with("pytorch_model") && (name.ends_with(".bin") || name.ends_with(".json"))
    };
    let mut weights: Vec<String> = names().filter(safe).cloned().collect();
    if weights.is_empty() {
        weights = names().filter(pickled).cloned().collect();
    }
    if weights.is_empty() {
        return Err(Error::invalid(format!("{TEXT} has no weights any more")));
    }
    Ok([
        vec!["config.json".to_owned(), "spiece.model".to_owned()],
        weights,
    ]
    .concat())
}

fn licence(repository: &Repository) -> String {
    let card = repository
        .card
        .get("license")
        .and_then(|licence| licence.as_str());
    let tag = repository
        .tags
        .iter()
        .find_map(|tag| tag.strip_prefix("license:"));
    card.or(tag)
        .unwrap_or("not stated, see its page")
        .to_owned()
}

fn agreed(question: &str) -> Result<bool> {
    let asked = || -> io::Result<String> {
        print!("{question} This agrees to the licences above. [y/N] ");
        io::stdout().flush()?;
        let mut answer = String::new();
        io::stdin().lock().read_line(&mut answer)?;
        Ok(answer)
    };
    let answer = asked().map_err(|e| Error::io("standard input", e))?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

impl Item {
    fn fetch(&self, api: &Api) -> Result<()> {
        let name = &self.remote.rfilename;
        if self.target.is_file() && self.check(&self.target).is_ok() {
            println!("{name}: here already");
            return Ok(());
        }
        let pointer = api
            .model(self.repository.to_owned())
            .get(name)
            .map_err(|e| failed(&format!("{}, {name}", self.repository), &e))?;
        let blob = pointer.canonicalize().map_err(|e| Error::io(&pointer, e))?;
        if let Err(problem) = self.check(&blob) {
            // What is wrong stays wrong: the next attempt begins anew.
            fs::remove_file(&blob).map_err(|e| Error::io(&blob, e))?;
            return Err(problem);
        }
        if let Some(folder) = self.target.parent() {
            fs::create_dir_all(folder).map_err(|e| Error::io(folder, e))?;
        }
        fs::rename(&blob, &self.target).map_err(|e| Error::io(&self.target, e))
    }

    /// Compares size and SHA-256 of `file` with what the hub says; it states no SHA-256 for small text files.
    fn check(&self, file: &Path) -> Result<()> {
        let name = &self.remote.rfilename;
        let found = fs::metadata(file).map_err(|e| Error::io(file, e))?.len();
        if let Some(expected) = self.remote.bytes().filter(|&expected| expected != found) {
            return Err(Error::invalid(format!(
                "{name}: expected {expected} bytes, found {found}; run the command again"
            )));
        }
        if let Some(lfs) = &self.remote.lfs {
            let found = sha256(file).map_err(|e| Error::io(file, e))?;
            if found != lfs.sha256.to_lowercase() {
                return Err(Error::invalid(format!(
                    "{name}: expected the SHA-256 {}, found {found}; run the command again",
                    lfs.sha256
                )));
            }
        }
        Ok(())
    }
}

fn sha256(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let bar = bytes_bar(file.metadata()?.len());
    bar.set_message("checking");
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            count => {
                hash.update(&buffer[..count]);
                bar.inc(count as u64);
            }
        }
    }
    bar.finish_and_clear();
    Ok(hash
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect())
}

fn failed(what: &str, error: &dyn std::error::Error) -> Error {
    Error::invalid(format!(
        "{what}: {error}; check the network (and HF_ENDPOINT, if it is set) and run the command again, it goes on where it ended"
    ))
}
