//! Images whose members change, against the reference evaluator and new compiles.

mod reader;

use ipnet::IpNet;

use super::*;
use crate::emit::{EmitOptions, Form};
use crate::ir::generate::{Rng, Shape, flows, policy};
use crate::ir::{self, Flow, Outcome};

use reader::read;

const FORMS: [Form; 4] = [Form::Dense, Form::Sparse, Form::Cross, Form::Bits];

fn options(form: Form) -> CompileOptions {
    let limits = EmitOptions { form, ..EmitOptions::default() };
    CompileOptions { limits, ..CompileOptions::default() }
}

/// A policy whose sets' members may all change; with `one_sided`, whose rules look at
/// the source's address alone.
fn open_policy(seed: u64, shape: &Shape, one_sided: bool) -> PolicyIr {
    let mut ir = policy(seed, shape);
    for (id, set) in ir.sets.iter_mut() {
        // One in four keeps its kind, so that classes of both kinds meet.
        if id.as_u32() % 4 != 3 {
            set.kind = SetKind::Members;
            set.name = format!("{id}");
        }
    }
    if one_sided {
        for rule in ir.rules.values_mut() {
            let dst = &mut rule.matches.dst;
            dst.in_sets.clear();
            dst.not_in.clear();
            let named = |port: &ir::PortMatch| matches!(port, ir::PortMatch::Named { .. });
            dst.not_ports.retain(|port| !named(port));
            if let Some(ports) = &mut dst.ports {
                ports.retain(|port| !named(port));
            }
        }
    }
    ir
}

/// What the reference says of some packets.
fn truth(ir: &PolicyIr, flows: &[Flow]) -> Vec<Outcome> {
    flows.iter().map(|flow| ir::evaluate(ir, flow)).collect()
}

/// A policy, its image, and a model of who is in its sets.
struct World {
    ir: PolicyIr,
    image: PolicyImage,
    live: LiveTables,
    options: CompileOptions,
}

impl World {
    fn new(ir: PolicyIr, options: CompileOptions) -> Option<Self> {
        let (image, live) = match compile_live(ir.clone(), &options) {
            Err(error) if error.is_limit() => return None,
            done => done.unwrap(),
        };
        assert_eq!(crate::compile::compile(ir.clone(), &options).as_ref(), Ok(&image));
        Some(Self { ir, image, live, options })
    }

    /// Carries out one change. Each step of its stores is shown to `step`; `false` if
    /// it was refused, and everything compiled again.
    fn change(&mut self, change: &Change, mut step: impl FnMut(&LiveTables, &PolicyImage)) -> bool {
        let mut stores = Vec::new();
        let mut done = self.live.change(change, &mut stores);
        if done == Err(Refused::NotQuiet) {
            assert!(stores.is_empty());
            self.live.quiesce();
            done = self.live.change(change, &mut stores);
        }
        for (set, add) in change.add.iter().map(|s| (s, true)).chain(change.remove.iter().map(|s| (s, false)))
        {
            let nets = &mut self.ir.sets[*set].nets;
            match (nets.binary_search(&change.net), add) {
                (Err(at), true) => nets.insert(at, change.net),
                (Ok(at), false) => drop(nets.remove(at)),
                _ => {}
            }
        }
        if let Err(error) = done {
            assert!(stores.is_empty() && error != Refused::Stale, "{error}");
            let (image, live) = compile_live(self.ir.clone(), &self.options).unwrap();
            (self.image, self.live) = (image, live);
            return false;
        }
        for store in &stores {
            let map = &self.image.maps[store.map as usize];
            assert!(!map.fixed, "{store:?} goes to {}", map.name);
            assert!(store.apply(&mut self.image.maps), "{store:?}");
            step(&self.live, &self.image);
        }
        true
    }
}

/// Some address or prefix and what happens to it.
fn any_change(ir: &PolicyIr, flows: &[Flow], rng: &mut Rng) -> Change {
    let open: Vec<AddrSet> =
        ir.sets.iter().filter(|(_, set)| set.kind == SetKind::Members).map(|(id, _)| id).collect();
    let flow = flows[rng.below(flows.len())];
    let address = if rng.chance(50) { flow.src } else { flow.dst };
    let net = match rng.below(10) {
        0 => {
            let listed: Vec<IpNet> = open.iter().flat_map(|set| ir.sets[*set].nets.clone()).collect();
            if listed.is_empty() { IpNet::from(address) } else { listed[rng.below(listed.len())] }
        }
        1 if address.is_ipv4() => IpNet::new(address, 24).unwrap().trunc(),
        _ => IpNet::from(address),
    };
    let (mut add, mut remove) = (Vec::new(), Vec::new());
    for set in open {
        match ir.sets[set].nets.contains(&net) {
            true if rng.chance(60) => remove.push(set),
            false if rng.chance(20) => add.push(set),
            _ => {}
        }
    }
    Change { net, add, remove }
}

