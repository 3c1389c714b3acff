//! The kernel engine against the VM, packet by packet. Skipped, with the reason
//! printed, where the kernel engine is not available; with POLC_REQUIRE_KERNEL=1
//! that is a failure.
#![cfg(target_os = "linux")]

mod engines;

use std::path::PathBuf;

use engines::*;
use polc_compiler::abi;
use polc_compiler::image::PolicyImage;
use polc_compiler::ir::{Direction, Verdict};
use polc_runtime::kernel::{KernelEngine, MAX_DATA};
use polc_runtime::vm::{Vm, VmOptions};
use polc_runtime::{Attachment, AttachmentSpec, Engine, EngineError, Packet};

const CLIENT: [u8; 4] = [10, 0, 0, 1];
const POD: [u8; 4] = [10, 0, 1, 1];

/// The engine, or `None` (with the reason printed) where it cannot run.
fn kernel(specs: &[AttachmentSpec<'_>], stateless: bool) -> Option<KernelEngine> {
    match KernelEngine::new(ENTRY, specs, stateless) {
        Ok(engine) => Some(engine),
        Err(EngineError::Unavailable { engine, reason }) => {
            let required = std::env::var_os("POLC_REQUIRE_KERNEL").is_some_and(|v| v == "1");
            assert!(!required, "{engine}: {reason}");
            eprintln!("skipped: {engine} engine is not available: {reason}");
            None
        }
        Err(e) => panic!("{e}"),
    }
}

fn specs(image: &PolicyImage) -> [AttachmentSpec<'_>; 2] {
    [Direction::Ingress, Direction::Egress].map(|direction| AttachmentSpec { endpoint: 7, direction, image })
}

fn same(vm: &mut Vm, kernel: &mut KernelEngine, at: Attachment, packet: Packet<'_>) {
    let (a, b) = (vm.evaluate(at, packet).unwrap(), kernel.evaluate(at, packet).unwrap());
    assert_eq!(a, b, "vm and kernel, {} bytes {:02x?}", packet.data.len(), packet.data);
}

#[test]
fn same_verdicts_as_the_vm() {
    let by_set = allow_sources(&[([10, 0, 0, 0], 8, 1), ([10, 0, 0, 0], 24, 2), ([10, 0, 0, 1], 32, 3)]);
    for image in [allow_port(443), by_set, chain(32), chain(31)] {
        let Some(mut kernel) = kernel(&specs(&image), true) else { return };
        let mut vm =
            Vm::new(ENTRY, &specs(&image), VmOptions { stateless: true, ..VmOptions::default() }).unwrap();
        for (src, port) in
            [([10, 0, 0, 1], 443), ([10, 9, 0, 1], 443), ([11, 0, 0, 1], 80), ([10, 0, 0, 2], 80)]
        {
            for protocol in [6, 17, 1, 50] {
                let mut frame = tcp(src, POD, 5000, port, SYN);
                frame[23] = protocol;
                for at in [Attachment(0), Attachment(1)] {
                    same(&mut vm, &mut kernel, at, engines::at(&frame, 5));
                }
            }
        }
    }
}

#[test]
fn same_connections_as_the_vm() {
    let image = allow_port(443);
    let Some(mut kernel) = kernel(&specs(&image), false) else { return };
    let mut vm = Vm::new(ENTRY, &specs(&image), VmOptions::default()).unwrap();
    let syn = tcp(CLIENT, POD, 5000, 443, SYN);
    let reply = tcp(POD, CLIENT, 443, 5000, SYN_ACK);
    let ack = tcp(CLIENT, POD, 5000, 443, ACK);
    let steps =
        [(1, &reply, 0), (0, &syn, 1), (1, &reply, 2), (0, &ack, 3), (1, &reply, 3000), (1, &reply, 9000)];
    for (direction, frame, seconds) in steps {
        let now = (1_700_000_000 + seconds) * 1_000_000_000;
        same(&mut vm, &mut kernel, Attachment(direction), at(frame, now));
    }
    let tracked = vm.counters()[abi::counter_index(false, abi::REASON_CONNTRACK) as usize];
    assert_eq!(tracked, 3, "the capture's clock must reach both engines");
}

#[test]
fn dense_contents_are_found_by_index() {
    let image = by_dense_array();
    let Some(mut kernel) = kernel(&specs(&image), true) else { return };
    let mut vm = Vm::new(ENTRY, &specs(&image), VmOptions::default()).unwrap();
    for (port, found) in [(0, Some(7)), (2, Some(9)), (3, Some(0)), (4, None)] {
        let frame = tcp(CLIENT, POD, 5000, port, SYN);
        same(&mut vm, &mut kernel, Attachment(0), at(&frame, 0));
        let decision = vm.evaluate(Attachment(0), at(&frame, 0)).unwrap().decision;
        assert_eq!(decision, Some(found.unwrap_or(99)), "port {port}");
    }
}

#[test]
fn every_length_has_a_verdict() {
    let image = allow_port(443);
    let Some(mut kernel) = kernel(&specs(&image), true) else { return };
    let mut vm =
        Vm::new(ENTRY, &specs(&image), VmOptions { stateless: true, ..VmOptions::default() }).unwrap();
    let ipv4 = tcp(CLIENT, POD, 5000, 443, SYN);
    let kinds: [[u8; 2]; 6] = [[8, 0], [0x86, 0xdd], [8, 6], [0x81, 0], [0x88, 0xa8], [0, 40]];
    for kind in kinds {
        let mut frame = ipv4.clone();
        frame[12..14].copy_from_slice(&kind);
        for len in 0..=frame.len() {
            same(&mut vm, &mut kernel, Attachment(0), at(&frame[..len], 0));
        }
    }
    for len in [1514, MAX_DATA, MAX_DATA + 1, 9000, 65_535, 200_000] {
        let mut frame = ipv4.clone();
        frame.resize(len, 0);
        same(&mut vm, &mut kernel, Attachment(0), at(&frame, 0));
    }
    assert!(kernel.measure(Attachment(0), at(&ipv4[..10], 0), 10).is_err());
}

#[test]
fn every_entry_program_verifies() {
    let image = allow_port(443);
    let Some(kernel) = kernel(&specs(&image), false) else { return };
    assert_eq!(kernel.verify_entry().unwrap(), 8);
}

#[test]
fn measures_entry_and_policy() {
    let image = allow_port(443);
    let Some(mut kernel) = kernel(&specs(&image), true) else { return };
    let frame = tcp(CLIENT, POD, 5000, 443, SYN);
    let (entry, policy) = kernel.measure(Attachment(0), at(&frame, 0), 10_000).unwrap();
    println!("entry to verdict {entry} ns, policy alone {policy} ns");
    assert!(policy > 0 && entry >= policy / 2, "{entry} {policy}");
    assert_eq!(kernel.evaluate(Attachment(0), at(&frame, 0)).unwrap(), engines::policy(Verdict::Allow, 0));
    assert!(kernel.evaluate(Attachment(9), at(&frame, 0)).is_err());
}

#[test]
fn refused_images_leave_the_kernel_clean() {
    let directory = std::env::temp_dir().join(format!("polc-kernel-test-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    // In a process of its own, so that the directory is this test's alone.
    let this = std::env::current_exe().unwrap();
    let child = std::process::Command::new(this)
        .args(["--exact", "same_verdicts_as_the_vm", "refused_by_the_verifier"])
        .env("TMPDIR", &directory)
        .output()
        .unwrap();
    let left: Vec<_> = std::fs::read_dir(&directory).unwrap().flatten().map(|e| e.path()).collect();
    std::fs::remove_dir_all(&directory).unwrap();
    assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stdout));
    assert_eq!(left, Vec::<PathBuf>::new());
}

#[test]
fn refused_by_the_verifier() {
    use polc_compiler::bpf::{Insn, Reg, Size};
    let mut body = Body::new();
    body.asm.push(Insn::load(Size::B8, Reg::R0, Reg::R7, 4096));
    body.decide(Verdict::Allow, 0);
    let bad = image(vec![body.program("out_of_state")], Vec::new());
    if kernel(&specs(&allow_port(1)), true).is_none() {
        return;
    }
    let Err(error) = KernelEngine::new(ENTRY, &specs(&bad), true) else { panic!("the verifier accepted it") };
    let EngineError::Kernel { what, source } = &error else { panic!("{error}") };
    assert!(what.contains("out_of_state"), "{what}");
    assert!(source.to_string().contains("invalid access to map value"), "{source}");
}
