// SPDX-License-Identifier: MPL-2.0
//! Cases that are whole networks.

use std::collections::HashMap;

use candle_core::{DType, Device, Tensor};
use flashvideo::checkpoint::{Checkpoint, Weights};
use flashvideo::cpu::conv3x3::bands::{Bands, CACHE, Layer, Network, Pixels, PixelsMut, Shape};
use flashvideo::cpu::conv3x3::{Activation, Cell, Conv3x3, Window};
use flashvideo::linear::Operand;
use flashvideo::release::dit::rope::Rope;
use flashvideo::release::dit::{Grid, Transformer};
use flashvideo::release::generate::{self, GenerateOptions, Generator};
use flashvideo::{
    CancelToken, DeviceSpec, EnhanceOptions, EnhanceStream, Enhancer, Error, Frame, FrameFormat,
    NumberType, Progress, Result, Runtime, Samples, Size,
};
use half::bf16;
use rayon::prelude::*;

use crate::case::{Case, Part, Subject, part};
use crate::data::{fastest, level, probe, values};

const SMALL: Size = Size {
    width: 480,
    height: 270,
};

/// The fastest of the floating point types.
fn fastest_number() -> NumberType {
    match fastest() {
        DType::BF16 => NumberType::Bf16,
        _ => NumberType::F32,
    }
}

/// The enhancer of live video, planes in and planes out.
pub fn live() -> Vec<Case> {
    let case = |name, number| Case {
        name,
        parts: vec![enhance("builtin:live", 1, number)],
    };
    vec![
        case("live_1080p_fps", fastest_number()),
        case("live_1080p_f32_fps", NumberType::F32),
        case("live_1080p_int8_fps", NumberType::Int8),
    ]
}

/// The built-in models whole.
pub fn whole() -> Vec<Case> {
    let quality = |name, steps, number| Case {
        name,
        parts: vec![enhance("builtin", steps, number)],
    };
    vec![
        Case {
            name: "generate_49_frames_s",
            parts: vec![Part {
                value: |ms| ms / 1e3,
                ..part(Clip::new, &[], None, 5)
            }],
        },
        quality("enhance_quality_fps", 1, fastest_number()),
        quality("enhance_quality_4_evaluations_fps", 4, fastest_number()),
        quality("enhance_quality_int8_fps", 1, NumberType::Int8),
    ]
}

fn enhance(model: &'static str, steps: usize, number: NumberType) -> Part {
    let ours = move || Stream::new(model, steps, number);
    Part {
        value: |ms| 1e3 / ms,
        ..part(ours, &[], None, 15)
    }
}

struct Stream {
    stream: EnhanceStream<()>,
    frame: Frame,
}

impl Stream {
    fn new(model: &str, steps: usize, number: NumberType) -> Result<Self> {
        let threads = rayon::current_num_threads();
        let runtime = Runtime::new(DeviceSpec::Cpu, number, Some(threads))?;
        let enhancer = Enhancer::load(model, &runtime, &Progress::none())?;
        let format = FrameFormat::i420();
        let options = EnhanceOptions {
            steps: Some(steps),
            noise: Some(0.0),
            ..EnhanceOptions::default()
        };
        let mut stream = EnhanceStream::new(enhancer, format, SMALL, options, Progress::none())?;
        let planes = (0..format.plane_count()).map(|index| {
            let plane = format.plane_size(index, SMALL);
            // A picture with structure.
            let value = |i: usize| ((i % plane.width * 3) ^ (i / plane.width * 5)) as u8;
            Samples::U8((0..plane.pixels()).map(value).collect())
        });
        let frame = Frame::new(format, SMALL, planes.collect())?;
        // Until the window of a model that looks ahead is full.
        while stream.stats().frames == 0 {
            stream.push(frame.clone(), ())?;
        }
        Ok(Self { stream, frame })
    }
}