struct Tally {
    fitted: usize,
    made: usize,
    refused: usize,
    steps: usize,
}

/// Random changes, in images of one form.
fn walk(form: Form, shape: &Shape, seeds: std::ops::Range<u64>) -> Tally {
    let one_sided = matches!(form, Form::Dense | Form::Sparse);
    let mut tally = Tally { fitted: 0, made: 0, refused: 0, steps: 0 };
    for seed in seeds {
        let Some(mut world) = World::new(open_policy(seed, shape, one_sided), options(form)) else {
            continue;
        };
        if world.live.layout().is_none() {
            continue;
        }
        let flows: Vec<Flow> = flows(&world.ir, seed, 40);
        let mut rng = Rng::new(seed);
        tally.fitted += 1;
        for _ in 0..25 {
            let change = any_change(&world.ir, &flows, &mut rng);
            let old = truth(&world.ir, &flows);
            let mut new_ir = world.ir.clone();
            for (id, set) in new_ir.sets.iter_mut() {
                if change.remove.contains(&id) {
                    set.nets.retain(|net| *net != change.net);
                } else if change.add.contains(&id) {
                    set.nets.push(change.net);
                    set.nets.sort_unstable();
                }
            }
            let new = truth(&new_ir, &flows);
            let made = world.change(&change, |live, image| {
                tally.steps += 1;
                for ((flow, old), new) in flows.iter().zip(&old).zip(&new) {
                    let got = read(live, image, flow);
                    assert!(
                        got == *old || got == *new,
                        "seed {seed}: {change:?}: {flow:?}: {got:?}\n{new_ir}"
                    );
                }
            });
            assert_eq!(world.ir, new_ir);
            tally.made += usize::from(made);
            tally.refused += usize::from(!made);
            for (flow, new) in flows.iter().zip(&new) {
                assert_eq!(read(&world.live, &world.image, flow), *new, "seed {seed}: {form:?}: {flow:?}");
            }
            if rng.chance(30) {
                world.live.quiesce();
            }
        }
        // What was reached by changes is what a new compile gives.
        let fresh = World::new(world.ir.clone(), options(form)).unwrap();
        for flow in &flows {
            assert_eq!(
                read(&world.live, &world.image, flow),
                read(&fresh.live, &fresh.image, flow),
                "seed {seed}: {form:?}: {flow:?}"
            );
        }
    }
    tally
}

#[test]
fn every_step_of_every_form_shows_old_or_new() {
    let plain = Shape { chains: 2, rules: 8, sets: 6, nets: 4, ports: 4, log: false };
    let large = Shape { chains: 3, rules: 40, sets: 24, nets: 6, ports: 8, log: true };
    for form in FORMS {
        let all = walk(form, &plain, 0..60);
        let more = walk(form, &large, 100..112);
        println!(
            "{form:?}: {} + {} policies, {} changes, {} refused, {} stores",
            all.fitted,
            more.fitted,
            all.made + more.made,
            all.refused + more.refused,
            all.steps + more.steps
        );
        assert!(all.fitted > 25 && more.fitted > 3, "{form:?}: {} {}", all.fitted, more.fitted);
        assert!(all.made > 500 && all.steps > 2_000, "{form:?}: {} {}", all.made, all.steps);
        assert!(all.refused + more.refused < (all.made + more.made) / 4, "{form:?}: {}", all.refused);
    }
}

