// SPDX-License-Identifier: MPL-2.0
//! The one error type of the runtime.

use std::path::PathBuf;

/// Shorthand for results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong. Each message says what was found, what was expected and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The caller's [`CancelToken`](crate::CancelToken) was triggered. Not a failure.
    #[error("cancelled")]
    Cancelled,
    /// No model of that name is built in and no file or folder of that name exists.
    #[error("no model \"{name}\": {hint}")]
    ModelNotFound {
        /// The name or path as given.
        name: String,
        /// Which names exist and how to get the released weights.
        hint: String,
    },
    /// A file was there but does not hold what it should.
    #[error("{path}: {problem}", path = path.display())]
    Checkpoint {
        /// The file.
        path: PathBuf,
        /// Tensor by tensor: name, expected, found.
        problem: String,
    },
    /// Reading or writing a file failed.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The operating system's answer.
        source: std::io::Error,
    },
    /// A setting is outside of what the model or the request allows.
    #[error("{0}")]
    Invalid(String),
    /// The device was not compiled in or is not present.
    #[error("device \"{device}\" is not available: {hint}")]
    Device {
        /// As the user named it.
        device: String,
        /// What is available.
        hint: String,
    },
    /// More memory would be needed than there is, even with the smallest tiles.
    #[error(
        "{what} needs about {needed_mib} MiB of memory, {available_mib} MiB are available; {hint}"
    )]
    Memory {
        /// The step that needs it.
        what: String,
        /// The planner's estimate.
        needed_mib: u64,
        /// What the machine has free.
        available_mib: u64,
        /// A smaller setting that would fit.
        hint: String,
    },
    /// A tensor operation failed.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}

impl Error {
    /// An [`Error::Invalid`] from anything printable.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::Invalid(message.into())
    }

    /// An [`Error::Checkpoint`] about the file at `path`.
    pub fn checkpoint(path: impl Into<PathBuf>, problem: impl Into<String>) -> Self {
        Self::Checkpoint {
            path: path.into(),
            problem: problem.into(),
        }
    }

    /// An [`Error::Io`] about the file at `path`.
    pub fn io(path: impl Into<PathBuf>, source: std::io::Error) -> Self {
        Self::Io {
            path: path.into(),
            source,
        }
    }

    /// Whether this is a cancellation rather than a failure.
    pub fn is_cancelled(&self) -> bool {
        matches!(self, Self::Cancelled)
    }
}
