//! Kubernetes and Calico objects as read from YAML, each with its place.
//!
//! These are polc's own strict types: a field that is not here is an error when
//! read. Values are checked (CIDRs parse, ports are in range, selectors parse),
//! but nothing is converted between the two APIs: that is `resolve`'s work.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;

use super::endpoints::{FelixConfiguration, HostEndpoint, Profile, WorkloadEndpoint};
use crate::diag::Span;
use crate::ir::{Action, Direction, IcmpMatch};
use crate::selector::Selector;

/// A value with the place it was read from.
#[derive(Clone, Debug, PartialEq)]
pub struct Spanned<T> {
    /// The value.
    pub value: T,
    /// Where it stands.
    pub span: Span,
}

/// Labels, sorted by key.
pub type Labels = BTreeMap<String, String>;

/// What every object has.
#[derive(Clone, Debug, PartialEq)]
pub struct Meta {
    /// `apiVersion` as written.
    pub api: String,
    /// `kind` as written.
    pub kind: String,
    /// Namespace; `None` for cluster-wide kinds, `default` where a namespaced
    /// object names none.
    pub namespace: Option<String>,
    /// Name.
    pub name: String,
    /// Labels.
    pub labels: Labels,
    /// The object's place (its `kind` line).
    pub span: Span,
}

/// Everything that was read.
#[derive(Clone, Debug, Default)]
pub struct Objects {
    /// `Namespace` objects.
    pub namespaces: Vec<Meta>,
    /// `ServiceAccount` objects.
    pub service_accounts: Vec<Meta>,
    /// `Pod` objects.
    pub pods: Vec<Pod>,
    /// `NetworkSet` and `GlobalNetworkSet` objects.
    pub network_sets: Vec<NetworkSet>,
    /// Kubernetes `NetworkPolicy` objects.
    pub kubernetes_policies: Vec<KubernetesPolicy>,
    /// Calico `NetworkPolicy` and `GlobalNetworkPolicy` objects.
    pub calico_policies: Vec<CalicoPolicy>,
    /// `ClusterNetworkPolicy`, `AdminNetworkPolicy` and `BaselineAdminNetworkPolicy`
    /// objects.
    pub cluster_policies: Vec<super::ClusterPolicy>,
    /// Calico `Tier` objects.
    pub tiers: Vec<Tier>,
    /// Calico `HostEndpoint` objects.
    pub host_endpoints: Vec<HostEndpoint>,
    /// Calico `WorkloadEndpoint` objects.
    pub workload_endpoints: Vec<WorkloadEndpoint>,
    /// Calico `Profile` objects.
    pub profiles: Vec<Profile>,
    /// Calico `FelixConfiguration` objects.
    pub felix_configurations: Vec<FelixConfiguration>,
    /// Staged policies, which are checked and not enforced.
    pub staged_policies: Vec<Meta>,
}

/// A pod, as far as policy cares.
#[derive(Clone, Debug, PartialEq)]
pub struct Pod {
    /// Metadata; the labels are the pod's own.
    pub meta: Meta,
    /// `spec.serviceAccountName`.
    pub service_account: Option<String>,
    /// `spec.hostNetwork`: such a pod is not an endpoint.
    pub host_network: bool,
    /// Phase Succeeded or Failed: the pod owns no address any more.
    pub finished: bool,
    /// Addresses: `status.podIPs`, else `status.podIP`, else Calico's annotations.
    pub ips: Vec<IpAddr>,
    /// Named container and init-container ports.
    pub ports: Vec<NamedPort>,
}

/// A named container port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedPort {
    /// Name.
    pub name: String,
    /// Protocol number.
    pub protocol: u8,
    /// Port number.
    pub port: u16,
}

/// A Calico `NetworkSet` (namespaced) or `GlobalNetworkSet`.
#[derive(Clone, Debug, PartialEq)]
pub struct NetworkSet {
    /// Metadata; `namespace` is `None` for a global set.
    pub meta: Meta,
    /// Masked CIDRs.
    pub nets: Vec<Spanned<IpNet>>,
}

