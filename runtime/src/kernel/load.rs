//! Loads objects through aya and fills the maps of images.

use aya::maps::{Map, MapData, ProgramArray};
use aya::programs::{Program, SchedClassifier};
use aya::{Ebpf, EbpfLoader, VerifierLogLevel};
use polc_compiler::abi;
use polc_compiler::abi::config::Config;
use polc_compiler::image::{MapKind, MapSpec, PolicyImage, SHARED_MAPS, SUB_PROGS_MAP, elf, no_source_lines};

use super::{kernel, refused};
use crate::EngineError;
use crate::sys::{MapWriter, PrivateBpfFs};

/// A policy image in the kernel.
pub(super) struct Image {
    object: Ebpf,
    first: String,
    /// Keeps the slots that it fills.
    _sub_programs: Option<ProgramArray<MapData>>,
}

impl Image {
    /// The program that the endpoint's slot leads to.
    pub fn first(&self) -> Result<&SchedClassifier, EngineError> {
        let missing = || refused(format!("program `{}` is missing", self.first));
        let program = self.object.program(&self.first).ok_or_else(missing)?;
        program.try_into().map_err(|e| kernel(&self.first, e))
    }
}

/// Loads the entry object (no program yet) with a configuration.
pub(super) fn load_entry(entry: &[u8], fs: &PrivateBpfFs, config: &Config) -> Result<Ebpf, EngineError> {
    let mut loader = EbpfLoader::new();
    loader.btf(None).default_map_pin_directory(fs.path());
    let words = config.words();
    loader.override_global(abi::CONFIG_SYMBOL, &words, true);
    loader.load(entry).map_err(|e| kernel("loading the entry object", e))
}

pub(super) fn load_program<'a>(
    object: &'a mut Ebpf,
    name: &str,
) -> Result<&'a mut SchedClassifier, EngineError> {
    let missing = || refused(format!("program `{name}` is missing"));
    let program = object.program_mut(name).ok_or_else(missing)?;
    let program: &mut SchedClassifier = program.try_into().map_err(|e| kernel(name, e))?;
    program.load().map_err(|e| kernel(&format!("loading program `{name}`"), e))?;
    Ok(program)
}

/// Loads a program of either type.
pub(super) fn load_any(object: &mut Ebpf, name: &str) -> Result<(), EngineError> {
    let loaded = match object.program_mut(name) {
        Some(Program::SchedClassifier(program)) => program.load(),
        Some(Program::Xdp(program)) => program.load(),
        _ => return Err(refused(format!("program `{name}` is missing"))),
    };
    loaded.map_err(|e| kernel(&format!("loading program `{name}`"), e))
}

/// The shared program array.
pub(super) fn program_array(object: &mut Ebpf) -> Result<ProgramArray<MapData>, EngineError> {
    array(object, abi::PROGS_MAP)
}

fn array(object: &mut Ebpf, name: &str) -> Result<ProgramArray<MapData>, EngineError> {
    let map = object.take_map(name).ok_or_else(|| refused(format!("map `{name}` is missing")))?;
    ProgramArray::try_from(map).map_err(|e| kernel(name, e))
}

/// Loads images, one after the other: to make a loader of aya's takes longer than what
/// it loads, since it reads all of the kernel's BTF.
pub(super) struct ImageLoader(EbpfLoader<'static>);

impl ImageLoader {
    /// A loader of images that find the shared maps there.
    pub fn new(fs: &PrivateBpfFs) -> Self {
        let mut loader = EbpfLoader::new();
        loader.btf(None).verifier_log_level(VerifierLogLevel::default());
        for name in SHARED_MAPS {
            loader.map_pin_path(name, fs.path().join(name));
        }
        Self(loader)
    }
}

/// Loads an image, fills its maps, and lets `slot` of the shared program array
/// lead to it at last, when everything that it reads is in place.
pub(super) fn load_image(
    image: &PolicyImage,
    loader: &mut ImageLoader,
    slot: u32,
    programs: &mut ProgramArray<MapData>,
) -> Result<Image, EngineError> {
    let bytes = elf(image, &no_source_lines).map_err(|e| refused(e.to_string()))?;
    let mut object = loader.0.load(&bytes).map_err(|e| kernel(&format!("loading `{}`", image.name), e))?;
    for spec in &image.maps {
        fill(&object, spec)?;
    }
    for program in &image.programs {
        load_program(&mut object, &program.name)?;
    }
    let sub_programs = fill_sub_programs(image, &mut object)?;
    let first = image.programs.first().ok_or_else(|| refused("the image has no program".into()))?;
    let loaded = Image { object, first: first.name.clone(), _sub_programs: sub_programs };
    let fd = loaded.first()?.fd().map_err(|e| kernel(&first.name, e))?;
    programs.set(slot, fd, 0).map_err(|e| kernel(abi::PROGS_MAP, e))?;
    Ok(loaded)
}

fn fill(object: &Ebpf, spec: &MapSpec) -> Result<(), EngineError> {
    // What is addressed directly has its contents from the object.
    if spec.direct || spec.kind == MapKind::ProgArray || (spec.entries.is_empty() && spec.dense.is_empty()) {
        return Ok(());
    }
    let map = object.map(&spec.name).ok_or_else(|| refused(format!("map `{}` is missing", spec.name)))?;
    let data = match map {
        Map::Array(data) | Map::HashMap(data) | Map::LruHashMap(data) | Map::LpmTrie(data) => data,
        _ => return Err(refused(format!("map `{}` cannot be filled", spec.name))),
    };
    let what = || format!("filling map `{}`", spec.name);
    let writer = MapWriter::new(data).map_err(|e| kernel(&what(), e))?;
    for (key, value) in &spec.entries {
        writer.put(key, value).map_err(|e| kernel(&what(), e))?;
    }
    writer.put_dense(&spec.dense).map_err(|e| kernel(&what(), e))
}

fn fill_sub_programs(
    image: &PolicyImage,
    object: &mut Ebpf,
) -> Result<Option<ProgramArray<MapData>>, EngineError> {
    if image.programs.len() < 2 {
        return Ok(None);
    }
    let mut slots = array(object, SUB_PROGS_MAP)?;
    for (slot, program) in (0u32..).zip(&image.programs).skip(1) {
        let missing = || refused(format!("program `{}` is missing", program.name));
        let loaded = object.program(&program.name).ok_or_else(missing)?;
        let loaded: &SchedClassifier = loaded.try_into().map_err(|e| kernel(&program.name, e))?;
        let fd = loaded.fd().map_err(|e| kernel(&program.name, e))?;
        slots.set(slot, fd, 0).map_err(|e| kernel(SUB_PROGS_MAP, e))?;
    }
    Ok(Some(slots))
}
