//! One test for each statement about what policy means; each resolves objects
//! to IR, verifies it and asks the reference evaluator.

mod calico_rules;
mod cluster_policy;
mod families;
mod hosts;
mod inventory;
mod ir_shape;
mod kubernetes;
mod ports;
mod profiles;
mod scale;
mod selectors;
mod tiers;
mod yaml;

use super::*;
use crate::diag::{FileId, Span};
use crate::ir::{self, Action, DecisionKind, Family, Flow, IcmpMatch};
use crate::manifest::*;
use Direction::{Egress, Ingress};

/// Objects under construction. Every span lies in one file of many lines.
#[derive(Default)]
struct World {
    sources: Sources,
    objects: Objects,
}

/// A span at the start of a line of the test file.
fn at_line(line: u32) -> Span {
    let start = (line - 1) * 10;
    Span { file: FileId::from_u32(0), start, end: start + 9 }
}

fn span() -> Span {
    at_line(1)
}

fn spanned<T>(value: T) -> Spanned<T> {
    Spanned { value, span: span() }
}

fn labels(text: &str) -> Labels {
    let pairs = text.split_whitespace().map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

/// Metadata of `namespace/name`, or of a cluster-wide `name`.
fn meta(api: &str, kind: &str, path: &str, labels_text: &str) -> Meta {
    let (namespace, name) = match path.split_once('/') {
        Some((namespace, name)) => (Some(namespace.to_owned()), name),
        None => (None, path),
    };
    let (api, kind, name) = (api.to_owned(), kind.to_owned(), name.to_owned());
    Meta { api, kind, namespace, name, labels: labels(labels_text), span: span() }
}

fn pod(path: &str, labels: &str, ips: &str) -> Pod {
    Pod {
        meta: meta("v1", "Pod", path, labels),
        service_account: None,
        host_network: false,
        finished: false,
        ips: ips.split_whitespace().map(|ip| ip.parse().unwrap()).collect(),
        ports: Vec::new(),
    }
}

/// `http=tcp/80` …
fn named_ports(text: &str) -> Vec<NamedPort> {
    let port = |entry: &str| {
        let (name, number) = entry.split_once('=').unwrap();
        let (protocol, port) = number.split_once('/').unwrap();
        NamedPort { name: name.into(), protocol: protocol_number(protocol), port: port.parse().unwrap() }
    };
    text.split_whitespace().map(port).collect()
}

fn protocol_number(name: &str) -> u8 {
    match name {
        "icmp" => 1,
        "tcp" => 6,
        "udp" => 17,
        "icmp6" => 58,
        "sctp" => 132,
        number => number.parse().unwrap(),
    }
}

fn nets(text: &str) -> Vec<Spanned<ipnet::IpNet>> {
    text.split_whitespace().map(|net| spanned(net.parse().unwrap())).collect()
}

fn sel(text: &str) -> Option<Spanned<Selector>> {
    Some(spanned(Selector::parse(text).unwrap()))
}

/// `80`, `10:20`, `http`.
fn port_spec(text: &str) -> PortSpec {
    let number = |text: &str| text.parse::<u16>().ok();
    match text.split_once(':') {
        Some((first, last)) => PortSpec::Range(number(first).unwrap(), number(last).unwrap()),
        None => number(text).map_or(PortSpec::Name(text.into()), |port| PortSpec::Range(port, port)),
    }
}

fn ports(text: &str) -> Vec<Spanned<PortSpec>> {
    text.split_whitespace().map(|port| spanned(port_spec(port))).collect()
}

/// A protocol by name, or by number.
fn protocol(text: &str) -> Option<Spanned<Protocol>> {
    let by_name = text.parse::<u8>().is_err();
    Some(spanned(Protocol { number: protocol_number(text), by_name }))
}

fn icmp(icmp_type: u8, code: Option<u8>) -> Option<Spanned<IcmpMatch>> {
    Some(spanned(IcmpMatch { icmp_type, code }))
}

/// A namespaced policy (`ns/name`) or a global one, selecting all.
fn calico(path: &str) -> CalicoPolicy {
    let kind = if path.contains('/') { "NetworkPolicy" } else { "GlobalNetworkPolicy" };
    CalicoPolicy {
        meta: meta("projectcalico.org/v3", kind, path, ""),
        tier: spanned("default".into()),
        order: None,
        selector: None,
        namespace_selector: None,
        service_account_selector: None,
        types: None,
        ingress: None,
        egress: None,
        do_not_track: false,
        pre_dnat: false,
        apply_on_forward: false,
        places: Default::default(),
    }
}

fn rule(action: Action) -> CalicoRule {
    CalicoRule {
        action,
        ip_version: None,
        protocol: None,
        not_protocol: None,
        icmp: None,
        not_icmp: None,
        source: EntityRule::default(),
        destination: EntityRule::default(),
        span: span(),
    }
}

fn from(source: EntityRule) -> CalicoRule {
    CalicoRule { source, ..rule(Action::Allow) }
}

fn to(destination: EntityRule) -> CalicoRule {
    CalicoRule { destination, ..rule(Action::Allow) }
}

fn kubernetes(path: &str) -> KubernetesPolicy {
    KubernetesPolicy {
        meta: meta("networking.k8s.io/v1", "NetworkPolicy", path, ""),
        pod_selector: LabelSelector::default(),
        policy_types: None,
        ingress: Vec::new(),
        egress: Vec::new(),
        places: Default::default(),
    }
}

fn kubernetes_rule(peers: Vec<KubernetesPeer>, ports: Vec<KubernetesPort>) -> KubernetesRule {
    KubernetesRule { peers, ports, span: span() }
}

fn match_labels(text: &str) -> LabelSelector {
    LabelSelector { match_labels: labels(text), match_expressions: Vec::new() }
}

fn peer(pods: Option<&str>, namespaces: Option<&str>) -> KubernetesPeer {
    KubernetesPeer::Pods {
        pod_selector: pods.map(match_labels),
        namespace_selector: namespaces.map(match_labels),
        span: span(),
    }
}

fn ip_block(cidr: &str, except: &str) -> KubernetesPeer {
    let cidr = spanned(cidr.parse().unwrap());
    KubernetesPeer::IpBlock { cidr, except: nets(except), span: span() }
}

/// `tcp`, `tcp/80`, `udp/10:20`, `tcp/http`.
fn kubernetes_port(text: &str) -> KubernetesPort {
    let (protocol, port) = match text.split_once('/') {
        Some((protocol, port)) => (protocol, Some(port_spec(port))),
        None => (text, None),
    };
    KubernetesPort { protocol: protocol_number(protocol), implied_protocol: false, port, span: span() }
}

impl World {
    fn new() -> Self {
        let mut world = Self::default();
        world.sources.add("policy.yaml", "         \n".repeat(50));
        world
    }

    /// `prod` and `dev` with a web and a db pod each.
    fn shop() -> Self {
        Self::new()
            .namespace("prod", "env=prod")
            .namespace("dev", "env=dev")
            .pod(pod("prod/web", "app=web", "10.0.0.1 fd00::1"))
            .pod(pod("prod/db", "app=db", "10.0.0.2 fd00::2"))
            .pod(pod("dev/web", "app=web", "10.1.0.1 fd01::1"))
            .pod(pod("dev/db", "app=db", "10.1.0.2 fd01::2"))
    }

    fn namespace(mut self, name: &str, labels: &str) -> Self {
        self.objects.namespaces.push(meta("v1", "Namespace", name, labels));
        self
    }

    fn account(mut self, path: &str, labels: &str) -> Self {
        self.objects.service_accounts.push(meta("v1", "ServiceAccount", path, labels));
        self
    }

    fn pod(mut self, pod: Pod) -> Self {
        self.objects.pods.push(pod);
        self
    }

    fn set(mut self, path: &str, labels: &str, list: &str) -> Self {
        let kind = if path.contains('/') { "NetworkSet" } else { "GlobalNetworkSet" };
        let meta = meta("projectcalico.org/v3", kind, path, labels);
        self.objects.network_sets.push(NetworkSet { meta, nets: nets(list) });
        self
    }

    fn tier(mut self, name: &str, order: Option<f64>, default_action: Action) -> Self {
        let meta = meta("projectcalico.org/v3", "Tier", name, "");
        self.objects.tiers.push(Tier { meta, order, default_action });
        self
    }

    fn calico(mut self, policy: CalicoPolicy) -> Self {
        self.objects.calico_policies.push(policy);
        self
    }

    fn kubernetes(mut self, policy: KubernetesPolicy) -> Self {
        self.objects.kubernetes_policies.push(policy);
        self
    }

    /// A Calico policy on `path` with one ingress rule and order 10.
    fn ingress(self, path: &str, rule: CalicoRule) -> Self {
        self.calico(CalicoPolicy { order: Some(10.0), ingress: Some(vec![rule]), ..calico(path) })
    }

    fn egress(self, path: &str, rule: CalicoRule) -> Self {
        self.calico(CalicoPolicy { order: Some(10.0), egress: Some(vec![rule]), ..calico(path) })
    }

    fn cluster(&self) -> (Cluster, Vec<Diagnostic>) {
        Cluster::new(&self.sources, self.objects.clone())
    }

    fn diagnostics(&self) -> Vec<(&'static str, Option<u32>)> {
        let line = |span| self.sources.position(span).line;
        self.cluster().1.into_iter().map(|d| (d.code, d.span.map(line))).collect()
    }

    fn ir(&self, endpoint: &str, direction: Direction) -> PolicyIr {
        let (namespace, name) = endpoint.split_once('/').unwrap();
        let cluster = self.cluster().0;
        let endpoint = cluster.endpoint_by_name(namespace, name).expect(name);
        let ir = cluster.resolve(endpoint, direction);
        ir::verify(&ir).unwrap();
        ir
    }

    /// What decides a packet, such as `p[0] allow`, `tier default deny` or
    /// `kns.prod allow`, after what was logged.
    fn decide(&self, endpoint: &str, direction: Direction, flow: &str) -> String {
        decide(&self.ir(endpoint, direction), flow)
    }

    /// Holds a table of flows and decisions against one endpoint and direction.
    fn check(&self, endpoint: &str, direction: Direction, cases: &[(&str, &str)]) {
        let ir = self.ir(endpoint, direction);
        for (flow, want) in cases {
            assert_eq!(decide(&ir, flow), *want, "{endpoint} {direction:?} {flow}\n{ir:#?}");
        }
    }
}

fn decide(ir: &PolicyIr, flow_text: &str) -> String {
    let outcome = ir::evaluate(ir, &flow(flow_text));
    let logged = outcome.logged.iter().map(|d| describe(ir, *d) + ", ");
    let decided = describe(ir, outcome.decision);
    assert!(decided.ends_with(outcome.verdict.as_str()), "{decided}");
    logged.collect::<String>() + &decided
}

fn describe(ir: &PolicyIr, decision: ir::Decision) -> String {
    let data = &ir.decisions[decision];
    let action = data.action.as_str();
    match data.kind {
        DecisionKind::Rule => format!("{}[{}] {action}", data.name, data.rule.unwrap()),
        DecisionKind::TierDefault => format!("tier {} {action}", data.name),
        DecisionKind::Profile => format!("{} {action}", data.name),
        DecisionKind::NoProfileMatch => format!("no profile {action}"),
        DecisionKind::Failsafe => format!("failsafe {action}"),
    }
}

/// `10.0.0.1 10.0.0.2 tcp 80`, `… udp 53>80` (source port first), `… icmp 8/0`,
/// `… 47` (a protocol without ports).
fn flow(text: &str) -> Flow {
    let words: Vec<&str> = text.split_whitespace().collect();
    let protocol = protocol_number(words[2]);
    let detail = words.get(3).copied();
    let is_icmp = matches!(protocol, 1 | 58);
    let ports = detail.filter(|_| !is_icmp).map(|text| {
        let (src, dst) = text.split_once('>').unwrap_or(("40000", text));
        (src.parse().unwrap(), dst.parse().unwrap())
    });
    let icmp = detail.filter(|_| is_icmp).map(|text| {
        let (icmp_type, code) = text.split_once('/').unwrap();
        (icmp_type.parse().unwrap(), code.parse().unwrap())
    });
    Flow { src: words[0].parse().unwrap(), dst: words[1].parse().unwrap(), protocol, ports, icmp }
}
