// SPDX-License-Identifier: MPL-2.0
//! Arithmetic about the way through the VAE: the memory that it takes and the largest operands, without a tensor.

use super::TIME_LEVELS;
use super::config::VaeConfig;
use super::tap_products::Shape;
use crate::error::Result;
use crate::plan::operands::OperandLimit;

/// A layer, as far as sizes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layer {
    /// A causal convolution with a kernel of 3x3x3.
    Causal { inputs: usize, outputs: usize },
    /// A residual block.
    Block { inputs: usize, outputs: usize },
    /// A norm that is followed by a convolution.
    Norm { channels: usize },
    /// Frames become half as many.
    HalveTime { channels: usize },
    /// Both sides become half as long.
    Down { channels: usize },
    /// Both sides become twice as long, and frames perhaps twice as many.
    Up { channels: usize, doubles: bool },
}

/// A layer and what goes into it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Step {
    name: &'static str,
    /// Number of the level in the file, where there are several.
    level: Option<usize>,
    layer: Layer,
    frames: usize,
    height: usize,
    width: usize,
}

/// How activations are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keeping {
    /// Whether frames are apart, as on GPUs.
    pub apart: bool,
    /// Bytes of a value.
    pub element: usize,
    /// As in [`Cache::new`](super::conv::Cache::new).
    pub frugal: bool,
}

impl Keeping {
    /// On the CPU: f32, all frames in one tensor.
    pub const CPU: Self = Self {
        apart: false,
        element: 4,
        frugal: false,
    };
}

impl VaeConfig {
    /// Peak bytes of the activations while a chunk of `frames` frames of `height` x `width` pixels is encoded.
    pub fn encoding_bytes(
        &self,
        frames: usize,
        (height, width): (usize, usize),
        keeping: Keeping,
    ) -> u64 {
        peak(&self.encoder(frames, height, width), keeping)
    }

    /// Peak bytes of the activations while a chunk of `latents` latent frames of `height` x `width` positions is
    /// decoded; with `first` it is the first one of a clip.
    pub fn decoding_bytes(
        &self,
        latents: usize,
        first: bool,
        (height, width): (usize, usize),
        keeping: Keeping,
    ) -> u64 {
        peak(&self.decoder(latents, first, height, width), keeping)
    }

    /// Bytes that the encoder remembers between chunks of frames of `height` x `width` pixels.
    pub fn encoder_memory(&self, (height, width): (usize, usize), element: usize) -> u64 {
        remembered(&self.encoder(1, height, width), element)
    }

    /// Bytes that the decoder remembers between chunks of latent frames of `height` x `width` positions.
    pub fn decoder_memory(&self, (height, width): (usize, usize), element: usize) -> u64 {
        remembered(&self.decoder(1, true, height, width), element)
    }

    /// The largest operand of every layer while `frames` frames of `height` x `width` pixels are encoded in one chunk on
    /// a device with `limit`, each with the layer's name.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid) when a layer cannot be cut into small enough parts.
    pub fn encoder_operands(
        &self,
        frames: usize,
        (height, width): (usize, usize),
        limit: &OperandLimit,
    ) -> Result<Vec<(String, usize)>> {
        operands("encoder", &self.encoder(frames, height, width), None, limit)
    }

    /// As [`encoder_operands`](Self::encoder_operands), for `latents` latent frames of `height` x `width` positions that
    /// are decoded in one chunk.
    ///
    /// # Errors
    /// As [`encoder_operands`](Self::encoder_operands).
    pub fn decoder_operands(
        &self,
        latents: usize,
        (height, width): (usize, usize),
        limit: &OperandLimit,
    ) -> Result<Vec<(String, usize)>> {
        let steps = self.decoder(latents, true, height, width);
        operands("decoder", &steps, Some((self.latent, height, width)), limit)
    }

    fn encoder(&self, frames: usize, height: usize, width: usize) -> Vec<Step> {
        let mut way = Way::new(frames, height, width);
        let mut channels = self.base;
        let ends = |inputs, outputs| Layer::Causal { inputs, outputs };
        way.pass("conv_in", None, ends(self.colours, channels));
        let last = self.encoder_channels.len().saturating_sub(1);
        let levels = self.encoder_channels.iter().zip(&self.encoder_blocks);
        for (level, (&outputs, &count)) in levels.enumerate() {
            way.blocks("down", Some(level), &mut channels, outputs, count);
            if level < last {
                if level < TIME_LEVELS {
                    way.pass("halve_time", Some(level), Layer::HalveTime { channels });
                }
                way.pass("downsample", Some(level), Layer::Down { channels });
            }
        }
        let outputs = channels;
        way.blocks("mid", None, &mut channels, outputs, 2);
        way.pass("norm_out", None, Layer::Norm { channels });
        way.pass("conv_out", None, ends(channels, 2 * self.latent));
        way.steps
    }