impl Subject for Stream {
    fn run(&mut self) -> Result<()> {
        self.stream.push(self.frame.clone(), ())?;
        Ok(())
    }
}

/// A clip of the built-in text-to-video model.
struct Clip(Generator);

impl Clip {
    fn new() -> Result<Self> {
        let threads = rayon::current_num_threads();
        let runtime = Runtime::new(DeviceSpec::Cpu, fastest_number(), Some(threads))?;
        Generator::find(generate::BUILTIN, None, &runtime.into()).map(Self)
    }
}

impl Subject for Clip {
    fn run(&mut self) -> Result<()> {
        let options = GenerateOptions {
            prompt: "a red balloon rises over a meadow at sunset".to_owned(),
            ..self.0.defaults()
        };
        self.0.pictures(&options, &Progress::none(), |_| Ok(()))
    }
}

/// A plain network of ten convolutions, as small upscalers are.
pub fn srvgg() -> Vec<Case> {
    let case = |name, rivals: &[&str]| {
        let rivals: Vec<String> = rivals
            .iter()
            .map(|rival| format!("srvgg32 {rival}"))
            .collect();
        let reference = Some("srvgg32 torch f32 planes".to_owned());
        let part = match fastest() {
            DType::BF16 => part(|| Ok(Srvgg::<bf16>::new()), &rivals, reference, 9),
            _ => part(|| Ok(Srvgg::<f32>::new()), &rivals, reference, 9),
        };
        Case {
            name,
            parts: vec![part],
        }
    };
    vec![
        case(
            "srvgg32_vs_torch_bf16",
            &["torch bf16 last", "torch bf16 planes"],
        ),
        case(
            "srvgg32_vs_torch_f32",
            &["torch f32 last", "torch f32 planes"],
        ),
        case("srvgg32_vs_onnxruntime", &["onnxruntime f32"]),
        case("srvgg32_vs_ncnn", &["ncnn f32", "ncnn bf16"]),
    ]
}

const BODY: usize = 32;
const COLOURS: usize = 3;

struct Srvgg<T: Cell> {
    network: Layers<T>,
    bands: Bands<T>,
    /// The ten convolutions' result, `[h, w, 48]`.
    latent: Vec<f32>,
    out: Vec<f32>,
}

struct Layers<T> {
    picture: Vec<f32>,
    layers: Vec<Layer<T>>,
    convolutions: Vec<(Conv3x3<T>, Vec<f32>)>,
    tail: Conv3x3<T>,
}

impl<T: Activation + Operand> Srvgg<T> {
    fn new() -> Self {
        let level = level::<T>();
        let conv = |seed: u32, inputs: usize, outputs: usize| {
            let size = ((inputs * 9) as f32).powf(-0.5);
            let weight = values(seed, outputs * inputs * 9, size);
            Conv3x3::new(level, &weight, &values(seed + 1, outputs, 0.1), inputs)
        };
        let slope = |seed| values(seed, BODY, 0.5).into_iter().map(f32::abs).collect();
        let inputs = |index| if index == 0 { COLOURS } else { BODY };
        let layer = |index| Layer {
            border: vec![T::default(); Conv3x3::<T>::padded_inputs(inputs(index))],
            sums: false,
            inside: false,
        };
        let network = Layers {
            picture: values(1, COLOURS * SMALL.pixels(), 1.0),
            layers: (0..10).map(layer).collect(),
            convolutions: (0..9)
                .map(|index| {
                    let seed = 10 * index as u32;
                    (conv(seed, inputs(index), BODY), slope(seed + 2))
                })
                .collect(),
            tail: conv(90, BODY, 48),
        };
        let shape = Shape {
            layers: &network.layers,
            outputs: 48,
            size: SMALL,
            group: CACHE,
        };
        Self {
            bands: Bands::new(shape),
            network,
            latent: vec![0.0; SMALL.pixels() * 48],
            out: vec![0.0; SMALL.pixels() * 48],
        }
    }
}

impl<T: Activation> Network for Layers<T> {
    type Cell = T;

