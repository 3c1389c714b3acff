//! Profiles: those of the input, and those that Calico derives from Kubernetes.
//!
//! A namespace gives its endpoints the profile `kns.<namespace>`, which allows
//! everything; a service account gives `ksa.<namespace>.<name>`, which has no
//! rules. Both hand labels down. A Profile of the input takes the place of a
//! derived one of its name. A profile that does not exist denies
//! (projectcalico/calico `libcalico-go/lib/backend/k8s/conversion/conversion.go`,
//! `felix/calc/active_rules_calculator.go`).

use std::collections::{HashMap, HashSet};

use super::calico;
use super::policy::{Context, PolicyRule};
use crate::ir::{Action, Direction};
use crate::manifest::{Meta, Objects, Profile};

/// The profile that always exists and allows everything.
pub(super) const DEFAULT_ALLOW: &str = "projectcalico-default-allow";

const NAMESPACE_PREFIX: &str = "kns.";
const ACCOUNT_PREFIX: &str = "ksa.";

/// The name of a namespace's profile.
pub(super) fn of_namespace(namespace: &str) -> String {
    format!("{NAMESPACE_PREFIX}{namespace}")
}

/// The name of a service account's profile.
pub(super) fn of_account(namespace: &str, account: &str) -> String {
    format!("{ACCOUNT_PREFIX}{namespace}.{account}")
}

/// What a profile's name stands for.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Known<'a> {
    /// A Profile of the input, by its index.
    Explicit(usize),
    /// [`DEFAULT_ALLOW`].
    DefaultAllow,
    /// A namespace's.
    Namespace(&'a str),
    /// A service account's: namespace and name.
    Account(&'a str, &'a str),
    /// Nothing.
    Missing,
}

/// Which profiles there are.
pub(super) struct Names<'a> {
    explicit: HashMap<&'a str, usize>,
    namespaces: HashSet<&'a str>,
    accounts: HashSet<(&'a str, &'a str)>,
}

impl<'a> Names<'a> {
    /// Those of the input, and of every namespace and service account that is
    /// declared or used.
    pub(super) fn new(objects: &'a Objects) -> Self {
        let explicit = objects.profiles.iter().enumerate().map(|(i, p)| (p.meta.name.as_str(), i));
        let namespace = |meta: &'a Meta| meta.namespace.as_deref();
        let declared = objects.namespaces.iter().map(|meta| meta.name.as_str());
        let pods = objects.pods.iter().map(|pod| &pod.meta);
        let workloads = objects.workload_endpoints.iter().map(|endpoint| &endpoint.meta);
        let sets = objects.network_sets.iter().map(|set| &set.meta);
        let policies = objects.kubernetes_policies.iter().map(|policy| &policy.meta);
        let policies = policies.chain(objects.calico_policies.iter().map(|policy| &policy.meta));
        let used = pods.chain(workloads).chain(sets).chain(policies).chain(&objects.service_accounts);
        let accounts =
            objects.service_accounts.iter().filter_map(|meta| Some((namespace(meta)?, meta.name.as_str())));
        let of_pods =
            objects.pods.iter().filter_map(|p| Some((namespace(&p.meta)?, p.service_account.as_deref()?)));
        let of_workloads = objects
            .workload_endpoints
            .iter()
            .filter_map(|w| Some((namespace(&w.meta)?, w.service_account.as_deref()?)));
        Self {
            explicit: explicit.collect(),
            namespaces: declared.chain(used.filter_map(namespace)).collect(),
            accounts: accounts.chain(of_pods).chain(of_workloads).collect(),
        }
    }

    /// What a name stands for.
    pub(super) fn get<'n>(&self, name: &'n str) -> Known<'n> {
        if name == DEFAULT_ALLOW {
            return Known::DefaultAllow;
        }
        if let Some(index) = self.explicit.get(name) {
            return Known::Explicit(*index);
        }
        if let Some(namespace) = name.strip_prefix(NAMESPACE_PREFIX)
            && self.namespaces.contains(namespace)
        {
            return Known::Namespace(namespace);
        }
        if let Some((namespace, account)) = name.strip_prefix(ACCOUNT_PREFIX).and_then(|n| n.split_once('.'))
            && self.accounts.contains(&(namespace, account))
        {
            return Known::Account(namespace, account);
        }
        Known::Missing
    }
}

/// What a profile says about packets of one direction.
pub(super) enum Verdicts<'a> {
    /// The rules of a Profile of the input; Pass acts as Deny.
    Rules(&'a Meta, &'a [PolicyRule]),
    /// One thing about every packet.
    Always(Action),
}

/// A Profile of the input.
struct ProfileData {
    meta: Meta,
    rules: [Vec<PolicyRule>; 2],
}

/// The rules of all profiles by name.
pub(super) struct Profiles {
    explicit: HashMap<String, ProfileData>,
    /// Derived profiles that have no rules.
    empty: HashSet<String>,
    /// Names that an endpoint lists and that stand for nothing.
    missing: HashSet<String>,
}

impl Profiles {
    /// Converts the rules. `listed` are the names that endpoints list; those of
    /// pods always exist and need not be among them.
    pub(super) fn new<'a>(
        objects: &Objects,
        names: &Names<'_>,
        listed: impl Iterator<Item = &'a str>,
        context: &mut Context<'_>,
    ) -> Self {
        let (mut empty, mut missing) = (HashSet::new(), HashSet::new());
        for name in listed {
            match names.get(name) {
                Known::Missing => missing.insert(name.to_owned()),
                Known::Account(..) => empty.insert(name.to_owned()),
                _ => false,
            };
        }
        let explicit = objects.profiles.iter().filter(|profile| profile.meta.name != DEFAULT_ALLOW);
        let explicit = explicit.map(|p| (p.meta.name.clone(), convert(p, context))).collect();
        Self { explicit, empty, missing }
    }

    /// What the profile of a name says.
    pub(super) fn verdicts(&self, name: &str, direction: Direction) -> Verdicts<'_> {
        match self.explicit.get(name) {
            Some(data) => Verdicts::Rules(&data.meta, &data.rules[direction as usize]),
            None if self.missing.contains(name) => Verdicts::Always(Action::Deny),
            None if self.empty.contains(name) => Verdicts::Always(Action::Pass),
            None => Verdicts::Always(Action::Allow),
        }
    }
}

fn convert(profile: &Profile, context: &mut Context<'_>) -> ProfileData {
    let mut rules = |rules: &[_]| {
        let specs = rules.iter().zip(0..).map(|(rule, index)| calico::spec(None, rule, index)).collect();
        context.rules(specs)
    };
    ProfileData { rules: [rules(&profile.ingress), rules(&profile.egress)], meta: profile.meta.clone() }
}
