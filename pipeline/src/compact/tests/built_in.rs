// SPDX-License-Identifier: MPL-2.0
//! The models inside of the program.

use super::*;

/// The plane `index` of `frame` with its size.
pub(super) fn samples(frame: &Frame, index: usize) -> (&[u8], Size) {
    let Samples::U8(plane) = frame.planes()[index].as_ref() else {
        panic!("8 bits")
    };
    (plane, frame.format().plane_size(index, frame.size()))
}

/// Every built-in model in every number type, and what to call them.
fn built_in() -> impl Iterator<Item = (String, CompactModel)> {
    let f32 = CpuLevel::detected().min(CpuLevel::Avx512);
    let numbers = [
        ("f32", f32, false),
        ("bf16", CpuLevel::detected(), false),
        ("int8", f32, true),
    ]
    .into_iter();
    numbers.flat_map(|(number, level, int8)| {
        crate::checkpoint::builtin::ENHANCERS.iter().map(move |b| {
            let model = parse(b.bytes, level);
            let model = if int8 {
                super::int8::rounded(model)
            } else {
                model
            };
            (format!("{} in {number}", b.name), whole(model))
        })
    })
}

#[test]
fn built_in_models_keep_a_flat_colour_up_to_the_border() {
    for (name, model) in built_in() {
        for format in [FrameFormat::i420(), FrameFormat::rgb()] {
            let size = Size::new(40, 36);
            for code in [16, 60, 128, 200, 235] {
                let planes = (0..3)
                    .map(|index| Samples::U8(vec![code; format.plane_size(index, size).pixels()]));
                let flat = Frame::new(format, size, planes.collect()).unwrap();
                let large = enlarged(&model, &flat, Size::new(160, 144), 1, 0.0, 1);
                for index in 0..3 {
                    let (plane, Size { width, .. }) = samples(&large, index);
                    for (place, &sample) in plane.iter().enumerate() {
                        let (x, y) = (place % width, place / width);
                        assert!(
                            code.abs_diff(sample) <= 1,
                            "{name} at {code}: {sample} at {x},{y} of plane {index}"
                        );
                    }
                }
            }
        }
    }
}

/// A slope goes on up to the last row and column: up to rounding it is nowhere as far off as to the next pixel of the small picture.
#[test]
fn built_in_models_continue_a_slope_up_to_the_border() {
    let (small, large) = (Size::new(44, 40), Size::new(176, 160));
    for (name, model) in built_in() {
        for (across, down) in [(219.0, 0.0), (0.0, 219.0), (110.0, 109.0), (0.0, 60.0)] {
            // The codes at the middle of each pixel, on the small picture's scale.
            let slope = |size: Size| {
                let factor = size.width as f64 / small.width as f64;
                let along =
                    move |at: usize, last: usize| ((at as f64 + 0.5) / factor - 0.5) / last as f64;
                (0..size.pixels()).map(move |i| {
                    let x = across * along(i % size.width, small.width - 1);
                    16.0 + x + down * along(i / size.width, small.height - 1)
                })
            };
            let codes = slope(small).map(|code| code.round() as u8).collect();
            let frame = Frame::new(FrameFormat::gray(), small, vec![Samples::U8(codes)]).unwrap();
            let got = enlarged(&model, &frame, large, 1, 0.0, 1);
            let step = across / 43.0 + down / 39.0;
            // That of the result to codes, and that of the network's own sums.
            let rounding = if name.ends_with("int8") { 1.5 } else { 0.5 };
            let mut sum = 0.0;
            for (place, (&got, want)) in samples(&got, 0).0.iter().zip(slope(large)).enumerate() {
                let off = (f64::from(got) - want).abs();
                let (x, y) = (place % large.width, place / large.width);
                assert!(
                    off < step + rounding,
                    "{name}, slope {across} {down}: {got} for {want:.1} at {x},{y}"
                );
                sum += off;
            }
            let mean = sum / large.pixels() as f64;
            assert!(mean < 0.5, "{name}, slope {across} {down}: {mean:.2} off");
        }
    }
}
