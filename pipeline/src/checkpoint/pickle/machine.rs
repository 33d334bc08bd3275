// SPDX-License-Identifier: MPL-2.0
//! The stack machine that reads a pickle.

use std::collections::HashMap;

use super::allowed::is_allowed;
use super::{
    Id, MAX_COPIED, MAX_NAME, MAX_OBJECTS, MAX_STACK, Object, Objects, StorageRef, TensorRef,
};

pub(super) struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    objects: Objects,
    stack: Vec<Id>,
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
    copied: usize,
}

type Step<T = ()> = Result<T, String>;

impl<'a> Machine<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            at: 0,
            objects: Objects::default(),
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
            copied: 0,
        }
    }

    /// Bytes read so far.
    pub(super) fn position(&self) -> usize {
        self.at
    }

    /// All objects made so far.
    pub(super) fn into_objects(self) -> Objects {
        self.objects
    }

    /// Runs one instruction; returns the root after the last one.
    pub(super) fn step(&mut self) -> Step<Option<Id>> {
        let [code] = self.fixed()?;
        match code {
            // PROTO, FRAME
            0x80 => drop(self.fixed::<1>()?),
            0x95 => drop(self.fixed::<8>()?),
            b'.' => return self.pop().map(Some),
            b'(' => {
                if self.marks.len() >= MAX_STACK {
                    return Err("nested too deeply".to_owned());
                }
                self.marks.push(self.stack.len());
            }
            b'0' => drop(self.pop()?),
            b'1' => drop(self.since_mark()?),
            b'2' => {
                let top = self.top()?;
                self.push_id(top)?;
            }
            b'N' => self.push(Object::None)?,
            0x88 | 0x89 => self.push(Object::Bool)?,
            b'I' | b'L' => {
                let line = self.line()?;
                let number = line.trim_end_matches('L').parse();
                self.push(Object::Int(
                    number.map_err(|_| format!("\"{line}\" is no number"))?,
                ))?;
            }
            b'K' => {
                let [value] = self.fixed()?;
                self.push(Object::Int(value.into()))?;
            }
            b'M' => {
                let value = u16::from_le_bytes(self.fixed()?);
                self.push(Object::Int(value.into()))?;
            }
            b'J' => {
                let value = i32::from_le_bytes(self.fixed()?);
                self.push(Object::Int(value.into()))?;
            }
            0x8a => self.long()?,
            b'G' => {
                self.fixed::<8>()?;
                self.push(Object::Float)?;
            }
            b'F' => {
                self.line()?;
                self.push(Object::Float)?;
            }
            // BINUNICODE, SHORT_BINUNICODE, BINUNICODE8
            b'X' => self.text::<4>()?,
            0x8c => self.text::<1>()?,
            0x8d => self.text::<8>()?,
            // SHORT_BINSTRING, BINSTRING: text of Python 2
            b'U' => self.text::<1>()?,
            b'T' => self.text::<4>()?,
            // SHORT_BINBYTES, BINBYTES, BINBYTES8, BYTEARRAY8
            b'C' => self.skip_bytes::<1>()?,
            b'B' => self.skip_bytes::<4>()?,
            0x8e | 0x96 => self.skip_bytes::<8>()?,
            b')' => self.push(Object::Tuple(Vec::new()))?,
            b'}' => self.push(Object::Dict(Vec::new()))?,
            b']' => self.push(Object::List(Vec::new()))?,
            // EMPTY_SET, FROZENSET, ADDITEMS
            0x8f => self.push(Object::Opaque)?,
            0x91 => {
                self.since_mark()?;
                self.push(Object::Opaque)?;
            }
            0x90 => drop(self.since_mark()?),
            b't' => {
                let items = self.since_mark()?;
                self.push(Object::Tuple(items))?;
            }
            b'l' => {
                let items = self.since_mark()?;
                self.push(Object::List(items))?;
            }
            b'd' => {
                let items = self.since_mark()?;
                self.push(Object::Dict(pairs(&items)?))?;
            }
            0x85 => self.tuple(1)?,
            0x86 => self.tuple(2)?,
            0x87 => self.tuple(3)?,
            b'a' => {
                let item = self.pop()?;
                self.append(&[item])?;
            }
            b'e' => {
                let items = self.since_mark()?;
                self.append(&items)?;
            }
            b's' => {
                let value = self.pop()?;
                let key = self.pop()?;
                self.insert(&[key, value])?;
            }
            b'u' => {
                let items = self.since_mark()?;
                self.insert(&items)?;
            }
            // PUT, BINPUT, LONG_BINPUT, MEMOIZE
            b'p' => {
                let index = self.memo_index()?;
                self.memoize(index)?;
            }
            b'q' => {
                let [index] = self.fixed()?;
                self.memoize(index.into())?;
            }
            b'r' => {
                let index = u32::from_le_bytes(self.fixed()?);
                self.memoize(index)?;
            }
            0x94 => {
                let index = self.memo.len() as u32;
                self.memoize(index)?;
            }
            // GET, BINGET, LONG_BINGET
            b'g' => {
                let index = self.memo_index()?;
                self.recall(index)?;
            }
            b'h' => {
                let [index] = self.fixed()?;
                self.recall(index.into())?;
            }
            b'j' => {
                let index = u32::from_le_bytes(self.fixed()?);
                self.recall(index)?;
            }
            b'c' => {
                let module = self.line()?;
                let name = self.line()?;
                self.global(module, name)?;
            }
            0x93 => {
                let name = self.pop()?;
                let module = self.pop()?;
                let (Some(module), Some(name)) =
                    (self.objects.text(module), self.objects.text(name))
                else {
                    return Err("a class without a name".to_owned());
                };
                self.global(module.to_owned(), name.to_owned())?;
            }
            b'Q' => {
                let id = self.pop()?;
                let storage = self
                    .storage(id)
                    .ok_or("a persistent id that is no storage")?;
                self.push(Object::Storage(Box::new(storage)))?;
            }
            // REDUCE, NEWOBJ
            b'R' | 0x81 => {
                let arguments = self.pop()?;
                let callable = self.pop()?;
                let made = self.call(callable, arguments)?;
                self.push(made)?;
            }
            // NEWOBJ_EX
            0x92 => {
                self.pop()?;
                let arguments = self.pop()?;
                let callable = self.pop()?;
                let made = self.call(callable, arguments)?;
                self.push(made)?;
            }
            // BUILD: attributes such as `_metadata`, which no tensor needs
            b'b' => {
                self.pop()?;
                self.top()?;
            }
            other => {
                return Err(format!(
                    "the instruction 0x{other:02x} has no place in a state dict"
                ));
            }
        }
        Ok(None)
    }

    fn take(&mut self, length: usize) -> Step<&'a [u8]> {
        let end = self
            .at
            .checked_add(length)
            .filter(|&end| end <= self.bytes.len());
        let end = end.ok_or_else(|| format!("cut off: {length} more bytes expected"))?;
        let bytes = &self.bytes[self.at..end];
        self.at = end;
        Ok(bytes)
    }

    fn fixed<const N: usize>(&mut self) -> Step<[u8; N]> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N)?);
        Ok(out)
    }

    fn counted<const N: usize>(&mut self) -> Step<&'a [u8]> {
        let mut length = [0; 8];
        length[..N].copy_from_slice(self.take(N)?);
        let length = usize::try_from(u64::from_le_bytes(length)).map_err(|e| e.to_string())?;
        self.take(length)
    }

    fn line(&mut self) -> Step<String> {
        let rest = &self.bytes[self.at..];
        let length = rest
            .iter()
            .position(|&b| b == b'\n')
            .ok_or("cut off in a line")?;
        let line = self.take(length + 1)?;
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        String::from_utf8(line.to_vec()).map_err(|_| "a line is not text".to_owned())
    }

    /// The index of a memo that is written out as a line.
    fn memo_index(&mut self) -> Step<u32> {
        let line = self.line()?;
        line.parse()
            .map_err(|_| format!("\"{line}\" is no memo index"))
    }

    fn text<const N: usize>(&mut self) -> Step {
        let text = String::from_utf8(self.counted::<N>()?.to_vec());
        self.push(Object::Text(text.map_err(|_| "a string is not UTF-8")?))
    }

    fn skip_bytes<const N: usize>(&mut self) -> Step {
        self.counted::<N>()?;
        self.push(Object::Bytes)
    }

    fn long(&mut self) -> Step {
        let bytes = self.counted::<1>()?;
        // Longer numbers (the seed of a generator) are no sizes.
        let made = if bytes.len() <= 8 {
            let negative = bytes.last().is_some_and(|b| b & 0x80 != 0);
            let mut value = [if negative { 0xff } else { 0 }; 8];
            value[..bytes.len()].copy_from_slice(bytes);
            Object::Int(i64::from_le_bytes(value))
        } else {
            Object::Opaque
        };
        self.push(made)
    }

    fn push_id(&mut self, id: Id) -> Step {
        if self.stack.len() >= MAX_STACK {
            return Err("the stack overflows".to_owned());
        }
        self.stack.push(id);
        Ok(())
    }

    fn push(&mut self, object: Object) -> Step {
        let id = self.objects.0.len();
        if id >= MAX_OBJECTS {
            return Err(format!("more than {MAX_OBJECTS} objects"));
        }
        self.objects.0.push(object);
        self.push_id(id as Id)
    }

    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn pop(&mut self) -> Step<Id> {
        if self.stack.len() <= self.floor() {
            return Err("the stack is empty".to_owned());
        }
        self.stack
            .pop()
            .ok_or_else(|| "the stack is empty".to_owned())
    }

    fn top(&self) -> Step<Id> {
        self.stack
            .last()
            .copied()
            .ok_or_else(|| "the stack is empty".to_owned())
    }

    fn since_mark(&mut self) -> Step<Vec<Id>> {
        let mark = self.marks.pop().ok_or("no mark on the stack")?;
        Ok(self.stack.split_off(mark.min(self.stack.len())))
    }

    fn tuple(&mut self, length: usize) -> Step {
        let mut items = (0..length).map(|_| self.pop()).collect::<Step<Vec<_>>>()?;
        items.reverse();
        self.push(Object::Tuple(items))
    }

    fn append(&mut self, items: &[Id]) -> Step {
        let top = self.top()?;
        match self.objects.0.get_mut(top as usize) {
            Some(Object::List(list)) => list.extend_from_slice(items),
            Some(Object::Opaque) => {}
            _ => return Err("items for something that is no list".to_owned()),
        }
        Ok(())
    }

    fn insert(&mut self, items: &[Id]) -> Step {
        let new = pairs(items)?;
        let top = self.top()?;
        match self.objects.0.get_mut(top as usize) {
            Some(Object::Dict(entries)) => entries.extend(new),
            Some(Object::Opaque) => {}
            _ => return Err("entries for something that is no dictionary".to_owned()),
        }
        Ok(())
    }

    fn memoize(&mut self, index: u32) -> Step {
        let top = self.top()?;
        self.memo.insert(index, top);
        Ok(())
    }

    fn recall(&mut self, index: u32) -> Step {
        let id = self.memo.get(&index).copied();
        self.push_id(id.ok_or_else(|| format!("no memo {index}"))?)
    }

    fn global(&mut self, module: String, name: String) -> Step {
        if module.len().max(name.len()) > MAX_NAME {
            return Err("a class with an absurdly long name".to_owned());
        }
        if !is_allowed(&module, &name) {
            return Err(format!(
                "the file asks for {module}.{name}, which no state dict needs; it is refused, and other programs that \
                 open the file may run it"
            ));
        }
        self.push(Object::Global(module, name))
    }

    fn storage(&self, id: Id) -> Option<StorageRef> {
        let Object::Tuple(items) = self.objects.get(id) else {
            return None;
        };
        let [kind, class, key, _location, elements, ..] = items.as_slice() else {
            return None;
        };
        let Object::Global(_, class) = self.objects.get(*class) else {
            return None;
        };
        let key = self
            .objects
            .text(*key)
            .filter(|key| key.len() <= MAX_NAME)?;
        (self.objects.text(*kind)? == "storage").then_some(())?;
        Some(StorageRef {
            class: class.clone(),
            key: key.to_owned(),
            elements: self.objects.size(*elements)?,
        })
    }

    fn call(&mut self, callable: Id, arguments: Id) -> Step<Object> {
        let (Object::Global(module, name), Object::Tuple(arguments)) =
            (self.objects.get(callable), self.objects.get(arguments))
        else {
            return match self.objects.get(callable) {
                Object::Opaque => Ok(Object::Opaque),
                _ => Err("a call of something that is no class".to_owned()),
            };
        };
        match (module.as_str(), name.as_str(), arguments.as_slice()) {
            ("collections", "OrderedDict", [] | [_]) | ("builtins" | "__builtin__", "dict", []) => {
                let entries = match arguments.first().map(|&first| self.objects.get(first)) {
                    None => Vec::new(),
                    Some(Object::Dict(entries)) => entries.clone(),
                    Some(Object::List(items)) => items
                        .iter()
                        .map(|&item| match self.objects.get(item) {
                            Object::Tuple(pair) | Object::List(pair) => pairs(pair)
                                .ok()
                                .and_then(|p| p.first().copied())
                                .ok_or_else(|| "an entry that is no pair".to_owned()),
                            _ => Err("an entry that is no pair".to_owned()),
                        })
                        .collect::<Step<_>>()?,
                    Some(_) => return Err("a dictionary of something else".to_owned()),
                };
                self.copied += entries.len();
                if self.copied > MAX_COPIED {
                    return Err("dictionaries are copied without end".to_owned());
                }
                Ok(Object::Dict(entries))
            }
            ("collections", "defaultdict", _) => Ok(Object::Dict(Vec::new())),
            (
                "torch._utils",
                "_rebuild_tensor_v2" | "_rebuild_tensor_v3" | "_rebuild_tensor",
                [storage, offset, shape, strides, ..],
            ) => {
                let Object::Storage(storage) = self.objects.get(*storage) else {
                    return Err("a tensor without a storage".to_owned());
                };
                let part = |what: &str| format!("a tensor whose {what} is no size");
                Ok(Object::Tensor(Box::new(TensorRef {
                    storage: (**storage).clone(),
                    offset: self.objects.size(*offset).ok_or_else(|| part("offset"))?,
                    shape: self.objects.sizes(*shape).ok_or_else(|| part("shape"))?,
                    strides: self
                        .objects
                        .sizes(*strides)
                        .ok_or_else(|| part("strides"))?,
                })))
            }
            (
                "torch._utils",
                "_rebuild_parameter" | "_rebuild_parameter_with_state",
                [data, ..],
            ) => match self.objects.get(*data) {
                Object::Tensor(tensor) => Ok(Object::Tensor(tensor.clone())),
                _ => Err("a parameter without a tensor".to_owned()),
            },
            ("torch", "Size", [sizes]) => match self.objects.get(*sizes) {
                Object::Tuple(sizes) | Object::List(sizes) if sizes.len() <= 64 => {
                    Ok(Object::Tuple(sizes.clone()))
                }
                _ => Err("a size that is no list".to_owned()),
            },
            _ => Ok(Object::Opaque),
        }
    }
}

fn pairs(items: &[Id]) -> Step<Vec<(Id, Id)>> {
    let (pairs, rest) = items.as_chunks::<2>();
    if !rest.is_empty() {
        return Err("a key without a value".to_owned());
    }
    Ok(pairs.iter().map(|&[key, value]| (key, value)).collect())
}
