// SPDX-License-Identifier: MPL-2.0
//! A reader for the pickles inside of torch files, and for nothing more.
//!
//! A pickle is a program for a stack machine that can call anything. This machine knows the instructions a state dict
//! is written with, treats every class as an inert name, and calls only what builds a tensor view or a dictionary.
//! Objects live in an arena and refer to each other by number, so shared and cyclic objects cost nothing and nesting
//! has no depth; each instruction makes at most one object, so memory is bounded by the length of the pickle.

mod allowed;
mod machine;

use machine::Machine;

/// Number of an object in [`Objects`].
pub(super) type Id = u32;

/// Longest pickle that is read. That of a 5 B parameter model has 0.2 MB.
pub(super) const MAX_PICKLE: usize = 64 << 20;
const MAX_STACK: usize = 1 << 20;
/// Most objects in a pickle; a large model has some 20 000.
const MAX_OBJECTS: usize = 1 << 21;
/// Most entries copied from one dictionary into another over the whole pickle.
const MAX_COPIED: usize = 1 << 22;
/// Longest name of a class or a storage.
const MAX_NAME: usize = 512;

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Object {
    None,
    Bool,
    Int(i64),
    Float,
    Text(String),
    Bytes,
    Tuple(Vec<Id>),
    List(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    /// A class or function, by name only.
    Global(String, String),
    Storage(Box<StorageRef>),
    Tensor(Box<TensorRef>),
    /// Something of a class that no tensor is made of.
    Opaque,
}

/// What a persistent id names: a storage in another part of the file.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct StorageRef {
    /// Class of the storage (`FloatStorage`).
    pub(super) class: String,
    pub(super) key: String,
    pub(super) elements: usize,
}

/// A view of a storage.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct TensorRef {
    pub(super) storage: StorageRef,
    pub(super) offset: usize,
    pub(super) shape: Vec<usize>,
    pub(super) strides: Vec<usize>,
}

/// All objects of one pickle.
#[derive(Debug, Default)]
pub(super) struct Objects(Vec<Object>);

impl Objects {
    pub(super) fn get(&self, id: Id) -> &Object {
        self.0.get(id as usize).unwrap_or(&Object::Opaque)
    }

    /// All tensors that were built, in the order of the pickle.
    pub(super) fn tensors(&self) -> impl Iterator<Item = &TensorRef> {
        self.0.iter().filter_map(|object| match object {
            Object::Tensor(tensor) => Some(&**tensor),
            _ => None,
        })
    }

    fn text(&self, id: Id) -> Option<&str> {
        match self.get(id) {
            Object::Text(text) => Some(text),
            _ => None,
        }
    }

    fn size(&self, id: Id) -> Option<usize> {
        match self.get(id) {
            Object::Int(value) => usize::try_from(*value).ok(),
            _ => None,
        }
    }

    fn sizes(&self, id: Id) -> Option<Vec<usize>> {
        match self.get(id) {
            Object::Tuple(items) | Object::List(items) if items.len() <= 64 => {
                items.iter().map(|&item| self.size(item)).collect()
            }
            _ => None,
        }
    }

    /// Entries of the dictionary `id` whose keys are text, in the order of the file.
    pub(super) fn entries(&self, id: Id) -> Option<impl Iterator<Item = (&str, Id)>> {
        match self.get(id) {
            Object::Dict(entries) => Some(
                entries
                    .iter()
                    .filter_map(|&(key, value)| Some((self.text(key)?, value))),
            ),
            _ => None,
        }
    }
}

/// Reads one pickle from the start of `bytes`: its objects, its root, and its length.
///
/// # Errors
/// A description of the first instruction that is damaged or that a state dict does not need.
pub(super) fn read(bytes: &[u8]) -> Result<(Objects, Id, usize), String> {
    let mut machine = Machine::new(bytes);
    loop {
        let at = machine.position();
        if at > MAX_PICKLE {
            return Err(format!("longer than {MAX_PICKLE} bytes"));
        }
        match machine
            .step()
            .map_err(|problem| format!("byte {at}: {problem}"))?
        {
            None => {}
            Some(root) => {
                let length = machine.position();
                return Ok((machine.into_objects(), root, length));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `OrderedDict([('w', tensor)])` with a `_metadata` attribute, as torch writes it.
    fn state_dict() -> Vec<u8> {
        let mut p = b"\x80\x02ccollections\nOrderedDict\n)Rq\x00(X\x01\x00\x00\x00w".to_vec();
        p.extend(
            b"ctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storagectorch\nFloatStorage\n",
        );
        p.extend(b"X\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x06tQK\x01K\x02K\x02\x86K\x02K\x01\x86\x89}tRu");
        p.extend(b"}X\x09\x00\x00\x00_metadata}sb.");
        p
    }

    #[test]
    fn state_dict_with_metadata() {
        let (objects, root, length) = read(&state_dict()).unwrap();
        assert_eq!(length, state_dict().len());
        let entries: Vec<_> = objects.entries(root).unwrap().collect();
        assert_eq!(entries.len(), 1);
        assert_eq!(entries[0].0, "w");
        let Object::Tensor(tensor) = objects.get(entries[0].1) else {
            panic!("no tensor")
        };
        assert_eq!(
            (tensor.offset, &tensor.shape[..], &tensor.strides[..]),
            (1, &[2, 2][..], &[2, 1][..])
        );
        assert_eq!(tensor.storage.class, "FloatStorage");
        assert_eq!(tensor.storage.elements, 6);
    }

    #[test]
    fn code_is_refused_by_name() {
        for (pickle, name) in [
            (
                &b"\x80\x02cos\nsystem\nX\x02\x00\x00\x00ls\x85R."[..],
                "os.system",
            ),
            (
                b"\x80\x02c__builtin__\neval\nX\x01\x00\x00\x001\x85R.",
                "__builtin__.eval",
            ),
            (
                b"\x80\x04\x8c\x0asubprocess\x8c\x05Popen\x93.",
                "subprocess.Popen",
            ),
            (b"\x80\x02ctorch.hub\nload\n.", "torch.hub.load"),
        ] {
            let problem = read(pickle).unwrap_err();
            assert!(problem.contains(name), "{problem}");
        }
        assert!(
            read(b"\x80\x02(X\x01\x00\x00\x00ai__main__\nA\n.")
                .unwrap_err()
                .contains("0x69")
        );
    }

    #[test]
    fn shared_objects_do_not_multiply() {
        // Forty doublings of a tuple: a terabyte if it were copied.
        let mut p = b"\x80\x02)".to_vec();
        for _ in 0..40 {
            p.extend(b"2\x86");
        }
        p.push(b'.');
        let (objects, _, _) = read(&p).unwrap();
        assert_eq!(objects.0.len(), 41);
    }

    #[test]
    fn every_truncation_is_an_error() {
        let whole = state_dict();
        for length in 0..whole.len() {
            assert!(read(&whole[..length]).is_err(), "{length}");
        }
    }

    #[test]
    fn lengths_beyond_the_end_are_errors() {
        assert!(read(b"X\xff\xff\xff\xff").is_err());
        assert!(read(b"\x8d\xff\xff\xff\xff\xff\xff\xff\xff").is_err());
        assert!(read(b"\x8e\xff\xff\xff\xff\xff\xff\xff\x7f").is_err());
    }
}
