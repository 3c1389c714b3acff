//! The tree's nodes.

use std::borrow::Cow;

/// A node with its bytes in the file.
#[derive(Clone, Debug)]
pub(in crate::manifest) struct Node<'a> {
    /// First byte. An alias' copy keeps the place of what it copies.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
    /// What it is.
    pub kind: NodeKind<'a>,
}

/// What a node is.
#[derive(Clone, Debug)]
pub(in crate::manifest) enum NodeKind<'a> {
    /// A scalar.
    Scalar(Scalar<'a>),
    /// A sequence.
    Sequence(Vec<Node<'a>>),
    /// A mapping: string keys, each once, in the order of the text.
    Mapping(Vec<Entry<'a>>),
}

/// One key of a mapping with its value.
#[derive(Clone, Debug)]
pub(in crate::manifest) struct Entry<'a> {
    /// The key.
    pub key: Cow<'a, str>,
    /// First byte of the key.
    pub start: u32,
    /// One past the key's last byte.
    pub end: u32,
    /// The value.
    pub value: Node<'a>,
}

/// A scalar as written.
#[derive(Clone, Debug)]
pub(in crate::manifest) struct Scalar<'a> {
    /// The text after unescaping and folding.
    pub text: Cow<'a, str>,
    /// Whether it is a string whatever it looks like: quoted, a block, or tagged so.
    pub quoted: bool,
    /// Where the text starts in the file, if it stands there byte by byte.
    pub verbatim: Option<u32>,
}

impl<'a> Node<'a> {
    /// The value of a key, if this is a mapping that has it.
    pub fn get(&self, key: &str) -> Option<&Node<'a>> {
        match &self.kind {
            NodeKind::Mapping(entries) => entries.iter().find(|e| e.key == key).map(|e| &e.value),
            _ => None,
        }
    }

    /// The text of a key's value, if it is a non-null scalar.
    pub fn get_text(&self, key: &str) -> Option<&str> {
        match &self.get(key)?.kind {
            NodeKind::Scalar(scalar) if !scalar.is_null() => Some(&scalar.text),
            _ => None,
        }
    }

    /// Whether this is a null, written or empty.
    pub fn is_null(&self) -> bool {
        matches!(&self.kind, NodeKind::Scalar(scalar) if scalar.is_null())
    }
}
