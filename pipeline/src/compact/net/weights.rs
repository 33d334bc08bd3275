// SPDX-License-Identifier: MPL-2.0
//! Reading the compact model's file: safetensors with tensors named as in the trainer (`training/model.py`).

use std::collections::HashMap;
use std::path::Path;

use half::{bf16, f16};
use safetensors::{Dtype, SafeTensors};

use super::{Config, Conv, EMBED, Expert, Net};
use crate::cpu::conv3x3::LANES;
use crate::cpu::s2d::LATENT;
use crate::error::{Error, Result};

/// Prefix of the second expert's tensors.
const DETAIL: &str = "detail.";
/// Noise strength of a model without an expert for noise.
const DEFAULT_SIGMA: f64 = 0.1;
/// What `format` says in the file.
const FORMAT: &str = "flashvideo-compact";
/// Files beyond this are no compact models.
const MAX_FILE: u64 = 1 << 30;

impl Net {
    /// Reads the model at `path`.
    ///
    /// # Errors
    /// [`Error::Io`], or as [`parse`](Self::parse).
    pub fn open(path: &Path) -> Result<Self> {
        let length = std::fs::metadata(path)
            .map_err(|e| Error::io(path, e))?
            .len();
        if length > MAX_FILE {
            let problem = format!("has {length} bytes; compact models have a few MB");
            return Err(Error::checkpoint(path, problem));
        }
        let bytes = std::fs::read(path).map_err(|e| Error::io(path, e))?;
        Self::parse(&bytes, path)
    }

    /// Parses the bytes of the file at `path` (used in messages only).
    ///
    /// # Errors
    /// [`Error::Checkpoint`] that names every setting and tensor that is missing, misshapen or not finite.
    pub fn parse(bytes: &[u8], path: &Path) -> Result<Self> {
        let broken = |e: &dyn std::fmt::Display| {
            Error::checkpoint(
                path,
                format!("this is no whole safetensors file ({e}); fetch or export it again"),
            )
        };
        let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(|e| broken(&e))?;
        let tensors = SafeTensors::deserialize(bytes).map_err(|e| broken(&e))?;
        let empty = HashMap::new();
        let config = config(metadata.metadata().as_ref().unwrap_or(&empty))
            .map_err(|e| Error::checkpoint(path, e))?;
        let mut reader = Reader {
            tensors,
            prefix: "",
            problems: Vec::new(),
        };
        let base = reader.expert(&config);
        let detail = reader
            .tensors
            .names()
            .iter()
            .any(|name| name.starts_with(DETAIL))
            .then(|| {
                reader.prefix = DETAIL;
                reader.expert(&config)
            });
        if !reader.problems.is_empty() {
            let problems = reader.problems.join("; ");
            return Err(Error::checkpoint(
                path,
                format!("does not hold the model that it describes: {problems}"),
            ));
        }
        Ok(Self {
            config,
            base,
            detail,
        })
    }
}

/// Reads and checks the settings in the file's metadata; a message names all wrong ones.
fn config(metadata: &HashMap<String, String>) -> Result<Config, String> {
    let text = |key: &str| metadata.get(key).map(String::as_str);
    if text("format") != Some(FORMAT) {
        let found = text("format").unwrap_or("none");
        return Err(format!(
            "format is {found:.40}, expected {FORMAT}; this is not a compact model"
        ));
    }
    if text("version") != Some("1") {
        let found = text("version").unwrap_or("none");
        return Err(format!(
            "version is {found:.40}, this program reads version 1"
        ));
    }
    let mut problems = Vec::new();
    let mut number =
        |key: &str, default: Option<f64>, allowed: &str, check: &dyn Fn(f64) -> bool| {
            let value = match text(key) {
                None => default,
                Some(text) => text.parse::<f64>().ok(),
            };
            match value {
                Some(value) if check(value) => value,
                _ => {
                    problems.push(format!(
                        "{key} is {:.40}, expected {allowed}",
                        text(key).unwrap_or("missing")
                    ));
                    0.0
                }
            }
        };
    let whole =
        |value: f64, from: f64, to: f64| value.fract() == 0.0 && (from..=to).contains(&value);
    let channels = number("channels", None, "a multiple of 16 up to 256", &|v| {
        whole(v, 16.0, 256.0) && v % LANES as f64 == 0.0
    });
    let layers = number("layers", None, "1 to 64", &|v| whole(v, 1.0, 64.0));
    let frames = number("frames", None, "1, 3 or 5", &|v| {
        whole(v, 1.0, 5.0) && v % 2.0 == 1.0
    });
    let steps = number("default_steps", Some(1.0), "1 to 8", &|v| {
        whole(v, 1.0, 8.0)
    });
    let sigma = number(
        "detail_sigma",
        Some(DEFAULT_SIGMA),
        "above 0, up to 1",
        &|v| v > 0.0 && v <= 1.0,
    );
    let noise = number("default_noise", Some(0.0), "0 to 1", &|v| {
        (0.0..=1.0).contains(&v)
    });
    let residual = match text("residual") {
        Some("true") => true,
        Some("false") => false,
        other => {
            problems.push(format!(
                "residual is {:.40}, expected true or false",
                other.unwrap_or("missing")
            ));
            false
        }
    };
    if residual && layers % 2.0 != 0.0 {
        problems.push(format!(
            "layers is {layers}, expected an even number for residual pairs"
        ));
    }
    if !problems.is_empty() {
        return Err(problems.join("; "));
    }
    Ok(Config {
        channels: channels as usize,
        layers: layers as usize,
        frames: frames as usize,
        residual,
        default_steps: steps as usize,
        detail_sigma: sigma,
        default_noise: noise,
    })
}

