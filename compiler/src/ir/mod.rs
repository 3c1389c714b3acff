//! The typed policy IR: what one endpoint's policy says in one direction.
//!
//! A [`PolicyIr`] is a list of chains (tiers, then profiles). A chain is a list
//! of rules, first match decides: `Allow` and `Deny` end the evaluation, `Pass`
//! goes to the next chain, `Log` goes on with the next rule. A chain whose
//! rules are exhausted ends as its [`ChainEnd`] says.
//!
//! Every entity is a `u32` newtype that prints as it stands in the textual form.
//! Creation order is not match order: see [`ChainData::rules`] and
//! [`PolicyIr::order`].

mod criterion;
mod cursor;
mod evaluate;
pub mod generate;
mod parse;
mod print;
pub mod protocol;
mod verify;

pub use criterion::{Criterion, first_failed};
pub use evaluate::{credited, evaluate, matches};
pub use parse::{ParseError, parse};
pub use verify::{Entity, VerifyError, VerifyErrors, Violation, verify};

use std::net::IpAddr;

use cranelift_entity::{PrimaryMap, entity_impl};
use ipnet::IpNet;

/// A source file that rules lead back to; its data is the name.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct File(u32);
entity_impl!(File, "file");

/// A set of addresses.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AddrSet(u32);
entity_impl!(AddrSet, "set");

/// What may decide a packet: a rule as the user wrote it, a tier's end, ….
/// Several IR rules may share one decision.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Decision(u32);
entity_impl!(Decision, "decision");

/// One match/action rule.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rule(u32);
entity_impl!(Rule, "rule");

/// A tier, or the profiles.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Chain(u32);
entity_impl!(Chain, "chain");

/// The direction that a policy governs, seen from the endpoint.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// Towards the endpoint: the destination is local.
    Ingress,
    /// From the endpoint: the source is local.
    Egress,
}

impl Direction {
    /// `ingress` or `egress`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
        }
    }
}

/// Internet protocol version.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// What a matching rule does.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// The packet passes; evaluation ends.
    Allow,
    /// The packet is dropped; evaluation ends.
    Deny,
    /// Evaluation goes on with the next chain.
    Pass,
    /// The match is recorded; evaluation goes on with the next rule.
    Log,
}

impl Action {
    /// `allow`, `deny`, `pass` or `log`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::Pass => "pass",
            Self::Log => "log",
        }
    }
}

/// The end of an evaluation.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// The packet passes.
    Allow,
    /// The packet is dropped.
    Deny,
}

impl Verdict {
    /// `allow` or `deny`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
        }
    }
}

/// Where in the user's files something stands; line and column from 1.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin {
    /// The file.
    pub file: File,
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
}

/// Where a set's members come from. Passes may look at the members of
/// [`SetKind::Nets`] only: those of [`SetKind::Members`] are data, which changes
/// without the policy being compiled again.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SetKind {
    /// CIDRs that the policy itself lists.
    Nets,
    /// Addresses of the endpoints and network sets that a selector matches now.
    Members,
}

/// A set of addresses. Two sets with equal members may still be different sets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddrSetData {
    /// Where the members come from.
    pub kind: SetKind,
    /// What identifies the set: the canonical selector expression, or the CIDRs.
    pub name: String,
    /// Masked prefixes, sorted, without duplicates; a host is a /32 or /128.
    pub nets: Vec<IpNet>,
}

/// What kind of thing decided.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DecisionKind {
    /// A rule of a policy.
    Rule,
    /// The end of a tier.
    TierDefault,
    /// A rule of a profile.
    Profile,
    /// No profile allowed the packet.
    NoProfileMatch,
    /// A failsafe port of a host endpoint, which no policy can close.
    Failsafe,
}

impl DecisionKind {
    /// The name that output uses: `rule`, `tier-default`, `profile`, `no-profile-match`,
    /// `failsafe`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rule => "rule",
            Self::TierDefault => "tier-default",
            Self::Profile => "profile",
            Self::NoProfileMatch => "no-profile-match",
            Self::Failsafe => "failsafe",
        }
    }
}

/// What may decide a packet, in the user's terms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecisionData {
    /// What kind of thing it is.
    pub kind: DecisionKind,
    /// The object's `apiVersion`; empty where there is no object.
    pub api: String,
    /// The object's `kind`; empty where there is no object.
    pub object: String,
    /// The object's namespace, `None` for cluster-wide objects.
    pub namespace: Option<String>,
    /// The object's name (for a tier default: the tier's; for a profile: the profile's).
    pub name: String,
    /// The tier, `None` for profiles.
    pub tier: Option<String>,
    /// Zero-based index in the rule list that the user wrote; `None` for defaults.
    pub rule: Option<u32>,
    /// The action as the user wrote it.
    pub action: Action,
    /// Where it stands; `None` for what is built in.
    pub at: Option<Origin>,
}

