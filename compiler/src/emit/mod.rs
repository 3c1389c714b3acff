//! [`PolicyIr`] to [`PolicyImage`]: instructions, tables and notes.
//!
//! A policy that [`crate::dispatch`] can hold becomes tables and one program that
//! looks into them (`flat`, with `cells` or `cross` for its last step). Otherwise,
//! and for [`Form::Chain`], it becomes a chain of rules:
//!
//! ```text
//! program 0:  state → class of each side (one trie look-up) → row of each side
//!             rule: cheap tests … row bits ─ all hold ─▶ store decision, goto allow | deny
//!                         └─ one fails ──────────────▶ next rule
//! program i:  state → rows of the stored classes → rules
//! ```
//!
//! Registers of a chain: `r6` context, `r7` row of the source's class, `r8` row of the
//! destination's, `r9` packet state; `r1` is scratch and never lives across rules,
//! so that the verifier finds every rule in the one state it has seen already.
//! A rule's match falls through inline and its misses jump forward: a jump to a
//! shared far label per rule would leave one branch pending each.
//!
//! Why sound: tests of one rule are ANDed in any order, each is a function of the
//! packet state and of tables, and no test writes. Cost: linear in the rules.

mod bits;
mod builder;
mod cells;
mod cross;
mod flat;
mod flat_maps;
mod glue;
mod ports;
mod program;
mod rule;
mod tables;
mod text;

use crate::address::{AddressError, AddressLimits, AddressTables};
use crate::bpf::AsmError;
use crate::dispatch::{self, Choice, Dispatch, Limits, Side, Unfit};
use crate::image::{MapSpec, PolicyImage, Program};
use crate::ir::{Decision, PolicyIr};
use crate::passes::{AddressClasses, Budget, PlanError, ProgramPlan, classify, plan};

/// Slots that a program takes besides its pieces: prologue and shared ends.
/// The longest prologue and all ends take 90.
const FIXED_SLOTS: u32 = 128;
/// Slots of a piece's end: decision and jump.
const PIECE_SLOTS: u32 = 2;
/// Slots that a jump can always span.
const MAX_SLOTS: u32 = 32_767;
/// Largest row in bytes: its last word must be in reach of a load's offset.
const MAX_ROW_BYTES: u32 = 32_768;

/// How a program finds the rule that decides.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// Whatever the cost model takes for fastest.
    #[default]
    Auto,
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
        }
    }
}

/// A policy cannot be emitted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EmitError {
    /// A rule or the whole policy takes more room than programs have.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// [`EmitOptions::max_slots`] is outside of what a program can be.
    #[error("a program budget of {given} slots is not between {min} and {max}")]
    Budget {
        /// Slots given.
        given: u32,
        /// Least that holds prologue and ends.
        min: u32,
        /// Most that jumps can span.
        max: u32,
    },
    /// More address sets than a row has bits.
    #[error("the policy uses {given} address sets, a row has room for {max}")]
    TooManySets {
        /// Sets.
        given: usize,
        /// Bits of the largest row.
        max: usize,
    },
    /// A table has too many entries.
    #[error("table {map} needs {given} entries, at most {max} are allowed")]
    TooManyEntries {
        /// The map's name.
        map: &'static str,
        /// Entries needed, room to grow included.
        given: u64,
        /// [`EmitOptions::max_entries`].
        max: u32,
    },
    /// A table is too large.
    #[error("table {map} needs {given} bytes, at most {max} are allowed")]
    TableTooLarge {
        /// The map's name.
        map: &'static str,
        /// Bytes needed, room to grow included.
        given: u64,
        /// [`EmitOptions::max_table_bytes`].
        max: u64,
    },
    /// [`EmitOptions::form`] forces a form that cannot hold the policy.
    #[error("the form that was asked for does not fit: {0}")]
    Form(#[from] Unfit),
    /// The address tables do not fit.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// A planned program came out larger than planned: a bug of polc.
    #[error("program {program} takes {given} slots, planned were at most {max}")]
    PlanExceeded {
        /// Program number.
        program: usize,
        /// Slots.
        given: u32,
        /// [`EmitOptions::max_slots`].
        max: u32,
    },
    /// The pieces do not link: a bug of polc.
    #[error("program {program}: {error}")]
    Assemble {
        /// Program number.
        program: usize,
        /// What does not fit.
        error: AsmError,
    },
}

impl EmitError {
    /// Whether the policy is too large, as against a bug of polc.
    pub fn is_limit(&self) -> bool {
        !matches!(self, Self::PlanExceeded { .. } | Self::Assemble { .. })
    }
}

/// What the tables of a flat image were made from, and where they are.
#[derive(Debug)]
pub(crate) struct FlatParts {
    pub classes: AddressClasses,
    /// Their maps are the first ones, where `uses_addresses`.
    pub addresses: AddressTables,
    pub uses_addresses: bool,
    pub dispatch: Dispatch,
    /// The first map of the dispatch's form.
    pub form: u32,
}

