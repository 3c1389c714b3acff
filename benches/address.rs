//! What a look-up from an address to its class costs, and what its tables take.
//!
//! `cargo bench --bench address [-- WORD…]`: rows whose name holds a word. It takes
//! root and a kernel with BPF.
//!
//! Each program looks up the source address alone and stores the class. Figures are
//! ns per packet over the floor (state look-up and tail call), each the minimum of
//! many runs less the floor's in runs in between: *member* is one member's address
//! again and again, *none* an address in no set, *spread* 4,096 addresses in turn,
//! seven of eight of them members. *classify*, *build* and *change* are times in user
//! space, without a kernel: the last one adds and removes members of loaded tables,
//! per change, the stores left out. Every answer is checked against the classes
//! before anything is measured.
//!
//! POLC_BENCH_RUNS (default 200) sets the runs of each figure.

#[path = "dispatch/kernel.rs"]
#[allow(dead_code, reason = "the bench of whole policies uses the rest")]
mod kernel;

mod shapes {
    /// Packets that the spread takes turns with.
    pub const SPREAD: usize = 4096;
}

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use ipnet::{IpNet, Ipv6Net};
use polc_compiler::abi;
use polc_compiler::address::{
    AddressClasses, AddressLimits, AddressTables, Class, ClassRows, LookUp, Membership, Refused, SetBit,
    classify,
};
use polc_compiler::bpf::{Assembler, Insn, MapRef, Reg, Size};
use polc_compiler::image::Store;
use polc_compiler::ir::{
    Action, AddrSet, AddrSetData, ChainData, ChainEnd, DecisionData, DecisionKind, Direction, Flow, Match,
    PolicyIr, RuleData, RuleOrigins, SetKind, SideMatch,
};

use kernel::{Bed, Effort, Loadable};

type Failure = Box<dyn std::error::Error>;

fn failed(text: String) -> Failure {
    text.into()
}

/// Members of a set; the last one has what is left.
const PER_SET: usize = 10;
/// Changes that are timed.
const CHANGES: u32 = 2_000;

fn main() -> Result<(), Failure> {
    let words: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with("--")).collect();
    let runs = std::env::var("POLC_BENCH_RUNS").ok().and_then(|v| v.parse().ok()).unwrap_or(200);
    let bed = Bed::new()?;
    println!(
        "{:28} {:>9} {:>7} {:>7} {:>7} {:>7} {:>11} {:>7} {:>9} {:>9} {:>9}",
        "shape",
        "members",
        "member",
        "none",
        "spread",
        "insns",
        "bytes",
        "each",
        "classify",
        "build",
        "change"
    );
    for shape in Shape::ALL {
        for members in [10, 1_000, 10_000, 100_000, 1_000_000] {
            let name = format!("{} {members}", shape.name());
            if !words.is_empty() && !words.iter().any(|w| name.contains(w.as_str())) {
                continue;
            }
            println!("{}", measure(&bed, shape, members, Effort { runs })?);
        }
    }
    Ok(())
}

/// Where members lie.
#[derive(Copy, Clone)]
enum Shape {
    /// Neighbouring IPv4 addresses, as pods have.
    Dense4,
    /// IPv4 addresses anywhere.
    Sparse4,
    /// IPv4 prefixes of /8 to /32, most of them long.
    Nets4,
    /// Nine in ten neighbouring IPv4 addresses, the rest prefixes elsewhere.
    Mixed4,
    /// IPv6 addresses, as pods have.
    Hosts6,
    /// IPv6 addresses, and prefixes of nine lengths, one in ten.
    Mixed6,
}

impl Shape {
    const ALL: [Self; 6] =
        [Self::Dense4, Self::Sparse4, Self::Nets4, Self::Mixed4, Self::Hosts6, Self::Mixed6];

