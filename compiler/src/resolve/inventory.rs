//! Who is in the cluster: endpoints and network sets with the labels that
//! selectors see.
//!
//! Labels are kept in layers, as Calico does: an object's own labels, then those
//! of its profiles, which for a pod are its namespace's (`pcns.`) and its service
//! account's (`pcsa.`). Own labels beat inherited ones, an earlier profile's a
//! later one's.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;

use cranelift_entity::{EntityRef, PrimaryMap, entity_impl};
use ipnet::IpNet;

use super::Endpoint;
use super::profiles::{self, Known, Names};
use crate::manifest::{
    HostEndpoint, Labels, Meta, NamedPort, NetworkSet, Objects, Pod, Profile, Spanned, WorkloadEndpoint,
};
use crate::selector::{Selector, labels};

/// A profile that hands its labels down: mostly a namespace's or a service account's.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Parent(u32);
entity_impl!(Parent, "parent");

/// What an endpoint is.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum EndpointKind {
    /// A pod with a network of its own that has not finished.
    Pod,
    /// A Calico WorkloadEndpoint.
    Workload,
    /// A Calico HostEndpoint: an interface of a node.
    Host,
}

/// Something that policy selects and whose packets it decides about.
#[derive(Clone, Debug, PartialEq)]
pub struct EndpointData {
    /// What it is.
    pub kind: EndpointKind,
    /// Namespace; `None` for a host endpoint.
    pub namespace: Option<String>,
    /// Name of the object that it was read from.
    pub name: String,
    /// Addresses, sorted; empty for an endpoint that has none yet.
    pub ips: Vec<IpAddr>,
    /// Own labels and those that Calico adds; see [`super::Cluster::label`] for
    /// the inherited ones.
    pub labels: Labels,
    /// Named ports; one name may stand for several numbers.
    pub ports: Vec<NamedPort>,
    /// Service account, where the pod names one.
    pub service_account: Option<String>,
    /// Names of its profiles, in the order in which they are asked.
    pub profiles: Vec<String>,
    /// Node of a host endpoint.
    pub node: Option<String>,
    /// Name of the pod that a workload endpoint is the network of.
    pub pod: Option<String>,
    parents: Vec<Parent>,
}

/// A network set as a member of selectors.
pub(super) struct SetItem {
    labels: Labels,
    parents: Vec<Parent>,
    nets: Vec<IpNet>,
}

/// Something that selectors match: the endpoints in order, then the network sets.
pub(super) type Item = u32;

/// Numbers behind each port name, over all endpoints: (protocol, port).
pub(super) type NamedPorts = BTreeMap<String, BTreeSet<(u8, u16)>>;

/// Everything that selectors may match.
pub(super) struct Inventory {
    pub(super) endpoints: PrimaryMap<Endpoint, EndpointData>,
    sets: Vec<SetItem>,
    parents: PrimaryMap<Parent, Labels>,
}

/// The labels of one item.
#[derive(Copy, Clone)]
pub(super) struct Layers<'a> {
    own: &'a Labels,
    parents: &'a [Parent],
    inventory: &'a Inventory,
}

impl<'a> Layers<'a> {
    /// The label's value, own before inherited.
    pub(super) fn get(&self, key: &str) -> Option<&'a str> {
        let inherited = || self.parents.iter().find_map(|p| self.inventory.parents[*p].get(key));
        self.own.get(key).or_else(inherited).map(String::as_str)
    }

    /// Every label that is in force, in no particular order.
    pub(super) fn iter(self) -> impl Iterator<Item = (&'a str, &'a str)> {
        let inherited = self.parents.iter().flat_map(move |p| &self.inventory.parents[*p]);
        let visible = inherited.filter(move |(key, _)| !self.own.contains_key(*key));
        self.own.iter().chain(visible).map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// Whether the labels satisfy the selector.
    pub(super) fn satisfy(&self, selector: &Selector) -> bool {
        selector.evaluate_with(&|key| self.get(key))
    }
}

impl EndpointData {
    /// `namespace/name`, or the name of a host endpoint.
    pub fn display_name(&self) -> String {
        match &self.namespace {
            Some(namespace) => format!("{namespace}/{}", self.name),
            None => self.name.clone(),
        }
    }
}

