// SPDX-License-Identifier: MPL-2.0
//! The flow of one picture: Euler steps from the reference latent at t = 0 to the enhanced latent at t = 1.

use super::model::CpuModel;
use crate::compact::cpu::buffers::{Rows, copied};
use crate::compact::cpu::chain::Input;
use crate::compact::cpu::state::State;
use crate::cpu::s2d::LATENT;
use crate::error::{Error, Result};
use crate::flow::euler::FlowTime;
use crate::progress::CancelToken;

/// The states x_t of a flow, one for each evaluation.
///
/// The first and the last never are in memory: the first is made row by row as it is read, the last row by row becomes
/// what is wanted. What is between two evaluations is a latent in memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Trajectory<'a> {
    pub model: &'a CpuModel,
    /// What the first evaluation reads; later ones read another state.
    pub start: Input<'a>,
    /// Times of the evaluations.
    pub times: &'a [FlowTime],
    /// Strength of the noise at the start.
    pub sigma: f64,
    /// Whether layers of the whole picture may be in memory; without them it takes longer and gives the same result.
    pub planes: bool,
}

impl Trajectory<'_> {
    /// Takes the Euler steps of [`euler`](crate::flow::euler::euler) and gives rows of the state at the end to `last`.
    ///
    /// # Errors
    /// [`Error::Cancelled`] within 100 ms of the token being triggered, [`Error::Invalid`] without evaluations.
    pub fn follow<O: Send>(
        &self,
        last: Rows<'_, O, impl Fn(&[f32], &mut [O]) + Sync>,
        cancel: &CancelToken,
    ) -> Result<()> {
        let Some((end, before)) = self.times.split_last() else {
            return Err(Error::invalid("a flow without evaluations"));
        };
        let size = self.start.size;
        let length = size.pixels() * LATENT;
        let fit = |states: &[Vec<f32>; 2]| states[0].len() == length;
        let along = |[from, to]: &mut [Vec<f32>; 2]| {
            for (index, at) in before.iter().enumerate() {
                to.resize(length, 0.0);
                self.step(at, self.state(index, from), copied(to, size.height), cancel)?;
                std::mem::swap(from, to);
            }
            self.step(end, self.state(before.len(), from), last, cancel)
        };
        self.model.states.lend(fit, Default::default, along)
    }

    /// The state before evaluation `index`; all but the first are `kept` in memory.
    fn state<'s>(&'s self, index: usize, kept: &'s [f32]) -> State<'s> {
        match index {
            0 => self.start.state,
            _ => State::Latent(kept),
        }
    }

    /// One Euler step from `state` to `next`.
    fn step<O: Send>(
        &self,
        at: &FlowTime,
        state: State<'_>,
        next: Rows<'_, O, impl Fn(&[f32], &mut [O]) + Sync>,
        cancel: &CancelToken,
    ) -> Result<()> {
        let (input, dt) = (self.start.with(state), at.dt as f32);
        let at = (at.t, self.sigma);
        self.model.step(at, dt, input, self.planes, next, cancel)
    }
}
