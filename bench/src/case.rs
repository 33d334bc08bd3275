// SPDX-License-Identifier: MPL-2.0
//! What a case is: something that is timed on our side, and what the rivals are asked for.

use flashvideo::Result;

/// A name in the results.
pub struct Case {
    pub name: &'static str,
    /// The worst of them counts.
    pub parts: Vec<Part>,
}

/// One thing that is timed.
pub struct Part {
    pub ours: Maker,
    /// The rivals' cases; the fastest counts.
    pub rivals: Vec<String>,
    /// These cases where they are in this process.
    pub inside: Vec<(String, Maker)>,
    /// The rivals' case whose values errors are measured against.
    pub reference: Option<String>,
    /// Runs at most.
    pub runs: usize,
    /// The value of a case without rivals, from its milliseconds.
    pub value: fn(f64) -> f64,
}

/// Sets up something to be timed.
pub type Maker = Box<dyn Fn() -> Result<Box<dyn Subject>> + Send + Sync>;

/// Something that can be timed again and again.
pub trait Subject: Send {
    /// Does it once.
    fn run(&mut self) -> Result<()>;

    /// Values of the result, if the rivals have such.
    fn probe(&mut self) -> Result<Vec<f32>> {
        Ok(Vec::new())
    }
}

/// What `make` makes, whatever its type.
pub fn subject<S: Subject + 'static>(
    make: impl Fn() -> Result<S> + Send + Sync + 'static,
) -> Maker {
    Box::new(move || Ok(Box::new(make()?)))
}

/// Ours beside rivals.
pub fn part<S: Subject + 'static>(
    ours: impl Fn() -> Result<S> + Send + Sync + 'static,
    rivals: &[String],
    reference: Option<String>,
    runs: usize,
) -> Part {
    Part {
        ours: subject(ours),
        rivals: rivals.to_vec(),
        inside: Vec::new(),
        reference,
        runs,
        value: |ms| ms,
    }
}
