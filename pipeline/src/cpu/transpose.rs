// SPDX-License-Identifier: MPL-2.0
//! Rows and columns of small squares exchanged.

use super::level::CpuLevel;

/// Side of the squares.
pub const SQUARE: usize = 16;

/// 16 rows of 16 values.
pub type Square = [[f32; SQUARE]; SQUARE];

/// The square whose rows are `columns` and whose columns are `rows` of `from`, up to 16 each. Rows of `from` begin
/// `stride` values apart. What lies beyond the counts is left as it is.
///
/// # Panics
/// When `from` ends too early or there are more than 16 rows or columns.
#[inline(always)]
pub fn turn(
    level: CpuLevel,
    from: &[f32],
    stride: usize,
    (rows, columns): (usize, usize),
    to: &mut Square,
) {
    assert!(rows <= SQUARE && columns <= SQUARE);
    assert!(rows == 0 || (rows - 1) * stride + columns <= from.len());
    #[cfg(target_arch = "x86_64")]
    if rows == SQUARE && columns == SQUARE && level.available() >= CpuLevel::Avx512 {
        // SAFETY: the processor was found to have AVX-512F, and `from` to have 16 rows of 16 values.
        return unsafe { avx512(from.as_ptr(), stride, to) };
    }
    let _ = level;
    for (row, line) in from.chunks(stride.max(1)).take(rows).enumerate() {
        for (to, value) in to.iter_mut().zip(&line[..columns]) {
            to[row] = *value;
        }
    }
}

/// Exchanges single values, then pairs, then quarters of vectors.
///
/// # Safety
/// The processor must have AVX-512F, and `from` must be valid for 16 rows of 16 values.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
unsafe fn avx512(from: *const f32, stride: usize, to: &mut Square) {
    use std::arch::x86_64::*;
    let mut a = [_mm512_setzero_ps(); SQUARE];
    let mut b = [_mm512_setzero_ps(); SQUARE];
    for (row, a) in a.iter_mut().enumerate() {
        // SAFETY: passed on to the caller.
        *a = unsafe { _mm512_loadu_ps(from.add(row * stride)) };
    }
    for i in 0..SQUARE / 2 {
        b[2 * i] = _mm512_unpacklo_ps(a[2 * i], a[2 * i + 1]);
        b[2 * i + 1] = _mm512_unpackhi_ps(a[2 * i], a[2 * i + 1]);
    }
    let low = |x, y| _mm512_castpd_ps(_mm512_unpacklo_pd(_mm512_castps_pd(x), _mm512_castps_pd(y)));
    let high =
        |x, y| _mm512_castpd_ps(_mm512_unpackhi_pd(_mm512_castps_pd(x), _mm512_castps_pd(y)));
    for i in 0..SQUARE / 4 {
        a[4 * i] = low(b[4 * i], b[4 * i + 2]);
        a[4 * i + 1] = high(b[4 * i], b[4 * i + 2]);
        a[4 * i + 2] = low(b[4 * i + 1], b[4 * i + 3]);
        a[4 * i + 3] = high(b[4 * i + 1], b[4 * i + 3]);
    }
    // Quarter q of a[4 g + j] is now column 4 q + j of rows 4 g to 4 g + 3.
    for j in 0..4 {
        let x = _mm512_shuffle_f32x4::<0x88>(a[j], a[4 + j]);
        let y = _mm512_shuffle_f32x4::<0xdd>(a[j], a[4 + j]);
        let z = _mm512_shuffle_f32x4::<0x88>(a[8 + j], a[12 + j]);
        let w = _mm512_shuffle_f32x4::<0xdd>(a[8 + j], a[12 + j]);
        let columns = [
            _mm512_shuffle_f32x4::<0x88>(x, z),
            _mm512_shuffle_f32x4::<0x88>(y, w),
            _mm512_shuffle_f32x4::<0xdd>(x, z),
            _mm512_shuffle_f32x4::<0xdd>(y, w),
        ];
        for (quarter, column) in columns.into_iter().enumerate() {
            // SAFETY: a line has 16 values.
            unsafe { _mm512_storeu_ps(to[4 * quarter + j].as_mut_ptr(), column) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_changes_row_and_column_at_every_level() {
        let from: Vec<f32> = (0..16 * 21).map(|v| v as f32).collect();
        for level in CpuLevel::ALL {
            for (rows, columns) in [(16, 16), (16, 3), (1, 16), (7, 9), (0, 0)] {
                let mut to = [[-1.0; SQUARE]; SQUARE];
                turn(level, &from, 21, (rows, columns), &mut to);
                for (row, line) in to.iter().enumerate() {
                    for (column, value) in line.iter().enumerate() {
                        let inside = row < columns && column < rows;
                        let want = if inside {
                            (column * 21 + row) as f32
                        } else {
                            -1.0
                        };
                        assert_eq!(*value, want, "{level} {rows}x{columns}");
                    }
                }
            }
        }
    }
}
