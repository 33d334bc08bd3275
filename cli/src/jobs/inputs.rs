// SPDX-License-Identifier: MPL-2.0
//! Names on the command line to a list of jobs: files, folders, numbered pictures, URIs, standard input.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::ffmpeg::container::{Container, is_pattern, split_pattern};
use crate::ffmpeg::decode::Input;
use crate::ffmpeg::program;
use crate::usage::Usage;

/// Names of files that a folder is searched for.
const CLIPS: &[&str] = &[
    "mp4", "m4v", "mov", "qt", "mkv", "webm", "avi", "mpg", "mpeg", "m2v", "vob", "ts", "m2ts",
    "mts", "wmv", "asf", "flv", "f4v", "3gp", "3g2", "ogv", "ogm", "mxf", "dv", "gif", "rm",
    "rmvb", "y4m", "ivf", "nut", "png", "jpg", "jpeg", "webp", "bmp", "tif", "tiff",
];

/// One clip and the file it becomes.
#[derive(Clone, Debug)]
pub struct Job {
    /// What is enhanced.
    pub source: Source,
    /// The file to write, or `-`.
    pub output: PathBuf,
}

/// What is enhanced.
#[derive(Clone, Debug)]
pub enum Source {
    /// A file, a pattern of numbered pictures, or a URI.
    Named(Input),
    /// y4m by standard input.
    StandardInput,
}

impl Job {
    /// The clip's name, for people.
    pub fn title(&self) -> &str {
        match &self.source {
            Source::Named(input) => &input.title,
            Source::StandardInput => "standard input",
        }
    }
}

/// The jobs that `inputs` and `output` stand for; `rate` is the frame rate of numbered pictures.
///
/// # Errors
/// If an input does not exist, an output would replace its input, or two outputs are the same file.
pub fn jobs(inputs: &[PathBuf], output: &Path, rate: &str) -> Result<Vec<Job>> {
    let folder_wanted = inputs.len() > 1
        || output.is_dir()
        || output.as_os_str().as_encoded_bytes().ends_with(b"/");
    if inputs.len() > 1
        && (output.is_file() || (!output.exists() && Container::from_path(output).is_ok()))
    {
        return Err(Usage(format!(
            "several clips go into a folder, and '{}' is the name of a file",
            output.display()
        ))
        .into());
    }
    let has_folder = inputs.iter().any(|input| input.is_dir());
    if output == Path::new("-") && (folder_wanted || has_folder) {
        bail!("standard output takes one clip");
    }
    let mut jobs = Vec::new();
    for input in inputs {
        if input.is_dir() {
            if output.is_file() {
                bail!(
                    "'{}' is a folder and '{}' is a file: name a folder to write to",
                    input.display(),
                    output.display()
                );
            }
            let before = jobs.len();
            let target = match inputs.len() {
                1 => output.to_owned(),
                _ => output.join(input.file_name().unwrap_or_else(|| OsStr::new("folder"))),
            };
            folder(input, &target, output, &mut jobs)?;
            if jobs.len() == before {
                bail!("the folder '{}' holds no clips", input.display());
            }
            continue;
        }
        let target = if folder_wanted {
            output.join(written_name(input))
        } else {
            output.to_owned()
        };
        jobs.push(Job {
            source: source(input, rate)?,
            output: target,
        });
    }
    check(&jobs)?;
    Ok(jobs)
}

/// Every clip below `folder`, to the same place below `target`; what is written to `skip` is no input.
fn folder(folder: &Path, target: &Path, skip: &Path, jobs: &mut Vec<Job>) -> Result<()> {
    let entries = fs::read_dir(folder)
        .with_context(|| format!("the folder '{}' cannot be read", folder.display()))?;
    let mut paths: Vec<PathBuf> = entries
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_>>()?;
    paths.sort();
    for path in paths {
        let hidden = path
            .file_name()
            .is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if hidden || same_file(&path, skip) {
            continue;
        }
        let name = path.file_name().unwrap_or_default();
        let extension = path
            .extension()
            .and_then(OsStr::to_str)
            .map(str::to_ascii_lowercase);
        if path.is_dir() {
            self::folder(&path, &target.join(name), skip, jobs)?;
        } else if extension.is_some_and(|extension| CLIPS.contains(&extension.as_str())) {
            jobs.push(Job {
                source: Source::Named(file(&path)),
                output: target.join(written_name(&path)),
            });
        }
    }
    Ok(())
}

/// The name that a clip's result gets in a folder: its own, in a format that is written.
fn written_name(input: &Path) -> PathBuf {
    let name = Path::new(input.file_name().unwrap_or_else(|| OsStr::new("clip")));
    let extension = name
        .extension()
        .and_then(OsStr::to_str)
        .unwrap_or_default()
        .to_ascii_lowercase();
    match extension.as_str() {
        _ if Container::from_path(name).is_ok() => name.to_owned(),
        "webp" | "bmp" | "tif" | "tiff" => name.with_extension("png"),
        "3gp" | "3g2" | "flv" | "f4v" | "gif" => name.with_extension("mp4"),
        "qt" => name.with_extension("mov"),
        _ => name.with_extension("mkv"),
    }
}

