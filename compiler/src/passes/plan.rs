//! Program plan: cuts a policy into segments that each fit one program.
//!
//! What: the evaluation order of all rules is cut into consecutive pieces, and
//! pieces are packed into segments greedily; the emitter makes one program of
//! each segment and decides nothing any more. A rule that is too large for any
//! program is first split along a port list.
//!
//! Why sound: a segment is entered at its first piece only, as a tail call can
//! enter a program at its start only. Evaluation goes on at the next segment
//! where a chain is cut, and at the next chain where a chain passes. So a chain
//! opens a segment wherever a Pass rule of an earlier segment leads to it; in all
//! other cases it may follow in the same segment. Splitting a rule keeps its
//! meaning because port alternatives are ORed and the parts share action,
//! decision and origins. Parts of a Log rule must be disjoint, else one packet
//! would be logged twice: such a rule is cut only between ports that no two
//! alternatives share, whatever their sets.
//!
//! Cost: linear in the rules; each split looks at one rule's alternatives.

use std::ops::Range;

use cranelift_entity::packed_option::PackedOption;
use cranelift_entity::{PrimaryMap, SecondaryMap, entity_impl};

use crate::ir::{Action, Chain, PolicyIr, PortMatch, Rule, RuleData};

/// One program of a planned policy. Segment 0 is where evaluation starts.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Segment(u32);
entity_impl!(Segment, "segment");

/// Most segments of one policy. The kernel follows 33 tail calls per packet, some
/// JITs 32: one leads into the policy, one to the program that ends the packet.
pub const MAX_SEGMENTS: usize = 31;

/// Consecutive rules of one chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// The chain.
    pub chain: Chain,
    /// Indices into [`crate::ir::ChainData::rules`]; empty for a chain without rules.
    pub rules: Range<usize>,
    /// Whether the chain's end follows. If not, the next segment goes on with the
    /// chain; only the last piece of a segment can be so.
    pub ends_chain: bool,
}

/// How a policy is cut into programs.
#[derive(Clone, Debug, PartialEq)]
pub struct ProgramPlan {
    /// Pieces in evaluation order, none empty of pieces. A packet that no piece
    /// of a segment decided goes on with the next segment.
    pub segments: PrimaryMap<Segment, Vec<Piece>>,
    entries: SecondaryMap<Chain, PackedOption<Segment>>,
}

impl ProgramPlan {
    /// The segment that a chain starts in; `None` for a chain that is not
    /// evaluated. Seen from an earlier segment's Pass, the chain is the first
    /// piece of that segment.
    pub fn entry(&self, chain: Chain) -> Option<Segment> {
        self.entries.get(chain).and_then(|entry| entry.expand())
    }
}

/// What one program has room for, in instruction slots of 8 bytes.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Slots of one program for rules and ends of pieces, prologue not included.
    pub slots: u32,
    /// Slots that the end of one piece takes.
    pub piece: u32,
}

/// A policy that does not fit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// A rule is larger than a program and cannot be split further.
    #[error("{rule} takes {given} instruction slots, a program has room for {max}")]
    RuleTooLarge {
        /// The rule.
        rule: Rule,
        /// Slots of its smallest part.
        given: u32,
        /// Slots of a program that has only this rule.
        max: u32,
    },
    /// More programs than tail calls can lead through.
    #[error("the policy takes {given} programs, at most {max} can follow each other")]
    TooManySegments {
        /// Segments.
        given: usize,
        /// [`MAX_SEGMENTS`].
        max: usize,
    },
}

/// Plans the programs of a policy; `slots` is the emitter's bound for a rule.
/// Rules that are split are replaced in their chain by their parts; the first
/// part keeps the rule's id. `ir` must have passed [`crate::ir::verify`], and
/// does so afterwards.
///
/// # Errors
/// [`PlanError`], with `ir` partly split and equivalent to before.
pub fn plan(
    ir: &mut PolicyIr,
    budget: Budget,
    slots: &dyn Fn(&PolicyIr, Rule) -> u32,
) -> Result<ProgramPlan, PlanError> {
    let room = budget.slots.saturating_sub(budget.piece);
    for i in 0..ir.order.len() {
        let chain = ir.order[i];
        split_rules(ir, chain, room, slots)?;
    }
    let plan = pack(ir, budget, slots);
    match plan.segments.len() {
        given if given > MAX_SEGMENTS => Err(PlanError::TooManySegments { given, max: MAX_SEGMENTS }),
        _ => Ok(plan),
    }
}

/// Splits the rules of a chain until each has at most `room` slots.
fn split_rules(
    ir: &mut PolicyIr,
    chain: Chain,
    room: u32,
    slots: &dyn Fn(&PolicyIr, Rule) -> u32,
) -> Result<(), PlanError> {
    let mut todo = std::mem::take(&mut ir.chains[chain].rules);
    todo.reverse();
    let mut fitting = Vec::with_capacity(todo.len());
    let mut result = Ok(());
    while let Some(rule) = todo.pop() {
        let given = slots(ir, rule);
        if given <= room || result.is_err() {
            fitting.push(rule);
        } else if let Some(rest) = split_off(&mut ir.rules[rule]) {
            todo.extend([ir.rules.push(rest), rule]);
        } else {
            result = Err(PlanError::RuleTooLarge { rule, given, max: room });
            fitting.push(rule);
        }
    }
    ir.chains[chain].rules = fitting;
    result
}

