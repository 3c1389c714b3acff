//! The entry object, read and checked: what both the VM and the kernel engine
//! need to know of it.

use std::collections::{HashMap, HashSet};

use aya_obj::{Map as ObjectMap, Object};
use polc_compiler::abi;
use polc_compiler::abi::config::SETTINGS_SIZE;
use polc_compiler::abi::{conntrack, failsafe};
use polc_compiler::image::MapKind;

use super::maps::Shape;
use crate::EngineError;

/// A map of the object.
pub(crate) struct EntryMap {
    pub name: String,
    pub shape: Shape,
    /// First contents, for data sections.
    pub data: Vec<u8>,
}

/// The object's maps, and where the configuration lies.
pub(crate) struct EntryObject {
    object: Object,
    pub maps: Vec<EntryMap>,
    /// Index in `maps` of the data section that holds [`abi::CONFIG_SYMBOL`].
    pub config_map: usize,
    /// Its offset in that section.
    pub config_offset: u64,
}

/// Kinds by their kernel number.
const KINDS: &[MapKind] = &[
    MapKind::Hash,
    MapKind::Array,
    MapKind::ProgArray,
    MapKind::PerCpuArray,
    MapKind::LruHash,
    MapKind::LpmTrie,
    MapKind::RingBuf,
];

/// Relocated instructions of the programs, in the order of [`PROGRAMS`].
pub(crate) type ProgramSlots = Vec<Vec<[u8; 8]>>;

/// Programs that the object must have.
pub(crate) const PROGRAMS: [&str; 8] = [
    abi::PROG_INGRESS,
    abi::PROG_EGRESS,
    abi::PROG_ALLOWED,
    abi::PROG_DENIED,
    abi::PROG_TRACKED,
    abi::PROG_XDP,
    abi::PROG_XDP_ALLOWED,
    abi::PROG_XDP_DENIED,
];

impl EntryObject {
    /// Reads an ELF object and holds it against [`abi`].
    ///
    /// # Errors
    /// [`EngineError::Refused`]: not an eBPF object, a program or map is missing
    /// or has another shape, or it was built for another [`abi::ABI_VERSION`].
    pub fn parse(elf: &[u8]) -> Result<Self, EngineError> {
        let object = Object::parse(elf).map_err(|e| refused(format!("not an eBPF object: {e}")))?;
        let mut names: Vec<&String> = object.maps.keys().collect();
        names.sort();
        let mut maps = Vec::new();
        for name in names {
            maps.push(entry_map(name, &object.maps[name])?);
        }
        let (section, config_offset) = find_config(&object)?;
        let config_map = maps.iter().position(|m| m.name == section);
        let config_map = config_map.ok_or_else(|| refused(format!("no section {section}")))?;
        let entry = Self { object, maps, config_map, config_offset };
        entry.check()?;
        Ok(entry)
    }

    /// Gives a map another capacity, at least one.
    pub fn resize(&mut self, name: &str, entries: u32) {
        for map in self.maps.iter_mut().filter(|map| map.name == name) {
            map.shape.max_entries = entries.max(1);
        }
    }

    fn check(&self) -> Result<(), EngineError> {
        for program in PROGRAMS {
            if !self.object.programs.contains_key(program) {
                return Err(refused(format!("program `{program}` is missing")));
            }
        }
        let data = &self.maps[self.config_map].data;
        let version = data.get(self.config_offset as usize + 12..).and_then(|d| d.first_chunk::<4>());
        let version = version.map(|v| u32::from_le_bytes(*v));
        if version != Some(abi::ABI_VERSION) {
            let found = version.map_or("none".to_owned(), |v| v.to_string());
            return Err(refused(format!("ABI version {found}; this polc needs {}", abi::ABI_VERSION)));
        }
        let expected = [
            (abi::STATE_MAP, MapKind::PerCpuArray, 4, abi::STATE_SIZE, 1),
            (abi::PROGS_MAP, MapKind::ProgArray, 4, 4, abi::PROGS_ENTRIES),
            (abi::COUNTERS_MAP, MapKind::PerCpuArray, 4, 8 * abi::COUNTERS, abi::COUNTER_ROWS),
            (abi::GENERATIONS_MAP, MapKind::Array, 4, 4, abi::PROGS_ENTRIES),
            (abi::SETTINGS_MAP, MapKind::Array, 4, SETTINGS_SIZE, 1),
            (
                abi::FAILSAFES_MAP,
                MapKind::Hash,
                failsafe::KEY_SIZE,
                failsafe::VALUE_SIZE,
                failsafe::MAX_PORTS,
            ),
            (
                abi::CONNTRACK_MAP,
                MapKind::LruHash,
                conntrack::KEY_SIZE,
                conntrack::VALUE_SIZE,
                conntrack::MAX_ENTRIES,
            ),
            (abi::LOG_MAP, MapKind::RingBuf, 0, 0, abi::LOG_BYTES),
        ];
        for (name, kind, key_size, value_size, max_entries) in expected {
            let want = Shape { kind, key_size, value_size, max_entries };
            match self.maps.iter().find(|m| m.name == name) {
                Some(map) if map.shape == want => {}
                Some(map) => {
                    return Err(refused(format!("map `{name}` is {:?}; needed {want:?}", map.shape)));
                }
                None => return Err(refused(format!("map `{name}` is missing"))),
            }
        }
        Ok(())
    }

