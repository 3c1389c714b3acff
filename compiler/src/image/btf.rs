//! BTF and `.BTF.ext`: types of maps and functions, and the source line of each
//! instruction.
//!
//! ```text
//! .BTF      header 24 │ types: name, kind<<24 | members, size or type, … │ strings, each with a 0
//! .BTF.ext  header 32 │ functions: 8, section, n, (byte offset, type)…
//!                     │ lines: 16, section, n, (byte offset, file, text, line<<10 | column)…
//! ```
//!
//! An empty line table has length 0: libbpf refuses one that only has a head.
//! Spec: Linux `Documentation/bpf/btf.rst`.

use std::collections::BTreeMap;

use super::MapSpec;

const MAGIC: u16 = 0xeb9f;
const KIND_INT: u32 = 1;
const KIND_PTR: u32 = 2;
const KIND_ARRAY: u32 = 3;
const KIND_STRUCT: u32 = 4;
const KIND_FWD: u32 = 7;
const KIND_FUNC: u32 = 12;
const KIND_FUNC_PROTO: u32 = 13;
const KIND_VAR: u32 = 14;
const KIND_DATASEC: u32 = 15;
const GLOBAL: u32 = 1;
const INT_SIGNED: u32 = 1 << 24;

/// Index of a type; 0 is `void`.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct Type(u32);

impl Type {
    /// The number that records refer to it by.
    pub fn index(self) -> u32 {
        self.0
    }
}

/// A source line: where its instructions start, in bytes of the section.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct LineInfo {
    pub offset: u32,
    pub file: u32,
    pub text: u32,
    pub line: u32,
    pub column: u32,
}

/// Types and strings, collected.
pub(super) struct Btf {
    strings: Vec<u8>,
    known: BTreeMap<String, u32>,
    types: Vec<u32>,
    count: u32,
    int: Type,
    index: Type,
    /// Pointers to `int[n]`, by n: how map definitions write a number.
    byte: Option<Type>,
    numbers: BTreeMap<u32, Type>,
}

impl Btf {
    pub fn new() -> Self {
        let mut btf = Self {
            strings: vec![0],
            known: BTreeMap::from([(String::new(), 0)]),
            types: Vec::new(),
            count: 0,
            int: Type(0),
            index: Type(0),
            byte: None,
            numbers: BTreeMap::new(),
        };
        btf.int = btf.add("int", KIND_INT, 0, 4, &[INT_SIGNED | 32]);
        btf.index = btf.add("__ARRAY_SIZE_TYPE__", KIND_INT, 0, 4, &[32]);
        btf
    }

    /// Offset of a string, which is stored once.
    pub fn string(&mut self, text: &str) -> u32 {
        if let Some(offset) = self.known.get(text) {
            return *offset;
        }
        let offset = self.strings.len() as u32;
        // A zero byte would end the string early.
        self.strings.extend(text.bytes().map(|b| if b == 0 { b' ' } else { b }));
        self.strings.push(0);
        self.known.insert(text.into(), offset);
        offset
    }

    fn add(&mut self, name: &str, kind: u32, members: u32, size_or_type: u32, rest: &[u32]) -> Type {
        let name = self.string(name);
        self.types.extend([name, kind << 24 | members, size_or_type]);
        self.types.extend(rest);
        self.count += 1;
        Type(self.count)
    }

    fn number(&mut self, n: u32) -> Type {
        if let Some(known) = self.numbers.get(&n) {
            return *known;
        }
        let array = self.add("", KIND_ARRAY, 0, 0, &[self.int.0, self.index.0, n]);
        let pointer = self.add("", KIND_PTR, 0, array.0, &[]);
        self.numbers.insert(n, pointer);
        pointer
    }

    /// A variable whose type describes the map; also its size in the section.
    pub fn map(&mut self, map: &MapSpec) -> (Type, u32) {
        let mut fields = vec![
            ("type", map.kind as u32),
            ("key_size", map.key_size),
            ("value_size", map.value_size),
            ("max_entries", map.max_entries),
        ];
        if map.flags != 0 {
            fields.push(("map_flags", map.flags));
        }
        let mut members = Vec::new();
        for (i, (name, value)) in fields.iter().enumerate() {
            let (name, number) = (self.string(name), self.number(*value));
            members.extend([name, number.0, i as u32 * 64]);
        }
        let size = fields.len() as u32 * 8;
        let definition = self.add("", KIND_STRUCT, fields.len() as u32, size, &members);
        (self.add(&map.name, KIND_VAR, 0, definition.0, &[GLOBAL]), size)
    }

