//! A digest of what a decision's rules say, by which the decision is found again
//! after its policy was edited.
//!
//! What: the 64-bit FNV-1a hash of the rules' matches and actions, sets by name:
//! selectors and CIDRs as the user wrote them, never their members, so that the
//! digest is the same at every endpoint and while pods come and go. A named port
//! stands for the numbers that it has in the cluster: one more is another digest.
//!
//! Two rules with one digest are taken for each other at worst in the order of
//! tests.

use std::fmt;

use cranelift_entity::SecondaryMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::ir::{Decision, Match, PolicyIr, PortMatch, SideMatch};

/// A digest; 16 hexadecimal digits in a file.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Criteria(pub u64);

/// The digest of every decision that has rules, of an IR before any pass.
/// O(criteria).
pub fn criteria(ir: &PolicyIr) -> SecondaryMap<Decision, Option<Criteria>> {
    let mut texts: SecondaryMap<Decision, Vec<String>> = SecondaryMap::new();
    for rule in ir.order.iter().flat_map(|chain| &ir.chains[*chain].rules) {
        let data = &ir.rules[*rule];
        texts[data.decision].push(format!("{} {}", data.action.as_str(), text(ir, &data.matches)));
    }
    let mut digests = SecondaryMap::new();
    for decision in ir.decisions.keys() {
        let texts = &mut texts[decision];
        // In any order: the rules of one decision may change places.
        texts.sort_unstable();
        digests[decision] = (!texts.is_empty()).then(|| Criteria(fnv1a(&texts.join("\n"))));
    }
    digests
}

fn text(ir: &PolicyIr, m: &Match) -> String {
    let Match { family, protocol, not_protocol, icmp, not_icmp, src, dst } = m;
    format!(
        "{family:?} {protocol:?} {not_protocol:?} {icmp:?} {not_icmp:?} {} {}",
        side(ir, src),
        side(ir, dst)
    )
}

fn side(ir: &PolicyIr, side: &SideMatch) -> String {
    let sets =
        |sets: &[crate::ir::AddrSet]| sets.iter().map(|set| ir.sets[*set].name.as_str()).collect::<Vec<_>>();
    let ports = |ports: &[PortMatch]| {
        let one = |port: &PortMatch| match *port {
            PortMatch::Range(first, last) => format!("{first}-{last}"),
            PortMatch::Named { set, .. } => ir.sets[set].name.clone(),
        };
        ports.iter().map(one).collect::<Vec<_>>()
    };
    format!(
        "{:?} {:?} {:?} {:?}",
        sets(&side.in_sets),
        sets(&side.not_in),
        side.ports.as_deref().map(ports),
        ports(&side.not_ports)
    )
}

fn fnv1a(text: &str) -> u64 {
    text.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

impl fmt::Display for Criteria {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl Serialize for Criteria {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Criteria {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let digits =
            text.len() == 16 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        match u64::from_str_radix(&text, 16) {
            Ok(digest) if digits => Ok(Self(digest)),
            _ => Err(serde::de::Error::custom(format!(
                "expected criteria as 16 hexadecimal digits (0-9, a-f) and found {text:?}"
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir;

    fn digest(rules: &str, sets: &str) -> Option<Criteria> {
        let text = format!(
            r#"
            policy "p" ingress
            {sets}
            decision0 = rule allow index 0 name "p"
            decision1 = tier-default deny name "t"
            chain0 "t" {{
              {rules}
            }} deny decision1
            order chain0"#
        );
        let ir = ir::parse(&text).unwrap();
        assert_eq!(criteria(&ir)[ir.decisions.keys().nth(1).unwrap()], None);
        criteria(&ir)[ir.decisions.keys().next().unwrap()]
    }

    #[test]
    fn digests_tell_what_rules_say_and_not_who_is_a_member() {
        let sets = "set0 = members \"all()\" { }\n set1 = nets \"10.0.0.0/8\" { 10.0.0.0/8 }";
        let a = "rule0: src in set0; dport 80 -> allow decision0";
        let b = "rule1: src in set1; dport 80 -> allow decision0";
        let digest_a = digest(a, sets);
        assert!(digest_a.is_some());
        assert_eq!(digest_a, digest(a, "set0 = members \"all()\" { 10.0.0.1/32 }"));
        assert_eq!(
            digest_a,
            digest(
                "rule0: src in set1; dport 80 -> allow decision0",
                "set0 = members \"x\" { }\n set1 = members \"all()\" { }"
            )
        );
        assert_ne!(digest_a, digest(a, "set0 = members \"app == 'a'\" { }"));
        assert_ne!(digest_a, digest(&a.replace("80", "81"), sets));
        assert_ne!(digest_a, digest(&a.replace("allow d", "deny d"), sets));
        assert_ne!(digest_a, digest(&a.replace("src", "dst"), sets));
        let swapped = (b.replace("rule1", "rule0"), a.replace("rule0", "rule1"));
        assert_eq!(
            digest(&format!("{a}\n{b}"), sets),
            digest(&format!("{}\n{}", swapped.0, swapped.1), sets)
        );
        assert_ne!(digest(&format!("{a}\n{b}"), sets), digest_a);
    }

    #[test]
    fn the_hash_is_the_published_one() {
        assert_eq!(fnv1a(""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a("foobar"), 0x8594_4171_f739_67e8);
    }
}
