//! Prompt to features: sentencepiece tokens and the T5 encoder.
