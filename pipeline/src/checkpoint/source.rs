// SPDX-License-Identifier: MPL-2.0
//! The bytes of one file, memory-mapped so that only what is read takes memory.

use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};

use memmap2::Mmap;

use crate::error::{Error, Result};

/// Bytes of a file, or of a buffer that stands for one.
#[derive(Debug)]
pub(crate) struct Source {
    path: PathBuf,
    bytes: Bytes,
}

#[derive(Debug)]
enum Bytes {
    Mapped(Mmap),
    Owned(Vec<u8>),
    Static(&'static [u8]),
}

impl Source {
    /// Maps the file at `path`.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(|e| Error::io(path, e))?;
        let length = file.metadata().map_err(|e| Error::io(path, e))?.len();
        if length == 0 {
            return Err(Error::checkpoint(path, "the file is empty; fetch it again"));
        }
        // SAFETY: the map is private and only ever read. A file that another process truncates while it is mapped
        // would end this one with SIGBUS, as with every memory-mapped model; weights are not rewritten in place.
        let map = unsafe { Mmap::map(&file) }.map_err(|e| Error::io(path, e))?;
        Ok(Self {
            path: path.to_owned(),
            bytes: Bytes::Mapped(map),
        })
    }

    /// Takes `bytes` for the content of a file called `name`.
    pub(crate) fn from_bytes(name: impl Into<PathBuf>, bytes: Vec<u8>) -> Self {
        Self {
            path: name.into(),
            bytes: Bytes::Owned(bytes),
        }
    }

    /// Takes `bytes`, which are part of the program, for the content of a file called `name`.
    pub(crate) fn from_static(name: impl Into<PathBuf>, bytes: &'static [u8]) -> Self {
        Self {
            path: name.into(),
            bytes: Bytes::Static(bytes),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        match &self.bytes {
            Bytes::Mapped(map) => map,
            Bytes::Owned(bytes) => bytes,
            Bytes::Static(bytes) => bytes,
        }
    }

    /// Gives the pages of `range` back to the system once their content was copied, so that a loaded model does not
    /// stand in memory twice. Reading the range again reads the file again.
    pub(crate) fn release(&self, range: Range<usize>) {
        #[cfg(unix)]
        if let Bytes::Mapped(map) = &self.bytes {
            let range = range.start.min(map.len())..range.end.min(map.len());
            if !range.is_empty() {
                // SAFETY: the map is private, backed by a file and never written to, so a dropped page is read back
                // from the file with the same content.
                let _ = unsafe {
                    map.unchecked_advise_range(
                        memmap2::UncheckedAdvice::DontNeed,
                        range.start,
                        range.len(),
                    )
                };
            }
        }
        #[cfg(not(unix))]
        let _ = range;
    }

    /// A [`Error::Checkpoint`] about this file.
    pub(crate) fn error(&self, problem: impl Into<String>) -> Error {
        Error::checkpoint(&self.path, problem)
    }
}
