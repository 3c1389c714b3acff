//! Policy images in the kernel: made in the staging folder, moved to their place
//! when they are whole. Nothing refers to an image before its slot is set. Of its maps,
//! fixed ones may be there already (`fixed`).
//!
//! Cost: a system call for each map, program and pin; contents of mappable arrays
//! are copied, of others stored in batches.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use polc_compiler::bpf::MapRef;
use polc_compiler::image::{
    LICENSE, MapKind, MapShape, MapSpec, PolicyImage, SourceLines, debug_info, listing,
};

use super::digest;
use super::error::{LoaderError, kernel};
use super::fixed;
use super::live::MARK;
use super::pins::{self, Pins};
use super::record::{self, ImageRecord, SetRecord};
use super::step::step;
use crate::sys::SyscallError;
use crate::sys::bpf::{DebugInfo, Map, MapDefinition, MappedArray, Program, ProgramKind, ProgramSource};

impl From<MapShape> for MapDefinition {
    fn from(shape: MapShape) -> Self {
        let MapShape { kind, key_size, value_size, max_entries, flags } = shape;
        Self { kind: kind as u32, key_size, value_size, max_entries, flags }
    }
}

/// Bytes of a batch that fills a hash or array.
const BATCH: usize = 1 << 20;

/// A policy to install.
#[derive(Copy, Clone)]
pub struct Policy<'a> {
    /// What was compiled.
    pub image: &'a PolicyImage,
    /// Whether it was made for XDP (`polc_compiler::image::for_xdp`).
    pub xdp: bool,
    /// Its sets, for `polc ipsets dump`.
    pub sets: &'a [SetRecord],
    /// The text of the YAML lines.
    pub lines: &'a SourceLines<'a>,
}

/// Installs a policy unless an equal one is there: the name of its folder.
pub(super) fn install(
    pins: &Pins,
    shared: &BTreeMap<String, Map>,
    policy: &Policy<'_>,
) -> Result<String, LoaderError> {
    let record = record_of(policy);
    let digest = name_of(policy, &record);
    let (mut name, mut copy) = (digest.clone(), 1);
    // One whose tables were changed is no longer what its name says.
    while pins.images().join(&name).join(MARK).exists() {
        copy += 1;
        name = format!("{digest}_{copy}");
    }
    let place = pins.images().join(&name);
    if place.exists() {
        return Ok(name);
    }
    let staged = pins.staging().join("image");
    pins::fresh(&staged)?;
    let maps = create_maps(pins, policy.image, &staged)?;
    step("image maps made");
    let programs = load_programs(policy, shared, &maps)?;
    step("image programs loaded");
    for (index, program) in programs.iter().enumerate() {
        let path = program_pin(&staged, index);
        program.pin(&path).map_err(kernel(format!("pinning {}", path.display())))?;
    }
    fill_sub_programs(policy.image, &maps, &programs)?;
    record::write(&record, &staged.join("record"))?;
    record::write(&listing(policy.image, policy.lines), &staged.join("listing"))?;
    step("image staged");
    pins::rename(&staged, &place)?;
    step("image in place");
    Ok(name)
}

/// The name that a policy's folder has: equal policies have one.
pub fn name(policy: &Policy<'_>) -> String {
    name_of(policy, &record_of(policy))
}

fn record_of(policy: &Policy<'_>) -> ImageRecord {
    ImageRecord::new(policy.image, policy.xdp, policy.sets, policy.lines)
}

fn name_of(policy: &Policy<'_>, record: &ImageRecord) -> String {
    digest::of_image(policy.image, &serde_json::to_vec(record).unwrap_or_default())
}

/// Where a program of an image is pinned.
pub(super) fn program_pin(folder: &Path, index: usize) -> PathBuf {
    folder.join(format!("p{index}"))
}

/// Where a map of an image is pinned.
pub(super) fn map_pin(folder: &Path, index: usize) -> PathBuf {
    folder.join(format!("m{index}"))
}

