//! A policy in the kernel under packets that say what is expected of them.
//!
//! A driver copies the next stored state into the packet state and goes on in the
//! policy; the programs that end a packet hold its verdict against what its state
//! expects (in the field of the mark, which no policy looks at) and count.

use std::sync::atomic::{AtomicBool, Ordering};

use polc_compiler::abi;
use polc_compiler::bpf::{AluOp, Assembler, Code, Cond, Insn, MapRef, Reg, Size, Width};
use polc_compiler::image::{MapKind, MapSpec, PolicyImage, Store};
use polc_compiler::ir::Flow;
use polc_runtime::sys::bpf::{Map, MappedArray, Program, ProgramKind};

use crate::kernel::{filled, load, look_up_first, look_up_stacked, look_up_state, map, state, tail_call};
use crate::policy::Expected;
use crate::shapes::SPREAD;
use crate::{Failure, failed};

/// Bytes of a stored state: all that the entry program fills, the mark included.
const COPIED: usize = 64;
const FRAME: [u8; 60] = [0; 60];
/// Packets of one system call.
const REPEAT: u32 = 20_000;

pub struct Bed {
    driver: Program,
    counts: Map,
    packet: Map,
    programs: Map,
    _kept: (Vec<Program>, Vec<Map>),
}

/// The policy in force.
pub struct Tables<'a> {
    bed: &'a Bed,
    mapped: Vec<Option<MappedArray>>,
    _policy: (Program, Vec<Map>),
}

impl Tables<'_> {
    /// Puts another image in force.
    pub fn swap(&mut self, image: &PolicyImage) -> Result<(), Failure> {
        *self = self.bed.install(image)?;
        Ok(())
    }

    pub fn carry_out(&self, stores: &[Store]) -> Result<(), Failure> {
        for store in stores {
            let table = self.mapped.get(store.map as usize).and_then(Option::as_ref);
            let table = table.ok_or_else(|| failed(format!("map {} cannot be stored to", store.map)))?;
            table.store_word(store.index, store.offset, store.value)?;
        }
        Ok(())
    }
}

impl Bed {
    pub fn new(packets: &[(Flow, Expected)]) -> Result<Self, Failure> {
        let packet = map(abi::STATE_MAP, MapKind::PerCpuArray, abi::STATE_SIZE, 1)?;
        let programs = map(abi::PROGS_MAP, MapKind::ProgArray, 4, 16)?;
        let states = map("states", MapKind::Array, COPIED as u32, SPREAD as u32)?;
        let turn = map("turn", MapKind::Array, 8, 1)?;
        let counts = map("counts", MapKind::Array, 16, 1)?;
        let keys: Vec<u8> = (0..packets.len() as u32).flat_map(u32::to_ne_bytes).collect();
        let values = packets.iter().flat_map(|(flow, expected)| {
            let mut state = state(flow)[..COPIED].to_vec();
            let mark = abi::STATE_MARK.offset as usize;
            state[mark..mark + 4].copy_from_slice(&(*expected as u32).to_le_bytes());
            state
        });
        states.update_batch(&keys, &values.collect::<Vec<u8>>())?;
        let own = |name: &str, code: &Code| {
            let fd = |map: MapRef| match map {
                MapRef::Shared(abi::STATE_MAP) => packet.raw_fd(),
                MapRef::Shared(_) => programs.raw_fd(),
                MapRef::Private(0) => states.raw_fd(),
                MapRef::Private(1) => turn.raw_fd(),
                MapRef::Private(_) | MapRef::Fd(_) => counts.raw_fd(),
            };
            load(ProgramKind::Classifier, name, &code.encode(fd))
        };
        let driver = own("driver", &driver()?)?;
        let allowed = own("allowed", &end(Expected::Denied)?)?;
        let denied = own("denied", &end(Expected::Allowed)?)?;
        programs.set_program(abi::SLOT_ALLOWED, &allowed)?;
        programs.set_program(abi::SLOT_DENIED, &denied)?;
        let kept = (vec![allowed, denied], vec![states, turn]);
        Ok(Self { driver, counts, packet, programs, _kept: kept })
    }

