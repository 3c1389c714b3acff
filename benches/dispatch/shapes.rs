//! The policies that are measured, as IR, and the packets that they are measured with.
//!
//! Everything is drawn from a fixed seed, so that two runs measure the same. A
//! packet of the spread half the time fits some rule's criteria, a quarter mixes
//! the address of one rule with the port of another, and a quarter is arbitrary.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use polc_compiler::ir::generate::Rng;
use polc_compiler::ir::{
    Action, AddrSet, AddrSetData, ChainData, ChainEnd, Decision, DecisionData, DecisionKind, Direction,
    Family, Flow, Match, PolicyIr, PortMatch, RuleData, RuleOrigins, SetKind, SideMatch,
};

/// Packets of a spread; a power of two, for the driver program masks with it.
pub const SPREAD: usize = 4096;

const TCP: u8 = 6;
/// Members of a selector's set.
const MEMBERS: usize = 10;
/// Hosts that overlapping sets are drawn from, and members of each.
const POOL: usize = 2_000;
const OVERLAPPING: usize = 100;
/// Prefix lengths of IPv6 networks.
const LENGTHS6: [u8; 9] = [32, 36, 40, 44, 48, 52, 56, 60, 64];

/// A kind of policy.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Shape {
    /// A set of ten pods of its own and one of 50 ports in each rule.
    SelectorPort,
    /// One CIDR and one of 50 ports in each rule.
    CidrPort,
    /// One rule with N ports, at most 30,000.
    Ports,
    /// One rule with N CIDRs.
    Cidrs,
    /// 80 % selector + port, 10 % CIDR, 5 % negated, 5 % any; every 7th rule denies.
    Mix,
    /// Sets that overlap × port ranges that overlap; every 50th rule looks at no address.
    Overlap,
    /// Selectors on both sides and one of 50 ports.
    BothSides,
    /// Overlap on both sides × port ranges, every rule with both sets.
    OverlapBoth,
    /// Selectors on both sides that overlap, one of 50 ports.
    BothOverlapPort,
    /// [`Self::SelectorPort`] with IPv6 pods.
    Selector6,
    /// [`Self::CidrPort`] with IPv6 networks of 48 bits.
    Cidr6,
    /// [`Self::Mix`] with IPv6 addresses.
    Mix6,
    /// IPv6 pods and networks of nine prefix lengths, half of the rules each.
    Lengths6,
    /// [`Self::Mix`] with five IPv4 and five IPv6 members in a set.
    Dual,
}

impl Shape {
    pub const ALL: [Self; 14] = [
        Self::SelectorPort,
        Self::CidrPort,
        Self::Ports,
        Self::Cidrs,
        Self::Mix,
        Self::Overlap,
        Self::BothSides,
        Self::OverlapBoth,
        Self::BothOverlapPort,
        Self::Selector6,
        Self::Cidr6,
        Self::Mix6,
        Self::Lengths6,
        Self::Dual,
    ];

    /// The name on the command line and in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::SelectorPort => "selector+port",
            Self::CidrPort => "cidr+port",
            Self::Ports => "one-rule-ports",
            Self::Cidrs => "one-rule-cidrs",
            Self::Mix => "mix",
            Self::Overlap => "overlap",
            Self::BothSides => "both-sides",
            Self::OverlapBoth => "overlap-both",
            Self::BothOverlapPort => "both-overlap",
            Self::Selector6 => "selector+port-v6",
            Self::Cidr6 => "cidr+port-v6",
            Self::Mix6 => "mix-v6",
            Self::Lengths6 => "9-lengths-v6",
            Self::Dual => "mix-dual",
        }
    }

    fn families(self) -> &'static [Family] {
        match self {
            Self::Selector6 | Self::Cidr6 | Self::Mix6 | Self::Lengths6 => &[Family::V6],
            Self::Dual => &[Family::V4, Family::V6],
            _ => &[Family::V4],
        }
    }
}

/// A policy and its packets.
pub struct Workload {
    pub ir: PolicyIr,
    /// Flows that a first and a last rule decide are looked for among these.
    pub candidates: Vec<(usize, Flow)>,
    pub spread: Vec<Flow>,
}

/// Makes the policy with `rules` rules (or ports, or CIDRs).
pub fn workload(shape: Shape, rules: usize) -> Workload {
    let mut maker = Maker::new(shape, rules);
    maker.fill(rules);
    maker.finish()
}

