// SPDX-License-Identifier: MPL-2.0
//! The bytes that work may be planned for.

use candle_core::Device;

use super::memory;
use crate::error::Error;

/// Share of the memory there is that plans leave to the rest of the pipeline and to what estimates miss.
const SPARED: u64 = 4;

/// Memory of a device that plans may count on.
///
/// Every plan asks this one: strips of the compact models, windows and tiles of the released ones, and whether all parts
/// of a released model may stay loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    available: Option<u64>,
}

impl Budget {
    /// Of `available` bytes; `None` when it is not known what there is, which limits nothing.
    pub const fn new(available: Option<u64>) -> Self {
        Self { available }
    }

    /// What the machine can give now.
    pub fn host() -> Self {
        Self::new(memory::available())
    }

    /// What `device` can give now: the machine itself for the CPU, else what the driver calls free.
    pub fn of(device: &Device) -> Self {
        Self::new(memory::on(device))
    }

    /// Bytes that a plan may take: three quarters of those that there are.
    pub fn limit(self) -> Option<u64> {
        self.available.map(|bytes| bytes - bytes.div_ceil(SPARED))
    }

    /// Whether a plan may take `bytes`.
    pub fn fits(self, bytes: u64) -> bool {
        self.limit().is_none_or(|limit| bytes <= limit)
    }

    /// The refusal of work whose smallest parts need `needed` bytes.
    pub fn refuse(self, what: String, needed: u64, hint: &str) -> Error {
        Error::Memory {
            what,
            needed_mib: mib(needed),
            available_mib: mib(self.limit().unwrap_or(u64::MAX)),
            hint: hint.to_owned(),
        }
    }
}

/// Bytes in MiB, as messages tell them.
pub(crate) fn mib(bytes: u64) -> u64 {
    bytes >> 20
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quarter_stays_free() {
        let budget = Budget::new(Some(1000));
        assert_eq!(budget.limit(), Some(750));
        assert!(budget.fits(750) && !budget.fits(751));
        assert!(Budget::new(None).fits(u64::MAX));
        assert_eq!(Budget::new(Some(0)).limit(), Some(0));
    }

    #[test]
    fn a_refusal_says_what_there_is() {
        let error = Budget::new(Some(4 << 20)).refuse(
            "enhancing".to_owned(),
            9 << 20,
            "close other programs",
        );
        assert!(
            matches!(
                error,
                Error::Memory {
                    needed_mib: 9,
                    available_mib: 3,
                    ..
                }
            ),
            "{error}"
        );
    }
}
