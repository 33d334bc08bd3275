// SPDX-License-Identifier: MPL-2.0
//! `flashvideo fetch` against a server on this machine.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};

use sha2::{Digest, Sha256};

const MODEL: &str = "FoundationVision/FlashVideo";
const TEXT: &str = "google/t5-v1_1-xxl";

/// A hub with a few files.
#[derive(Default)]
struct Hub {
    /// Repository and name to content.
    files: HashMap<(String, String), Vec<u8>>,
    /// A file whose first whole request breaks off in the middle.
    breaks: Mutex<Option<String>>,
    /// A file whose stated hash is wrong.
    forged: Option<String>,
    /// Path and range of all requests.
    requests: Mutex<Vec<(String, String)>>,
    /// The credentials of all requests that had any.
    tokens: Mutex<Vec<String>>,
}

fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

impl Hub {
    fn new() -> Self {
        let mut hub = Self::default();
        for (repository, name, length) in [
            (MODEL, "stage1.pt", 300_000),
            (MODEL, "stage2.pt", 1000),
            (MODEL, "3d-vae.pt", 10),
            (MODEL, "README.md", 5),
            (TEXT, "config.json", 20),
            (TEXT, "spiece.model", 30),
            (TEXT, "pytorch_model.bin", 4000),
            (TEXT, "tf_model.h5", 4000),
        ] {
            let content = (0..length).map(|i: u32| (i * 31 / 7) as u8).collect();
            hub.files
                .insert((repository.to_owned(), name.to_owned()), content);
        }
        hub
    }

    fn start(self) -> (String, Arc<Self>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let hub = Arc::new(self);
        let serving = hub.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let hub = serving.clone();
                // A client that hangs up is part of the test.
                std::thread::spawn(move || drop(hub.answer(stream)));
            }
        });
        (url, hub)
    }

    fn answer(&self, stream: TcpStream) -> std::io::Result<()> {
        let mut lines = BufReader::new(stream.try_clone()?).lines();
        let first = lines.next().unwrap_or(Ok(String::new()))?;
        let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
        let mut range = String::new();
        for line in lines {
            let line = line?.to_lowercase();
            if let Some(value) = line.strip_prefix("authorization:") {
                self.tokens.lock().unwrap().push(value.trim().to_owned());
            }
            if let Some(value) = line.strip_prefix("range:") {
                range = value.trim().to_owned();
            }
            if line.is_empty() {
                break;
            }
        }
        self.requests
            .lock()
            .unwrap()
            .push((path.clone(), range.clone()));
        let mut stream = stream;
        let mut send = |status: &str, headers: &str, body: &[u8], sent: usize| {
            let length = body.len();
            write!(
                stream,
                "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n"
            )?;
            stream.write_all(&body[..sent])
        };
        for repository in [MODEL, TEXT] {
            if path.starts_with(&format!("/api/models/{repository}")) {
                let body = self.description(repository);
                return send(
                    "200 OK",
                    "Content-Type: application/json\r\n",
                    body.as_bytes(),
                    body.len(),
                );
            }
            let Some(name) = path.strip_prefix(&format!("/{repository}/resolve/main/")) else {
                continue;
            };
            let Some(content) = self.files.get(&(repository.to_owned(), name.to_owned())) else {
                continue;
            };
            let (from, to) = range
                .trim_start_matches("bytes=")
                .split_once('-')
                .unwrap_or(("0", ""));
            let from = from.parse::<usize>().unwrap_or(0).min(content.len());
            let to = to.parse::<usize>().map_or(content.len(), |to| to + 1);
            let body = &content[from..to.max(from)];
            let breaks = body.len() > 1
                && self
                    .breaks
                    .lock()
                    .unwrap()
                    .take_if(|broken| broken == name)
                    .is_some();
            let sent = if breaks { body.len() / 2 } else { body.len() };
            let headers = format!(
                "ETag: \"{}\"\r\nX-Repo-Commit: 0123abcd\r\nContent-Range: bytes {from}-{}/{}\r\n",
                hash(content),
                to.saturating_sub(1),
                content.len()
            );
            return send("206 Partial Content", &headers, body, sent);
        }
        send("404 Not Found", "", b"", 0)
    }

    fn description(&self, repository: &str) -> String {
        let files = self.files.iter().filter(|((of, _), _)| of == repository);
        let siblings: Vec<_> = files
            .map(|((_, name), content)| {
                let mut file = serde_json::json!({"rfilename": name, "size": content.len()});
                if !name.ends_with(".json") {
                    let sha256 = if self.forged.as_ref() == Some(name) {
                        "00".repeat(32)
                    } else {
                        hash(content)
                    };
                    file["lfs"] = serde_json::json!({"sha256": sha256, "size": content.len()});
                }
                file
            })
            .collect();
        serde_json::json!({"sha": "0123abcd", "siblings": siblings, "cardData": {"license": "some-licence-1.0"}}).to_string()
    }
}

