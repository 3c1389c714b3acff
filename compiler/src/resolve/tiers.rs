//! Tiers: the built-in ones and those that the input declares, in order.

use std::collections::{BTreeMap, HashMap};

use crate::ir::{Action, Origin};
use crate::manifest::Tier;

/// The tier of Kubernetes policies and of Calico policies that name none.
pub(super) const DEFAULT: &str = "default";

/// Built-in tiers: name, order, what their end does.
const BUILT_IN: [(&str, f64, Action); 5] = [
    ("kube-admin", 1_000.0, Action::Pass),
    ("adminnetworkpolicy", 1_000.0, Action::Pass),
    (DEFAULT, 1_000_000.0, Action::Deny),
    ("kube-baseline", 10_000_000.0, Action::Pass),
    ("baselineadminnetworkpolicy", 10_000_000.0, Action::Pass),
];

/// A tier.
#[derive(Clone, Debug, PartialEq)]
pub struct TierData {
    /// Name.
    pub name: String,
    /// Order; infinite where none is written.
    pub order: f64,
    /// What happens to packets that no rule of the tier decided: Deny or Pass.
    pub default_action: Action,
    /// Where the tier stands; `None` for what is built in.
    pub at: Option<Origin>,
    /// Whether it is declared or built in; others sort last.
    pub known: bool,
}

/// All tiers, sorted: known ones first, then by order, then by name.
pub(super) struct Tiers {
    sorted: Vec<TierData>,
    ranks: HashMap<String, usize>,
}

impl Tiers {
    /// Built-in tiers, those declared, and those that are only used.
    pub(super) fn new<'a>(
        declared: &[Tier],
        used: impl Iterator<Item = &'a str>,
        origin: impl Fn(&Tier) -> Origin,
    ) -> Self {
        let mut tiers: BTreeMap<String, TierData> = BTreeMap::new();
        for (name, order, default_action) in BUILT_IN {
            let tier = TierData { name: name.into(), order, default_action, at: None, known: true };
            tiers.insert(name.into(), tier);
        }
        for tier in declared {
            let name = tier.meta.name.clone();
            // A built-in tier keeps its order unless the declaration gives one.
            let order = tier.order.or_else(|| tiers.get(&name).map(|t| t.order)).unwrap_or(f64::INFINITY);
            let (default_action, at) = (tier.default_action, Some(origin(tier)));
            let data = TierData { name: name.clone(), order: order + 0.0, default_action, at, known: true };
            tiers.insert(name, data);
        }
        for name in used {
            if !tiers.contains_key(name) {
                let name = name.to_owned();
                let (order, default_action) = (f64::INFINITY, Action::Deny);
                let tier = TierData { name: name.clone(), order, default_action, at: None, known: false };
                tiers.insert(name, tier);
            }
        }
        let mut tiers: Vec<TierData> = tiers.into_values().collect();
        // Stable: equal orders stay in the order of their names.
        tiers.sort_by(|a, b| b.known.cmp(&a.known).then(a.order.total_cmp(&b.order)));
        let ranks = tiers.iter().zip(0..).map(|(tier, rank)| (tier.name.clone(), rank)).collect();
        Self { sorted: tiers, ranks }
    }

    /// Position of a tier; past the end for one that was not given to [`Self::new`].
    pub(super) fn rank(&self, name: &str) -> usize {
        self.ranks.get(name).copied().unwrap_or(self.sorted.len())
    }

    /// The tier at a position.
    pub(super) fn get(&self, rank: usize) -> Option<&TierData> {
        self.sorted.get(rank)
    }

    /// All tiers in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &TierData> {
        self.sorted.iter()
    }
}
