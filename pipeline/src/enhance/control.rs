// SPDX-License-Identifier: MPL-2.0
//! Deadline control for live pipelines: how much to spend on each frame so that none is late.
//!
//! Pure arithmetic on times in seconds: [`Controller`] sees what frames took and when the next one is due, and picks a
//! [`Rung`] for it. A rung that costs more than the time between two frames would let a backlog grow, so it is left alone,
//! and tried again now and then: if the trial does not end in time, it is broken off while there is still time for a
//! cheaper rung.

use std::fmt;

/// What a frame can get, cheapest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rung {
    /// A plain resize.
    Plain,
    /// The lighter model, one evaluation.
    Light,
    /// The model with one evaluation.
    OneEvaluation,
    /// What was asked for.
    Full,
}

impl fmt::Display for Rung {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plain => "plain",
            Self::Light => "light",
            Self::OneEvaluation => "one-evaluation",
            Self::Full => "full",
        })
    }
}

/// What the next frame gets.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Decision {
    /// What is tried.
    pub rung: Rung,
    /// When it is broken off, so that there is still time for something cheaper, which is to be asked for then; never for a
    /// plain resize.
    pub until: Option<f64>,
}

/// A rung is kept while it costs at most this share of the time between two frames,
const KEPT: f64 = 0.95;
/// and taken again when a trial costs at most this.
const TAKEN: f64 = 0.85;
/// Seconds before a rung that was too dear is tried again: after the first time, and after each further one.
const RETRY: (f64, f64) = (0.7, 1.4);
/// Share of a new measurement in a rung's cost.
const WEIGHT: f64 = 0.3;
/// Guess of a plain resize's cost, as a share of the time between two frames, before there was one.
const PLAIN_GUESS: f64 = 0.2;

/// What is known of a rung.
#[derive(Clone, Copy, Debug)]
struct State {
    rung: Rung,
    /// Seconds of a frame, if it was measured.
    cost: Option<f64>,
    /// Whether it is cheap enough.
    open: bool,
    /// When a rung that is not is tried again.
    retry: f64,
    /// Seconds to wait after the next failure.
    pause: f64,
}

/// Picks a rung for each frame.
#[derive(Clone, Debug)]
pub struct Controller {
    /// Cheapest first; the first one is always there and always open.
    states: Vec<State>,
}

impl Controller {
    /// With these rungs; [`Rung::Plain`] is always one of them.
    pub fn new(rungs: &[Rung]) -> Self {
        let mut all = vec![Rung::Plain];
        all.extend(rungs);
        all.sort_unstable();
        all.dedup();
        let state = |rung| State {
            rung,
            cost: None,
            open: true,
            retry: 0.0,
            pause: RETRY.0,
        };
        Self {
            states: all.into_iter().map(state).collect(),
        }
    }

    /// Seconds that a plain resize takes, as far as known.
    fn plain(&self, period: f64) -> f64 {
        let measured = self.states.first().and_then(|state| state.cost);
        measured.unwrap_or(PLAIN_GUESS * period)
    }

    /// What a frame gets that must be finished at `due`, where frames come every `period`, all in seconds.
    pub fn decide(&self, now: f64, due: f64, period: f64) -> Decision {
        let plain = Decision {
            rung: Rung::Plain,
            until: None,
        };
        let slack = due - now;
        for index in (1..self.states.len()).rev() {
            let state = &self.states[index];
            let trial = !state.open || state.cost.is_none();
            if trial && now < state.retry {
                continue;
            }
            // Where it is broken off there is still time for the best cheaper rung whose cost is known.
            let cheaper = self.states[1..index].iter().rev();
            let known = cheaper
                .filter(|state| state.open)
                .find_map(|state| state.cost);
            let reserve = match known {
                Some(cost) if 2.0 * cost < slack => 1.2 * cost + self.plain(period),
                _ => self.plain(period),
            };
            let room = slack - reserve;
            let expected = if trial {
                0.0
            } else {
                state.cost.unwrap_or(0.0)
            };
            if room > expected && room > 0.0 {
                return Decision {
                    rung: state.rung,
                    until: Some(now + room),
                };
            }
        }
        plain
    }

