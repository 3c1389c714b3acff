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
    /// Images in force by interface, ingress first; read again after every change.
    images: BTreeMap<String, [String; 2]>,
}

impl Agent {
    /// Takes the lock, and cleans up after whoever was killed.
    ///
    /// # Errors
    /// As for [`Dataplane::open`].
    pub fn start(bpffs: &Path, wait: Duration) -> Result<Self, LoaderError> {
        let plane = Dataplane::open(bpffs, wait)?;
        let view = View::new(bpffs)?;
        let mut agent = Self { plane, view, live: BTreeMap::new(), images: BTreeMap::new() };
        agent.look()?;
        Ok(agent)
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
            untracked: [&request.untracked_ingress, &request.untracked_egress]
                .map(|untracked| untracked.as_ref().map(|u| image_name(&u.policy))),
        };
        let wanted = by_name.iter().map(|(name, request)| (name.to_string(), summary(request))).collect();
        self.plane.forget_gone()?;
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
        self.look()?;
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
        let not_attached = || LoaderError::NotAttached(interface.to_owned());
        let [ingress, egress] = self.images.get(interface).ok_or_else(not_attached)?;
        let image = if direction == Direction::Ingress { ingress } else { egress };
        if let Some(live) = self.live.get_mut(image) {
            return live.store(stores);
        }
        let mut live = self.plane.live_image(image)?;
        let done = live.store(stores);
        self.live.insert(image.clone(), live);
        done
    }

    /// Looks up what is in force; tables of images that no longer are, are let go.
    fn look(&mut self) -> Result<(), LoaderError> {
        let here = self.view.attachments()?.into_iter().filter(|a| a.name.is_some());
        self.images = here
            .map(|a| (a.name.unwrap_or_default(), [a.record.ingress.image, a.record.egress.image]))
            .collect();
        let images = &self.images;
        self.live.retain(|image, _| images.values().any(|places| places.contains(image)));
        Ok(())
    }

    /// Gives back the memory of connections that are over: how many there were.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn sweep(&self) -> Result<usize, LoaderError> {
        self.view.sweep()
    }

    /// Ends. What is in force stays in force; if that is nothing, no pin is left.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn close(self) -> Result<(), LoaderError> {
        self.plane.close()
    }

    fn attached(&self) -> Result<BTreeMap<String, Attached>, LoaderError> {
        let all = self.view.attachments()?;
        let here = all.into_iter().filter(|a| a.name.is_some());
        Ok(here
            .map(|a| {
                let policy = [&a.record.ingress, &a.record.egress].map(|place| self.digest(place));
                let untracked = [Direction::Ingress, Direction::Egress]
                    .map(|direction| a.record.untracked_place(direction).map(|place| self.digest(place)));
                let attached =
                    Attached { endpoint: a.record.endpoint, host: a.record.host, policy, untracked };
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