/// Takes tensors out of a file and notes what is wrong with them.
struct Reader<'data> {
    tensors: SafeTensors<'data>,
    prefix: &'static str,
    problems: Vec<String>,
}

impl Reader<'_> {
    fn expert(&mut self, config: &Config) -> Expert {
        let (channels, activations) = (config.channels, config.activations());
        Expert {
            head: self.conv("head", channels, LATENT + config.frames),
            head_slope: self.tensor("head_act.weight", &[channels]),
            body: (0..config.layers)
                .map(|index| self.conv(&format!("body.{index}"), channels, channels))
                .collect(),
            slopes: (0..activations)
                .map(|index| self.tensor(&format!("acts.{index}.weight"), &[channels]))
                .collect(),
            embed: (
                self.tensor("embed.weight", &[EMBED, 2]),
                self.tensor("embed.bias", &[EMBED]),
            ),
            film: (
                self.tensor("film.weight", &[activations * 2 * channels, EMBED]),
                self.tensor("film.bias", &[activations * 2 * channels]),
            ),
            tail: self.conv("tail", LATENT, channels),
            ranges: self
                .has("ranges")
                .then(|| self.tensor("ranges", &[config.layers + 1, 2, channels])),
        }
    }

    fn has(&self, name: &str) -> bool {
        self.tensors
            .tensor(&format!("{}{name}", self.prefix))
            .is_ok()
    }

    fn conv(&mut self, name: &str, outputs: usize, inputs: usize) -> Conv {
        Conv {
            weight: self.tensor(&format!("{name}.weight"), &[outputs, inputs, 3, 3]),
            bias: self.tensor(&format!("{name}.bias"), &[outputs]),
            inputs,
        }
    }

    /// The values of a tensor in f32, or none of them and a note of the problem.
    fn tensor(&mut self, name: &str, shape: &[usize]) -> Vec<f32> {
        let name = format!("{}{name}", self.prefix);
        let Ok(view) = self.tensors.tensor(&name) else {
            self.problems.push(format!("{name} {shape:?} is missing"));
            return Vec::new();
        };
        if view.shape() != shape {
            self.problems
                .push(format!("{name} is {:?}, expected {shape:?}", view.shape()));
            return Vec::new();
        }
        let pairs = || view.data().as_chunks::<2>().0.iter().copied();
        let values: Vec<f32> = match view.dtype() {
            Dtype::F32 => view
                .data()
                .as_chunks::<4>()
                .0
                .iter()
                .map(|b| f32::from_le_bytes(*b))
                .collect(),
            Dtype::F16 => pairs().map(|b| f16::from_le_bytes(b).to_f32()).collect(),
            Dtype::BF16 => pairs().map(|b| bf16::from_le_bytes(b).to_f32()).collect(),
            other => {
                self.problems
                    .push(format!("{name} is {other:?}, expected F16, BF16 or F32"));
                return Vec::new();
            }
        };
        if values.iter().any(|value| !value.is_finite()) {
            self.problems
                .push(format!("{name} holds values that are not finite"));
        }
        values
    }
}

#[cfg(test)]
pub(in crate::compact) mod tests {
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;
    use safetensors::tensor::TensorView;

    use super::*;

