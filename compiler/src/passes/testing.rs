//! Differential test of one pass against the reference evaluator.

use crate::ir::generate::{Rng, Shape, flows, nets, policy};
use crate::ir::{PolicyIr, SetKind, evaluate, verify};

/// Draws `policies` policies, runs the pass on each and compares verdict,
/// decision and log records of 60 edge packets before and after; then gives the
/// sets whose members are data new members on both sides and compares again, since
/// a pass must not build on members. Sums up what the pass says it changed, so that
/// a test can see that it did something.
///
/// `POLC_CASES` multiplies the number of policies for a longer run; a failure
/// prints its seed.
pub(super) fn differential(
    shape: &Shape,
    policies: u64,
    mut pass: impl FnMut(&mut PolicyIr) -> usize,
) -> usize {
    let factor = std::env::var("POLC_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(1_u64);
    let mut changed = 0;
    for seed in 0..policies * factor {
        let before = policy(seed, shape);
        let mut after = before.clone();
        changed += pass(&mut after);
        verify(&after).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        same_outcomes(&before, &after, seed);
        let mut before = before;
        redraw_members(&mut before, seed);
        redraw_members(&mut after, seed);
        same_outcomes(&before, &after, seed);
    }
    changed
}

fn same_outcomes(before: &PolicyIr, after: &PolicyIr, seed: u64) {
    for flow in flows(before, seed, 60) {
        let (want, have) = (evaluate(before, &flow), evaluate(after, &flow));
        assert!(want == have, "seed {seed} {flow:?}\n{want:?}\n{have:?}\n{before}\nbecame\n{after}");
    }
}

/// Gives equal names equal members.
fn redraw_members(ir: &mut PolicyIr, seed: u64) {
    for (_, set) in ir.sets.iter_mut().filter(|(_, set)| set.kind == SetKind::Members) {
        let name =
            set.name.bytes().fold(seed, |hash, byte| hash.wrapping_mul(31).wrapping_add(u64::from(byte)));
        set.nets = nets(&mut Rng::new(name), 3);
    }
}
