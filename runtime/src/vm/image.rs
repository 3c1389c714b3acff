//! Policy images and programs in the VM.

use polc_compiler::abi;
use polc_compiler::bpf::MapRef;
use polc_compiler::image::{MapKind, MapSpec, PolicyImage, SUB_PROGS_MAP};

use super::check::{Refusal, check};
use super::insn::{Slot, op, slots, starts};
use super::link::link;
use super::maps::{Map, Shape};
use super::region::{Region, pages};
use super::world::{MapId, World, handle};
use super::{Vm, VmEngine};
use crate::EngineError;
use crate::sys::{LowArena, Machine};

/// An image in the VM.
pub(super) struct Loaded {
    pub programs: Vec<u32>,
    pub maps: Vec<MapId>,
    region: Region,
    /// Attachments that it decides for.
    pub uses: u32,
}

/// All linked programs; numbers are used again.
#[derive(Default)]
pub(super) struct Programs {
    all: Vec<Option<(String, Machine)>>,
}

impl Programs {
    /// Resolves map references, checks, links and compiles a program. `resolve`
    /// gives the map and the address of its values for a file descriptor.
    pub fn add(
        &mut self,
        name: &str,
        mut code: Vec<Slot>,
        resolve: impl Fn(i32) -> Option<(MapId, u64)>,
        engine: VmEngine,
        arena: &LowArena,
    ) -> Result<u32, EngineError> {
        let refused = |reason: String| EngineError::Refused { program: name.to_owned(), reason };
        resolve_maps(&mut code, resolve).map_err(|e| refused(e.to_string()))?;
        check(&code).map_err(|e| refused(e.to_string()))?;
        let code = link(&code, engine).map_err(|e| refused(e.to_string()))?;
        let machine = Machine::new(engine, code, arena).map_err(|e| refused(e.to_string()))?;
        let entry = Some((name.to_owned(), machine));
        if let Some(free) = self.all.iter().position(Option::is_none) {
            self.all[free] = entry;
            return Ok(free as u32);
        }
        self.all.push(entry);
        Ok(self.all.len() as u32 - 1)
    }

    pub fn remove(&mut self, program: u32) {
        if let Some(entry) = self.all.get_mut(program as usize) {
            *entry = None;
        }
    }

    pub fn run(&self, program: u32, world: &mut World) -> Result<u64, EngineError> {
        match self.all.get(program as usize) {
            Some(Some((name, machine))) => {
                machine.run(world).map_err(|reason| EngineError::Fault { program: name.clone(), reason })
            }
            _ => Err(EngineError::Fault { program: "none".into(), reason: format!("no program {program}") }),
        }
    }

    pub fn name(&self, program: u32) -> String {
        match self.all.get(program as usize) {
            Some(Some((name, _))) => name.clone(),
            _ => "none".into(),
        }
    }
}

/// Source field of `lddw` that stands for a map, or for an address in its first value.
const PSEUDO_MAP: u8 = 1;
const PSEUDO_MAP_VALUE: u8 = 2;

fn resolve_maps(code: &mut [Slot], resolve: impl Fn(i32) -> Option<(MapId, u64)>) -> Result<(), Refusal> {
    let starts = starts(code);
    for at in (0..code.len()).filter(|at| starts[*at]) {
        let first = code[at];
        if first.op != op::LDDW || !matches!(first.src, PSEUDO_MAP | PSEUDO_MAP_VALUE) {
            continue;
        }
        let unknown = Refusal::WideConstant { slot: at, kind: first.src };
        let (map, values) = resolve(first.imm).ok_or(unknown)?;
        let second = code.get_mut(at + 1).ok_or(unknown)?;
        let value = match first.src {
            PSEUDO_MAP => handle(map),
            _ => values + u64::from(second.imm as u32),
        };
        second.imm = (value >> 32) as u32 as i32;
        code[at] = Slot { src: 0, imm: value as u32 as i32, ..first };
    }
    Ok(())
}

impl Vm {
    /// Loads an image for one attachment; gives its index. Nothing stays behind
    /// on an error.
    pub(super) fn load_image(&mut self, image: &PolicyImage) -> Result<usize, EngineError> {
        let needed = bytes(image);
        let region = self.pages.take(needed).ok_or_else(|| no_room(needed, self.pages.largest()))?;
        let mut loaded = Loaded { programs: Vec::new(), maps: Vec::new(), region, uses: 1 };
        if let Err(e) = self.fill_image(image, &mut loaded) {
            self.unload(loaded);
            return Err(e);
        }
        Ok(match self.images.iter().position(Option::is_none) {
            Some(free) => {
                self.images[free] = Some(loaded);
                free
            }
            None => {
                self.images.push(Some(loaded));
                self.images.len() - 1
            }
        })
    }

