//! Random policies of both APIs as YAML.

use std::collections::BTreeSet;

use crate::random::Random;
use crate::selectors;
use crate::world::{ACCOUNT_KEYS, ACCOUNTS, KEYS, NAMESPACE_KEYS, NAMESPACES, NETS, PORT_NAMES, PORTS};

/// Names that sort differently with and without what comes behind them.
const NAMES: [&str; 5] = ["a", "a-b", "a0", "b", "b-"];
const TIERS: [&str; 7] = ["default", "default", "t-a", "t-b", "t-c", "kube-admin", "kube-baseline"];

/// Draws policies; no two have the same kind, namespace and name.
pub fn draw(random: &mut Random) -> Vec<String> {
    let mut names = BTreeSet::new();
    let mut documents = Vec::new();
    for _ in 0..3 + random.below(9) {
        let name = random.pick(&NAMES).trim_end_matches('-');
        let namespace = random.pick(&NAMESPACES);
        let (key, document) = match random.below(5) {
            0 | 1 => (format!("k8s {namespace}/{name}"), kubernetes(random, name, namespace)),
            2 | 3 => (format!("np {namespace}/{name}"), calico(random, name, Some(namespace))),
            _ => (format!("gnp {name}"), calico(random, name, None)),
        };
        if names.insert(key) {
            documents.push(document);
        }
    }
    documents
}

/// `a: x` fields in braces.
fn map(fields: &[String]) -> String {
    format!("{{{}}}", fields.join(", "))
}

fn list(items: &[String]) -> String {
    format!("[{}]", items.join(", "))
}

fn kubernetes(random: &mut Random, name: &str, namespace: &str) -> String {
    let pods = if random.chance(40) { "{}".into() } else { selectors::kubernetes(random, &KEYS) };
    let mut spec = vec![format!("podSelector: {pods}")];
    if random.chance(60) {
        spec.push(format!("policyTypes: {}", types(random)));
    }
    for (field, peers) in [("ingress", "from"), ("egress", "to")] {
        if random.chance(70) {
            let rules: Vec<String> = (0..random.below(4)).map(|_| kubernetes_rule(random, peers)).collect();
            spec.push(format!("{field}: {}", list(&rules)));
        }
    }
    format!(
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: {name}, namespace: {namespace}}}\n\
         spec: {}\n",
        map(&spec)
    )
}

fn types(random: &mut Random) -> String {
    format!("[{}]", random.some(&["Ingress", "Egress"], 0, 2).join(", "))
}

fn kubernetes_rule(random: &mut Random, peers: &str) -> String {
    let mut fields = Vec::new();
    if random.chance(80) {
        let items: Vec<String> = (0..random.below(4)).map(|_| peer(random)).collect();
        fields.push(format!("{peers}: {}", list(&items)));
    }
    if random.chance(70) {
        let items: Vec<String> = (0..random.below(3)).map(|_| kubernetes_port(random)).collect();
        fields.push(format!("ports: {}", list(&items)));
    }
    map(&fields)
}

fn peer(random: &mut Random) -> String {
    match random.below(5) {
        0 => format!("{{podSelector: {}}}", selectors::kubernetes(random, &KEYS)),
        1 => format!("{{namespaceSelector: {}}}", namespaces(random)),
        2 => {
            let pods = selectors::kubernetes(random, &KEYS);
            format!("{{podSelector: {pods}, namespaceSelector: {}}}", namespaces(random))
        }
        3 => format!("{{ipBlock: {{cidr: '{}'}}}}", random.pick(&NETS)),
        _ => {
            let (cidr, except) = random.pick(&[
                ("10.0.0.0/24", "'10.0.0.0/30'"),
                ("10.0.0.0/8", "'10.0.0.3/32', '10.0.1.0/25'"),
                ("0.0.0.0/0", "'10.0.0.0/24'"),
                ("fd00::/64", "'fd00::2/127'"),
                ("::/0", "'fd00::/64', '2001:db8::/32'"),
            ]);
            format!("{{ipBlock: {{cidr: '{cidr}', except: [{except}]}}}}")
        }
    }
}

fn namespaces(random: &mut Random) -> String {
    match random.below(4) {
        0 => format!("{{matchLabels: {{kubernetes.io/metadata.name: {}}}}}", random.pick(&NAMESPACES)),
        _ => selectors::kubernetes(random, &NAMESPACE_KEYS),
    }
}

fn kubernetes_port(random: &mut Random) -> String {
    let protocol = random.pick(&["", "protocol: TCP", "protocol: UDP", "protocol: SCTP"]);
    let port = match random.below(8) {
        0 => String::new(),
        1 => format!("port: {}", random.pick(&PORT_NAMES)),
        2 => "port: http, endPort: 90".into(),
        3 => "port: 50, endPort: 80".into(),
        4 => "port: 8080, endPort: 65535".into(),
        _ => format!("port: {}", random.pick(&PORTS)),
    };
    map(&[protocol.to_string(), port].into_iter().filter(|f| !f.is_empty()).collect::<Vec<_>>())
}

