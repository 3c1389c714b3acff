//! Records: what is pinned beside programs and maps to say what they are. Each is
//! JSON in a frozen array map, so that status and dumps need no file outside the
//! bpffs and can never be out of step with it.
//!
//! JSON may end in spaces, which is how it is filled up to whole chunks.

use std::path::Path;

use polc_compiler::abi;
use polc_compiler::image::PolicyImage;
use polc_compiler::ir::{DecisionData, Direction};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::error::{LoaderError, kernel};
use super::hook::Hook;
use crate::sys::bpf::{Map, MapDefinition};

/// Bytes per value.
const CHUNK: usize = 4096;
/// `BPF_MAP_TYPE_ARRAY`.
const ARRAY: u32 = 2;

/// What everything under the folder was made for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AbiRecord {
    /// [`polc_compiler::abi::ABI_VERSION`].
    pub abi: u32,
    /// Digest of the entry object.
    pub object: String,
}

/// Where one direction's policy is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Slot of the shared program array.
    pub slot: u32,
    /// Name of the image's folder.
    pub image: String,
}

/// Untracked policy at XDP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UntrackedIngress {
    /// The policy, in a slot of the program array for XDP.
    pub place: Place,
    /// Decision with which it says that it has nothing to say; a constant of the
    /// entry program, which has a slot of its own for each.
    pub pass_decision: u32,
    /// Row of the counters; other policies of the endpoint keep it.
    pub counters: u32,
}

/// Untracked policy at tc, before tracking.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UntrackedEgress {
    /// The policy.
    pub place: Place,
    /// As for [`UntrackedIngress::pass_decision`].
    pub pass_decision: u32,
    /// Slot of the program that goes on with what it has nothing to say about.
    pub next_slot: u32,
}

/// An attachment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterfaceRecord {
    /// The interface's name when it was attached.
    pub interface: String,
    /// Its index.
    pub ifindex: u32,
    /// Inode of its network namespace.
    pub netns: u64,
    /// Endpoint: `namespace/name`, or a host endpoint's name.
    pub endpoint: String,
    /// Its number, which its connections are tracked under.
    pub endpoint_id: u32,
    /// Whether it is a host endpoint: ingress is what comes in through the interface.
    pub host: bool,
    /// How programs are attached.
    pub hook: Hook,
    /// Whether the clsact qdisc is polc's, to be removed with the filters.
    pub made_qdisc: bool,
    /// Digest of the entry object and its configuration.
    pub entry: String,
    /// Configuration flags (`CONFIG_*`).
    pub flags: u32,
    /// Policy for packets towards the endpoint.
    pub ingress: Place,
    /// Policy for packets from the endpoint.
    pub egress: Place,
    /// Untracked policy for packets towards a host endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub untracked_ingress: Option<UntrackedIngress>,
    /// Untracked policy for packets from a host endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub untracked_egress: Option<UntrackedEgress>,
    /// When it was attached, in seconds since the epoch.
    pub attached_at: u64,
    /// When the policy was last changed.
    pub updated_at: u64,
}

/// What an image decides, counts, and is made of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageRecord {
    /// `ingress` or `egress`.
    pub direction: String,
    /// Whether its programs are for XDP.
    #[serde(default)]
    pub xdp: bool,
    /// Instructions as emitted, of all programs.
    pub instructions: u32,
    /// Names of programs; program `i` is pinned as `p{i}`.
    pub programs: Vec<String>,
    /// Names of private maps; map `i` is pinned as `m{i}`.
    pub maps: Vec<String>,
    /// Bytes of a value of each of these; a map of one value may hold many.
    #[serde(default)]
    pub value_sizes: Vec<u32>,
    /// Files that decisions refer to.
    pub files: Vec<String>,
    /// What may decide.
    pub decisions: Vec<DecisionRecord>,
    /// Decisions that each counter credits.
    pub hits: Vec<Vec<u32>>,
    /// The sets that the policy names, with the members that it was compiled with.
    pub sets: Vec<SetRecord>,
}

/// [`DecisionData`] as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DecisionRecord {
    /// `rule`, `tier-default`, `profile` or `no-profile-match`.
    #[serde(rename = "type")]
    pub kind: String,
    /// `apiVersion` of the object; empty where there is none.
    pub api: String,
    /// `kind` of the object; empty where there is none.
    #[serde(rename = "kind")]
    pub object: String,
    /// Namespace; `None` for cluster-wide objects.
    pub namespace: Option<String>,
    /// Name.
    pub name: String,
    /// Tier.
    pub tier: Option<String>,
    /// Zero-based index in the list that the user wrote.
    pub rule: Option<u32>,
    /// `allow`, `deny`, `pass` or `log`.
    pub action: String,
    /// Index of the file, line and column.
    pub at: Option<(u32, u32, u32)>,
    /// The text of that line, if it was at hand.
    pub text: Option<String>,
}

/// An address set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetRecord {
    /// Canonical name: what the policy says.
    pub name: String,
    /// Members: addresses and prefixes, in order.
    pub members: Vec<String>,
}

