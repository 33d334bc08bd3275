// SPDX-License-Identifier: MPL-2.0
//! The released weights on the Hugging Face hub.
//!
//! `curl` downloads: it is on nearly every system, knows the system's proxies and certificates, and resumes. A library
//! for that would cost a tenth of the time that the whole project takes to build.

use std::fs::{self, File};
use std::io::{self, BufRead, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use flashvideo::{Error, Result};
use indicatif::{HumanBytes, ProgressBar};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::progress::bytes_bar;

const MODEL: &str = "FoundationVision/FlashVideo";
const TEXT: &str = "google/t5-v1_1-xxl";
const TEXT_FOLDER: &str = "text_encoder";
/// Where incomplete files wait, inside of the folder.
const UNFINISHED: &str = ".unfinished";
/// Attempts in a row that may bring nothing.
const ATTEMPTS: u32 = 5;
/// After the first attempt that brought nothing; it is waited longer after each further one.
const PAUSE: Duration = Duration::from_secs(1);
/// What curl ends with where the server always gives the whole file.
const NO_RANGES: i32 = 33;
/// Between two looks at how much has arrived.
const LOOK: Duration = Duration::from_millis(200);

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

/// Fetches the release into `folder`, without the text encoder if `text` is false; asks before anything large is fetched
/// unless `agreed`. Returns whether it is there now: false if the user did not agree to the licences.
///
/// # Errors
/// When the hub cannot be reached, lacks a file or gives a wrong one, or the folder cannot be written.
pub fn fetch(folder: &Path, text: bool, agreed: bool) -> Result<bool> {
    let unfinished = folder.join(UNFINISHED);
    fs::create_dir_all(&unfinished).map_err(|e| Error::io(&unfinished, e))?;
    let hub = Hub::from_env();
    let items = items(&hub, folder, text)?;
    let total: u64 = items.iter().filter_map(|item| item.remote.bytes()).sum();
    if !agreed
        && !agrees(&format!(
            "Fetch {} into {}?",
            HumanBytes(total),
            folder.display()
        ))?
    {
        return Ok(false);
    }
    for item in &items {
        item.fetch(&hub, &unfinished)?;
    }
    fs::remove_dir_all(&unfinished).map_err(|e| Error::io(&unfinished, e))?;
    Ok(true)
}

/// All files that go into `folder`, after printing them and their licences.
fn items(hub: &Hub, folder: &Path, text: bool) -> Result<Vec<Item>> {
    let mut items = Vec::new();
    let repositories = [(MODEL, PathBuf::new()), (TEXT, PathBuf::from(TEXT_FOLDER))];
    for (repository, inner) in repositories.into_iter().take(if text { 2 } else { 1 }) {
        let found = hub.repository(repository)?;
        tell!("{repository}, licence: {}", licence(&found));
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
            let remote = remote
                .ok_or_else(|| Error::invalid(format!("{repository} has no {name} any more")))?;
            let size = remote
                .bytes()
                .map(|size| HumanBytes(size).to_string())
                .unwrap_or_default();
            tell!("  {name}  {size}");
            items.push(Item {
                repository,
                target: folder.join(&inner).join(&name),
                remote,
            });
        }
    }
    Ok(items)
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

fn agrees(question: &str) -> Result<bool> {
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

/// A server with models.
struct Hub {
    endpoint: String,
    token: Option<String>,
}

impl Hub {
    /// The one that `HF_ENDPOINT` names, with the token of `huggingface-cli login` if there is one.
    fn from_env() -> Self {
        let endpoint = std::env::var("HF_ENDPOINT");
        let endpoint = endpoint.unwrap_or_else(|_| "https://huggingface.co".to_owned());
        let home = std::env::var_os("HF_HOME").map(PathBuf::from);
        let home = home.or_else(|| Some(std::env::home_dir()?.join(".cache/huggingface")));
        let token = home.and_then(|home| fs::read_to_string(home.join("token")).ok());
        let token = token.map(|token| token.trim().to_owned());
        Self {
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            token: token.filter(|token| !token.is_empty()),
        }
    }

    /// What the hub says about a repository.
    fn repository(&self, name: &str) -> Result<Repository> {
        let url = format!("{}/api/models/{name}?blobs=true", self.endpoint);
        let answer = self.curl(&url, Stdio::piped(), |_| ()).and_then(|curl| {
            let done = curl.wait_with_output()?;
            refused(done.status, &done.stderr)?;
            Ok(serde_json::from_slice(&done.stdout)?)
        });
        answer.map_err(|e| failed(name, &e))
    }

    /// Adds to `part` what it lacks of a file. What breaks off is asked for again, as long as something comes.
    fn download(&self, repository: &str, remote: &Remote, part: &Path) -> Result<()> {
        let name = &remote.rfilename;
        let url = format!("{}/{repository}/resolve/main/{name}", self.endpoint);
        let here = || fs::metadata(part).map_or(0, |file| file.len());
        let whole = remote.bytes();
        let bar = whole.map_or_else(ProgressBar::no_length, bytes_bar);
        bar.set_message(name.clone());
        if whole.is_none() && part.exists() {
            // Whether a rest is missing is not known either.
            fs::remove_file(part).map_err(|e| Error::io(part, e))?;
        }
        let mut left = ATTEMPTS;
        loop {
            let before = here();
            if whole.is_some_and(|whole| before >= whole) {
                break;
            }
            let done = self.resume(&url, part, || bar.set_position(here()));
            let Err(problem) = done else { break };
            left = if here() > before { ATTEMPTS } else { left - 1 };
            if left == 0 {
                return Err(failed(&format!("{repository}, {name}"), &problem));
            }
            std::thread::sleep((ATTEMPTS - left) * PAUSE);
        }
        bar.finish_and_clear();
        Ok(())
    }

    /// One attempt to fetch the rest of `part`; `look` is called again and again meanwhile.
    fn resume(&self, url: &str, part: &Path, look: impl Fn()) -> io::Result<()> {
        let mut curl = self.curl(url, Stdio::null(), |curl| {
            curl.args(["--continue-at", "-", "--output"]).arg(part);
        })?;
        while curl.try_wait()?.is_none() {
            look();
            std::thread::sleep(LOOK);
        }
        let done = curl.wait_with_output()?;
        if done.status.code() == Some(NO_RANGES) {
            fs::remove_file(part)?;
        }
        refused(done.status, &done.stderr)
    }

    /// Starts curl on `url`.
    fn curl(&self, url: &str, out: Stdio, more: impl Fn(&mut Command)) -> io::Result<Child> {
        let mut curl = Command::new("curl");
        // An answer that is no success is an error; so is a minute without a byte.
        curl.args(["--fail", "--location", "--silent", "--show-error"]);
        curl.args(["--speed-limit", "1", "--speed-time", "60", "--globoff"]);
        more(&mut curl);
        // Others may read the arguments of a process, and so the token, but not its standard input.
        curl.args(["--config", "-", "--url", url]);
        curl.stdin(Stdio::piped())
            .stdout(out)
            .stderr(Stdio::piped());
        let mut child = curl.spawn().map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => io::Error::other(
                "the program curl, which downloads, is not installed: on Debian, apt install curl",
            ),
            _ => e,
        })?;
        if let (Some(mut stdin), Some(token)) = (child.stdin.take(), &self.token) {
            writeln!(stdin, "header = \"Authorization: Bearer {token}\"")?;
        }
        Ok(child)
    }
}

