//! Carrying a plan out.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use polc_compiler::image::{PolicyImage, for_xdp};
use polc_compiler::ir::Direction;
use polc_compiler::live::{Change, LiveTables, ResolvedPolicy};

use super::plan::{Attached, Step, Wanted, plan};
use super::tables::InForce;
use super::wanted::{EndpointPolicy, PLACES};
use crate::kernel::{
    AttachRequest, Dataplane, DirectionStatus, InterfaceRecord, LoaderError, Place, Policy, SetRecord,
    Untracked, View, image_name,
};

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
    /// Tables in force that this agent compiled, by the name of their image.
    tables: BTreeMap<String, InForce>,
    /// Images in force by interface, ingress first; read again after every change.
    images: BTreeMap<String, [String; 2]>,
}

/// What is to be in a place.
enum Source {
    /// What is there: image and changes of members.
    Kept(String, Vec<Change>),
    /// A policy compiled anew, by number, with the name of its image.
    New(usize, String),
}

impl Source {
    fn image(&self) -> &str {
        match self {
            Self::Kept(image, _) | Self::New(_, image) => image,
        }
    }
}

/// A compiled policy, as it is loaded.
struct Compiled {
    image: PolicyImage,
    xdp: bool,
    sets: Vec<SetRecord>,
    /// Until it is in force.
    tables: Option<LiveTables>,
}

impl Compiled {
    fn new(policy: &ResolvedPolicy, xdp: bool) -> Result<Self, LoaderError> {
        let failed = |source| LoaderError::Compile { policy: policy.name().to_owned(), source };
        let (image, tables) = policy.compile().map_err(failed)?;
        let image = if xdp { for_xdp(&image)? } else { image };
        let sets = tables.sets().into_iter().map(|set| SetRecord {
            name: set.name.to_owned(),
            members: set.members.iter().map(ToString::to_string).collect(),
        });
        Ok(Self { sets: sets.collect(), image, xdp, tables: Some(tables) })
    }
}

/// Policies of one [`Agent::apply`], each compiled once: equal ones are found by where
/// they stand.
#[derive(Default)]
struct CompiledPolicies {
    all: Vec<Compiled>,
    known: BTreeMap<(*const ResolvedPolicy, bool), usize>,
}

impl CompiledPolicies {
    fn number(&mut self, policy: &ResolvedPolicy, xdp: bool) -> Result<usize, LoaderError> {
        let key = (std::ptr::from_ref(policy), xdp);
        if let Some(number) = self.known.get(&key) {
            return Ok(*number);
        }
        self.all.push(Compiled::new(policy, xdp)?);
        self.known.insert(key, self.all.len() - 1);
        Ok(self.all.len() - 1)
    }

    fn policy<'a>(&'a self, number: usize, request: &EndpointPolicy<'a>) -> Policy<'a> {
        let Compiled { image, xdp, sets, .. } = &self.all[number];
        Policy { image, xdp: *xdp, sets, lines: request.lines }
    }
}

/// What is to be at an interface.
type Sources = [Option<Source>; PLACES];

impl Agent {
    /// Takes the lock, and cleans up after whoever was killed.
    ///
    /// # Errors
    /// As for [`Dataplane::open`].
    pub fn start(bpffs: &Path, wait: Duration) -> Result<Self, LoaderError> {
        let plane = Dataplane::open(bpffs, wait)?;
        Ok(Self { plane, view: View::new(bpffs)?, tables: BTreeMap::new(), images: BTreeMap::new() })
    }