    fn layers(&self) -> &[Layer<T>] {
        &self.layers
    }

    /// There is none: the network's own result is wanted.
    fn state(&self, _: usize, _: &mut [f32]) {}

    fn input(&self, row: usize, _: &[f32], to: &mut [T]) {
        let channels = self.layers[0].border.len();
        for (column, pixel) in to.chunks_exact_mut(channels).enumerate() {
            for (colour, value) in pixel.iter_mut().take(COLOURS).enumerate() {
                let at = (colour * SMALL.height + row) * SMALL.width + column;
                *value = T::from_f32(self.picture[at]);
            }
        }
    }

    fn layer(
        &self,
        layer: usize,
        from: Window<'_, T>,
        _: Option<Pixels<'_, T>>,
        to: PixelsMut<'_, T>,
    ) {
        let (conv, slope) = &self.convolutions[layer - 1];
        conv.prelu(from, slope, to.values);
    }

    fn result(&self, from: Window<'_, T>, _: &[f32], to: &mut [f32]) {
        self.tail.step(from, None, 1.0, to);
    }
}

impl<T: Activation + Operand> Subject for Srvgg<T> {
    fn run(&mut self) -> Result<()> {
        let put = |row: &[f32], out: &mut [f32]| out.copy_from_slice(row);
        let (rows, cancel) = (0..SMALL.height, CancelToken::new());
        self.bands
            .run(&self.network, rows, &mut self.latent, put, &cancel)?;
        // Pixel shuffle.
        let large = 4 * SMALL.width;
        let latent = &self.latent;
        self.out
            .par_chunks_exact_mut(large)
            .enumerate()
            .for_each(|(line, out)| {
                let (colour, y) = (line / (4 * SMALL.height), line % (4 * SMALL.height));
                let first = colour * 16 + y % 4 * 4;
                let row = &latent[y / 4 * SMALL.width * 48..][..SMALL.width * 48];
                for (out, pixel) in out.chunks_exact_mut(4).zip(row.chunks_exact(48)) {
                    out.copy_from_slice(&pixel[first..][..4]);
                }
            });
        Ok(())
    }

    fn probe(&mut self) -> Result<Vec<f32>> {
        Ok(probe(self.out.len(), |index| self.out[index]))
    }
}

/// One block of Stage II in true size.
pub fn blocks() -> Vec<Case> {
    let grids = [
        Grid {
            frames: 2,
            rows: 1,
            columns: 887,
        },
        Grid {
            frames: 13,
            rows: 26,
            columns: 23,
        },
    ];
    let names = [
        ["block_2000_vs_torch_f32", "block_8000_vs_torch_f32"],
        ["block_2000_vs_torch_bf16", "block_8000_vs_torch_bf16"],
    ];
    let kinds = [("f32", DType::F32), ("bf16", DType::BF16)];
    let mut cases = Vec::new();
    for (names, (kind, dtype)) in names.into_iter().zip(kinds) {
        for (name, grid) in names.into_iter().zip(grids) {
            let tokens = TEXT + grid.tokens();
            let rivals = [format!("block {kind} {tokens}")];
            let reference = Some(format!("block f32 {tokens}"));
            let ours = move || OneBlock::new(grid, dtype);
            cases.push(Case {
                name,
                parts: vec![part(ours, &rivals, reference, 5)],
            });
        }
    }
    cases
}

const TEXT: usize = 226;
const HIDDEN: usize = 1920;

struct OneBlock {
    model: Transformer,
    rows: Tensor,
    embedding: Tensor,
    rope: Rope,
}

impl OneBlock {
    fn new(grid: Grid, dtype: DType) -> Result<Self> {
        let checkpoint = Checkpoint::from_tensors(one_layer()?)?;
        let weights = Weights::new(checkpoint, &Device::Cpu, dtype);
        Ok(Self {
            model: Transformer::load(&weights)?,
            rows: Self::rows(grid.tokens())?,
            embedding: tensor(2, &[1, 512], 1.0)?,
            rope: Rope::new(grid, 64, 10_000.0),
        })
    }