fn fetch(url: &str, folder: &Path, arguments: &[&str], answer: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_flashvideo"));
    command.arg("fetch").arg(folder).args(arguments);
    command
        .env("HF_ENDPOINT", url)
        .env("HF_HOME", folder.join("home"));
    for name in [
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "ALL_PROXY",
        "http_proxy",
        "https_proxy",
        "all_proxy",
    ] {
        command.env_remove(name);
    }
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // With --yes nobody reads the answer.
    let _ = child.stdin.take().unwrap().write_all(answer.as_bytes());
    child.wait_with_output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn everything_arrives_and_a_broken_download_goes_on() {
    let mut hub = Hub::new();
    hub.breaks = Mutex::new(Some("stage1.pt".to_owned()));
    let (url, hub) = hub.start();
    let folder = tempfile::tempdir().unwrap();
    let output = fetch(&url, folder.path(), &[], "y\n");
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("some-licence-1.0"));
    for ((repository, name), content) in &hub.files {
        let file = match repository.as_str() {
            MODEL => folder.path().join(name),
            _ => folder.path().join("text_encoder").join(name),
        };
        if ["README.md", "tf_model.h5"].contains(&name.as_str()) {
            assert!(!file.exists(), "{name}");
        } else {
            assert!(std::fs::read(&file).unwrap() == *content, "{name}");
        }
    }
    assert!(!folder.path().join(".unfinished").exists());
    let resumed = |(path, range): &(String, String)| {
        let start = range
            .strip_prefix("bytes=")
            .and_then(|range| range.strip_suffix('-')?.parse::<usize>().ok());
        path.ends_with("stage1.pt") && start.is_some_and(|start| start > 0)
    };
    assert!(hub.requests.lock().unwrap().iter().any(resumed));

    // A second run finds everything in place.
    hub.requests.lock().unwrap().clear();
    let output = fetch(&url, folder.path(), &["--yes"], "");
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(
        hub.requests
            .lock()
            .unwrap()
            .iter()
            .all(|(path, _)| path.starts_with("/api/"))
    );
}

#[test]
fn nothing_without_agreement() {
    let (url, hub) = Hub::new().start();
    let folder = tempfile::tempdir().unwrap();
    for answer in ["", "n\n"] {
        let output = fetch(&url, folder.path(), &[], answer);
        assert_eq!(output.status.code(), Some(1));
    }
    assert!(
        hub.requests
            .lock()
            .unwrap()
            .iter()
            .all(|(path, _)| path.starts_with("/api/"))
    );
}

#[test]
fn a_forged_file_is_refused() {
    let mut hub = Hub::new();
    hub.forged = Some("stage2.pt".to_owned());
    let (url, _) = hub.start();
    let folder = tempfile::tempdir().unwrap();
    let output = fetch(&url, folder.path(), &["--yes", "--without-text"], "");
    assert!(!output.status.success());
    assert!(
        text(&output.stderr).contains("SHA-256"),
        "{}",
        text(&output.stderr)
    );
    assert!(!folder.path().join("stage2.pt").exists());
}

#[test]
fn no_server_is_an_error_with_advice() {
    let folder = tempfile::tempdir().unwrap();
    let output = fetch("http://127.0.0.1:9", folder.path(), &["--yes"], "");
    assert!(!output.status.success());
    assert!(
        text(&output.stderr).contains("HF_ENDPOINT"),
        "{}",
        text(&output.stderr)
    );
}

#[test]
fn the_token_of_the_user_goes_with_every_request() {
    let (url, hub) = Hub::new().start();
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("home")).unwrap();
    std::fs::write(folder.path().join("home/token"), "hf_secret\n").unwrap();
    let output = fetch(&url, folder.path(), &["--yes", "--without-text"], "");
    assert!(output.status.success(), "{}", text(&output.stderr));
    let tokens = hub.tokens.lock().unwrap();
    assert_eq!(tokens.len(), hub.requests.lock().unwrap().len());
    assert!(tokens.iter().all(|token| token == "bearer hf_secret"));
}

#[test]
fn without_curl_it_is_said_what_to_install() {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_flashvideo"))
        .args(["fetch", "--yes"])
        .arg(folder.path())
        .env("PATH", folder.path())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output.stderr).contains("apt install curl"),
        "{}",
        text(&output.stderr)
    );
}
