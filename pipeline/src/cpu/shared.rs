// SPDX-License-Identifier: MPL-2.0
//! A slice of which tasks write parts that no chunking of the slice would give.

use std::marker::PhantomData;

/// An exclusively borrowed slice, lent to several tasks.
#[derive(Clone, Copy)]
pub(crate) struct Shared<'a, T> {
    data: *mut T,
    len: usize,
    slice: PhantomData<&'a mut [T]>,
}

// SAFETY: `part_mut` asks its callers for disjoint parts.
unsafe impl<T: Send> Send for Shared<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Shared<'_, T> {}

impl<'a, T> Shared<'a, T> {
    pub fn new(slice: &'a mut [T]) -> Self {
        Self {
            data: slice.as_mut_ptr(),
            len: slice.len(),
            slice: PhantomData,
        }
    }

    /// `len` values from `first` on.
    ///
    /// # Safety
    /// No two parts that are alive at a time may overlap.
    ///
    /// # Panics
    /// When the part lies outside of the slice.
    #[allow(clippy::mut_from_ref)]
    pub unsafe fn part_mut(&self, first: usize, len: usize) -> &'a mut [T] {
        assert!(first <= self.len && len <= self.len - first);
        // SAFETY: inside of the slice, which is borrowed for 'a; the caller sees to it that parts are disjoint.
        unsafe { std::slice::from_raw_parts_mut(self.data.add(first), len) }
    }
}