/// What a rule asks for, kept to draw packets that fit it.
struct Wanted {
    src: Option<AddrSet>,
    dst: Option<AddrSet>,
    ports: Option<(u16, u16)>,
}

struct Maker {
    shape: Shape,
    ir: PolicyIr,
    rng: Rng,
    chain: ChainData,
    wanted: Vec<Wanted>,
    /// Sets that rules share, by side.
    shared: [Vec<AddrSet>; 2],
}

impl Maker {
    fn new(shape: Shape, rules: usize) -> Self {
        let mut ir = PolicyIr::new(format!("{}-{rules}", shape.name()), Direction::Ingress);
        let end = decision(&mut ir, DecisionKind::TierDefault, Action::Deny, None);
        let chain = ChainData { name: "default".into(), rules: Vec::new(), end: ChainEnd::Deny(end) };
        let mut maker = Self {
            shape,
            ir,
            rng: Rng::new(0x5eed ^ rules as u64),
            chain,
            wanted: Vec::new(),
            shared: [Vec::new(), Vec::new()],
        };
        maker.share(rules);
        maker
    }

    /// Sets of the shapes whose rules draw from a common stock.
    fn share(&mut self, rules: usize) {
        let (sides, sets, overlap) = match self.shape {
            Shape::Overlap => (1, rules.min(200), true),
            Shape::OverlapBoth | Shape::BothOverlapPort => (2, rules.min(200), true),
            Shape::BothSides => (2, rules.min(300), false),
            _ => return,
        };
        for side in 0..sides {
            for i in 0..sets {
                let mut hosts: Vec<usize> = match overlap {
                    true => (0..OVERLAPPING).map(|_| self.rng.below(POOL)).collect(),
                    false => (i * MEMBERS..(i + 1) * MEMBERS).collect(),
                };
                hosts.iter_mut().for_each(|host| *host += side << 22);
                let set = self.members(hosts.into_iter());
                self.shared[side].push(set);
            }
        }
    }

    fn fill(&mut self, n: usize) {
        match self.shape {
            Shape::Ports => {
                let ports = (0..n.min(30_000)).map(|i| 2 * i as u16 + 1);
                let list = ports.map(|p| PortMatch::Range(p, p)).collect();
                let last = 2 * n.min(30_000) as u16 - 1;
                self.push_list(list, (last, last));
            }
            Shape::Cidrs => {
                let nets = (0..n).map(|i| network(i, Family::V4)).collect();
                let set = self.set(SetKind::Nets, nets);
                self.push(Action::Allow, Some(set), None, Some((443, 443)), false);
            }
            _ => (0..n).for_each(|i| self.rule(i)),
        }
    }

    fn rule(&mut self, i: usize) {
        let few = 8_000 + (i % 50) as u16;
        let exact = Some((few, few));
        match self.shape {
            Shape::SelectorPort | Shape::Selector6 => {
                let set = self.members(i * MEMBERS..(i + 1) * MEMBERS);
                self.push(Action::Allow, Some(set), None, exact, false);
            }
            Shape::CidrPort | Shape::Cidr6 => {
                let set = self.set(SetKind::Nets, vec![network(i, self.shape.families()[0])]);
                self.push(Action::Allow, Some(set), None, exact, false);
            }
            Shape::Lengths6 if i.is_multiple_of(2) => {
                let set = self.members(i * MEMBERS..(i + 1) * MEMBERS);
                self.push(Action::Allow, Some(set), None, exact, false);
            }
            Shape::Lengths6 => {
                let set = self.set(SetKind::Nets, vec![network_of(i, LENGTHS6[i / 2 % LENGTHS6.len()])]);
                self.push(Action::Allow, Some(set), None, exact, false);
            }
            Shape::Mix | Shape::Mix6 | Shape::Dual => self.mixed(i),
            Shape::Overlap => {
                let action = self.seventh(i);
                let src = (i % 50 != 49).then(|| one_of(&mut self.rng, &self.shared[0]));
                let range = self.range();
                self.push(action, src, None, Some(range), false);
            }
            Shape::BothSides | Shape::BothOverlapPort => {
                let action = self.seventh(i);
                let (src, dst) = self.both();
                self.push(action, Some(src), Some(dst), exact, false);
            }
            Shape::OverlapBoth => {
                let action = self.seventh(i);
                let (src, dst) = self.both();
                let range = self.range();
                self.push(action, Some(src), Some(dst), Some(range), false);
            }
            Shape::Ports | Shape::Cidrs => {}
        }
    }