    /// Loads an image, maps its tables, and lets the policy's slot lead to it.
    fn install(&self, image: &PolicyImage) -> Result<Tables<'_>, Failure> {
        let tables = image.maps.iter().map(filled).collect::<Result<Vec<_>, _>>()?;
        let code = image.programs[0].code.encode(|reference| match reference {
            MapRef::Shared(abi::STATE_MAP) => self.packet.raw_fd(),
            MapRef::Shared(_) => self.programs.raw_fd(),
            MapRef::Private(index) => tables[index as usize].raw_fd(),
            MapRef::Fd(fd) => fd,
        });
        let policy = load(ProgramKind::Classifier, "policy", &code)?;
        let mapped = |(map, spec): (&Map, &MapSpec)| match map.is_mappable() {
            true => MappedArray::of_values(map, spec.value_size).map(Some),
            false => Ok(None),
        };
        let mapped = tables.iter().zip(&image.maps).map(mapped).collect::<Result<_, _>>()?;
        self.programs.set_program(abi::SLOT_FIRST_POLICY, &policy)?;
        Ok(Tables { bed: self, mapped, _policy: (policy, tables) })
    }

    /// Runs `change` on an image in force while another thread has packets decided, one behind the other.
    /// Gives its result, and how many packets there were and how many were wrong.
    pub fn under_packets<T>(
        &self,
        image: &PolicyImage,
        change: impl FnOnce(&mut Tables<'_>) -> Result<T, Failure>,
    ) -> Result<(T, [u64; 2]), Failure> {
        let mut tables = self.install(image)?;
        let stop = AtomicBool::new(false);
        let (done, ran) = std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    self.driver.test_run(&FRAME, REPEAT).map_err(|e| e.io_error.to_string())?;
                }
                Ok::<(), String>(())
            });
            // The first packets are under way.
            while !stop.load(Ordering::Relaxed) && !reader.is_finished() && self.counts()?[0] == 0 {
                std::thread::yield_now();
            }
            let done = change(&mut tables);
            stop.store(true, Ordering::Relaxed);
            Ok::<_, Failure>((done, reader.join()))
        })?;
        ran.map_err(|_| failed("the reader panicked".into()))?.map_err(failed)?;
        Ok((done?, self.counts()?))
    }

    fn counts(&self) -> Result<[u64; 2], Failure> {
        let value = self.counts.lookup(&[0; 4])?.ok_or_else(|| failed("no counters".into()))?;
        let number = |at: usize| value[at..at + 8].iter().rev().fold(0, |n, byte| n << 8 | u64::from(*byte));
        Ok([number(0), number(8)])
    }
}

/// Copies the next stored state into the packet state and goes on in the policy.
fn driver() -> Result<Code, Failure> {
    let mut a = Assembler::new();
    look_up_state(&mut a)?;
    look_up_first(&mut a, MapRef::Private(1))?;
    a.push(Insn::load(Size::B8, Reg::R1, Reg::R0, 0));
    a.push(Insn::mov(Reg::R2, Reg::R1));
    a.push(Insn::alu(AluOp::Add, Reg::R2, 1));
    a.push(Insn::store(Size::B8, Reg::R0, 0, Reg::R2));
    a.push(Insn::alu(AluOp::And, Reg::R1, SPREAD as i32 - 1));
    a.push(Insn::store(Size::B4, Reg::R10, -4, Reg::R1));
    look_up_stacked(&mut a, MapRef::Private(0))?;
    for at in (0..COPIED as i16).step_by(8) {
        a.push(Insn::load(Size::B8, Reg::R1, Reg::R0, at));
        a.push(Insn::store(Size::B8, Reg::R9, at, Reg::R1));
    }
    tail_call(&mut a, MapRef::Shared(abi::PROGS_MAP), abi::SLOT_FIRST_POLICY);
    Ok(a.finish()?)
}

/// Counts a packet, and counts it as wrong if it should not be here, or if anything
/// but policy sent it here.
fn end(wrong: Expected) -> Result<Code, Failure> {
    let mut a = Assembler::new();
    look_up_state(&mut a)?;
    look_up_first(&mut a, MapRef::Private(2))?;
    let (bad, good) = (a.new_label(), a.new_label());
    a.push(Insn::load(Size::B8, Reg::R1, Reg::R0, 0));
    a.push(Insn::alu(AluOp::Add, Reg::R1, 1));
    a.push(Insn::store(Size::B8, Reg::R0, 0, Reg::R1));
    a.push(Insn::load(Size::B4, Reg::R1, Reg::R9, abi::STATE_REASON.offset));
    a.jump_if(Width::W32, Cond::Ne, Reg::R1, abi::REASON_POLICY as i32, bad);
    a.push(Insn::load(Size::B4, Reg::R1, Reg::R9, abi::STATE_MARK.offset));
    a.jump_if(Width::W32, Cond::Ne, Reg::R1, wrong as i32, good);
    a.bind(bad)?;
    a.push(Insn::load(Size::B8, Reg::R1, Reg::R0, 8));
    a.push(Insn::alu(AluOp::Add, Reg::R1, 1));
    a.push(Insn::store(Size::B8, Reg::R0, 8, Reg::R1));
    a.bind(good)?;
    a.push(Insn::mov(Reg::R0, 0));
    a.push(Insn::Exit);
    Ok(a.finish()?)
}