/// A Calico `Tier`.
#[derive(Clone, Debug, PartialEq)]
pub struct Tier {
    /// Metadata.
    pub meta: Meta,
    /// `spec.order`; `None` sorts last.
    pub order: Option<f64>,
    /// `spec.defaultAction`: Deny (default) or Pass.
    pub default_action: Action,
}

/// A Kubernetes label selector.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct LabelSelector {
    /// `matchLabels`.
    pub match_labels: Labels,
    /// `matchExpressions`.
    pub match_expressions: Vec<LabelExpression>,
}

/// One requirement of a Kubernetes label selector.
#[derive(Clone, Debug, PartialEq)]
pub struct LabelExpression {
    /// Label key.
    pub key: String,
    /// Operator.
    pub operator: LabelOperator,
    /// Values; empty for Exists and DoesNotExist, else not.
    pub values: Vec<String>,
}

/// Operator of a [`LabelExpression`].
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum LabelOperator {
    /// The label has one of the values.
    In,
    /// The label is missing or has none of the values.
    NotIn,
    /// The label is present.
    Exists,
    /// The label is missing.
    DoesNotExist,
}

/// Where parts of a policy stand whose values carry no place of their own:
/// `None` for what is not written.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct PolicyPlaces {
    /// The value of `podSelector`.
    pub selector: Option<Span>,
    /// The value of `ingress`.
    pub ingress: Option<Span>,
    /// The value of `egress`.
    pub egress: Option<Span>,
}

/// A Kubernetes `NetworkPolicy`.
#[derive(Clone, Debug, PartialEq)]
pub struct KubernetesPolicy {
    /// Metadata; the namespace is always set.
    pub meta: Meta,
    /// `spec.podSelector`.
    pub pod_selector: LabelSelector,
    /// `spec.policyTypes` as written; `None` when missing or empty.
    pub policy_types: Option<Vec<Direction>>,
    /// `spec.ingress`.
    pub ingress: Vec<KubernetesRule>,
    /// `spec.egress`.
    pub egress: Vec<KubernetesRule>,
    /// Where its parts stand.
    pub places: PolicyPlaces,
}

/// One rule of a Kubernetes `NetworkPolicy`.
#[derive(Clone, Debug, PartialEq)]
pub struct KubernetesRule {
    /// `from` or `to`; empty matches everything.
    pub peers: Vec<KubernetesPeer>,
    /// `ports`; empty matches everything.
    pub ports: Vec<KubernetesPort>,
    /// The rule's place.
    pub span: Span,
}

/// One peer of a Kubernetes rule.
#[derive(Clone, Debug, PartialEq)]
pub enum KubernetesPeer {
    /// `podSelector` and/or `namespaceSelector`; at least one is set.
    Pods {
        /// Pods of the selected namespaces, or of the policy's own.
        pod_selector: Option<LabelSelector>,
        /// Namespaces.
        namespace_selector: Option<LabelSelector>,
        /// The peer's place.
        span: Span,
    },
    /// `ipBlock`.
    IpBlock {
        /// Masked CIDR.
        cidr: Spanned<IpNet>,
        /// Masked CIDRs cut out of it.
        except: Vec<Spanned<IpNet>>,
        /// The peer's place.
        span: Span,
    },
}

impl KubernetesPeer {
    /// The peer's place.
    pub fn span(&self) -> Span {
        match self {
            Self::Pods { span, .. } | Self::IpBlock { span, .. } => *span,
        }
    }
}

/// One entry of a Kubernetes rule's `ports`.
#[derive(Clone, Debug, PartialEq)]
pub struct KubernetesPort {
    /// Protocol number; TCP where none is written.
    pub protocol: u8,
    /// Whether the protocol is not written.
    pub implied_protocol: bool,
    /// `None`: every port of the protocol.
    pub port: Option<PortSpec>,
    /// The entry's place.
    pub span: Span,
}