    /// One rule of the realistic mix. What matches nearly every address has a port
    /// that few other rules have, as it would in a policy that makes sense.
    fn mixed(&mut self, i: usize) {
        let action = self.seventh(i);
        let few = 8_000 + (i % 200) as u16;
        let own = 20_000 + (i * 7 % 40_000) as u16;
        match i % 20 {
            7 => self.push(action, None, None, Some((own, own)), false),
            13 => {
                let set = self.members(i * MEMBERS..(i + 1) * MEMBERS);
                self.push(action, Some(set), None, Some((own, own)), true);
            }
            3 | 17 => {
                let family = self.shape.families()[i / 20 % self.shape.families().len()];
                let set = self.set(SetKind::Nets, vec![network(i, family)]);
                self.push(action, Some(set), None, Some((few, few + 20)), false);
            }
            _ => {
                let set = self.members(i * MEMBERS..(i + 1) * MEMBERS);
                self.push(action, Some(set), None, Some((few, few)), false);
            }
        }
    }

    fn seventh(&self, i: usize) -> Action {
        if i % 7 == 6 { Action::Deny } else { Action::Allow }
    }

    fn both(&mut self) -> (AddrSet, AddrSet) {
        (one_of(&mut self.rng, &self.shared[0]), one_of(&mut self.rng, &self.shared[1]))
    }

    /// A range of 1,200 ports on average.
    fn range(&mut self) -> (u16, u16) {
        let width = self.rng.below(2_400);
        let first = self.rng.below(65_536 - width);
        (first as u16, (first + width) as u16)
    }

    fn members(&mut self, hosts: impl Iterator<Item = usize>) -> AddrSet {
        let families = self.shape.families();
        let nets = hosts.map(|host| IpNet::from(address(host, families[host % families.len()]))).collect();
        self.set(SetKind::Members, nets)
    }

    fn set(&mut self, kind: SetKind, mut nets: Vec<IpNet>) -> AddrSet {
        nets.sort_unstable();
        nets.dedup();
        let name = match kind {
            SetKind::Members => format!("app == 'a{}'", self.ir.sets.len()),
            SetKind::Nets => nets.first().map_or(String::new(), IpNet::to_string),
        };
        self.ir.sets.push(AddrSetData { kind, name, nets })
    }

    fn push(
        &mut self,
        action: Action,
        src: Option<AddrSet>,
        dst: Option<AddrSet>,
        ports: Option<(u16, u16)>,
        negate: bool,
    ) {
        let list = ports.map(|(first, last)| vec![PortMatch::Range(first, last)]);
        self.wanted.push(Wanted { src: src.filter(|_| !negate), dst, ports });
        let (in_sets, not_in) = if negate { (Vec::new(), src) } else { (Vec::from_iter(src), None) };
        let matches = Match {
            protocol: Some(TCP),
            src: SideMatch { in_sets, not_in: Vec::from_iter(not_in), ..SideMatch::default() },
            dst: SideMatch { in_sets: Vec::from_iter(dst), ports: list, ..SideMatch::default() },
            ..Match::default()
        };
        self.push_match(matches, action);
    }

    fn push_list(&mut self, ports: Vec<PortMatch>, fitting: (u16, u16)) {
        self.wanted.push(Wanted { src: None, dst: None, ports: Some(fitting) });
        let dst = SideMatch { ports: Some(ports), ..SideMatch::default() };
        self.push_match(Match { protocol: Some(TCP), dst, ..Match::default() }, Action::Allow);
    }

    fn push_match(&mut self, matches: Match, action: Action) {
        let number = Some(self.ir.rules.len() as u32);
        let decision = decision(&mut self.ir, DecisionKind::Rule, action, number);
        let origins = RuleOrigins::default();
        let rule = self.ir.rules.push(RuleData { matches, action, decision, origins });
        self.chain.rules.push(rule);
    }

    fn finish(mut self) -> Workload {
        let chain = self.ir.chains.push(self.chain.clone());
        self.ir.order.push(chain);
        let rules = self.wanted.len();
        // Rules near both ends: some that stand behind others never decide.
        let near = (0..rules.min(100)).chain(rules.saturating_sub(200)..rules);
        let candidates = near.map(|i| (i, self.fitting(i, i))).collect();
        let spread = (0..SPREAD).map(|_| self.flow()).collect();
        Workload { ir: self.ir, candidates, spread }
    }

