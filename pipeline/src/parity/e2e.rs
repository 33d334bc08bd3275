// SPDX-License-Identifier: MPL-2.0
//! The golden run from prompt to enlarged clip.

use candle_core::{DType, Tensor};

use super::dit::{checkpoint, flow_options, load};
use super::golden::{Check, FRAMES, GUIDED, Golden, NETWORK};
use super::{text, vae};
use crate::checkpoint::LoraMode;
use crate::error::Result;
use crate::flow::dpmpp::SdeSchedule;
use crate::flow::guidance::DynamicGuidance;
use crate::release::generate;
use crate::release::guided::FlowOptions;
use crate::release::text::TextEncoder;
use crate::release::vae::Tiling;
use crate::release::{bilinear, enhance};
use crate::runtime::Runtime;

/// Everything in a row: each step starts from what the step before gave, not from golden values.
pub(super) fn end_to_end(golden: &Golden, check: &mut Check<'_>) -> Result<()> {
    let (first, second) = contexts(golden, check)?;
    let clip = generate(golden, check, &first)?;
    check.tensor(golden, "s1_frames255", &clip, FRAMES)?;
    enhance(golden, check, &clip, &second)
}

/// Features of the prompt for both stages, by our own encoder when the set has one.
fn contexts(golden: &Golden, check: &mut Check<'_>) -> Result<(Tensor, Tensor)> {
    let known = (golden.tensor("s1_context")?, golden.tensor("s2_context")?);
    let folder = text::folder(&golden.folder, "t5")?;
    let prompt = golden.config["prompt"].as_str();
    let (Some(prompt), true) = (
        prompt,
        folder.text_encoder.is_some() && folder.tokenizer.is_some(),
    ) else {
        return Ok(known);
    };
    let encoder = TextEncoder::open(&folder, &Runtime::cpu()?, known.0.dim(1)?)?;
    let first = encoder.features(prompt, check.progress)?;
    let second = encoder.features(&format!("{}{prompt}", enhance::MOTION), check.progress)?;
    check.tensor(golden, "s1_context", &first, NETWORK)?;
    check.tensor(golden, "s2_context", &second, NETWORK)?;
    Ok((first, second))
}

fn generate(golden: &Golden, check: &mut Check<'_>, context: &Tensor) -> Result<Tensor> {
    let config = &golden.config["stage1"];
    let dit = load(&checkpoint(golden, config, true)?, config, LoraMode::Merge)?;
    let steps = golden
        .count("stage1_num_steps")
        .or_else(|_| golden.count("steps"))?;
    let guider_steps = golden.number_or("stage1_guider_num_steps", steps as f64) as usize;
    let guidance = DynamicGuidance::new(golden.number("cfg1")?, guider_steps);
    let schedule = SdeSchedule::new(steps, guidance, 1.0, 1.0)?;
    let draws = golden.tensor("s1_step_noise")?;
    // The first step draws once, all others twice; the first of the two is dropped.
    let latent = generate::sample(
        &dit,
        &schedule,
        context,
        golden.tensor("s1_init_noise")?,
        |step| Ok(draws.get(2 * step.index)?),
        check.progress,
    )?;
    check.tensor(golden, "s1_latents", &latent, GUIDED)?;
    let latent_scale = golden.number_or("s1_scale_factor", generate::LATENT_SCALE);
    let latent = (latent * (generate::LATENT_SCALE / latent_scale))?;
    generate::decode(&vae::load(golden)?, &latent, check.progress)
}

fn enhance(golden: &Golden, check: &mut Check<'_>, clip: &Tensor, context: &Tensor) -> Result<()> {
    let round = |size: usize| size / 16 * 16;
    let (height, width) = (round(golden.count("H")?), round(golden.count("W")?));
    let vae = vae::load(golden)?;
    let prepared = bilinear::prepare(clip, height, width)?;
    let moments = vae.encode(&prepared, check.progress)?;
    check.tensor(golden, "s2_moments", &moments, GUIDED)?;
    let reference = enhance::reference_latent(&moments, &golden.tensor("s2_posterior_noise")?)?;
    check.tensor(golden, "s2_ref_latents", &reference, GUIDED)?;

    let config = &golden.config["stage2"];
    let dit = load(&checkpoint(golden, config, false)?, config, LoraMode::Merge)?;
    let options: FlowOptions = flow_options(golden, "cfg2")?;
    let noise = golden.tensor("s2_flow_noise")?;
    let latent = enhance::flow(&dit, options, &reference, &noise, context, check.progress)?;
    check.tensor(golden, "s2_latents", &latent, GUIDED)?;

    let frames = enhance::decode(&vae, &latent, Tiling::columns(2), check.progress)?;
    for (name, index) in [
        ("s2_frame0_255", 0),
        ("s2_frame_mid_255", frames.dim(0)? / 2),
    ] {
        if golden.has(name) {
            check.tensor(golden, name, &frames.narrow(0, index, 1)?, FRAMES)?;
        }
    }
    if golden.has("s2_frames_u8") {
        bytes(golden, check, &frames)?;
    }
    Ok(())
}

/// Bytes are cut off, not rounded, so a tiny difference may change one by 1; at most one in a thousand may.
fn bytes(golden: &Golden, check: &mut Check<'_>, frames: &Tensor) -> Result<()> {
    let want = golden.raw("s2_frames_u8")?;
    if want.dims() != frames.dims() {
        return check.tensor(golden, "s2_frames_u8", frames, FRAMES);
    }
    let got: Vec<u8> = frames.to_dtype(DType::U8)?.flatten_all()?.to_vec1()?;
    let want: Vec<u8> = want.flatten_all()?.to_vec1()?;
    let differences = || got.iter().zip(&want).map(|(a, b)| a.abs_diff(*b));
    let share = differences().filter(|d| *d == 1).count() as f64 / got.len().max(1) as f64;
    let wrong = differences().any(|d| d > 1);
    check.note(
        "s2_frames_u8 off by one",
        if wrong { f64::INFINITY } else { share },
        1e-3,
    );
    Ok(())
}
