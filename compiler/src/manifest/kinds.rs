//! Which kinds there are, and what is done with each.

use super::calico;
use super::cluster_policy::{ClusterPolicy, ClusterPolicyKind, read_cluster_policy};
use super::endpoints::{FelixConfiguration, HostEndpoint, Profile, WorkloadEndpoint};
use super::inventory::{read_bare, read_pod};
use super::kubernetes;
use super::meta::Scope;
use super::objects::{CalicoPolicy, KubernetesPolicy, Meta, NetworkSet, Objects, Pod, Tier};
use super::reader::Reader;
use super::stored;
use super::yaml::Node;
use crate::diag::Span;

/// What an object says it is.
#[derive(Copy, Clone, Debug)]
pub(super) struct Head<'n> {
    /// `apiVersion`.
    pub api: &'n str,
    /// `kind`.
    pub kind: &'n str,
    /// Place of the kind.
    pub span: Span,
}

/// What is done with an object.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Treatment {
    /// It is read.
    Read(Known),
    /// It is a list of objects.
    List,
    /// It cannot affect policy.
    Skip,
    /// It affects policy and is not supported yet.
    Unsupported,
    /// The group has the kind, in another version.
    WrongVersion,
    /// Its group has no such kind.
    Unknown,
}

/// A kind that is read.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// v1 Namespace.
    Namespace,
    /// v1 ServiceAccount.
    ServiceAccount,
    /// v1 Pod.
    Pod,
    /// networking.k8s.io/v1 NetworkPolicy.
    KubernetesPolicy,
    /// Calico NetworkPolicy or GlobalNetworkPolicy.
    CalicoPolicy(Scope),
    /// A kind of policy.networking.k8s.io.
    ClusterPolicy(ClusterPolicyKind),
    /// Calico NetworkSet or GlobalNetworkSet.
    NetworkSet(Scope),
    /// Calico Tier.
    Tier,
    /// Calico HostEndpoint.
    HostEndpoint,
    /// Calico WorkloadEndpoint.
    WorkloadEndpoint,
    /// Calico Profile.
    Profile,
    /// Calico FelixConfiguration.
    FelixConfiguration,
    /// Calico StagedNetworkPolicy or StagedGlobalNetworkPolicy.
    StagedPolicy(Scope),
    /// Calico StagedKubernetesNetworkPolicy.
    StagedKubernetesPolicy,
}

/// An API group whose kinds are all known.
struct Group {
    names: &'static [&'static str],
    versions: &'static [&'static str],
    read: &'static [(&'static str, Known)],
    unsupported: &'static [&'static str],
    skip: &'static [&'static str],
}

const CORE: Group = Group {
    names: &[""],
    versions: &["v1"],
    read: &[("Namespace", Known::Namespace), ("ServiceAccount", Known::ServiceAccount), ("Pod", Known::Pod)],
    unsupported: &[],
    skip: &[
        "Binding",
        "ComponentStatus",
        "ConfigMap",
        "Endpoints",
        "Event",
        "LimitRange",
        "Node",
        "PersistentVolume",
        "PersistentVolumeClaim",
        "PodTemplate",
        "ReplicationController",
        "ResourceQuota",
        "Secret",
        "Service",
    ],
};

const NETWORKING: Group = Group {
    names: &["networking.k8s.io"],
    versions: &["v1"],
    read: &[("NetworkPolicy", Known::KubernetesPolicy)],
    unsupported: &[],
    skip: &["Ingress", "IngressClass", "IPAddress", "ServiceCIDR"],
};

const CALICO: Group = Group {
    names: &["projectcalico.org", "crd.projectcalico.org"],
    versions: &["v3", "v1"],
    read: &[
        ("NetworkPolicy", Known::CalicoPolicy(Scope::Namespaced)),
        ("GlobalNetworkPolicy", Known::CalicoPolicy(Scope::Cluster)),
        ("NetworkSet", Known::NetworkSet(Scope::Namespaced)),
        ("GlobalNetworkSet", Known::NetworkSet(Scope::Cluster)),
        ("Tier", Known::Tier),
        ("HostEndpoint", Known::HostEndpoint),
        ("WorkloadEndpoint", Known::WorkloadEndpoint),
        ("Profile", Known::Profile),
        ("FelixConfiguration", Known::FelixConfiguration),
        ("StagedNetworkPolicy", Known::StagedPolicy(Scope::Namespaced)),
        ("StagedGlobalNetworkPolicy", Known::StagedPolicy(Scope::Cluster)),
        ("StagedKubernetesNetworkPolicy", Known::StagedKubernetesPolicy),
    ],
    unsupported: &[],
    skip: &[
        "BGPConfiguration",
        "BGPFilter",
        "BGPPeer",
        "BlockAffinity",
        "CalicoNodeStatus",
        "ClusterInformation",
        "IPAMBlock",
        "IPAMConfig",
        "IPAMConfiguration",
        "IPAMHandle",
        "IPPool",
        "IPReservation",
        "KubeControllersConfiguration",
    ],
};