    /// A frame with `rung` took `seconds`; frames come every `period`.
    pub fn took(&mut self, rung: Rung, seconds: f64, now: f64, period: f64) {
        let Some(index) = self.states.iter().position(|state| state.rung == rung) else {
            return;
        };
        let state = &mut self.states[index];
        state.cost = Some(match state.cost {
            // A trial tells more than what was before it.
            Some(old) if state.open => old + WEIGHT * (seconds - old),
            _ => seconds,
        });
        if index == 0 {
            return;
        }
        let share = state.cost.unwrap_or(seconds) / period.max(1e-6);
        if share > KEPT || (!state.open && share > TAKEN) {
            state.close(now);
        } else {
            state.open = true;
            state.pause = RETRY.0;
        }
    }

    /// A frame with `rung` was broken off after `seconds`.
    pub fn missed(&mut self, rung: Rung, seconds: f64, now: f64) {
        if let Some(state) = self
            .states
            .iter_mut()
            .skip(1)
            .find(|state| state.rung == rung)
        {
            state.cost = Some(state.cost.map_or(seconds, |old| old.max(seconds)));
            state.close(now);
        }
    }

    /// The best rung that is cheap enough, as far as known.
    pub fn best(&self) -> Rung {
        let open = self.states.iter().rev().find(|state| state.open);
        open.map_or(Rung::Plain, |state| state.rung)
    }

    /// Seconds that the dearest rung takes, if it was measured; at least so many where it was broken off.
    pub fn dearest(&self) -> Option<f64> {
        self.states.last().and_then(|state| state.cost)
    }
}

