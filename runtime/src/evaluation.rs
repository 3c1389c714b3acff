//! What the programs leave behind, as an [`Evaluation`]; shared by the engines
//! that run them.

use polc_compiler::abi;
use polc_compiler::ir::Verdict;

use crate::Evaluation;

fn field(state: &[u8; abi::STATE_SIZE as usize], field: abi::Field) -> u32 {
    let at = field.offset as usize;
    let bytes = state.get(at..at + 4).and_then(|b| b.first_chunk::<4>());
    bytes.map_or(0, |b| u32::from_ne_bytes(*b))
}

/// Reads the packet state and holds it against the program's return code.
///
/// # Errors
/// They contradict each other, or nobody decided: what and with which numbers.
pub(crate) fn from_state(
    state: &[u8; abi::STATE_SIZE as usize],
    returned: u32,
) -> Result<Evaluation, String> {
    let verdict = field(state, abi::STATE_VERDICT);
    let reason = field(state, abi::STATE_REASON);
    let verdict = match (verdict, returned) {
        (abi::VERDICT_ALLOW, abi::TC_OK) => Verdict::Allow,
        (abi::VERDICT_DENY, abi::TC_SHOT) => Verdict::Deny,
        _ => {
            return Err(format!(
                "returned {returned} with verdict {verdict} and reason {reason} in the packet state"
            ));
        }
    };
    if !abi::REASONS.iter().any(|(known, _)| *known == reason) || reason == abi::REASON_NONE {
        return Err(format!("gave verdict {} for no known reason ({reason})", verdict.as_str()));
    }
    let decision = |f| Some(field(state, f)).filter(|d| *d != abi::NO_DECISION);
    Ok(Evaluation {
        verdict,
        reason,
        decision: decision(abi::STATE_DECISION),
        logged: field(state, abi::STATE_LOGGED),
        log_decision: decision(abi::STATE_LOG_DECISION),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(verdict: u32, reason: u32, decision: u32) -> [u8; abi::STATE_SIZE as usize] {
        let mut state = [0; abi::STATE_SIZE as usize];
        let fields = [
            (abi::STATE_VERDICT, verdict),
            (abi::STATE_REASON, reason),
            (abi::STATE_DECISION, decision),
            (abi::STATE_LOG_DECISION, abi::NO_DECISION),
        ];
        for (f, value) in fields {
            state[f.offset as usize..][..4].copy_from_slice(&value.to_ne_bytes());
        }
        state
    }

    #[test]
    fn verdict_and_return_code_must_agree() {
        let allow = abi::VERDICT_ALLOW;
        assert!(
            from_state(&state(allow, abi::REASON_POLICY, 3), abi::TC_OK).is_ok_and(|e| e.decision == Some(3))
        );
        let none = from_state(&state(allow, abi::REASON_CONNTRACK, abi::NO_DECISION), abi::TC_OK);
        assert!(none.is_ok_and(|e| e.decision.is_none() && e.log_decision.is_none()));
        for (verdict, reason, returned) in [
            (allow, abi::REASON_POLICY, abi::TC_SHOT),
            (abi::VERDICT_DENY, abi::REASON_POLICY, abi::TC_OK),
            (0, abi::REASON_POLICY, abi::TC_SHOT),
            (allow, abi::REASON_NONE, abi::TC_OK),
            (allow, 99, abi::TC_OK),
        ] {
            assert!(
                from_state(&state(verdict, reason, 0), returned).is_err(),
                "{verdict} {reason} {returned}"
            );
        }
    }
}
