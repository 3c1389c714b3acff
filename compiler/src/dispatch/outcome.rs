//! Outcomes: what an evaluation of the whole policy leaves, as a number.
//!
//! An outcome below the number of decisions is *simple*: that decision, nothing
//! logged, no rule passed by. Programs store it as it is. The others stand in a
//! table. A *word*, as cells hold it, is the outcome's number times two, plus one
//! if the packet passes.

use rustc_hash::FxHashMap;

use super::column::{Act, Item};
use crate::ir::{Decision, PolicyIr, Verdict};

/// An outcome and its verdict in one number: see the module.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Word(pub u32);

/// An outcome that no single number of a decision says.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Complex {
    /// What decided.
    pub decision: Decision,
    /// Log rules that matched, in order.
    pub logged: Vec<Decision>,
    /// Pass rules that matched, in order.
    pub passed: Vec<Decision>,
}

/// All outcomes of a policy, in the order of their first use.
#[derive(Clone, Debug)]
pub struct Outcomes {
    /// Outcomes below this are simple.
    simple: u32,
    complex: Vec<Complex>,
    known: FxHashMap<Complex, u32>,
}

impl Outcomes {
    /// None but the simple ones.
    pub fn new(ir: &PolicyIr) -> Self {
        Self { simple: ir.decisions.len() as u32, complex: Vec::new(), known: FxHashMap::default() }
    }

    /// Number of outcomes; every word is below twice as many.
    pub fn count(&self) -> u32 {
        self.simple + self.complex.len() as u32
    }

    /// Whether every word fits 16 bits.
    pub fn are_narrow(&self) -> bool {
        self.count() <= 1 << 15
    }

    /// Number of simple outcomes.
    pub fn simple(&self) -> u32 {
        self.simple
    }

    /// The outcomes from [`Self::simple`] on.
    pub fn complex(&self) -> &[Complex] {
        &self.complex
    }

    /// Decisions that each outcome credits: [`crate::image::PolicyImage::hits`].
    pub fn credits(&self) -> Vec<Vec<Decision>> {
        let simple = (0..self.simple).map(|n| vec![Decision::from_u32(n)]);
        let complex = self.complex.iter().map(|c| {
            let mut all = vec![c.decision];
            all.extend(c.logged.iter().chain(&c.passed));
            all
        });
        simple.chain(complex).collect()
    }

    fn word(&mut self, end: End) -> Word {
        let (verdict, outcome) = (end.verdict, end.complex);
        let number = if outcome.is_simple() {
            outcome.decision.as_u32()
        } else {
            let next = self.count();
            *self.known.entry(outcome).or_insert_with_key(|complex| {
                self.complex.push(complex.clone());
                next
            })
        };
        word(number, verdict)
    }

    /// The word of an end that has a number already.
    fn known_word(&self, end: End) -> Option<Word> {
        let (verdict, outcome) = (end.verdict, end.complex);
        let number = match outcome.is_simple() {
            true => outcome.decision.as_u32(),
            false => *self.known.get(&outcome)?,
        };
        Some(word(number, verdict))
    }
}

impl Complex {
    fn is_simple(&self) -> bool {
        self.logged.is_empty() && self.passed.is_empty()
    }
}

fn word(number: u32, verdict: Verdict) -> Word {
    Word(number * 2 + u32::from(verdict == Verdict::Allow))
}

/// What an evaluation came to.
struct End {
    verdict: Verdict,
    complex: Complex,
}

/// Evaluates a column for the items that hold, in match order: the first one that
/// decides, with Pass going to the next chain and Log going on. `None` if nothing
/// decides, which a column with its chain ends never gives.
pub fn evaluate<'a>(items: impl IntoIterator<Item = &'a Item>, outcomes: &mut Outcomes) -> Option<Word> {
    walk(items).map(|end| outcomes.word(end))
}

/// As [`evaluate`], for tables that are in use: `None` if they have no number for
/// what this comes to. Where nothing decides the word is 0, as in [`evaluate`]'s users.
pub fn look_up<'a>(items: impl IntoIterator<Item = &'a Item>, outcomes: &Outcomes) -> Option<Word> {
    walk(items).map_or(Some(Word(0)), |end| outcomes.known_word(end))
}

fn walk<'a>(items: impl IntoIterator<Item = &'a Item>) -> Option<End> {
    let (mut logged, mut passed) = (Vec::new(), Vec::new());
    let mut from_chain = 0;
    for item in items {
        if item.chain < from_chain {
            continue;
        }
        match item.act {
            Act::Decide(verdict) => {
                return Some(End { verdict, complex: Complex { decision: item.decision, logged, passed } });
            }
            Act::Log => logged.push(item.decision),
            Act::Pass => {
                passed.push(item.decision);
                from_chain = item.chain + 1;
            }
        }
    }
    None
}
