//! The userspace VM: rbpf with maps and tail calls, running the entry object and
//! policy images on recorded packets.
//!
//! ```text
//! ELF ─aya_obj─▶ slots ┐                                     ┌▶ interpreter
//!                      ├▶ resolve maps ▶ check ▶ link ▶ rbpf ┤
//! PolicyImage ─encode─▶┘                                     └▶ cranelift
//! ```
//!
//! One memory region below 4 GiB ([`crate::sys::LowArena`]) holds the packet, the
//! fake `__sk_buff` and every map value, so 32-bit packet pointers mean what they
//! mean in the kernel and one bounds check covers everything that programs reach.
//!
//! Why a verdict can be trusted: what rbpf would run differently from the kernel
//! is refused or replaced before anything runs (`check`, `link`); helper arguments
//! are checked against the region and the program's own stack; the state's verdict
//! must equal the program's return code, else the evaluation is a fault.
//!
//! Cost per packet: one copy of the captured bytes, about 10 ns per interpreted
//! instruction (rbpf looks up every instruction's address in a table), 1 ns
//! compiled; nothing is allocated except rbpf's own 512-byte stack.
//!
//! Limits: a packet's first 64 KiB are visible; 32,767 slots per program; no
//! bound on loops (the kernel's verifier sets one, rbpf has none). A program
//! that reads outside its memory gives [`EngineError::Fault`] in the interpreter
//! and ends the process in cranelift.

mod check;
mod control;
mod image;
mod insn;
#[cfg(all(test, feature = "cranelift"))]
mod isa_tests;
mod link;
mod maps;
pub(crate) mod object;
mod region;
mod trace;
mod untracked;
mod world;

use polc_compiler::abi;
use polc_compiler::abi::config::Config;
use polc_compiler::image::PolicyImage;
use polc_compiler::ir::Direction;

pub use self::trace::{Step, Trace, Tracer};
pub use crate::sys::VmEngine;

use self::image::{Loaded, Programs};
use self::maps::Map;
use self::object::EntryObject;
use self::region::{Pages, pages};
use self::world::{MapId, World};
use crate::sys::LowArena;
use crate::{Attachment, AttachmentSpec, Engine, EngineError, Evaluation, Packet};

/// Bytes of a packet that programs see.
pub const MAX_PACKET: usize = 1 << 16;

/// Size of `struct __sk_buff`.
const CONTEXT_BYTES: usize = 192;
/// Slot of the policy of the selected endpoint's other direction.
const PEER_SLOT: u32 = abi::SLOT_FIRST_POLICY + 1;
/// Slot of its untracked policy, at tc or at XDP.
const UNTRACKED_SLOT: u32 = abi::SLOT_FIRST_POLICY + 2;
/// Slot of the program where a packet goes on behind that.
const NEXT_SLOT: u32 = abi::SLOT_FIRST_POLICY + 3;
/// Room for metadata before a packet.
const META: u64 = 32;
/// Spare address space for images that are larger than those they replace.
const HEADROOM: u64 = 64 << 20;

/// Choices that hold for all attachments.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct VmOptions {
    /// What runs the programs. Default: the interpreter.
    pub engine: VmEngine,
    /// Take every packet for a connection's first. Default: connections are
    /// tracked. See [`Vm::set_stateless`].
    pub stateless: bool,
    /// Connections that are tracked at once; the least recently used one makes
    /// room. Default: as the entry object says.
    pub conntrack_entries: Option<u32>,
}

/// The VM. See the [module](self).
pub struct Vm {
    options: VmOptions,
    world: World,
    pages: Pages,
    programs: Programs,
    /// Program numbers, in the order of [`object::PROGRAMS`].
    entry: [u32; object::PROGRAMS.len()],
    addresses: Addresses,
    program_array: MapId,
    xdp_array: MapId,
    failsafes: MapId,
    log: MapId,
    images: Vec<Option<Loaded>>,
    attachments: Vec<Attached>,
    /// The attachment whose configuration is in place.
    current: Option<Attachment>,
    shared: Vec<(String, MapId)>,
}

/// Where the fixed things lie in the arena.
#[derive(Copy, Clone, Debug, Default)]
struct Addresses {
    config: u64,
    state: u64,
    counters: u64,
    settings: u64,
    generations: u64,
}