const POLICY: Group = Group {
    names: &["policy.networking.k8s.io"],
    versions: &["v1alpha1", "v1alpha2"],
    read: &[
        ("ClusterNetworkPolicy", Known::ClusterPolicy(ClusterPolicyKind::Cluster)),
        ("AdminNetworkPolicy", Known::ClusterPolicy(ClusterPolicyKind::Admin)),
        ("BaselineAdminNetworkPolicy", Known::ClusterPolicy(ClusterPolicyKind::BaselineAdmin)),
    ],
    unsupported: &[],
    skip: &[],
};

const GROUPS: [&Group; 4] = [&CORE, &NETWORKING, &CALICO, &POLICY];

/// Every kind that is read.
pub(super) fn readable_kinds() -> impl Iterator<Item = &'static str> {
    GROUPS.iter().flat_map(|g| g.read.iter().map(|(kind, _)| *kind))
}

/// Kinds of the group of `api`.
pub(super) fn kinds_of(api: &str) -> Vec<&'static str> {
    let Some(group) = group_of(api) else { return Vec::new() };
    let names = group.unsupported.iter().chain(group.skip).copied();
    group.read.iter().map(|(kind, _)| *kind).chain(names).collect()
}

/// Versions to write for a kind, wherever it exists.
pub(super) fn versions_of(kind: &str) -> Vec<&'static str> {
    [("v1", &CORE), ("networking.k8s.io/v1", &NETWORKING), ("projectcalico.org/v3", &CALICO)]
        .into_iter()
        .filter(|(_, group)| group.read.iter().any(|(k, _)| *k == kind))
        .map(|(api, _)| api)
        .chain(ClusterPolicyKind::ALL.into_iter().filter(|k| k.kind() == kind).map(ClusterPolicyKind::api))
        .collect()
}

fn group_of(api: &str) -> Option<&'static Group> {
    let name = api.split_once('/').map_or("", |(group, _)| group);
    GROUPS.into_iter().find(|group| group.names.contains(&name))
}

/// What is done with an object of this `apiVersion` and `kind`.
pub(super) fn classify(api: &str, kind: &str) -> Treatment {
    let Some(group) = group_of(api) else { return classify_foreign(kind) };
    if let Some(item) = kind.strip_suffix("List")
        && (item.is_empty() && api == "v1" || kinds_of(api).contains(&item))
    {
        return Treatment::List;
    }
    if group.unsupported.contains(&kind) {
        return Treatment::Unsupported;
    }
    if group.skip.contains(&kind) {
        return Treatment::Skip;
    }
    match group.read.iter().find(|(name, _)| *name == kind) {
        Some((_, Known::ClusterPolicy(kind))) if api != kind.api() => Treatment::WrongVersion,
        Some((_, known)) if version_fits(api, group) && stored_in(api, *known) => Treatment::Read(*known),
        Some(_) => Treatment::WrongVersion,
        None => Treatment::Unknown,
    }
}

fn version_fits(api: &str, group: &Group) -> bool {
    match api {
        "projectcalico.org/v3" | "crd.projectcalico.org/v1" => true,
        _ if group.names.len() > 1 => false,
        _ => group.versions.contains(&api.rsplit('/').next().unwrap_or(api)),
    }
}

/// Calico keeps every kind in its storage group but those that it derives from
/// Kubernetes objects.
fn stored_in(api: &str, known: Known) -> bool {
    api != stored::API || !matches!(known, Known::Profile | Known::WorkloadEndpoint)
}

