//! What the instructions that ran say, and whether it is what policy means.

use std::collections::{BTreeMap, BTreeSet};

use super::walk::{ChainWalk, Ended, Outcome, RuleWalk, Walk};
use crate::image::{NoteKind, PolicyImage, Program, Subject};
use crate::ir::{Chain, Criterion, PolicyIr, Rule, Verdict};

/// What a run left: the verdict, and the instructions that ran.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ran {
    /// The verdict.
    pub verdict: Verdict,
    /// Index into the image's decisions.
    pub decision: u32,
    /// Number of Log rules that matched.
    pub logged: u32,
    /// Decision of the last of them.
    pub last_log: Option<u32>,
    /// Program and first slot of each instruction, in order.
    pub steps: Vec<(u32, u32)>,
}

/// Which parts of a policy control got to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    /// What the programs hold of each rule.
    present: BTreeMap<Rule, Parts>,
    /// What of it ran.
    ran: BTreeMap<Rule, Parts>,
    /// Chains whose end is in the programs, and those whose end ran.
    ends: BTreeSet<Chain>,
    ends_ran: BTreeSet<Chain>,
}

/// Parts of a rule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Parts {
    tests: BTreeSet<Criterion>,
    action: bool,
}

impl Parts {
    fn last(&self) -> Option<Criterion> {
        self.tests.last().copied()
    }
}

impl Evidence {
    /// Reads it off an image that was emitted from `ir`, without a pass between.
    pub fn new(ir: &PolicyIr, image: &PolicyImage, steps: &[(u32, u32)]) -> Self {
        let mut evidence = Self::default();
        let mut by_slot = Vec::with_capacity(image.programs.len());
        // Parts of a rule that was too large follow its first part, which has its id.
        let mut whole = None;
        for program in &image.programs {
            let subjects = subjects(program, ir, &mut whole);
            for subject in program.code.iter().filter_map(|(slot, _)| subjects[slot as usize]) {
                note(&mut evidence.present, &mut evidence.ends, subject);
            }
            by_slot.push(subjects);
        }
        for (program, slot) in steps {
            let subject = by_slot.get(*program as usize).and_then(|p| p.get(*slot as usize));
            if let Some(subject) = subject.copied().flatten() {
                note(&mut evidence.ran, &mut evidence.ends_ran, subject);
            }
        }
        evidence
    }
}

/// What one instruction is for.
#[derive(Copy, Clone)]
enum For {
    Rule(Rule, Option<Subject>),
    End(Chain),
}

fn note(rules: &mut BTreeMap<Rule, Parts>, ends: &mut BTreeSet<Chain>, subject: For) {
    match subject {
        For::End(chain) => {
            ends.insert(chain);
        }
        For::Rule(rule, part) => {
            let parts = rules.entry(rule).or_default();
            match part {
                Some(Subject::Test(criterion)) => {
                    parts.tests.insert(criterion);
                }
                Some(Subject::Action) => parts.action = true,
                _ => {}
            }
        }
    }
}

/// For each slot of a program what it is for.
fn subjects(program: &Program, ir: &PolicyIr, whole: &mut Option<Rule>) -> Vec<Option<For>> {
    let mut notes = program.notes.iter().peekable();
    let mut current = None;
    (0..program.code.slots())
        .map(|slot| {
            while let Some(note) = notes.next_if(|n| n.slot <= slot) {
                current = match (note.kind, note.subject, current) {
                    (NoteKind::Part, ..) => None,
                    (_, Some(Subject::Rule(rule)), _) => {
                        if ir.rules.is_valid(rule) {
                            *whole = Some(rule);
                        }
                        whole.map(|rule| For::Rule(rule, None))
                    }
                    (_, Some(Subject::End(chain)), _) => Some(For::End(chain)),
                    (_, subject, Some(For::Rule(rule, _))) => Some(For::Rule(rule, subject)),
                    (_, _, current) => current,
                };
            }
            current
        })
        .collect()
}