struct Attached {
    endpoint: u32,
    direction: Direction,
    /// Index in [`Vm::images`].
    image: usize,
    /// How often the image was replaced.
    generation: u32,
    /// It is a host endpoint's.
    host: bool,
    /// Index of the attachment of the endpoint's other direction.
    peer: Option<usize>,
    /// Untracked policy: index in [`Vm::images`], and the decision with which it
    /// lets pass.
    untracked: Option<(usize, u32)>,
}

impl Vm {
    /// Loads the entry object and the images. Attachments whose specs refer to
    /// the same image share it.
    ///
    /// # Errors
    /// [`EngineError::Refused`] with program and slot for what cannot be run
    /// faithfully; [`EngineError::Unavailable`] if there is no room below 4 GiB.
    pub fn new(entry: &[u8], specs: &[AttachmentSpec<'_>], options: VmOptions) -> Result<Self, EngineError> {
        let mut entry = EntryObject::parse(entry)?;
        if let Some(entries) = options.conntrack_entries {
            entry.resize(abi::CONNTRACK_MAP, entries);
        }
        let (arena, fixed) = reserve(&entry, specs)?;
        let base = u64::from(arena.base());
        let end = base + arena.size() as u64;
        let context = base + META + MAX_PACKET as u64;
        let world = World {
            arena,
            context,
            packet: base + META,
            packet_len: 0,
            meta: None,
            now: 0,
            maps: Vec::new(),
            next: None,
            tail_calls: 0,
            fault: None,
        };
        let mut vm = Self {
            options,
            world,
            // The last page stays free: rbpf's range check needs some slack.
            pages: Pages::new(base + fixed, end - base - fixed - pages(1)),
            programs: Programs::default(),
            entry: [0; object::PROGRAMS.len()],
            addresses: Addresses::default(),
            program_array: 0,
            xdp_array: 0,
            failsafes: 0,
            log: 0,
            images: Vec::new(),
            attachments: Vec::new(),
            current: None,
            shared: Vec::new(),
        };
        vm.load_entry(entry)?;
        vm.attach(specs)?;
        Ok(vm)
    }

    /// Replaces the image of one attachment; the next packet meets the new one.
    /// On an error the old one stays. Tracked connections stay, too.
    ///
    /// # Errors
    /// As for [`Vm::new`]; or there is no such attachment.
    pub fn update_image(&mut self, at: Attachment, image: &PolicyImage) -> Result<(), EngineError> {
        let Some(old) = self.attachments.get(at.0 as usize).map(|a| a.image) else { return Err(unknown(at)) };
        let new = self.load_image(image)?;
        let attached = &mut self.attachments[at.0 as usize];
        attached.image = new;
        attached.generation += 1;
        self.release_image(old);
        self.current = None;
        Ok(())
    }

    /// Packets counted so far at all attachments, by [`abi::counter_index`].
    pub fn counters(&self) -> Vec<u64> {
        let at = |index: u32| {
            let mut bytes = [0; 8];
            self.world.arena.read(self.addresses.counters + 8 * u64::from(index), &mut bytes);
            u64::from_ne_bytes(bytes)
        };
        (0..abi::COUNTERS).map(at).collect()
    }

    /// Turns connection and fragment tracking off or on, from the next packet on.
    /// What was tracked before is kept.
    pub fn set_stateless(&mut self, stateless: bool) {
        self.options.stateless = stateless;
        self.current = None;
    }

    /// Puts an attachment's configuration in place.
    fn select(&mut self, at: Attachment) -> Result<(), EngineError> {
        if self.current == Some(at) {
            return Ok(());
        }
        let attached = self.attachments.get(at.0 as usize).ok_or_else(|| unknown(at))?;
        let peer = attached.peer.and_then(|peer| self.attachments.get(peer));
        let stateless = if self.options.stateless { abi::CONFIG_STATELESS } else { 0 };
        let host = if attached.host { abi::CONFIG_FAILSAFES } else { 0 };
        // Two slots serve every attachment: they lead to the selected one's images.
        let config = Config {
            policy_slot: abi::SLOT_FIRST_POLICY,
            endpoint: attached.endpoint,
            flags: abi::CONFIG_REPLAY_CLOCK | stateless | host | attached.untracked_flag(),
            peer_slot: PEER_SLOT,
            counters: 0,
            untracked_slot: UNTRACKED_SLOT,
            next_slot: NEXT_SLOT,
            pass_decision: attached.untracked.map_or(abi::NO_DECISION, |(_, decision)| decision),
        };
        write_config(&self.world.arena, self.addresses.config, &config);
        let first = |attached: &Attached| {
            let image = self.images.get(attached.image).and_then(Option::as_ref);
            image.and_then(|i| i.programs.first().copied())
        };
        self.place_generations(attached.generation, peer.map_or(0, |peer| peer.generation));
        for (slot, program) in [(abi::SLOT_FIRST_POLICY, first(attached)), (PEER_SLOT, peer.and_then(first))]
        {
            self.world.set_program(self.program_array, slot, program);
        }
        self.place_untracked(at);
        self.current = Some(at);
        Ok(())
    }

    /// Lays the packet and its `__sk_buff` out in the arena.
    fn place(&mut self, packet: Packet<'_>) {
        let data = &packet.data[..packet.data.len().min(MAX_PACKET)];
        let world = &mut self.world;
        world.arena.write(world.packet, data);
        world.packet_len = data.len() as u32;
        world.now = packet.now;
        let protocol = data.get(12..14).map_or(0, |b| u32::from(u16::from_ne_bytes([b[0], b[1]])));
        let start = world.packet as u32;
        // Offsets in `struct __sk_buff`; all other fields stay 0.
        let fields = [
            // What was not captured is not there: the kernel's test run has no more either.
            (0, data.len() as u32),
            (16, protocol),
            (48, packet.now as u32),
            (52, (packet.now >> 32) as u32),
            (76, start),
            (80, start + data.len() as u32),
            (140, start),
        ];
        for (offset, value) in fields {
            world.arena.write_u32(world.context + offset, value);
        }
    }

    /// Runs programs until one ends without a tail call; gives its r0.
    fn run(&mut self, first: u32) -> Result<u32, EngineError> {
        self.world.tail_calls = 0;
        let mut program = first;
        loop {
            self.world.next = None;
            let result = self.programs.run(program, &mut self.world)?;
            if let Some(reason) = self.world.fault.take() {
                return Err(EngineError::Fault { program: self.programs.name(program), reason });
            }
            match self.world.next {
                Some(next) => program = next,
                None => return Ok(result as u32),
            }
        }
    }

    /// Reads what the programs left in the packet state.
    fn evaluation(&self, returned: u32, program: u32) -> Result<Evaluation, EngineError> {
        let mut bytes = [0; abi::STATE_SIZE as usize];
        self.world.arena.read(self.addresses.state, &mut bytes);
        crate::evaluation::from_state(&bytes, returned)
            .map_err(|reason| EngineError::Fault { program: self.programs.name(program), reason })
    }
}

impl Engine for Vm {
    fn evaluate(&mut self, at: Attachment, packet: Packet<'_>) -> Result<Evaluation, EngineError> {
        self.select(at)?;
        if let Some(decided) = self.at_xdp(at, packet)? {
            return Ok(decided);
        }
        self.place(packet);
        let program = match self.attachments[at.0 as usize].direction {
            Direction::Ingress => self.entry[0],
            Direction::Egress => self.entry[1],
        };
        let returned = self.run(program)?;
        self.evaluation(returned, program)
    }
}

impl Vm {
    fn load_entry(&mut self, entry: EntryObject) -> Result<(), EngineError> {
        let mut values = Vec::new();
        for map in &entry.maps {
            let (id, at) = self.add_entry_map(map)?;
            values.push((id, at));
            self.shared.push((map.name.clone(), id));
            match map.name.as_str() {
                abi::STATE_MAP => self.addresses.state = at,
                abi::COUNTERS_MAP => self.addresses.counters = at,
                abi::SETTINGS_MAP => self.addresses.settings = at,
                abi::GENERATIONS_MAP => self.addresses.generations = at,
                abi::PROGS_MAP => self.program_array = id,
                abi::XDP_PROGS_MAP => self.xdp_array = id,
                abi::FAILSAFES_MAP => self.failsafes = id,
                abi::LOG_MAP => self.log = id,
                _ => {}
            }
        }
        self.addresses.config = values[entry.config_map].1 + entry.config_offset;
        let all = entry.programs(|index| index as i32)?;
        for (i, (name, code)) in object::PROGRAMS.into_iter().zip(all).enumerate() {
            let slots = code.into_iter().map(insn::Slot::from_bytes).collect();
            let resolve = |fd: i32| usize::try_from(fd).ok().and_then(|fd| values.get(fd)).copied();
            self.entry[i] =
                self.programs.add(name, slots, resolve, self.options.engine, &self.world.arena)?;
        }
        let [_, _, allowed, denied, tracked, _, xdp_allowed, xdp_denied] = self.entry;
        for (array, slot, program) in [
            (self.program_array, abi::SLOT_ALLOWED, allowed),
            (self.program_array, abi::SLOT_DENIED, denied),
            (self.program_array, NEXT_SLOT, tracked),
            (self.xdp_array, abi::SLOT_ALLOWED, xdp_allowed),
            (self.xdp_array, abi::SLOT_DENIED, xdp_denied),
        ] {
            self.world.set_program(array, slot, Some(program));
        }
        Ok(())
    }

