//! [`PolicyImage`]: everything that must be loaded to enforce one endpoint's
//! policy in one direction. Programs, private maps with their contents, and the
//! tables that lead from an instruction or a decision back to the policy.

mod btf;
mod considered;
mod debug;
mod elf;
mod lines;
mod listing;
mod map;
mod shared;
mod source;
mod update;
mod xdp;

pub use considered::Considered;
pub use debug::{DebugInfo, debug_info};
pub use elf::{ElfError, LICENSE, elf};
pub use listing::listing;
pub(crate) use map::put_words;
pub use map::{DIRECT_BYTES, F_MMAPABLE, F_NO_PREALLOC, MAX_DIRECT_BYTES, MapKind, MapShape, MapSpec};
pub use shared::{SHARED_MAPS, shared_map};
pub use source::{SourceLines, no_source_lines, source_lines};
pub use update::Store;
pub use xdp::{OpenExit, for_xdp};

use crate::bpf::Code;
use crate::ir::{Chain, Criterion, Decision, DecisionData, Direction, Origin, Rule};

/// One endpoint's (or policy's) compiled policy in one direction.
#[derive(Clone, Debug, PartialEq)]
pub struct PolicyImage {
    /// Whose policy it is, as in [`crate::ir::PolicyIr::name`].
    pub name: String,
    /// The direction.
    pub direction: Direction,
    /// Programs; the first is the one that goes into the endpoint's slot of
    /// [`crate::abi::PROGS_MAP`]. Program `i > 0` goes into slot `i` of the
    /// private program array [`SUB_PROGS_MAP`] (slot 0 stays empty).
    pub programs: Vec<Program>,
    /// Private maps, in the order that [`crate::bpf::MapRef`] private indices count.
    pub maps: Vec<MapSpec>,
    /// What may decide, indexed by the value that programs write to
    /// [`crate::abi::STATE_DECISION`].
    pub decisions: Vec<DecisionData>,
    /// Names of the files that origins refer to, indexed by [`crate::ir::File`].
    pub files: Vec<String>,
    /// The decisions that each counter of the map [`HITS_MAP`] credits, by index
    /// into that map: what decided, and every Pass and Log rule that matched on the
    /// way. Empty in an image without counters.
    pub hits: Vec<Vec<Decision>>,
    /// Forms that were looked at: the one that was taken, then the others. For people;
    /// nothing depends on it.
    pub considered: Vec<Considered>,
}

/// Name of the private per-CPU array of `u64` that counts packets by outcome; the
/// number of values is that of [`PolicyImage::hits`].
pub const HITS_MAP: &str = "polc_hits";

/// Name of the private program array of an image with more than one program.
pub const SUB_PROGS_MAP: &str = "polc_sub";

/// One program: linked instructions with notes.
#[derive(Clone, Debug, PartialEq)]
pub struct Program {
    /// C identifier, at most 15 bytes: the kernel's limit for names.
    pub name: String,
    /// Instructions; jumps are resolved, map references are symbolic.
    pub code: Code,
    /// Notes by slot, ascending; a note holds until the next one of its kind or a
    /// higher one. At the same slot the higher kind stands first.
    pub notes: Vec<Note>,
    /// Names of jump targets by slot, ascending; a target may have none.
    pub labels: Vec<(u32, String)>,
}

/// What a note speaks about, from high to low.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NoteKind {
    /// A part of the program: prologue, a chain, an end.
    Part,
    /// A rule, or a chain's end.
    Rule,
    /// A rule's criterion or action.
    Test,
}

/// What the instructions from a slot on are for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// First slot (8 bytes each; `lddw` takes two).
    pub slot: u32,
    /// What the note speaks about.
    pub kind: NoteKind,
    /// Comment for the listing: policy, rule and criterion.
    pub text: String,
    /// Where in the YAML this comes from; `None` for prologue and epilogue.
    pub at: Option<Origin>,
    /// What of the IR that was emitted this is; `None` for parts. A rule that was
    /// too large for one program has the ids of its parts.
    pub subject: Option<Subject>,
}

/// What of the emitted IR a note speaks about.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A rule.
    Rule(Rule),
    /// The end of a chain.
    End(Chain),
    /// A criterion of the rule that the note before it names.
    Test(Criterion),
    /// What that rule or chain's end does when control gets there.
    Action,
}
