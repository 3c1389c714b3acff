//! Objects and inventory to [`PolicyIr`]: what policy means for one endpoint and
//! direction.
//!
//! ```text
//! Objects ─inventory─▶ endpoints, network sets, labels ─┐
//!    │                                                  ├─▶ membership of every set ─┐
//!    └─kubernetes, calico, cluster_policy─▶ one form ─────┘                            ├─build─▶ PolicyIr
//!                                └─▶ who is selected by what, in evaluation order ───┘
//! ```
//!
//! Everything is worked out once in [`Cluster::new`]: each distinct selector is
//! evaluated once, on the items that its most selective label leaves. Resolving
//! an endpoint then copies what it uses.
//!
//! Which rules and sets an IR has depends on the policies only; who is in a set
//! is data. The exception are named ports: see the `rule` module.

mod build;
mod calico;
mod check;
mod cluster_policy;
mod felix;
mod hosts;
mod index;
mod inventory;
mod kubernetes;
mod peers;
mod policy;
mod profiles;
mod rule;
mod sets;
#[cfg(test)]
mod tests;
mod tiers;

use std::collections::HashMap;
use std::net::IpAddr;

use cranelift_entity::{PrimaryMap, SecondaryMap, entity_impl};
use ipnet::IpNet;

pub use inventory::{EndpointData, EndpointKind};
pub use policy::{PolicyData, Stage};
pub use tiers::TierData;

use crate::diag::{Diagnostic, Sources};
use crate::ir::{AddrSet, AddrSetData, Decision, Direction, File, PolicyIr};
use crate::manifest::Objects;
use crate::selector::Selector;
use build::Subject;
use felix::Felix;
use index::LabelIndex;
use inventory::Inventory;
use policy::Context;
use profiles::{Names, Profiles};
use sets::SetTable;
use tiers::Tiers;

/// An endpoint that policy may select.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint(u32);
entity_impl!(Endpoint, "endpoint");

/// A policy; numbered in evaluation order.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Policy(u32);
entity_impl!(Policy, "policy");

/// Policies and inventory, ready to be resolved for each endpoint.
pub struct Cluster {
    inventory: Inventory,
    policies: PrimaryMap<Policy, PolicyData>,
    tiers: Tiers,
    profiles: Profiles,
    felix: Felix,
    /// Names of the input files.
    files: PrimaryMap<File, String>,
    /// Every set that a policy uses.
    sets: PrimaryMap<AddrSet, AddrSetData>,
    /// The policies that select an endpoint, in evaluation order.
    selecting: SecondaryMap<Endpoint, Vec<Policy>>,
    owners: HashMap<IpAddr, Vec<Endpoint>>,
    names: HashMap<String, Endpoint>,
}

impl Cluster {
    /// Takes stock of the objects; `sources` is where they were read from.
    ///
    /// The diagnostics say what is wrong with the objects taken together; with
    /// an error among them the cluster must not be used for enforcement.
    pub fn new(sources: &Sources, objects: Objects) -> (Self, Vec<Diagnostic>) {
        let profile_names = Names::new(&objects);
        let inventory = Inventory::new(&objects, &profile_names);
        let used = objects.calico_policies.iter().map(|p| p.tier.value.as_str());
        let tiers = Tiers::new(&objects.tiers, used, |tier| policy::origin(sources, tier.meta.span));
        let named = inventory.named_ports();
        let mut diagnostics = check::check(&objects, &tiers, &named);
        diagnostics.extend(hosts::check(&objects, &profile_names));
        let mut context = Context { sources, named, sets: SetTable::default(), diagnostics };
        let policies = convert(&objects, &tiers, &mut context);
        let listed = inventory.endpoints.values().flat_map(|e| &e.profiles).map(String::as_str);
        let profiles = Profiles::new(&objects, &profile_names, listed, &mut context);
        let felix = Felix::new(&objects, &mut context);
        let index = LabelIndex::new(&inventory);
        let sets = context.sets.fill(&inventory, &index);
        let selecting = selecting(&policies, &inventory, &index);
        let files = sources.iter().map(|(_, file)| file.name.clone()).collect();
        let (owners, names) = (owners(&inventory), names(&inventory));
        let cluster =
            Self { inventory, policies, tiers, profiles, felix, files, sets, selecting, owners, names };
        let mut diagnostics = context.diagnostics;
        diagnostics.sort_by_key(|d| d.span);
        (cluster, diagnostics)
    }