    fn rows(image: usize) -> Result<Tensor> {
        tensor(1, &[TEXT + image, HIDDEN], 1.0)
    }
}

impl Subject for OneBlock {
    fn run(&mut self) -> Result<()> {
        let rows = (&self.rows, TEXT);
        self.model
            .block(0, rows, &self.embedding, &self.rope, &Progress::none())
    }

    fn probe(&mut self) -> Result<Vec<f32>> {
        // Runs change the rows in place.
        self.rows = Self::rows(self.rows.dim(0)? - TEXT)?;
        self.run()?;
        let all = self.rows.flatten_all()?.to_vec1::<f32>()?;
        Ok(probe(all.len(), |index| all[index]))
    }
}

fn tensor(seed: u32, shape: &[usize], size: f32) -> Result<Tensor> {
    let len = shape.iter().product();
    Ok(Tensor::from_vec(
        values(seed, len, size),
        shape,
        &Device::Cpu,
    )?)
}

/// The tensors of a Stage II network of one layer; what stands around the block is zero.
fn one_layer() -> Result<HashMap<String, Tensor>> {
    let mut all = HashMap::new();
    let d = HIDDEN;
    let mut layer = |name: &str, seed: u32, outputs: usize, inputs: usize| {
        let size = (inputs as f32).powf(-0.5);
        all.insert(
            format!("{name}.weight"),
            tensor(seed, &[outputs, inputs], size)?,
        );
        all.insert(format!("{name}.bias"), tensor(seed + 1, &[outputs], 0.1)?);
        Ok::<_, Error>(())
    };
    let block = |name: &str| format!("transformer.layers.0.{name}");
    let adaln = |name: &str| format!("mixins.adaln_layer.{name}");
    layer(&adaln("adaLN_modulations.0.1"), 10, 12 * d, 512)?;
    layer(&block("attention.query_key_value"), 20, 3 * d, d)?;
    layer(&block("attention.dense"), 30, d, d)?;
    layer(&block("mlp.dense_h_to_4h"), 40, 4 * d, d)?;
    layer(&block("mlp.dense_4h_to_h"), 50, d, 4 * d)?;
    for (name, seed, size) in [
        (block("input_layernorm"), 60, d),
        (block("post_attention_layernorm"), 70, d),
        (adaln("query_layernorm_list.0"), 80, 64),
        (adaln("key_layernorm_list.0"), 90, 64),
    ] {
        all.insert(
            format!("{name}.weight"),
            (tensor(seed, &[size], 0.5)? + 1.0)?,
        );
        all.insert(format!("{name}.bias"), tensor(seed + 1, &[size], 0.1)?);
    }
    let embedding = |name: &str, index: usize| format!("{name}.{index}");
    let mut around: Vec<(String, Vec<usize>)> = vec![
        ("mixins.patch_embed.proj".into(), vec![d, 16, 2, 2]),
        ("mixins.patch_embed.text_proj".into(), vec![d, 4096]),
        ("transformer.final_layernorm".into(), vec![d]),
        ("mixins.final_layer.norm_final".into(), vec![d]),
        (
            "mixins.final_layer.adaLN_modulation.1".into(),
            vec![2 * d, 512],
        ),
        ("mixins.final_layer.linear".into(), vec![64, d]),
    ];
    for name in [
        "time_embed",
        "time_size_embedding",
        "ref_step_time_embedding",
    ] {
        around.push((embedding(name, 0), vec![512, d]));
        around.push((embedding(name, 2), vec![512, 512]));
    }
    for (name, shape) in around {
        let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &Device::Cpu);
        all.insert(format!("{name}.bias"), zeros(&shape[..1])?);
        all.insert(format!("{name}.weight"), zeros(&shape)?);
    }
    Ok(all)
}
