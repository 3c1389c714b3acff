//! The tables of a form while programs read them: contents for classes that come.
//!
//! What: [`LiveRows`] stands beside a loaded image, and gives the stores after which
//! every table of its form is right for a new class. [`crate::address::Membership`]
//! has them carried out before any address leads to the class, and says when no
//! reader knows a class any more.
//!
//! Why sound: a word that a reader of another class looks at keeps its value, or, among
//! sparse cells, is never one that such a reader takes for its own (`sparse`). The
//! contents are a function of the class's sets: what a new compile with these members
//! puts there.
//!
//! What was not foreseen is refused: no gap for a row of sparse cells, an outcome without
//! a number (a new combination of rules that pass or log), and, in cross, a combination
//! of conditions that no class of the column had. The image is replaced as a whole then.
//!
//! | form | stores for a class |
//! |---|---|
//! | dense cells | half a word or one for each column |
//! | sparse cells | one or two for each cell that is not its column's default, and one for the class |
//! | cross | at most one for each row of ids |
//! | bits | two for each word of its row |

mod cross;
mod dense;
mod finder;
mod sparse;

use super::cells::{Cells, Table};
use super::condition::{Cond, Postings};
use super::outcome::look_up;
use super::{Dispatch, Tables};
use crate::address::{AddressClasses, Class, ClassRows, Refused, SetBit};
use crate::image::Store;

use cross::LiveIds;
use finder::Finder;
use sparse::LiveComb;

/// A policy's tables beside its address tables.
#[derive(Clone, Debug)]
pub struct LiveRows {
    dispatch: Dispatch,
    postings: Postings,
    /// First map of the form.
    map: u32,
    form: Form,
    changed: Vec<Cond>,
    fills: u64,
}

#[derive(Clone, Debug)]
enum Form {
    /// Nothing is kept for each class.
    Fixed,
    Dense {
        finder: Finder,
        defaults: Vec<u32>,
        is_narrow: bool,
    },
    Sparse {
        finder: Finder,
        comb: LiveComb,
    },
    Cross(LiveIds),
    Bits,
}

impl LiveRows {
    /// The tables of a dispatch that was built from these classes, in maps from number
    /// `map` on. `capacity` is the number of classes that the address tables have room
    /// for. Cost: for cross as much as building it, else linear in the tables.
    pub fn new(mut dispatch: Dispatch, classes: &AddressClasses, map: u32, capacity: u32) -> Self {
        let postings = Postings::new(&dispatch.partition.conditions, classes);
        let partition = &dispatch.partition;
        let form = match &mut dispatch.tables {
            Tables::Cells(Cells { side: None, .. }) => Form::Fixed,
            Tables::Cells(cells) => match &mut cells.table {
                Table::None => Form::Fixed,
                Table::Dense { words, narrow } => {
                    *words = Vec::new();
                    Form::Dense {
                        finder: Finder::new(partition, cells.side),
                        defaults: cells.defaults.iter().map(|word| word.0).collect(),
                        is_narrow: *narrow,
                    }
                }
                Table::Sparse(comb) => Form::Sparse {
                    finder: Finder::new(partition, cells.side),
                    comb: LiveComb::new(comb, cells.defaults.len(), capacity),
                },
            },
            Tables::Cross(cross) => Form::Cross(LiveIds::new(partition, classes, cross, capacity)),
            Tables::Bits(bits) => {
                bits.rows = Vec::new();
                if bits.row_words() == 0 { Form::Fixed } else { Form::Bits }
            }
        };
        Self { dispatch, postings, map, form, changed: Vec::new(), fills: 0 }
    }

    /// The dispatch, without the contents of its form's tables.
    pub fn dispatch(&self) -> &Dispatch {
        &self.dispatch
    }

    /// How many classes were given contents so far.
    pub fn fills(&self) -> u64 {
        self.fills
    }
}

impl ClassRows for LiveRows {
    fn fill(&mut self, class: Class, sets: &[SetBit], stores: &mut Vec<Store>) -> Result<(), Refused> {
        self.fills += 1;
        let Dispatch { partition, outcomes, tables, .. } = &self.dispatch;
        self.postings.changed(&partition.conditions, sets, &mut self.changed);
        let changed = &self.changed;
        match &mut self.form {
            Form::Fixed => Ok(()),
            Form::Dense { finder, defaults, is_narrow } => {
                let mut words = defaults.clone();
                let mut known = true;
                finder.columns(partition, changed, |column, items| {
                    let word = look_up(items, outcomes);
                    known = word.is_some();
                    words[column as usize] = word.unwrap_or_default().0;
                    known
                });
                if !known {
                    return Err(Refused::NoOutcome);
                }
                dense::store(&words, *is_narrow, self.map, class, stores);
                Ok(())
            }
            Form::Sparse { finder, comb } => {
                let Tables::Cells(cells) = tables else { return Err(Refused::NoRow) };
                let mut found = Vec::new();
                let mut known = true;
                finder.columns(partition, changed, |column, items| {
                    let word = look_up(items, outcomes);
                    known = word.is_some();
                    found.extend(
                        word.filter(|word| *word != cells.defaults[column as usize])
                            .map(|word| (column, word)),
                    );
                    known
                });
                if !known {
                    return Err(Refused::NoOutcome);
                }
                comb.put(class, found, self.map, stores)
            }
            Form::Cross(ids) => ids.put(class, changed, self.map + 1, stores),
            Form::Bits => match tables {
                // The records' map comes first.
                Tables::Bits(bits) if bits.fill_row(changed, self.map + 1, class, stores) => Ok(()),
                _ => Err(Refused::NoRow),
            },
        }
    }

    fn retire(&mut self, class: Class) {
        if let Form::Sparse { comb, .. } = &mut self.form {
            comb.retire(class);
        }
    }
}