    fn name(self) -> &'static str {
        match self {
            Self::Dense4 => "IPv4 hosts, dense",
            Self::Sparse4 => "IPv4 hosts, sparse",
            Self::Nets4 => "IPv4 prefixes",
            Self::Mixed4 => "IPv4 hosts and prefixes",
            Self::Hosts6 => "IPv6 hosts",
            Self::Mixed6 => "IPv6 hosts, 9 lengths",
        }
    }

    fn member(self, i: usize, random: &mut Random) -> IpNet {
        let four = |address: u32, length: u8| {
            IpNet::new(Ipv4Addr::from(address).into(), length).unwrap_or_default().trunc()
        };
        let pod6 = |i: usize| {
            let node = 0xfd00_0010_0000_0000_u64 + (i as u64 / 100);
            Ipv6Addr::from((u128::from(node) << 64) | u128::from(mix(i as u64) >> 16))
        };
        match self {
            Self::Dense4 => four(0x0a00_0000 + i as u32, 32),
            Self::Sparse4 => four(random.next() as u32, 32),
            Self::Mixed4 if i % 10 != 9 => four(0x0a00_0000 + i as u32, 32),
            Self::Nets4 | Self::Mixed4 => {
                let length = [32, 24, 24, 28, 24, 22, 20, 18, 16][random.below(9)];
                four((0x2000_0000 + (random.next() as u32 >> 2)) | 0x8000_0000, length)
            }
            Self::Mixed6 if i % 10 == 9 => {
                let length = [32, 36, 40, 44, 48, 52, 56, 60, 64][random.below(9)];
                let address =
                    (0x2001_0db8_u128 + random.below(64) as u128) << 96 | u128::from(random.next()) << 32;
                Ipv6Net::new(address.into(), length).map(|n| n.trunc().into()).unwrap_or_default()
            }
            Self::Hosts6 | Self::Mixed6 => IpNet::from(IpAddr::from(pod6(i))),
        }
    }

    /// An address in no set.
    fn none(self) -> IpAddr {
        match self {
            Self::Hosts6 | Self::Mixed6 => Ipv6Addr::new(0x2001, 0xdc8, 7, 7, 7, 7, 7, 7).into(),
            _ => Ipv4Addr::new(11, 255, 3, 9).into(),
        }
    }
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() >> 33) as usize % n
    }
}