/// What a whole new membership changes, one address after the other.
#[test]
fn a_newly_resolved_policy_is_reached() {
    let shape = Shape { chains: 2, rules: 8, sets: 6, nets: 4, ports: 4, log: false };
    let (mut reached, mut compiled) = (0, 0);
    for seed in 0..80 {
        let ir = open_policy(seed, &shape, false);
        let Some(mut world) = World::new(ir, options(Form::Auto)) else { continue };
        let packets: Vec<Flow> = flows(&world.ir, seed, 40);
        let mut rng = Rng::new(seed);
        let mut new = world.ir.clone();
        new.name = "the same under another name".into();
        for _ in 0..6 {
            let Change { net, add, remove } = any_change(&new, &packets, &mut rng);
            for (id, set) in new.sets.iter_mut().filter(|(_, set)| set.kind == SetKind::Members) {
                set.nets.retain(|old| *old != net || !remove.contains(&id));
                if add.contains(&id) {
                    set.nets.push(net);
                    set.nets.sort_unstable();
                }
            }
        }
        let wanted = ResolvedPolicy::new(new.clone(), options(Form::Auto));
        let changes = match world.live.changes_to(&wanted) {
            Err(CompileNeeded::Nested(_)) => {
                compiled += 1;
                continue;
            }
            changes => changes.unwrap(),
        };
        if !changes.iter().all(|change| world.change(change, |_, _| ())) {
            compiled += 1;
            continue;
        }
        reached += 1;
        assert_eq!(world.live.changes_to(&wanted), Ok(Vec::new()), "seed {seed}");
        if world.live.layout().is_some() {
            for flow in &packets {
                assert_eq!(read(&world.live, &world.image, flow), ir::evaluate(&new, flow), "seed {seed}");
            }
        }
    }
    println!("{reached} reached, {compiled} compiled");
    assert!(reached > 40 && compiled < reached, "{reached} {compiled}");
}

fn small(members: [&str; 2]) -> PolicyIr {
    let text = format!(
        r#"
        policy "p" ingress
        decision0 = rule allow index 0 name "p"
        decision1 = tier-default deny name "t"
        set0 = members "a" {{ {} }}
        set1 = members "b" {{ {} }}
        set2 = nets "10.9.0.0/16" {{ 10.9.0.0/16 }}
        chain0 "t" {{
          rule0: proto tcp; src in set0; dport 80 -> allow decision0
          rule1: proto tcp; src in set1; dport 80, 81 -> allow decision0
          rule2: proto tcp; src in set2; dport 82 -> allow decision0
        }} deny decision1
        order chain0"#,
        members[0], members[1]
    );
    ir::parse(&text).unwrap()
}

#[test]
fn a_pod_whose_labels_change_moves_in_one_leaf_store() {
    for form in [Form::Auto, Form::Dense, Form::Sparse] {
        let mut world =
            World::new(small(["10.0.0.1/32, 10.0.0.3/32", "10.0.0.2/32"]), options(form)).unwrap();
        let wanted = ResolvedPolicy::new(small(["10.0.0.3/32", "10.0.0.1/32, 10.0.0.2/32"]), options(form));
        let changes = world.live.changes_to(&wanted).unwrap();
        let [change] = &changes[..] else { panic!("{changes:?}") };
        assert_eq!((change.add.len(), change.remove.len()), (1, 1));
        let flow = |port| Flow {
            src: "10.0.0.1".parse().unwrap(),
            dst: "10.1.0.1".parse().unwrap(),
            protocol: 6,
            ports: Some((4000, port)),
            icmp: None,
        };
        let mut seen = Vec::new();
        assert!(world.change(change, |live, image| {
            let allowed = [80, 81].map(|port| read(live, image, &flow(port)).verdict);
            seen.push(allowed);
        }));
        // Both know the class of b alone, so that one store says it all.
        assert_eq!(seen, [[ir::Verdict::Allow, ir::Verdict::Allow]], "{form:?}");
    }
}

/// Names of the maps of an image that are fixed.
fn fixed(image: &PolicyImage) -> Vec<&str> {
    image.maps.iter().filter(|map| map.fixed).map(|map| map.name.as_str()).collect()
}

#[test]
fn what_says_nothing_about_members_is_fixed() {
    let mut logging = small(["10.0.0.1/32", "10.0.0.2/32"]);
    let rule = logging.rules.values_mut().next().unwrap();
    let log = ir::DecisionData { action: ir::Action::Log, ..logging.decisions[rule.decision].clone() };
    (rule.action, rule.decision) = (ir::Action::Log, logging.decisions.push(log));
    for (form, own) in [
        (Form::Dense, &["polc_outcomes"][..]),
        (Form::Sparse, &["polc_outcomes"]),
        (Form::Cross, &["polc_columns", "polc_cross", "polc_outcomes"]),
        (Form::Bits, &["polc_records", "polc_blocks"]),
    ] {
        let mut options = options(form);
        options.limits.count = true;
        let (image, _) = compile_live(logging.clone(), &options).unwrap();
        assert_eq!(fixed(&image), [&["polc_ports"], own].concat(), "{form:?}");
    }
}

