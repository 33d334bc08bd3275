// SPDX-License-Identifier: MPL-2.0
//! Runs a pipeline to its end, to its first error, or to Ctrl-C.

use anyhow::{Context, Result, anyhow, bail};
use gst::prelude::*;

use crate::interrupt;

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// All data went through.
    Finished,
    /// Somebody wanted it to stop.
    Interrupted,
}

/// Plays `pipeline` to its end and puts it back to rest. Warnings and what elements tell of their progress go to `say`.
///
/// # Errors
///
/// The first error message on the bus, in words, with the missing plugins if there were any.
pub fn to_the_end(pipeline: &gst::Pipeline, say: impl Fn(&str)) -> Result<Outcome> {
    let result = play(pipeline, say);
    // Done even after an error, so that files are closed and threads have ended.
    let stopped = pipeline.set_state(gst::State::Null);
    let outcome = result?;
    stopped.context("stopping the pipeline")?;
    Ok(outcome)
}

fn play(pipeline: &gst::Pipeline, say: impl Fn(&str)) -> Result<Outcome> {
    let bus = pipeline.bus().context("the pipeline has no bus")?;
    let mut missing = Vec::new();
    if pipeline.set_state(gst::State::Playing).is_err() {
        // The reason is on the bus.
        let reason = bus.pop_filtered(&[gst::MessageType::Error]);
        bail!(reason.map_or_else(
            || "the pipeline does not start".into(),
            |m| describe(&m, &missing)
        ));
    }
    loop {
        if interrupt::wanted() {
            return Ok(Outcome::Interrupted);
        }
        let Some(message) = bus.timed_pop(gst::ClockTime::from_mseconds(100)) else {
            continue;
        };
        match message.view() {
            gst::MessageView::Eos(_) => return Ok(Outcome::Finished),
            gst::MessageView::Error(_) => return Err(anyhow!(describe(&message, &missing))),
            gst::MessageView::Warning(warning) => say(&format!("warning: {}", warning.error())),
            gst::MessageView::Progress(progress) => {
                let (kind, _, text) = progress.get();
                if kind != gst::ProgressType::Complete {
                    say(text);
                }
            }
            gst::MessageView::Element(_) => {
                if let Ok(plugin) = gst_pbutils::MissingPluginMessage::parse(&message) {
                    missing.push(plugin.description().to_string());
                }
            }
            _ => {}
        }
    }
}

/// What an error message says, for people. The first line of its details names a line of a source file, those that follow
/// may name the file that is missing.
pub fn describe(message: &gst::MessageRef, missing: &[String]) -> String {
    let gst::MessageView::Error(error) = message.view() else {
        return "unknown error".into();
    };
    let mut text = error.error().to_string();
    let details = error.debug();
    for line in details.as_deref().unwrap_or_default().lines().skip(1) {
        text += &format!(" {line}");
    }
    if !missing.is_empty() {
        text += &format!(
            "\nmissing: {} (on Debian: apt install gstreamer1.0-libav)",
            missing.join(", ")
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pipeline(description: &str) -> gst::Pipeline {
        gst::init().unwrap();
        gst::parse::launch(description).unwrap().downcast().unwrap()
    }

    #[test]
    fn the_end_of_the_stream_is_the_end() {
        let pipeline = pipeline("videotestsrc num-buffers=3 ! fakesink");
        assert_eq!(to_the_end(&pipeline, |_| ()).unwrap(), Outcome::Finished);
        assert_eq!(pipeline.current_state(), gst::State::Null);
    }

    #[test]
    fn an_error_is_told_without_lines_of_source() {
        let pipeline = pipeline("filesrc name=reader location=/no/such/file ! fakesink");
        let message = to_the_end(&pipeline, |_| ()).unwrap_err().to_string();
        assert!(
            message.contains("/no/such/file") && !message.contains(".c("),
            "{message}"
        );
        assert_eq!(pipeline.current_state(), gst::State::Null);
    }
}
