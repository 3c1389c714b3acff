//! The policy API group: `policy.networking.k8s.io`, v1alpha1 and v1alpha2.
//!
//! Both versions say the same in different words, so they are read to one form.
//! The checks follow kubernetes-sigs/network-policy-api `apis/v1alpha1` and
//! `apis/v1alpha2` (the validation rules at the types).

mod objects;
mod peer;
mod policy;
mod ports;
mod rule;
#[cfg(test)]
mod tests;

pub use objects::*;
pub(super) use policy::read_cluster_policy;

use super::fields::Fields;
use super::reader::{Reader, one_of};
use super::yaml::{Entry, Node, NodeKind};
use crate::diag::{Diagnostic, codes};

/// The words of a kind's API version.
#[derive(Copy, Clone)]
struct Dialect {
    kind: ClusterPolicyKind,
    /// Most rules in a list, peers or ports in a rule.
    most: usize,
}

impl Dialect {
    fn new(kind: ClusterPolicyKind) -> Self {
        let most = if kind == ClusterPolicyKind::Cluster { 25 } else { 100 };
        Self { kind, most }
    }

    /// Whether it is v1alpha2.
    fn is_new(self) -> bool {
        self.kind == ClusterPolicyKind::Cluster
    }
}

/// A list of at most `most` items, each read; those that do not read are left out.
fn bounded_list<'a, T>(
    reader: &mut Reader,
    node: &Node<'a>,
    what: &str,
    most: usize,
    read: impl FnMut(&mut Reader, &Node<'a>) -> Option<T>,
) -> Vec<T> {
    if let NodeKind::Sequence(items) = &node.kind
        && items.len() > most
    {
        let message = format!("{what} has {} items, and the API takes at most {most}", items.len());
        reader.error_with_help(
            codes::TOO_MANY_ITEMS,
            node,
            message,
            "spread them over several rules or policies",
        );
    }
    reader.list(node, what, read)
}

/// The entries among `names` that are set, if not more than one is.
fn at_most_one<'n, 'a>(
    reader: &mut Reader,
    fields: &mut Fields<'n, 'a>,
    what: &str,
    names: &[&'static str],
) -> Result<Option<&'n Entry<'a>>, Reported> {
    let set: Vec<&Entry<'a>> = names.iter().filter_map(|name| fields.entry(name)).collect();
    if let [first, second, ..] = set.as_slice() {
        let message =
            format!("{what} takes one of {}, not `{}` and `{}`", one_of(names), first.key, second.key);
        let error = Diagnostic::error(codes::BAD_COMBINATION, reader.key_span(second), message);
        let first = reader.key_span(first);
        reader.report(error.related(first, "the other one").help("write one entry for each"));
        return Err(Reported);
    }
    Ok(set.first().copied())
}

/// A finding has been made.
struct Reported;
