//! nftables with the best sets an expert would write, measured so that it compares.
//!
//! A small XDP program, run on live frames (`BPF_PROG_TEST_RUN`), writes the headers
//! of the next of the stored packets into a frame and passes it; the stack receives it
//! on the loopback device of the bench's own network namespace, whose ingress hook
//! holds the rules. Packets end there: the hook jumps to the policy's chain, counts
//! what comes back allowed, and drops all. The same path with an empty chain is
//! subtracted, as the floor is for programs. Verdicts are checked by that counter.
//!
//! The rules: exact address and port pairs in one verdict map, CIDRs with ports or
//! port ranges in one concatenated interval map (pipapo), ports alone in another, lists
//! in sets. Selectors on both sides: the source's group as a mark, then one map of mark,
//! destination and port. Where rules overlap, a map's first match is not the policy's:
//! ports lead through an interval map to chains of those rules that can apply, each
//! with its sets.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::Write as _;
use std::net::IpAddr;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use polc_compiler::bpf::{AluOp, Assembler, Cond, Helper, Insn, MapRef, Reg, Size, Width};
use polc_compiler::image::MapKind;
use polc_compiler::ir::{Action, AddrSet, Flow, Outcome, PolicyIr, PortMatch, RuleData, SetKind, Verdict};
use polc_runtime::sys::bpf::{Map, Program, ProgramKind};

use crate::kernel::{self, Effort};
use crate::report::Side;
use crate::shapes::{SPREAD, Shape};
use crate::{Expected, Failure, failed};

/// Bytes of a stored frame: Ethernet, IPv6 and TCP headers, up to a multiple of 8.
const FRAME: usize = 80;
/// Longest that a ruleset may take to load.
const PATIENCE: Duration = Duration::from_secs(10);
/// Most elements of all sets: more take `nft` minutes.
const MOST: usize = 200_000;
/// Chains that ports lead to where rules overlap.
const BUCKETS: usize = 64;
const RUN: f64 = 2_000_000.0;

/// The sender, and the namespace's loopback device.
pub struct Bed {
    frames: Map,
    _turn: Map,
    sender: Program,
}

impl Bed {
    pub fn new(_: Effort) -> Result<Self, Failure> {
        let status = Command::new("ip").args(["link", "set", "lo", "up"]).status()?;
        if !status.success() {
            return Err(failed("ip link set lo up failed".into()));
        }
        let frames = kernel::map("frames", MapKind::Array, FRAME as u32, SPREAD as u32)?;
        let turn = kernel::map("turn", MapKind::Array, 8, 1)?;
        let code = sender()?.encode(|map| match map {
            MapRef::Private(0) => frames.raw_fd(),
            _ => turn.raw_fd(),
        });
        let sender = kernel::load(ProgramKind::Xdp, "sender", &code)?;
        Ok(Self { frames, _turn: turn, sender })
    }

    /// Loads the rules and measures hot and spread packets.
    pub fn measure(&self, shape: Shape, ir: &PolicyIr, expected: &Expected, effort: Effort) -> Side {
        self.try_measure(shape, ir, expected, effort).unwrap_or_else(|e| Side::Not(e.to_string()))
    }

    fn try_measure(
        &self,
        shape: Shape,
        ir: &PolicyIr,
        expected: &Expected,
        effort: Effort,
    ) -> Result<Side, Failure> {
        let rules = ruleset(shape, ir)?;
        let empty = "chain verdicts {\n}\n";
        let mut hot = 0.0_f64;
        let mut floor = 0.0;
        let mut wrong = 0;
        let groups = expected.hot.iter().map(std::slice::from_ref).chain([expected.spread.as_slice()]);
        let groups: Vec<_> = groups.collect();
        let mut without = Vec::new();
        install(empty)?;
        for packets in &groups {
            self.set(packets)?;
            without.push(self.least(effort)?);
        }
        install(&rules)?;
        let mut spread = 0.0;
        for (i, (packets, before)) in groups.iter().zip(&without).enumerate() {
            self.set(packets)?;
            wrong += self.check(packets)?;
            let ns = self.least(effort)? - before;
            if i + 1 == groups.len() {
                spread = ns;
                floor = *before;
            } else {
                hot = hot.max(ns);
            }
        }
        Ok(Side::Measured { hot, spread, floor, size: None, mismatches: wrong })
    }

