//! Who has an address, with which labels, and whether one side of a rule matches.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use polc_compiler::manifest::{
    EntityRule, KubernetesPeer, LabelExpression, LabelOperator, LabelSelector, Labels, Meta, NamedPort,
    NetworkSet, Objects, Pod, PortSpec, Spanned,
};
use polc_compiler::selector::Selector;

/// A pod or a set: what a Calico selector can match.
pub struct Thing<'a> {
    /// All labels that selectors see, inherited ones with their prefix.
    labels: Labels,
    nets: Vec<IpNet>,
    ports: &'a [NamedPort],
    /// For a pod.
    pub pod: Option<&'a Pod>,
}

/// Everybody.
pub struct Everybody<'a> {
    objects: &'a Objects,
    things: Vec<Thing<'a>>,
}

impl<'a> Everybody<'a> {
    /// The pods and sets of some manifests.
    pub fn new(objects: &'a Objects) -> Self {
        let endpoints = objects.pods.iter().filter(|p| !p.host_network && !p.finished);
        let pods = endpoints.map(|pod| of_pod(objects, pod));
        let sets = objects.network_sets.iter().map(|set| of_set(objects, set));
        Self { objects, things: pods.chain(sets).collect() }
    }

    /// The thing that a pod is.
    pub fn pod(&self, namespace: &str, name: &str) -> &Thing<'a> {
        let is = |pod: &Pod| pod.meta.name == name && pod.meta.namespace.as_deref() == Some(namespace);
        let found = self.things.iter().find(|thing| thing.pod.is_some_and(is));
        found.expect("every question is about a pod")
    }

    fn at(&self, address: IpAddr) -> impl Iterator<Item = &Thing<'a>> {
        self.things.iter().filter(move |thing| thing.nets.iter().any(|net| net.contains(&address)))
    }

    /// Whether one side of a Calico rule of a policy in `namespace` matches.
    pub fn entity_matches(
        &self,
        entity: &EntityRule,
        namespace: Option<&str>,
        address: IpAddr,
        protocol: u8,
        port: Option<u16>,
    ) -> bool {
        let inside = |nets: &[Spanned<IpNet>]| nets.iter().any(|net| net.value.contains(&address));
        if !entity.nets.is_empty() && !inside(&entity.nets) || inside(&entity.not_nets) {
            return false;
        }
        let positive = is_positive(entity, namespace);
        let excluded =
            |thing: &Thing| entity.not_selector.as_ref().is_some_and(|s| s.value.evaluate(&thing.labels));
        let fits = |thing: &&Thing| matches_positive(entity, namespace, thing) && !excluded(thing);
        if positive && !self.at(address).any(|thing| fits(&thing)) {
            return false;
        }
        if !positive && self.at(address).any(excluded) {
            return false;
        }
        let named = |name: &str| {
            let mut of = self.at(address).filter(|thing| !positive || fits(thing));
            of.any(|thing| port.is_some_and(|port| declares(thing.ports, name, protocol, port)))
        };
        let holds = |spec: &Spanned<PortSpec>| match &spec.value {
            PortSpec::Range(first, last) => port.is_some_and(|port| (*first..=*last).contains(&port)),
            PortSpec::Name(name) => named(name),
        };
        (entity.ports.is_empty() || entity.ports.iter().any(holds)) && !entity.not_ports.iter().any(holds)
    }

    /// Whether a Kubernetes peer of a policy in `namespace` matches an address.
    pub fn peer_matches(&self, peer: &KubernetesPeer, namespace: &str, address: IpAddr) -> bool {
        match peer {
            KubernetesPeer::IpBlock { cidr, except, .. } => {
                cidr.value.contains(&address) && !except.iter().any(|net| net.value.contains(&address))
            }
            KubernetesPeer::Pods { pod_selector, namespace_selector, .. } => {
                let mut pods = self.at(address).filter_map(|thing| thing.pod);
                pods.any(|pod| {
                    let own = pod.meta.namespace.as_deref().unwrap_or_default();
                    let place = match namespace_selector {
                        Some(selector) => satisfies(&namespace_labels(self.objects, own), selector),
                        None => own == namespace,
                    };
                    place && pod_selector.as_ref().is_none_or(|s| satisfies(&pod.meta.labels, s))
                })
            }
        }
    }

    /// Whether a pod with this address gives the port this name.
    pub fn names_port(&self, name: &str, address: IpAddr, protocol: u8, port: u16) -> bool {
        self.at(address).any(|thing| declares(thing.ports, name, protocol, port))
    }
}

impl Thing<'_> {
    /// Whether a selector matches.
    pub fn is(&self, selector: &Selector) -> bool {
        selector.evaluate(&self.labels)
    }

    /// Whether a selector over the labels behind a prefix matches; its `all()`
    /// means to have a namespace, or an account.
    pub fn is_behind(&self, prefix: &str, selector: &Selector) -> bool {
        let behind = self.labels.iter().filter_map(|(key, value)| Some((key.strip_prefix(prefix)?, value)));
        let labels: Labels = behind.map(|(key, value)| (key.to_owned(), value.clone())).collect();
        selector.evaluate(&labels)
    }
}

