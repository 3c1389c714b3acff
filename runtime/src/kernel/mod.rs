//! The kernel engine: the entry object and policy images, verified and compiled
//! by the kernel, run on packets with `BPF_PROG_TEST_RUN`. Nothing is attached.
//!
//! Shared maps are pinned in a bpffs that is mounted for the engine alone, and
//! gone with it. The engine keeps its thread on one CPU while it lives, since the
//! packet state is per CPU.
//!
//! What a packet may be: the kernel takes 14 bytes at least, and [`MAX_DATA`] at
//! most here. Shorter ones are [`abi::REASON_TOO_SHORT`] without being run, as
//! the entry programs would decide. Of longer ones the first [`MAX_DATA`] bytes
//! are run: entry programs read headers only.
//!
//! Cost: one system call to run and one to read the state per packet; an entry
//! object is loaded per attachment, when its first packet comes.

mod conntrack;
mod counters;
mod dataplane;
mod digest;
mod entry;
mod error;
mod fixed;
mod hook;
mod image;
mod live;
mod load;
mod lock;
mod log;
mod members;
mod netlink;
mod pins;
mod record;
mod step;
pub mod support;
mod view;

use std::error::Error;

use aya::Ebpf;
use aya::maps::{MapData, PerCpuArray, ProgramArray};
use aya::programs::{SchedClassifier, TestRun as _, TestRunOptions};
use polc_compiler::abi;
use polc_compiler::abi::config::Config;
use polc_compiler::ir::{Direction, Verdict};

pub use self::conntrack::{Connection, Connections};
pub use self::counters::Counters;
pub use self::dataplane::{AttachReport, AttachRequest, Dataplane, Failsafe, Untracked, detach_all};
pub use self::error::LoaderError;
pub use self::hook::Hook;
pub use self::image::{Policy, name as image_name};
pub use self::live::{LiveImage, grace_period};
use self::load::{Image, ImageLoader, load_image};
pub use self::log::{Log, LogRecord, RATE as LOG_RATE};
pub use self::pins::Pins;
pub use self::record::{
    DecisionRecord, ImageRecord, InterfaceRecord, Place, SetRecord, UntrackedEgress, UntrackedIngress,
};
pub use self::view::{Attachment as InterfaceStatus, DirectionStatus, View};
use crate::sys::{CpuPin, PrivateBpfFs};
use crate::vm::object::{EntryObject, PROGRAMS};
use crate::{Attachment, AttachmentSpec, Engine, EngineError, Evaluation, Packet};

/// Most bytes of a packet that are run: with its head and tail room they fit the
/// one page that `BPF_PROG_TEST_RUN` has.
pub const MAX_DATA: usize = 3500;
/// Fewest bytes that the kernel takes: an Ethernet header.
const MIN_DATA: usize = 14;
/// Length that frames of other protocols than IP are filled up to, with zeros:
/// recent kernels refuse a frame without anything behind its header.
const FILLED: usize = 60;

/// Runs that a measurement takes the median of.
const RUNS: usize = 5;

type StateMap = PerCpuArray<MapData, [u8; abi::STATE_SIZE as usize]>;

/// The kernel as an engine. See the [module](self).
pub struct KernelEngine {
    entry: Vec<u8>,
    stateless: bool,
    images: Vec<Image>,
    attachments: Vec<Attached>,
    state: StateMap,
    /// Keeps the slots that it fills: the last descriptor's end clears them.
    _programs: ProgramArray<MapData>,
    /// Owns the programs that end a packet.
    _base: Ebpf,
    fs: PrivateBpfFs,
    cpu: CpuPin,
}

struct Attached {
    endpoint: u32,
    direction: Direction,
    /// Index in [`KernelEngine::images`].
    image: usize,
    /// The entry object with this attachment's configuration, once it is needed.
    entry: Option<Ebpf>,
}

