//! polc against a naive reading of the same manifests.
//!
//! Random clusters and policies are written as YAML, read by polc, and asked
//! about random packets twice: once by resolving to IR and evaluating that, once
//! by an oracle that walks the objects as the API documentation describes them
//! and shares no code with resolve or the IR. Verdict, deciding rule and log
//! records must agree. The same cases also show that what should not matter does
//! not: the order of documents and list items, the names of labels, CIDRs cut
//! into halves.
//!
//! `POLC_CASES` and `POLC_SEED` say how many cases and which; a failure prints
//! the seed that repeats it alone, and the manifests.

#[path = "oracle/evaluate.rs"]
mod evaluate;
#[path = "oracle/matching.rs"]
mod matching;
#[path = "oracle/packets.rs"]
mod packets;
#[path = "oracle/policies.rs"]
mod policies;
#[path = "oracle/random.rs"]
mod random;
#[path = "oracle/selectors.rs"]
mod selectors;
#[path = "oracle/variants.rs"]
mod variants;
#[path = "oracle/world.rs"]
mod world;

use std::collections::BTreeMap;

use polc_compiler::diag::{self, Severity, Sources};
use polc_compiler::ir::{self, DecisionData, DecisionKind, Direction, Flow, PolicyIr, Verdict};
use polc_compiler::manifest::{self, Objects};
use polc_compiler::resolve::Cluster;

use evaluate::Oracle;
use packets::Question;
use random::Random;
use world::World;

/// Packets asked of each case.
const PACKETS: usize = 60;

/// What came of a packet: verdict, who decided, what was logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    verdict: Verdict,
    decided: String,
    logged: Vec<String>,
}

fn number(variable: &str, default: u64) -> u64 {
    match std::env::var(variable) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{variable}={text} is not a number")),
        Err(_) => default,
    }
}

/// Runs a check on each drawn case.
fn for_each_case(name: &str, share: u64, check: impl Fn(&World, &mut Random, &mut BTreeMap<String, u64>)) {
    let (cases, seed) = (number("POLC_CASES", 4000).div_ceil(share), number("POLC_SEED", 0x6f72_6163));
    println!("{name}: {cases} cases from seed {seed} (POLC_CASES, POLC_SEED)");
    let mut seen = BTreeMap::new();
    for seed in (0..cases).map(|i| seed.wrapping_add(i)) {
        let mut random = Random::new(seed);
        let world = world::draw(&mut random, seed);
        check(&world, &mut random, &mut seen);
    }
    println!("{name}: {seen:?}");
}

/// Reads manifests that must be free of errors.
fn read(world: &World, documents: &[String]) -> (Sources, Objects) {
    let mut sources = Sources::default();
    sources.add("case.yaml", documents.join("---\n"));
    let (objects, diagnostics) = manifest::read(&sources);
    let errors: Vec<_> = diagnostics.into_iter().filter(|d| d.severity == Severity::Error).collect();
    assert!(errors.is_empty(), "seed {}: {}", world.seed, diag::render(&sources, &errors, false));
    (sources, objects)
}

/// polc's answers, each endpoint and direction resolved once.
struct Polc {
    cluster: Cluster,
    resolved: BTreeMap<(String, Direction), PolicyIr>,
}

impl Polc {
    fn new(sources: &Sources, objects: Objects) -> Self {
        Self { cluster: Cluster::new(sources, objects).0, resolved: BTreeMap::new() }
    }

    fn answer(&mut self, question: &Question) -> Answer {
        let Question { namespace, pod, direction, flow } = question;
        let key = (format!("{namespace}/{pod}"), *direction);
        let cluster = &self.cluster;
        let ir = self.resolved.entry(key).or_insert_with(|| {
            let endpoint = cluster.endpoint_by_name(namespace, pod).expect("every question is about a pod");
            cluster.resolve(endpoint, *direction)
        });
        answer(ir, flow)
    }
}

fn answer(ir: &PolicyIr, flow: &Flow) -> Answer {
    let outcome = ir::evaluate(ir, flow);
    let name = |decision| decided(&ir.decisions[decision], ir.direction);
    Answer {
        verdict: outcome.verdict,
        decided: name(outcome.decision),
        logged: outcome.logged.into_iter().map(name).collect(),
    }
}

fn decided(decision: &DecisionData, direction: Direction) -> String {
    let namespace = decision.namespace.as_ref().map(|ns| format!("{ns}/")).unwrap_or_default();
    let rule = decision.rule.map(|rule| format!(" {}[{rule}]", direction.as_str())).unwrap_or_default();
    match decision.kind {
        DecisionKind::Rule => format!("{} {namespace}{}{rule}", decision.object, decision.name),
        kind => format!("{} {}", kind.as_str(), decision.name),
    }
}

#[test]
fn polc_agrees_with_the_oracle() {
    for_each_case("oracle", 1, |world, random, seen| {
        let (sources, objects) = read(world, &world.documents);
        let oracle = Oracle::new(&objects);
        let mut polc = Polc::new(&sources, objects.clone());
        for _ in 0..PACKETS {
            let Some(question) = packets::draw(random, &objects) else { return };
            let (want, got) = (oracle.answer(&question), polc.answer(&question));
            assert!(want == got, "{}", disagreement(world, &question, ("oracle", &want), ("polc", &got)));
            *seen.entry(kind_of(&want)).or_default() += 1;
        }
    });
}

#[test]
fn what_should_not_matter_does_not() {
    for (name, variant) in variants::ALL {
        for_each_case(name, 8, |world, random, seen| {
            let (sources, objects) = read(world, &world.documents);
            let mut polc = Polc::new(&sources, objects.clone());
            let changed = variant(world, random);
            let (other_sources, other_objects) = read(world, &changed.documents);
            let mut other = Polc::new(&other_sources, (changed.objects)(other_objects, random));
            for _ in 0..PACKETS {
                let Some(question) = packets::draw(random, &objects) else { return };
                let (want, got) = (polc.answer(&question), other.answer(&question));
                assert!(want == got, "{}", disagreement(world, &question, ("before", &want), (name, &got)));
                *seen.entry(kind_of(&want)).or_default() += 1;
            }
        });
    }
}

/// For the summary: that all kinds of outcomes were seen.
fn kind_of(answer: &Answer) -> String {
    let kind = answer.decided.split(' ').next().unwrap_or_default();
    format!("{} {kind}", answer.verdict.as_str())
}

fn disagreement(world: &World, question: &Question, one: (&str, &Answer), other: (&str, &Answer)) -> String {
    format!(
        "repeat with POLC_SEED={} POLC_CASES=1\n{question:?}\n{}: {:?}\n{}: {:?}\n{}",
        world.seed,
        one.0,
        one.1,
        other.0,
        other.1,
        world.documents.join("---\n")
    )
}
