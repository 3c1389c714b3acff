//! Carrying a plan out.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use polc_compiler::image::Store;
use polc_compiler::ir::Direction;

use super::plan::{Attached, Step, Wanted, plan};
use crate::kernel::{AttachRequest, Dataplane, LiveImage, LoaderError, Place, View, image_name};

/// What became of a step.
#[derive(Debug)]
pub struct Outcome {
    /// What was to be done.
    pub step: Step,
    /// Why it was not: the interface's old policy is in force.
    pub error: Option<LoaderError>,
}

/// An agent. It has the right to change attachments as long as it lives.
pub struct Agent {
    plane: Dataplane,
    view: View,
    /// Tables that are being changed, by the name of their image.
    live: BTreeMap<String, LiveImage>,
}

impl Agent {
    /// Takes the lock, and cleans up after whoever was killed.
    ///
    /// # Errors
    /// As for [`Dataplane::open`].
    pub fn start(bpffs: &Path, wait: Duration) -> Result<Self, LoaderError> {
        let plane = Dataplane::open(bpffs, wait)?;
        Ok(Self { plane, view: View::new(bpffs)?, live: BTreeMap::new() })
    }

    /// Makes what is attached what is wanted: everything else is detached.
    ///
    /// # Errors
    /// What is attached cannot be read. Steps that fail are in the outcomes.
    pub fn apply(&mut self, wanted: &[AttachRequest<'_>]) -> Result<Vec<Outcome>, LoaderError> {
        let by_name: BTreeMap<&str, &AttachRequest<'_>> = wanted.iter().map(|r| (r.interface, r)).collect();
        let summary = |request: &&AttachRequest<'_>| Wanted {
            endpoint: request.endpoint.to_owned(),
            host: request.host,
            policy: [&request.ingress, &request.egress].map(image_name),
        };
        let wanted = by_name.iter().map(|(name, request)| (name.to_string(), summary(request))).collect();
        let steps = plan(&self.attached()?, &wanted);
        let mut outcomes = Vec::new();
        for step in steps {
            let done = match (&step, by_name.get(step.interface())) {
                (Step::Detach(interface), _) => self.plane.detach_one(interface),
                (_, Some(request)) => self.plane.attach(request).map(drop),
                (_, None) => Ok(()),
            };
            outcomes.push(Outcome { step, error: done.err() });
        }
        // Images that are no longer in force are gone, and their tables with them.
        let present = self.view.attachments()?;
        let in_force = |image: &String| {
            let mut places = present.iter().flat_map(|a| [&a.record.ingress, &a.record.egress]);
            places.any(|place| place.image == *image)
        };
        self.live.retain(|image, _| in_force(image));
        Ok(outcomes)
    }

    /// Carries stores out on the tables of the policy in force at an interface.
    /// Interfaces that share the policy see them too.
    ///
    /// # Errors
    /// [`LoaderError::NotAttached`]; a store to no word of a table.
    pub fn store(
        &mut self,
        interface: &str,
        direction: Direction,
        stores: &[Store],
    ) -> Result<(), LoaderError> {
        let record = self.view.record(interface)?;
        let image = record.place(direction).image.clone();
        let live = match self.live.entry(image) {
            std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::btree_map::Entry::Vacant(entry) => {
                let live = self.plane.live_image(entry.key())?;
                entry.insert(live)
            }
        };
        live.store(stores)
    }

    /// Gives back the memory of connections that are over: how many there were.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn sweep(&self) -> Result<usize, LoaderError> {
        self.view.sweep()
    }

    fn attached(&self) -> Result<BTreeMap<String, Attached>, LoaderError> {
        let all = self.view.attachments()?;
        let here = all.into_iter().filter(|a| a.name.is_some());
        Ok(here
            .map(|a| {
                let policy = [&a.record.ingress, &a.record.egress].map(|place| self.digest(place));
                let attached = Attached { endpoint: a.record.endpoint, host: a.record.host, policy };
                (a.name.unwrap_or(a.record.interface), attached)
            })
            .collect())
    }

    /// What a place enforces, to be held against what is wanted: an image whose
    /// tables were changed equals none, and is replaced when a policy is next
    /// applied.
    fn digest(&self, place: &Place) -> String {
        if self.view.is_changed(place) {
            return String::new();
        }
        // A copy that was made beside a changed image has a number behind its digest.
        place.image.split('_').next().unwrap_or_default().to_owned()
    }
}
