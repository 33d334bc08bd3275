// SPDX-License-Identifier: MPL-2.0
use half::bf16;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;

/// Random layer and clip of values that bf16 holds exactly.
struct Case {
    inputs: usize,
    outputs: usize,
    time: usize,
    frames: usize,
    size: (usize, usize),
    clip: Vec<f32>,
    weight: Vec<f32>,
    bias: Vec<f32>,
    residual: Vec<f32>,
}

impl Case {
    fn new(channels: (usize, usize), time: usize, frames: usize, size: (usize, usize)) -> Self {
        let (inputs, outputs) = channels;
        let mut rng = ChaCha8Rng::seed_from_u64((inputs * 31 + outputs + size.1) as u64);
        let mut draw = |len: usize| -> Vec<f32> {
            (0..len)
                .map(|_| rng.random_range(-16..=16) as f32 / 16.0)
                .collect()
        };
        let plane = size.0 * size.1;
        Self {
            inputs,
            outputs,
            time,
            frames,
            size,
            clip: draw(frames * inputs * plane),
            weight: draw(outputs * inputs * time * 9),
            bias: draw(outputs),
            residual: draw((frames + 1 - time) * outputs * plane),
        }
    }

    /// The definition.
    fn want(&self) -> Vec<f64> {
        let (height, width) = self.size;
        let mut out = Vec::new();
        for frame in 0..=self.frames - self.time {
            for output in 0..self.outputs {
                for at in 0..height * width {
                    let mut sum = f64::from(self.bias[output]);
                    for input in 0..self.inputs {
                        for tap in 0..self.time * 9 {
                            let (t, dy, dx) = (tap / 9, tap / 3 % 3, tap % 3);
                            let (y, x) = (at / width + dy, at % width + dx);
                            if (1..=height).contains(&y) && (1..=width).contains(&x) {
                                let plane = (frame + t) * self.inputs + input;
                                let value = self.clip[(plane * height + y - 1) * width + x - 1];
                                let weight = (output * self.inputs + input) * self.time * 9;
                                sum += f64::from(value * self.weight[weight + tap]);
                            }
                        }
                    }
                    out.push(sum);
                }
            }
        }
        out
    }

    /// Sums of products of multiples of 1/16 are exact in f32.
    fn check<T: Element>(&self, winograd: bool, level: CpuLevel) {
        let weight: Vec<T> = self.weight.iter().map(|v| T::from_f32(*v)).collect();
        let conv = Conv3d::with(winograd, level, &weight, &self.bias, self.inputs, self.time);
        let want = self.want();
        let plane = self.inputs * self.size.0 * self.size.1;
        let frames: Vec<&[f32]> = self.clip.chunks(plane).collect();
        let clip = Clip {
            frames: &frames,
            height: self.size.0,
            width: self.size.1,
        };
        for residual in [None, Some(&self.residual[..])] {
            let mut out = vec![f32::NAN; want.len()];
            conv.run(clip, residual, &mut out, &CancelToken::new())
                .unwrap();
            for (index, (got, want)) in out.iter().zip(&want).enumerate() {
                let want = want + residual.map_or(0.0, |r| f64::from(r[index]));
                assert_eq!(
                    f64::from(*got),
                    want,
                    "{level} at {index} of {:?}",
                    self.size
                );
            }
        }
    }
}

fn cases() -> Vec<Case> {
    vec![
        Case::new((1, 1), 1, 1, (1, 1)),
        Case::new((3, 5), 3, 4, (5, 7)),
        Case::new((16, 16), 1, 2, (17, 16)),
        Case::new((18, 33), 3, 3, (9, 31)),
        Case::new((32, 80), 3, 5, (2, 19)),
        Case::new((2, 17), 1, 1, (7, 251)),
    ]
}

#[test]
fn all_levels_equal_the_definition() {
    for case in cases() {
        for level in CpuLevel::ALL
            .into_iter()
            .filter(|level| *level <= CpuLevel::detected())
        {
            for winograd in [false, true] {
                case.check::<f32>(winograd, level);
                case.check::<bf16>(winograd, level);
            }
        }
    }
}

#[test]
fn wrong_sizes_and_a_triggered_token_are_errors() {
    let conv = Conv3d::<f32>::new(CpuLevel::detected(), &[1.0; 18], &[0.0], 2, 1);
    let frame = [0.0; 2 * 12];
    let clip = Clip {
        frames: &[&frame],
        height: 3,
        width: 4,
    };
    let (mut out, cancel) = (vec![0.0; 12], CancelToken::new());
    assert!(conv.run(clip, None, &mut out, &cancel).is_ok());
    assert!(conv.run(clip, None, &mut out[..11], &cancel).is_err());
    assert!(conv.run(clip, Some(&[0.0; 3]), &mut out, &cancel).is_err());
    assert!(
        conv.run(Clip { width: 5, ..clip }, None, &mut out, &cancel)
            .is_err()
    );
    cancel.cancel();
    let stopped = conv.run(clip, None, &mut out, &cancel);
    assert!(stopped.unwrap_err().is_cancelled());
}
