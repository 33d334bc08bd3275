// SPDX-License-Identifier: MPL-2.0
//! Prompts to tokens and features against the golden numbers.

use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use flashvideo::checkpoint::{Checkpoint, ModelFolder, Weights};
use flashvideo::release::text::{T5Encoder, TOKENS, TextEncoder, Tokenizer};
use flashvideo::{CancelToken, Progress, Runtime};

const TOLERANCE: f32 = 1e-4;
const PROMPTS: [&str; 4] = [
    "a red fox runs across the snow at dawn",
    "Sunny day, The camera smoothly pushes in through an ornate garden archway, delicately adorned with climbing ivy. \
     Beyond the archway, a secret garden.",
    "",
    "hello  world!  éa \n tab",
];

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../tests/golden")
        .join(name)
}

fn expected() -> Checkpoint {
    Checkpoint::open(golden("t5.safetensors")).unwrap()
}

fn tensor(name: &str) -> Tensor {
    expected().tensor(name, &Device::Cpu, DType::F32).unwrap()
}

fn ids(name: &str) -> Vec<u32> {
    let ids = expected().tensor(name, &Device::Cpu, DType::U32).unwrap();
    ids.flatten_all().unwrap().to_vec1().unwrap()
}

fn assert_close(found: &Tensor, name: &str) {
    let want = tensor(name);
    let found = found.reshape(want.dims()).unwrap();
    let error = (found - want)
        .unwrap()
        .abs()
        .unwrap()
        .flatten_all()
        .unwrap();
    let error: f32 = error.max(0).unwrap().to_scalar().unwrap();
    assert!(error <= TOLERANCE, "{name}: {error}");
}

fn encoder() -> T5Encoder {
    let checkpoint = Checkpoint::open(golden("t5")).unwrap().into_t5();
    T5Encoder::load(&Weights::new(checkpoint, &Device::Cpu, DType::F32)).unwrap()
}

#[test]
fn token_ids() {
    let tokenizer = Tokenizer::open(golden("t5/spiece.model")).unwrap();
    for (index, prompt) in PROMPTS.iter().enumerate() {
        let found = tokenizer.encode_padded(prompt, TOKENS).unwrap();
        assert_eq!(found, ids(&format!("p{index}_ids")), "{prompt}");
    }
    assert_eq!(
        tokenizer.encode_padded(PROMPTS[1], 12).unwrap(),
        ids("p1_ids_max12")
    );
}

#[test]
fn features_of_prompts() {
    let runtime = Runtime::cpu().unwrap();
    let folder = ModelFolder::open(golden("")).unwrap();
    let text = TextEncoder::open(&folder, &runtime, TOKENS).unwrap();
    assert!(!text.is_loaded());
    for (index, prompt) in PROMPTS.iter().enumerate() {
        let features = text.features(prompt, &Progress::none()).unwrap();
        assert_close(&features, &format!("p{index}_hidden"));
    }
    text.unload();
    let cancelled = CancelToken::new();
    cancelled.cancel();
    let cancelled = Progress::with_cancel(cancelled);
    // Known prompts need neither weights nor time.
    assert_close(&text.features(PROMPTS[0], &cancelled).unwrap(), "p0_hidden");
    assert!(
        text.features("a new one", &cancelled)
            .unwrap_err()
            .is_cancelled()
    );
    assert!(!text.is_loaded());
}

#[test]
fn far_tokens_and_the_first_block() {
    let random = expected()
        .tensor("rand_ids", &Device::Cpu, DType::U32)
        .unwrap();
    let encoder = encoder();
    let hidden = encoder
        .forward_each(&random, &Progress::none(), |index, x| {
            if index == 0 {
                assert_close(x, "rand_block1_out");
            }
            Ok(())
        })
        .unwrap();
    assert_close(&hidden, "rand_hidden");
}

#[test]
fn foreign_tokens_are_refused() {
    let ids = Tensor::new(&[[5u32, 296]], &Device::Cpu).unwrap();
    let problem = encoder()
        .forward(&ids, &Progress::none())
        .unwrap_err()
        .to_string();
    assert!(problem.contains("296"), "{problem}");
}

#[test]
fn half_precision_weights_stay_close() {
    let random = expected()
        .tensor("rand_ids", &Device::Cpu, DType::U32)
        .unwrap();
    let checkpoint = Checkpoint::open(golden("t5")).unwrap().into_t5();
    for (dtype, tolerance) in [(DType::BF16, 0.1), (DType::F16, 0.02)] {
        let encoder =
            T5Encoder::load(&Weights::new(checkpoint.clone(), &Device::Cpu, dtype)).unwrap();
        let hidden = encoder.forward(&random, &Progress::none()).unwrap();
        let error = (hidden - tensor("rand_hidden")).unwrap().abs().unwrap();
        let error: f32 = error
            .flatten_all()
            .unwrap()
            .max(0)
            .unwrap()
            .to_scalar()
            .unwrap();
        assert!(error < tolerance, "{dtype:?}: {error}");
    }
}
