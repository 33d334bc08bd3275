// SPDX-License-Identifier: MPL-2.0
//! Buffers that start on a cache line.

use std::ops::{Deref, DerefMut};

const LINE: usize = 64;

/// `len` values whose first one lies on a 64-byte boundary, so that vector loads and stores do not cross cache lines.
#[derive(Debug)]
pub struct AlignedVec<T> {
    data: Vec<T>,
    offset: usize,
    len: usize,
}

impl<T: Copy + Default> AlignedVec<T> {
    /// `len` zeros.
    pub fn zeroed(len: usize) -> Self {
        let data = vec![T::default(); len + LINE / size_of::<T>()];
        // `align_offset` may give usize::MAX where it cannot tell; an unaligned buffer is correct, only slower.
        let offset = match data.as_ptr().align_offset(LINE) {
            offset if offset + len <= data.len() => offset,
            _ => 0,
        };
        Self { data, offset, len }
    }
}

impl<T> Deref for AlignedVec<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.data[self.offset..][..self.len]
    }
}

impl<T> DerefMut for AlignedVec<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.data[self.offset..][..self.len]
    }
}

impl<T: Copy + Default> FromIterator<T> for AlignedVec<T> {
    fn from_iter<I: IntoIterator<Item = T>>(values: I) -> Self {
        let values: Vec<T> = values.into_iter().collect();
        let mut aligned = Self::zeroed(values.len());
        aligned.copy_from_slice(&values);
        aligned
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_on_a_line_and_keeps_its_values() {
        for len in [0, 1, 15, 16, 1000] {
            let values: AlignedVec<f32> = (0..len).map(|v| v as f32).collect();
            assert_eq!(values.len(), len);
            assert_eq!(values.as_ptr() as usize % 64, 0);
            assert!(values.iter().enumerate().all(|(i, v)| *v == i as f32));
        }
    }
}