impl KernelEngine {
    /// Loads the images, and checks the entry object.
    ///
    /// # Errors
    /// [`EngineError::Unavailable`] without the privileges or kernel features
    /// that it takes; [`EngineError::Refused`] for an entry object of another ABI
    /// or more than 4,094 images; [`EngineError::Kernel`] with the verifier's log.
    pub fn new(entry: &[u8], specs: &[AttachmentSpec<'_>], stateless: bool) -> Result<Self, EngineError> {
        EntryObject::parse(entry)?;
        let cpu = CpuPin::new().map_err(|e| unavailable(&e))?;
        let fs = PrivateBpfFs::new().map_err(|e| unavailable(&e))?;
        let mut base = load::load_entry(entry, &fs, &Config::default())?;
        let mut programs = load::program_array(&mut base)?;
        for (slot, name) in [(abi::SLOT_ALLOWED, abi::PROG_ALLOWED), (abi::SLOT_DENIED, abi::PROG_DENIED)] {
            let program = load::load_program(&mut base, name)?;
            let fd = program.fd().map_err(|e| kernel(name, e))?;
            programs.set(slot, fd, 0).map_err(|e| kernel(abi::PROGS_MAP, e))?;
        }
        let state = base.take_map(abi::STATE_MAP).ok_or_else(|| refused("no packet state".into()))?;
        let state = StateMap::try_from(state).map_err(|e| kernel(abi::STATE_MAP, e))?;
        let mut engine = Self {
            entry: entry.to_vec(),
            stateless,
            images: Vec::new(),
            attachments: Vec::new(),
            state,
            _programs: programs,
            _base: base,
            fs,
            cpu,
        };
        engine.attach(specs)?;
        Ok(engine)
    }

    fn attach(&mut self, specs: &[AttachmentSpec<'_>]) -> Result<(), EngineError> {
        let mut known: Vec<(*const polc_compiler::image::PolicyImage, usize)> = Vec::new();
        let mut loader = ImageLoader::new(&self.fs);
        for spec in specs {
            let key = std::ptr::from_ref(spec.image);
            let image = match known.binary_search_by_key(&key, |(k, _)| *k) {
                Ok(place) => known[place].1,
                Err(place) => {
                    let slot = abi::SLOT_FIRST_POLICY + self.images.len() as u32;
                    if slot >= abi::PROGS_ENTRIES {
                        let most = abi::PROGS_ENTRIES - abi::SLOT_FIRST_POLICY;
                        return Err(refused(format!("more than {most} images at once")));
                    }
                    self.images.push(load_image(spec.image, &mut loader, slot, &mut self._programs)?);
                    known.insert(place, (key, self.images.len() - 1));
                    self.images.len() - 1
                }
            };
            let (endpoint, direction) = (spec.endpoint, spec.direction);
            self.attachments.push(Attached { endpoint, direction, image, entry: None });
        }
        Ok(())
    }

    /// Nanoseconds per packet, each the median of five runs of `repeat` packets:
    /// from entry to verdict, and of the policy's programs alone.
    ///
    /// The packet is evaluated once before. With tracking on, every repetition of
    /// an allowed packet is therefore tracked: measure a stateless engine to see
    /// policy in the first number. For the second, the policy's first program is
    /// run on the packet state that this evaluation left; it includes its tail
    /// calls, the program that ends the packet among them. Counters count all
    /// repetitions.
    ///
    /// # Errors
    /// As for [`Engine::evaluate`]; [`EngineError::Refused`] for a packet that is
    /// too short to be run.
    pub fn measure(
        &mut self,
        at: Attachment,
        packet: Packet<'_>,
        repeat: u32,
    ) -> Result<(u64, u64), EngineError> {
        if packet.data.len() < MIN_DATA {
            return Err(refused(format!("{} bytes; the kernel runs at least {MIN_DATA}", packet.data.len())));
        }
        self.evaluate(at, packet)?;
        let (frame, context) = (frame(packet), context(packet));
        let image = self.attached(at)?.image;
        let whole = median(|| {
            let program = self.entry_program(at)?;
            run(program, &frame, &context, repeat).map(|(_, ns)| ns)
        })?;
        self.evaluate(at, packet)?;
        let policy =
            self.images.get_mut(image).ok_or_else(|| refused(format!("no image {image}")))?.first()?;
        let policy = median(|| run(policy, &frame, &context, repeat).map(|(_, ns)| ns))?;
        Ok((whole, policy))
    }

    /// Loads every program of the entry object, at tc and at XDP, with all that a
    /// host endpoint's configuration may ask for; gives their number.
    ///
    /// # Errors
    /// [`EngineError::Kernel`] with the verifier's log.
    pub fn verify_entry(&self) -> Result<usize, EngineError> {
        let flags = abi::CONFIG_FAILSAFES | abi::CONFIG_UNTRACKED | abi::CONFIG_XDP;
        let config = Config { policy_slot: abi::SLOT_FIRST_POLICY, flags, ..Config::default() };
        let mut entry = load::load_entry(&self.entry, &self.fs, &config)?;
        for name in PROGRAMS {
            load::load_any(&mut entry, name)?;
        }
        Ok(PROGRAMS.len())
    }

    fn attached(&mut self, at: Attachment) -> Result<&mut Attached, EngineError> {
        let unknown = || refused(format!("there is no attachment {}", at.0));
        self.attachments.get_mut(at.0 as usize).ok_or_else(unknown)
    }

    /// The attachment's entry program, loaded if it is not yet.
    fn entry_program(&mut self, at: Attachment) -> Result<&SchedClassifier, EngineError> {
        let stateless = if self.stateless { abi::CONFIG_STATELESS } else { 0 };
        let attached = self
            .attachments
            .get_mut(at.0 as usize)
            .ok_or_else(|| refused(format!("there is no attachment {}", at.0)))?;
        let name = match attached.direction {
            Direction::Ingress => abi::PROG_INGRESS,
            Direction::Egress => abi::PROG_EGRESS,
        };
        if attached.entry.is_none() {
            let config = Config {
                policy_slot: abi::SLOT_FIRST_POLICY + attached.image as u32,
                endpoint: attached.endpoint,
                flags: abi::CONFIG_REPLAY_CLOCK | stateless,
                ..Config::default()
            };
            let mut entry = load::load_entry(&self.entry, &self.fs, &config)?;
            load::load_program(&mut entry, name)?;
            attached.entry = Some(entry);
        }
        let entry = attached.entry.as_ref().and_then(|e| e.program(name));
        let program = entry.ok_or_else(|| refused(format!("program `{name}` is missing")))?;
        program.try_into().map_err(|e| kernel(name, e))
    }
}

impl Engine for KernelEngine {
    fn evaluate(&mut self, at: Attachment, packet: Packet<'_>) -> Result<Evaluation, EngineError> {
        self.attached(at)?;
        if too_short(packet.data) {
            return Ok(Evaluation {
                verdict: Verdict::Deny,
                reason: abi::REASON_TOO_SHORT,
                decision: None,
                logged: 0,
                log_decision: None,
            });
        }
        let (frame, context) = (frame(packet), context(packet));
        let program = self.entry_program(at)?;
        let (returned, _) = run(program, &frame, &context, 1)?;
        let values = self.state.get(&0, 0).map_err(|e| kernel(abi::STATE_MAP, e))?;
        let state = values.get(self.cpu.cpu()).ok_or_else(|| refused("no state for this CPU".into()))?;
        crate::evaluation::from_state(state, returned)
            .map_err(|reason| EngineError::Fault { program: "entry".into(), reason })
    }
}

/// Whether the kernel refuses the frame and the entry programs would find it too
/// short: less than an Ethernet header, or IP without a whole fixed header.
fn too_short(data: &[u8]) -> bool {
    let needed = match data.get(12..14) {
        None => return true,
        Some([0x08, 0x00]) => MIN_DATA + 20,
        Some([0x86, 0xdd]) => MIN_DATA + 40,
        // The tag's second half is missing; whatever follows is checked by the programs.
        Some([0x81, 0x00] | [0x88, 0xa8]) => MIN_DATA + 4,
        Some(_) => MIN_DATA,
    };
    data.len() < needed
}

/// The bytes to run: cut to what the kernel takes; frames that are not IP are
/// filled up, which no verdict depends on.
fn frame(packet: Packet<'_>) -> Vec<u8> {
    let mut frame = packet.data[..packet.data.len().min(MAX_DATA)].to_vec();
    let other = !matches!(frame.get(12..14), Some([0x08, 0x00] | [0x86, 0xdd] | [0x81, 0x00] | [0x88, 0xa8]));
    if other && frame.len() < FILLED {
        frame.resize(FILLED, 0);
    }
    frame
}

/// `struct __sk_buff` with the replay clock in `cb`; the kernel fills in the rest.
fn context(packet: Packet<'_>) -> [u8; 192] {
    let mut context = [0; 192];
    context[48..56].copy_from_slice(&packet.now.to_le_bytes());
    context
}

/// Runs a program on a packet: its return code, and nanoseconds per repetition.
fn run(
    program: &SchedClassifier,
    frame: &[u8],
    context: &[u8],
    repeat: u32,
) -> Result<(u32, u64), EngineError> {
    let options =
        TestRunOptions { data_in: Some(frame), ctx_in: Some(context), repeat, ..TestRunOptions::new() };
    let what = || format!("running a packet of {} bytes", frame.len());
    let result = program.test_run(options).map_err(|e| kernel(&what(), e))?;
    Ok((result.return_value, result.duration.as_nanos() as u64))
}

fn median(mut run: impl FnMut() -> Result<u64, EngineError>) -> Result<u64, EngineError> {
    let mut all = (0..RUNS).map(|_| run()).collect::<Result<Vec<_>, _>>()?;
    all.sort_unstable();
    Ok(all[RUNS / 2])
}

fn unavailable(error: &(dyn Error + 'static)) -> EngineError {
    let cause = error.source().map_or(String::new(), |s| format!(" ({s})"));
    EngineError::Unavailable {
        engine: "kernel",
        reason: format!(
            "{error}{cause}; it takes root (CAP_BPF, CAP_NET_ADMIN, CAP_SYS_ADMIN) and a kernel with BPF. \
             The other engines of `polc run` need neither"
        ),
    }
}

/// A kernel's answer; missing privileges make the engine unavailable.
fn kernel(what: &str, error: impl Error + Send + Sync + 'static) -> EngineError {
    let mut cause: Option<&(dyn Error + 'static)> = Some(&error);
    while let Some(e) = cause {
        let code = e.downcast_ref::<std::io::Error>().and_then(std::io::Error::raw_os_error);
        if matches!(code, Some(libc::EPERM | libc::ENOSYS)) {
            return unavailable(&error);
        }
        cause = e.source();
    }
    EngineError::Kernel { what: what.to_owned(), source: Box::new(error) }
}

fn refused(reason: String) -> EngineError {
    EngineError::Refused { program: "kernel engine".into(), reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_frames_are_known_without_the_kernel() {
        let ether = |kind: [u8; 2], len: usize| {
            let mut frame = vec![0; len.max(14)];
            frame[12..14].copy_from_slice(&kind);
            frame.truncate(len);
            frame
        };
        let cases = [
            (ether([8, 0], 13), true),
            (ether([8, 0], 33), true),
            (ether([8, 0], 34), false),
            (ether([0x86, 0xdd], 53), true),
            (ether([0x86, 0xdd], 54), false),
            (ether([0x81, 0], 17), true),
            (ether([8, 6], 14), false),
        ];
        for (frame, short) in cases {
            assert_eq!(too_short(&frame), short, "{frame:?}");
        }
    }

    #[test]
    fn missing_privileges_say_what_still_works() {
        let error = kernel("x", std::io::Error::from_raw_os_error(libc::EPERM));
        let text = error.to_string();
        assert!(matches!(error, EngineError::Unavailable { .. }) && text.contains("polc run"), "{text}");
        let other = kernel("x", std::io::Error::from_raw_os_error(libc::EINVAL));
        assert!(matches!(other, EngineError::Kernel { .. }));
    }
}