/// Kinds of groups that polc does not know cannot affect the policy of the
/// groups that it does. A kind that looks like policy is refused all the same.
fn classify_foreign(kind: &str) -> Treatment {
    // Other groups have profiles of their own, which are something else.
    if readable_kinds().any(|known| known == kind && kind != "Profile") {
        Treatment::WrongVersion
    } else if kind.contains("NetworkPolicy") || kind.contains("NetworkPolicies") {
        Treatment::Unsupported
    } else if kind == "List" {
        Treatment::WrongVersion
    } else {
        Treatment::Skip
    }
}

/// An object of a known kind.
#[allow(clippy::large_enum_variant, reason = "each is moved into its list at once")]
pub(super) enum Object {
    /// v1 Namespace.
    Namespace(Meta),
    /// v1 ServiceAccount.
    ServiceAccount(Meta),
    /// v1 Pod.
    Pod(Pod),
    /// networking.k8s.io/v1 NetworkPolicy.
    KubernetesPolicy(KubernetesPolicy),
    /// Calico policy.
    CalicoPolicy(CalicoPolicy),
    /// Policy of policy.networking.k8s.io.
    ClusterPolicy(ClusterPolicy),
    /// Calico set.
    NetworkSet(NetworkSet),
    /// Calico tier.
    Tier(Tier),
    /// Calico host endpoint.
    HostEndpoint(HostEndpoint),
    /// Calico workload endpoint.
    WorkloadEndpoint(WorkloadEndpoint),
    /// Calico profile.
    Profile(Profile),
    /// Felix configuration.
    FelixConfiguration(FelixConfiguration),
    /// Staged policy, checked.
    StagedPolicy(Meta),
}

impl Object {
    /// Reads an object of a known kind.
    pub fn read(reader: &mut Reader, node: &Node<'_>, head: &Head<'_>, known: Known) -> Option<Self> {
        Some(match known {
            Known::Namespace => Self::Namespace(read_bare(reader, node, head, Scope::Cluster)?),
            Known::ServiceAccount => Self::ServiceAccount(read_bare(reader, node, head, Scope::Namespaced)?),
            Known::Pod => Self::Pod(read_pod(reader, node, head)?),
            Known::KubernetesPolicy => Self::KubernetesPolicy(kubernetes::read_policy(reader, node, head)?),
            Known::CalicoPolicy(scope) => Self::CalicoPolicy(calico::read_policy(reader, node, head, scope)?),
            Known::ClusterPolicy(kind) => Self::ClusterPolicy(read_cluster_policy(reader, node, head, kind)?),
            Known::NetworkSet(scope) => {
                Self::NetworkSet(calico::read_network_set(reader, node, head, scope)?)
            }
            Known::Tier => Self::Tier(calico::read_tier(reader, node, head)?),
            Known::HostEndpoint => Self::HostEndpoint(calico::read_host_endpoint(reader, node, head)?),
            Known::WorkloadEndpoint => {
                Self::WorkloadEndpoint(calico::read_workload_endpoint(reader, node, head)?)
            }
            Known::Profile => Self::Profile(calico::read_profile(reader, node, head)?),
            Known::FelixConfiguration => Self::FelixConfiguration(calico::read_felix(reader, node, head)?),
            Known::StagedPolicy(scope) => {
                calico::report_staged(reader, head);
                Self::StagedPolicy(calico::read_policy(reader, node, head, scope)?.meta)
            }
            Known::StagedKubernetesPolicy => {
                calico::report_staged(reader, head);
                Self::StagedPolicy(kubernetes::read_policy(reader, node, head)?.meta)
            }
        })
    }

    /// What identifies it.
    pub fn meta(&self) -> &Meta {
        match self {
            Self::Namespace(meta) | Self::ServiceAccount(meta) => meta,
            Self::Pod(pod) => &pod.meta,
            Self::KubernetesPolicy(policy) => &policy.meta,
            Self::CalicoPolicy(policy) => &policy.meta,
            Self::ClusterPolicy(policy) => &policy.meta,
            Self::NetworkSet(set) => &set.meta,
            Self::Tier(tier) => &tier.meta,
            Self::HostEndpoint(endpoint) => &endpoint.meta,
            Self::WorkloadEndpoint(endpoint) => &endpoint.meta,
            Self::Profile(profile) => &profile.meta,
            Self::FelixConfiguration(configuration) => &configuration.meta,
            Self::StagedPolicy(meta) => meta,
        }
    }