    fn decoder(&self, latents: usize, first: bool, height: usize, width: usize) -> Vec<Step> {
        let mut way = Way::new(latents, height, width);
        way.split = first;
        let count = self.decoder_channels.len();
        let mut channels = self.decoder_channels.last().copied().unwrap_or(self.base);
        let ends = |inputs, outputs| Layer::Causal { inputs, outputs };
        way.pass("conv_in", None, ends(self.latent, channels));
        let outputs = channels;
        way.blocks("mid", None, &mut channels, outputs, 2);
        let levels = self.decoder_channels.iter().zip(&self.decoder_blocks);
        for (level, (&outputs, &repeats)) in levels.enumerate().rev() {
            way.blocks("up", Some(level), &mut channels, outputs, repeats);
            if level > 0 {
                let doubles = level + TIME_LEVELS >= count;
                way.pass("upsample", Some(level), Layer::Up { channels, doubles });
            }
        }
        way.pass("norm_out", None, Layer::Norm { channels });
        way.pass("conv_out", None, ends(channels, self.colours));
        way.steps
    }
}

/// The steps so far, and the frames after them.
struct Way {
    steps: Vec<Step>,
    frames: usize,
    height: usize,
    width: usize,
    /// Whether the first frame stays single.
    split: bool,
}

impl Way {
    fn new(frames: usize, height: usize, width: usize) -> Self {
        Self {
            steps: Vec::new(),
            frames,
            height,
            width,
            split: false,
        }
    }

    fn pass(&mut self, name: &'static str, level: Option<usize>, layer: Layer) {
        self.steps.push(Step {
            name,
            level,
            layer,
            frames: self.frames,
            height: self.height,
            width: self.width,
        });
        match layer {
            Layer::Causal { .. } | Layer::Block { .. } | Layer::Norm { .. } => {}
            Layer::HalveTime { .. } => self.frames = self.frames.div_ceil(2),
            Layer::Down { .. } => (self.height, self.width) = (self.height / 2, self.width / 2),
            Layer::Up { doubles, .. } => {
                (self.height, self.width) = (self.height * 2, self.width * 2);
                if doubles {
                    self.frames = 2 * self.frames - usize::from(self.split && self.frames > 0);
                }
            }
        }
    }

    /// `count` blocks, the first of which leads from `channels` to `outputs`.
    fn blocks(
        &mut self,
        name: &'static str,
        level: Option<usize>,
        channels: &mut usize,
        outputs: usize,
        count: usize,
    ) {
        for _ in 0..count {
            let inputs = std::mem::replace(channels, outputs);
            self.pass(name, level, Layer::Block { inputs, outputs });
        }
    }
}

/// Peak bytes of the activations over all `steps`.
fn peak(steps: &[Step], keeping: Keeping) -> u64 {
    let values = |step: &Step| match keeping.apart {
        true => step.values_apart(keeping.frugal),
        false => step.values_whole(),
    };
    let most = steps.iter().map(values).max().unwrap_or(0);
    most as u64 * keeping.element as u64
}

/// Bytes of the two frames that every causal convolution remembers.
fn remembered(steps: &[Step], element: usize) -> u64 {
    let values = steps.iter().map(|step| {
        let channels = match step.layer {
            Layer::Causal { inputs, .. } => inputs,
            Layer::Block { inputs, outputs } => inputs + outputs,
            _ => 0,
        };
        2 * channels * step.height * step.width
    });
    values.sum::<usize>() as u64 * element as u64
}

impl Step {
    /// Values that are alive at once when all frames are in one tensor.
    fn values_whole(&self) -> usize {
        let channels = match self.layer {
            Layer::Causal { inputs, outputs } => inputs + outputs,
            // The input, a normalised value and a convolved one; at the end the sum, and the input at its size.
            Layer::Block { inputs, outputs } if inputs == outputs => 3 * inputs,
            Layer::Block { inputs, outputs } => (2 * inputs + outputs).max(inputs + 3 * outputs),
            Layer::Norm { channels } => 2 * channels,
            Layer::HalveTime { channels } => 2 * channels,
            Layer::Down { channels } => channels + channels / 4,
            // The enlarged frames and their convolution; then that and the repeated frames.
            Layer::Up { channels, doubles } => {
                (1 + 4 + 4).max(4 + 8 * usize::from(doubles)) * channels
            }
        };
        channels * self.frames * self.height * self.width
    }