/// A port as written: number, range or name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PortSpec {
    /// First and last port, both included.
    Range(u16, u16),
    /// Named port. The empty name, which no pod can have, stands for a port that
    /// cannot exist: a name with `endPort`.
    Name(String),
}

/// A Calico `NetworkPolicy` or `GlobalNetworkPolicy`.
#[derive(Clone, Debug, PartialEq)]
pub struct CalicoPolicy {
    /// Metadata; `namespace` is `None` for a `GlobalNetworkPolicy`. The name is
    /// as written (a tier prefix is kept).
    pub meta: Meta,
    /// `spec.tier`; `default` where none is written.
    pub tier: Spanned<String>,
    /// `spec.order`; `None` sorts last.
    pub order: Option<f64>,
    /// `spec.selector`; `None` is `all()`.
    pub selector: Option<Spanned<Selector>>,
    /// `spec.namespaceSelector` (global policies only).
    pub namespace_selector: Option<Spanned<Selector>>,
    /// `spec.serviceAccountSelector`.
    pub service_account_selector: Option<Spanned<Selector>>,
    /// `spec.types` as written; `None` when missing or empty.
    pub types: Option<Vec<Direction>>,
    /// `spec.ingress`; `None` when missing.
    pub ingress: Option<Vec<CalicoRule>>,
    /// `spec.egress`; `None` when missing.
    pub egress: Option<Vec<CalicoRule>>,
    /// `spec.doNotTrack`.
    pub do_not_track: bool,
    /// `spec.preDNAT`.
    pub pre_dnat: bool,
    /// `spec.applyOnForward`.
    pub apply_on_forward: bool,
    /// Where its parts stand.
    pub places: PolicyPlaces,
}

/// One rule of a Calico policy.
#[derive(Clone, Debug, PartialEq)]
pub struct CalicoRule {
    /// `action`.
    pub action: Action,
    /// `ipVersion`: 4 or 6.
    pub ip_version: Option<crate::ir::Family>,
    /// `protocol`.
    pub protocol: Option<Spanned<Protocol>>,
    /// `notProtocol`.
    pub not_protocol: Option<Spanned<Protocol>>,
    /// `icmp`: `Some` with type, or type and code.
    pub icmp: Option<Spanned<IcmpMatch>>,
    /// `notICMP`.
    pub not_icmp: Option<Spanned<IcmpMatch>>,
    /// `source`.
    pub source: EntityRule,
    /// `destination`.
    pub destination: EntityRule,
    /// The rule's place.
    pub span: Span,
}

/// A protocol as written.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Protocol {
    /// Protocol number.
    pub number: u8,
    /// Whether it was written as a name: the names ICMP and ICMPv6 imply an IP
    /// version, the numbers do not.
    pub by_name: bool,
}

/// One side of a Calico rule. Lists are `None` when missing; an empty list
/// means the same as a missing one.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct EntityRule {
    /// `selector`.
    pub selector: Option<Spanned<Selector>>,
    /// `notSelector`.
    pub not_selector: Option<Spanned<Selector>>,
    /// `namespaceSelector`.
    pub namespace_selector: Option<Spanned<Selector>>,
    /// `serviceAccounts`.
    pub service_accounts: Option<Spanned<ServiceAccountMatch>>,
    /// `nets`, masked.
    pub nets: Vec<Spanned<IpNet>>,
    /// `notNets`, masked.
    pub not_nets: Vec<Spanned<IpNet>>,
    /// `ports`.
    pub ports: Vec<Spanned<PortSpec>>,
    /// `notPorts`.
    pub not_ports: Vec<Spanned<PortSpec>>,
}

/// `serviceAccounts` of a Calico rule.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct ServiceAccountMatch {
    /// `names`; empty means any.
    pub names: Vec<String>,
    /// `selector`.
    pub selector: Option<Spanned<Selector>>,
}
