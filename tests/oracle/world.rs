//! Random clusters: namespaces, pods, service accounts, sets and tiers as YAML.

use crate::policies;
use crate::random::Random;

/// A case as text.
pub struct World {
    /// What repeats it.
    pub seed: u64,
    /// YAML documents, each ending with a line break.
    pub documents: Vec<String>,
}

/// Namespaces; the last one is never declared.
pub const NAMESPACES: [&str; 3] = ["na", "nb", "nc"];
/// Label keys of pods and sets.
pub const KEYS: [&str; 3] = ["lapp", "lrole", "lstage"];
/// Label values.
pub const VALUES: [&str; 4] = ["vred", "vblue", "vreddish", ""];
/// Label keys of namespaces.
pub const NAMESPACE_KEYS: [&str; 2] = ["nteam", "nzone"];
/// Label keys of service accounts.
pub const ACCOUNT_KEYS: [&str; 1] = ["alevel"];
/// Service accounts.
pub const ACCOUNTS: [&str; 2] = ["guard", "robot"];
/// Port names.
pub const PORT_NAMES: [&str; 3] = ["http", "dns", "nobody"];
/// Port numbers.
pub const PORTS: [u16; 6] = [1, 53, 80, 443, 8080, 65535];
/// CIDRs, some within others and some with pods inside.
pub const NETS: [&str; 14] = [
    "10.0.0.0/24",
    "10.0.0.0/30",
    "10.0.0.2/31",
    "10.0.0.3/32",
    "10.0.1.0/25",
    "10.0.0.0/8",
    "192.0.2.0/24",
    "192.0.2.128/25",
    "0.0.0.0/0",
    "fd00::/64",
    "fd00::2/127",
    "fd00::3/128",
    "2001:db8::/32",
    "::/0",
];

/// Draws a case.
pub fn draw(random: &mut Random, seed: u64) -> World {
    let mut documents = namespaces(random);
    documents.extend(accounts(random));
    let pods = 2 + random.below(5);
    documents.extend((0..pods).map(|number| pod(random, number)));
    documents.extend((0..random.below(4)).map(|number| set(random, number)));
    let tiers = random.some(&["t-a", "t-b", "t-c"], 0, 3);
    documents.extend(tiers.iter().map(|name| tier(random, name)));
    documents.extend(policies::draw(random));
    World { seed, documents }
}

fn namespaces(random: &mut Random) -> Vec<String> {
    let declared = &NAMESPACES[..1 + random.below(2)];
    let document = |name: &&str| {
        let labels = labels(random, &NAMESPACE_KEYS);
        format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}, labels: {labels}}}\n")
    };
    declared.iter().map(document).collect()
}

fn accounts(random: &mut Random) -> Vec<String> {
    let mut documents = Vec::new();
    for namespace in NAMESPACES {
        for name in random.some(&ACCOUNTS, 0, 1) {
            let labels = labels(random, &ACCOUNT_KEYS);
            let head = "apiVersion: v1\nkind: ServiceAccount\n";
            documents.push(format!(
                "{head}metadata: {{name: {name}, namespace: {namespace}, labels: {labels}}}\n"
            ));
        }
    }
    documents
}

fn labels(random: &mut Random, keys: &[&str]) -> String {
    let mut pairs: Vec<String> = Vec::new();
    for key in random.some(keys, 0, keys.len()) {
        pairs.push(format!("{key}: '{}'", random.pick(&VALUES)));
    }
    format!("{{{}}}", pairs.join(", "))
}

/// Pod `number` has the addresses 10.0.0.`number` and fd00::`number`, or one of them.
fn pod(random: &mut Random, number: usize) -> String {
    let namespace = random.pick(&NAMESPACES);
    let labels = labels(random, &KEYS);
    let mut spec = vec![format!("containers: [{{name: c, ports: [{}]}}]", container_ports(random))];
    if random.chance(40) {
        spec.push(format!("serviceAccountName: {}", random.pick(&ACCOUNTS)));
    }
    if random.chance(5) {
        spec.push("hostNetwork: true".into());
    }
    let mut ips = vec![format!("{{ip: 10.0.0.{number}}}"), format!("{{ip: 'fd00::{number}'}}")];
    random.shuffle(&mut ips);
    ips.truncate(if random.chance(20) { 1 } else { 2 });
    let phase = if random.chance(5) { "Succeeded" } else { "Running" };
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: p{number}, namespace: {namespace}, labels: {labels}}}\n\
         spec: {{{}}}\nstatus: {{phase: {phase}, podIPs: [{}]}}\n",
        spec.join(", "),
        ips.join(", ")
    )
}

fn container_ports(random: &mut Random) -> String {
    let port = |random: &mut Random| {
        let (name, number) = (random.pick(&PORT_NAMES[..2]), random.pick(&PORTS));
        let protocol = random.pick(&["", ", protocol: UDP", ", protocol: SCTP", ", protocol: TCP"]);
        format!("{{name: {name}, containerPort: {number}{protocol}}}")
    };
    let ports: Vec<String> = (0..random.below(4)).map(|_| port(random)).collect();
    ports.join(", ")
}

fn set(random: &mut Random, number: usize) -> String {
    let (labels, nets) = (labels(random, &KEYS), random.some(&NETS, 1, 3).join("', '"));
    let (kind, namespace) = match random.chance(50) {
        true => ("NetworkSet", format!(", namespace: {}", random.pick(&NAMESPACES))),
        false => ("GlobalNetworkSet", String::new()),
    };
    format!(
        "apiVersion: projectcalico.org/v3\nkind: {kind}\nmetadata: {{name: s{number}{namespace}, labels: {labels}}}\n\
         spec: {{nets: ['{nets}']}}\n"
    )
}

fn tier(random: &mut Random, name: &str) -> String {
    let order = random.pick(&["", "order: 10", "order: 20", "order: 2000000"]);
    let action = random.pick(&["", "defaultAction: Pass", "defaultAction: Deny"]);
    let comma = if order.is_empty() || action.is_empty() { "" } else { ", " };
    format!(
        "apiVersion: projectcalico.org/v3\nkind: Tier\nmetadata: {{name: {name}}}\nspec: {{{order}{comma}{action}}}\n"
    )
}
