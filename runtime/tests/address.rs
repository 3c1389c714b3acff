//! Address look-ups as the VM and the kernel run them, against the classes
//! themselves. The program stores both sides' classes as its decisions.

mod engines;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use engines::*;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use polc_compiler::abi;
use polc_compiler::address::{AddressClasses, AddressLimits, AddressTables, LookUp, classify};
use polc_compiler::bpf::{Insn, MapRef, Reg, Size};
use polc_compiler::image::PolicyImage;
use polc_compiler::ir::{
    Action, AddrSetData, ChainData, ChainEnd, DecisionData, DecisionKind, Direction, Flow, Match, PolicyIr,
    RuleData, RuleOrigins, SetKind, SideMatch,
};
use polc_runtime::packet::build;
use polc_runtime::vm::{Vm, VmEngine, VmOptions};
use polc_runtime::{Attachment, AttachmentSpec, Engine};

/// The classes of a policy with one rule that uses all sets.
fn classes(kind: SetKind, sets: Vec<Vec<IpNet>>) -> AddressClasses {
    let mut ir = PolicyIr::new("test", Direction::Ingress);
    for mut nets in sets {
        nets.sort();
        nets.dedup();
        ir.sets.push(AddrSetData { kind, name: String::new(), nets });
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
    classify(&ir)
}

/// A program that decides by the source's class and logs the destination's.
fn probe(tables: &AddressTables) -> PolicyImage {
    let mut body = Body::new();
    body.asm.push(Insn::mov(Reg::R9, Reg::R7));
    for (address, class, to) in
        [(abi::STATE_SRC, Reg::R7, abi::STATE_DECISION), (abi::STATE_DST, Reg::R8, abi::STATE_LOG_DECISION)]
    {
        let look_up = LookUp { state: Reg::R9, address, class, first_map: 0 };
        tables.emit(&mut body.asm, look_up).unwrap();
        body.asm.push(Insn::store(Size::B4, Reg::R9, to.offset, class));
    }
    body.asm.push(Insn::store(Size::B4, Reg::R9, abi::STATE_VERDICT.offset, abi::VERDICT_ALLOW as i32));
    body.asm.push(Insn::store(Size::B4, Reg::R9, abi::STATE_REASON.offset, abi::REASON_POLICY as i32));
    body.tail_call(MapRef::Shared(abi::PROGS_MAP), abi::SLOT_ALLOWED);
    body.asm.push(Insn::mov(Reg::R0, abi::TC_SHOT as i32));
    body.asm.push(Insn::Exit);
    image(vec![body.program("probe")], tables.maps())
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() >> 33) as usize % n
    }

    fn v4(&mut self) -> Ipv4Addr {
        (self.next() as u32).into()
    }

    fn v6(&mut self) -> Ipv6Addr {
        (u128::from(self.next()) << 64 | u128::from(self.next())).into()
    }
}

/// The edges of a prefix, their neighbours, and something inside.
fn around(net: &IpNet, random: &mut Random) -> Vec<IpAddr> {
    match net {
        IpNet::V4(net) => {
            let (a, b) = (u32::from(net.network()), u32::from(net.broadcast()));
            let inside = a | (u32::from(random.v4()) & !u32::from(net.netmask()));
            [a, b, a.wrapping_sub(1), b.wrapping_add(1), inside].map(|x| Ipv4Addr::from(x).into()).to_vec()
        }
        IpNet::V6(net) => {
            let (a, b) = (u128::from(net.network()), u128::from(net.broadcast()));
            let inside = a | (u128::from(random.v6()) & !u128::from(net.netmask()));
            [a, b, a.wrapping_sub(1), b.wrapping_add(1), inside].map(|x| Ipv6Addr::from(x).into()).to_vec()
        }
    }
}

fn hostile() -> Vec<IpAddr> {
    let all = [
        "0.0.0.0",
        "0.0.0.1",
        "127.0.0.1",
        "255.255.255.255",
        "255.255.255.254",
        "10.0.0.0",
        "224.0.0.1",
        "::",
        "::1",
        "::ffff:10.0.0.1",
        "::ffff:0.0.0.0",
        "fd00::",
        "fe80::1",
        "ff02::1",
        "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
        "8000::",
        "0:0:0:1::",
        "::8000:0:0:0",
    ];
    all.iter().map(|a| a.parse().unwrap()).collect()
}

