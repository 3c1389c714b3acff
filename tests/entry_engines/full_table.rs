//! What happens when more connections are there than the table has room for:
//! the least recently used one is forgotten, and its next packet is policy's.

use polc_compiler::abi;
use polc_compiler::ir::{Direction, Verdict};
use polc_runtime::vm::{Vm, VmOptions};
use polc_runtime::{Attachment, AttachmentSpec, Engine, Packet};

use super::{ENTRY, fingerprint};

const ROOM: u32 = 4;

/// A TCP segment in the middle of a connection between the endpoint's port and
/// port 80 of its peer.
fn segment(egress: bool, port: u16) -> Vec<u8> {
    let (local, remote) = ([10, 0, 0, 1], [10, 0, 0, 2]);
    let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0, 0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0];
    let (src, dst) = if egress { (local, remote) } else { (remote, local) };
    let (sport, dport) = if egress { (port, 80) } else { (80, port) };
    frame.extend([src, dst].concat());
    frame.extend([sport.to_be_bytes(), dport.to_be_bytes()].concat());
    frame.extend([0, 0, 0, 0, 0, 0, 0, 0, 0x50, 0x10, 0, 0, 0, 0, 0, 0]);
    frame
}

/// A connection that egress policy allows and whose answers ingress policy denies.
fn one_way(vm: &mut Vm, used: &[u16]) -> u16 {
    let by_policy = |vm: &mut Vm, egress, port| {
        vm.set_stateless(true);
        let found = look(vm, egress, port);
        vm.set_stateless(false);
        found.0
    };
    let fits = |port: &u16| {
        !used.contains(port)
            && by_policy(vm, true, *port) == Verdict::Allow
            && by_policy(vm, false, *port) == Verdict::Deny
    };
    (1000..2000).find(fits).unwrap()
}

fn look(vm: &mut Vm, egress: bool, port: u16) -> (Verdict, u32) {
    let frame = segment(egress, port);
    let packet = Packet { data: &frame, wire_len: frame.len() as u32, now: 5_000_000_000 };
    let found = vm.evaluate(Attachment(egress.into()), packet).unwrap();
    (found.verdict, found.reason)
}

#[test]
fn an_evicted_connection_is_policys_again() {
    let images = [Direction::Ingress, Direction::Egress].map(|d| fingerprint::image(d, 0));
    let specs = [Direction::Ingress, Direction::Egress].map(|direction| AttachmentSpec {
        endpoint: 7,
        direction,
        image: &images[usize::from(direction == Direction::Egress)],
    });
    let options = VmOptions { conntrack_entries: Some(ROOM), ..VmOptions::default() };
    let mut vm = Vm::new(ENTRY, &specs, options).unwrap();
    let mut ports = Vec::new();
    for _ in 0..=ROOM {
        ports.push(one_way(&mut vm, &ports));
    }
    let (tracked, policy) = (abi::REASON_CONNTRACK, abi::REASON_POLICY);
    for port in &ports[..ROOM as usize] {
        assert_eq!(look(&mut vm, true, *port), (Verdict::Allow, policy));
    }
    // All have room, and the first one was used last.
    for port in ports[..ROOM as usize].iter().rev() {
        assert_eq!(look(&mut vm, false, *port), (Verdict::Allow, tracked));
    }
    assert_eq!(
        look(&mut vm, true, ports[ROOM as usize]),
        (Verdict::Allow, policy),
        "takes the last one's room"
    );
    let (kept, evicted) = (ports[0], ports[ROOM as usize - 1]);
    assert_eq!(look(&mut vm, false, kept), (Verdict::Allow, tracked));
    assert_eq!(look(&mut vm, false, evicted), (Verdict::Deny, policy), "an answer to nothing known");
    assert_eq!(look(&mut vm, true, evicted), (Verdict::Allow, policy), "goes on where policy allows it");
    assert_eq!(look(&mut vm, false, evicted), (Verdict::Allow, tracked), "and is answered again");
}
