// SPDX-License-Identifier: MPL-2.0
//! Strips of the compact models for the memory that there is.

use crate::compact::{CompactModel, Job, StripPlan};
use crate::error::Result;
use crate::plan::Budget;
use crate::plan::budget::mib;
use crate::progress::{Event, Progress};

/// Memory that is taken without asking what there is; more is never faster.
pub(super) const COMFORTABLE: u64 = 2 << 30;
/// The plan for the memory that there is, with a warning where it is a slow one.
///
/// # Errors
/// [`Error::Memory`] when even the smallest strips need more.
pub(crate) fn plan_strips(
    model: &CompactModel,
    job: &Job,
    progress: &Progress,
) -> Result<StripPlan> {
    plan_within(model, job, Budget::host(), progress)
}

pub(super) fn plan_within(
    model: &CompactModel,
    job: &Job,
    budget: Budget,
    progress: &Progress,
) -> Result<StripPlan> {
    let plan = model.plan(job, COMFORTABLE);
    let limit = match budget.limit() {
        Some(limit) if plan.bytes() > limit => limit,
        _ => return Ok(plan),
    };
    let smaller = model.plan(job, limit);
    if smaller.bytes() > limit {
        let what = format!("enhancing {} to {}", job.input, job.output);
        let hint = "choose a smaller target size or close other programs";
        return Err(budget.refuse(what, smaller.bytes(), hint));
    }
    progress.emit(Event::Warning(format!(
        "{} MiB of memory are too few to work on whole frames ({} MiB): working in {} strips, which is slower",
        mib(limit),
        mib(plan.bytes()),
        smaller.strips()
    )));
    Ok(smaller)
}
