//! The oracle: policies in order, rule by rule, straight from the objects.

use ipnet::IpNet;
use polc_compiler::ir::{Action, Direction, Family, Flow, IcmpMatch, Verdict};
use polc_compiler::manifest::{
    CalicoPolicy, CalicoRule, KubernetesPolicy, KubernetesRule, Objects, PortSpec, Spanned,
};
use polc_compiler::selector::Selector;

use crate::Answer;
use crate::matching::{Everybody, Thing, satisfies};
use crate::packets::Question;

/// Tiers that always exist: name, order, whether their end passes.
const BUILT_IN: [(&str, f64, bool); 3] =
    [("kube-admin", 1e3, true), ("default", 1e6, false), ("kube-baseline", 1e7, true)];

/// Answers questions about some manifests.
pub struct Oracle<'a> {
    objects: &'a Objects,
    everybody: Everybody<'a>,
}

/// A policy that selects the pod and governs the direction.
struct Applied<'a> {
    tier: &'a str,
    order: f64,
    tie: String,
    object: Object<'a>,
}

enum Object<'a> {
    Kubernetes(&'a KubernetesPolicy),
    Calico(&'a CalicoPolicy),
}

/// Where a tier comes; the end of it.
struct Tier {
    unknown: bool,
    order: f64,
    passes: bool,
}

impl<'a> Oracle<'a> {
    /// An oracle for some manifests.
    pub fn new(objects: &'a Objects) -> Self {
        Self { objects, everybody: Everybody::new(objects) }
    }

    /// What must come of a packet.
    pub fn answer(&self, question: &Question) -> Answer {
        let mut logged = Vec::new();
        let (verdict, decided) = self.decide(question, &mut logged);
        Answer { verdict, decided, logged }
    }

    fn decide(&self, question: &Question, logged: &mut Vec<String>) -> (Verdict, String) {
        let pod = self.everybody.pod(&question.namespace, &question.pod);
        let mut applied = self.applied(pod, question);
        applied.sort_by(|a, b| {
            let (one, other) = (self.tier(a.tier), self.tier(b.tier));
            let tiers = one.unknown.cmp(&other.unknown).then(one.order.total_cmp(&other.order));
            tiers.then(a.tier.cmp(b.tier)).then(a.order.total_cmp(&b.order)).then(a.tie.cmp(&b.tie))
        });
        let mut rest = applied.as_slice();
        while let Some(first) = rest.first() {
            let (here, later) = rest.split_at(rest.iter().take_while(|p| p.tier == first.tier).count());
            rest = later;
            let verdict = |action| if action == Action::Allow { Verdict::Allow } else { Verdict::Deny };
            match here.iter().find_map(|policy| self.first_match(policy, question, logged)) {
                Some((Action::Pass, _)) => {}
                Some((action, decided)) => return (verdict(action), decided),
                None if self.tier(first.tier).passes => {}
                None => return (Verdict::Deny, format!("tier-default {}", first.tier)),
            }
        }
        (Verdict::Allow, format!("profile kns.{}", question.namespace))
    }

    fn tier(&self, name: &str) -> Tier {
        if let Some((_, order, passes)) = BUILT_IN.iter().find(|(built_in, ..)| *built_in == name) {
            return Tier { unknown: false, order: *order, passes: *passes };
        }
        let declared = self.objects.tiers.iter().find(|tier| tier.meta.name == name);
        Tier {
            unknown: declared.is_none(),
            order: declared.and_then(|tier| tier.order).unwrap_or(f64::INFINITY),
            passes: declared.is_some_and(|tier| tier.default_action == Action::Pass),
        }
    }

    fn applied(&self, pod: &Thing<'a>, question: &Question) -> Vec<Applied<'a>> {
        let direction = question.direction;
        let mut applied = Vec::new();
        for policy in &self.objects.kubernetes_policies {
            let namespace = policy.meta.namespace.as_deref().unwrap_or_default();
            let selected = namespace == question.namespace
                && pod.pod.is_some_and(|pod| satisfies(&pod.meta.labels, &policy.pod_selector));
            if selected && kubernetes_governs(policy, direction) {
                let tie = format!("{}/{namespace}/KubernetesNetworkPolicy", policy.meta.name);
                let object = Object::Kubernetes(policy);
                applied.push(Applied { tier: "default", order: 1000.0, tie, object });
            }
        }
        for policy in &self.objects.calico_policies {
            let host_only = policy.do_not_track || policy.pre_dnat;
            if !host_only && selects(policy, pod, &question.namespace) && calico_governs(policy, direction) {
                let namespace = policy.meta.namespace.as_deref().unwrap_or_default();
                let tie = format!("{}/{namespace}/{}", policy.meta.name, policy.meta.kind);
                let order = policy.order.unwrap_or(f64::INFINITY);
                let object = Object::Calico(policy);
                applied.push(Applied { tier: &policy.tier.value, order, tie, object });
            }
        }
        applied
    }

    fn first_match(
        &self,
        policy: &Applied,
        question: &Question,
        logged: &mut Vec<String>,
    ) -> Option<(Action, String)> {
        let direction = question.direction;
        let rules: Vec<(Action, bool)> = match policy.object {
            Object::Kubernetes(policy) => {
                let rules = if direction == Direction::Ingress { &policy.ingress } else { &policy.egress };
                rules.iter().map(|rule| (Action::Allow, self.kubernetes_matches(rule, question))).collect()
            }
            Object::Calico(policy) => {
                let rules = if direction == Direction::Ingress { &policy.ingress } else { &policy.egress };
                let namespace = policy.meta.namespace.as_deref();
                let rules = rules.iter().flatten();
                rules
                    .map(|rule| (rule.action, self.calico_matches(rule, namespace, &question.flow)))
                    .collect()
            }
        };
        let meta = match policy.object {
            Object::Kubernetes(policy) => &policy.meta,
            Object::Calico(policy) => &policy.meta,
        };
        let namespace = meta.namespace.as_ref().map(|ns| format!("{ns}/")).unwrap_or_default();
        for (index, (action, matches)) in rules.into_iter().enumerate() {
            let name = format!("{} {namespace}{} {}[{index}]", meta.kind, meta.name, direction.as_str());
            match (matches, action) {
                (false, _) => {}
                (true, Action::Log) => logged.push(name),
                (true, action) => return Some((action, name)),
            }
        }
        None
    }

    fn kubernetes_matches(&self, rule: &KubernetesRule, question: &Question) -> bool {
        let flow = &question.flow;
        let remote = if question.direction == Direction::Ingress { flow.src } else { flow.dst };
        let peer = |peer| self.everybody.peer_matches(peer, &question.namespace, remote);
        let port = |port: &polc_compiler::manifest::KubernetesPort| {
            port.protocol == flow.protocol
                && match (&port.port, flow.ports) {
                    (None, _) => true,
                    (Some(_), None) => false,
                    (Some(PortSpec::Range(first, last)), Some((_, to))) => (*first..=*last).contains(&to),
                    (Some(PortSpec::Name(name)), Some((_, to))) => {
                        self.everybody.names_port(name, flow.dst, flow.protocol, to)
                    }
                }
        };
        // The empty name stands for a port that cannot exist: no packet matches.
        let impossible = rule
            .ports
            .iter()
            .any(|port| port.port.as_ref().is_some_and(|p| *p == PortSpec::Name(String::new())));
        !impossible
            && (rule.peers.is_empty() || rule.peers.iter().any(peer))
            && (rule.ports.is_empty() || rule.ports.iter().any(port))
    }

    fn calico_matches(&self, rule: &CalicoRule, namespace: Option<&str>, flow: &Flow) -> bool {
        let v4 = flow.src.is_ipv4();
        let (from, to) = flow.ports.map_or((None, None), |(from, to)| (Some(from), Some(to)));
        exists_for(rule, v4)
            && rule.protocol.as_ref().is_none_or(|p| p.value.number == flow.protocol)
            && rule.not_protocol.as_ref().is_none_or(|p| p.value.number != flow.protocol)
            && rule.icmp.as_ref().is_none_or(|icmp| is_icmp(&icmp.value, flow))
            && rule.not_icmp.as_ref().is_none_or(|icmp| !is_icmp(&icmp.value, flow))
            && self.everybody.entity_matches(&rule.source, namespace, flow.src, flow.protocol, from)
            && self.everybody.entity_matches(&rule.destination, namespace, flow.dst, flow.protocol, to)
    }
}

fn is_icmp(wanted: &IcmpMatch, flow: &Flow) -> bool {
    flow.icmp.is_some_and(|(icmp_type, code)| {
        icmp_type == wanted.icmp_type && wanted.code.is_none_or(|wanted| wanted == code)
    })
}

/// Whether a rule exists for a family at all.
fn exists_for(rule: &CalicoRule, v4: bool) -> bool {
    let version = rule.ip_version.is_none_or(|version| (version == Family::V4) == v4);
    let implied = rule.protocol.as_ref().filter(|p| p.value.by_name).is_none_or(|p| match p.value.number {
        1 => v4,
        58 => !v4,
        _ => true,
    });
    let of_family = |net: &&Spanned<IpNet>| net.value.addr().is_ipv4() == v4;
    let remains = |nets: &[Spanned<IpNet>]| nets.is_empty() || nets.iter().any(|net| of_family(&net));
    let sides = [&rule.source, &rule.destination];
    let catch_all = |side: &polc_compiler::manifest::EntityRule| {
        side.not_nets.iter().filter(of_family).any(|net| net.value.prefix_len() == 0)
    };
    let lists = sides.iter().all(|side| remains(&side.nets) && remains(&side.not_nets) && !catch_all(side));
    version && implied && lists
}

fn kubernetes_governs(policy: &KubernetesPolicy, direction: Direction) -> bool {
    match (&policy.policy_types, direction) {
        (Some(types), _) => types.contains(&direction),
        (None, Direction::Ingress) => true,
        (None, Direction::Egress) => !policy.egress.is_empty(),
    }
}

fn calico_governs(policy: &CalicoPolicy, direction: Direction) -> bool {
    if let Some(types) = &policy.types {
        return types.contains(&direction);
    }
    let ingress = policy.ingress.as_ref().is_some_and(|rules| !rules.is_empty());
    let egress = policy.egress.as_ref().is_some_and(|rules| !rules.is_empty());
    match direction {
        Direction::Ingress => ingress || !egress,
        Direction::Egress => egress,
    }
}

/// Whether a Calico policy selects a pod; `all()` is rewritten as text, as Calico
/// does it.
fn selects(policy: &CalicoPolicy, pod: &Thing, namespace: &str) -> bool {
    let rewritten = |selector: &Selector, to: &str| {
        let text = selector.to_string().replace("all()", to);
        Selector::parse(&text).expect("a rewritten selector still parses")
    };
    let global = policy.meta.namespace.is_none();
    let of_namespaces = policy.namespace_selector.as_ref().map(|s| &s.value);
    let of_accounts = policy.service_account_selector.as_ref().map(|s| &s.value);
    let own = policy.selector.as_ref().is_none_or(|selector| match (of_namespaces, of_accounts) {
        (Some(_), _) if global => pod.is(&rewritten(&selector.value, "has(projectcalico.org/namespace)")),
        (None, Some(_)) if global => {
            pod.is(&rewritten(&selector.value, "has(projectcalico.org/serviceaccount)"))
        }
        _ => pod.is(&selector.value),
    });
    let behind = |prefix: &str, selector: Option<&Selector>| {
        selector.is_none_or(|selector| match global {
            true => pod.is_behind(prefix, &rewritten(selector, "has(projectcalico.org/name)")),
            false => pod.is_behind(prefix, selector),
        })
    };
    let place = policy.meta.namespace.as_deref().is_none_or(|own| own == namespace);
    place && own && behind("pcns.", of_namespaces) && behind("pcsa.", of_accounts)
}
