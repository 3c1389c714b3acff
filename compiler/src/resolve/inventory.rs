//! Who is in the cluster: endpoints and network sets with the labels that
//! selectors see.
//!
//! Labels are kept in layers, as Calico does: an object's own labels, then those
//! of its namespace (`pcns.`) and service account (`pcsa.`), which all objects
//! of that namespace or account share. Own labels beat inherited ones.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use cranelift_entity::{EntityRef, PrimaryMap, entity_impl};
use ipnet::IpNet;

use super::Endpoint;
use crate::manifest::{Labels, Meta, NamedPort, NetworkSet, Objects, Pod};
use crate::selector::{Selector, labels};

/// Something that hands its labels down: a namespace or a service account.
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
    pub(super) fn new(objects: &Objects) -> Self {
        let mut families = Parents::new(objects);
        let mut endpoints = PrimaryMap::new();
        for pod in objects.pods.iter().filter(|p| !p.host_network && !p.finished) {
            endpoints.push(endpoint(pod, &mut families));
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

fn endpoint(pod: &Pod, families: &mut Parents) -> EndpointData {
    let namespace = pod.meta.namespace.clone().unwrap_or_default();
    let mut own = pod.meta.labels.clone();
    // A pod cannot claim another namespace's or account's labels.
    own.retain(|key, _| {
        !key.starts_with(labels::NAMESPACE_PREFIX) && !key.starts_with(labels::SERVICE_ACCOUNT_PREFIX)
    });
    own.insert(labels::NAMESPACE.into(), namespace.clone());
    own.insert(labels::ORCHESTRATOR.into(), labels::KUBERNETES.into());
    let account = pod.service_account.as_ref().filter(|name| !name.is_empty());
    let mut parents = vec![families.namespace(&namespace)];
    if let Some(name) = account {
        own.insert(labels::SERVICE_ACCOUNT.into(), name.clone());
        parents.push(families.account(&namespace, name));
    }
    let mut ips = pod.ips.clone();
    ips.sort_unstable();
    ips.dedup();
    EndpointData {
        kind: EndpointKind::Pod,
        namespace: Some(namespace),
        name: pod.meta.name.clone(),
        ips,
        labels: own,
        // The API lets a port go without a name; an empty one names nothing.
        ports: pod.ports.iter().filter(|port| !port.name.is_empty()).cloned().collect(),
        service_account: account.cloned(),
        parents,
    }
}

fn set_item(set: &NetworkSet, families: &mut Parents) -> SetItem {
    let mut own = set.meta.labels.clone();
    // Sets are no workloads: a Kubernetes podSelector never matches one.
    own.remove(labels::ORCHESTRATOR);
    let mut parents = Vec::new();
    if let Some(namespace) = &set.meta.namespace {
        own.insert(labels::NAMESPACE.into(), namespace.clone());
        parents.push(families.namespace(namespace));
    }
    SetItem { labels: own, parents, nets: set.nets.iter().map(|net| net.value.trunc()).collect() }
}

/// Namespaces and service accounts, each made when it is first used.
struct Parents<'a> {
    declared: HashMap<(&'static str, &'a str, &'a str), &'a Meta>,
    made: HashMap<(&'static str, String, String), Parent>,
    labels: PrimaryMap<Parent, Labels>,
}

impl<'a> Parents<'a> {
    fn new(objects: &'a Objects) -> Self {
        let namespaces =
            objects.namespaces.iter().map(|m| ((labels::NAMESPACE_PREFIX, "", m.name.as_str()), m));
        let accounts = objects.service_accounts.iter().map(|m| {
            ((labels::SERVICE_ACCOUNT_PREFIX, m.namespace.as_deref().unwrap_or(""), m.name.as_str()), m)
        });
        Self {
            declared: namespaces.chain(accounts).collect(),
            made: HashMap::new(),
            labels: PrimaryMap::new(),
        }
    }

    fn namespace(&mut self, name: &str) -> Parent {
        self.parent(labels::NAMESPACE_PREFIX, "", name, &[(labels::METADATA_NAME, name)])
    }

    fn account(&mut self, namespace: &str, name: &str) -> Parent {
        self.parent(labels::SERVICE_ACCOUNT_PREFIX, namespace, name, &[])
    }

    fn parent(
        &mut self,
        prefix: &'static str,
        namespace: &str,
        name: &str,
        built_in: &[(&str, &str)],
    ) -> Parent {
        let key = (prefix, namespace.to_owned(), name.to_owned());
        if let Some(parent) = self.made.get(&key) {
            return *parent;
        }
        let declared = self.declared.get(&(prefix, namespace, name)).map(|meta| &meta.labels);
        let own = declared.into_iter().flatten().map(|(key, value)| (key.as_str(), value.as_str()));
        let built_in = built_in.iter().copied().chain([(labels::NAME, name)]);
        let all = own.chain(built_in).map(|(key, value)| (format!("{prefix}{key}"), value.to_owned()));
        let parent = self.labels.push(all.collect());
        self.made.insert(key, parent);
        parent
    }
}