impl Inventory {
    /// Builds the inventory. A namespace or service account that is used but not
    /// declared exists with the labels that the API server would give it.
    pub(super) fn new(objects: &Objects, names: &Names<'_>) -> Self {
        let mut families = Parents::new(objects, names);
        let mut endpoints = PrimaryMap::new();
        let replaced = replaced_pods(objects);
        let is_endpoint = |pod: &&Pod| {
            let key = (pod.meta.namespace.as_deref(), pod.meta.name.as_str());
            !pod.host_network && !pod.finished && !replaced.contains(&key)
        };
        for pod in objects.pods.iter().filter(is_endpoint) {
            endpoints.push(endpoint(pod, &mut families));
        }
        for workload in &objects.workload_endpoints {
            endpoints.push(workload_endpoint(workload, &mut families));
        }
        for host in &objects.host_endpoints {
            endpoints.push(host_endpoint(host, &mut families));
        }
        let sets = objects.network_sets.iter().map(|set| set_item(set, &mut families)).collect();
        Self { endpoints, sets, parents: families.labels }
    }

    /// All items.
    pub(super) fn items(&self) -> std::ops::Range<Item> {
        0..(self.endpoints.len() + self.sets.len()) as Item
    }

    /// The endpoint behind an item; `None` for a network set.
    pub(super) fn endpoint(&self, item: Item) -> Option<Endpoint> {
        let endpoint = Endpoint::new(item as usize);
        self.endpoints.is_valid(endpoint).then_some(endpoint)
    }

    /// The labels of an item.
    pub(super) fn labels(&self, item: Item) -> Layers<'_> {
        let (own, parents) = match self.endpoint(item) {
            Some(e) => (&self.endpoints[e].labels, &self.endpoints[e].parents),
            None => {
                let set = &self.sets[item as usize - self.endpoints.len()];
                (&set.labels, &set.parents)
            }
        };
        Layers { own, parents, inventory: self }
    }

    /// Adds the addresses of an item to `nets`.
    pub(super) fn collect_nets(&self, item: Item, nets: &mut Vec<IpNet>) {
        match self.endpoint(item) {
            Some(e) => nets.extend(self.endpoints[e].ips.iter().map(|ip| IpNet::from(*ip))),
            None => nets.extend(&self.sets[item as usize - self.endpoints.len()].nets),
        }
    }

    /// What the port names stand for.
    pub(super) fn named_ports(&self) -> NamedPorts {
        let mut named = NamedPorts::new();
        for port in self.endpoints.values().flat_map(|e| &e.ports) {
            named.entry(port.name.clone()).or_default().insert((port.protocol, port.port));
        }
        named
    }
}

/// Namespaces and names of the pods that a WorkloadEndpoint describes.
fn replaced_pods(objects: &Objects) -> HashSet<(Option<&str>, &str)> {
    let workloads = objects.workload_endpoints.iter();
    workloads.filter_map(|w| Some((w.meta.namespace.as_deref(), w.pod.as_deref()?))).collect()
}

fn endpoint(pod: &Pod, families: &mut Parents) -> EndpointData {
    let namespace = pod.meta.namespace.clone().unwrap_or_default();
    let mut own = workload_labels(&pod.meta, &namespace, labels::KUBERNETES);
    let account = pod.service_account.as_ref().filter(|name| !name.is_empty());
    let mut profiles = vec![profiles::of_namespace(&namespace)];
    if let Some(name) = account {
        own.insert(labels::SERVICE_ACCOUNT.into(), name.clone());
        profiles.push(profiles::of_account(&namespace, name));
    }
    EndpointData {
        kind: EndpointKind::Pod,
        namespace: Some(namespace),
        name: pod.meta.name.clone(),
        ips: sorted(&pod.ips),
        labels: own,
        // The API lets a port go without a name; an empty one names nothing.
        ports: pod.ports.iter().filter(|port| !port.name.is_empty()).cloned().collect(),
        service_account: account.cloned(),
        parents: families.all(&profiles),
        profiles,
        node: None,
        pod: None,
    }
}

/// A workload endpoint has the profiles that it lists, and inherits from these only.
fn workload_endpoint(workload: &WorkloadEndpoint, families: &mut Parents) -> EndpointData {
    let namespace = workload.meta.namespace.clone().unwrap_or_default();
    let mut own = workload_labels(&workload.meta, &namespace, &workload.orchestrator);
    if let Some(name) = &workload.service_account {
        own.insert(labels::SERVICE_ACCOUNT.into(), name.clone());
    }
    let profiles = values(&workload.profiles);
    EndpointData {
        kind: EndpointKind::Workload,
        namespace: Some(namespace),
        name: workload.meta.name.clone(),
        ips: sorted(&workload.ips),
        labels: own,
        ports: workload.ports.clone(),
        service_account: workload.service_account.clone(),
        parents: families.all(&profiles),
        profiles,
        node: None,
        pod: workload.pod.clone(),
    }
}