/// Plans and emits a policy that has passed [`crate::ir::verify`].
///
/// # Errors
/// See [`EmitError`].
pub fn emit(ir: &PolicyIr, options: &EmitOptions) -> Result<PolicyImage, EmitError> {
    emit_with_parts(ir, options).map(|(image, _)| image)
}

/// As [`emit`], with what the tables were made from; `None` for a chain.
pub(crate) fn emit_with_parts(
    ir: &PolicyIr,
    options: &EmitOptions,
) -> Result<(PolicyImage, Option<FlatParts>), EmitError> {
    let min = FIXED_SLOTS + PIECE_SLOTS;
    if !(min..=MAX_SLOTS).contains(&options.max_slots) {
        return Err(EmitError::Budget { given: options.max_slots, min, max: MAX_SLOTS });
    }
    let classes = classify(ir);
    if options.form != Form::Chain {
        match flat(ir, &classes, options) {
            Err(EmitError::Form(_) | EmitError::Address(_)) if options.form == Form::Auto => {}
            Ok(flat) => {
                let FlatImage { image, addresses, uses_addresses, dispatch, form } = flat;
                return Ok((image, Some(FlatParts { classes, addresses, uses_addresses, dispatch, form })));
            }
            Err(error) => return Err(error),
        }
    }
    let mut ir = ir.clone();
    let budget = Budget { slots: options.max_slots - FIXED_SLOTS, piece: PIECE_SLOTS };
    let plan = plan(&mut ir, budget, &|ir, rule| rule::cost(ir, rule, &classes, options))?;
    Ok((emit_planned(&ir, &classes, &plan, options)?, None))
}

/// An image of tables; the rest as in [`FlatParts`].
struct FlatImage {
    image: PolicyImage,
    addresses: AddressTables,
    uses_addresses: bool,
    dispatch: Dispatch,
    form: u32,
}

/// Emits a policy as tables.
fn flat(ir: &PolicyIr, classes: &AddressClasses, options: &EmitOptions) -> Result<FlatImage, EmitError> {
    let choice = match options.form {
        Form::Auto | Form::Chain => Choice::Fastest,
        Form::Cells => Choice::Cells,
        Form::Dense => Choice::Dense,
        Form::Sparse => Choice::Sparse,
        Form::Cross => Choice::Cross,
        Form::Bits => Choice::Bits,
    };
    let limits = AddressLimits { max_entries: options.max_entries, max_table_bytes: options.max_table_bytes };
    let addresses = AddressTables::build(classes, &limits)?;
    let capacity = addresses.layout().class_capacity();
    let limits = Limits { classes: capacity, max_table_bytes: options.max_table_bytes };
    let dispatch = dispatch::build(ir, classes, choice, &limits)?;
    let uses_addresses = dispatch.uses(Side::Src) || dispatch.uses(Side::Dst);
    let mut maps = if uses_addresses { addresses.maps() } else { Vec::new() };
    let (numbers, tables) = flat_maps::maps(&dispatch, maps.len() as u32, capacity, options.count);
    maps.extend(tables);
    let program = flat::program(ir, &dispatch, addresses.layout(), &numbers)
        .map_err(|error| EmitError::Assemble { program: 0, error })?;
    let hits = if options.count { dispatch.outcomes.credits() } else { Vec::new() };
    let image = image(ir, vec![program], maps, hits);
    Ok(FlatImage { image, addresses, uses_addresses, dispatch, form: numbers.form })
}

fn image(ir: &PolicyIr, programs: Vec<Program>, maps: Vec<MapSpec>, hits: Vec<Vec<Decision>>) -> PolicyImage {
    PolicyImage {
        name: ir.name.clone(),
        direction: ir.direction,
        programs,
        maps,
        decisions: ir.decisions.values().cloned().collect(),
        files: ir.files.values().cloned().collect(),
        hits,
    }
}

/// Emits a planned policy; `plan` and `classes` must be those of `ir`.
///
/// # Errors
/// See [`EmitError`]; never [`EmitError::Plan`].
pub fn emit_planned(
    ir: &PolicyIr,
    classes: &AddressClasses,
    plan: &ProgramPlan,
    options: &EmitOptions,
) -> Result<PolicyImage, EmitError> {
    let max = MAX_ROW_BYTES as usize * 8;
    if classes.sets.len() > max {
        return Err(EmitError::TooManySets { given: classes.sets.len(), max });
    }
    let maps = tables::maps(classes, plan.segments.len(), ir.decisions.len(), options)?;
    let mut programs = Vec::with_capacity(plan.segments.len());
    for segment in plan.segments.keys() {
        programs.push(program::emit(ir, classes, plan, segment, options)?);
    }
    let credits = ir.decisions.keys().map(|decision| vec![decision]);
    let hits = if options.count { credits.collect() } else { Vec::new() };
    Ok(image(ir, programs, maps, hits))
}

#[cfg(test)]
mod tests;