/// The error that curl tells of, if it does.
fn refused(status: ExitStatus, stderr: &[u8]) -> io::Result<()> {
    if status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(stderr);
    let last = said.lines().last().unwrap_or("curl ended without a word");
    Err(io::Error::other(last.to_owned()))
}

impl Item {
    fn fetch(&self, hub: &Hub, unfinished: &Path) -> Result<()> {
        let name = &self.remote.rfilename;
        if self.target.is_file() && self.check(&self.target).is_ok() {
            tell!("{name}: here already");
            return Ok(());
        }
        let part = unfinished.join(name);
        hub.download(self.repository, &self.remote, &part)?;
        if let Err(problem) = self.check(&part) {
            // What is wrong stays wrong: the next attempt begins anew.
            fs::remove_file(&part).map_err(|e| Error::io(&part, e))?;
            return Err(problem);
        }
        if let Some(folder) = self.target.parent() {
            fs::create_dir_all(folder).map_err(|e| Error::io(folder, e))?;
        }
        fs::rename(&part, &self.target).map_err(|e| Error::io(&self.target, e))
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

fn failed(what: &str, problem: &io::Error) -> Error {
    Error::invalid(format!(
        "{what}: {problem}; check the network (and HF_ENDPOINT, if it is set) and run the command again, it goes on where it ended"
    ))
}
