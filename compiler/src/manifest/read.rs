//! Reads all sources: document by document, list item by list item.

use std::collections::{BTreeMap, HashMap};

use super::kinds::{Head, Known, Object, Treatment, classify, kinds_of, readable_kinds, versions_of};
use super::objects::{Meta, Objects};
use super::reader::{Reader, clip, did_you_mean};
use super::yaml::{Node, NodeKind, Piece, Stream};
use crate::diag::{self, Diagnostic, FileId, Severity, SourceFile, Sources, Span, codes};

/// Findings after which reading stops; notes do not count.
const MAX_FINDINGS: usize = 10_000;

/// Reads every object in `sources`.
///
/// Findings come sorted by file and place. If any is an error, the objects are
/// incomplete and must not be compiled; everything else that was read is there,
/// so that later stages can report their findings as well.
pub fn read(sources: &Sources) -> (Objects, Vec<Diagnostic>) {
    let mut run = Run::default();
    for (file, source) in sources.iter() {
        run.read_file(file, source);
        if run.is_full() {
            run.report_full();
            break;
        }
    }
    run.finish()
}

/// What identifies an object, apart from its API version.
type Identity = (&'static str, Option<String>, String);

/// The state of one run over all files.
#[derive(Default)]
struct Run {
    objects: Objects,
    diagnostics: Vec<Diagnostic>,
    /// How many of `diagnostics` are warnings or errors.
    findings: usize,
    /// Objects read so far; looked up only, never iterated.
    seen: HashMap<Identity, Span>,
    /// Skipped kinds: where the first one stands, and how many there are.
    skipped: BTreeMap<(String, String), (Span, usize)>,
}

/// The kind that a typed list gives to items that do not name their own.
#[derive(Copy, Clone)]
struct ItemKind<'n> {
    api: &'n str,
    kind: &'n str,
}

impl Run {
    fn read_file(&mut self, file: FileId, source: &SourceFile) {
        if let Err(diagnostic) = Stream::check_size(file, &source.text) {
            self.report(*diagnostic);
            return;
        }
        let mut reader = Reader::new(file);
        let mut headless = Vec::new();
        for piece in Stream::new(file, &source.text) {
            match piece {
                Piece::Finding(diagnostic) => reader.report(*diagnostic),
                Piece::Item(node) if is_headless(&node) => headless.push(node),
                Piece::Item(node) => self.read_object(&mut reader, &node, None),
                Piece::Document(node) => {
                    self.read_document(&mut reader, &node, std::mem::take(&mut headless));
                }
            }
            for diagnostic in reader.diagnostics.drain(..) {
                self.report(diagnostic);
            }
            if self.is_full() {
                return;
            }
        }
    }

    fn report(&mut self, diagnostic: Diagnostic) {
        self.findings += usize::from(diagnostic.severity > Severity::Note);
        self.diagnostics.push(diagnostic);
    }

    fn is_full(&self) -> bool {
        self.findings >= MAX_FINDINGS
    }

    fn report_full(&mut self) {
        let span = self.diagnostics.last().and_then(|d| d.span);
        let message = format!("reading stopped after {MAX_FINDINGS} findings");
        self.diagnostics.extend(span.map(|span| Diagnostic::error(codes::TOO_MANY_ERRORS, span, message)));
    }

    /// Reads a document, and the items of its list that name no kind themselves.
    fn read_document(&mut self, reader: &mut Reader, node: &Node<'_>, headless: Vec<Node<'_>>) {
        if node.is_null() {
            return;
        }
        self.read_object(reader, node, None);
        if headless.is_empty() {
            return;
        }
        let (api, kind) = (node.get_text("apiVersion"), node.get_text("kind"));
        let items = api.zip(kind).and_then(|(api, kind)| item_kind(api, kind));
        for item in headless {
            self.read_object(reader, &item, items);
        }
    }

    fn read_object(&mut self, reader: &mut Reader, node: &Node<'_>, default: Option<ItemKind<'_>>) {
        let Some(head) = read_head(reader, node, default) else { return };
        match classify(head.api, head.kind) {
            Treatment::Read(known) => self.read_known(reader, node, &head, known),
            Treatment::List => self.read_list(reader, node, &head),
            Treatment::Skip => {
                let key = (head.api.to_owned(), head.kind.to_owned());
                self.skipped.entry(key).or_insert((head.span, 0)).1 += 1;
            }
            Treatment::Unsupported => {
                let message = format!("the kind `{}` of {} is not supported yet", head.kind, head.api);
                let error = Diagnostic::error(codes::UNSUPPORTED_KIND, head.span, message);
                reader
                    .report(error.help("it affects policy, so it is not ignored; leave it out of the input"));
            }
            Treatment::WrongVersion => report_version(reader, &head),
            Treatment::Unknown => report_unknown(reader, &head),
        }
    }

    fn read_list(&mut self, reader: &mut Reader, node: &Node<'_>, head: &Head<'_>) {
        let Some(items) = node.get("items").filter(|items| !items.is_null()) else { return };
        let default = item_kind(head.api, head.kind);
        for item in reader.items(items, "`items`").unwrap_or_default() {
            self.read_object(reader, item, default);
        }
    }

    fn read_known(&mut self, reader: &mut Reader, node: &Node<'_>, head: &Head<'_>, known: Known) {
        let Some(object) = Object::read(reader, node, head, known) else { return };
        match self.seen.entry(identity(object.meta(), known)) {
            std::collections::hash_map::Entry::Occupied(first) => {
                let message = format!("the {} {} is defined twice", head.kind, display_name(object.meta()));
                let error =
                    Diagnostic::error(codes::DUPLICATE_OBJECT, name_span(reader, node, head), message);
                reader.report(
                    error.related(*first.get(), "first defined here").help("remove or rename one of them"),
                );
            }
            std::collections::hash_map::Entry::Vacant(slot) => {
                slot.insert(name_span(reader, node, head));
                object.add_to(&mut self.objects);
            }
        }
    }