    /// All endpoints: pods that are not host-networked and have not finished,
    /// workload endpoints, host endpoints.
    pub fn endpoints(&self) -> &PrimaryMap<Endpoint, EndpointData> {
        &self.inventory.endpoints
    }

    /// All policies in evaluation order.
    pub fn policies(&self) -> &PrimaryMap<Policy, PolicyData> {
        &self.policies
    }

    /// Name of an input file, as the places of policies count them.
    pub fn file_name(&self, file: File) -> Option<&str> {
        self.files.get(file).map(String::as_str)
    }

    /// All tiers in evaluation order, built-in ones included.
    pub fn tiers(&self) -> impl Iterator<Item = &TierData> {
        self.tiers.iter()
    }

    /// The endpoint of a pod; `None` if there is no such pod or it is no endpoint.
    pub fn endpoint_by_name(&self, namespace: &str, name: &str) -> Option<Endpoint> {
        self.endpoint_by_path(&format!("{namespace}/{name}"))
    }

    /// The endpoint of this display name: `namespace/name`, or the name of a host
    /// endpoint.
    pub fn endpoint_by_path(&self, path: &str) -> Option<Endpoint> {
        self.names.get(path).copied()
    }

    /// The endpoints that have an address; more than one only in broken input.
    pub fn owners(&self, address: IpAddr) -> &[Endpoint] {
        self.owners.get(&address).map(Vec::as_slice).unwrap_or_default()
    }

    /// A label of an endpoint as selectors see it, inherited ones included.
    pub fn label(&self, endpoint: Endpoint, key: &str) -> Option<&str> {
        self.inventory.labels(endpoint.as_u32()).get(key)
    }

    /// The policies that select an endpoint, in evaluation order; each may govern
    /// one direction, both, or none.
    pub fn selecting(&self, endpoint: Endpoint) -> &[Policy] {
        &self.selecting[endpoint]
    }

    /// What policy says about packets to or from an endpoint.
    pub fn resolve(&self, endpoint: Endpoint, direction: Direction) -> PolicyIr {
        let data = &self.inventory.endpoints[endpoint];
        let subject = Subject {
            name: data.display_name(),
            policies: self.selecting(endpoint),
            profiles: &data.profiles,
            node: data.node.as_deref(),
        };
        build::build(self, &subject, direction)
    }

    /// What untracked policy alone says at a host endpoint, and the decision with
    /// which it lets pass what it has nothing to say about; `None` without such
    /// policy. It has no failsafe ports: who runs it asks for them first.
    pub fn resolve_untracked(
        &self,
        endpoint: Endpoint,
        direction: Direction,
    ) -> Option<(PolicyIr, Decision)> {
        let data = &self.inventory.endpoints[endpoint];
        let subject = Subject {
            name: data.display_name(),
            policies: self.selecting(endpoint),
            profiles: &[],
            node: data.node.as_deref(),
        };
        build::build_untracked(self, &subject, direction)
    }

    /// Failsafe ports of a host endpoint for packets of a direction: protocol,
    /// destination port, and the far addresses that it is open for (all, if
    /// `None`). A pod has none.
    pub fn failsafe_ports(&self, endpoint: Endpoint, direction: Direction) -> Vec<(u8, u16, Option<IpNet>)> {
        let node = self.endpoints()[endpoint].node.as_deref();
        let of = |node| self.felix.failsafes(node, direction).iter().flat_map(|f| f.ports()).collect();
        node.map(of).unwrap_or_default()
    }