/// Moves half of the wider port list into a second rule that follows the first;
/// `None` if no list can be split.
fn split_off(rule: &mut RuleData) -> Option<RuleData> {
    let disjoint = rule.action == Action::Log;
    let src = rule.matches.src.ports.as_ref().and_then(|ports| cut(ports, disjoint));
    let dst = rule.matches.dst.ports.as_ref().and_then(|ports| cut(ports, disjoint));
    let wider_src = |s: &Halves, d: &Halves| s.0.len() + s.1.len() > d.0.len() + d.1.len();
    let mut rest = rule.clone();
    match (src, dst) {
        (Some(src), dst) if dst.as_ref().is_none_or(|dst| wider_src(&src, dst)) => {
            rule.matches.src.ports = Some(src.0);
            rest.matches.src.ports = Some(src.1);
        }
        (_, Some(dst)) => {
            rule.matches.dst.ports = Some(dst.0);
            rest.matches.dst.ports = Some(dst.1);
        }
        _ => return None,
    }
    Some(rest)
}

type Halves = (Vec<PortMatch>, Vec<PortMatch>);

/// Cuts a list as near to its middle as can be; `disjoint` asks that no port
/// number stands on both sides of the cut.
fn cut(ports: &[PortMatch], disjoint: bool) -> Option<Halves> {
    let mut sorted = ports.to_vec();
    sorted.sort_by_key(span);
    let middle = sorted.len() / 2;
    let mut last = 0;
    let mut best: Option<usize> = None;
    for (at, port) in sorted.iter().enumerate() {
        let (first, end) = span(port);
        let legal = at > 0 && (!disjoint || last < first);
        if legal && best.is_none_or(|best| at.abs_diff(middle) < best.abs_diff(middle)) {
            best = Some(at);
        }
        last = last.max(end);
    }
    let rest = sorted.split_off(best?);
    Some((sorted, rest))
}

fn span(port: &PortMatch) -> (u16, u16) {
    match *port {
        PortMatch::Range(first, last) => (first, last),
        PortMatch::Named { port, .. } => (port, port),
    }
}

/// Fills segments in evaluation order.
fn pack(ir: &PolicyIr, budget: Budget, slots: &dyn Fn(&PolicyIr, Rule) -> u32) -> ProgramPlan {
    let mut packer = Packer {
        budget,
        plan: ProgramPlan { segments: PrimaryMap::new(), entries: SecondaryMap::new() },
        pieces: Vec::new(),
        used: 0,
    };
    let mut passes_from_earlier = false;
    for chain in &ir.order {
        passes_from_earlier = packer.chain(ir, *chain, passes_from_earlier, slots);
    }
    packer.close();
    packer.plan
}

struct Packer {
    budget: Budget,
    plan: ProgramPlan,
    /// Pieces of the open segment.
    pieces: Vec<Piece>,
    /// Slots of the open segment.
    used: u32,
}

impl Packer {
    /// Places a chain; true if one of its Pass rules is in an earlier segment
    /// than its end.
    fn chain(
        &mut self,
        ir: &PolicyIr,
        chain: Chain,
        opens_segment: bool,
        slots: &dyn Fn(&PolicyIr, Rule) -> u32,
    ) -> bool {
        let rules = &ir.chains[chain].rules;
        let first = rules.first().map_or(0, |rule| slots(ir, *rule));
        if opens_segment || !self.fits(first.saturating_add(self.budget.piece)) {
            self.close();
        }
        self.plan.entries[chain] = PackedOption::from(self.plan.segments.next_key());
        self.used = self.used.saturating_add(self.budget.piece);
        let (mut start, mut passes, mut passes_earlier) = (0, false, false);
        for (at, rule) in rules.iter().enumerate() {
            let need = slots(ir, *rule);
            if at > start && !self.fits(need) {
                self.pieces.push(Piece { chain, rules: start..at, ends_chain: false });
                self.close();
                self.used = self.budget.piece;
                start = at;
                passes_earlier |= std::mem::take(&mut passes);
            }
            self.used = self.used.saturating_add(need);
            passes |= ir.rules[*rule].action == Action::Pass;
        }
        self.pieces.push(Piece { chain, rules: start..rules.len(), ends_chain: true });
        passes_earlier
    }

    fn fits(&self, more: u32) -> bool {
        self.used.saturating_add(more) <= self.budget.slots
    }

