//! How the selectors of one rule side, and those of a policy, become one.
//!
//! After projectcalico/calico `libcalico-go/lib/backend/syncersv1/updateprocessors`
//! (`rules.go`, `networkpolicyprocessor.go`, `globalnetworkpolicyprocessor.go`)
//! and `felix/calc/rule_scanner.go`.

use super::rule::SideSpec;
use crate::manifest::ServiceAccountMatch;
use crate::selector::{Selector, labels};

/// The selectors of one rule side as written, Kubernetes ones already converted.
#[derive(Default)]
pub(super) struct Peers<'a> {
    pub(super) selector: Option<&'a Selector>,
    pub(super) not_selector: Option<&'a Selector>,
    pub(super) namespace_selector: Option<&'a Selector>,
    pub(super) service_accounts: Option<&'a ServiceAccountMatch>,
}

impl Peers<'_> {
    /// A side with the combined selectors, for a policy of `namespace` (`None`:
    /// a global one).
    ///
    /// Any selector limits a namespaced policy's side to its own namespace or to
    /// the selected ones. A positive selector takes the negative one in, so that
    /// it filters endpoints and sets instead of packets.
    pub(super) fn side(&self, namespace: Option<&str>) -> SideSpec {
        let selectors: Vec<Selector> = self
            .service_accounts
            .and_then(service_accounts)
            .into_iter()
            .chain(self.selector.cloned())
            .collect();
        let limited = !selectors.is_empty() || self.not_selector.is_some();
        let scope = match self.namespace_selector {
            Some(selector) => Some(namespaces(selector)),
            None => namespace.filter(|_| limited).map(|ns| Selector::equals(labels::NAMESPACE, ns)),
        };
        let positive: Vec<Selector> = scope.into_iter().chain(selectors).collect();
        if positive.is_empty() {
            return SideSpec { not_selector: self.not_selector.cloned(), ..SideSpec::default() };
        }
        let negative = self.not_selector.map(|s| s.clone().negate());
        let selector = Selector::all_of(positive.into_iter().chain(negative));
        SideSpec { selector: Some(selector), ..SideSpec::default() }
    }
}

/// A `namespaceSelector` in terms of what its namespaces' endpoints carry.
fn namespaces(selector: &Selector) -> Selector {
    let in_a_namespace = Selector::has(labels::NAMESPACE);
    selector
        .prefix_keys(labels::NAMESPACE_PREFIX)
        .replace_all(&in_a_namespace)
        .replace_global(&in_a_namespace.negate())
}

/// `serviceAccounts` as a selector; `None` where it asks for nothing.
fn service_accounts(accounts: &ServiceAccountMatch) -> Option<Selector> {
    let selector = accounts.selector.as_ref().map(|s| s.value.prefix_keys(labels::SERVICE_ACCOUNT_PREFIX));
    let names = (!accounts.names.is_empty())
        .then(|| Selector::is_in(labels::SERVICE_ACCOUNT, accounts.names.iter().cloned()));
    (selector.is_some() || names.is_some()).then(|| Selector::all_of(selector.into_iter().chain(names)))
}

/// What a namespaced Calico policy selects.
pub(super) fn namespaced_policy(
    namespace: &str,
    selector: Option<&Selector>,
    accounts: Option<&Selector>,
) -> Selector {
    let own = Selector::equals(labels::NAMESPACE, namespace);
    let accounts = accounts.map(|s| s.prefix_keys(labels::SERVICE_ACCOUNT_PREFIX));
    Selector::all_of(selector.cloned().into_iter().chain([own]).chain(accounts))
}

/// What a global Calico policy selects. Its `namespaceSelector` and
/// `serviceAccountSelector` give every `all()` before them a new meaning.
pub(super) fn global_policy(
    selector: Option<&Selector>,
    namespaces: Option<&Selector>,
    accounts: Option<&Selector>,
) -> Selector {
    let mut parts: Vec<Selector> = selector.cloned().into_iter().collect();
    let mut add = |with: Option<&Selector>, prefix: &str, all: &str| {
        if let Some(with) = with {
            parts.push(with.prefix_keys(prefix));
            for part in &mut parts {
                *part = part.replace_all(&Selector::has(all));
            }
        }
    };
    add(namespaces, labels::NAMESPACE_PREFIX, labels::NAMESPACE);
    add(accounts, labels::SERVICE_ACCOUNT_PREFIX, labels::SERVICE_ACCOUNT);
    Selector::all_of(parts)
}
