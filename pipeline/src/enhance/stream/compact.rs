// SPDX-License-Identifier: MPL-2.0
//! A stream through the compact model: each frame with its neighbours of the same scene.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::Session;
use crate::compact::{
    CompactModel, Enlarge, Flow, Job, LumaPlane, SHIFT, Signature, StripPlan, enlarge,
};
use crate::enhance::{EnhanceOptions, Enhancer, plan_strips, resolve_steps};
use crate::error::Result;
use crate::flow::euler::time_grid;
use crate::media::frame::{Frame, FrameFormat};
use crate::progress::Progress;
use crate::size::Size;

/// A frame that waits for its turn or for its followers.
#[derive(Debug)]
struct Waiting {
    frame: Frame,
    luma: Arc<LumaPlane>,
    /// Number of the scene that it belongs to.
    scene: u64,
}

/// Settings as the model takes them.
#[derive(Debug)]
struct Settings {
    flow: Flow,
    plan: StripPlan,
}

#[derive(Debug)]
pub(super) struct CompactSession {
    enhancer: Arc<Enhancer>,
    model: Arc<CompactModel>,
    format: FrameFormat,
    size: Size,
    output: Size,
    settings: Option<Settings>,
    /// Luma of the last finished frames with their scenes, as many as the model looks back.
    past: VecDeque<(Arc<LumaPlane>, u64)>,
    waiting: VecDeque<Waiting>,
    /// Signature and scene of the last frame that came in.
    last: Option<(Signature, u64)>,
    evaluations: u64,
    evaluating: Duration,
}

impl CompactSession {
    pub fn new(
        enhancer: Arc<Enhancer>,
        model: Arc<CompactModel>,
        format: FrameFormat,
        size: Size,
        output: Size,
    ) -> Self {
        Self {
            enhancer,
            model,
            format,
            size,
            output,
            settings: None,
            past: VecDeque::new(),
            waiting: VecDeque::new(),
            last: None,
            evaluations: 0,
            evaluating: Duration::ZERO,
        }
    }

    /// The frame at the front and its neighbours; the frame itself stands in for those that its scene does not have.
    fn window(&self, front: &Waiting) -> Vec<Arc<LumaPlane>> {
        let neighbours = self.model.config().neighbours();
        let past = (1..=neighbours).rev().map(|back| {
            let index = self.past.len().checked_sub(back)?;
            self.past
                .get(index)
                .filter(|(_, scene)| *scene == front.scene)
                .map(|(luma, _)| luma)
        });
        let future = (1..=neighbours).map(|ahead| {
            let next = self
                .waiting
                .get(ahead)
                .filter(|next| next.scene == front.scene);
            next.map(|next| &next.luma)
        });
        past.chain([Some(&front.luma)])
            .chain(future)
            .map(|luma| luma.unwrap_or(&front.luma).clone())
            .collect()
    }
}

impl Session for CompactSession {
    fn set_options(&mut self, options: &EnhanceOptions, progress: &Progress) -> Result<()> {
        let steps = resolve_steps(&self.enhancer, options)?;
        let flow = Flow {
            times: time_grid(steps, SHIFT)?,
            sigma: self.model.net().sigma(options.noise),
            seed: options.seed,
        };
        let plan = match self.settings.take() {
            // Planning again would warn again.
            Some(settings) if settings.flow.times.len() == steps => settings.plan,
            old => {
                let job = Job {
                    format: self.format,
                    input: self.size,
                    output: self.output,
                    steps,
                    threads: self.enhancer.runtime().threads(),
                };
                match plan_strips(&self.model, &job, progress) {
                    Ok(plan) => plan,
                    Err(error) => {
                        self.settings = old;
                        return Err(error);
                    }
                }
            }
        };
        self.settings = Some(Settings { flow, plan });
        Ok(())
    }

    fn push(&mut self, frame: Frame) {
        let luma = Arc::new(self.model.luma(&frame));
        let mut scene = 0;
        // A model that sees one frame has nothing to keep apart.
        if self.model.config().neighbours() > 0 {
            let signature = Signature::of(&luma);
            if let Some((last, number)) = &self.last {
                scene = number + u64::from(last.cut_before(&signature));
            }
            self.last = Some((signature, scene));
        }
        self.waiting.push_back(Waiting { frame, luma, scene });
    }

    fn next(&mut self, end: bool, progress: &Progress) -> Result<Option<Frame>> {
        let neighbours = self.model.config().neighbours();
        let Some((front, settings)) = self.waiting.front().zip(self.settings.as_ref()) else {
            return Ok(None);
        };
        if !end && self.waiting.len() <= neighbours {
            return Ok(None);
        }
        let request = Enlarge {
            model: &self.model,
            frame: &front.frame,
            window: &self.window(front),
            output: self.output,
            flow: &settings.flow,
            plan: &settings.plan,
        };
        let (frame, cost) = enlarge(&request, progress)?;
        self.evaluations += cost.evaluations;
        self.evaluating += cost.evaluating;
        if let Some(done) = self.waiting.pop_front() {
            self.past.push_back((done.luma, done.scene));
        }
        while self.past.len() > neighbours {
            self.past.pop_front();
        }
        Ok(Some(frame))
    }

    fn reset(&mut self) {
        self.past.clear();
        self.waiting.clear();
        self.last = None;
    }

    fn evaluations(&self) -> (u64, Duration) {
        (self.evaluations, self.evaluating)
    }

    fn memory(&self) -> u64 {
        self.settings
            .as_ref()
            .map_or(0, |settings| settings.plan.bytes())
    }

    fn look_ahead(&self) -> usize {
        self.model.config().neighbours()
    }
}