    /// Stores packets, repeated to fill the table.
    fn set(&self, packets: &[(Flow, Outcome)]) -> Result<(), Failure> {
        let keys: Vec<u8> = (0..SPREAD as u32).flat_map(u32::to_ne_bytes).collect();
        let values: Vec<u8> = packets.iter().cycle().take(SPREAD).flat_map(|(f, _)| frame(f)).collect();
        self.frames.update_batch(&keys, &values).map_err(|e| failed(e.io_error.to_string()))
    }

    /// ns per packet, sender and receive path included: the least of several runs.
    fn least(&self, effort: Effort) -> Result<f64, Failure> {
        let warm = self.send(SPREAD as u32)?;
        let repeat = (RUN / warm).clamp(SPREAD as f64, 20_000.0) as u32;
        let runs =
            (f64::from(effort.runs) * (RUN / (warm * f64::from(repeat))).clamp(0.05, 1.0)).ceil() as u32;
        let mut least = f64::INFINITY;
        for _ in 0..runs.max(3) {
            least = least.min(self.send(repeat)?);
        }
        Ok(least)
    }

    /// ns per packet as the kernel has it, in whole ns: the call itself waits for the
    /// frames' memory to be given back, which takes milliseconds.
    fn send(&self, repeat: u32) -> Result<f64, Failure> {
        let run = self.sender.test_run_live(&[0; FRAME], repeat);
        let (_, ns) = run.map_err(|e| failed(format!("live run: {}", e.io_error)))?;
        Ok(f64::from(ns).max(1.0))
    }

    /// By how many packets of one whole turn the allowed ones are off.
    fn check(&self, packets: &[(Flow, Outcome)]) -> Result<usize, Failure> {
        let allowed = |(_, o): &&(Flow, Outcome)| o.verdict == Verdict::Allow;
        let want = packets.iter().cycle().take(SPREAD).filter(allowed).count();
        let before = counted()?;
        self.send(SPREAD as u32)?;
        Ok((counted()? - before).abs_diff(want))
    }
}

/// Writes the next stored packet's headers into the frame and passes it.
fn sender() -> Result<polc_compiler::bpf::Code, Failure> {
    let mut a = Assembler::new();
    let drop = a.new_label();
    a.push(Insn::load(Size::B4, Reg::R6, Reg::R1, 0));
    a.push(Insn::load(Size::B4, Reg::R7, Reg::R1, 4));
    let look_up = |a: &mut Assembler, map| {
        a.push(Insn::mov(Reg::R2, Reg::R10));
        a.push(Insn::alu(AluOp::Add, Reg::R2, -4));
        a.load_map(Reg::R1, MapRef::Private(map));
        a.call(Helper::MAP_LOOKUP_ELEM);
        a.jump_if(Width::W64, Cond::Eq, Reg::R0, 0, drop);
    };
    a.push(Insn::store(Size::B4, Reg::R10, -4, 0));
    look_up(&mut a, 1);
    a.push(Insn::load(Size::B8, Reg::R1, Reg::R0, 0));
    a.push(Insn::mov(Reg::R2, Reg::R1));
    a.push(Insn::alu(AluOp::Add, Reg::R2, 1));
    a.push(Insn::store(Size::B8, Reg::R0, 0, Reg::R2));
    a.push(Insn::alu(AluOp::And, Reg::R1, SPREAD as i32 - 1));
    a.push(Insn::store(Size::B4, Reg::R10, -4, Reg::R1));
    look_up(&mut a, 0);
    a.push(Insn::mov(Reg::R2, Reg::R6));
    a.push(Insn::alu(AluOp::Add, Reg::R2, FRAME as i32));
    a.jump_if(Width::W64, Cond::Gt, Reg::R2, Reg::R7, drop);
    for at in (0..FRAME as i16).step_by(8) {
        a.push(Insn::load(Size::B8, Reg::R1, Reg::R0, at));
        a.push(Insn::store(Size::B8, Reg::R6, at, Reg::R1));
    }
    const XDP_DROP: i32 = 1;
    const XDP_PASS: i32 = 2;
    a.push(Insn::mov(Reg::R0, XDP_PASS));
    a.push(Insn::Exit);
    a.bind(drop)?;
    a.push(Insn::mov(Reg::R0, XDP_DROP));
    a.push(Insn::Exit);
    Ok(a.finish()?)
}