impl InterfaceRecord {
    /// The policy of a direction.
    pub fn place(&self, direction: Direction) -> &Place {
        match direction {
            Direction::Ingress => &self.ingress,
            Direction::Egress => &self.egress,
        }
    }

    /// The untracked policy of a direction, if there is one.
    pub fn untracked_place(&self, direction: Direction) -> Option<&Place> {
        match direction {
            Direction::Ingress => self.untracked_ingress.as_ref().map(|u| &u.place),
            Direction::Egress => self.untracked_egress.as_ref().map(|u| &u.place),
        }
    }

    /// All its policies.
    pub fn places(&self) -> impl Iterator<Item = &Place> {
        let untracked = [Direction::Ingress, Direction::Egress];
        let untracked = untracked.into_iter().filter_map(|direction| self.untracked_place(direction));
        [&self.ingress, &self.egress].into_iter().chain(untracked)
    }

    /// Every slot that it has, with the array that the slot is of.
    pub(super) fn slots(&self) -> Vec<(&'static str, u32)> {
        let mut slots = vec![(abi::PROGS_MAP, self.ingress.slot), (abi::PROGS_MAP, self.egress.slot)];
        if let Some(untracked) = &self.untracked_ingress {
            slots.push((abi::XDP_PROGS_MAP, untracked.place.slot));
        }
        if let Some(untracked) = &self.untracked_egress {
            slots.push((abi::PROGS_MAP, untracked.place.slot));
            slots.push((abi::PROGS_MAP, untracked.next_slot));
        }
        slots
    }

    /// Rows of the counters that it has.
    pub(super) fn rows(&self) -> Vec<u32> {
        let xdp = self.untracked_ingress.iter().map(|u| u.counters);
        [self.ingress.slot, self.egress.slot].into_iter().chain(xdp).collect()
    }
}

impl ImageRecord {
    /// The record of an image. `line` gives the text of a file's line.
    pub(super) fn new(
        image: &PolicyImage,
        xdp: bool,
        sets: &[SetRecord],
        line: &dyn Fn(&str, u32) -> Option<String>,
    ) -> Self {
        let decision = |d: &DecisionData| DecisionRecord {
            kind: d.kind.as_str().into(),
            api: d.api.clone(),
            object: d.object.clone(),
            namespace: d.namespace.clone(),
            name: d.name.clone(),
            tier: d.tier.clone(),
            rule: d.rule,
            action: d.action.as_str().into(),
            at: d.at.map(|at| (at.file.as_u32(), at.line, at.column)),
            text: d.at.and_then(|at| line(image.file_name(at), at.line)).map(|l| l.trim().to_owned()),
        };
        Self {
            direction: image.direction.as_str().into(),
            xdp,
            instructions: image.programs.iter().map(|p| p.code.slots()).sum(),
            programs: image.programs.iter().map(|p| p.name.clone()).collect(),
            maps: image.maps.iter().map(|m| m.name.clone()).collect(),
            value_sizes: image.maps.iter().map(|m| m.value_size).collect(),
            files: image.files.clone(),
            decisions: image.decisions.iter().map(decision).collect(),
            hits: image.hits.iter().map(|all| all.iter().map(|d| d.as_u32()).collect()).collect(),
            sets: sets.to_vec(),
        }
    }
}

/// Writes a record to a new pin.
pub(super) fn write<T: Serialize>(record: &T, path: &Path) -> Result<(), LoaderError> {
    let mut bytes = serde_json::to_vec(record)
        .map_err(|e| LoaderError::Unknown { path: path.to_owned(), reason: e.to_string() })?;
    bytes.resize(bytes.len().next_multiple_of(CHUNK), b' ');
    let chunks = (bytes.len() / CHUNK) as u32;
    let what = || format!("pinning the record {}", path.display());
    let definition =
        MapDefinition { kind: ARRAY, key_size: 4, value_size: CHUNK as u32, max_entries: chunks, flags: 0 };
    let map = Map::create("polc_record", &definition).map_err(kernel(what()))?;
    let keys: Vec<u8> = (0..chunks).flat_map(u32::to_le_bytes).collect();
    map.update_batch(&keys, &bytes).map_err(kernel(what()))?;
    map.freeze().map_err(kernel(what()))?;
    map.pin(path).map_err(kernel(what()))
}

/// Reads a record.
pub(super) fn read<T: DeserializeOwned>(path: &Path) -> Result<T, LoaderError> {
    let what = || format!("reading the record {}", path.display());
    let map = Map::open(path).map_err(kernel(what()))?;
    let definition = map.definition();
    let unknown = |reason: String| LoaderError::Unknown { path: path.to_owned(), reason };
    if (definition.kind, definition.key_size) != (ARRAY, 4) {
        return Err(unknown("is not a record of polc's".into()));
    }
    let mut bytes = Vec::new();
    for index in 0..definition.max_entries {
        let value = map.lookup(&index.to_le_bytes()).map_err(kernel(what()))?;
        bytes.extend(value.unwrap_or_default());
    }
    serde_json::from_slice(&bytes).map_err(|e| unknown(format!("is not a record that this polc knows: {e}")))
}