fn host_endpoint(host: &HostEndpoint, families: &mut Parents) -> EndpointData {
    let profiles = values(&host.profiles);
    EndpointData {
        kind: EndpointKind::Host,
        namespace: None,
        name: host.meta.name.clone(),
        ips: sorted(&host.expected_ips),
        labels: host.meta.labels.clone(),
        ports: host.ports.clone(),
        service_account: None,
        parents: families.all(&profiles),
        profiles,
        node: Some(host.node.clone()),
        pod: None,
    }
}

/// Own labels of a workload: it cannot claim another namespace's or account's.
fn workload_labels(meta: &Meta, namespace: &str, orchestrator: &str) -> Labels {
    let mut own = meta.labels.clone();
    own.retain(|key, _| {
        !key.starts_with(labels::NAMESPACE_PREFIX) && !key.starts_with(labels::SERVICE_ACCOUNT_PREFIX)
    });
    own.insert(labels::NAMESPACE.into(), namespace.into());
    own.insert(labels::ORCHESTRATOR.into(), orchestrator.into());
    own
}

fn sorted(ips: &[IpAddr]) -> Vec<IpAddr> {
    let mut ips = ips.to_vec();
    ips.sort_unstable();
    ips.dedup();
    ips
}

fn values(names: &[Spanned<String>]) -> Vec<String> {
    names.iter().map(|name| name.value.clone()).collect()
}

fn set_item(set: &NetworkSet, families: &mut Parents) -> SetItem {
    let mut own = set.meta.labels.clone();
    // Sets are no workloads: a Kubernetes podSelector never matches one.
    own.remove(labels::ORCHESTRATOR);
    let mut parents = Vec::new();
    if let Some(namespace) = &set.meta.namespace {
        own.insert(labels::NAMESPACE.into(), namespace.clone());
        parents.extend(families.profile(&profiles::of_namespace(namespace)));
    }
    SetItem { labels: own, parents, nets: set.nets.iter().map(|net| net.value.trunc()).collect() }
}

/// What profiles hand down, each made when it is first used.
struct Parents<'a> {
    names: &'a Names<'a>,
    profiles: &'a [Profile],
    namespaces: HashMap<&'a str, &'a Meta>,
    accounts: HashMap<(&'a str, &'a str), &'a Meta>,
    made: HashMap<String, Parent>,
    labels: PrimaryMap<Parent, Labels>,
}

impl<'a> Parents<'a> {
    fn new(objects: &'a Objects, names: &'a Names<'a>) -> Self {
        let account = |m: &'a Meta| ((m.namespace.as_deref().unwrap_or_default(), m.name.as_str()), m);
        Self {
            names,
            profiles: &objects.profiles,
            namespaces: objects.namespaces.iter().map(|m| (m.name.as_str(), m)).collect(),
            accounts: objects.service_accounts.iter().map(account).collect(),
            made: HashMap::new(),
            labels: PrimaryMap::new(),
        }
    }

    fn all(&mut self, profiles: &[String]) -> Vec<Parent> {
        profiles.iter().filter_map(|name| self.profile(name)).collect()
    }

    /// A profile's labels; `None` if it has none.
    fn profile(&mut self, name: &str) -> Option<Parent> {
        if let Some(parent) = self.made.get(name) {
            return Some(*parent);
        }
        let labels = match self.names.get(name) {
            Known::Explicit(index) => self.profiles.get(index)?.labels.clone(),
            Known::Namespace(namespace) => {
                let built_in = [(labels::METADATA_NAME, namespace), (labels::NAME, namespace)];
                derived(labels::NAMESPACE_PREFIX, self.namespaces.get(namespace), &built_in)
            }
            Known::Account(namespace, account) => {
                let declared = self.accounts.get(&(namespace, account));
                derived(labels::SERVICE_ACCOUNT_PREFIX, declared, &[(labels::NAME, account)])
            }
            Known::DefaultAllow | Known::Missing => return None,
        };
        let parent = self.labels.push(labels);
        self.made.insert(name.to_owned(), parent);
        Some(parent)
    }
}

/// A namespace's or account's labels behind a prefix; `built_in` ones win.
fn derived(prefix: &str, declared: Option<&&Meta>, built_in: &[(&str, &str)]) -> Labels {
    let own = declared.into_iter().flat_map(|meta| &meta.labels);
    let own = own.map(|(key, value)| (key.as_str(), value.as_str()));
    let all = own.chain(built_in.iter().copied());
    all.map(|(key, value)| (format!("{prefix}{key}"), value.to_owned())).collect()
}
