//! The tables of an image in force, and what leads them to other members.
//!
//! A change is what to store (`LiveTables`), stored in order to mapped memory; what a
//! new class stands for is recorded first. Where tables have to become quiet, what was
//! gathered is stored, a grace period passes, and the change is tried again. Grace
//! periods are thus as few as the changes allow, and none is waited for at the end.
//!
//! Cost: some microseconds for an address; about 10 ms for each grace period, which
//! prefixes need and addresses seldom do; a record where classes came.

use polc_compiler::address::Refused;
use polc_compiler::live::{Change, LiveTables};

use crate::kernel::{Dataplane, LiveImage, LoaderError, grace_period};

/// Changes that are stored together.
const BATCH: usize = 256;

/// An image's tables.
pub(super) struct InForce {
    pub tables: LiveTables,
    /// Opened when there is something to store.
    image: Option<LiveImage>,
    /// [`LiveTables::classes_made`] of the last record.
    recorded: u64,
}

impl InForce {
    pub fn new(tables: LiveTables) -> Self {
        Self { recorded: tables.classes_made(), tables, image: None }
    }

    /// Carries changes over into image `name`, in order. After an error the tables in
    /// force are those of some of the changes, whole ones, and these are of no more use.
    pub fn carry_over(
        &mut self,
        plane: &Dataplane,
        name: &str,
        changes: &[Change],
    ) -> Result<(), LoaderError> {
        let mut stores = Vec::new();
        for (number, change) in changes.iter().enumerate() {
            let mut done = self.tables.change(change, &mut stores);
            if done == Err(Refused::NotQuiet) {
                self.store(plane, name, &mut stores)?;
                grace_period()?;
                self.tables.quiesce();
                done = self.tables.change(change, &mut stores);
            }
            if let Err(refused) = done {
                // What came before is whole.
                self.store(plane, name, &mut stores)?;
                return Err(refused.into());
            }
            if (number + 1) % BATCH == 0 {
                self.store(plane, name, &mut stores)?;
            }
        }
        self.store(plane, name, &mut stores)
    }

    fn store(
        &mut self,
        plane: &Dataplane,
        name: &str,
        stores: &mut Vec<polc_compiler::image::Store>,
    ) -> Result<(), LoaderError> {
        if stores.is_empty() {
            return Ok(());
        }
        let first = self.image.is_none();
        let image = match &mut self.image {
            Some(image) => image,
            None => self.image.insert(plane.live_image(name)?),
        };
        let made = self.tables.classes_made();
        if first || made != self.recorded {
            plane.record_classes(image, &self.tables)?;
            self.recorded = made;
        }
        image.store(stores)?;
        stores.clear();
        Ok(())
    }
}
