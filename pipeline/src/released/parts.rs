//! Parts of a model that are loaded when they are needed, held once in a process, and dropped on request.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::error::Result;
use crate::registry::{self, Source};
use crate::runtime::Runtime;

/// A part of a model from one file on one device in one number type.
pub struct Part<T> {
    file: PathBuf,
    runtime: Runtime,
    held: Mutex<Option<Arc<T>>>,
}

impl<T: Send + Sync + 'static> Part<T> {
    /// The part in `file`. Nothing is read yet.
    pub fn new(file: &Path, runtime: &Runtime) -> Self {
        Self {
            file: file.to_owned(),
            runtime: runtime.clone(),
            held: Mutex::new(None),
        }
    }

    /// Where and how the part runs.
    pub fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// The part; `load` reads it when nobody in this process holds it.
    ///
    /// # Errors
    /// Those of `load`.
    pub fn get(&self, load: impl FnOnce() -> Result<T>) -> Result<Arc<T>> {
        let mut held = lock(&self.held);
        if let Some(part) = &*held {
            return Ok(part.clone());
        }
        let part = registry::shared(Source::path(&self.file)?, &self.runtime, load)?;
        *held = Some(part.clone());
        Ok(part)
    }

    /// Whether the part is in memory for this owner.
    pub fn is_loaded(&self) -> bool {
        lock(&self.held).is_some()
    }

    /// Lets go of the part. Its memory is free once nobody else uses it.
    pub fn unload(&self) {
        lock(&self.held).take();
    }
}

impl<T> fmt::Debug for Part<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Part")
            .field("file", &self.file)
            .field("runtime", &self.runtime)
            .field("loaded", &lock(&self.held).is_some())
            .finish()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is behind these locks is replaced as a whole, so a panic elsewhere leaves it usable.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    #[test]
    fn a_part_is_loaded_once_and_shared() {
        let runtime = Runtime::cpu().unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        let part = || Part::<u32>::new(file.path(), &runtime);
        let (first, second) = (part(), part());
        assert_eq!(*first.get(|| Ok(7)).unwrap(), 7);
        assert_eq!(
            *second.get(|| Err(Error::invalid("loaded twice"))).unwrap(),
            7
        );
        first.unload();
        assert!(!first.is_loaded() && second.is_loaded());
        second.unload();
        assert_eq!(*first.get(|| Ok(9)).unwrap(), 9);
    }

    #[test]
    fn a_failure_is_not_remembered() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let part = Part::<u8>::new(file.path(), &Runtime::cpu().unwrap());
        assert!(
            part.get(|| Err(Error::Cancelled))
                .unwrap_err()
                .is_cancelled()
        );
        assert!(!part.is_loaded());
        assert_eq!(*part.get(|| Ok(1)).unwrap(), 1);
    }
}