    fn add_entry_map(&mut self, map: &object::EntryMap) -> Result<(MapId, u64), EngineError> {
        let region = self.pages.take(map.shape.bytes());
        let region = region.ok_or_else(|| image::no_room(map.shape.bytes(), self.pages.largest()))?;
        self.world.arena.write(region.at, &map.data);
        Ok((self.world.add(Map::new(map.shape, region.at)), region.at))
    }

    fn attach(&mut self, specs: &[AttachmentSpec<'_>]) -> Result<(), EngineError> {
        let mut loaded: Vec<(*const PolicyImage, usize)> = Vec::with_capacity(specs.len());
        for spec in specs {
            let key = std::ptr::from_ref(spec.image);
            let image = match loaded.binary_search_by_key(&key, |(k, _)| *k) {
                Ok(known) => {
                    let index = loaded[known].1;
                    if let Some(Some(image)) = self.images.get_mut(index) {
                        image.uses += 1;
                    }
                    index
                }
                Err(place) => {
                    let index = self.load_image(spec.image)?;
                    loaded.insert(place, (key, index));
                    index
                }
            };
            let (endpoint, direction) = (spec.endpoint, spec.direction);
            self.attachments.push(Attached {
                endpoint,
                direction,
                image,
                generation: 0,
                host: false,
                peer: None,
                untracked: None,
            });
        }
        self.find_peers();
        Ok(())
    }
}

impl Vm {
    /// Notes for each attachment which one has the endpoint's other direction.
    fn find_peers(&mut self) {
        let places: std::collections::BTreeMap<(u32, bool), usize> = (self.attachments.iter().enumerate())
            .map(|(i, a)| ((a.endpoint, a.direction == Direction::Egress), i))
            .collect();
        for attached in &mut self.attachments {
            let other = attached.direction == Direction::Ingress;
            attached.peer = places.get(&(attached.endpoint, other)).copied();
        }
    }
}

/// An arena with room for everything, and how many bytes of it the packet and
/// its context take.
fn reserve(entry: &EntryObject, specs: &[AttachmentSpec<'_>]) -> Result<(LowArena, u64), EngineError> {
    let fixed = pages(META + MAX_PACKET as u64 + CONTEXT_BYTES as u64);
    let maps: u64 = entry.maps.iter().map(|m| pages(m.shape.bytes())).sum();
    let mut seen = std::collections::BTreeSet::new();
    let distinct = specs.iter().filter(|s| seen.insert(std::ptr::from_ref(s.image)));
    let images: u64 = distinct.map(|s| image::bytes(s.image)).fold(0, u64::saturating_add);
    let need = fixed.saturating_add(maps).saturating_add(images).saturating_add(pages(1));
    let wish = need.saturating_add(images).saturating_add(HEADROOM);
    let make = |bytes: u64| LowArena::new(usize::try_from(bytes).unwrap_or(usize::MAX));
    // Room for updates is a wish; room for what is known is not.
    let arena = make(wish).or_else(|_| make(need)).map_err(|e| EngineError::Unavailable {
        engine: "vm",
        reason: format!("maps and packet need {need} bytes below 4 GiB: {e}"),
    })?;
    Ok((arena, fixed))
}

fn write_config(arena: &LowArena, at: u64, config: &Config) {
    for (at, value) in (at..).step_by(4).zip(config.words()) {
        arena.write_u32(at, value);
    }
}

fn unknown(at: Attachment) -> EngineError {
    EngineError::Refused { program: "attachment".into(), reason: format!("there is no attachment {}", at.0) }
}
