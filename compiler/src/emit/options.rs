//! How to emit: the form, and what programs and tables may be.

use crate::image::DIRECT_BYTES;

/// How a program finds the rule that decides.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// Whatever the cost model takes for fastest.
    #[default]
    Auto,
    /// One rule after the other, and prefixes compared one by one: for a few rules whose
    /// sets stand in the policy. Cost: linear in rules and prefixes, without a table.
    Direct,
    /// One rule after the other, in order: what `explain` follows, and what remains
    /// for a policy that no table can hold. Cost: linear in the rules.
    Chain,
    /// A table of outcomes by column and class, for rules that look at the addresses
    /// of one side: dense or sparse, whichever is smaller.
    Cells,
    /// As [`Form::Cells`], with a word for every column of every class.
    Dense,
    /// As [`Form::Cells`], with those cells only that differ from their column.
    Sparse,
    /// A table of outcomes by both sides' ids in each column.
    Cross,
    /// A bit for each rule: the first of those that both classes and the column have.
    Bits,
}

/// How to emit, and limits to emit within.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct EmitOptions {
    /// How the program finds the rule that decides. Default [`Form::Auto`]; another
    /// one forces that form, in tests and benches.
    pub form: Form,
    /// Whether programs count packets by outcome in the map
    /// [`crate::image::HITS_MAP`]. Default false; costs one or two nanoseconds.
    pub count: bool,
    /// Most slots of one program. Default 30,000: jump offsets hold 32,767, and so
    /// does the userspace VM. Lower it only in tests.
    pub max_slots: u32,
    /// Most branches that may wait for the verifier in one program. Default 8,000:
    /// the kernel's 8,192 less headroom. Lower it only in tests.
    pub max_branches: u32,
    /// Most entries of one table. Default 4,194,304.
    pub max_entries: u32,
    /// Most bytes of one table's contents. Default 256 MiB.
    pub max_table_bytes: u64,
    /// Most bytes of a table that programs address directly; larger ones are looked into.
    /// Default [`DIRECT_BYTES`], which every kernel takes; up to
    /// [`crate::image::MAX_DIRECT_BYTES`] for one that takes more. Lower it only in tests.
    pub max_direct_bytes: u64,
}

impl Default for EmitOptions {
    fn default() -> Self {
        Self {
            form: Form::Auto,
            count: false,
            max_slots: 30_000,
            max_branches: 8_000,
            max_entries: 1 << 22,
            max_table_bytes: 256 << 20,
            max_direct_bytes: DIRECT_BYTES,
        }
    }
}
