// SPDX-License-Identifier: MPL-2.0
//! Weights in the order in which the kernels read them.

use super::{CpuLevel, LANES};
use crate::cpu::aligned::AlignedVec;

/// Output channels that a kernel of `level` computes at once: a multiple of [`LANES`] that divides `outputs`.
pub(super) fn block(level: CpuLevel, outputs: usize) -> usize {
    let vectors = match level {
        CpuLevel::Scalar | CpuLevel::Avx2 => 1,
        CpuLevel::Avx512 | CpuLevel::Bf16 => (1..=4)
            .rev()
            .find(|n| outputs.is_multiple_of(n * LANES))
            .unwrap_or(1),
    };
    vectors * LANES
}

/// From `[outputs, inputs, 3, 3]` to `[outputs / block][3 * 3 * padded / group][block][group]`.
///
/// The input index runs over row, column and channel of the window, as the pixels lie in memory. `padded` is the
/// number of input channels in memory; those beyond `inputs` get zero weights.
pub(super) fn pack<T: Copy + Default>(
    weight: &[f32],
    outputs: usize,
    inputs: usize,
    padded: usize,
    block: usize,
    group: usize,
    convert: impl Fn(f32) -> T,
) -> AlignedVec<T> {
    let taps = 9 * padded;
    let mut packed = AlignedVec::zeroed(outputs * taps);
    for output in 0..outputs {
        for input in 0..inputs {
            for tap in 0..9 {
                let value = weight[(output * inputs + input) * 9 + tap];
                let k = tap * padded + input;
                let index = (output / block) * taps * block
                    + (k / group) * block * group
                    + (output % block) * group;
                packed[index + k % group] = convert(value);
            }
        }
    }
    packed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_divide_the_outputs() {
        for outputs in (16..=256).step_by(16) {
            for level in CpuLevel::ALL {
                let block = block(level, outputs);
                assert!(outputs % block == 0 && (16..=64).contains(&block));
            }
        }
        assert_eq!(block(CpuLevel::Avx512, 64), 64);
        assert_eq!(block(CpuLevel::Avx512, 48), 48);
        assert_eq!(block(CpuLevel::Avx512, 32), 32);
    }

    #[test]
    fn every_weight_lands_once_and_padding_is_zero() {
        let (outputs, inputs, padded) = (32, 3, 4);
        let weight: Vec<f32> = (1..=outputs * inputs * 9).map(|v| v as f32).collect();
        for group in [1, 2] {
            let packed = pack(&weight, outputs, inputs, padded, 16, group, |v| v);
            let mut seen: Vec<f32> = packed.iter().copied().filter(|v| *v != 0.0).collect();
            seen.sort_by(f32::total_cmp);
            assert_eq!(seen, weight);
            assert_eq!(packed.len(), outputs * padded * 9);
        }
    }
}