fn file(path: &Path) -> Input {
    Input {
        name: program::file(path),
        title: path.display().to_string(),
        words: Vec::new(),
        again: true,
        begin: None,
    }
}

/// The path in a URI of a file.
fn path_of(uri: &str) -> Option<PathBuf> {
    uri.starts_with("file://")
        .then(|| gst::glib::filename_from_uri(uri).ok())?
        .map(|(path, _)| path)
}

fn source(input: &Path, rate: &str) -> Result<Source> {
    if let Some(path) = input.to_str().and_then(path_of) {
        return source(&path, rate);
    }
    if input == Path::new("-") {
        return Ok(Source::StandardInput);
    }
    if let Some(text) = input.to_str()
        && text.contains("://")
    {
        let scheme = text.split_once("://").map_or("", |(scheme, _)| scheme);
        return Ok(Source::Named(Input {
            name: text.into(),
            title: text.to_owned(),
            words: Vec::new(),
            // What is sent once cannot be read again for its sound.
            again: matches!(scheme, "file" | "http" | "https" | "ftp" | "sftp" | "smb"),
            begin: None,
        }));
    }
    if !input.exists() && is_pattern(input) {
        let mut numbers: Vec<u64> = numbered(input).iter().map(|(number, _)| *number).collect();
        numbers.sort_unstable();
        let Some(first) = numbers.first() else {
            bail!("no picture is named like '{}'", input.display());
        };
        // ffmpeg would end there.
        let together = (*first..)
            .zip(&numbers)
            .take_while(|(expected, number)| expected == *number);
        let together = together.count();
        if together < numbers.len() {
            bail!(
                "'{}': number {} is missing, and {} pictures come after it: close the gap, or move them elsewhere",
                input.display(),
                first + together as u64,
                numbers.len() - together
            );
        }
        let mut numbered = file(input);
        numbered.words = [
            "-f",
            "image2",
            "-framerate",
            rate,
            "-start_number",
            &first.to_string(),
        ]
        .map(Into::into)
        .into();
        return Ok(Source::Named(numbered));
    }
    let size =
        fs::metadata(input).with_context(|| format!("'{}' cannot be read", input.display()))?;
    if size.file_type().is_fifo() {
        bail!(
            "'{}' is a pipe, which can be read only once: give y4m by standard input (-)",
            input.display()
        );
    }
    if size.is_file() && size.len() == 0 {
        bail!("'{}' is empty", input.display());
    }
    fs::File::open(input).with_context(|| format!("'{}' cannot be read", input.display()))?;
    Ok(Source::Named(file(input)))
}

/// The smallest number of a pattern's files.
pub fn first_number(pattern: &Path) -> Option<u64> {
    numbered(pattern)
        .into_iter()
        .map(|(number, _)| number)
        .min()
}

/// The files that a pattern stands for, with their numbers.
fn numbered(pattern: &Path) -> Vec<(u64, PathBuf)> {
    let Some((before, width, after)) = split_pattern(pattern) else {
        return Vec::new();
    };
    let folder = match pattern.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let number = |name: &str| {
        let digits = name.strip_prefix(&before)?.strip_suffix(&after)?;
        let fits = digits.len() >= width && digits.bytes().all(|byte| byte.is_ascii_digit());
        fits.then(|| digits.parse().ok())?
    };
    entries
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            Some((number(&name)?, folder.join(name)))
        })
        .collect()
}

/// Whether an output is numbered pictures.
pub fn is_numbered(output: &Path) -> bool {
    is_pattern(output) && Container::from_path(output).is_ok_and(Container::is_pictures)
}

fn same_file(a: &Path, b: &Path) -> bool {
    match (fs::metadata(a), fs::metadata(b)) {
        (Ok(a), Ok(b)) => (a.dev(), a.ino()) == (b.dev(), b.ino()),
        _ => false,
    }
}

/// Which file it is, whatever it is called.
fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::metadata(path).ok().map(|file| (file.dev(), file.ino()))
}

/// The files that a name stands for, as far as there are any.
fn files(name: &Path, pattern: bool) -> Vec<PathBuf> {
    if pattern {
        numbered(name).into_iter().map(|(_, path)| path).collect()
    } else {
        vec![name.to_owned()]
    }
}

