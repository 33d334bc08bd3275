// SPDX-License-Identifier: MPL-2.0
//! Sentencepiece models (`spiece.model`) as T5 uses them: the file, its normaliser, and the unigram model of the
//! `tokenizers` crate.

use std::fs;
use std::path::Path;

use tokenizers::Model;
use tokenizers::models::unigram::Unigram;

use crate::error::{Error, Result};

/// Words begin with this character, U+2581, in the place of a space.
const SPACE: char = '\u{2581}';
/// The sentinels that T5 adds behind the pieces of its model, the highest number first.
const SENTINELS: u32 = 100;
/// Prompts are cut to 226 tokens; more text than this is not a prompt.
const MAX_TEXT: usize = 1 << 16;

/// Text to token ids, as T5 was trained: id 1 ends a text, id 0 fills it up.
pub struct Tokenizer {
    unigram: Unigram,
    unknown: u32,
    normalizer: Normalizer,
    end: u32,
    padding: u32,
}

impl Tokenizer {
    /// Reads the model file at `path`.
    ///
    /// # Errors
    /// [`Error::Io`], or [`Error::Checkpoint`] when the file is damaged or not a unigram model.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let bytes = fs::read(path).map_err(|e| Error::io(path, e))?;
        Self::from_bytes(&bytes).map_err(|problem| {
            Error::checkpoint(path, format!("not a sentencepiece model of T5: {problem}"))
        })
    }

    /// Reads the content of a model file.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn from_bytes(bytes: &[u8]) -> std::result::Result<Self, String> {
        let file = ModelFile::parse(bytes)?;
        if file.model_type != UNIGRAM {
            return Err(format!(
                "its algorithm is number {}, unigram is {UNIGRAM}",
                file.model_type
            ));
        }
        let find = |text: &str| {
            file.pieces
                .iter()
                .position(|(piece, _)| piece == text)
                .map(|id| id as u32)
        };
        let end = find("</s>").ok_or("it has no </s>")?;
        let padding = find("<pad>").unwrap_or(0);
        let unknown = file.unknown.ok_or("it has no unknown piece")?;
        let mut pieces = file.pieces;
        pieces.extend(
            (0..SENTINELS)
                .rev()
                .map(|i| (format!("<extra_id_{i}>"), 0.0)),
        );
        let unigram = Unigram::from(pieces, Some(unknown), false).map_err(|e| e.to_string())?;
        Ok(Self {
            unigram,
            unknown: unknown as u32,
            normalizer: Normalizer::new(&file.charsmap)?,
            end,
            padding,
        })
    }

    /// The ids of `text` alone.
    ///
    /// # Errors
    /// [`Error::Invalid`] for texts beyond 64 KiB.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        if text.len() > MAX_TEXT {
            return Err(Error::invalid(format!(
                "a prompt of {} bytes; shorten it, only its first tokens are read",
                text.len()
            )));
        }
        let text = self.normalizer.normalize(text);
        if text.is_empty() {
            return Ok(Vec::new());
        }
        let pieces = self
            .unigram
            .encode(&text)
            .map_err(|e| Error::invalid(format!("the prompt cannot be split into tokens: {e}")))?;
        Ok(pieces
            .iter()
            .map(|piece| self.unigram.token_to_id(piece).unwrap_or(self.unknown))
            .collect())
    }

    /// Exactly `length` ids: those of `text`, cut if they are too many, the end, and padding.
    ///
    /// # Errors
    /// As [`encode`](Self::encode).
    pub fn encode_padded(&self, text: &str, length: usize) -> Result<Vec<u32>> {
        let mut ids = self.encode(text)?;
        ids.truncate(length.saturating_sub(1));
        ids.push(self.end);
        ids.resize(length, self.padding);
        Ok(ids)
    }
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokenizer")
            .field("pieces", &self.unigram.get_vocab_size())
            .finish()
    }
}

const UNIGRAM: u64 = 1;
/// Most pieces of a model; T5 has 32 000.
const MAX_PIECES: usize = 1 << 20;

