// SPDX-License-Identifier: MPL-2.0
//! `bench compare`: our kernels and models beside their rivals.
//!
//! Runs of both sides alternate in one session, with the same weights and inputs; medians are compared.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;
use flashvideo::{DeviceSpec, Error, NumberType, Result, Runtime};
use serde_json::{Value, json};

use crate::case::{Case, Part, Subject};
use crate::data::relative_error;
use crate::rival::{Rival, Rivals};
use crate::{kernels, machine, models, q8};

/// Times the kernels and the models, beside their rivals where there are any
#[derive(Args)]
pub struct Compare {
    /// Only cases whose name contains this.
    #[arg(long, default_value = "")]
    filter: String,
    /// Where to write the results as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Runs of each side.
    #[arg(long, default_value_t = 7)]
    runs: usize,
    /// Threads of both sides; one on each core unless said otherwise.
    #[arg(long)]
    threads: Option<usize>,
    /// The Python that has the rivals.
    #[arg(long, default_value = "python3")]
    python: PathBuf,
    /// The rivals' program.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/rivals.py"))]
    rivals: PathBuf,
}

impl Compare {
    /// Runs the command.
    ///
    /// # Errors
    /// When one of our cases fails, or the results cannot be written.
    pub fn run(&self) -> Result<()> {
        let runtime = Runtime::new(DeviceSpec::Cpu, NumberType::F32, self.threads)?;
        let threads = runtime.threads();
        let mut machine = runtime.install(|| machine::describe(threads));
        let mut rivals = Rivals::start(&self.python, &self.rivals, threads)
            .map_err(|e| format!("cannot run {}: {e}", self.python.display()));
        if let Ok(rivals) = &rivals {
            machine["rivals"] = rivals.versions.clone();
        }
        println!(
            "{}",
            serde_json::to_string_pretty(&machine).unwrap_or_default()
        );
        println!(
            "{:<28} {:>9} {:>11} {:>11} {:>5}",
            "case", "value", "ours ms", "rival ms", "runs"
        );
        let mut done = Vec::new();
        for case in all() {
            if !case.name.contains(&self.filter) {
                continue;
            }
            let result = measure(&case, &runtime, rivals.as_mut(), self.runs.max(1))?;
            println!("{}", line(&result));
            done.push(result);
        }
        if let Some(path) = &self.json {
            write(path, &json!({"machine": machine, "cases": done}))?;
        }
        Ok(())
    }
}

/// All cases, in the order of the results.
fn all() -> Vec<Case> {
    let mut cases = models::live();
    cases.extend(models::srvgg());
    cases.extend(kernels::gemms());
    cases.push(q8::gemm());
    cases.extend(kernels::attentions());
    cases.extend(models::blocks());
    cases.extend(kernels::conv3ds());
    cases.extend(models::whole());
    cases
}

fn write(path: &Path, value: &Value) -> Result<()> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|e| Error::invalid(format!("cannot write the results: {e}")))?;
    std::fs::write(path, text + "\n").map_err(|e| Error::io(path, e))
}

fn line(result: &Value) -> String {
    let number = |key: &str, digits: usize| match result[key].as_f64() {
        Some(value) => format!("{value:.digits$}"),
        None => "-".to_owned(),
    };
    let mut line = format!(
        "{:<28} {:>9} {:>11} {:>11} {:>5}",
        result["name"].as_str().unwrap_or_default(),
        number("value", 3),
        number("ours_ms", 1),
        number("rival_ms", 1),
        number("runs", 0),
    );
    for key in ["error", "rival_error"] {
        if let Some(error) = result[key].as_f64() {
            line += &format!("  {key} {error:.1e}");
        }
    }
    if let Some(why) = result["missing"].as_str() {
        line += &format!("  missing: {why}");
    }
    line
}

/// One case: the worst of its parts where it has several.
fn measure(
    case: &Case,
    runtime: &Runtime,
    mut rivals: std::result::Result<&mut Rivals, &mut String>,
    runs: usize,
) -> Result<Value> {
    let mut worst: Option<Value> = None;
    for part in &case.parts {
        let mut ours = match runtime.install(|| (part.ours)()) {
            Ok(ours) => ours,
            Err(error) => {
                return Ok(json!({"name": case.name, "value": null, "missing": error.to_string()}));
            }
        };
        let runs = runs.min(part.runs);
        let result = match (&mut rivals, part.rivals.is_empty()) {
            _ if !part.inside.is_empty() => {
                let mut inside = Inside::new(part, runtime);
                beside(case, part, runtime, &mut *ours, &mut inside, runs)?
            }
            (_, true) => alone(case, part, runtime, &mut *ours, runs)?,
            (Ok(rivals), _) => beside(case, part, runtime, &mut *ours, *rivals, runs)?,
            (Err(why), _) => json!({"name": case.name, "value": null, "missing": why}),
        };
        let value = |result: &Value| result["value"].as_f64().unwrap_or(-1.0);
        worst = match worst {
            Some(worst) if value(&worst) <= value(&result) => Some(worst),
            _ => Some(result),
        };
    }
    Ok(worst.unwrap_or_default())
}

