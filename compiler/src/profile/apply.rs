//! Gives the decisions of policies the hits of a profile.
//!
//! An entry belongs to a decision of the same policy and direction that has its
//! criteria, the one at the same index if there are several. An entry without
//! criteria belongs to the decision at its index if that has the same action. What
//! finds no decision in any policy is reported, not guessed at.

use std::collections::BTreeMap;

use super::{Entry, HitProfile, criteria};
use crate::ir::{Decision, Direction, PolicyIr};
use crate::passes::Profile;

/// A profile while policies are compiled.
pub struct Applied<'a> {
    entries: Vec<Use<'a>>,
    /// Indices into `entries`.
    by_owner: BTreeMap<Owner<'a>, Vec<usize>>,
}

struct Use<'a> {
    entry: &'a Entry,
    hits: u64,
    /// Whether a policy had its owner.
    met: bool,
    /// Whether a policy had its decision.
    used: bool,
}

/// An entry without a decision.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Unused<'a> {
    /// The entry.
    pub entry: &'a Entry,
    /// Its hits.
    pub hits: u64,
    /// Whether its policy is among those that were compiled: the rule has changed or
    /// is gone. Otherwise the policy is.
    pub policy_known: bool,
}

/// What has the decisions that indices count: a policy in one direction, a tier, ….
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Owner<'a> {
    kind: crate::ir::DecisionKind,
    api: &'a str,
    object: &'a str,
    namespace: Option<&'a str>,
    name: &'a str,
    direction: Direction,
}

impl<'a> Applied<'a> {
    /// A profile of which nothing is used yet.
    pub fn new(profile: &'a HitProfile) -> Self {
        let mut by_owner: BTreeMap<_, Vec<usize>> = BTreeMap::new();
        let mut entries = Vec::new();
        for (entry, hits) in profile.iter() {
            let owner = Owner {
                kind: entry.kind,
                api: &entry.api,
                object: &entry.object,
                namespace: entry.namespace.as_deref(),
                name: &entry.name,
                direction: entry.direction,
            };
            by_owner.entry(owner).or_default().push(entries.len());
            entries.push(Use { entry, hits, met: false, used: false });
        }
        Self { entries, by_owner }
    }

    /// The hits of a policy's decisions; `None` if the profile knows none of them.
    /// `ir` as resolved, before any pass.
    pub fn hits(&mut self, ir: &PolicyIr) -> Option<Profile> {
        let criteria = criteria(ir);
        let mut decisions: BTreeMap<&Owner<'_>, Vec<Decision>> = BTreeMap::new();
        for (id, data) in &ir.decisions {
            let owner = Owner {
                kind: data.kind,
                api: &data.api,
                object: &data.object,
                namespace: data.namespace.as_deref(),
                name: &data.name,
                direction: ir.direction,
            };
            if let Some((known, _)) = self.by_owner.get_key_value(&owner) {
                decisions.entry(known).or_default().push(id);
            }
        }
        let mut profile = Profile::new();
        let mut any = false;
        for (owner, decisions) in decisions {
            for at in self.by_owner.get(owner).into_iter().flatten() {
                let Use { entry, hits, met, used } = &mut self.entries[*at];
                *met = true;
                let fits = |id: &&Decision| match entry.criteria {
                    Some(_) => criteria[**id] == entry.criteria,
                    None => {
                        ir.decisions[**id].rule == entry.rule && ir.decisions[**id].action == entry.action
                    }
                };
                let fitting = || decisions.iter().filter(fits);
                let found = fitting().find(|id| ir.decisions[**id].rule == entry.rule).or(fitting().next());
                if let Some(id) = found {
                    profile[*id] = profile[*id].saturating_add(*hits);
                    *used = true;
                    any = true;
                }
            }
        }
        any.then_some(profile)
    }

