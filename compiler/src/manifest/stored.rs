//! What `crd.projectcalico.org/v1`, the group that Calico stores its objects in,
//! has otherwise than `projectcalico.org/v3`.
//!
//! Labels and, for policies, the name are kept as JSON in an annotation; a policy
//! of the default tier without that annotation has a name with `default.` in
//! front (projectcalico/calico `libcalico-go/lib/backend/k8s/resources/resources.go`).

use serde::Deserialize;

use super::objects::{Labels, Meta};
use super::reader::Reader;
use super::yaml::{Node, NodeKind};
use crate::diag::codes;

/// The group's `apiVersion`.
pub(super) const API: &str = "crd.projectcalico.org/v1";

const ANNOTATION: &str = "projectcalico.org/metadata";
const DEFAULT_TIER: &str = "default";

/// What the annotation holds, as far as policy cares.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Stored {
    name: String,
    labels: Option<Labels>,
}

/// Puts back into `meta` what the annotation of `metadata` keeps.
pub(super) fn restore(reader: &mut Reader, metadata: &Node<'_>, meta: &mut Meta) {
    let Some(node) = annotation(metadata).filter(|_| meta.api == API) else { return };
    let Some(text) = reader.string(node, "an annotation") else { return };
    match serde_json::from_str::<Stored>(text) {
        Ok(stored) => {
            meta.labels.extend(stored.labels.unwrap_or_default());
            // Only policies keep a name of their own.
            if !stored.name.is_empty() && meta.kind.ends_with("NetworkPolicy") {
                meta.name = stored.name;
            }
        }
        Err(error) => {
            let message = format!("`{ANNOTATION}` does not hold an object's metadata as JSON: {error}");
            reader.error(codes::WRONG_TYPE, node, message);
        }
    }
}

/// Takes the prefix off the name of a policy whose annotation does not tell it.
pub(super) fn trim_policy_name(object: &Node<'_>, meta: &mut Meta, tier: &str) {
    if meta.api != API || tier != DEFAULT_TIER {
        return;
    }
    let text = object.get("metadata").and_then(annotation).and_then(|node| match &node.kind {
        NodeKind::Scalar(scalar) => Some(&scalar.text),
        _ => None,
    });
    let stored = text.and_then(|text| serde_json::from_str::<Stored>(text).ok()).unwrap_or_default();
    if stored.name.is_empty()
        && let Some(name) = meta.name.strip_prefix("default.")
    {
        meta.name = name.to_owned();
    }
}

fn annotation<'n, 'a>(metadata: &'n Node<'a>) -> Option<&'n Node<'a>> {
    metadata.get("annotations")?.get(ANNOTATION)
}