fn calico(random: &mut Random, name: &str, namespace: Option<&str>) -> String {
    let tier = random.pick(&TIERS);
    let mut spec = vec![format!("tier: {tier}")];
    if random.chance(70) {
        spec.push(format!("order: {}", random.pick(&["1", "5", "1000", "5.5", "-1"])));
    }
    if random.chance(50) {
        spec.push(format!("selector: {}", selectors::calico(random, &KEYS)));
    }
    if random.chance(15) {
        spec.push(format!("serviceAccountSelector: {}", selectors::calico(random, &ACCOUNT_KEYS)));
    }
    if namespace.is_none() && random.chance(30) {
        spec.push(format!("namespaceSelector: {}", selectors::calico(random, &NAMESPACE_KEYS)));
    }
    if random.chance(50) {
        spec.push(format!("types: {}", types(random)));
    }
    for field in ["ingress", "egress"] {
        if random.chance(70) {
            let rules: Vec<String> = (0..random.below(5)).map(|_| rule(random)).collect();
            spec.push(format!("{field}: {}", list(&rules)));
        }
    }
    let (kind, place) = match namespace {
        Some(namespace) => ("NetworkPolicy", format!(", namespace: {namespace}")),
        None => ("GlobalNetworkPolicy", String::new()),
    };
    let prefix = if *tier == "default" { String::new() } else { format!("{tier}.") };
    format!(
        "apiVersion: projectcalico.org/v3\nkind: {kind}\nmetadata: {{name: {prefix}{name}{place}}}\nspec: {}\n",
        map(&spec)
    )
}

fn rule(random: &mut Random) -> String {
    let mut fields = vec![format!(
        "action: {}",
        random.pick(&["Allow", "Allow", "Allow", "Deny", "Deny", "Deny", "Pass", "Log"])
    )];
    let with_ports = random.chance(60);
    let numbers = with_ports && random.chance(70);
    let mut version = "";
    if numbers {
        fields.push(format!("protocol: {}", random.pick(&["TCP", "UDP", "SCTP", "6", "17", "'132'"])));
    } else if !with_ports {
        version = protocol(random, &mut fields);
    }
    for side in ["source", "destination"] {
        if random.chance(65) {
            let ports = with_ports && random.chance(60);
            let entity = entity(random, ports, numbers, version);
            fields.push(format!("{side}: {entity}"));
        }
    }
    map(&fields)
}

/// Adds criteria about protocol, ICMP and IP version; returns the version.
fn protocol(random: &mut Random, fields: &mut Vec<String>) -> &'static str {
    match random.below(12) {
        0 => fields.push("protocol: ICMP, icmp: {type: 8}".into()),
        1 => fields.push("protocol: ICMPv6, icmp: {type: 128, code: 0}".into()),
        2 => fields.push(format!("protocol: {}", random.pick(&["1", "58", "47", "UDPLite"]))),
        3 => fields.push(format!("protocol: {}", random.pick(&["ICMP", "ICMPv6", "TCP"]))),
        4 => fields.push(format!("notProtocol: {}", random.pick(&["ICMP", "TCP", "17", "ICMPv6"]))),
        5 => fields.push(format!("notICMP: {}", random.pick(&["{type: 8}", "{type: 128, code: 0}"]))),
        6 => fields.push("protocol: 1, icmp: {type: 8, code: 1}".into()),
        7 => {
            fields.push("ipVersion: 4".into());
            return "4";
        }
        8 => {
            fields.push("ipVersion: 6".into());
            return "6";
        }
        _ => {}
    }
    ""
}

fn entity(random: &mut Random, ports: bool, numbers: bool, version: &str) -> String {
    let mut fields = Vec::new();
    for field in ["selector", "notSelector"] {
        if random.chance(25) {
            fields.push(format!("{field}: {}", selectors::calico(random, &KEYS)));
        }
    }
    if random.chance(20) {
        fields.push(format!("namespaceSelector: {}", selectors::of_namespaces(random, &NAMESPACE_KEYS)));
    }
    if random.chance(10) {
        fields.push(format!("serviceAccounts: {}", accounts(random)));
    }
    let nets: Vec<&str> = NETS.into_iter().filter(|net| fits(net, version)).collect();
    for (field, percent) in [("nets", 25), ("notNets", 15)] {
        if random.chance(percent) {
            fields.push(format!("{field}: ['{}']", random.some(&nets, 1, 3).join("', '")));
        }
    }
    if ports {
        for (field, percent) in [("ports", 70), ("notPorts", 30)] {
            if random.chance(percent) {
                let items: Vec<String> =
                    (0..1 + random.below(3)).map(|_| calico_port(random, numbers)).collect();
                fields.push(format!("{field}: {}", list(&items)));
            }
        }
    }
    map(&fields)
}

fn fits(net: &str, version: &str) -> bool {
    version.is_empty() || net.contains(':') == (version == "6")
}

fn accounts(random: &mut Random) -> String {
    let mut fields = Vec::new();
    if random.chance(60) {
        fields.push(format!("names: [{}]", random.some(&ACCOUNTS, 0, 2).join(", ")));
    }
    if random.chance(50) {
        fields.push(format!("selector: {}", selectors::calico(random, &ACCOUNT_KEYS)));
    }
    map(&fields)
}

fn calico_port(random: &mut Random, numbers: bool) -> String {
    match random.below(3) {
        0 if numbers => random.pick(&PORTS).to_string(),
        1 if numbers => (*random.pick(&["1:65535", "50:80", "80:8080", "443:443"])).into(),
        _ => (*random.pick(&PORT_NAMES)).into(),
    }
}