    /// The entries that no policy so far has a decision for, in the file's order.
    pub fn unused(&self) -> impl Iterator<Item = Unused<'a>> {
        self.entries.iter().filter(|entry| !entry.used).map(|entry| Unused {
            entry: entry.entry,
            hits: entry.hits,
            policy_known: entry.met,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir;

    /// A policy whose rules allow these ports.
    fn policy(name: &str, ports: &[u16]) -> PolicyIr {
        let mut text = String::from("policy \"ns/pod\" ingress\n");
        let mut rules = String::new();
        for (i, port) in ports.iter().enumerate() {
            text += &format!(
                "decision{i} = rule allow tier \"default\" index {i} api \"v1\" object \"NetworkPolicy\" namespace \"ns\" name \"{name}\"\n"
            );
            rules += &format!("rule{i}: proto tcp; dport {port} -> allow decision{i}\n");
        }
        let end = ports.len();
        text += &format!("decision{end} = tier-default deny name \"default\"\n");
        text += &format!("chain0 \"default\" {{\n{rules}}} deny decision{end}\norder chain0\n");
        ir::parse(&text).unwrap()
    }

    /// Hits 10, 20, … of the policy's rules; with what they say, or without.
    fn profile(ir: &PolicyIr, with_criteria: bool) -> HitProfile {
        let criteria = criteria(ir);
        let mut profile = HitProfile::default();
        for (i, (id, data)) in ir.decisions.iter().enumerate().filter(|(_, (_, data))| data.rule.is_some()) {
            let criteria = criteria[id].filter(|_| with_criteria);
            profile.add(Entry::new(ir.direction, data, criteria), 10 * (i as u64 + 1));
        }
        profile
    }

    fn hits(applied: &mut Applied<'_>, ir: &PolicyIr) -> Vec<u64> {
        let hits = applied.hits(ir).unwrap_or_default();
        ir.decisions.iter().filter(|(_, data)| data.rule.is_some()).map(|(id, _)| hits[id]).collect()
    }

    #[test]
    fn rules_are_found_again_after_an_edit() {
        let profile = profile(&policy("web", &[80, 443, 443, 9000]), true);
        for (now, want, unused) in [
            (&[80, 443, 443, 9000][..], vec![10, 20, 30, 40], 0),
            (&[22, 80, 443, 443, 9000], vec![0, 10, 50, 0, 40], 0),
            (&[9000, 80], vec![40, 10], 2),
            (&[1, 2, 3, 4], vec![0, 0, 0, 0], 4),
        ] {
            let mut applied = Applied::new(&profile);
            assert_eq!(hits(&mut applied, &policy("web", now)), want, "{now:?}");
            assert_eq!(applied.unused().filter(|unused| unused.policy_known).count(), unused, "{now:?}");
        }
    }

    #[test]
    fn without_criteria_index_and_action_decide() {
        let web = policy("web", &[80, 443]);
        let profile = profile(&web, false);
        let mut applied = Applied::new(&profile);
        assert_eq!(hits(&mut applied, &policy("web", &[443, 80, 22])), [10, 20, 0]);
        let mut denies = web;
        let first = denies.decisions.keys().next().unwrap();
        denies.decisions[first].action = crate::ir::Action::Deny;
        let mut applied = Applied::new(&profile);
        assert_eq!(hits(&mut applied, &denies), [0, 20]);
        assert_eq!(applied.unused().map(|u| (u.hits, u.policy_known)).collect::<Vec<_>>(), [(10, true)]);
    }

    #[test]
    fn what_is_used_once_is_not_unused_and_other_policies_get_nothing() {
        let profile = profile(&policy("web", &[80]), true);
        let mut applied = Applied::new(&profile);
        assert_eq!(applied.hits(&policy("api", &[80])), None);
        assert_eq!(applied.unused().map(|unused| unused.policy_known).collect::<Vec<_>>(), [false]);
        assert!(applied.hits(&policy("web", &[80])).is_some());
        assert_eq!(applied.hits(&policy("api", &[80])), None);
        assert_eq!(applied.unused().count(), 0);
    }
}
