//! Which label keeps a selector from matching anything.
//!
//! Labels are gathered once, and only if a selector without match was found.

use std::collections::{BTreeMap, BTreeSet};

use crate::manifest::{Labels, Objects, nearest};
use crate::resolve::Cluster;
use crate::selector::labels::{METADATA_NAME, NAME, NAMESPACE, NAMESPACE_PREFIX, SERVICE_ACCOUNT_PREFIX};
use crate::selector::{Expr, Op, Selector};

/// Every label that selectors may see, with its values.
#[derive(Default)]
pub(super) struct KnownLabels(BTreeMap<String, BTreeSet<String>>);

impl KnownLabels {
    /// The labels of the input, inherited ones with their prefix.
    pub(super) fn new(objects: &Objects, cluster: &Cluster) -> Self {
        let mut known = Self::default();
        for endpoint in cluster.endpoints().values() {
            known.add_all("", &endpoint.labels);
            for key in [METADATA_NAME, NAME] {
                known.add(NAMESPACE_PREFIX, key, endpoint.namespace.as_deref().unwrap_or_default());
            }
        }
        for (prefix, metas) in
            [(NAMESPACE_PREFIX, &objects.namespaces), (SERVICE_ACCOUNT_PREFIX, &objects.service_accounts)]
        {
            for meta in metas {
                known.add_all(prefix, &meta.labels);
                known.add(prefix, NAME, &meta.name);
            }
        }
        for set in &objects.network_sets {
            known.add_all("", &set.meta.labels);
            known.add("", NAMESPACE, set.meta.namespace.as_deref().unwrap_or_default());
        }
        known
    }

    fn add_all(&mut self, prefix: &str, labels: &Labels) {
        labels.iter().for_each(|(key, value)| self.add(prefix, key, value));
    }

    fn add(&mut self, prefix: &str, key: &str, value: &str) {
        self.0.entry(format!("{prefix}{key}")).or_default().insert(value.to_owned());
    }

    /// What nothing in the input has of all that a selector asks for at once, and
    /// what may have been meant.
    pub(super) fn missing(&self, selector: &Selector) -> Option<String> {
        match selector.expr() {
            Expr::And(operands) => operands.iter().find_map(|operand| self.missing_label(operand)),
            single => self.missing_label(single),
        }
    }

    fn missing_label(&self, expr: &Expr) -> Option<String> {
        let (key, value) = match expr {
            Expr::Has(key) | Expr::Member { key, negated: false, .. } => (key, None),
            Expr::Test { key, op: Op::Equals, value } => (key, Some(value)),
            Expr::Test { op: Op::Differs, .. } => return None,
            Expr::Test { key, .. } => (key, None),
            _ => return None,
        };
        let (who, prefix) = owner(key);
        let name = key.strip_prefix(prefix).unwrap_or(key);
        let Some(values) = self.0.get(key) else {
            let keys = self.0.keys().filter(|known| owner(known).1 == prefix);
            let near = nearest(name, keys.map(|known| known.strip_prefix(prefix).unwrap_or(known)));
            return Some(format!("no {who} has the label `{name}`{}", did_you_mean(near)));
        };
        let value = value.filter(|value| !values.contains(*value))?;
        let near = did_you_mean(nearest(value, values.iter().map(String::as_str)));
        Some(match key == NAMESPACE {
            true => format!("nothing is in the namespace `{value}`{near}"),
            false => format!("no {who} has `{name}: {value}`{near}"),
        })
    }
}

/// Who carries a label, and the prefix that says so.
fn owner(key: &str) -> (&'static str, &'static str) {
    match key {
        _ if key.starts_with(NAMESPACE_PREFIX) => ("namespace", NAMESPACE_PREFIX),
        _ if key.starts_with(SERVICE_ACCOUNT_PREFIX) => ("service account", SERVICE_ACCOUNT_PREFIX),
        _ => ("endpoint or network set", ""),
    }
}

fn did_you_mean(near: Option<&str>) -> String {
    near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default()
}
