// SPDX-License-Identifier: MPL-2.0
//! One copy of each model's weights in a process, for as long as someone uses it.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, PoisonError, Weak};
use std::time::SystemTime;

use candle_core::DType;

use crate::error::Result;
use crate::runtime::{DeviceSpec, Runtime};

/// Where weights come from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// A built-in model's name.
    Builtin(&'static str),
    /// A file or folder: its canonical path, its length and when it was last written, so that a replaced file is
    /// loaded anew.
    Path(PathBuf, u64, Option<SystemTime>),
    /// A model with adapters merged: model, adapters, and the bits of the adapters' scale.
    Adapted(Box<Self>, Box<Self>, u64),
}

impl Source {
    /// The file or folder at `path` as it is now.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io).
    pub fn path(path: &Path) -> Result<Self> {
        let wrap = |e| crate::Error::io(path, e);
        let canonical = path.canonicalize().map_err(wrap)?;
        let metadata = canonical.metadata().map_err(wrap)?;
        Ok(Self::Path(
            canonical,
            metadata.len(),
            metadata.modified().ok(),
        ))
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    source: Source,
    device: DeviceSpec,
    dtype: DType,
    int8: bool,
    kind: TypeId,
}

/// A slot has a lock of its own, so that one model can load while another is looked up.
type Slot = Arc<Mutex<Option<Weak<dyn Any + Send + Sync>>>>;

static MODELS: LazyLock<Mutex<HashMap<Key, Slot>>> = LazyLock::new(Mutex::default);

/// The weights of `source` for the device and number type of `runtime`: those already in use, or what `load` returns.
///
/// While one caller loads, others that want the same wait for it.
///
/// # Errors
/// Those of `load`.
pub fn shared<T: Send + Sync + 'static>(
    source: Source,
    runtime: &Runtime,
    load: impl FnOnce() -> Result<T>,
) -> Result<Arc<T>> {
    let key = Key {
        source,
        device: runtime.spec(),
        dtype: runtime.dtype(),
        int8: runtime.int8(),
        kind: TypeId::of::<T>(),
    };
    let slot = {
        let mut models = MODELS.lock().unwrap_or_else(PoisonError::into_inner);
        // Slots that nobody loads into and whose model is gone.
        models.retain(|_, slot| {
            Arc::strong_count(slot) > 1
                || slot
                    .try_lock()
                    .is_ok_and(|model| model.as_ref().is_some_and(|model| model.strong_count() > 0))
        });
        models.entry(key).or_default().clone()
    };
    let mut model = slot.lock().unwrap_or_else(PoisonError::into_inner);
    let used = model.as_ref().and_then(Weak::upgrade);
    if let Some(used) = used.and_then(|used| used.downcast::<T>().ok()) {
        return Ok(used);
    }
    let loaded = Arc::new(load()?);
    let shared: Arc<dyn Any + Send + Sync> = loaded.clone();
    *model = Some(Arc::downgrade(&shared));
    Ok(loaded)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::NumberType;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn one_copy_while_in_use() {
        let runtime = Runtime::new(DeviceSpec::Cpu, NumberType::F32, Some(1)).unwrap();
        let loads = AtomicUsize::new(0);
        let load = || {
            loads.fetch_add(1, Ordering::SeqCst);
            Ok(vec![1u8, 2, 3])
        };
        let name = Source::Builtin("one copy while in use");
        let first = shared(name.clone(), &runtime, load).unwrap();
        let second = shared(name.clone(), &runtime, load).unwrap();
        assert!(Arc::ptr_eq(&first, &second) && loads.load(Ordering::SeqCst) == 1);
        let other = Runtime::new(DeviceSpec::Cpu, NumberType::Bf16, Some(1)).unwrap();
        let third = shared(name.clone(), &other, load).unwrap();
        assert!(!Arc::ptr_eq(&first, &third));
        drop((first, second, third));
        shared(name, &runtime, load).unwrap();
        assert_eq!(loads.load(Ordering::SeqCst), 3);
    }

    #[test]
    fn a_number_type_by_name_and_by_default_is_one() {
        let default = Runtime::new(DeviceSpec::Cpu, NumberType::Auto, Some(1)).unwrap();
        let named = Runtime::new(DeviceSpec::Cpu, NumberType::F32, Some(1)).unwrap();
        let name = Source::Builtin("by name and by default");
        let first = shared(name.clone(), &default, || Ok(1u8)).unwrap();
        assert!(Arc::ptr_eq(
            &first,
            &shared(name, &named, || Ok(2u8)).unwrap()
        ));
    }

    #[test]
    fn ten_at_once_load_once() {
        let runtime = Runtime::new(DeviceSpec::Cpu, NumberType::F32, Some(1)).unwrap();
        let loads = AtomicUsize::new(0);
        let copies: Vec<Arc<usize>> = std::thread::scope(|scope| {
            let handles: Vec<_> = (0..10)
                .map(|_| {
                    scope.spawn(|| {
                        shared(Source::Builtin("ten at once"), &runtime, || {
                            std::thread::sleep(std::time::Duration::from_millis(20));
                            Ok(loads.fetch_add(1, Ordering::SeqCst))
                        })
                        .unwrap()
                    })
                })
                .collect();
            handles
                .into_iter()
                .map(|handle| handle.join().unwrap())
                .collect()
        });
        assert_eq!(loads.load(Ordering::SeqCst), 1);
        assert!(copies.iter().all(|copy| Arc::ptr_eq(copy, &copies[0])));
    }

    #[test]
    fn a_failed_load_can_be_repeated() {
        let runtime = Runtime::new(DeviceSpec::Cpu, NumberType::F32, Some(1)).unwrap();
        let name = Source::Builtin("fails first");
        assert!(shared::<u8>(name.clone(), &runtime, || Err(crate::Error::invalid("no"))).is_err());
        assert_eq!(*shared(name, &runtime, || Ok(7u8)).unwrap(), 7);
    }
}
