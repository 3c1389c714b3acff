//! Puts the nodes of one document together: a stack of open collections, the
//! anchors seen so far, and what is left of the budgets.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use super::tree::{Entry, Node, NodeKind, Scalar};
use super::{MAX_ALIASED, MAX_DEPTH, MAX_NODES};
use crate::diag::{Diagnostic, FileId, Span, codes};

/// Mappings with more keys than this find duplicates through a hash table.
const SMALL_MAPPING: usize = 16;

/// A collection whose end has not been seen.
struct Frame<'a> {
    start: u32,
    anchor: usize,
    /// Nodes of the document that were complete when it opened.
    nodes_before: usize,
    open: Open<'a>,
}

enum Open<'a> {
    Sequence(Vec<Node<'a>>),
    Mapping { entries: Vec<Entry<'a>>, merges: Vec<Node<'a>>, key: Option<Key<'a>> },
}

enum Key<'a> {
    Name { text: Cow<'a, str>, start: u32, end: u32 },
    Merge,
}

/// An anchored node, and how many nodes it is.
struct Anchor<'a> {
    node: Node<'a>,
    nodes: usize,
}

/// What a complete node means to the stream.
pub(super) enum Placed<'a> {
    /// It became part of an open collection.
    Inside,
    /// It is an item of the list that the document is.
    Item(Node<'a>),
    /// It is the document.
    Root(Node<'a>),
}

/// Builder of one document's tree.
pub(super) struct Builder<'a> {
    file: FileId,
    stack: Vec<Frame<'a>>,
    anchors: HashMap<usize, Anchor<'a>>,
    nodes: usize,
    aliased: usize,
    /// Findings that do not spoil the tree: duplicate keys.
    pub findings: Vec<Diagnostic>,
}

impl<'a> Builder<'a> {
    pub fn new(file: FileId) -> Self {
        Self { file, stack: Vec::new(), anchors: HashMap::new(), nodes: 0, aliased: 0, findings: Vec::new() }
    }

    fn span(&self, start: u32, end: u32) -> Span {
        Span { file: self.file, start, end: end.max(start) }
    }

    /// Opens a sequence.
    pub fn open_sequence(&mut self, start: u32, anchor: usize) -> Result<(), Box<Diagnostic>> {
        self.open(start, anchor, Open::Sequence(Vec::new()))
    }

    /// Opens a mapping.
    pub fn open_mapping(&mut self, start: u32, anchor: usize) -> Result<(), Box<Diagnostic>> {
        self.open(start, anchor, Open::Mapping { entries: Vec::new(), merges: Vec::new(), key: None })
    }

    fn open(&mut self, start: u32, anchor: usize, open: Open<'a>) -> Result<(), Box<Diagnostic>> {
        let at = self.span(start, start + 1);
        if self.stack.len() >= MAX_DEPTH {
            return Err(too_deep(at));
        }
        if self.expects_key() {
            return Err(Box::new(Diagnostic::error(
                codes::UNSUPPORTED_YAML,
                at,
                "a key must be a string, not a collection",
            )));
        }
        self.stack.push(Frame { start, anchor, nodes_before: self.nodes, open });
        Ok(())
    }