#[test]
fn where_no_members_change_only_counters_do() {
    let mut closed = small(["10.0.0.1/32", "10.0.0.2/32"]);
    for id in [0, 1].map(AddrSet::from_u32) {
        closed.sets[id].kind = SetKind::Nets;
    }
    let mut unused = closed.sets[AddrSet::from_u32(0)].clone();
    (unused.kind, unused.name) = (SetKind::Members, "unused".into());
    let unused = closed.sets.push(unused);
    for form in FORMS.into_iter().chain([Form::Chain]) {
        let mut options = options(form);
        options.limits.count = true;
        let (image, mut live) = compile_live(closed.clone(), &options).unwrap();
        let others: Vec<&str> =
            image.maps.iter().filter(|map| !map.fixed).map(|map| map.name.as_str()).collect();
        assert_eq!(others, ["polc_hits"], "{form:?}");
        let change = Change { net: "10.0.0.1/32".parse().unwrap(), add: vec![unused], remove: vec![] };
        let mut stores = Vec::new();
        let done = live.change(&change, &mut stores);
        assert!(stores.is_empty() && done.is_ok() == live.can_change(), "{form:?}: {done:?}");
    }
    // A chain is replaced as a whole, whoever comes or goes.
    let (chain, _) = compile_live(small(["10.0.0.1/32", "10.0.0.2/32"]), &options(Form::Chain)).unwrap();
    assert_eq!(fixed(&chain), ["polc_addr4", "polc_addr6", "polc_rows"]);
}

#[test]
fn what_is_no_change_of_members_asks_for_a_compile() {
    let (image, live) = compile_live(small(["10.0.0.1/32", "10.0.0.2/32"]), &options(Form::Auto)).unwrap();
    assert!(!image.maps.is_empty());
    let to = |ir: PolicyIr| live.changes_to(&ResolvedPolicy::new(ir, options(Form::Auto)));
    assert_eq!(to(small(["10.0.0.1/32", "10.0.0.2/32"])), Ok(Vec::new()));
    let nested = small(["10.0.0.1/32", "10.0.0.0/24"]);
    assert_eq!(to(nested), Err(CompileNeeded::Nested("10.0.0.2/32".parse().unwrap())));
    let mut other = small(["10.0.0.1/32", "10.0.0.2/32"]);
    other.sets[AddrSet::from_u32(2)].nets.push("10.10.0.0/16".parse().unwrap());
    assert_eq!(to(other), Err(CompileNeeded::Policy));
    let mut other = small(["10.0.0.1/32", "10.0.0.2/32"]);
    other.rules.values_mut().for_each(|rule| rule.action = ir::Action::Deny);
    assert_eq!(to(other), Err(CompileNeeded::Policy));
    let (_, chain) = compile_live(small(["10.0.0.1/32", "10.0.0.2/32"]), &options(Form::Chain)).unwrap();
    let wanted = ResolvedPolicy::new(small(["10.0.0.1/32", ""]), options(Form::Chain));
    assert_eq!(chain.changes_to(&wanted), Err(CompileNeeded::Chain));
    assert!(!chain.can_change());
    let mut fixed = live.clone();
    let change =
        Change { net: "10.3.0.0/16".parse().unwrap(), add: vec![AddrSet::from_u32(2)], remove: vec![] };
    assert_eq!(fixed.change(&change, &mut Vec::new()), Err(Refused::Fixed));
}

#[test]
fn sets_that_are_one_in_the_image_change_together() {
    let mut ir = small(["10.0.0.1/32", "10.0.0.1/32"]);
    ir.sets[AddrSet::from_u32(1)].name = "a".into();
    let (image, mut live) = compile_live(ir.clone(), &options(Form::Auto)).unwrap();
    let net: IpNet = "10.0.0.7/32".parse().unwrap();
    let change = |add: &[u32]| Change {
        net,
        add: add.iter().copied().map(AddrSet::from_u32).collect(),
        remove: vec![],
    };
    let mut stores = Vec::new();
    assert_eq!(live.change(&change(&[0]), &mut stores), Err(Refused::Merged));
    assert_eq!(live.change(&change(&[0, 1]), &mut stores), Ok(()));
    assert!(!stores.is_empty() && image.maps.len() > 1);
    ir.sets[AddrSet::from_u32(0)].nets.push(net);
    let to = |live: &LiveTables, ir: &PolicyIr| {
        live.changes_to(&ResolvedPolicy::new(ir.clone(), options(Form::Auto)))
    };
    assert_eq!(to(&live, &ir), Err(CompileNeeded::Merged));
    ir.sets[AddrSet::from_u32(1)].nets.push(net);
    assert_eq!(to(&live, &ir), Ok(Vec::new()));
    let classes = live.classes();
    assert_eq!(classes[0], (Class::NONE, Vec::new()));
    assert!(classes.iter().any(|(_, sets)| sets.len() == 2), "{classes:?}");
}