    /// Ends the open segment, unless it is empty.
    fn close(&mut self) {
        if !self.pieces.is_empty() {
            self.plan.segments.push(std::mem::take(&mut self.pieces));
        }
        self.used = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::generate::{Shape, flows, policy};
    use crate::ir::{ChainEnd, Flow, Outcome, Verdict, evaluate, matches, verify};

    /// Slots for tests: one per rule and one per port alternative.
    fn slots(ir: &PolicyIr, rule: Rule) -> u32 {
        let m = &ir.rules[rule].matches;
        let ports = |p: &Option<Vec<PortMatch>>| p.as_ref().map_or(0, Vec::len);
        (1 + ports(&m.src.ports) + ports(&m.dst.ports)) as u32
    }

    /// Runs a plan as programs would: segments are entered at their start only.
    fn run(ir: &PolicyIr, plan: &ProgramPlan, flow: &Flow) -> Outcome {
        let mut logged = Vec::new();
        let (mut segment, mut at) = (Segment::from_u32(0), 0);
        let pass = |segment: Segment, chain: Chain| {
            let next = ir.order.iter().position(|c| *c == chain).unwrap() + 1;
            let to = plan.entry(ir.order[next]).unwrap();
            let pieces = &plan.segments[to];
            let at = pieces.iter().position(|p| p.chain == ir.order[next] && p.rules.start == 0).unwrap();
            assert!(to == segment || at == 0, "{to} entered at piece {at}");
            (to, at)
        };
        'pieces: loop {
            let Some(piece) = plan.segments[segment].get(at) else {
                (segment, at) = (Segment::from_u32(segment.as_u32() + 1), 0);
                continue;
            };
            let chain = &ir.chains[piece.chain];
            for rule in &chain.rules[piece.rules.clone()] {
                let rule = &ir.rules[*rule];
                if !matches(ir, &rule.matches, flow) {
                    continue;
                }
                let decided = |verdict| Outcome { verdict, decision: rule.decision, logged: logged.clone() };
                match rule.action {
                    Action::Allow => return decided(Verdict::Allow),
                    Action::Deny => return decided(Verdict::Deny),
                    Action::Log => logged.push(rule.decision),
                    Action::Pass => {
                        (segment, at) = pass(segment, piece.chain);
                        continue 'pieces;
                    }
                }
            }
            match chain.end {
                _ if !piece.ends_chain => at += 1,
                ChainEnd::Allow(decision) => return Outcome { verdict: Verdict::Allow, decision, logged },
                ChainEnd::Deny(decision) => return Outcome { verdict: Verdict::Deny, decision, logged },
                ChainEnd::Pass => (segment, at) = pass(segment, piece.chain),
            }
        }
    }

    #[test]
    fn planned_programs_agree_with_the_reference() {
        let shape = Shape { chains: 4, rules: 12, ports: 9, ..Shape::default() };
        let (mut planned, mut several, mut split) = (0, 0, 0);
        for seed in 0..600 {
            let ir = policy(seed, &shape);
            for slots_of_program in [5, 9, 17, 1000] {
                let mut cut = ir.clone();
                let budget = Budget { slots: slots_of_program, piece: 1 };
                let Ok(plan) = plan(&mut cut, budget, &slots) else { continue };
                verify(&cut).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
                for pieces in plan.segments.values() {
                    let used: u32 = pieces.iter().map(|p| used(&cut, p)).sum();
                    assert!(used <= slots_of_program, "seed {seed}: {used} of {slots_of_program}");
                }
                planned += 1;
                several += usize::from(plan.segments.len() > 1);
                split += usize::from(cut.rules.len() > ir.rules.len());
                for flow in flows(&ir, seed, 30) {
                    assert_eq!(run(&cut, &plan, &flow), evaluate(&ir, &flow), "seed {seed} {flow:?}");
                }
            }
        }
        assert!(planned > 1000 && several > 500 && split > 100, "{planned} {several} {split}");
    }

    fn used(ir: &PolicyIr, piece: &Piece) -> u32 {
        1 + ir.chains[piece.chain].rules[piece.rules.clone()].iter().map(|r| slots(ir, *r)).sum::<u32>()
    }

    #[test]
    fn limits_are_given_in_numbers() {
        let shape = Shape { chains: 1, rules: 200, ports: 1, ..Shape::default() };
        let ir = (0..).map(|seed| policy(seed, &shape)).find(|ir| ir.rules.len() > 150).unwrap();
        let given = plan(&mut ir.clone(), Budget { slots: 5, piece: 1 }, &slots);
        assert!(matches!(given, Err(PlanError::TooManySegments { given: 32.., max: 31 })), "{given:?}");
        let given = plan(&mut ir.clone(), Budget { slots: 2, piece: 1 }, &slots);
        assert!(matches!(given, Err(PlanError::RuleTooLarge { given: 2.., max: 1, .. })), "{given:?}");
    }

    #[test]
    fn log_rules_are_cut_only_between_ports() {
        let ports = [PortMatch::Range(1, 5), PortMatch::Range(5, 9), PortMatch::Range(10, 10)];
        let (left, right) = cut(&ports, true).unwrap();
        assert_eq!((left.len(), right.len()), (2, 1));
        let (left, _) = cut(&ports, false).unwrap();
        assert_eq!(left.len(), 1);
        assert_eq!(cut(&ports[..2], true), None);
    }
}