    /// Adds a scalar.
    pub fn scalar(
        &mut self,
        span: (u32, u32),
        anchor: usize,
        scalar: Scalar<'a>,
    ) -> Result<Placed<'a>, Box<Diagnostic>> {
        let node = Node { start: span.0, end: span.1, kind: NodeKind::Scalar(scalar) };
        let before = self.nodes;
        self.finish(node, anchor, before)
    }

    /// Closes the innermost collection; `end` is its last byte plus one if it
    /// has a closing bracket.
    pub fn close(&mut self, end: Option<u32>) -> Result<Placed<'a>, Box<Diagnostic>> {
        let Some(frame) = self.stack.pop() else { return Ok(Placed::Inside) };
        let Frame { start, anchor, nodes_before, open } = frame;
        let kind = match open {
            Open::Sequence(items) => NodeKind::Sequence(items),
            Open::Mapping { mut entries, merges, .. } => {
                self.report_duplicates(&entries);
                merge(&mut entries, merges);
                NodeKind::Mapping(entries)
            }
        };
        let last = match &kind {
            NodeKind::Sequence(items) => items.last().map(|n| n.end),
            NodeKind::Mapping(entries) => entries.last().map(|e| e.value.end.max(e.end)),
            NodeKind::Scalar(_) => None,
        };
        let end = end.or(last).unwrap_or(start).max(start);
        self.finish(Node { start, end, kind }, anchor, nodes_before)
    }

    /// Adds a copy of an anchored node.
    pub fn alias(&mut self, span: (u32, u32), anchor: usize) -> Result<Placed<'a>, Box<Diagnostic>> {
        let at = self.span(span.0, span.1);
        let Some(found) = self.anchors.get(&anchor) else {
            return Err(Box::new(Diagnostic::error(
                codes::UNSUPPORTED_YAML,
                at,
                "an alias stands inside what it refers to",
            )));
        };
        let (nodes, depth) = (found.nodes, depth(&found.node));
        self.aliased += nodes;
        if self.aliased > MAX_ALIASED {
            let message = format!("aliases expand to more than {MAX_ALIASED} nodes");
            return Err(Box::new(
                Diagnostic::error(codes::TOO_BIG, at, message).label("too much is copied here"),
            ));
        }
        if self.stack.len() + depth > MAX_DEPTH {
            return Err(too_deep(at));
        }
        let node = found.node.clone();
        self.nodes += nodes - 1;
        self.place(node)
    }

    fn finish(
        &mut self,
        node: Node<'a>,
        anchor: usize,
        nodes_before: usize,
    ) -> Result<Placed<'a>, Box<Diagnostic>> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            let at = self.span(node.start, node.end);
            let message = format!("one object has more than {MAX_NODES} nodes");
            return Err(Box::new(Diagnostic::error(codes::TOO_BIG, at, message)));
        }
        if anchor != 0 {
            let nodes = self.nodes - nodes_before;
            self.aliased += nodes;
            if self.aliased > MAX_ALIASED {
                let at = self.span(node.start, node.end);
                let message = format!("anchors hold more than {MAX_ALIASED} nodes");
                return Err(Box::new(Diagnostic::error(codes::TOO_BIG, at, message)));
            }
            self.anchors.insert(anchor, Anchor { node: node.clone(), nodes });
        }
        self.place(node)
    }

    fn place(&mut self, node: Node<'a>) -> Result<Placed<'a>, Box<Diagnostic>> {
        let item = self.is_list_item();
        let file = self.file;
        match self.stack.last_mut().map(|f| &mut f.open) {
            None => Ok(Placed::Root(node)),
            Some(Open::Sequence(_)) if item => {
                self.nodes = self.stack.last().map_or(0, |f| f.nodes_before);
                Ok(Placed::Item(node))
            }
            Some(Open::Sequence(items)) => {
                items.push(node);
                Ok(Placed::Inside)
            }
            Some(Open::Mapping { entries, merges, key }) => {
                match key.take() {
                    None => *key = Some(read_key(node, file)?),
                    Some(Key::Merge) => merges.push(check_merge(node, file)?),
                    Some(Key::Name { text, start, end }) => {
                        entries.push(Entry { key: text, start, end, value: node });
                    }
                }
                Ok(Placed::Inside)
            }
        }
    }

    /// Whether the next node is a mapping's key.
    fn expects_key(&self) -> bool {
        matches!(self.stack.last().map(|f| &f.open), Some(Open::Mapping { key: None, .. }))
    }

    /// Whether the innermost collection is the sequence `items` of the document.
    /// An anchored one is kept whole.
    fn is_list_item(&self) -> bool {
        let [root, items] = self.stack.as_slice() else { return false };
        let Open::Mapping { key: Some(Key::Name { text, .. }), .. } = &root.open else { return false };
        text == "items" && root.anchor == 0 && items.anchor == 0
    }

    fn report_duplicates(&mut self, entries: &[Entry<'a>]) {
        let report = |builder: &mut Self, first: &Entry<'a>, again: &Entry<'a>| {
            let at = builder.span(again.start, again.end);
            let first = builder.span(first.start, first.end);
            builder.findings.push(
                Diagnostic::error(codes::DUPLICATE_KEY, at, format!("the key `{}` stands twice", again.key))
                    .related(first, "first here"),
            );
        };
        if entries.len() <= SMALL_MAPPING {
            for (i, again) in entries.iter().enumerate() {
                if let Some(first) = entries[..i].iter().find(|e| e.key == again.key) {
                    report(self, first, again);
                }
            }
            return;
        }
        let mut seen: HashMap<&str, &Entry<'a>> = HashMap::with_capacity(entries.len());
        for entry in entries {
            match seen.get(entry.key.as_ref()) {
                Some(first) => report(self, first, entry),
                None => {
                    seen.insert(&entry.key, entry);
                }
            }
        }
    }
}

/// The finding for a collection at `at` that is nested too deeply.
pub(super) fn too_deep(at: Span) -> Box<Diagnostic> {
    Box::new(Diagnostic::error(
        codes::TOO_DEEP,
        at,
        format!("collections are nested more than {MAX_DEPTH} deep"),
    ))
}

fn depth(node: &Node<'_>) -> usize {
    match &node.kind {
        NodeKind::Scalar(_) => 0,
        NodeKind::Sequence(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        NodeKind::Mapping(entries) => 1 + entries.iter().map(|e| depth(&e.value)).max().unwrap_or(0),
    }
}

fn read_key<'a>(node: Node<'a>, file: FileId) -> Result<Key<'a>, Box<Diagnostic>> {
    let at = Span { file, start: node.start, end: node.end };
    let NodeKind::Scalar(scalar) = node.kind else {
        return Err(Box::new(Diagnostic::error(
            codes::UNSUPPORTED_YAML,
            at,
            "a key must be a string, not a collection",
        )));
    };
    if scalar.is_null() {
        return Err(Diagnostic::error(codes::UNSUPPORTED_YAML, at, "a key is missing")
            .help("write a key before `:`")
            .into());
    }
    if !scalar.quoted && scalar.text == "<<" {
        return Ok(Key::Merge);
    }
    Ok(Key::Name { text: scalar.text, start: node.start, end: node.end })
}

