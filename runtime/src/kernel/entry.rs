//! The entry object: shared maps, and its programs with a configuration.
//!
//! Maps that ask for a pin are shared: the pinned one is used, after its
//! definition was held against the object's (a map of another shape would be
//! misread), or made and pinned. Data sections belong to one loading.

use std::collections::{BTreeMap, HashMap, HashSet};

use aya_obj::maps::PinningType;
use aya_obj::{EbpfSectionKind, Map as ObjectMap, Object, ProgramSection};
use polc_compiler::abi;
use polc_compiler::abi::config::Config;

use super::error::{LoaderError, kernel};
use super::pins::Pins;
use crate::sys::bpf::{DebugInfo, Map, MapDefinition, Program, ProgramKind, ProgramSource};

/// `BPF_F_RDONLY_PROG`: what programs read of a frozen map is constant to the verifier.
const RDONLY_PROG: u32 = 1 << 7;

/// The object, read.
pub(super) struct Entry {
    object: Object,
    license: String,
    /// Digest of the object.
    pub digest: String,
}

impl Entry {
    /// Reads the object.
    pub fn parse(elf: &[u8]) -> Result<Self, LoaderError> {
        let object = Object::parse(elf).map_err(|e| LoaderError::Object(e.to_string()))?;
        let license = object.license.to_string_lossy().into_owned();
        Ok(Self { object, license, digest: super::digest::of(elf) })
    }

    /// The shared maps, opened or made, by name.
    pub fn shared_maps(&self, pins: &Pins) -> Result<BTreeMap<String, Map>, LoaderError> {
        let mut shared = BTreeMap::new();
        for (name, map) in &self.object.maps {
            if map.pinning() != PinningType::None {
                shared.insert(name.clone(), open_or_create(pins, name, &definition(map))?);
            }
        }
        Ok(shared)
    }

    /// Loads programs with a configuration.
    pub fn load(
        &self,
        names: &[&str],
        shared: &BTreeMap<String, Map>,
        config: &Config,
    ) -> Result<Vec<Program>, LoaderError> {
        let mut object = self.object.clone();
        let config: Vec<u8> = config.words().into_iter().flat_map(u32::to_ne_bytes).collect();
        object
            .patch_map_data(HashMap::from([(abi::CONFIG_SYMBOL, (&config[..], true))]))
            .map_err(|e| LoaderError::Object(e.to_string()))?;
        let mut own = BTreeMap::new();
        for (name, map) in &object.maps {
            if !shared.contains_key(name) {
                own.insert(name.clone(), data_map(name, map)?);
            }
        }
        let text: HashSet<usize> = object.functions.keys().map(|(section, _)| *section).collect();
        let maps = object.maps.clone();
        let references = maps.iter().filter_map(|(name, map)| {
            let loaded = shared.get(name).or_else(|| own.get(name))?;
            Some((name.as_str(), loaded.raw_fd(), map))
        });
        object.relocate_maps(references, &text).map_err(|e| LoaderError::Object(e.to_string()))?;
        object.relocate_calls(&text).map_err(|e| LoaderError::Object(e.to_string()))?;
        names.iter().map(|name| self.load_one(&object, name)).collect()
    }

    fn load_one(&self, object: &Object, name: &str) -> Result<Program, LoaderError> {
        let missing = || LoaderError::Object(format!("program `{name}` is missing"));
        let program = object.programs.get(name).ok_or_else(missing)?;
        let function = object.functions.get(&program.function_key()).ok_or_else(missing)?;
        let kind = match program.section {
            ProgramSection::Xdp { .. } => ProgramKind::Xdp,
            _ => ProgramKind::Classifier,
        };
        let code: Vec<u8> = function.instructions.iter().flat_map(crate::vm::object::bytes).collect();
        let source =
            ProgramSource { name, kind, code: &code, license: &self.license, debug: DebugInfo::default() };
        Program::load(&source).map_err(|source| LoaderError::Refused { program: name.into(), source })
    }
}

fn definition(map: &ObjectMap) -> MapDefinition {
    MapDefinition {
        kind: map.map_type(),
        key_size: map.key_size(),
        value_size: map.value_size(),
        max_entries: map.max_entries(),
        flags: map.map_flags(),
    }
}

/// Opens a pinned map whose definition is this one, or makes it.
fn open_or_create(pins: &Pins, name: &str, wanted: &MapDefinition) -> Result<Map, LoaderError> {
    let path = pins.map(name);
    if path.exists() {
        let map = Map::open(&path).map_err(kernel(format!("opening {}", path.display())))?;
        if map.definition() != *wanted {
            let (found, needed) = (format!("{:?}", map.definition()), format!("{wanted:?}"));
            return Err(LoaderError::Shape { path, found, needed });
        }
        return Ok(map);
    }
    let map = Map::create(name, wanted).map_err(kernel(format!("making map `{name}`")))?;
    map.pin(&path).map_err(kernel(format!("pinning {}", path.display())))?;
    Ok(map)
}

/// A data section as a map.
fn data_map(name: &str, map: &ObjectMap) -> Result<Map, LoaderError> {
    let what = || format!("making the data section `{name}`");
    let constant = map.section_kind() == EbpfSectionKind::Rodata;
    let mut definition = definition(map);
    if constant {
        definition.flags |= RDONLY_PROG;
    }
    let made = Map::create("polc_data", &definition).map_err(kernel(what()))?;
    if !map.data().is_empty() {
        made.update(&0u32.to_le_bytes(), map.data()).map_err(kernel(what()))?;
    }
    if constant {
        made.freeze().map_err(kernel(what()))?;
    }
    Ok(made)
}
