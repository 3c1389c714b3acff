//! Differential test of one pass against the reference evaluator.

use crate::ir::generate::{Shape, flows, policy};
use crate::ir::{PolicyIr, evaluate, verify};

/// Draws `policies` policies, runs the pass on each and compares verdict,
/// decision and log records of 60 edge packets before and after. Sums up what the
/// pass says it changed, so that a test can see that it did something.
pub(super) fn differential(
    shape: &Shape,
    policies: u64,
    mut pass: impl FnMut(&mut PolicyIr) -> usize,
) -> usize {
    let mut changed = 0;
    for seed in 0..policies {
        let before = policy(seed, shape);
        let mut after = before.clone();
        changed += pass(&mut after);
        verify(&after).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        for flow in flows(&before, seed, 60) {
            let (want, have) = (evaluate(&before, &flow), evaluate(&after, &flow));
            assert!(want == have, "seed {seed} {flow:?}\n{want:?}\n{have:?}\n{before}\nbecame\n{after}");
        }
    }
    changed
}