    /// Makes what is attached what is wanted: everything else is detached. Members that
    /// came or went since the last time are stored to the tables in force.
    ///
    /// # Errors
    /// What is attached cannot be read. Steps that fail are in the outcomes.
    pub fn apply(&mut self, wanted: &[EndpointPolicy<'_>]) -> Result<Vec<Outcome>, LoaderError> {
        let by_name: BTreeMap<&str, &EndpointPolicy<'_>> = wanted.iter().map(|r| (r.interface, r)).collect();
        let mut compiled = CompiledPolicies::default();
        let mut outcomes = self.round(&by_name, &mut compiled)?;
        // What tables in force refused is compiled: they are known no more.
        let refused = |o: &Outcome| matches!((&o.step, &o.error), (Step::Members(_), Some(_)));
        if outcomes.iter().any(refused) {
            outcomes.retain(|outcome| !refused(outcome));
            outcomes.extend(self.round(&by_name, &mut compiled)?);
        }
        Ok(outcomes)
    }

    fn round(
        &mut self,
        wanted: &BTreeMap<&str, &EndpointPolicy<'_>>,
        compiled: &mut CompiledPolicies,
    ) -> Result<Vec<Outcome>, LoaderError> {
        self.plane.forget_gone()?;
        let records = self.records()?;
        let mut outcomes = Vec::new();
        let mut sources: BTreeMap<&str, Sources> = BTreeMap::new();
        // What images in force are to become, by the first place that keeps them.
        let mut kept: BTreeMap<String, Vec<Change>> = BTreeMap::new();
        for (interface, request) in wanted {
            match self.sources(request, records.get(*interface), compiled, &mut kept) {
                Ok(found) => drop(sources.insert(*interface, found)),
                Err(error) => {
                    let step = match records.contains_key(*interface) {
                        true => Step::Replace((*interface).to_owned()),
                        false => Step::Attach((*interface).to_owned()),
                    };
                    outcomes.push(Outcome { step, error: Some(error) });
                }
            }
        }
        let steps = {
            let mut have: BTreeMap<String, Attached> = records
                .iter()
                .map(|(name, record)| (name.clone(), self.attached(record, sources.get(name.as_str()))))
                .collect();
            // What cannot be compiled leaves everything as it is.
            have.retain(|name, _| !wanted.contains_key(name.as_str()) || sources.contains_key(name.as_str()));
            let want =
                sources.iter().map(|(name, of)| (name.to_string(), summary(wanted[name], of))).collect();
            let moved =
                sources.iter().filter(|(_, of)| moves(of)).map(|(name, _)| name.to_string()).collect();
            plan(&have, &want, &moved)
        };
        let mut failed = BTreeSet::new();
        for step in steps {
            let name = step.interface().to_owned();
            let done = match (&step, wanted.get(name.as_str()).zip(sources.get(name.as_str()))) {
                (Step::Detach(_), _) => self.plane.detach_one(&name),
                // Its record may still lead to other images than those of the plan.
                (Step::Members(_), _) if failed.contains(&name) => continue,
                (Step::Members(_), Some((_, of))) => self.carry_over(of),
                (_, Some((request, of))) => {
                    self.plane.attach(&attach_request(request, of, compiled)).map(drop)
                }
                (_, None) => Ok(()),
            };
            if done.is_err() {
                failed.insert(name);
            }
            outcomes.push(Outcome { step, error: done.err() });
        }
        self.look(&sources, compiled)?;
        Ok(outcomes)
    }

    /// Where the policy of each place comes from.
    fn sources(
        &self,
        request: &EndpointPolicy<'_>,
        record: Option<&InterfaceRecord>,
        compiled: &mut CompiledPolicies,
        kept: &mut BTreeMap<String, Vec<Change>>,
    ) -> Result<Sources, LoaderError> {
        let mut found: Sources = [const { None }; PLACES];
        for (place, found) in found.iter_mut().enumerate() {
            let Some(policy) = request.place(place) else { continue };
            let there = record.and_then(|record| place_of(record, place)).map(|place| &place.image);
            let source = match there.and_then(|image| self.follow(image, policy, kept)) {
                Some(source) => source,
                None => {
                    let number = compiled.number(policy, EndpointPolicy::is_xdp(place))?;
                    Source::New(number, image_name(&compiled.policy(number, request)))
                }
            };
            *found = Some(source);
        }
        Ok(found)
    }

    /// Whether tables in force can take a policy over. Places share tables: all of them
    /// have to want the same members.
    fn follow(
        &self,
        image: &str,
        policy: &ResolvedPolicy,
        kept: &mut BTreeMap<String, Vec<Change>>,
    ) -> Option<Source> {
        let changes = self.tables.get(image)?.tables.changes_to(policy).ok()?;
        let first = kept.entry(image.to_owned()).or_insert_with(|| changes.clone());
        (*first == changes).then(|| Source::Kept(image.to_owned(), changes))
    }

    /// Carries the members of an interface's policies over.
    fn carry_over(&mut self, sources: &Sources) -> Result<(), LoaderError> {
        let plane = &self.plane;
        for source in sources.iter().flatten() {
            let Source::Kept(image, changes) = source else { continue };
            // Tables that are shared have been changed by the first interface already: the
            // same changes again are none.
            let Some(tables) = self.tables.get_mut(image) else { continue };
            if let Err(error) = tables.carry_over(plane, image, changes) {
                self.tables.remove(image);
                return Err(error);
            }
        }
        Ok(())
    }

    /// Looks up what is in force: its tables are kept, others are let go.
    fn look(
        &mut self,
        sources: &BTreeMap<&str, Sources>,
        compiled: &mut CompiledPolicies,
    ) -> Result<(), LoaderError> {
        let mut in_force = BTreeSet::new();
        self.images.clear();
        for (name, record) in self.records()? {
            let images = [record.ingress.image.clone(), record.egress.image.clone()];
            self.images.insert(name.clone(), images);
            for place in 0..PLACES {
                let Some(image) = place_of(&record, place).map(|place| &place.image) else { continue };
                in_force.insert(image.clone());
                let source = sources.get(name.as_str()).and_then(|of| of[place].as_ref());
                if let Some(Source::New(number, wanted)) = source
                    && digest(image) == digest(wanted)
                    && !self.tables.contains_key(image)
                    && !self.view.is_changed_image(image)
                {
                    let tables = compiled.all[*number].tables.take();
                    self.tables.extend(tables.map(|tables| (image.clone(), InForce::new(tables))));
                }
            }
        }
        self.tables.retain(|image, _| in_force.contains(image));
        Ok(())
    }

    /// Carries single changes of members over into the policy in force at an interface,
    /// for who knows them without resolving the policy again. Interfaces that share the
    /// policy see them too.
    ///
    /// # Errors
    /// [`LoaderError::NotAttached`], also where this agent has not applied the policy.
    /// [`LoaderError::Tables`] if the tables cannot take a change: those before it are in
    /// force, and the next [`Self::apply`] compiles and replaces the policy.
    pub fn change_members(
        &mut self,
        interface: &str,
        direction: Direction,
        changes: &[Change],
    ) -> Result<(), LoaderError> {
        let not_attached = || LoaderError::NotAttached(interface.to_owned());
        let [ingress, egress] = self.images.get(interface).ok_or_else(not_attached)?;
        let image = if direction == Direction::Ingress { ingress } else { egress };
        let tables = self.tables.get_mut(image).ok_or_else(not_attached)?;
        let done = tables.carry_over(&self.plane, image, changes);
        if done.is_err() {
            self.tables.remove(image);
        }
        done
    }

    /// Finds interfaces whose packets pass policy no more although it is attached there,
    /// since somebody else took a program off its hook, and has all attachments repaired;
    /// gives their names. What cannot be put back (a link that was detached) is attached no
    /// more: the next [`Self::apply`] attaches it anew.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn mend(&mut self) -> Result<Vec<String>, LoaderError> {
        let all = self.view.attachments()?;
        let is_whole = |direction: &DirectionStatus| direction.entry.is_some() && direction.in_force;
        let broken = all.into_iter().filter(|attachment| !attachment.directions.iter().all(is_whole));
        let names: Vec<String> = broken.filter_map(|attachment| attachment.name).collect();
        if !names.is_empty() {
            self.plane.repair()?;
        }
        Ok(names)
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

    /// What is attached, by the interface's present name.
    fn records(&self) -> Result<BTreeMap<String, InterfaceRecord>, LoaderError> {
        let all = self.view.attachments()?;
        Ok(all.into_iter().filter_map(|a| Some((a.name?, a.record))).collect())
    }

    /// What an interface enforces, to be held against what is wanted. An image whose
    /// tables were changed is none that a compile gives; it is right where it is kept.
    fn attached(&self, record: &InterfaceRecord, sources: Option<&Sources>) -> Attached {
        let policy = |place: usize| {
            let image = &place_of(record, place)?.image;
            let is_kept = matches!(sources.and_then(|of| of[place].as_ref()), Some(Source::Kept(kept, _)) if kept == image);
            Some(match is_kept {
                true => image.clone(),
                false if self.view.is_changed_image(image) => String::new(),
                // A copy that was made beside a changed image has a number behind its digest.
                false => digest(image).to_owned(),
            })
        };
        Attached {
            endpoint: record.endpoint.clone(),
            host: record.host,
            policy: [0, 1].map(|place| policy(place).unwrap_or_default()),
            untracked: [2, 3].map(policy),
        }
    }
}

/// The digest in an image's name.
fn digest(image: &str) -> &str {
    image.split('_').next().unwrap_or_default()
}

fn place_of(record: &InterfaceRecord, place: usize) -> Option<&Place> {
    match place {
        0 => Some(record.place(Direction::Ingress)),
        1 => Some(record.place(Direction::Egress)),
        2 => record.untracked_place(Direction::Ingress),
        _ => record.untracked_place(Direction::Egress),
    }
}

fn summary(request: &EndpointPolicy<'_>, sources: &Sources) -> Wanted {
    let image = |place: usize| sources[place].as_ref().map(|source| source.image().to_owned());
    Wanted {
        endpoint: request.endpoint.to_owned(),
        host: request.host,
        policy: [0, 1].map(|place| image(place).unwrap_or_default()),
        untracked: [2, 3].map(image),
    }
}

/// Whether members come or go in tables that stay.
fn moves(sources: &Sources) -> bool {
    sources.iter().flatten().any(|source| matches!(source, Source::Kept(_, changes) if !changes.is_empty()))
}

fn attach_request<'a>(
    request: &EndpointPolicy<'a>,
    sources: &Sources,
    compiled: &'a CompiledPolicies,
) -> AttachRequest<'a> {
    let policy = |place: usize| match &sources[place] {
        Some(Source::New(number, _)) => Some(compiled.policy(*number, request)),
        Some(Source::Kept(..)) | None => None,
    };
    let untracked = |place: usize, of: &Option<super::wanted::UntrackedPolicy<'a>>| {
        of.as_ref().map(|of| Untracked { policy: policy(place), pass_decision: of.pass_decision })
    };
    AttachRequest {
        interface: request.interface,
        endpoint: request.endpoint,
        host: request.host,
        hook: request.hook,
        flags: request.flags,
        recheck: request.recheck,
        failsafes: request.failsafes,
        ingress: policy(0),
        egress: policy(1),
        untracked_ingress: untracked(2, &request.untracked_ingress),
        untracked_egress: untracked(3, &request.untracked_egress),
    }
}
