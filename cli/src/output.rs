// SPDX-License-Identifier: MPL-2.0
//! The output file: never overwritten by accident, never left half written.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, bail};

/// A file that is written under another name and gets its own only by [`PartialFile::keep`]; dropped before that, it is
/// removed.
#[derive(Debug)]
pub struct PartialFile {
    path: PathBuf,
    target: PathBuf,
    overwrite: bool,
}

impl PartialFile {
    /// Checks that `target` can be written. The partial file stands beside it, so that the last step is a rename.
    ///
    /// # Errors
    ///
    /// If `target` exists and `overwrite` is false, if it is a folder, or if its folder does not exist.
    pub fn new(target: &Path, overwrite: bool) -> Result<Self> {
        if target.file_name().is_none() {
            bail!("'{}' is no file name", target.display());
        }
        if target.is_dir() {
            bail!("'{}' is a folder: name a file to write", target.display());
        }
        let folder = match target.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        };
        if !folder.is_dir() {
            bail!("the folder '{}' does not exist", folder.display());
        }
        refuse_existing(target, overwrite)?;
        // Not made of the target's name, which may be as long as names can be.
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let partial = format!(".flashvideo-{}-{number}.partial", std::process::id());
        let path = folder.join(partial);
        // Better known now than after hours of work.
        fs::File::create(&path)
            .with_context(|| format!("the folder '{}' cannot be written", folder.display()))?;
        Ok(Self {
            path,
            target: target.to_owned(),
            overwrite,
        })
    }

    /// Another file that is in the way to this one: beside it, and gone when it is dropped.
    pub fn beside(&self, suffix: &str) -> Scratch {
        let mut name = self.path.clone().into_os_string();
        name.push(suffix);
        Scratch(name.into())
    }

    /// Where to write.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Gives the finished file its name.
    ///
    /// # Errors
    ///
    /// If the file system refuses, or if another file took the name meanwhile and may not be overwritten; the partial
    /// file is then left in place, because its content may have taken hours.
    pub fn keep(self) -> Result<()> {
        let partial = std::mem::ManuallyDrop::new(self);
        refuse_existing(&partial.target, partial.overwrite)
            .and_then(|()| fs::rename(&partial.path, &partial.target).context("renaming"))
            .with_context(|| format!("the result was left in '{}'", partial.path.display()))
    }
}

/// A file that nobody needs in the end.
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Scratch {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // It may never have been created.
        let _ = fs::remove_file(&self.0);
    }
}

impl Drop for PartialFile {
    fn drop(&mut self) {
        // It may never have been created.
        let _ = fs::remove_file(&self.path);
    }
}

fn refuse_existing(target: &Path, overwrite: bool) -> Result<()> {
    if !overwrite && target.exists() {
        bail!(
            "'{}' exists: pass --force to overwrite it",
            target.display()
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder of this test's own, removed at the end.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir()
                .join(format!("flashvideo-output-{}-{name}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        fn entries(&self) -> usize {
            fs::read_dir(&self.0).unwrap().count()
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_kept_file_gets_its_name_and_a_dropped_one_goes() {
        let folder = Folder::new("keep");
        let target = folder.0.join("out.mp4");
        let partial = PartialFile::new(&target, false).unwrap();
        fs::write(partial.path(), "one").unwrap();
        assert!(!target.exists());
        partial.keep().unwrap();
        assert_eq!(fs::read_to_string(&target).unwrap(), "one");

        let partial = PartialFile::new(&target, true).unwrap();
        fs::write(partial.path(), "two").unwrap();
        drop(partial);
        assert_eq!(fs::read_to_string(&target).unwrap(), "one");
        assert_eq!(folder.entries(), 1);
    }

    #[test]
    fn nothing_is_overwritten_unless_asked() {
        let folder = Folder::new("refuse");
        let target = folder.0.join("out.mp4");
        let partial = PartialFile::new(&target, false).unwrap();
        fs::write(partial.path(), "late").unwrap();
        fs::write(&target, "first").unwrap();
        assert!(
            PartialFile::new(&target, false)
                .unwrap_err()
                .to_string()
                .contains("--force")
        );
        // Taken while the work went on: both files stay.
        let message = format!("{:#}", partial.keep().unwrap_err());
        assert!(message.contains("was left in"), "{message}");
        assert_eq!(fs::read_to_string(&target).unwrap(), "first");
        assert_eq!(folder.entries(), 2);
    }

    #[test]
    fn folders_are_refused() {
        let folder = Folder::new("folders");
        assert!(
            PartialFile::new(&folder.0, true)
                .unwrap_err()
                .to_string()
                .contains("is a folder")
        );
        let missing = folder.0.join("no/out.mp4");
        assert!(
            PartialFile::new(&missing, true)
                .unwrap_err()
                .to_string()
                .contains("does not exist")
        );
    }
}