    fn fill_image(&mut self, image: &PolicyImage, loaded: &mut Loaded) -> Result<(), EngineError> {
        let mut next = loaded.region.at;
        let mut places = Vec::new();
        for spec in &image.maps {
            let (map, at) = self.make_map(&image.name, spec, &mut next)?;
            loaded.maps.push(map);
            places.push((map, at));
        }
        for program in &image.programs {
            let id = self.add_program(program, &places)?;
            loaded.programs.push(id);
        }
        if image.programs.is_empty() {
            return Err(refused(&image.name, "the image has no program".into()));
        }
        self.fill_sub_programs(image, loaded)
    }

    fn make_map(&mut self, image: &str, spec: &MapSpec, next: &mut u64) -> Result<(MapId, u64), EngineError> {
        let shape = shape(spec);
        let bad = |reason: String| refused(image, format!("map `{}`: {reason}", spec.name));
        shape.check().map_err(|e| bad(e.to_string()))?;
        let at = *next;
        *next += shape.bytes();
        let mut map = Map::new(shape, at);
        map.fill(&self.world.arena, &spec.entries).map_err(|(i, e)| bad(format!("entry {i}: {e:?}")))?;
        map.fill_dense(&self.world.arena, &spec.dense).map_err(|e| bad(format!("dense contents: {e:?}")))?;
        Ok((self.world.add(map), at))
    }

    fn add_program(
        &mut self,
        program: &polc_compiler::image::Program,
        places: &[(MapId, u64)],
    ) -> Result<u32, EngineError> {
        let mut unknown = None;
        // Descriptors are indices: private maps first, then the shared ones.
        let code = program.code.encode(|map| match map {
            MapRef::Private(index) if (index as usize) < places.len() => index as i32,
            MapRef::Shared(name) => match self.shared.iter().position(|(n, _)| n == name) {
                Some(index) => (places.len() + index) as i32,
                None => *unknown.insert(-1),
            },
            _ => *unknown.insert(-1),
        });
        if unknown.is_some() {
            return Err(refused(
                &program.name,
                "refers to a map that is neither its image's nor shared".into(),
            ));
        }
        let shared = self.shared.iter().map(|(_, id)| (*id, 0));
        let table: Vec<(MapId, u64)> = places.iter().copied().chain(shared).collect();
        let resolve = |fd: i32| usize::try_from(fd).ok().and_then(|fd| table.get(fd)).copied();
        let code = slots(&code).unwrap_or_default();
        self.programs.add(&program.name, code, resolve, self.options.engine, &self.world.arena)
    }

    /// Program `i > 0` goes to slot `i` of the image's own program array.
    fn fill_sub_programs(&mut self, image: &PolicyImage, loaded: &Loaded) -> Result<(), EngineError> {
        if loaded.programs.len() == 1 {
            return Ok(());
        }
        let array = image.maps.iter().position(|m| m.name == SUB_PROGS_MAP);
        let Some(array) = array.and_then(|i| loaded.maps.get(i)) else {
            return Err(refused(&image.name, format!("several programs and no map `{SUB_PROGS_MAP}`")));
        };
        for (slot, program) in (0u32..).zip(&loaded.programs).skip(1) {
            if !self.world.set_program(*array, slot, Some(*program)) {
                return Err(refused(&image.name, format!("map `{SUB_PROGS_MAP}` has no slot {slot}")));
            }
        }
        Ok(())
    }

    /// One attachment less uses an image; the last one takes it with it.
    pub(super) fn release_image(&mut self, index: usize) {
        let Some(entry) = self.images.get_mut(index) else { return };
        if let Some(image) = entry
            && image.uses > 1
        {
            image.uses -= 1;
            return;
        }
        if let Some(image) = entry.take() {
            self.unload(image);
        }
    }

    fn unload(&mut self, image: Loaded) {
        // No program may find one that is gone.
        for slot in [abi::SLOT_FIRST_POLICY, super::PEER_SLOT, super::UNTRACKED_SLOT] {
            self.world.set_program(self.program_array, slot, None);
            self.world.set_program(self.xdp_array, slot, None);
        }
        self.current = None;
        image.programs.iter().for_each(|p| self.programs.remove(*p));
        image.maps.iter().for_each(|m| self.world.remove(*m));
        self.world.arena.clear_pages(image.region.at, image.region.len as usize);
        self.pages.give(image.region);
    }
}

fn shape(spec: &MapSpec) -> Shape {
    Shape {
        kind: spec.kind,
        key_size: spec.key_size,
        value_size: spec.value_size,
        max_entries: spec.max_entries,
    }
}

/// Bytes of arena that an image's maps take.
pub(super) fn bytes(image: &PolicyImage) -> u64 {
    let values = image.maps.iter().filter(|m| m.kind != MapKind::ProgArray).map(|m| shape(m).bytes());
    pages(values.fold(0, u64::saturating_add))
}

pub(super) fn no_room(needed: u64, largest: u64) -> EngineError {
    EngineError::Refused {
        program: "memory".into(),
        reason: format!("maps need {needed} contiguous bytes below 4 GiB; {largest} are free"),
    }
}

fn refused(program: &str, reason: String) -> EngineError {
    EngineError::Refused { program: program.to_owned(), reason }
}