fn check_merge(node: Node<'_>, file: FileId) -> Result<Node<'_>, Box<Diagnostic>> {
    let mergeable = match &node.kind {
        NodeKind::Mapping(_) => true,
        NodeKind::Sequence(items) => items.iter().all(|n| matches!(n.kind, NodeKind::Mapping(_))),
        NodeKind::Scalar(_) => false,
    };
    if mergeable {
        return Ok(node);
    }
    let at = Span { file, start: node.start, end: node.end };
    Err(Box::new(Diagnostic::error(codes::UNSUPPORTED_YAML, at, "`<<` merges mappings only")))
}

/// Adds the keys of merged mappings that are not there yet: a mapping's own keys
/// win, then earlier merged ones.
fn merge<'a>(entries: &mut Vec<Entry<'a>>, merges: Vec<Node<'a>>) {
    if merges.is_empty() {
        return;
    }
    let mut present: HashSet<Cow<'a, str>> = entries.iter().map(|e| e.key.clone()).collect();
    let sources = merges.into_iter().flat_map(|node| match node.kind {
        NodeKind::Sequence(items) => items,
        _ => vec![node],
    });
    for source in sources {
        let NodeKind::Mapping(source) = source.kind else { continue };
        entries.extend(source.into_iter().filter(|e| present.insert(e.key.clone())));
    }
}
