// SPDX-License-Identifier: MPL-2.0
//! Any bytes as a sentencepiece model.
#![no_main]

use flashvideo::release::text::Tokenizer;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(tokenizer) = Tokenizer::from_bytes(bytes) {
        let _ = tokenizer.encode_padded("a red fox, ﬁne\u{301} \n run", 32);
    }
});
