// SPDX-License-Identifier: MPL-2.0
//! Golden tables: schedules, embeddings, rotary positions, and the sampler on a network in closed form.

use candle_core::{Device, Tensor};

use super::golden::{Check, GUIDED, Golden, NETWORK, TABLE, numbers_in};
use crate::error::{Error, Result};
use crate::flow::dpmpp::{self, SdeSchedule};
use crate::flow::guidance::DynamicGuidance;
use crate::flow::schedule;
use crate::release::dit::Grid;
use crate::release::dit::embed::sinusoid;
use crate::release::dit::rope::Rope;

/// `sqrt_alpha_bar_shift{s}_n{n}`, noisiest first, and `timesteps_n{n}`, ascending.
pub(super) fn schedules(golden: &Golden, check: &mut Check<'_>) -> Result<()> {
    for name in golden.names() {
        let Some((kind, n)) = name.rsplit_once("_n") else {
            continue;
        };
        let Ok(n) = n.parse::<usize>() else { continue };
        if let Some(shift) = kind
            .strip_prefix("sqrt_alpha_bar_shift")
            .and_then(|s| s.parse().ok())
        {
            let levels = schedule::signal_levels(n, shift)?;
            let levels: Vec<f64> = levels.iter().rev().map(|v| f64::from(*v)).collect();
            check.numbers(name, &levels, &golden.values(name)?, TABLE);
        } else if kind == "timesteps" {
            let steps: Vec<f64> = schedule::timesteps(n)?
                .into_iter()
                .map(|t| t as f64)
                .collect();
            check.numbers(name, &steps, &golden.values(name)?, TABLE);
        }
    }
    Ok(())
}

/// `temb_dim{d}`, `rope_cos_hd{d}_{t}x{h}x{w}`, picked rows of large grids, and the turn by a right angle.
pub(super) fn embeddings(golden: &Golden, check: &mut Check<'_>) -> Result<()> {
    let theta = golden.number_or("theta", 10_000.0);
    for name in golden.names() {
        if let Some(dim) = name
            .strip_prefix("temb_dim")
            .and_then(|d| d.parse::<usize>().ok())
        {
            let times = numbers_in(golden.meaning(name).split("t=").nth(1).unwrap_or_default());
            let rows = golden.raw(name)?.dim(0)?;
            let all = times.iter().take(rows).flat_map(|t| sinusoid(*t, dim));
            let all: Vec<f64> = all.map(f64::from).collect();
            check.numbers(name, &all, &golden.values(name)?, NETWORK);
        } else if let Some(rest) = name.strip_prefix("rope_cos_hd") {
            let sizes: Vec<usize> = numbers_in(&rest.replace(['_', 'x'], " "))
                .iter()
                .map(|n| *n as usize)
                .collect();
            let &[head_dim, frames, rows, columns] = sizes.as_slice() else {
                return Err(Error::invalid(format!(
                    "the name {name} should tell head size and grid"
                )));
            };
            let grid = Grid {
                frames,
                rows,
                columns,
            };
            let rope = Rope::new(grid, head_dim, theta);
            check.numbers(name, &doubled(rope.cos()), &golden.values(name)?, TABLE);
            let name = name.replace("_cos_", "_sin_");
            check.numbers(&name, &doubled(rope.sin()), &golden.values(&name)?, TABLE);
        } else if let Some(stem) = name
            .strip_prefix("rope_")
            .and_then(|rest| rest.strip_suffix("_rows"))
        {
            picked_rows(golden, check, stem, name, theta)?;
        } else if name == "rotate_half_in" {
            let x = golden.tensor(name)?;
            let dim = x.dim(candle_core::D::Minus1)?;
            let mut turned: Vec<f32> = x.flatten_all()?.to_vec1()?;
            let right_angle = Rope::from_tables(vec![0.0; dim / 2], vec![1.0; dim / 2], dim);
            turned
                .chunks_mut(dim)
                .for_each(|features| Rope::turn(right_angle.angles(0), features));
            let turned = Tensor::from_vec(turned, x.shape(), &Device::Cpu)?;
            check.tensor(golden, "rotate_half_out", &turned, TABLE)?;
        }
    }
    Ok(())
}

/// Each angle belongs to two adjacent features.
fn doubled(values: &[f32]) -> Vec<f64> {
    values.iter().flat_map(|v| [f64::from(*v); 2]).collect()
}

