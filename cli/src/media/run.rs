// SPDX-License-Identifier: MPL-2.0
//! Runs a pipeline to its end, to its first error, or to Ctrl-C.

use anyhow::{Context, Result, anyhow, bail};
use gst::prelude::*;

const INTERRUPT: &str = "interrupt";

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// All data went through.
    Finished,
    /// Somebody wanted it to stop.
    Interrupted,
}

/// Makes Ctrl-C (and SIGTERM, SIGHUP) end [`to_the_end`].
///
/// # Errors
///
/// If the process already has a handler.
pub fn stop_on_signals(pipeline: &gst::Pipeline) -> Result<()> {
    let bus = pipeline.bus().context("the pipeline has no bus")?;
    ctrlc::set_handler(move || {
        // The bus only refuses messages when the pipeline has ended by itself.
        let _ = bus.post(gst::message::Application::new(gst::Structure::new_empty(
            INTERRUPT,
        )));
    })
    .context("installing the handler for Ctrl-C")
}

/// Plays `pipeline` to its end and puts it back to rest. Warnings go to `say`.
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
    for message in bus.iter_timed(gst::ClockTime::NONE) {
        match message.view() {
            gst::MessageView::Eos(_) => return Ok(Outcome::Finished),
            gst::MessageView::Error(_) => return Err(anyhow!(describe(&message, &missing))),
            gst::MessageView::Warning(warning) => say(&format!("warning: {}", warning.error())),
            gst::MessageView::Application(_) if message.has_name(INTERRUPT) => {
                return Ok(Outcome::Interrupted);
            }
            gst::MessageView::Element(_) => {
                if let Ok(plugin) = gst_pbutils::MissingPluginMessage::parse(&message) {
                    missing.push(plugin.description().to_string());
                }
            }
            _ => {}
        }
    }
    bail!("the pipeline's bus closed before the end of the stream")
}

fn describe(message: &gst::MessageRef, missing: &[String]) -> String {
    let gst::MessageView::Error(error) = message.view() else {
        return "unknown error".into();
    };
    let source = message
        .src()
        .map_or_else(|| "pipeline".into(), |s| s.name().to_string());
    let mut text = format!("{source}: {}", error.error());
    if !missing.is_empty() {
        text += &format!(
            "\nmissing: {} (on Debian: apt install gstreamer1.0-libav)",
            missing.join(", ")
        );
    }
    if let Some(details) = error.debug() {
        text += &format!("\n{details}");
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
    fn an_error_names_its_element() {
        let pipeline = pipeline("filesrc name=reader location=/no/such/file ! fakesink");
        let message = to_the_end(&pipeline, |_| ()).unwrap_err().to_string();
        assert!(
            message.contains("reader") && message.contains("/no/such/file"),
            "{message}"
        );
        assert_eq!(pipeline.current_state(), gst::State::Null);
    }

    #[test]
    fn an_interrupt_ends_an_endless_pipeline() {
        let pipeline = pipeline("videotestsrc ! fakesink sync=true");
        let interrupt = gst::message::Application::new(gst::Structure::new_empty(INTERRUPT));
        pipeline.bus().unwrap().post(interrupt).unwrap();
        assert_eq!(to_the_end(&pipeline, |_| ()).unwrap(), Outcome::Interrupted);
    }
}
