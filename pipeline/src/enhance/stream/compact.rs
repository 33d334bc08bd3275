// SPDX-License-Identifier: MPL-2.0
//! A stream through the compact model: each frame with its neighbours of the same scene.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::Session;
use crate::compact::{
    CompactModel, Enlarge, Flow, Job, LumaPlane, SHIFT, Signature, StripPlan, enlarge,
};
use crate::enhance::control::Rung;
use crate::enhance::{EnhanceOptions, Enhancer, Model, drag, plan_strips, resolve_steps};
use crate::error::Result;
use crate::flow::euler::time_grid;
use crate::media::frame::{Frame, FrameFormat};
use crate::media::resize::resized;
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
    /// The same model with one evaluation and no noise, where that is not what was asked for.
    one_evaluation: Option<Settings>,
    /// A lighter model, with one evaluation and no noise.
    light: Option<(Arc<CompactModel>, Settings)>,
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
            one_evaluation: None,
            light: None,
            past: VecDeque::new(),
            waiting: VecDeque::new(),
            last: None,
            evaluations: 0,
            evaluating: Duration::ZERO,
        }
    }

    /// What `model` needs for `steps` evaluations.
    fn plan(&self, model: &CompactModel, steps: usize, progress: &Progress) -> Result<StripPlan> {
        let job = Job {
            format: self.format,
            input: self.size,
            output: self.output,
            steps,
            threads: self.enhancer.runtime().threads(),
        };
        plan_strips(model, &job, progress)
    }

    /// One evaluation of `model` without noise.
    fn cheap(&self, model: &CompactModel, progress: &Progress) -> Result<Settings> {
        let flow = Flow {
            times: time_grid(1, SHIFT)?,
            sigma: model.net().sigma(Some(0.0)),
            seed: 0,
        };
        let plan = self.plan(model, 1, progress)?;
        Ok(Settings { flow, plan })
    }

    /// The model of a rung and how it runs; nothing for a plain resize and for what there is not.
    fn on(&self, rung: Rung) -> Option<(&Arc<CompactModel>, &Settings)> {
        let full = || Some((&self.model, self.settings.as_ref()?));
        match rung {
            Rung::Plain => None,
            Rung::Light => self
                .light
                .as_ref()
                .map(|(model, settings)| (model, settings)),
            Rung::OneEvaluation => {
                let one = self.one_evaluation.as_ref();
                one.map(|settings| (&self.model, settings)).or_else(full)
            }
            Rung::Full => full(),
        }
    }

    /// The frame at the front and as many neighbours as `model` sees; the frame itself stands in for those that its scene
    /// does not have.
    fn window(&self, model: &CompactModel, front: &Waiting) -> Vec<Arc<LumaPlane>> {
        let neighbours = model.config().neighbours();
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
            old => match self.plan(&self.model, steps, progress) {
                Ok(plan) => plan,
                Err(error) => {
                    self.settings = old;
                    return Err(error);
                }
            },
        };
        self.one_evaluation = match steps > 1 || flow.sigma > 0.0 {
            true => Some(self.cheap(&self.model, progress)?),
            false => None,
        };
        self.settings = Some(Settings { flow, plan });
        Ok(())
    }

    fn set_light(&mut self, light: &Arc<Enhancer>, progress: &Progress) -> Result<()> {
        self.light = None;
        // It sees the luma that was kept for the model, with as many neighbours as that or fewer.
        if let Model::Compact(model) = light.model()
            && model.config().neighbours() <= self.model.config().neighbours()
        {
            let settings = self.cheap(model, progress)?;
            self.light = Some((model.clone(), settings));
        }
        Ok(())
    }

    fn rungs(&self) -> Vec<Rung> {
        let light = self.light.as_ref().map(|_| Rung::Light);
        let one = self.one_evaluation.as_ref().map(|_| Rung::OneEvaluation);
        let all = [Some(Rung::Plain), light, one, Some(Rung::Full)];
        all.into_iter().flatten().collect()
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

    fn is_ready(&self, end: bool) -> bool {
        let needed = if end {
            0
        } else {
            self.model.config().neighbours()
        };
        self.settings.is_some() && self.waiting.len() > needed
    }

    fn next(&mut self, end: bool, rung: Rung, progress: &Progress) -> Result<Option<Frame>> {
        let neighbours = self.model.config().neighbours();
        let Some(front) = self.waiting.front().filter(|_| self.is_ready(end)) else {
            return Ok(None);
        };
        let frame = match self.on(rung) {
            None => resized(&front.frame, self.output, progress.cancel_token())?,
            Some((model, settings)) => {
                let request = Enlarge {
                    model,
                    frame: &front.frame,
                    window: &self.window(model, front),
                    output: self.output,
                    flow: &settings.flow,
                    plan: &settings.plan,
                };
                drag::wait(rung, progress.cancel_token())?;
                let (frame, cost) = enlarge(&request, progress)?;
                self.evaluations += cost.evaluations;
                self.evaluating += cost.evaluating;
                frame
            }
        };
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
        let light = self.light.as_ref().map(|(_, settings)| settings);
        let all = [self.settings.as_ref(), light];
        let bytes = all
            .into_iter()
            .flatten()
            .map(|settings| settings.plan.bytes());
        bytes.max().unwrap_or(0)
    }

    fn look_ahead(&self) -> usize {
        self.model.config().neighbours()
    }
}