    /// Instructions of [`PROGRAMS`], with `id` of each map (by index in
    /// [`Self::maps`]) as the file descriptor in map references.
    ///
    /// # Errors
    /// A reference to something that is not there.
    pub fn programs(mut self, id: impl Fn(usize) -> i32) -> Result<ProgramSlots, EngineError> {
        let text: HashSet<usize> = self.object.functions.keys().map(|(section, _)| *section).collect();
        let maps: Vec<(String, i32, ObjectMap)> = self
            .maps
            .iter()
            .enumerate()
            .filter_map(|(i, m)| Some((m.name.clone(), id(i), self.object.maps.get(&m.name)?.clone())))
            .collect();
        let references = maps.iter().map(|(name, id, map)| (name.as_str(), *id, map));
        self.object.relocate_maps(references, &text).map_err(|e| refused(e.to_string()))?;
        self.object.relocate_calls(&text).map_err(|e| refused(e.to_string()))?;
        PROGRAMS.iter().map(|name| self.instructions(name)).collect()
    }

    fn instructions(&self, name: &str) -> Result<Vec<[u8; 8]>, EngineError> {
        let program = self.object.programs.get(name);
        let function = program.and_then(|p| self.object.functions.get(&p.function_key()));
        let function = function.ok_or_else(|| refused(format!("program `{name}` has no code")))?;
        Ok(function.instructions.iter().map(bytes).collect())
    }
}

/// An instruction in wire format.
pub(crate) fn bytes(insn: &aya_obj::generated::bpf_insn) -> [u8; 8] {
    let [off0, off1] = insn.off.to_le_bytes();
    let [imm0, imm1, imm2, imm3] = insn.imm.to_le_bytes();
    [insn.code, insn.dst_reg() | insn.src_reg() << 4, off0, off1, imm0, imm1, imm2, imm3]
}

fn entry_map(name: &str, map: &ObjectMap) -> Result<EntryMap, EngineError> {
    let kind = KINDS.iter().copied().find(|k| *k as u32 == map.map_type());
    let Some(kind) = kind else {
        return Err(refused(format!("map `{name}` is of kind {}, which the VM has not", map.map_type())));
    };
    let shape = Shape {
        kind,
        key_size: map.key_size(),
        value_size: map.value_size(),
        max_entries: map.max_entries(),
    };
    shape.check().map_err(|e| refused(format!("map `{name}`: {e}")))?;
    Ok(EntryMap { name: name.to_owned(), shape, data: map.data().to_vec() })
}

/// Section name and offset of the configuration. aya_obj keeps symbols to itself
/// but patches them by name: patching all zeros and all ones shows where it lies.
fn find_config(object: &Object) -> Result<(String, u64), EngineError> {
    let patched = |byte: u8| {
        let mut copy = object.clone();
        let bytes = [byte; abi::CONFIG_SIZE as usize];
        let globals = HashMap::from([(abi::CONFIG_SYMBOL, (&bytes[..], true))]);
        copy.patch_map_data(globals).map(|()| copy).map_err(|e| refused(e.to_string()))
    };
    let (zeros, ones) = (patched(0)?, patched(0xff)?);
    for (name, map) in &zeros.maps {
        let Some(other) = ones.maps.get(name) else { continue };
        if let Some(offset) = map.data().iter().zip(other.data()).position(|(a, b)| a != b) {
            return Ok((name.clone(), offset as u64));
        }
    }
    Err(refused(format!("symbol `{}` lies in no data section", abi::CONFIG_SYMBOL)))
}

fn refused(reason: String) -> EngineError {
    EngineError::Refused { program: "entry object".into(), reason }
}