/// What is needed of a `sentencepiece.ModelProto`.
#[derive(Debug)]
struct ModelFile {
    pieces: Vec<(String, f64)>,
    unknown: Option<usize>,
    model_type: u64,
    charsmap: Vec<u8>,
}

impl ModelFile {
    fn parse(bytes: &[u8]) -> std::result::Result<Self, String> {
        let mut model = Self {
            pieces: Vec::new(),
            unknown: None,
            model_type: UNIGRAM,
            charsmap: Vec::new(),
        };
        for field in fields(bytes) {
            match field? {
                // pieces
                (1, Value::Bytes(piece)) => {
                    let (mut text, mut score) = (String::new(), 0f32);
                    for field in fields(piece) {
                        match field? {
                            (1, Value::Bytes(bytes)) => {
                                text = String::from_utf8(bytes.to_vec())
                                    .map_err(|_| "a piece is not UTF-8")?;
                            }
                            (2, Value::Fixed32(bits)) => score = f32::from_bits(bits),
                            (3, Value::Varint(UNKNOWN)) => model.unknown = Some(model.pieces.len()),
                            _ => {}
                        }
                    }
                    if text.is_empty() || !score.is_finite() || model.pieces.len() >= MAX_PIECES {
                        return Err(format!("piece {} is damaged", model.pieces.len()));
                    }
                    model.pieces.push((text, score.into()));
                }
                // trainer_spec.model_type
                (2, Value::Bytes(spec)) => {
                    for field in fields(spec) {
                        if let (3, Value::Varint(kind)) = field? {
                            model.model_type = kind;
                        }
                    }
                }
                // normalizer_spec.precompiled_charsmap
                (3, Value::Bytes(spec)) => {
                    for field in fields(spec) {
                        if let (2, Value::Bytes(map)) = field? {
                            model.charsmap = map.to_vec();
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(model)
    }
}

/// Type of the piece that stands for everything unknown.
const UNKNOWN: u64 = 2;

enum Value<'a> {
    Varint(u64),
    Fixed32(u32),
    Bytes(&'a [u8]),
    Other,
}

/// The fields of a protobuf message.
fn fields(mut rest: &[u8]) -> impl Iterator<Item = std::result::Result<(u64, Value<'_>), String>> {
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let field = next_field(&mut rest);
        if field.is_none() {
            rest = &[];
        }
        Some(field.ok_or_else(|| "the file is cut off or damaged".to_owned()))
    })
}

fn next_field<'a>(rest: &mut &'a [u8]) -> Option<(u64, Value<'a>)> {
    let key = varint(rest)?;
    let value = match key & 7 {
        0 => Value::Varint(varint(rest)?),
        1 => {
            *rest = rest.get(8..)?;
            Value::Other
        }
        2 => {
            let length = usize::try_from(varint(rest)?).ok()?;
            let (bytes, after) = rest.split_at_checked(length)?;
            *rest = after;
            Value::Bytes(bytes)
        }
        5 => {
            let (bytes, after) = rest.split_first_chunk::<4>()?;
            *rest = after;
            Value::Fixed32(u32::from_le_bytes(*bytes))
        }
        _ => return None,
    };
    Some((key >> 3, value))
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, after) = rest.split_first()?;
        *rest = after;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// Sentencepiece's normalisation: the longest match in a table of character sequences at each place, then runs of
/// spaces become one [`SPACE`], one stands at the front, and none at the end.
#[derive(Debug, Default)]
struct Normalizer {
    /// A double array trie (darts) from UTF-8 to offsets in `texts`.
    trie: Vec<u32>,
    /// Replacements, each ended by a zero byte.
    texts: Vec<u8>,
}

impl Normalizer {
    fn new(charsmap: &[u8]) -> std::result::Result<Self, String> {
        if charsmap.is_empty() {
            return Ok(Self::default());
        }
        let damaged = || "its table of characters is damaged".to_owned();
        let (length, rest) = charsmap.split_first_chunk::<4>().ok_or_else(damaged)?;
        let length = u32::from_le_bytes(*length) as usize;
        let (trie, texts) = rest.split_at_checked(length).ok_or_else(damaged)?;
        let (trie, odd) = trie.as_chunks::<4>();
        if !odd.is_empty() {
            return Err(damaged());
        }
        Ok(Self {
            trie: trie.iter().map(|unit| u32::from_le_bytes(*unit)).collect(),
            texts: texts.to_vec(),
        })
    }

    fn normalize(&self, text: &str) -> String {
        let mut mapped = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            let length = match self.longest(rest) {
                Some((length, replacement)) => {
                    mapped.push_str(replacement);
                    length
                }
                None => {
                    mapped.push(first);
                    first.len_utf8()
                }
            };
            rest = &rest[length..];
        }
        let mut out = String::with_capacity(mapped.len() + 8);
        for word in mapped.split(' ').filter(|word| !word.is_empty()) {
            out.push(SPACE);
            out.push_str(word);
        }
        out
    }

    /// Length of the longest beginning of `text` that the table replaces, and by what.
    fn longest<'a>(&'a self, text: &str) -> Option<(usize, &'a str)> {
        let unit = |at: usize| self.trie.get(at).copied();
        let offset = |unit: u32| ((unit >> 10) << ((unit & (1 << 9)) >> 6)) as usize;
        let mut at = offset(unit(0)?);
        let mut best = None;
        for (index, byte) in text.bytes().enumerate() {
            at ^= usize::from(byte);
            let Some(node) = unit(at) else { break };
            if byte == 0 || node & (1 << 31 | 0xff) != u32::from(byte) {
                break;
            }
            at ^= offset(node);
            if node >> 8 & 1 == 1 {
                best = unit(at).map(|leaf| (index + 1, (leaf & !(1 << 31)) as usize));
            }
        }
        let (length, start) = best?;
        let replacement = self.texts.get(start..)?;
        let replacement = replacement.split(|&byte| byte == 0).next()?;
        // A damaged table could end a match inside of a character.
        text.is_char_boundary(length).then_some(())?;
        Some((length, std::str::from_utf8(replacement).ok()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::sync::LazyLock;

    static SPIECE: LazyLock<Vec<u8>> = LazyLock::new(|| {
        fs::read(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../tests/golden/t5/spiece.model"
        ))
        .unwrap()
    });

    #[test]
    fn normalisation() {
        let tokenizer = Tokenizer::from_bytes(&SPIECE).unwrap();
        let normal = |text: &str| tokenizer.normalizer.normalize(text);
        assert_eq!(normal("  a \n\t b  "), "\u{2581}a\u{2581}b");
        assert_eq!(normal("ﬁne Ａ①"), "\u{2581}fine\u{2581}A1");
        assert_eq!(normal("e\u{301}"), "\u{2581}\u{e9}");
        assert_eq!(normal(" \u{3000} "), "");
    }

    #[test]
    fn length_is_exact() {
        let tokenizer = Tokenizer::from_bytes(&SPIECE).unwrap();
        assert_eq!(tokenizer.encode_padded("", 4).unwrap(), [1, 0, 0, 0]);
        let long = tokenizer.encode_padded(&"fox ".repeat(500), 226).unwrap();
        assert_eq!((long.len(), long[225]), (226, 1));
        assert!(tokenizer.encode(&"a".repeat(MAX_TEXT + 1)).is_err());
    }

    #[test]
    fn damaged_files_are_errors() {
        for length in (0..SPIECE.len()).step_by(997) {
            // Cut between two fields the rest is a smaller model; it must still work or fail, not crash.
            if let Ok(tokenizer) = Tokenizer::from_bytes(&SPIECE[..length]) {
                tokenizer.encode("a red fox").unwrap();
            }
        }
        assert!(Tokenizer::from_bytes(b"").is_err());
        assert!(Tokenizer::from_bytes(b"<!DOCTYPE html>").is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn any_text_in_any_damaged_model(
            text in "\\PC{0,40}",
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
        ) {
            let mut bytes = SPIECE.clone();
            for (at, value) in changes {
                let at = at.index(bytes.len());
                bytes[at] = value;
            }
            if let Ok(tokenizer) = Tokenizer::from_bytes(&bytes) {
                prop_assert_eq!(tokenizer.encode_padded(&text, 32).unwrap().len(), 32);
            }
        }
    }
}