/// Asks every engine for the class of each address, on either side.
fn check(what: &str, classes: &AddressClasses, addresses: &[IpAddr]) {
    let tables = AddressTables::build(classes, &AddressLimits::default()).unwrap();
    let image = probe(&tables);
    let spec = [AttachmentSpec { endpoint: 1, direction: Direction::Ingress, image: &image }];
    let mut engines: Vec<(&str, Box<dyn Engine>)> = Vec::new();
    for (name, engine) in [("interpreter", VmEngine::Interpreter), ("cranelift", VmEngine::Cranelift)] {
        let vm =
            Vm::new(ENTRY, &spec, VmOptions { engine, stateless: true, ..VmOptions::default() }).unwrap();
        engines.push((name, Box::new(vm)));
    }
    #[cfg(target_os = "linux")]
    match polc_runtime::kernel::KernelEngine::new(ENTRY, &spec, true) {
        Ok(engine) => engines.push(("kernel", Box::new(engine))),
        Err(polc_runtime::EngineError::Unavailable { reason, .. }) => {
            let required = std::env::var_os("POLC_REQUIRE_KERNEL").is_some_and(|v| v == "1");
            assert!(!required, "{reason}");
            eprintln!("skipped: the kernel engine is not available: {reason}");
        }
        Err(e) => panic!("{what}: {e}"),
    }
    let (v4, v6): (Vec<IpAddr>, Vec<IpAddr>) = addresses.iter().partition(|a| a.is_ipv4());
    for family in [v4, v6] {
        for (i, src) in family.iter().enumerate() {
            let dst = family[(i * 7 + 3) % family.len()];
            let frame =
                build::frame(&Flow { src: *src, dst, protocol: 6, ports: Some((1, 2)), icmp: None }).unwrap();
            let want = (classes.class_of(*src).as_u32(), classes.class_of(dst).as_u32());
            for (name, engine) in &mut engines {
                let found = engine.evaluate(Attachment(0), at(&frame, 1)).unwrap();
                let found = (found.decision, found.log_decision);
                assert_eq!(found, (Some(want.0), Some(want.1)), "{what}, {name}: {src} to {dst}");
            }
        }
    }
}

fn nets(list: &[&str]) -> Vec<IpNet> {
    list.iter().map(|n| n.parse::<IpNet>().unwrap().trunc()).collect()
}

fn addresses(sets: &[Vec<IpNet>], random: &mut Random, per_set: usize) -> Vec<IpAddr> {
    let mut all = hostile();
    for set in sets {
        for _ in 0..per_set.min(set.len()) {
            let net = set[random.below(set.len())];
            all.extend(around(&net, random));
        }
    }
    all
}

fn check_sets(what: &str, kind: SetKind, sets: Vec<Vec<IpNet>>, per_set: usize) {
    let mut random = Random(0x1234_5678_9abc_def1);
    let addresses = addresses(&sets, &mut random, per_set);
    check(what, &classes(kind, sets), &addresses);
}

#[test]
fn nothing_and_everything() {
    for kind in [SetKind::Members, SetKind::Nets] {
        check_sets("no member", kind, vec![vec![]], 0);
        check_sets("all of IPv4", kind, vec![nets(&["0.0.0.0/0"])], 1);
        check_sets("all of IPv6", kind, vec![nets(&["::/0"])], 1);
        check_sets("the zero addresses", kind, vec![nets(&["0.0.0.0/32", "::/128"])], 2);
        check_sets(
            "the zero address in a prefix",
            kind,
            vec![nets(&["::/128", "::/64"]), nets(&["::/1"])],
            2,
        );
        check_sets("the last addresses", kind, vec![nets(&["255.255.255.255/32", "ffff::/16"])], 2);
    }
}

#[test]
fn every_prefix_length_nested() {
    let v4 = |l: u8| IpNet::from(Ipv4Net::new(Ipv4Addr::new(10, 129, 131, 133), l).unwrap().trunc());
    let v6 = |l: u8| {
        let address: Ipv6Addr = "fd81:8383:8585:8787:8989:8b8b:8d8d:8f8f".parse().unwrap();
        IpNet::from(Ipv6Net::new(address, l).unwrap().trunc())
    };
    for kind in [SetKind::Members, SetKind::Nets] {
        check_sets("v4 nested", kind, (0..=32).map(|l| vec![v4(l)]).collect(), 1);
        check_sets("v6 nested to /64", kind, (0..=64).map(|l| vec![v6(l)]).collect(), 1);
        check_sets("v6 nested", kind, (0..=128).map(|l| vec![v6(l)]).collect(), 1);
        let most_in_code = (48..64).map(|l| vec![v6(l)]).collect();
        check_sets("v6 of sixteen lengths", kind, most_in_code, 1);
        let few = [0, 1, 32, 48, 64, 127, 128].map(|l| vec![v6(l)]).to_vec();
        check_sets("v6 of seven lengths", kind, few, 1);
    }
}

#[test]
fn random_sets_of_all_sizes() {
    let mut random = Random(77);
    for (hosts, prefixes) in [(3, 0), (300, 0), (0, 40), (300, 40), (5_000, 300), (40_000, 0), (0, 20_000)] {
        let mut sets = vec![Vec::new(); 12];
        for i in 0..hosts {
            let (a, b) = (Ipv4Addr::from(0x0a00_0000 | (random.next() as u32 & 0x3f_ffff)), random.v6());
            sets[i % 12].push(IpNet::from(IpAddr::from(a)));
            sets[(i / 3) % 12].push(IpNet::from(IpAddr::from(b)));
        }
        for i in 0..prefixes {
            let (l4, l6) = (4 + random.below(28) as u8, 12 + random.below(9) as u8 * 8);
            let a = Ipv4Addr::from(0x0a00_0000 | (random.next() as u32 & 0xff_ffff));
            let b = Ipv6Addr::from((0xfd00 << 112) | (u128::from(random.v6()) >> 24));
            sets[i % 12].push(Ipv4Net::new(a, l4).unwrap().trunc().into());
            sets[(i / 2) % 12].push(Ipv6Net::new(b, l6).unwrap().trunc().into());
        }
        for kind in [SetKind::Members, SetKind::Nets] {
            check_sets(&format!("{hosts} hosts, {prefixes} prefixes"), kind, sets.clone(), 12);
        }
    }
}
