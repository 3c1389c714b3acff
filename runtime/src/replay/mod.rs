//! Replays packets: which endpoints own a packet, and what each of them decides.
//!
//! A packet is evaluated as egress at each endpoint that owns its source, then
//! as ingress at each that owns its destination. Both are evaluated whatever
//! the other says: the capture shows that the packet was there. A packet that
//! no endpoint owns, or whose addresses cannot be read, gives one [`Record`]
//! without an endpoint, so that every packet gives at least one.
//!
//! Cost: two hash look-ups per packet beside the engine's work; nothing is
//! allocated.

mod owners;
mod record;
mod tally;

pub use owners::Owners;
pub use record::{DecidedBy, Record};
pub use tally::{Count, Tally};

use polc_compiler::abi;
use polc_compiler::ir::Direction;

use crate::packet::{Addresses, Captured, addresses};
use crate::{Engine, EngineError, Packet};

impl<'a> From<&Captured<'a>> for Packet<'a> {
    fn from(captured: &Captured<'a>) -> Self {
        Self { data: captured.frame, wire_len: captured.wire_len, now: captured.time }
    }
}

/// Evaluates one packet wherever it belongs and hands each record to `sink`.
///
/// # Errors
/// The engine's, at once: records of earlier evaluations have been handed out.
pub fn replay<E: Engine + ?Sized>(
    engine: &mut E,
    owners: &Owners,
    packet: Packet<'_>,
    mut sink: impl FnMut(Record),
) -> Result<(), EngineError> {
    let (src, dst) = match addresses(packet.data) {
        Addresses::Ip(src, dst) => (src, dst),
        Addresses::NotIp => {
            sink(Record::not_an_endpoint(abi::REASON_NOT_IP));
            return Ok(());
        }
        Addresses::TooShort => {
            sink(Record::unreadable(abi::REASON_TOO_SHORT));
            return Ok(());
        }
        Addresses::Malformed => {
            sink(Record::unreadable(abi::REASON_MALFORMED));
            return Ok(());
        }
    };
    let egress = owners.at(src, Direction::Egress);
    let ingress = owners.at(dst, Direction::Ingress);
    for at in egress.iter().chain(ingress) {
        sink(Record::of(*at, &engine.evaluate(*at, packet)?));
    }
    if egress.is_empty() && ingress.is_empty() {
        sink(Record::not_an_endpoint(abi::REASON_NONE));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use polc_compiler::ir::{Flow, Verdict};

    use super::*;
    use crate::packet::build;
    use crate::{Attachment, Evaluation};

    /// Allows at even attachments and remembers where it was asked.
    #[derive(Default)]
    struct Fake(Vec<u32>);

    impl Engine for Fake {
        fn evaluate(&mut self, at: Attachment, _: Packet<'_>) -> Result<Evaluation, EngineError> {
            self.0.push(at.0);
            if at.0 == 99 {
                let reason = "told to".into();
                return Err(EngineError::Fault { program: "fake".into(), reason });
            }
            let verdict = if at.0.is_multiple_of(2) { Verdict::Allow } else { Verdict::Deny };
            Ok(Evaluation {
                verdict,
                reason: abi::REASON_POLICY,
                decision: Some(at.0),
                logged: 0,
                log_decision: None,
            })
        }
    }

    fn owners() -> Owners {
        let mut owners = Owners::default();
        for (last, at, direction) in [
            (1, 0, Direction::Egress),
            (1, 1, Direction::Ingress),
            (2, 2, Direction::Egress),
            (2, 3, Direction::Ingress),
            (2, 5, Direction::Ingress),
            (3, 99, Direction::Ingress),
        ] {
            owners.add([10, 0, 0, last].into(), Attachment(at), direction);
        }
        owners
    }

    fn run(data: &[u8]) -> (Vec<u32>, Vec<Record>, bool) {
        let mut engine = Fake::default();
        let mut records = Vec::new();
        let packet = Packet { data, wire_len: data.len() as u32, now: 0 };
        let ok = replay(&mut engine, &owners(), packet, |r| records.push(r)).is_ok();
        (engine.0, records, ok)
    }

    fn tcp(src: u8, dst: u8) -> Vec<u8> {
        let flow = Flow {
            src: [10, 0, 0, src].into(),
            dst: [10, 0, 0, dst].into(),
            protocol: 6,
            ports: Some((1000, 80)),
            icmp: None,
        };
        build::frame(&flow).unwrap()
    }

    #[test]
    fn egress_at_the_sources_owners_then_ingress_at_the_destinations() {
        for (src, dst, want) in
            [(1, 2, vec![0, 3, 5]), (2, 1, vec![2, 1]), (1, 1, vec![0, 1]), (9, 2, vec![3, 5])]
        {
            let (asked, records, _) = run(&tcp(src, dst));
            assert_eq!(asked, want, "{src} > {dst}");
            assert_eq!(records.iter().map(|r| r.at.unwrap().0).collect::<Vec<_>>(), want);
            for r in records {
                assert_eq!(r.verdict == Verdict::Allow, r.at.unwrap().0 % 2 == 0);
                assert_eq!(r.decided_by, DecidedBy::Policy(r.at.unwrap().0));
            }
        }
    }

    #[test]
    fn every_packet_gives_a_record() {
        let mut arp = vec![0; 42];
        arp[12..14].copy_from_slice(&[8, 6]);
        let cases = [
            (tcp(8, 9), Verdict::Allow, DecidedBy::NotAnEndpoint(abi::REASON_NONE)),
            (arp, Verdict::Allow, DecidedBy::NotAnEndpoint(abi::REASON_NOT_IP)),
            (tcp(1, 2)[..30].to_vec(), Verdict::Deny, DecidedBy::Malformed(abi::REASON_TOO_SHORT)),
            (vec![], Verdict::Deny, DecidedBy::Malformed(abi::REASON_TOO_SHORT)),
        ];
        for (data, verdict, decided_by) in cases {
            let (asked, records, _) = run(&data);
            assert_eq!(asked, [0u32; 0]);
            assert_eq!(records, [Record { at: None, verdict, decided_by, logged: 0, log_decision: None }]);
        }
    }

    #[test]
    fn a_fault_ends_the_packet_after_the_records_before_it() {
        let (asked, records, ok) = run(&tcp(1, 3));
        assert_eq!((asked, records.len(), ok), (vec![0, 99], 1, false));
    }
}