impl State {
    fn close(&mut self, now: f64) {
        self.open = false;
        self.retry = now + self.pause;
        self.pause = RETRY.1;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PERIOD: f64 = 0.04;
    /// What the element promises: two frames after a frame has come.
    const DELAY: f64 = 2.0 * PERIOD;

    /// A machine on which rungs cost what they cost, frames come every `PERIOD`, and what is due is broken off.
    struct Machine {
        controller: Controller,
        /// When it is free again.
        free: f64,
        frame: u64,
        /// What each frame got, and how late it was.
        rungs: Vec<Rung>,
        late: Vec<f64>,
    }

    const ALL: [Rung; 3] = [Rung::Light, Rung::OneEvaluation, Rung::Full];

    impl Machine {
        fn new() -> Self {
            Self {
                controller: Controller::new(&ALL),
                free: 0.0,
                frame: 0,
                rungs: Vec::new(),
                late: Vec::new(),
            }
        }

        /// One frame; `costs` are those of plain, light, one evaluation and full, in periods.
        fn step(&mut self, costs: [f64; 4]) {
            let arrival = self.frame as f64 * PERIOD;
            self.frame += 1;
            let now = self.free.max(arrival);
            let due = arrival + DELAY;
            let cost = |rung: Rung| {
                PERIOD
                    * costs[[Rung::Plain, Rung::Light, Rung::OneEvaluation, Rung::Full]
                        .iter()
                        .position(|r| *r == rung)
                        .unwrap()]
            };
            let mut now = now;
            let (got, end) = loop {
                let decision = self.controller.decide(now, due, PERIOD);
                let (got, cost) = (decision.rung, cost(decision.rung));
                match decision.until {
                    Some(until) if now + cost > until => {
                        self.controller.missed(got, until - now, until);
                        now = until;
                    }
                    _ => {
                        self.controller.took(got, cost, now + cost, PERIOD);
                        break (got, now + cost);
                    }
                }
            };
            self.free = end;
            self.rungs.push(got);
            self.late.push(end - due);
        }

        fn run(&mut self, seconds: f64, costs: [f64; 4]) {
            for _ in 0..(seconds / PERIOD) as usize {
                self.step(costs);
            }
        }

        fn changes(&self, last: usize) -> usize {
            let tail = &self.rungs[self.rungs.len() - last..];
            tail.windows(2).filter(|pair| pair[0] != pair[1]).count()
        }
    }

    #[test]
    fn what_is_fast_enough_stays() {
        let mut machine = Machine::new();
        machine.run(60.0, [0.05, 0.1, 0.5, 0.9]);
        assert!(machine.rungs.iter().all(|rung| *rung == Rung::Full));
        assert!(machine.late.iter().all(|late| *late < 0.0));
    }

    #[test]
    fn too_slow_takes_what_fits_and_is_never_late() {
        for factor in [1.25, 2.0, 6.0, 100.0] {
            let mut machine = Machine::new();
            machine.run(300.0, [0.05, 0.3, factor, factor]);
            assert!(machine.late.iter().all(|late| *late <= 1e-9), "{factor}");
            let light = machine
                .rungs
                .iter()
                .filter(|rung| **rung == Rung::Light)
                .count();
            let share = light as f64 / machine.rungs.len() as f64;
            assert!(share > 0.9, "{factor}: {share}");
        }
    }

    #[test]
    fn it_climbs_back_within_two_seconds() {
        let mut machine = Machine::new();
        machine.run(60.0, [0.05, 0.3, 6.0, 6.0]);
        machine.run(2.0, [0.05, 0.1, 0.4, 0.7]);
        machine.run(5.0, [0.05, 0.1, 0.4, 0.7]);
        let tail = &machine.rungs[machine.rungs.len() - (5.0 / PERIOD) as usize..];
        assert!(tail.iter().all(|rung| *rung == Rung::Full), "{tail:?}");
    }

    #[test]
    fn costs_at_the_border_do_not_make_it_go_up_and_down() {
        let mut machine = Machine::new();
        for frame in 0..7500 {
            // Noise of ten percent around the time there is.
            let noise = 1.0 + 0.1 * f64::from((frame * 37 % 21) - 10) / 10.0;
            machine.step([0.05, 0.3, 0.97 * noise, 0.97 * noise]);
        }
        // One trial in a bit more than a second, each of them up and down.
        assert!(
            machine.changes(7500) < 2 * 300 * 2,
            "{}",
            machine.changes(7500)
        );
    }

    proptest! {
        /// Whatever the load does, as long as a plain resize costs what it did, no frame is late.
        #[test]
        fn no_frame_is_late(loads in prop::collection::vec((0.01f64..12.0, 1usize..120), 1..20)) {
            let mut machine = Machine::new();
            for (load, frames) in loads {
                for _ in 0..frames {
                    machine.step([0.05, 0.05 + 0.1 * load, 0.4 * load, load]);
                }
            }
            for (late, rung) in machine.late.iter().zip(&machine.rungs) {
                prop_assert!(*late <= 1e-9, "{rung} late by {late}");
            }
        }

        /// A decision never promises time that there is not, and always has a way out.
        #[test]
        fn decisions_are_sound(
            costs in prop::collection::vec((0usize..4, 0.0f64..0.5, any::<bool>()), 0..60),
            slack in -1.0f64..1.0,
        ) {
            let mut controller = Controller::new(&ALL);
            let rungs = [Rung::Plain, Rung::Light, Rung::OneEvaluation, Rung::Full];
            let mut now = 0.0;
            for (rung, seconds, missed) in costs {
                now += seconds;
                if missed {
                    controller.missed(rungs[rung], seconds, now);
                } else {
                    controller.took(rungs[rung], seconds, now, PERIOD);
                }
            }
            let decision = controller.decide(now, now + slack, PERIOD);
            match decision.until {
                Some(until) => {
                    prop_assert!(decision.rung > Rung::Plain);
                    prop_assert!(until > now && until <= now + slack);
                }
                None => prop_assert_eq!(decision.rung, Rung::Plain),
            }
            if slack <= 0.0 {
                prop_assert_eq!(decision.rung, Rung::Plain);
            }
        }
    }
}
