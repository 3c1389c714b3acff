//! Policies of the cluster's administrators, as read.

use ipnet::IpNet;

use crate::diag::Span;
use crate::ir::Action;
use crate::manifest::{LabelSelector, Meta, Spanned};

/// A kind of the policy API group.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum ClusterPolicyKind {
    /// `ClusterNetworkPolicy` (v1alpha2).
    Cluster,
    /// `AdminNetworkPolicy` (v1alpha1).
    Admin,
    /// `BaselineAdminNetworkPolicy` (v1alpha1).
    BaselineAdmin,
}

impl ClusterPolicyKind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Cluster, Self::Admin, Self::BaselineAdmin];

    /// `kind` as written.
    pub const fn kind(self) -> &'static str {
        match self {
            Self::Cluster => "ClusterNetworkPolicy",
            Self::Admin => "AdminNetworkPolicy",
            Self::BaselineAdmin => "BaselineAdminNetworkPolicy",
        }
    }

    /// The only `apiVersion` that has the kind.
    pub const fn api(self) -> &'static str {
        match self {
            Self::Cluster => "policy.networking.k8s.io/v1alpha2",
            Self::Admin | Self::BaselineAdmin => "policy.networking.k8s.io/v1alpha1",
        }
    }
}

/// The tier that a policy is evaluated in.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum ClusterTier {
    /// Tier `Admin` of a `ClusterNetworkPolicy`.
    Admin,
    /// Tier `Baseline` of a `ClusterNetworkPolicy`.
    Baseline,
    /// Every `AdminNetworkPolicy`.
    AdminV1,
    /// The `BaselineAdminNetworkPolicy`.
    BaselineV1,
}

/// A `ClusterNetworkPolicy`, `AdminNetworkPolicy` or `BaselineAdminNetworkPolicy`.
#[derive(Clone, Debug, PartialEq)]
pub struct ClusterPolicy {
    /// Metadata; there is no namespace.
    pub meta: Meta,
    /// Where the policy takes its turn.
    pub tier: ClusterTier,
    /// `spec.priority`, 0 to 1000, lower first; 0 for a
    /// `BaselineAdminNetworkPolicy`, which has none.
    pub priority: Spanned<u16>,
    /// `spec.subject`: the pods that the policy is about.
    pub subject: PodSelection,
    /// `spec.ingress`; the policy leaves ingress alone if empty.
    pub ingress: Vec<ClusterRule>,
    /// `spec.egress`; the policy leaves egress alone if empty.
    pub egress: Vec<ClusterRule>,
}

/// Pods of some namespaces, never host-networked ones.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct PodSelection {
    /// Their namespaces' labels; empty for every namespace.
    pub namespaces: LabelSelector,
    /// Their own labels; empty for every pod, as `namespaces` without `pods` has it.
    pub pods: LabelSelector,
}

/// One rule.
#[derive(Clone, Debug, PartialEq)]
pub struct ClusterRule {
    /// `action`; `Accept` and `Allow` are both [`Action::Allow`].
    pub action: Action,
    /// `name`, if the rule has one.
    pub name: Option<String>,
    /// `from` or `to`; at least one.
    pub peers: Vec<ClusterPeer>,
    /// `protocols` or `ports`; empty matches everything.
    pub ports: Vec<ClusterPort>,
    /// The rule's place.
    pub span: Span,
}

/// One peer of a rule.
#[derive(Clone, Debug, PartialEq)]
pub enum ClusterPeer {
    /// `namespaces` or `pods`.
    Pods {
        /// Who is meant.
        selection: PodSelection,
        /// The peer's place.
        span: Span,
    },
    /// `networks`: addresses, whoever has them.
    Networks {
        /// Masked CIDRs; at least one.
        nets: Vec<Spanned<IpNet>>,
        /// The peer's place.
        span: Span,
    },
    /// `nodes` or `domainNames`, which an L3/L4 data plane without node and name
    /// data cannot match: the whole rule fails closed.
    Unsupported {
        /// The peer's place.
        span: Span,
    },
}

/// One entry of a rule's `protocols` or `ports`.
#[derive(Clone, Debug, PartialEq)]
pub enum ClusterPort {
    /// An entry without a field: matches everything.
    Any {
        /// The entry's place.
        span: Span,
    },
    /// Ports of one protocol.
    Number {
        /// Protocol number.
        protocol: u8,
        /// First and last port, both included; `None` for all of the protocol's.
        range: Option<(u16, u16)>,
        /// The entry's place.
        span: Span,
    },
    /// A destination port by its name, of any protocol that the pod declares.
    Name {
        /// Name.
        name: String,
        /// The entry's place.
        span: Span,
    },
}
