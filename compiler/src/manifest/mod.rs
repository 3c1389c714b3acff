//! Kubernetes, Calico and policy API objects as read from YAML.
//!
//! ```text
//! text ─yaml─▶ documents, list items ─kinds─▶ readers by kind ─▶ Objects
//!                          every step ──────▶ diagnostics
//! ```
//!
//! [`read`] collects every finding of a run: a document that is not YAML does
//! not hide the next one, and a bad field does not hide its neighbours. Policies,
//! sets, tiers and Calico's own endpoints are read strictly (an unknown field is an error, since a
//! misspelt one would change what the policy means), pods, namespaces and service
//! accounts leniently. Kinds that affect policy and are not supported are errors.
//!
//! Cost: linear in the text, within fixed limits of nesting, size and alias
//! expansion; memory follows the largest object.

mod calico;
mod cluster_policy;
mod endpoints;
mod fields;
mod inventory;
mod kinds;
mod kubernetes;
mod label_selector;
mod meta;
mod net;
mod objects;
mod read;
mod reader;
mod stored;
mod suggest;
#[cfg(test)]
mod tests;
mod yaml;

pub use cluster_policy::{
    ClusterPeer, ClusterPolicy, ClusterPolicyKind, ClusterPort, ClusterRule, ClusterTier, PodSelection,
};
pub use endpoints::*;
pub use objects::*;
pub use read::read;
pub(crate) use suggest::nearest;