/// One alternative of a port criterion. True only for packets that have ports
/// (TCP, UDP, SCTP with a readable header).
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PortMatch {
    /// Any port from the first to the last, both included.
    Range(u16, u16),
    /// A named port: this protocol and number, and the address of that side is
    /// in the set of those that give the number this name.
    Named {
        /// Protocol number.
        protocol: u8,
        /// The number behind the name.
        port: u16,
        /// The addresses for which the name has this number.
        set: AddrSet,
    },
}

/// An ICMP or ICMPv6 criterion.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IcmpMatch {
    /// Type.
    pub icmp_type: u8,
    /// Code; `None` matches any.
    pub code: Option<u8>,
}

/// The criteria about one side of a packet, all ANDed.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SideMatch {
    /// The address is in each of these.
    pub in_sets: Vec<AddrSet>,
    /// The address is in none of these.
    pub not_in: Vec<AddrSet>,
    /// One of these holds; `None` means no criterion, an empty list never matches.
    pub ports: Option<Vec<PortMatch>>,
    /// None of these holds.
    pub not_ports: Vec<PortMatch>,
}

/// A rule's criteria, all ANDed; the default matches every packet.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Match {
    /// Only packets of this IP version.
    pub family: Option<Family>,
    /// Only this protocol number.
    pub protocol: Option<u8>,
    /// Not this protocol number.
    pub not_protocol: Option<u8>,
    /// Only ICMP (IPv4) or ICMPv6 (IPv6) packets of this type and code.
    pub icmp: Option<IcmpMatch>,
    /// Not ICMP or ICMPv6 packets of this type and code; true for anything else.
    pub not_icmp: Option<IcmpMatch>,
    /// Source side.
    pub src: SideMatch,
    /// Destination side.
    pub dst: SideMatch,
}

/// Where a rule and its criteria stand in the user's files.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct RuleOrigins {
    /// The rule itself; `None` for what is built in.
    pub rule: Option<Origin>,
    /// The protocol or ICMP criterion.
    pub protocol: Option<Origin>,
    /// The source address criterion.
    pub src: Option<Origin>,
    /// The destination address criterion.
    pub dst: Option<Origin>,
    /// The source port criterion.
    pub src_ports: Option<Origin>,
    /// The destination port criterion.
    pub dst_ports: Option<Origin>,
}

/// One match/action rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleData {
    /// When it applies.
    pub matches: Match,
    /// What it does.
    pub action: Action,
    /// What is reported when it decides (or logs).
    pub decision: Decision,
    /// Where it stands.
    pub origins: RuleOrigins,
}

/// What happens when no rule of a chain decided.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum ChainEnd {
    /// The packet passes.
    Allow(Decision),
    /// The packet is dropped.
    Deny(Decision),
    /// The next chain goes on. Never at the last chain.
    Pass,
}

/// A tier, or the profiles.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainData {
    /// The tier's name, or `profiles`.
    pub name: String,
    /// Rules in match order.
    pub rules: Vec<Rule>,
    /// What happens after the last rule.
    pub end: ChainEnd,
}

/// One endpoint's policy in one direction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyIr {
    /// Whose policy it is, for people: `namespace/pod`, or a policy's name.
    pub name: String,
    /// The direction.
    pub direction: Direction,
    /// Names of the files that origins refer to.
    pub files: PrimaryMap<File, String>,
    /// Address sets.
    pub sets: PrimaryMap<AddrSet, AddrSetData>,
    /// What may decide.
    pub decisions: PrimaryMap<Decision, DecisionData>,
    /// All rules; those in no chain are dead.
    pub rules: PrimaryMap<Rule, RuleData>,
    /// All chains; those not in `order` are dead.
    pub chains: PrimaryMap<Chain, ChainData>,
    /// Chains in evaluation order; never empty in a valid IR.
    pub order: Vec<Chain>,
}

impl PolicyIr {
    /// An IR without chains, to be filled.
    pub fn new(name: impl Into<String>, direction: Direction) -> Self {
        Self {
            name: name.into(),
            direction,
            files: PrimaryMap::new(),
            sets: PrimaryMap::new(),
            decisions: PrimaryMap::new(),
            rules: PrimaryMap::new(),
            chains: PrimaryMap::new(),
            order: Vec::new(),
        }
    }
}

/// The facts about a packet that policy may look at.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub struct Flow {
    /// Source address; of the same family as `dst`.
    pub src: IpAddr,
    /// Destination address.
    pub dst: IpAddr,
    /// Protocol number (for IPv6: of the last header of the chain).
    pub protocol: u8,
    /// Source and destination port, for TCP, UDP and SCTP with a readable header.
    pub ports: Option<(u16, u16)>,
    /// Type and code, for ICMP over IPv4 and ICMPv6 over IPv6 with a readable header.
    pub icmp: Option<(u8, u8)>,
}

/// What an evaluation found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Whether the packet passes.
    pub verdict: Verdict,
    /// What decided.
    pub decision: Decision,
    /// Log rules that matched on the way, in order.
    pub logged: Vec<Decision>,
}