    fn finish(mut self) -> (Objects, Vec<Diagnostic>) {
        for ((api, kind), (span, count)) in std::mem::take(&mut self.skipped) {
            let (kind, api) = (clip(&kind), clip(&api));
            let note = match count {
                1 => Diagnostic::note(
                    codes::SKIPPED_KIND,
                    span,
                    format!("the {kind} ({api}) cannot affect policy and was skipped"),
                ),
                _ => {
                    let message =
                        format!("{count} {kind} objects ({api}) cannot affect policy and were skipped");
                    Diagnostic::note(codes::SKIPPED_KIND, span, message).label("the first")
                }
            };
            self.diagnostics.push(note);
        }
        diag::sort(&mut self.diagnostics);
        (self.objects, self.diagnostics)
    }
}

fn is_headless(node: &Node<'_>) -> bool {
    node.get_text("kind").is_none() || node.get_text("apiVersion").is_none()
}

/// What the items of a list are: `PodList` has pods, `List` leaves it to them.
fn item_kind<'n>(api: &'n str, kind: &'n str) -> Option<ItemKind<'n>> {
    let kind = kind.strip_suffix("List").filter(|kind| !kind.is_empty())?;
    Some(ItemKind { api, kind })
}

fn read_head<'n>(reader: &mut Reader, node: &'n Node<'_>, default: Option<ItemKind<'n>>) -> Option<Head<'n>> {
    if !matches!(node.kind, NodeKind::Mapping(_)) {
        let message = format!("a Kubernetes object is a mapping, not {}", super::reader::describe(node));
        reader.error(codes::NOT_AN_OBJECT, node, message);
        return None;
    }
    let mut text =
        |key: &str, default: Option<&'n str>| match (node.get(key).filter(|n| !n.is_null()), default) {
            (Some(value), _) => reader.string(value, &format!("`{key}`")),
            (None, Some(default)) => Some(default),
            (None, None) => {
                let help = format!("every Kubernetes object has `apiVersion` and `kind`; add `{key}: …`");
                reader.error_with_help(
                    codes::NOT_AN_OBJECT,
                    node,
                    format!("the object has no `{key}`"),
                    help,
                );
                None
            }
        };
    let (api, kind) = (text("apiVersion", default.map(|d| d.api)), text("kind", default.map(|d| d.kind)));
    let span = reader.span(node.get("kind").unwrap_or(node));
    Some(Head { api: api?, kind: kind?, span })
}

fn report_version(reader: &mut Reader, head: &Head<'_>) {
    let message = format!("there is no `{}` in `{}`", clip(head.kind), clip(head.api));
    let versions = versions_of(head.kind);
    let help = match versions.as_slice() {
        [] => "write `apiVersion: v1`".to_owned(),
        versions => format!("write `apiVersion: {}`", versions.join("` or `apiVersion: ")),
    };
    reader.report(Diagnostic::error(codes::UNKNOWN_KIND, head.span, message).help(help));
}

fn report_unknown(reader: &mut Reader, head: &Head<'_>) {
    let versions = versions_of(head.kind);
    if !versions.is_empty() {
        return report_version(reader, head);
    }
    let message = format!("the kind `{}` is unknown in `{}`", clip(head.kind), clip(head.api));
    let mut candidates = kinds_of(head.api);
    candidates.extend(readable_kinds());
    let help = did_you_mean(head.kind, &candidates).unwrap_or_else(|| {
        "a kind of this group may affect policy, so it is not skipped; leave it out".into()
    });
    reader.report(Diagnostic::error(codes::UNKNOWN_KIND, head.span, message).help(help));
}

fn identity(meta: &Meta, known: Known) -> Identity {
    use super::meta::Scope::{Cluster, Namespaced};
    let kind = match known {
        Known::Namespace => "Namespace",
        Known::ServiceAccount => "ServiceAccount",
        Known::Pod => "Pod",
        Known::KubernetesPolicy => "Kubernetes NetworkPolicy",
        Known::CalicoPolicy(Namespaced) => "Calico NetworkPolicy",
        Known::CalicoPolicy(Cluster) => "GlobalNetworkPolicy",
        Known::ClusterPolicy(kind) => kind.kind(),
        Known::NetworkSet(Namespaced) => "NetworkSet",
        Known::NetworkSet(Cluster) => "GlobalNetworkSet",
        Known::Tier => "Tier",
        Known::HostEndpoint => "HostEndpoint",
        Known::WorkloadEndpoint => "WorkloadEndpoint",
        Known::Profile => "Profile",
        Known::FelixConfiguration => "FelixConfiguration",
        Known::StagedPolicy(Namespaced) => "StagedNetworkPolicy",
        Known::StagedPolicy(Cluster) => "StagedGlobalNetworkPolicy",
        Known::StagedKubernetesPolicy => "StagedKubernetesNetworkPolicy",
    };
    (kind, meta.namespace.clone(), meta.name.clone())
}

fn name_span(reader: &Reader, node: &Node<'_>, head: &Head<'_>) -> Span {
    let name = node.get("metadata").and_then(|metadata| metadata.get("name"));
    name.map_or(head.span, |name| reader.span(name))
}

fn display_name(meta: &Meta) -> String {
    match &meta.namespace {
        Some(namespace) => format!("`{namespace}/{}`", clip(&meta.name)),
        None => format!("`{}`", clip(&meta.name)),
    }
}
