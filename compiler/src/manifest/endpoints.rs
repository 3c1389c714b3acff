//! Calico's endpoints, profiles and Felix configuration as read from YAML.

use std::net::IpAddr;

use ipnet::IpNet;

use super::objects::{CalicoRule, Labels, Meta, NamedPort, Spanned};

/// A Calico `HostEndpoint`: an interface of a node.
#[derive(Clone, Debug, PartialEq)]
pub struct HostEndpoint {
    /// Metadata; cluster-wide.
    pub meta: Meta,
    /// `spec.node`.
    pub node: String,
    /// `spec.interfaceName`; `*` stands for all interfaces of the node.
    pub interface: Option<String>,
    /// `spec.expectedIPs`.
    pub expected_ips: Vec<IpAddr>,
    /// `spec.profiles`, in order.
    pub profiles: Vec<Spanned<String>>,
    /// `spec.ports`.
    pub ports: Vec<NamedPort>,
}

/// A Calico `WorkloadEndpoint`.
#[derive(Clone, Debug, PartialEq)]
pub struct WorkloadEndpoint {
    /// Metadata; the namespace is always set.
    pub meta: Meta,
    /// `spec.orchestrator`; empty where none is written.
    pub orchestrator: String,
    /// `spec.pod`: the pod in the same namespace that this is the network of.
    pub pod: Option<String>,
    /// `spec.serviceAccountName`.
    pub service_account: Option<String>,
    /// `spec.ipNetworks`: single addresses.
    pub ips: Vec<IpAddr>,
    /// `spec.profiles`, in order.
    pub profiles: Vec<Spanned<String>>,
    /// Those of `spec.ports` that have a name.
    pub ports: Vec<NamedPort>,
}

/// A Calico `Profile`.
#[derive(Clone, Debug, PartialEq)]
pub struct Profile {
    /// Metadata; cluster-wide.
    pub meta: Meta,
    /// `spec.ingress`.
    pub ingress: Vec<CalicoRule>,
    /// `spec.egress`.
    pub egress: Vec<CalicoRule>,
    /// `spec.labelsToApply`: what endpoints of this profile inherit.
    pub labels: Labels,
}

/// What bears on policy in a Calico `FelixConfiguration`.
#[derive(Clone, Debug, PartialEq)]
pub struct FelixConfiguration {
    /// Metadata; the name is `default` or `node.` and a node's name.
    pub meta: Meta,
    /// `spec.failsafeInboundHostPorts`; `None` where it is not written.
    pub failsafe_inbound: Option<Vec<Spanned<FailsafePort>>>,
    /// `spec.failsafeOutboundHostPorts`; `None` where it is not written.
    pub failsafe_outbound: Option<Vec<Spanned<FailsafePort>>>,
}

/// A port of host endpoints that no policy can close.
#[derive(Clone, Debug, PartialEq)]
pub struct FailsafePort {
    /// Protocol number: TCP, UDP or SCTP.
    pub protocol: u8,
    /// Destination port.
    pub port: u16,
    /// Only towards or from these addresses, masked; `None`: any.
    pub net: Option<IpNet>,
}