/// Headers of a flow; checksums are left out, since the hook stands before they
/// would be looked at.
fn frame(flow: &Flow) -> [u8; FRAME] {
    let mut bytes = [0; FRAME];
    let transport = match (flow.src, flow.dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            bytes[12..14].copy_from_slice(&[0x08, 0x00]);
            bytes[14] = 0x45;
            bytes[16..18].copy_from_slice(&(FRAME as u16 - 14).to_be_bytes());
            bytes[22] = 64;
            bytes[23] = flow.protocol;
            bytes[26..30].copy_from_slice(&src.octets());
            bytes[30..34].copy_from_slice(&dst.octets());
            34
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            bytes[12..14].copy_from_slice(&[0x86, 0xdd]);
            bytes[14] = 0x60;
            bytes[18..20].copy_from_slice(&(FRAME as u16 - 54).to_be_bytes());
            bytes[20] = flow.protocol;
            bytes[21] = 64;
            bytes[22..38].copy_from_slice(&src.octets());
            bytes[38..54].copy_from_slice(&dst.octets());
            54
        }
        _ => return bytes,
    };
    if let Some((sport, dport)) = flow.ports {
        bytes[transport..transport + 2].copy_from_slice(&sport.to_be_bytes());
        bytes[transport + 2..transport + 4].copy_from_slice(&dport.to_be_bytes());
    }
    bytes[transport + 12] = 0x50;
    bytes
}

/// Replaces the namespace's rules.
fn install(policy: &str) -> Result<(), Failure> {
    let hook = "chain entrance {\n type filter hook ingress device lo priority 0; policy drop;\n \
                jump verdicts\n counter name allowed\n drop\n}\n";
    let text = format!("flush ruleset\ntable netdev bench {{\ncounter allowed {{ }}\n{policy}{hook}}}\n");
    let mut nft = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| failed(format!("nft: {e}")))?;
    let mut input = nft.stdin.take().ok_or_else(|| failed("nft has no input".into()))?;
    let writer = std::thread::spawn(move || input.write_all(text.as_bytes()));
    let start = Instant::now();
    while nft.try_wait()?.is_none() {
        if start.elapsed() > PATIENCE {
            nft.kill()?;
            nft.wait()?;
            let _ = writer.join();
            return Err(failed(format!("nft takes more than {} s to load it", PATIENCE.as_secs())));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    let _ = writer.join();
    let done = nft.wait_with_output()?;
    if done.status.success() {
        return Ok(());
    }
    let problem = String::from_utf8_lossy(&done.stderr).lines().next().unwrap_or_default().to_string();
    Err(failed(format!("nft refuses: {}", problem.chars().take(120).collect::<String>())))
}

/// Packets that came back allowed.
fn counted() -> Result<usize, Failure> {
    let done = Command::new("nft").args(["list", "counter", "netdev", "bench", "allowed"]).output()?;
    let text = String::from_utf8_lossy(&done.stdout);
    let mut words = text.split_whitespace().skip_while(|w| *w != "packets").skip(1);
    let count = words.next().and_then(|n| n.parse().ok());
    count.ok_or_else(|| failed("nft shows no counter".into()))
}

/// Text of sets and of `chain verdicts`, from which allowed packets return.
fn ruleset(shape: Shape, ir: &PolicyIr) -> Result<String, Failure> {
    let elements: usize = ir.sets.values().map(|s| s.nets.len()).sum();
    if elements > MOST {
        return Err(failed(format!("{elements} elements; nft takes minutes above {MOST}")));
    }
    match shape {
        Shape::Ports | Shape::Cidrs => lists(ir),
        Shape::Overlap | Shape::OverlapBoth | Shape::BothOverlapPort => buckets(ir),
        Shape::BothSides => both_sides(ir),
        _ => maps(ir),
    }
}

fn verdict(action: Action) -> &'static str {
    if action == Action::Allow { "return" } else { "drop" }
}

fn rules(ir: &PolicyIr) -> impl Iterator<Item = &RuleData> {
    ir.chains[ir.order[0]].rules.iter().map(|rule| &ir.rules[*rule])
}

/// The one range of destination ports that the shapes' rules have.
fn range(rule: &RuleData) -> Result<(u16, u16), Failure> {
    match rule.matches.dst.ports.as_deref() {
        Some([PortMatch::Range(first, last)]) => Ok((*first, *last)),
        _ => Err(failed("a rule without exactly one port range".into())),
    }
}

