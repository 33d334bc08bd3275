// SPDX-License-Identifier: MPL-2.0
//! Single-threaded matrix products on borrowed f32 slices with any strides.
//!
//! The callers cut their work into tasks and run these side by side, so a product itself never spawns.

/// A read-only matrix inside a slice.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a> {
    data: &'a [f32],
    rows: usize,
    cols: usize,
    row_stride: usize,
    col_stride: usize,
}

impl<'a> Matrix<'a> {
    /// `rows` x `cols` values at `data[row * row_stride + col * col_stride]`.
    ///
    /// # Panics
    /// When the last element lies outside of `data`.
    pub fn new(
        data: &'a [f32],
        (rows, cols): (usize, usize),
        (row_stride, col_stride): (usize, usize),
    ) -> Self {
        assert_inside(data.len(), (rows, cols), (row_stride, col_stride));
        Self {
            data,
            rows,
            cols,
            row_stride,
            col_stride,
        }
    }

    /// The same values with rows and columns exchanged.
    pub fn t(self) -> Self {
        Self {
            rows: self.cols,
            cols: self.rows,
            row_stride: self.col_stride,
            col_stride: self.row_stride,
            ..self
        }
    }
}

fn assert_inside(
    len: usize,
    (rows, cols): (usize, usize),
    (row_stride, col_stride): (usize, usize),
) {
    let inside = rows == 0 || cols == 0 || (rows - 1) * row_stride + (cols - 1) * col_stride < len;
    assert!(
        inside,
        "{rows}x{cols} matrix with strides {row_stride}, {col_stride} in a slice of {len}"
    );
}

/// `dst = scale * a * b`, or `dst += scale * a * b` with `accumulate`.
///
/// `dst` is row-major, its rows lie `dst_stride` apart.
///
/// # Panics
/// When the inner dimensions differ or `dst` is too small.
pub fn matmul(
    dst: &mut [f32],
    dst_stride: usize,
    accumulate: bool,
    scale: f32,
    a: Matrix<'_>,
    b: Matrix<'_>,
) {
    assert_eq!(a.cols, b.rows, "inner dimensions of a matrix product");
    assert!(dst_stride >= b.cols, "rows of the result overlap");
    assert_inside(dst.len(), (a.rows, b.cols), (dst_stride, 1));
    if a.rows == 0 || b.cols == 0 {
        return;
    }
    // SAFETY: all three matrices were checked to lie inside of their slices for every index below their number of
    // rows and columns; `dst` is borrowed exclusively and its rows do not overlap. Strides fit isize because slices do.
    unsafe {
        gemm::gemm(
            a.rows,
            b.cols,
            a.cols,
            dst.as_mut_ptr(),
            1,
            dst_stride as isize,
            accumulate,
            a.data.as_ptr(),
            a.col_stride as isize,
            a.row_stride as isize,
            b.data.as_ptr(),
            b.col_stride as isize,
            b.row_stride as isize,
            1.0,
            scale,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strided_and_transposed_operands() {
        // a is 2x3 inside rows of 4; b is stored transposed (2x3 for a 3x2 matrix).
        let a = [1.0, 2.0, 3.0, 99.0, 4.0, 5.0, 6.0, 99.0];
        let b = [1.0, 0.0, 2.0, -1.0, 1.0, 0.5];
        let mut dst = vec![10.0; 5];
        let a = Matrix::new(&a, (2, 3), (4, 1));
        let b = Matrix::new(&b, (2, 3), (3, 1)).t();
        matmul(&mut dst, 3, false, 2.0, a, b);
        assert_eq!(dst, [14.0, 5.0, 10.0, 32.0, 8.0]);
        matmul(&mut dst, 3, true, -2.0, a, b);
        assert_eq!(dst, [0.0, 0.0, 10.0, 0.0, 0.0]);
    }

    #[test]
    #[should_panic(expected = "in a slice of 5")]
    fn a_matrix_outside_of_its_slice_is_refused() {
        Matrix::new(&[0.0; 5], (2, 3), (3, 1));
    }
}