    fn flow(&mut self) -> Flow {
        let (one, other) = (self.rng.below(self.wanted.len()), self.rng.below(self.wanted.len()));
        match self.rng.below(4) {
            0 | 1 => self.fitting(one, one),
            2 => self.fitting(one, other),
            _ => self.arbitrary(),
        }
    }

    /// The addresses of one rule with the port of another.
    fn fitting(&mut self, addresses: usize, port: usize) -> Flow {
        let mut flow = self.arbitrary();
        let Wanted { src, dst, .. } = self.wanted[addresses];
        if let Some(set) = src {
            flow.src = self.member(set);
            flow.dst = self.local(flow.src);
        }
        if let Some(set) = dst {
            flow.dst = self.member(set);
        }
        flow.protocol = TCP;
        if let Some((first, last)) = self.wanted[port].ports {
            let wide = usize::from(last - first) + 1;
            flow.ports = Some((40_000, first + self.rng.below(wide) as u16));
        }
        flow
    }

    fn arbitrary(&mut self) -> Flow {
        let families = self.shape.families();
        let family = families[self.rng.below(families.len())];
        let src = match (self.rng.below(2), family) {
            (0, family) => address(self.rng.below(1 << 21), family),
            (_, Family::V4) => Ipv4Addr::from(self.rng.next_u64() as u32).into(),
            (_, Family::V6) => {
                let bits = u128::from(self.rng.next_u64()) << 64 | u128::from(self.rng.next_u64());
                Ipv6Addr::from(bits >> 3 | 1 << 125).into()
            }
        };
        let protocol = if self.rng.chance(4) { 17 } else { TCP };
        let ports = Some((40_000, self.rng.below(65_536) as u16));
        Flow { src, dst: self.local(src), protocol, ports, icmp: None }
    }

    /// The endpoint's address.
    fn local(&self, other: IpAddr) -> IpAddr {
        match other {
            IpAddr::V4(_) => Ipv4Addr::new(172, 16, 0, 9).into(),
            IpAddr::V6(_) => Ipv6Addr::new(0xfd00, 0x172, 0, 0, 0, 0, 0, 9).into(),
        }
    }

    fn member(&mut self, set: AddrSet) -> IpAddr {
        let nets = &self.ir.sets[set].nets;
        let net = nets[self.rng.below(nets.len())];
        let free = net.max_prefix_len() - net.prefix_len();
        let noise = u128::from(self.rng.next_u64()) << 64 | u128::from(self.rng.next_u64());
        let noise = if free == 0 { 0 } else { noise & (u128::MAX >> (128 - free)) };
        match net.network() {
            IpAddr::V4(a) => Ipv4Addr::from(u32::from(a) | noise as u32).into(),
            IpAddr::V6(a) => Ipv6Addr::from(u128::from(a) | noise).into(),
        }
    }
}

fn decision(ir: &mut PolicyIr, kind: DecisionKind, action: Action, rule: Option<u32>) -> Decision {
    ir.decisions.push(DecisionData {
        kind,
        api: "polc/bench".into(),
        object: "Policy".into(),
        namespace: None,
        name: "bench".into(),
        tier: Some("default".into()),
        rule,
        action,
        at: None,
    })
}

/// A pod: IPv4 without gaps from 10.0.0.0, IPv6 with 256 pods in a node's /64.
fn address(host: usize, family: Family) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::from(0x0a00_0000 + host as u32).into(),
        Family::V6 => {
            let node = (host >> 8) as u128;
            Ipv6Addr::from((0xfd00_0010 << 96) | (node << 64) | ((host as u128 & 255) + 1)).into()
        }
    }
}

/// The network of a rule: its own /24, or a part of it; for IPv6 its own /48.
fn network(i: usize, family: Family) -> IpNet {
    let (address, length): (IpAddr, u8) = match family {
        Family::V4 => {
            (Ipv4Addr::from(0x1400_0000 + ((i as u32) << 8)).into(), [24, 26, 24, 28, 24, 32][i % 6])
        }
        Family::V6 => (Ipv6Addr::from((0x2001_0000_0000 + i as u128) << 80).into(), 48),
    };
    IpNet::new_assert(address, length)
}

/// A scattered IPv6 network of a given length.
fn network_of(i: usize, length: u8) -> IpNet {
    let high = (i as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 3 | 1 << 61;
    IpNet::new_assert(Ipv6Addr::from(u128::from(high) << 64).into(), length).trunc()
}

fn one_of(rng: &mut Rng, sets: &[AddrSet]) -> AddrSet {
    sets[rng.below(sets.len())]
}
