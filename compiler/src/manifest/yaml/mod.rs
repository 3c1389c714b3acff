//! YAML text to a tree in which every node knows its bytes.
//!
//! The tree is built straight on the event parser `granit-parser`, the one below
//! serde-saphyr. A serde layer stops at the first error and hides quoting style,
//! while polc reports every error of a run at once, tells `80` from `"80"`, and
//! maps an offset inside a selector back to the file: that takes events with
//! byte spans and scalar style, and a parser that goes on with the next document
//! after an error.
//!
//! The work is linear in the text: nesting is bounded by [`MAX_DEPTH`], nodes of
//! one piece by [`MAX_NODES`], what aliases copy by [`MAX_ALIASED`]. Trees are
//! handed out document by document, those of a list item by item, so memory
//! follows the largest object and not the file.

mod builder;
mod scalar;
mod stream;
mod tree;

pub(super) use scalar::Resolved;
pub(super) use stream::{Piece, Stream};
pub(super) use tree::{Entry, Node, NodeKind, Scalar};

/// Deepest nesting of collections. Kubernetes objects stay below 30.
pub(super) const MAX_DEPTH: usize = 100;

/// Most nodes in one object. The API server refuses objects above 1.5 MB, which
/// have far fewer.
pub(super) const MAX_NODES: usize = 2_000_000;

/// Most nodes that the aliases and merge keys of one document may copy.
pub(super) const MAX_ALIASED: usize = 100_000;

/// Largest file in bytes.
pub(super) const MAX_BYTES: usize = 1 << 30;