/// Milliseconds of one run.
fn time(runtime: &Runtime, ours: &mut dyn Subject) -> Result<f64> {
    runtime.install(|| {
        let start = Instant::now();
        ours.run()?;
        Ok(start.elapsed().as_secs_f64() * 1e3)
    })
}

/// Rivals in this process.
struct Inside<'a> {
    part: &'a Part,
    runtime: &'a Runtime,
    made: HashMap<String, Box<dyn Subject>>,
}

impl<'a> Inside<'a> {
    fn new(part: &'a Part, runtime: &'a Runtime) -> Self {
        Self {
            part,
            runtime,
            made: HashMap::new(),
        }
    }

    /// The subject of `case`, which ran once before.
    fn subject(&mut self, case: &str) -> Result<&mut dyn Subject> {
        let made = match self.made.entry(case.to_owned()) {
            Entry::Occupied(made) => made.into_mut(),
            Entry::Vacant(place) => {
                let mut makers = self.part.inside.iter();
                let (_, make) = makers
                    .find(|(name, _)| name == case)
                    .ok_or_else(|| Error::invalid(format!("there is no rival {case}")))?;
                let mut made = self.runtime.install(make)?;
                time(self.runtime, &mut *made)?;
                place.insert(made)
            }
        };
        Ok(&mut **made)
    }
}

impl Rival for Inside<'_> {
    fn time(&mut self, case: &str) -> std::result::Result<f64, String> {
        let runtime = self.runtime;
        let time = self
            .subject(case)
            .and_then(|subject| time(runtime, subject));
        time.map_err(|e| e.to_string())
    }

    fn probe(&mut self, case: &str) -> std::result::Result<Vec<f32>, String> {
        let probe = self.subject(case).and_then(Subject::probe);
        probe.map_err(|e| e.to_string())
    }
}

/// A case without rivals, whose value comes from its milliseconds.
fn alone(
    case: &Case,
    part: &Part,
    runtime: &Runtime,
    ours: &mut dyn Subject,
    runs: usize,
) -> Result<Value> {
    time(runtime, ours)?;
    let times = (0..runs)
        .map(|_| time(runtime, ours))
        .collect::<Result<_>>()?;
    let ms = median(times);
    Ok(json!({
        "name": case.name, "value": (part.value)(ms), "ours_ms": ms, "rival_ms": null, "runs": runs,
    }))
}

/// A case beside its rivals: the rival's time over ours.
fn beside(
    case: &Case,
    part: &Part,
    runtime: &Runtime,
    ours: &mut dyn Subject,
    rivals: &mut dyn Rival,
    runs: usize,
) -> Result<Value> {
    time(runtime, ours)?;
    let (mut times, mut others) = (Vec::new(), vec![Vec::new(); part.rivals.len()]);
    let mut missing = None;
    for _ in 0..runs {
        times.push(time(runtime, ours)?);
        for (name, others) in part.rivals.iter().zip(&mut others) {
            match rivals.time(name) {
                Ok(ms) => others.push(ms),
                Err(why) => missing = Some(why),
            }
        }
    }
    // Each rival is taken at its best.
    let best = others
        .into_iter()
        .filter(|times| !times.is_empty())
        .map(median)
        .min_by(f64::total_cmp);
    let ms = median(times);
    let Some(rival) = best else {
        return Ok(json!({
            "name": case.name, "value": null, "ours_ms": ms, "rival_ms": null, "runs": runs, "missing": missing,
        }));
    };
    let mut result = json!({
        "name": case.name, "value": rival / ms, "ours_ms": ms, "rival_ms": rival, "runs": runs,
    });
    if let Some(reference) = &part.reference
        && let (Ok(exact), Ok(theirs)) = (rivals.probe(reference), rivals.probe(&part.rivals[0]))
    {
        let ours = runtime.install(|| ours.probe())?;
        result["error"] = json!(relative_error(&ours, &exact));
        result["rival_error"] = json!(relative_error(&theirs, &exact));
    }
    Ok(result)
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or(f64::NAN)
}
