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
    let numbers = [
        ("f32", DType::F32, false),
        ("bf16", DType::BF16, false),
        ("int8", DType::F32, true),
    ]
    .into_iter();
    numbers.flat_map(|(number, dtype, int8)| {
        crate::checkpoint::builtin::ENHANCERS.iter().map(move |b| {
            let model = CompactModel::from_bytes(b.bytes, Path::new(b.name), dtype).unwrap();
            (
                format!("{} in {number}", b.name),
                if int8 {
                    super::int8::rounded(model)
                } else {
                    model
                },
            )
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

/// The last columns and rows look like those of a picture that goes on.
#[test]
fn built_in_models_keep_a_gradient_up_to_the_border() {
    // The edge of the wide picture repeats as long as the network sees.
    let (size, beyond) = (Size::new(44, 40), 20);
    let wide = Size::new(size.width + 2 * beyond, size.height + 2 * beyond);
    for (name, model) in built_in() {
        for (across, down) in [(219.0, 0.0), (0.0, 219.0), (110.0, 109.0)] {
            let gray = |Size { width, height }: Size, margin: usize| {
                let along = |at: usize, length: usize| {
                    let last = length - 2 * margin - 1;
                    at.saturating_sub(margin).min(last) as f64 / last as f64
                };
                let code = |i: usize| {
                    16.5 + across * along(i % width, width) + down * along(i / width, height)
                };
                let codes = (0..width * height).map(|i| code(i) as u8).collect();
                let size = Size::new(width, height);
                Frame::new(FrameFormat::gray(), size, vec![Samples::U8(codes)]).unwrap()
            };
            let four = |size: Size| Size::new(4 * size.width, 4 * size.height);
            let got = enlarged(&model, &gray(size, 0), four(size), 1, 0.0, 1);
            let want = enlarged(&model, &gray(wide, beyond), four(wide), 1, 0.0, 1);
            let ((got, large), (want, _)) = (samples(&got, 0), samples(&want, 0));
            for (y, row) in got.chunks(large.width).enumerate() {
                let start = (y + 4 * beyond) * 4 * wide.width + 4 * beyond;
                for (x, (got, want)) in row.iter().zip(&want[start..]).enumerate() {
                    assert!(
                        got.abs_diff(*want) <= 1,
                        "{name}, gradient {across} {down}: {got} for {want} at {x},{y}"
                    );
                }
            }
        }
    }
}