    /// A variable of this many bytes.
    pub fn bytes(&mut self, name: &str, size: u32) -> Type {
        let byte = match self.byte {
            Some(known) => known,
            None => {
                let byte = self.add("char", KIND_INT, 0, 1, &[8]);
                *self.byte.insert(byte)
            }
        };
        let array = self.add("", KIND_ARRAY, 0, 0, &[byte.0, self.index.0, size]);
        self.add(name, KIND_VAR, 0, array.0, &[GLOBAL])
    }

    /// A data section: variables with offset and size.
    pub fn data_section(&mut self, name: &str, size: u32, variables: &[(Type, u32, u32)]) {
        let rest: Vec<u32> = variables.iter().flat_map(|(t, offset, size)| [t.0, *offset, *size]).collect();
        self.add(name, KIND_DATASEC, variables.len() as u32, size, &rest);
    }

    /// `int (struct __sk_buff *)`.
    pub fn classifier(&mut self) -> Type {
        let context = self.add("__sk_buff", KIND_FWD, 0, 0, &[]);
        let pointer = self.add("", KIND_PTR, 0, context.0, &[]);
        let parameter = self.string("skb");
        self.add("", KIND_FUNC_PROTO, 1, self.int.0, &[parameter, pointer.0])
    }

    /// A global function.
    pub fn function(&mut self, name: &str, prototype: Type) -> Type {
        self.add(name, KIND_FUNC, GLOBAL, prototype.0, &[])
    }

    /// Contents of `.BTF`.
    pub fn finish(self) -> Vec<u8> {
        let types = self.types.len() as u32 * 4;
        let mut out = head();
        words(&mut out, &[24, 0, types, types, self.strings.len() as u32]);
        words(&mut out, &self.types);
        out.extend(self.strings);
        out
    }
}

/// Contents of `.BTF.ext` for one section; offsets ascend strictly.
pub(super) fn ext(section: u32, functions: &[(u32, Type)], lines: &[LineInfo]) -> Vec<u8> {
    let mut function_words = vec![8, section, functions.len() as u32];
    function_words.extend(functions.iter().flat_map(|(offset, ty)| [*offset, ty.0]));
    let mut line_words = Vec::new();
    if !lines.is_empty() {
        line_words.extend([16, section, lines.len() as u32]);
        line_words.extend(lines.iter().flat_map(|l| {
            let place = l.line.min((1 << 22) - 1) << 10 | l.column.min((1 << 10) - 1);
            [l.offset, l.file, l.text, place]
        }));
    }
    let (functions, lines) = (function_words.len() as u32 * 4, line_words.len() as u32 * 4);
    let mut out = head();
    // The last two words: no relocations against the kernel's types.
    words(&mut out, &[32, 0, functions, functions, lines, functions + lines, 0]);
    words(&mut out, &function_words);
    words(&mut out, &line_words);
    out
}

fn head() -> Vec<u8> {
    let mut out = MAGIC.to_le_bytes().to_vec();
    out.extend([1, 0]); // version, flags
    out
}

fn words(out: &mut Vec<u8>, words: &[u32]) {
    out.extend(words.iter().flat_map(|w| w.to_le_bytes()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_stored_once_and_never_cut() {
        let mut btf = Btf::new();
        assert_eq!(btf.string(""), 0);
        let at = btf.string("a\0b");
        assert_eq!(btf.string("a\0b"), at);
        let bytes = btf.finish();
        assert!(bytes.windows(4).any(|w| w == b"a b\0"));
    }

    #[test]
    fn an_empty_line_table_has_no_head() {
        let ext = ext(1, &[(0, Type(3))], &[]);
        assert_eq!(ext.len(), 32 + 20);
        assert_eq!(&ext[20..24], &0u32.to_le_bytes());
    }
}