/// No output may be an input, whatever it is called, nor another output.
fn check(jobs: &[Job]) -> Result<()> {
    let mut inputs: HashMap<(u64, u64), &str> = HashMap::new();
    for job in jobs {
        let name = Path::new(job.title());
        for file in files(name, !name.exists() && is_pattern(name)) {
            if let Some(identity) = identity(&file) {
                inputs.insert(identity, job.title());
            }
        }
    }
    let mut outputs: HashMap<&Path, &str> = HashMap::new();
    for job in jobs {
        let taken = files(&job.output, is_numbered(&job.output))
            .iter()
            .find_map(|file| inputs.get(&identity(file)?));
        match taken {
            Some(input) if *input == job.title() => bail!(
                "'{}' is input and output: name another output, the clip is never replaced by its result",
                job.output.display()
            ),
            Some(input) => bail!(
                "'{}' would replace '{input}', which is an input too",
                job.title()
            ),
            None => {}
        }
        if let Some(first) = outputs.insert(&job.output, job.title()) {
            bail!(
                "'{first}' and '{}' would both become '{}'",
                job.title(),
                job.output.display()
            );
        }
    }
    Ok(())
}

/// A further output beside those of the jobs must be neither input nor output.
///
/// # Errors
/// If it is.
pub fn check_extra(extra: &Path, jobs: &[Job]) -> Result<()> {
    let same = |other: &Path| {
        extra == other || (identity(extra).is_some() && identity(extra) == identity(other))
    };
    let inputs = jobs.iter().map(|job| Path::new(job.title()));
    if inputs
        .chain(jobs.iter().map(|job| job.output.as_path()))
        .any(same)
    {
        bail!(
            "'{}' is the clip or its result: name another file for the picture",
            extra.display()
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn touch(folder: &Path, name: &str) -> PathBuf {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "x").unwrap();
        path
    }

    #[test]
    fn folders_are_mirrored_without_their_own_results() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        touch(root, "a.mp4");
        touch(root, "b/c.AVI");
        touch(root, "notes.txt");
        touch(root, ".hidden.mp4");
        touch(root, "out/a.mp4");
        let found = jobs(&[root.to_owned()], &root.join("out"), "25").unwrap();
        let outputs: Vec<_> = found
            .iter()
            .map(|job| job.output.strip_prefix(root).unwrap().to_owned())
            .collect();
        assert_eq!(
            outputs,
            [PathBuf::from("out/a.mp4"), PathBuf::from("out/b/c.mkv")]
        );
    }

    #[test]
    fn nothing_replaces_an_input() {
        let folder = tempfile::tempdir().unwrap();
        let clip = touch(folder.path(), "a.mp4");
        let link = folder.path().join("link.mp4");
        fs::hard_link(&clip, &link).unwrap();
        let soft = folder.path().join("soft.mp4");
        std::os::unix::fs::symlink(&clip, &soft).unwrap();
        for output in [&clip, &link, &soft] {
            let error = jobs(std::slice::from_ref(&clip), output, "25")
                .unwrap_err()
                .to_string();
            assert!(error.contains("never replaced"), "{error}");
        }
        // Into its own folder, by way of the folder's name.
        assert!(jobs(std::slice::from_ref(&clip), folder.path(), "25").is_err());
        let other = touch(folder.path(), "sub/a.mp4");
        let error = jobs(&[clip.clone(), other], &folder.path().join("new/"), "25")
            .unwrap_err()
            .to_string();
        assert!(error.contains("both become"), "{error}");
    }

    #[test]
    fn numbered_pictures_begin_where_they_begin() {
        let folder = tempfile::tempdir().unwrap();
        for name in [
            "f_0012.png",
            "f_0013.png",
            "f_1.png",
            "g_0001.png",
            "g_0003.png",
        ] {
            touch(folder.path(), name);
        }
        let pattern = folder.path().join("f_%04d.png");
        assert_eq!(first_number(&pattern), Some(12));
        let found = jobs(&[pattern], &folder.path().join("o_%04d.png"), "24").unwrap();
        let Source::Named(input) = &found[0].source else {
            panic!()
        };
        assert_eq!(
            input.words,
            ["-f", "image2", "-framerate", "24", "-start_number", "12"]
        );
        let gap = folder.path().join("g_%04d.png");
        let error = jobs(&[gap], Path::new("o.mp4"), "24")
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("number 2 is missing, and 1 pictures"),
            "{error}"
        );
        let none = folder.path().join("h_%04d.png");
        assert!(
            jobs(&[none], Path::new("o.mp4"), "24")
                .unwrap_err()
                .to_string()
                .contains("h_%04d")
        );
    }

    #[test]
    fn missing_and_empty_files_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let empty = folder.path().join("empty.mp4");
        fs::write(&empty, "").unwrap();
        let error = |path: &Path| {
            format!(
                "{:#}",
                jobs(&[path.to_owned()], Path::new("o.mp4"), "25").unwrap_err()
            )
        };
        assert!(error(&empty).contains("is empty"));
        assert!(error(Path::new("/no/such.mp4")).contains("/no/such.mp4"));
    }
}
