// SPDX-License-Identifier: MPL-2.0
//! On which grids a model runs to get from one size to another.
//!
//! A pass makes a picture of four times its grid. Up to a factor of [`ONE_PASS`] one pass over the small picture is all,
//! and what it made is resized. Beyond that its picture is reduced to a quarter of the result, and a second pass makes the
//! result of that: it costs what the pixels of the result cost, whatever the factor, and there is no resize after it.

use std::ops::Range;

use crate::cpu::resize::{SUPPORT, Span};
use crate::cpu::s2d::FACTOR;
use crate::size::Size;

/// Largest factor on one axis that one pass and a resize have to do.
const ONE_PASS: usize = 8;

/// The grids of one enlargement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Route {
    /// Size of the small picture, which is the grid of the first pass.
    pub input: Size,
    /// Size of the result.
    pub output: Size,
    /// Grid of the second pass if there is one. On no axis is it smaller than the small picture.
    pub second: Option<Size>,
}

impl Route {
    pub fn new(input: Size, output: Size) -> Self {
        let one =
            output.width <= input.width * ONE_PASS && output.height <= input.height * ONE_PASS;
        let side = |from: usize, to: usize| to.div_ceil(FACTOR).max(from);
        let second = (!one).then(|| {
            Size::new(
                side(input.width, output.width),
                side(input.height, output.height),
            )
        });
        Self {
            input,
            output,
            second,
        }
    }

    /// Runs of the model.
    pub fn passes(&self) -> usize {
        1 + usize::from(self.second.is_some())
    }

    /// Grid of the last pass.
    pub fn last(&self) -> Size {
        self.second.unwrap_or(self.input)
    }

    /// Whether the last pass makes the result pixel by pixel; after a second pass perhaps with some columns and rows
    /// beyond it, fewer than [`FACTOR`], to be cut off. Else its picture is resized.
    pub fn exact(&self) -> bool {
        let large = |size: Size| Size::new(size.width * FACTOR, size.height * FACTOR);
        let grid = |side: usize| side.div_ceil(FACTOR);
        match self.second {
            None => self.output == large(self.input),
            Some(second) => second == Size::new(grid(self.output.width), grid(self.output.height)),
        }
    }

    /// Pixels of the first pass's picture for each one of the second grid, on both axes.
    fn step(&self, second: Size) -> (f64, f64) {
        let exact = self.exact();
        let step = |input: usize, output: usize, grid: usize| {
            let large = (input * FACTOR) as f64;
            if exact {
                // What the grid has beyond the result, it has beyond the small picture.
                large * FACTOR as f64 / output as f64
            } else {
                large / grid as f64
            }
        };
        (
            step(self.input.width, self.output.width, second.width),
            step(self.input.height, self.output.height, second.height),
        )
    }

    /// Rows of the first grid whose pictures have what rows `rows` of the second grid are made from.
    pub fn first_rows(&self, second: Size, rows: &Range<usize>) -> Range<usize> {
        let step = self.step(second).1;
        let around = SUPPORT * step.max(1.0) + 1.0;
        let start = (rows.start as f64 * step - around) / FACTOR as f64;
        let end = (rows.end as f64 * step + around) / FACTOR as f64;
        (start.max(0.0) as usize)..(end.ceil() as usize).min(self.input.height)
    }

    /// The spans of rows `rows` of the second grid on the picture that the first pass made of its rows from `first` on;
    /// none when they are its rows pixel by pixel.
    pub fn spans(&self, second: Size, rows: &Range<usize>, first: usize) -> Option<(Span, Span)> {
        let (across, down) = self.step(second);
        let resized = (across, down) != (1.0, 1.0);
        resized.then(|| {
            let x = Span {
                start: 0.0,
                length: second.width as f64 * across,
            };
            let y = Span {
                start: rows.start as f64 * down - (first * FACTOR) as f64,
                length: rows.len() as f64 * down,
            };
            (x, y)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grids_are_no_larger_than_the_result_needs() {
        let size = Size::new(240, 136);
        let route = |width, height| Route::new(size, Size::new(width, height));
        let cases = [
            // Factors 1, 4, 5, 6 and 8: one pass; it is exact at 4 alone.
            (route(240, 136), None, false),
            (route(960, 544), None, true),
            (route(1200, 680), None, false),
            (route(1440, 816), None, false),
            (route(1920, 1088), None, false),
            // 9 and 16: a quarter of the result.
            (route(2160, 1224), Some(Size::new(540, 306)), true),
            (route(3840, 2176), Some(Size::new(960, 544)), true),
            // Pixels to be cut off.
            (route(2173, 1281), Some(Size::new(544, 321)), true),
            // The second pass never sees less than there was.
            (route(2400, 272), Some(Size::new(600, 136)), false),
            (route(241, 2176), Some(Size::new(240, 544)), false),
        ];
        for (route, second, exact) in cases {
            assert_eq!((route.second, route.exact()), (second, exact), "{route:?}");
            let pixels = route.output.pixels();
            let made = route
                .second
                .map_or(0, |second| second.pixels() * FACTOR * FACTOR);
            assert!(
                !route.exact()
                    || made < pixels + 4 * (route.output.width + route.output.height + 4)
            );
        }
    }

    #[test]
    fn the_second_grid_lies_on_the_first_picture() {
        let second = |output: Size| {
            let route = Route::new(Size::new(10, 10), output);
            let second = route.second.unwrap();
            (route, second)
        };
        // 12: three pixels for each four.
        let (route, grid) = second(Size::new(120, 120));
        let (x, y) = route.spans(grid, &(3..9), 0).unwrap();
        assert_eq!((x.start, x.length), (0.0, 40.0));
        assert_eq!((y.start, y.length), (4.0, 8.0));
        // From a strip that begins inside of the picture.
        let (_, y) = route.spans(grid, &(3..9), 1).unwrap();
        assert_eq!(y.start, 0.0);
        // 16: as it is.
        let (route, grid) = second(Size::new(160, 160));
        assert_eq!(route.spans(grid, &(0..40), 0), None);
        // A result of 119 pixels has its last one in the 30th of the grid, which is beyond the picture by a quarter.
        let (route, grid) = second(Size::new(119, 120));
        let (x, _) = route.spans(grid, &(0..30), 0).unwrap();
        assert_eq!(grid.width, 30);
        assert!((x.length / 40.0 - 120.0 / 119.0).abs() < 1e-12);
    }

    #[test]
    fn rows_of_the_first_pass_reach_as_far_as_the_resize() {
        for height in [81, 100, 119, 159, 160] {
            let route = Route::new(Size::new(10, 10), Size::new(10, height));
            let second = route.second.unwrap();
            for start in 0..second.height {
                let rows = start..second.height.min(start + 3);
                let first = route.first_rows(second, &rows);
                assert!(!first.is_empty() && first.end <= 10, "{first:?}");
                let Some((_, y)) = route.spans(second, &rows, first.start) else {
                    continue;
                };
                let around = SUPPORT * (y.length / rows.len() as f64).max(1.0);
                let made = (first.len() * FACTOR) as f64;
                assert!(first.start == 0 || y.start - around >= 0.0);
                assert!(first.end == 10 || y.start + y.length + around <= made);
            }
        }
    }
}
