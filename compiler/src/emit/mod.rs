//! [`PolicyIr`] to [`PolicyImage`]: instructions, tables and notes.
//!
//! A policy that [`crate::dispatch`] can hold becomes tables and one program that
//! looks into them (`flat`, with `cells`, `cross` or `bits` for its last step). One of few
//! rules whose sets stand in it is compared rule by rule instead ([`Form::Direct`]), if
//! that is estimated to cost less (`choice`). What no table holds, and
//! [`Form::Chain`], becomes a chain of rules:
//!
//! ```text
//! program 0:  state → class of each side (one trie look-up) → row of each side
//!             rule: cheap tests … row bits ─ all hold ─▶ store decision, goto allow | deny
//!                         └─ one fails ──────────────▶ next rule
//! program i:  state → rows of the stored classes → rules
//! ```
//!
//! Compares are the same chain with a test of each prefix in place of rows (`sets`).
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
mod choice;
mod cross;
mod error;
mod flat;
mod flat_maps;
mod glue;
mod options;
mod ports;
mod program;
mod rule;
mod sets;
mod tables;
mod text;

pub use error::EmitError;
pub use options::{EmitOptions, Form};

use self::sets::SetTests;
use crate::address::{AddressLayout, AddressLimits, AddressTables};
use crate::cost::{Cost, Work};
use crate::dispatch::cost;
use crate::dispatch::{self, Choice, Dispatch, Limits, Side, Tables};
use crate::image::{Considered, MapKind, MapSpec, PolicyImage, Program};
use crate::ir::{Decision, PolicyIr};
use crate::passes::{AddressClasses, Budget, ProgramPlan, classify, plan};

/// Name of [`Form::Direct`].
const DIRECT: &str = "direct";
/// Slots that a program takes besides its pieces: prologue and shared ends.
/// The longest prologue and all ends take 90.
const FIXED_SLOTS: u32 = 128;
/// Slots of a piece's end: decision and jump.
const PIECE_SLOTS: u32 = 2;
/// Slots that a jump can always span.
const MAX_SLOTS: u32 = 32_767;
/// Largest row in bytes: its last word must be in reach of a load's offset.
const MAX_ROW_BYTES: u32 = 32_768;

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
    let (image, _) = emit_with_parts(ir, options)?;
    Ok(PolicyImage { decisions: ir.decisions.values().cloned().collect(), ..image })
}

/// As [`emit`], with what the tables were made from; `None` for what has none. The image's
/// decisions are left to the caller, who may have no other use for those of the policy.
pub(crate) fn emit_with_parts(
    ir: &PolicyIr,
    options: &EmitOptions,
) -> Result<(PolicyImage, Option<FlatParts>), EmitError> {
    check_budget(options)?;
    match options.form {
        Form::Direct => match choice::compares(ir) {
            Some(work) => Ok((direct(ir, work, options)?, None)),
            None => Err(EmitError::NotDirect),
        },
        Form::Chain => Ok((chain(ir, &classify(ir), options)?, None)),
        Form::Auto => auto(ir, options),
        _ => flat(ir, classify(ir), options).map(|flat| (flat.image, Some(flat.parts))),
    }
}

/// What costs least; a chain if no table holds the policy.
fn auto(ir: &PolicyIr, options: &EmitOptions) -> Result<(PolicyImage, Option<FlatParts>), EmitError> {
    let tables = match flat(ir, classify(ir), options) {
        Err(EmitError::Form(_) | EmitError::Address(_)) => None,
        done => Some(done?),
    };
    let is_cheaper = tables.as_ref().is_none_or(|tables| is_direct_cheaper(ir, &tables.image));
    let compares = choice::compares(ir).filter(|_| is_cheaper);
    if let Some(mut direct) = compares.and_then(|work| direct(ir, work, options).ok()) {
        // Followed by what was considered beside it.
        let others = tables.into_iter().flat_map(|tables| tables.image.considered);
        direct.considered.extend(others.filter(|other| other.form != DIRECT));
        return Ok((direct, None));
    }
    match tables {
        Some(tables) => Ok((tables.image, Some(tables.parts))),
        None => Ok((chain(ir, &classify(ir), options)?, None)),
    }
}

/// Whether compares are estimated to cost less than these tables.
pub(crate) fn is_direct_cheaper(ir: &PolicyIr, tables: &PolicyImage) -> bool {
    choice::compares(ir).is_some_and(|work| work.cost().total() < tables.total())
}

/// Emits a policy of one program that compares prefixes.
fn direct(ir: &PolicyIr, work: Work, options: &EmitOptions) -> Result<PolicyImage, EmitError> {
    let sets = SetTests::Compares(ir);
    let mut planned = ir.clone();
    let plan = plan(&mut planned, budget(options), &|ir, rule| rule::cost(ir, rule, sets, options))?;
    let considered = Considered::new(DIRECT, Ok((work.cost(), 0)));
    emit_planned(&planned, SetTests::Compares(&planned), &plan, options, considered)
}

/// Emits a policy rule by rule, with a look-up of the sets that hold each address.
fn chain(ir: &PolicyIr, classes: &AddressClasses, options: &EmitOptions) -> Result<PolicyImage, EmitError> {
    let max = MAX_ROW_BYTES as usize * 8;
    if classes.sets.len() > max {
        return Err(EmitError::TooManySets { given: classes.sets.len(), max });
    }
    let mut planned = ir.clone();
    let sets = SetTests::Rows(classes);
    let plan = plan(&mut planned, budget(options), &|ir, rule| rule::cost(ir, rule, sets, options))?;
    // Linear in the rules: no estimate is wanted.
    let considered = Considered::new("chain", Err("rule by rule".into()));
    emit_planned(&planned, sets, &plan, options, considered)
}