fn mix(x: u64) -> u64 {
    let z = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A policy with one rule that uses all sets.
fn policy(members: &[IpNet]) -> PolicyIr {
    let mut ir = PolicyIr::new("bench", Direction::Ingress);
    // A million members stand in sets of more, as one set of a million would.
    for nets in members.chunks(PER_SET.max(members.len() / 100_000)) {
        let mut nets = nets.to_vec();
        nets.sort_unstable();
        nets.dedup();
        ir.sets.push(AddrSetData { kind: SetKind::Members, name: String::new(), nets });
    }
    let decision = ir.decisions.push(DecisionData {
        kind: DecisionKind::TierDefault,
        api: String::new(),
        object: String::new(),
        namespace: None,
        name: String::new(),
        tier: None,
        rule: None,
        action: Action::Deny,
        at: None,
    });
    let in_sets = ir.sets.keys().collect();
    let matches = Match { src: SideMatch { in_sets, ..Default::default() }, ..Default::default() };
    let rule =
        ir.rules.push(RuleData { matches, action: Action::Deny, decision, origins: RuleOrigins::default() });
    let end = ChainEnd::Deny(decision);
    ir.order.push(ir.chains.push(ChainData { name: "t".into(), rules: vec![rule], end }));
    ir
}

/// A program that looks up the source and ends.
fn program(tables: &AddressTables) -> Result<Loadable, Failure> {
    let mut a = Assembler::new();
    kernel::look_up_state(&mut a)?;
    let look_up = LookUp { state: Reg::R9, address: abi::STATE_SRC, class: Reg::R7, first_map: 0 };
    tables.emit(&mut a, look_up)?;
    a.push(Insn::store(Size::B4, Reg::R9, abi::STATE_DECISION.offset, Reg::R7));
    a.push(Insn::store(Size::B4, Reg::R9, abi::STATE_VERDICT.offset, abi::VERDICT_ALLOW as i32));
    kernel::tail_call(&mut a, MapRef::Shared(abi::PROGS_MAP), abi::SLOT_ALLOWED);
    Ok(Loadable { programs: vec![a.finish()?], maps: tables.maps() })
}

fn flow(src: IpAddr) -> Flow {
    Flow { src, dst: src, protocol: 6, ports: Some((40_000, 443)), icmp: None }
}

struct Row {
    name: String,
    members: usize,
    hot: [f64; 3],
    insns: u32,
    bytes: u64,
    classify: Duration,
    build: Duration,
    change: Duration,
}

fn measure(bed: &Bed, shape: Shape, count: usize, effort: Effort) -> Result<Row, Failure> {
    let mut random = Random(count as u64);
    let members: Vec<IpNet> = (0..count).map(|i| shape.member(i, &mut random)).collect();
    let ir = policy(&members);
    let start = Instant::now();
    let classes = classify(&ir);
    let classify = start.elapsed();
    let start = Instant::now();
    let tables = AddressTables::build(&classes, &AddressLimits::default())?;
    let build = start.elapsed();
    let what = program(&tables)?;
    let loaded = bed.load(&what)?;
    let inside = |net: &IpNet, random: &mut Random| match (net.addr(), net.hostmask()) {
        (IpAddr::V4(a), IpAddr::V4(mask)) => {
            Ipv4Addr::from(u32::from(a) | (random.next() as u32 & u32::from(mask))).into()
        }
        (IpAddr::V6(a), IpAddr::V6(mask)) => {
            let any = u128::from(random.next()) << 64 | u128::from(random.next());
            Ipv6Addr::from(u128::from(a) | (any & u128::from(mask))).into()
        }
        (other, _) => other,
    };
    let mut flows: Vec<Flow> =
        (0..shapes::SPREAD).map(|_| flow(inside(&members[random.below(count)], &mut random))).collect();
    for other in flows.iter_mut().skip(7).step_by(8) {
        *other = match shape {
            Shape::Hosts6 | Shape::Mixed6 => {
                let any = u128::from(random.next()) << 64 | u128::from(random.next());
                flow(Ipv6Addr::from(any).into())
            }
            _ => flow(Ipv4Addr::from(random.next() as u32).into()),
        };
    }
    for f in flows.iter().chain([&flow(shape.none())]) {
        let found = bed.decide(&loaded, f)?.1;
        let wanted = classes.class_of(f.src).as_u32();
        if found != wanted {
            return Err(failed(format!("{}: {} is in class {found}, not {wanted}", shape.name(), f.src)));
        }
    }
    bed.set_spread(&flows)?;
    let hot = [
        bed.hot(&loaded, &flow(members[count / 2].addr()), effort)?.ns,
        bed.hot(&loaded, &flow(shape.none()), effort)?.ns,
        bed.spread(shapes::SPREAD, effort)?.ns,
    ];
    Ok(Row {
        name: shape.name().into(),
        members: count,
        hot,
        insns: what.slots(),
        bytes: what.map_bytes(),
        classify,
        build,
        change: changes(&ir, &classes, &tables, &members)?,
    })
}

/// Class contents that nobody asks for.
struct NoRows;

impl ClassRows for NoRows {
    fn fill(&mut self, _: Class, _: &[SetBit], _: &mut Vec<Store>) -> Result<(), Refused> {
        Ok(())
    }

    fn retire(&mut self, _: Class) {}
}

/// Time of a change: members leave the first set and come back to it.
fn changes(
    ir: &PolicyIr,
    classes: &AddressClasses,
    tables: &AddressTables,
    members: &[IpNet],
) -> Result<Duration, Failure> {
    let mut membership = Membership::new(ir, classes, tables, 0);
    let set = AddrSet::from_u32(0);
    let first: Vec<IpNet> = members.iter().take(PER_SET).copied().collect();
    let mut stores = Vec::new();
    let start = Instant::now();
    for i in 0..CHANGES {
        let net = first[(i / 2) as usize % first.len()];
        stores.clear();
        if i % 2 == 0 {
            membership.remove(set, net, &mut NoRows, &mut stores)?;
        } else {
            membership.add(set, net, &mut NoRows, &mut stores)?;
        }
        membership.quiesce(&mut NoRows);
    }
    Ok(start.elapsed() / CHANGES)
}

impl std::fmt::Display for Row {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [member, none, spread] = self.hot;
        let each = self.bytes as f64 / self.members as f64;
        let ms = |d: Duration| d.as_secs_f64() * 1e3;
        write!(
            f,
            "{:28} {:>9} {member:>7.1} {none:>7.1} {spread:>7.1} {:>7} {:>11} {each:>7.1} {:>6.1} ms {:>6.1} ms {:>6} ns",
            self.name,
            self.members,
            self.insns,
            self.bytes,
            ms(self.classify),
            ms(self.build),
            self.change.as_nanos()
        )
    }
}