    /// Adds it to what was read.
    pub fn add_to(self, objects: &mut Objects) {
        match self {
            Self::Namespace(meta) => objects.namespaces.push(meta),
            Self::ServiceAccount(meta) => objects.service_accounts.push(meta),
            Self::Pod(pod) => objects.pods.push(pod),
            Self::KubernetesPolicy(policy) => objects.kubernetes_policies.push(policy),
            Self::CalicoPolicy(policy) => objects.calico_policies.push(policy),
            Self::ClusterPolicy(policy) => objects.cluster_policies.push(policy),
            Self::NetworkSet(set) => objects.network_sets.push(set),
            Self::Tier(tier) => objects.tiers.push(tier),
            Self::HostEndpoint(endpoint) => objects.host_endpoints.push(endpoint),
            Self::WorkloadEndpoint(endpoint) => objects.workload_endpoints.push(endpoint),
            Self::Profile(profile) => objects.profiles.push(profile),
            Self::FelixConfiguration(configuration) => objects.felix_configurations.push(configuration),
            Self::StagedPolicy(meta) => objects.staged_policies.push(meta),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn treatments() {
        use Treatment::*;
        for (api, kind, want) in [
            ("v1", "Pod", Read(Known::Pod)),
            ("v1", "List", List),
            ("v1", "PodList", List),
            ("v1", "Service", Skip),
            ("v1", "Pdo", Unknown),
            ("v1", "NetworkPolicy", Unknown),
            ("apps/v1", "Deployment", Skip),
            ("apps/v1", "Pod", WrongVersion),
            ("networking.k8s.io/v1", "NetworkPolicy", Read(Known::KubernetesPolicy)),
            ("networking.k8s.io/v1", "NetworkPolicyList", List),
            ("networking.k8s.io/v1beta1", "NetworkPolicy", WrongVersion),
            ("networking.k8s.io/v1beta1", "Ingress", Skip),
            ("networking.k8s.io/v1", "NetworkPolice", Unknown),
            ("extensions/v1beta1", "NetworkPolicy", WrongVersion),
            ("projectcalico.org/v3", "Tier", Read(Known::Tier)),
            ("projectcalico.org/v1", "Tier", WrongVersion),
            ("crd.projectcalico.org/v1", "NetworkSet", Read(Known::NetworkSet(Scope::Namespaced))),
            ("projectcalico.org/v3", "HostEndpoint", Read(Known::HostEndpoint)),
            ("crd.projectcalico.org/v1", "HostEndpoint", Read(Known::HostEndpoint)),
            ("crd.projectcalico.org/v1", "Profile", WrongVersion),
            ("crd.projectcalico.org/v1", "WorkloadEndpoint", WrongVersion),
            ("projectcalico.org/v3", "WorkloadEndpointList", List),
            ("kubeflow.org/v1", "Profile", Skip),
            ("projectcalico.org/v3", "StagedNetworkPolicy", Read(Known::StagedPolicy(Scope::Namespaced))),
            ("projectcalico.org/v3", "StagedKubernetesNetworkPolicyList", List),
            ("projectcalico.org/v3", "IPPool", Skip),
            ("projectcalico.org/v3", "Gizmo", Unknown),
            (
                "policy.networking.k8s.io/v1alpha1",
                "AdminNetworkPolicy",
                Read(Known::ClusterPolicy(ClusterPolicyKind::Admin)),
            ),
            ("policy.networking.k8s.io/v1alpha2", "AdminNetworkPolicy", WrongVersion),
            ("policy.networking.k8s.io/v1alpha1", "ClusterNetworkPolicy", WrongVersion),
            ("policy.networking.k8s.io/v1alpha2", "ClusterNetworkPolicyList", List),
            ("policy.networking.k8s.io/v1alpha1", "Foo", Unknown),
            ("cilium.io/v2", "CiliumNetworkPolicy", Unsupported),
            ("example.org/v1", "List", WrongVersion),
        ] {
            assert_eq!(classify(api, kind), want, "{api} {kind}");
        }
    }

    #[test]
    fn versions() {
        assert_eq!(versions_of("NetworkPolicy"), ["networking.k8s.io/v1", "projectcalico.org/v3"]);
        assert_eq!(versions_of("Pod"), ["v1"]);
        assert_eq!(versions_of("AdminNetworkPolicy"), ["policy.networking.k8s.io/v1alpha1"]);
        assert!(versions_of("Gizmo").is_empty());
    }
}