fn ports_text((first, last): (u16, u16)) -> String {
    if first == last { first.to_string() } else { format!("{first}-{last}") }
}

/// One rule with long lists: a set for each.
fn lists(ir: &PolicyIr) -> Result<String, Failure> {
    let rule = rules(ir).next().ok_or_else(|| failed("no rule".into()))?;
    let mut text = String::new();
    let mut line = String::from("meta l4proto tcp ");
    if let [set] = rule.matches.src.in_sets[..] {
        let nets: Vec<String> = ir.sets[set].nets.iter().map(|n| n.to_string()).collect();
        let nets = nets.join(",");
        let _ = writeln!(text, "set nets {{ type ipv4_addr; flags interval; elements = {{ {nets} }}; }}");
        line.push_str("ip saddr @nets ");
    }
    let ports = rule.matches.dst.ports.iter().flatten().map(|port| match *port {
        PortMatch::Range(first, last) => ports_text((first, last)),
        PortMatch::Named { port, .. } => port.to_string(),
    });
    let ports: Vec<String> = ports.collect();
    let _ = writeln!(text, "set ports {{ type inet_service; elements = {{ {} }}; }}", ports.join(","));
    let _ = writeln!(text, "chain verdicts {{\n{line} tcp dport @ports return\ndrop\n}}");
    Ok(text)
}

/// Rules whose matches are disjoint but for those of lower rank: exact pairs, then
/// networks, then ports alone.
fn maps(ir: &PolicyIr) -> Result<String, Failure> {
    let mut exact: [BTreeMap<(String, u16), &str>; 2] = Default::default();
    let mut nets: [BTreeMap<(String, String), &str>; 2] = Default::default();
    let mut ports: BTreeMap<u16, &str> = BTreeMap::new();
    for rule in rules(ir) {
        let (first, last) = range(rule)?;
        let action = verdict(rule.action);
        let side = &rule.matches.src;
        let (sets, action_of_members) = match side.not_in.is_empty() {
            true => (&side.in_sets, action),
            // Who is in the set falls through to the end, everyone else is the port's.
            false => (&side.not_in, "drop"),
        };
        for set in sets {
            for net in &ir.sets[*set].nets {
                let family = usize::from(net.addr().is_ipv6());
                if ir.sets[*set].kind == SetKind::Nets {
                    let key = (net.to_string(), ports_text((first, last)));
                    nets[family].entry(key).or_insert(action_of_members);
                } else {
                    exact[family].entry((net.addr().to_string(), first)).or_insert(action_of_members);
                }
            }
        }
        if side.in_sets.is_empty() {
            ports.entry(first).or_insert(action);
        }
    }
    let mut text = String::new();
    let mut chain = String::new();
    for (family, (ip, kind)) in [("ip", "ipv4_addr"), ("ip6", "ipv6_addr")].into_iter().enumerate() {
        if !exact[family].is_empty() {
            let all: Vec<String> =
                exact[family].iter().map(|((a, p), v)| format!("{a} . {p} : {v}")).collect();
            let all = all.join(",");
            let _ = writeln!(
                text,
                "map exact{family} {{ type {kind} . inet_service : verdict; elements = {{ {all} }}; }}"
            );
            let _ = writeln!(chain, "{ip} saddr . tcp dport vmap @exact{family}");
        }
        if !nets[family].is_empty() {
            let all: Vec<String> =
                nets[family].iter().map(|((n, p), v)| format!("{n} . {p} : {v}")).collect();
            let all = all.join(",");
            let _ = writeln!(
                text,
                "map nets{family} {{ type {kind} . inet_service : verdict; flags interval; elements = {{ {all} }}; }}"
            );
            let _ = writeln!(chain, "{ip} saddr . tcp dport vmap @nets{family}");
        }
    }
    if !ports.is_empty() {
        let all: Vec<String> = ports.iter().map(|(p, v)| format!("{p} : {v}")).collect();
        let _ = writeln!(
            text,
            "map ports {{ type inet_service : verdict; elements = {{ {} }}; }}",
            all.join(",")
        );
        let _ = writeln!(chain, "tcp dport vmap @ports");
    }
    let _ = writeln!(text, "chain verdicts {{\n{chain}drop\n}}");
    Ok(text)
}