/// The program and the reference evaluator tell different walks: a bug of polc.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Disagreement {
    /// About the verdict, the decision or the log records.
    #[error("the program ended in {program}, the reference evaluator in {reference}")]
    Outcome {
        /// What the program left.
        program: String,
        /// What the evaluator found.
        reference: String,
    },
    /// About a rule.
    #[error("{rule}: {program} in the program, {reference:?} by the reference evaluator")]
    Rule {
        /// The rule.
        rule: Rule,
        /// What ran of it.
        program: String,
        /// What the evaluator found.
        reference: Outcome,
    },
    /// About a chain's end.
    #[error("the end of {chain} ran: {program}; by the reference evaluator: {reference}")]
    End {
        /// The chain.
        chain: Chain,
        /// Whether its instructions ran.
        program: bool,
        /// Whether evaluation got there.
        reference: bool,
    },
}

/// Holds a walk against what ran, and marks the rules that the program has.
///
/// # Errors
/// The first difference.
pub fn agree(ir: &PolicyIr, walk: &mut Walk, image: &PolicyImage, ran: &Ran) -> Result<(), Disagreement> {
    outcomes_agree(walk, ran)?;
    let evidence = Evidence::new(ir, image, &ran.steps);
    for chain in &mut walk.chains {
        for rule in &mut chain.rules {
            rule.in_program = rule_agrees(&evidence, rule)?;
        }
        end_agrees(&evidence, chain)?;
    }
    Ok(())
}

fn outcomes_agree(walk: &Walk, ran: &Ran) -> Result<(), Disagreement> {
    let outcome = &walk.outcome;
    let reference = (
        outcome.verdict,
        outcome.decision.as_u32(),
        outcome.logged.len() as u32,
        outcome.logged.last().map(|d| d.as_u32()),
    );
    let program = (ran.verdict, ran.decision, ran.logged, ran.last_log);
    if program == reference {
        return Ok(());
    }
    let text = |(verdict, decision, logged, last): (Verdict, u32, u32, Option<u32>)| {
        let last = last.map(|d| format!(" (last by decision{d})")).unwrap_or_default();
        format!("{} by decision{decision} after {logged} log records{last}", verdict.as_str())
    };
    Err(Disagreement::Outcome { program: text(program), reference: text(reference) })
}

/// Whether the program has instructions of the rule; an error if they tell
/// something else than the walk.
fn rule_agrees(evidence: &Evidence, rule: &RuleWalk) -> Result<bool, Disagreement> {
    let Some(present) = evidence.present.get(&rule.rule) else { return Ok(false) };
    let ran = evidence.ran.get(&rule.rule);
    let agrees = match (rule.outcome, ran) {
        (Outcome::NotReached, ran) => ran.is_none(),
        (_, None) => false,
        // A criterion without instructions is one that the emitter saw to fail
        // always: nothing of the rule follows it.
        (Outcome::Missed(criterion), Some(ran)) => {
            let expected = if present.tests.contains(&criterion) { Some(criterion) } else { present.last() };
            !ran.action && ran.last() == expected
        }
        (Outcome::Matched, Some(ran)) => ran.action == present.action && ran.last() == present.last(),
    };
    if agrees {
        return Ok(true);
    }
    let program = match ran {
        None => "not reached".to_owned(),
        Some(Parts { action: true, .. }) => "matched".to_owned(),
        Some(parts) => match parts.last() {
            Some(criterion) => format!("left at {criterion:?}"),
            None => "entered and left".to_owned(),
        },
    };
    Err(Disagreement::Rule { rule: rule.rule, program, reference: rule.outcome })
}

fn end_agrees(evidence: &Evidence, chain: &ChainWalk) -> Result<(), Disagreement> {
    let reference = chain.ended == Ended::AtEnd;
    let program = evidence.ends_ran.contains(&chain.chain);
    if program == reference || !evidence.ends.contains(&chain.chain) {
        return Ok(());
    }
    Err(Disagreement::End { chain: chain.chain, program, reference })
}