    /// Values that are alive at once when frames are apart: those of all frames, those on their way, and the buffers of
    /// a band.
    fn values_apart(&self, frugal: bool) -> usize {
        let frame = self.height * self.width;
        let (all, few) = match self.layer {
            Layer::Causal { inputs, outputs } => (inputs.max(outputs), 3 * inputs + outputs),
            Layer::Block { inputs, outputs } => {
                // Of each convolution the frames that it sees; between them one frame, and one sum.
                let few = 3 * inputs + 3 * outputs + 2 * outputs;
                match frugal {
                    true => (inputs.max(outputs), few),
                    false => (inputs + outputs, few),
                }
            }
            Layer::Norm { channels } | Layer::HalveTime { channels } | Layer::Down { channels } => {
                (channels, channels)
            }
            // Repeated frames share their values.
            Layer::Up { channels, .. } => (4 * channels, channels),
        };
        // What a band reads, its windows, the product and its transpose: the windows are the largest.
        let windows = self
            .convolutions()
            .map(|(shape, height, width)| shape.row(width) * shape.out(height));
        let band = windows.max().unwrap_or(0).min(OperandLimit::gpu().part());
        (all * self.frames + few) * frame + 2 * band
    }

    /// The convolutions of the layer, and height and width of what they are given.
    fn convolutions(&self) -> impl Iterator<Item = (Shape, usize, usize)> {
        let conv = |inputs, outputs, time, k, stride, padding| Shape {
            inputs,
            outputs,
            extent: (time, k),
            stride,
            padding,
        };
        let causal = |inputs, outputs| conv(inputs, outputs, 3, 3, 1, (1, 1));
        let size = (self.height, self.width);
        let list = match self.layer {
            Layer::Causal { inputs, outputs } => vec![causal(inputs, outputs)],
            Layer::Block { inputs, outputs } => {
                let mut list = vec![causal(inputs, outputs), causal(outputs, outputs)];
                if inputs != outputs {
                    list.push(conv(inputs, outputs, 1, 1, 1, (0, 0)));
                }
                list
            }
            Layer::Down { channels } => vec![conv(channels, channels, 1, 3, 2, (0, 1))],
            Layer::Up { channels, .. } => vec![conv(channels, channels, 1, 3, 1, (1, 1))],
            Layer::Norm { .. } | Layer::HalveTime { .. } => Vec::new(),
        };
        let factor = 1 + usize::from(matches!(self.layer, Layer::Up { .. }));
        list.into_iter()
            .map(move |shape| (shape, factor * size.0, factor * size.1))
    }

    /// Channels of what a norm of the layer is given.
    fn normalised(&self) -> Option<usize> {
        match self.layer {
            Layer::Block { inputs, outputs } => Some(inputs.max(outputs)),
            Layer::Norm { channels } => Some(channels),
            _ => None,
        }
    }
}

/// The largest operand of each of `steps`. In the decoder norms are modulated by a `latent` of that many channels, rows
/// and columns.
fn operands(
    side: &str,
    steps: &[Step],
    latent: Option<(usize, usize, usize)>,
    limit: &OperandLimit,
) -> Result<Vec<(String, usize)>> {
    let mut list: Vec<(String, usize)> = Vec::new();
    // What norms and means work on: the bands that came out of the convolution before.
    let mut band = 0;
    for step in steps {
        let mut most = band;
        for (shape, height, width) in step.convolutions() {
            let bands = shape.bands((height, width), limit)?;
            let rows = bands.iter().map(ExactSizeIterator::len).max().unwrap_or(0);
            most = most.max(rows * shape.row(width));
            band = rows * shape.outputs * shape.out(width);
        }
        if let (Some((inputs, rows, columns)), Some(outputs)) = (latent, step.normalised()) {
            let point = Shape {
                inputs,
                outputs,
                extent: (1, 1),
                stride: 1,
                padding: (0, 0),
            };
            let bands = point.bands((rows, columns), limit)?;
            let longest = bands.iter().map(ExactSizeIterator::len).max().unwrap_or(0);
            most = most.max(longest * point.row(columns));
        }
        let name = match step.level {
            Some(level) => format!("{side}.{}.{level}", step.name),
            None => format!("{side}.{}", step.name),
        };
        match list.last_mut() {
            Some((last, largest)) if *last == name => *largest = most.max(*largest),
            _ => list.push((name, most)),
        }
    }
    Ok(list)
}

#[cfg(test)]
mod tests;