fn declares(ports: &[NamedPort], name: &str, protocol: u8, port: u16) -> bool {
    ports.iter().any(|p| p.name == name && p.protocol == protocol && p.port == port)
}

fn is_positive(entity: &EntityRule, namespace: Option<&str>) -> bool {
    let accounts = entity.service_accounts.as_ref().map(|s| &s.value);
    let accounts = accounts.is_some_and(|a| !a.names.is_empty() || a.selector.is_some());
    entity.selector.is_some()
        || entity.namespace_selector.is_some()
        || accounts
        || namespace.is_some() && entity.not_selector.is_some()
}

fn matches_positive(entity: &EntityRule, namespace: Option<&str>, thing: &Thing) -> bool {
    let own = thing.labels.get("projectcalico.org/namespace");
    let place = match (&entity.namespace_selector, namespace) {
        (Some(selector), _) => match selector.value.to_string().as_str() {
            "all()" => own.is_some(),
            "global()" => own.is_none(),
            _ => thing.is_behind("pcns.", &selector.value),
        },
        (None, Some(namespace)) => own.is_some_and(|own| own == namespace),
        (None, None) => true,
    };
    let account = entity.service_accounts.as_ref().is_none_or(|accounts| {
        let name = thing.labels.get("projectcalico.org/serviceaccount");
        let (names, selector) = (&accounts.value.names, &accounts.value.selector);
        (names.is_empty() || name.is_some_and(|name| names.contains(name)))
            && selector.as_ref().is_none_or(|s| thing.is_behind("pcsa.", &s.value))
    });
    place && account && entity.selector.as_ref().is_none_or(|s| thing.is(&s.value))
}

/// Whether labels satisfy a Kubernetes label selector.
pub fn satisfies(labels: &BTreeMap<String, String>, selector: &LabelSelector) -> bool {
    selector.match_labels.iter().all(|(key, value)| labels.get(key) == Some(value))
        && selector.match_expressions.iter().all(|e| requirement_holds(labels, e))
}

fn requirement_holds(labels: &BTreeMap<String, String>, requirement: &LabelExpression) -> bool {
    let value = labels.get(&requirement.key);
    match requirement.operator {
        LabelOperator::In => value.is_some_and(|value| requirement.values.contains(value)),
        LabelOperator::NotIn => value.is_none_or(|value| !requirement.values.contains(value)),
        LabelOperator::Exists => value.is_some(),
        LabelOperator::DoesNotExist => value.is_none(),
    }
}

fn namespace_labels(objects: &Objects, name: &str) -> Labels {
    let declared = objects.namespaces.iter().find(|ns| ns.name == name);
    let mut labels = declared.map(|ns| ns.labels.clone()).unwrap_or_default();
    labels.insert("kubernetes.io/metadata.name".into(), name.into());
    labels.insert("projectcalico.org/name".into(), name.into());
    labels
}

fn account_labels(objects: &Objects, namespace: &str, name: &str) -> Labels {
    let is = |meta: &&Meta| meta.name == name && meta.namespace.as_deref() == Some(namespace);
    let mut labels = objects.service_accounts.iter().find(is).map(|a| a.labels.clone()).unwrap_or_default();
    labels.insert("projectcalico.org/name".into(), name.into());
    labels
}

/// Adds inherited labels; own ones stay.
fn inherit(labels: &mut Labels, prefix: &str, from: Labels) {
    for (key, value) in from {
        labels.entry(format!("{prefix}{key}")).or_insert(value);
    }
}

fn of_pod<'a>(objects: &Objects, pod: &'a Pod) -> Thing<'a> {
    let namespace = pod.meta.namespace.as_deref().unwrap_or_default();
    let mut labels = pod.meta.labels.clone();
    labels.insert("projectcalico.org/namespace".into(), namespace.into());
    labels.insert("projectcalico.org/orchestrator".into(), "k8s".into());
    inherit(&mut labels, "pcns.", namespace_labels(objects, namespace));
    if let Some(account) = &pod.service_account {
        labels.insert("projectcalico.org/serviceaccount".into(), account.clone());
        inherit(&mut labels, "pcsa.", account_labels(objects, namespace, account));
    }
    let nets = pod.ips.iter().map(|ip| IpNet::from(*ip)).collect();
    Thing { labels, nets, ports: &pod.ports, pod: Some(pod) }
}

fn of_set<'a>(objects: &Objects, set: &'a NetworkSet) -> Thing<'a> {
    let mut labels = set.meta.labels.clone();
    if let Some(namespace) = &set.meta.namespace {
        labels.insert("projectcalico.org/namespace".into(), namespace.clone());
        inherit(&mut labels, "pcns.", namespace_labels(objects, namespace));
    }
    Thing { labels, nets: set.nets.iter().map(|net| net.value).collect(), ports: &[], pod: None }
}
