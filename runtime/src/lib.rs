//! Runs what `polc-compiler` emits: the precompiled entry programs and the
//! generated policy, in a userspace VM on recorded packets and in the kernel.
//!
//! An [`Engine`] evaluates packets at [`Attachment`]s: one endpoint, one
//! direction. Every engine gives the same [`Evaluation`] for the same packet,
//! clock and history.
#![deny(missing_docs)]

use polc_compiler::ir::{Direction, Verdict};

#[cfg(target_os = "linux")]
pub mod agent;
mod evaluation;
#[cfg(target_os = "linux")]
pub mod kernel;
pub mod packet;
pub mod reference;
pub mod replay;
pub mod sys;
pub mod vm;

/// The precompiled entry programs: an ELF object, see `prebuilt-bpf/`.
pub const ENTRY_OBJECT: &[u8] = include_bytes!("../../prebuilt-bpf/polc_entry.o");

/// One endpoint and direction that packets are evaluated at: an index into the
/// list of images that the engine was made with.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Attachment(pub u32);

/// What an engine is told about each attachment when it is made.
#[derive(Clone, Debug)]
pub struct AttachmentSpec<'a> {
    /// Endpoint id, unique per endpoint: both directions of an endpoint share
    /// it, and with it their tracked connections.
    pub endpoint: u32,
    /// Direction.
    pub direction: Direction,
    /// The policy.
    pub image: &'a polc_compiler::image::PolicyImage,
}

/// A packet as an engine gets it.
#[derive(Copy, Clone, Debug)]
pub struct Packet<'a> {
    /// Ethernet frame, as far as it was captured.
    pub data: &'a [u8],
    /// Length on the wire; at least `data.len()`.
    pub wire_len: u32,
    /// Capture time in ns since the epoch; the clock of tracked connections.
    pub now: u64,
}

/// What an engine found about one packet at one attachment.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Evaluation {
    /// Whether the packet passes.
    pub verdict: Verdict,
    /// One of [`polc_compiler::abi::REASONS`].
    pub reason: u32,
    /// Index into the image's decisions where policy decided.
    pub decision: Option<u32>,
    /// Number of Log rules that matched.
    pub logged: u32,
    /// Decision of the last Log rule that matched.
    pub log_decision: Option<u32>,
}

/// Evaluates packets at attachments.
pub trait Engine {
    /// Evaluates one packet; state (tracked connections) carries over to the next.
    ///
    /// # Errors
    /// A fault of the engine, never a verdict: see [`EngineError`].
    fn evaluate(&mut self, at: Attachment, packet: Packet<'_>) -> Result<Evaluation, EngineError>;
}

/// An engine could not be made or could not evaluate a packet.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// The engine cannot run here; the text says what is missing.
    #[error("{engine} engine is not available: {reason}")]
    Unavailable {
        /// Engine name.
        engine: &'static str,
        /// What is missing and what still works.
        reason: String,
    },
    /// A program was refused before it ran.
    #[error("program `{program}` is refused: {reason}")]
    Refused {
        /// Program name.
        program: String,
        /// Which instruction or limit, with numbers.
        reason: String,
    },
    /// A program faulted while it ran.
    #[error("program `{program}` faulted: {reason}")]
    Fault {
        /// Program name.
        program: String,
        /// What happened.
        reason: String,
    },
    /// The kernel refused a system call or program.
    #[error("{what}: {source}")]
    Kernel {
        /// What was asked of the kernel.
        what: String,
        /// The kernel's answer.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}