/// The source's group as a mark, then one look-up of mark, destination and port.
fn both_sides(ir: &PolicyIr) -> Result<String, Failure> {
    let mut groups: BTreeSet<AddrSet> = BTreeSet::new();
    let mut pairs: BTreeMap<(u32, String, u16), &str> = BTreeMap::new();
    for rule in rules(ir) {
        let ([src], [dst]) = (&rule.matches.src.in_sets[..], &rule.matches.dst.in_sets[..]) else {
            return Err(failed("a rule without a set on either side".into()));
        };
        groups.insert(*src);
        for net in &ir.sets[*dst].nets {
            let key = (src.as_u32() + 1, net.addr().to_string(), range(rule)?.0);
            pairs.entry(key).or_insert(verdict(rule.action));
        }
    }
    if pairs.len() > MOST {
        return Err(failed(format!("{} elements; nft takes minutes above {MOST}", pairs.len())));
    }
    let members = |set: &AddrSet| {
        let mark = set.as_u32() + 1;
        ir.sets[*set].nets.iter().map(move |net| format!("{} : {mark}", net.addr()))
    };
    let marks: Vec<String> = groups.iter().flat_map(members).collect();
    let pairs: Vec<String> = pairs.iter().map(|((m, d, p), v)| format!("{m} . {d} . {p} : {v}")).collect();
    Ok(format!(
        "map groups {{ type ipv4_addr : mark; elements = {{ {} }}; }}\n\
         map pairs {{ type mark . ipv4_addr . inet_service : verdict; elements = {{ {} }}; }}\n\
         chain verdicts {{\nmeta mark set ip saddr map @groups\n\
         meta mark . ip daddr . tcp dport vmap @pairs\ndrop\n}}\n",
        marks.join(","),
        pairs.join(",")
    ))
}

/// Ports lead to a chain of the rules that can apply there, in their order.
fn buckets(ir: &PolicyIr) -> Result<String, Failure> {
    let mut text = String::new();
    for (id, set) in ir.sets.iter() {
        let nets: Vec<String> = set.nets.iter().map(|n| n.addr().to_string()).collect();
        let nets = nets.join(",");
        let _ = writeln!(text, "set s{} {{ type ipv4_addr; elements = {{ {nets} }}; }}", id.as_u32());
    }
    let bounds = cuts(ir)?;
    let mut lead = Vec::new();
    let (mut chains, mut count) = (String::new(), 0);
    for (i, cut) in bounds.windows(2).enumerate() {
        let (low, high) = (cut[0], cut[1] - 1);
        let _ = writeln!(chains, "chain ports{i} {{");
        for rule in rules(ir) {
            let (first, last) = range(rule)?;
            if u32::from(last) < low || u32::from(first) > high {
                continue;
            }
            count += 1;
            for (key, side) in [("saddr", &rule.matches.src), ("daddr", &rule.matches.dst)] {
                if let [set] = side.in_sets[..] {
                    let _ = write!(chains, "ip {key} @s{} ", set.as_u32());
                }
            }
            // The map has seen the port already where it is one port only.
            if u32::from(first) > low || u32::from(last) < high {
                let _ = write!(chains, "tcp dport {} ", ports_text((first, last)));
            }
            let _ = writeln!(chains, "{}", verdict(rule.action));
        }
        chains.push_str("drop\n}\n");
        lead.push(format!("{low}-{high} : goto ports{i}"));
    }
    if count > MOST {
        return Err(failed(format!("{count} rules; nft takes minutes above {MOST}")));
    }
    text.push_str(&chains);
    let _ = writeln!(
        text,
        "map lead {{ type inet_service : verdict; flags interval; elements = {{ {} }}; }}",
        lead.join(",")
    );
    text.push_str("chain verdicts {\ntcp dport vmap @lead\ndrop\n}\n");
    Ok(text)
}

/// Bounds of the buckets: ends of ranges, at most [`BUCKETS`] of them and evenly taken.
fn cuts(ir: &PolicyIr) -> Result<Vec<u32>, Failure> {
    let mut ends: BTreeSet<u32> = BTreeSet::new();
    for rule in rules(ir) {
        let (first, last) = range(rule)?;
        ends.extend([u32::from(first), u32::from(last) + 1]);
    }
    let ends: Vec<u32> = ends.into_iter().filter(|e| (1..65_536).contains(e)).collect();
    let step = ends.len().div_ceil(BUCKETS).max(1);
    Ok([0].into_iter().chain(ends.into_iter().step_by(step)).chain([65_536]).collect())
}
