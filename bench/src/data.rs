// SPDX-License-Identifier: MPL-2.0
//! Numbers that `rivals.py` makes too, so that both sides compute the same.

use candle_core::DType;
use flashvideo::cpu::level::CpuLevel;
use flashvideo::linear::Operand;

/// `len` numbers in -`size`..`size`; every seed gives others.
pub fn values(seed: u32, len: usize, size: f32) -> Vec<f32> {
    (0..len as u32)
        .map(|index| {
            let mut h = index
                .wrapping_mul(2_654_435_761)
                .wrapping_add(seed.wrapping_mul(40_503));
            h ^= h >> 15;
            h = h.wrapping_mul(2_246_822_519);
            h ^= h >> 13;
            ((h >> 8) as f32 / 8_388_608.0 - 1.0) * size
        })
        .collect()
}

/// Our values, rounded to `T`.
pub fn numbers<T: Operand>(seed: u32, len: usize, size: f32) -> Vec<T> {
    values(seed, len, size)
        .into_iter()
        .map(T::from_f32)
        .collect()
}

/// The level for numbers of `T`.
pub fn level<T: Operand>() -> CpuLevel {
    CpuLevel::selected()
        .unwrap_or_else(|_| CpuLevel::detected())
        .for_dtype(T::DTYPE)
}

/// The fastest number type of this processor.
pub fn fastest() -> DType {
    flashvideo::cpu::level::best_dtype()
}

/// Values of a result to compare, as many as the rivals give.
const PROBES: usize = 257;

/// Values of a result at even distances.
pub fn probe(len: usize, value: impl Fn(usize) -> f32) -> Vec<f32> {
    (0..PROBES)
        .map(|index| value(index * (len - 1) / (PROBES - 1)))
        .collect()
}

/// Root of the mean squared difference, relative to that of `want`.
pub fn relative_error(got: &[f32], want: &[f32]) -> f64 {
    let square = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>();
    let pairs = got.iter().zip(want);
    let differences = square(&mut pairs.map(|(a, b)| f64::from(a - b)));
    (differences / square(&mut want.iter().map(|v| f64::from(*v))).max(f64::MIN_POSITIVE)).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_those_of_the_rivals() {
        // python: values(3, (4,), 2.0)
        let got = values(3, 4, 2.0);
        assert_eq!(got.len(), 4);
        assert!(got.iter().all(|v| v.abs() <= 2.0) && got[0] != got[1]);
        assert_eq!(relative_error(&[1.0, 2.0], &[1.0, 2.0]), 0.0);
        assert!((relative_error(&[2.0, 0.0], &[1.0, 0.0]) - 1.0).abs() < 1e-12);
    }
}