    /// What one policy alone says, as for an endpoint that nothing else selects;
    /// `None` if the policy does not govern the direction. For a global policy
    /// the profile at the end is `kns.*`; for one that acts on host endpoints only
    /// there is none, and no failsafe port.
    pub fn resolve_policy(&self, policy: Policy, direction: Direction) -> Option<PolicyIr> {
        let data = &self.policies[policy];
        let profile = profiles::of_namespace(data.namespace.as_deref().unwrap_or("*"));
        let profiles = if data.stage == Stage::Normal { vec![profile] } else { Vec::new() };
        let build = || {
            let name = data.display_name();
            let subject = Subject { name, policies: &[policy], profiles: &profiles, node: None };
            build::build(self, &subject, direction)
        };
        data.governs(direction).then(build)
    }
}

/// All policies in the common form, in evaluation order.
fn convert(objects: &Objects, tiers: &Tiers, context: &mut Context<'_>) -> PrimaryMap<Policy, PolicyData> {
    let mut policies: Vec<(usize, String, PolicyData)> = Vec::new();
    let mut add = |policy: PolicyData, kind: &str| {
        policies.push((tiers.rank(&policy.tier), policy.tie_break(kind), policy));
    };
    for policy in &objects.kubernetes_policies {
        add(kubernetes::convert(policy, context), kubernetes::SORT_KIND);
    }
    for policy in &objects.calico_policies {
        add(calico::convert(policy, context), &policy.meta.kind);
    }
    for policy in &objects.cluster_policies {
        add(cluster_policy::convert(policy, context), &policy.meta.kind);
    }
    policies.sort_by(|(tier, name, policy), (other_tier, other_name, other)| {
        let order = || policy.order.total_cmp(&other.order);
        tier.cmp(other_tier).then_with(order).then_with(|| name.cmp(other_name))
    });
    policies.into_iter().map(|(_, _, policy)| policy).collect()
}

fn selecting(
    policies: &PrimaryMap<Policy, PolicyData>,
    inventory: &Inventory,
    index: &LabelIndex<'_>,
) -> SecondaryMap<Endpoint, Vec<Policy>> {
    let mut known: HashMap<&Selector, Vec<Endpoint>> = HashMap::new();
    let mut selecting: SecondaryMap<Endpoint, Vec<Policy>> = SecondaryMap::new();
    for (policy, data) in policies {
        let endpoints = known.entry(&data.selector).or_insert_with(|| {
            index.matches(&data.selector).into_iter().map_while(|item| inventory.endpoint(item)).collect()
        });
        // Untracked and pre-DNAT policies neither decide about a workload nor isolate it.
        let governed = |e: &&Endpoint| {
            data.stage == Stage::Normal || inventory.endpoints[**e].kind == EndpointKind::Host
        };
        for endpoint in endpoints.iter().filter(governed) {
            selecting[*endpoint].push(policy);
        }
    }
    selecting
}

fn owners(inventory: &Inventory) -> HashMap<IpAddr, Vec<Endpoint>> {
    let mut owners: HashMap<IpAddr, Vec<Endpoint>> = HashMap::new();
    for (endpoint, data) in &inventory.endpoints {
        for ip in &data.ips {
            owners.entry(*ip).or_default().push(endpoint);
        }
    }
    owners
}

fn names(inventory: &Inventory) -> HashMap<String, Endpoint> {
    let own = inventory.endpoints.iter().map(|(e, data)| (data.display_name(), e));
    let mut names: HashMap<String, Endpoint> = own.collect();
    // A pod that its workload endpoint stands for is still found by its name.
    for (endpoint, data) in &inventory.endpoints {
        if let (Some(namespace), Some(pod)) = (&data.namespace, &data.pod) {
            names.entry(format!("{namespace}/{pod}")).or_insert(endpoint);
        }
    }
    names
}