fn budget(options: &EmitOptions) -> Budget {
    Budget { slots: options.max_slots - FIXED_SLOTS, piece: PIECE_SLOTS }
}

/// A policy as tables.
pub(crate) struct TableImage {
    pub image: PolicyImage,
    pub parts: FlatParts,
}

impl TableImage {
    /// Whether the order of rules says which of them are found first.
    pub fn is_ordered(&self) -> bool {
        matches!(&self.parts.dispatch.tables, Tables::Bits(bits) if bits.is_ordered())
    }
}

/// As [`emit_with_parts`], as tables or not at all.
pub(crate) fn emit_tables(ir: &PolicyIr, options: &EmitOptions) -> Result<TableImage, EmitError> {
    check_budget(options)?;
    flat(ir, classify(ir), options)
}

fn check_budget(options: &EmitOptions) -> Result<(), EmitError> {
    let min = FIXED_SLOTS + PIECE_SLOTS;
    match options.max_slots {
        slots if (min..=MAX_SLOTS).contains(&slots) => Ok(()),
        given => Err(EmitError::Budget { given, min, max: MAX_SLOTS }),
    }
}

/// Emits a policy as tables.
fn flat(ir: &PolicyIr, classes: AddressClasses, options: &EmitOptions) -> Result<TableImage, EmitError> {
    let choice = match options.form {
        Form::Auto | Form::Chain | Form::Direct => Choice::Fastest,
        Form::Cells => Choice::Cells,
        Form::Dense => Choice::Dense,
        Form::Sparse => Choice::Sparse,
        Form::Cross => Choice::Cross,
        Form::Bits => Choice::Bits,
    };
    let limits = AddressLimits {
        max_entries: options.max_entries,
        max_table_bytes: options.max_table_bytes,
        max_direct_bytes: options.max_direct_bytes,
    };
    let addresses = AddressTables::build(&classes, &limits)?;
    let capacity = addresses.layout().class_capacity();
    let limits = Limits { classes: capacity, max_table_bytes: options.max_table_bytes };
    let dispatch = dispatch::build(ir, &classes, choice, &limits)?;
    let uses_addresses = dispatch.uses(Side::Src) || dispatch.uses(Side::Dst);
    let mut maps = if uses_addresses { addresses.maps() } else { Vec::new() };
    let layout = flat_maps::Layout {
        first: maps.len() as u32,
        classes: capacity,
        count: options.count,
        max_direct: options.max_direct_bytes,
    };
    let (numbers, tables) = flat_maps::maps(&dispatch, layout);
    maps.extend(tables);
    if !(uses_addresses && classes.open) {
        // Only members that change lead to stores.
        maps.iter_mut().filter(|map| map.kind == MapKind::Array).for_each(|map| map.fixed = true);
    }
    let program = flat::program(ir, &dispatch, addresses.layout(), &numbers)
        .map_err(|error| EmitError::Assemble { program: 0, error })?;
    let hits = if options.count { dispatch.outcomes.credits() } else { Vec::new() };
    let mut considered = considered(&dispatch, addresses.layout());
    considered.extend(choice::compares(ir).map(|work| Considered::new(DIRECT, Ok((work.cost(), 0)))));
    let image = PolicyImage { considered, ..image(ir, vec![program], maps, hits) };
    let parts = FlatParts { classes, addresses, uses_addresses, dispatch, form: numbers.first };
    Ok(TableImage { image, parts })
}

/// The form that was taken, with all that a packet does, then the others, with what
/// they would do in its place.
fn considered(dispatch: &Dispatch, addresses: &AddressLayout) -> Vec<Considered> {
    let taken = dispatch.tables.name();
    let own = cost::form(&dispatch.tables, &dispatch.outcomes).cost();
    let whole = choice::tables(dispatch, addresses).cost();
    let (hot, spread) = (whole.hot - own.hot, whole.spread - own.spread);
    let mut all: Vec<Considered> = dispatch
        .candidates
        .iter()
        .map(|candidate| {
            let outcome = candidate.outcome.map_err(|unfit| unfit.to_string());
            let whole = |(cost, bytes): (Cost, u64)| {
                (Cost { hot: cost.hot + hot, spread: cost.spread + spread }, bytes)
            };
            Considered::new(candidate.form, outcome.map(whole))
        })
        .collect();
    all.sort_by_key(|considered| considered.form != taken || considered.estimate.is_err());
    all
}

fn image(ir: &PolicyIr, programs: Vec<Program>, maps: Vec<MapSpec>, hits: Vec<Vec<Decision>>) -> PolicyImage {
    PolicyImage {
        name: ir.name.clone(),
        direction: ir.direction,
        programs,
        maps,
        decisions: Vec::new(),
        files: ir.files.values().cloned().collect(),
        hits,
        considered: Vec::new(),
    }
}

/// Emits a planned policy; `plan` and `sets` must be those of `ir`.
fn emit_planned(
    ir: &PolicyIr,
    sets: SetTests<'_>,
    plan: &ProgramPlan,
    options: &EmitOptions,
    considered: Considered,
) -> Result<PolicyImage, EmitError> {
    let maps = tables::maps(sets, plan.segments.len(), ir.decisions.len(), options)?;
    let mut programs = Vec::with_capacity(plan.segments.len());
    for segment in plan.segments.keys() {
        programs.push(program::emit(ir, sets, plan, segment, options)?);
    }
    let credits = ir.decisions.keys().map(|decision| vec![decision]);
    let hits = if options.count { credits.collect() } else { Vec::new() };
    Ok(PolicyImage { considered: vec![considered], ..image(ir, programs, maps, hits) })
}

#[cfg(test)]
mod tests;