fn picked_rows(
    golden: &Golden,
    check: &mut Check<'_>,
    stem: &str,
    rows: &str,
    theta: f64,
) -> Result<()> {
    let meaning = numbers_in(golden.meaning(rows));
    let &[frames, height, width] = meaning.as_slice() else {
        return Err(Error::invalid(format!(
            "the meaning of {rows} should tell the grid, found {:?}",
            golden.meaning(rows)
        )));
    };
    let grid = Grid {
        frames: frames as usize,
        rows: height as usize,
        columns: width as usize,
    };
    let picked = golden.values(rows)?;
    for kind in ["cos", "sin"] {
        let name = format!("rope_{stem}_{kind}");
        let head_dim = golden.raw(&name)?.dim(1)?;
        let rope = Rope::new(grid, head_dim, theta);
        let table = if kind == "cos" {
            rope.cos()
        } else {
            rope.sin()
        };
        let mut found = Vec::with_capacity(picked.len() * head_dim);
        for row in &picked {
            let row = *row as usize * head_dim / 2;
            found.extend(doubled(
                table.get(row..row + head_dim / 2).unwrap_or_default(),
            ));
        }
        check.numbers(&name, &found, &golden.values(&name)?, TABLE);
    }
    Ok(())
}

/// The sampler on the network that the sidecar gives as a formula.
pub(super) fn sampler(golden: &Golden, check: &mut Check<'_>) -> Result<()> {
    let guidance = DynamicGuidance {
        strength: golden.number("cfg_scale_max")?,
        exponent: golden.number_or("cfg_exp", 5.0),
        steps: golden.count("num_steps")?,
    };
    let (shift, training) = (
        golden.number_or("shift_scale", 1.0),
        golden.number_or("denoiser_shift_scale", 1.0),
    );
    let schedule = SdeSchedule::new(guidance.steps, guidance, shift, training)?;
    let steps = schedule.steps();
    let column = |value: fn(&dpmpp::SdeStep) -> f64| steps.iter().map(value).collect::<Vec<_>>();
    for (name, values, tolerance) in [
        ("timesteps", column(|s| s.timestep as f64), TABLE),
        ("sqrt_alpha_bar", column(|s| f64::from(s.level)), TABLE),
        (
            "sqrt_alpha_bar_quantised",
            column(|s| f64::from(s.snapped)),
            TABLE,
        ),
        ("cfg_scale", column(|s| s.guidance), NETWORK),
    ] {
        if golden.has(name) {
            check.numbers(name, &values, &golden.values(name)?, tolerance);
        }
    }
    let formula = numbers_in(golden.config["network"].as_str().unwrap_or_default());
    let &[linear, wave, frequency, offset, with, without] = formula.as_slice() else {
        return Err(Error::invalid(format!(
            "{}.json should give the network as a*x+b*ctx*sin(x+c*idx)+d*ctx and two values of ctx",
            golden.name
        )));
    };
    let network = |x: &Tensor, timestep: f64, context: f64| -> Result<Tensor> {
        let wave = ((x + frequency * timestep)?.sin()? * (wave * context))?;
        Ok((((x * linear)? + wave)? + offset * context)?)
    };
    let noise = golden.tensor("noise_used")?;
    let mut states = [const { Vec::new() }; 4];
    dpmpp::sample(
        &schedule,
        golden.tensor("x_init")?,
        |x, step| {
            let timestep = step.timestep as f64;
            Ok((network(x, timestep, without)?, network(x, timestep, with)?))
        },
        |step| Ok(noise.get(step.index)?),
        check.progress,
        |state| {
            let values = [
                &state.x,
                &state.denoised,
                &state.unconditional,
                &state.conditional,
            ];
            for (list, value) in states.iter_mut().zip(values) {
                list.push(value.clone());
            }
            Ok(())
        },
    )?;
    let names = [
        ("x_steps", GUIDED),
        ("denoised", GUIDED),
        ("denoised_uncond", NETWORK),
        ("denoised_cond", NETWORK),
    ];
    for ((name, tolerance), list) in names.into_iter().zip(&states) {
        if golden.has(name) {
            check.tensor(golden, name, &Tensor::stack(list, 0)?, tolerance)?;
        }
    }
    Ok(())
}