fn create_maps(pins: &Pins, image: &PolicyImage, folder: &Path) -> Result<Vec<Map>, LoaderError> {
    let mut maps = Vec::new();
    for (index, spec) in image.maps.iter().enumerate() {
        let place = map_pin(folder, index);
        let what = || format!("making map `{}` of {}", spec.name, image.name);
        maps.push(match spec.fixed {
            true => fixed::map(pins, spec, &place)?,
            false => {
                let map = filled(spec).map_err(kernel(what()))?;
                map.pin(&place).map_err(kernel(what()))?;
                map
            }
        });
    }
    Ok(maps)
}

/// A new map with what it holds at first.
pub(super) fn filled(spec: &MapSpec) -> Result<Map, SyscallError> {
    let map = Map::create(&spec.name, &MapDefinition::from(spec.shape()))?;
    fill(spec, &map)?;
    Ok(map)
}

fn fill(spec: &MapSpec, map: &Map) -> Result<(), SyscallError> {
    if spec.kind == MapKind::ProgArray {
        return Ok(());
    }
    if map.is_mappable() && !(spec.dense.is_empty() && spec.entries.is_empty()) {
        let mapped = MappedArray::of_values(map, spec.value_size)?;
        mapped.fill(&spec.dense)?;
        for (key, value) in &spec.entries {
            let index = key.first_chunk().map_or(u32::MAX, |key| u32::from_le_bytes(*key));
            mapped.store(index, value)?;
        }
        return Ok(());
    }
    let values = spec.dense.chunks_exact(spec.value_size.max(1) as usize);
    let dense = (0u32..).map(u32::to_le_bytes).zip(values);
    let mut batch = Pending::new(map);
    for (key, value) in dense {
        batch.put(&key, value)?;
    }
    for (key, value) in &spec.entries {
        batch.put(key, value)?;
    }
    batch.flush()
}

/// Entries that go to the kernel together.
struct Pending<'a> {
    map: &'a Map,
    keys: Vec<u8>,
    values: Vec<u8>,
    /// Tries have no batches on the oldest kernels.
    single: bool,
}

impl<'a> Pending<'a> {
    fn new(map: &'a Map) -> Self {
        let single = map.definition().kind == MapKind::LpmTrie as u32 || map.value_span() > 4096;
        Self { map, keys: Vec::new(), values: Vec::new(), single }
    }

    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), SyscallError> {
        if self.single {
            return self.map.update(key, value);
        }
        self.keys.extend(key);
        self.values.extend(value);
        if self.values.len() + self.keys.len() >= BATCH { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), SyscallError> {
        self.map.update_batch(&self.keys, &self.values)?;
        self.keys.clear();
        self.values.clear();
        Ok(())
    }
}

fn load_programs(
    policy: &Policy<'_>,
    shared: &BTreeMap<String, Map>,
    maps: &[Map],
) -> Result<Vec<Program>, LoaderError> {
    let fd = |map: MapRef| match map {
        MapRef::Private(index) => maps.get(index as usize).map_or(-1, Map::raw_fd),
        MapRef::Shared(name) => shared.get(name).map_or(-1, Map::raw_fd),
        MapRef::Fd(fd) => fd,
    };
    let mut programs = Vec::new();
    for program in &policy.image.programs {
        let code = program.code.encode(fd);
        let debug = debug_info(policy.image, program, policy.lines);
        let source = ProgramSource {
            name: &program.name,
            kind: if policy.xdp { ProgramKind::Xdp } else { ProgramKind::Classifier },
            code: &code,
            license: LICENSE,
            debug: DebugInfo { btf: &debug.btf, functions: &debug.functions, lines: &debug.lines },
        };
        let refused = |source| LoaderError::Refused { program: policy.image.name.clone(), source };
        programs.push(Program::load(&source).map_err(refused)?);
    }
    Ok(programs)
}

fn fill_sub_programs(image: &PolicyImage, maps: &[Map], programs: &[Program]) -> Result<(), LoaderError> {
    let Some(index) = image.maps.iter().position(|m| m.kind == MapKind::ProgArray) else { return Ok(()) };
    for (slot, program) in (0u32..).zip(programs).skip(1) {
        let what = format!("slot {slot} of `{}`", image.maps[index].name);
        maps[index].set_program(slot, program).map_err(kernel(what))?;
    }
    Ok(())
}