    /// The tensors of a small random model by name; edit, then [`write`].
    pub(crate) fn random_tensors(
        config: &Config,
        seed: u64,
    ) -> Vec<(String, Vec<usize>, Vec<f32>)> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let (channels, activations) = (config.channels, config.activations());
        let mut tensors = Vec::new();
        let mut add = |name: String, shape: &[usize], size: f32| {
            let len = shape.iter().product::<usize>();
            let values = (0..len).map(|_| rng.random_range(-size..=size)).collect();
            tensors.push((name, shape.to_vec(), values));
        };
        let mut conv = |name: &str, outputs: usize, inputs: usize| {
            let size = (2.0 / (9 * inputs) as f32).sqrt();
            add(format!("{name}.weight"), &[outputs, inputs, 3, 3], size);
            add(format!("{name}.bias"), &[outputs], 0.1);
        };
        conv("head", channels, LATENT + config.frames);
        conv("tail", LATENT, channels);
        for index in 0..config.layers {
            conv(&format!("body.{index}"), channels, channels);
        }
        add("head_act.weight".into(), &[channels], 0.5);
        for index in 0..activations {
            add(format!("acts.{index}.weight"), &[channels], 0.5);
        }
        add("embed.weight".into(), &[EMBED, 2], 1.0);
        add("embed.bias".into(), &[EMBED], 0.5);
        add(
            "film.weight".into(),
            &[activations * 2 * channels, EMBED],
            0.1,
        );
        add("film.bias".into(), &[activations * 2 * channels], 0.1);
        tensors
    }

    pub(crate) fn metadata(config: &Config) -> HashMap<String, String> {
        [
            ("format", FORMAT.to_owned()),
            ("version", "1".to_owned()),
            ("channels", config.channels.to_string()),
            ("layers", config.layers.to_string()),
            ("frames", config.frames.to_string()),
            ("residual", config.residual.to_string()),
            ("default_steps", config.default_steps.to_string()),
            ("detail_sigma", config.detail_sigma.to_string()),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .into()
    }

    pub(crate) fn write(
        tensors: &[(String, Vec<usize>, Vec<f32>)],
        metadata: HashMap<String, String>,
    ) -> Vec<u8> {
        let bytes: Vec<Vec<u8>> = tensors
            .iter()
            .map(|(_, _, values)| values.iter().flat_map(|v| v.to_le_bytes()).collect())
            .collect();
        let views = tensors.iter().zip(&bytes).map(|((name, shape, _), bytes)| {
            (
                name,
                TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap(),
            )
        });
        safetensors::serialize(views, Some(metadata)).unwrap()
    }

    pub(crate) fn small(residual: bool, frames: usize) -> Config {
        Config {
            channels: 16,
            layers: 2,
            frames,
            residual,
            default_steps: 1,
            detail_sigma: 0.2,
            default_noise: 0.0,
        }
    }

    fn refusal(bytes: &[u8]) -> String {
        let error = Net::parse(bytes, Path::new("model.safetensors")).unwrap_err();
        assert!(matches!(error, Error::Checkpoint { .. }), "{error:?}");
        error.to_string()
    }

    #[test]
    fn a_file_is_read_back() {
        for residual in [false, true] {
            let config = small(residual, 3);
            let bytes = write(&random_tensors(&config, 1), metadata(&config));
            let net = Net::parse(&bytes, Path::new("model.safetensors")).unwrap();
            assert_eq!(net.config, config);
            assert_eq!(net.base.body.len(), 2);
            assert_eq!(net.base.slopes.len(), if residual { 1 } else { 2 });
            assert!(net.detail.is_none());
        }
    }

    #[test]
    fn every_wrong_tensor_is_named() {
        let config = small(true, 1);
        let mut tensors = random_tensors(&config, 2);
        tensors.retain(|(name, ..)| name != "tail.bias" && name != "acts.0.weight");
        tensors
            .iter_mut()
            .find(|(name, ..)| name == "embed.weight")
            .unwrap()
            .1 = vec![2, EMBED];
        tensors
            .iter_mut()
            .find(|(name, ..)| name == "body.1.bias")
            .unwrap()
            .2[3] = f32::NAN;
        let message = refusal(&write(&tensors, metadata(&config)));
        for part in [
            "tail.bias [16] is missing",
            "acts.0.weight [16] is missing",
            "embed.weight is [2, 32], expected [32, 2]",
            "body.1.bias holds values that are not finite",
        ] {
            assert!(message.contains(part), "{part}: {message}");
        }
    }

    #[test]
    fn a_half_expert_is_refused() {
        let config = small(false, 1);
        let mut tensors = random_tensors(&config, 3);
        tensors.push(("detail.head.bias".into(), vec![16], vec![0.0; 16]));
        assert!(refusal(&write(&tensors, metadata(&config))).contains("detail.tail.weight"));
    }

    #[test]
    fn wrong_settings_are_all_named() {
        let config = small(true, 1);
        let mut settings = metadata(&config);
        settings.insert("channels".into(), "20".into());
        settings.insert("layers".into(), "4000000000".into());
        settings.insert("frames".into(), "2".into());
        settings.insert("residual".into(), "maybe".into());
        settings.insert("detail_sigma".into(), "NaN".into());
        let message = refusal(&write(&random_tensors(&config, 4), settings));
        for part in [
            "channels is 20",
            "layers is 4000000000",
            "frames is 2",
            "residual is maybe",
            "detail_sigma is NaN",
        ] {
            assert!(message.contains(part), "{part}: {message}");
        }
        assert!(
            refusal(&write(&random_tensors(&config, 4), HashMap::new()))
                .contains("not a compact model")
        );
    }

    #[test]
    fn cut_and_damaged_files_are_refused() {
        let config = small(false, 3);
        let bytes = write(&random_tensors(&config, 5), metadata(&config));
        for length in [0, 1, 7, 8, 9, 100, bytes.len() / 2, bytes.len() - 1] {
            refusal(&bytes[..length]);
        }
        let mut rng = ChaCha8Rng::seed_from_u64(6);
        for _ in 0..300 {
            // Damage in the header must never panic; what still parses must have the described shape.
            let mut damaged = bytes.clone();
            let at = rng.random_range(0..1500);
            damaged[at] = rng.random();
            if let Ok(net) = Net::parse(&damaged, Path::new("damaged")) {
                assert_eq!(net.base.body.len(), net.config.layers);
            }
        }
    }
}
