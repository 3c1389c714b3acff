//! The image as an ELF object that libbpf, bpftool, tc and aya load.
//!
//! | section | contents |
//! |---|---|
//! | `classifier` | all programs, each a function symbol |
//! | `license` | the licence that the kernel is told |
//! | `.maps` | a variable per map; its type in `.BTF` is the definition |
//! | `.data.NAME` | the contents of an array that is addressed directly |
//! | `.BTF`, `.BTF.ext` | types; source line of each instruction: the policy's YAML |
//!
//! Shared maps are defined like private ones, without a pin: the object loads
//! where no bpffs is mounted, and a loader that wants the node's own packet state
//! and program array says so (`bpftool prog load … map name polc_state pinned PATH`,
//! aya's `map_pin_path`). Larger tables have no contents in an object: a loader fills
//! them from [`PolicyImage::maps`] before the program runs, and puts program i into slot i of [`super::SUB_PROGS_MAP`].
//!
//! The same image gives the same bytes.

use object::write::{Object, Relocation, Section, SectionId, Symbol, SymbolId, SymbolSection};
use object::{
    Architecture, BinaryFormat, Endianness, RelocationFlags, SectionKind, SymbolFlags, SymbolKind,
    SymbolScope,
};

use super::btf::{self, Btf, LineInfo};
use super::lines::lines;
use super::shared::{SHARED_MAPS, shared_map};
use super::source::SourceLines;
use super::{MapSpec, PolicyImage, Program};
use crate::abi::PROG_SECTION;
use crate::bpf::{Insn, MapRef};

/// What the kernel is told. Generated programs call `bpf_map_lookup_elem` and
/// `bpf_tail_call`, which are open to programs of any licence, so that the object
/// can say what polc's own licence is.
pub const LICENSE: &str = "Apache-2.0";

/// An image cannot be written; always a bug of polc.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ElfError {
    /// A program refers to a map that the image does not define.
    #[error("program {program} refers to map `{map}`, which is not defined")]
    UnknownMap {
        /// Program name.
        program: String,
        /// The reference.
        map: MapRef,
    },
    /// The object writer refused.
    #[error("object: {0}")]
    Write(#[from] object::write::Error),
}

/// Writes the object.
///
/// # Errors
/// See [`ElfError`].
pub fn elf(image: &PolicyImage, source: &SourceLines<'_>) -> Result<Vec<u8>, ElfError> {
    let mut object = Object::new(BinaryFormat::Elf, Architecture::Bpf, Endianness::Little);
    let text = section(&mut object, PROG_SECTION, SectionKind::Text, &[]);
    section(&mut object, "license", SectionKind::Data, format!("{LICENSE}\0").as_bytes());
    let mut btf = Btf::new();
    let maps = maps(&mut object, &mut btf, image);
    let mut functions = Vec::new();
    let mut line_infos = Vec::new();
    let prototype = btf.classifier();
    for program in &image.programs {
        let code = code(program);
        let start = object.append_section_data(text, &code, 8);
        symbol(&mut object, &program.name, text, start, code.len(), SymbolKind::Text);
        for (slot, map) in program.code.map_refs() {
            let unknown = || ElfError::UnknownMap { program: program.name.clone(), map };
            relocate(&mut object, text, start + u64::from(slot) * 8, maps.symbol(map).ok_or_else(unknown)?)?;
        }
        functions.push((start as u32, btf.function(&program.name, prototype)));
        line_infos.extend(lines(image, program, source).into_iter().map(|l| LineInfo {
            offset: start as u32 + l.slot * 8,
            file: btf.string(l.file),
            text: btf.string(&l.text),
            line: l.line,
            column: l.column,
        }));
    }
    let section_name = btf.string(PROG_SECTION);
    section(&mut object, ".BTF", SectionKind::Other, &btf.finish());
    section(&mut object, ".BTF.ext", SectionKind::Other, &btf::ext(section_name, &functions, &line_infos));
    Ok(object.write()?)
}

/// A program's bytes as relocations expect them: what is to be added to an address in a
/// map's value stands in the first half of the instruction.
fn code(program: &Program) -> Vec<u8> {
    let mut code = program.code.encode(|_| 0);
    for (slot, insn) in program.code.iter() {
        if let Insn::LoadMapValue { dst, offset, .. } = insn {
            let at = slot as usize * 8;
            code[at + 1] = dst.number();
            code[at + 4..at + 8].copy_from_slice(&offset.to_le_bytes());
            code[at + 12..at + 16].fill(0);
        }
    }
    code
}

/// Symbols of the maps, in the order shared, private.
struct MapSymbols(Vec<SymbolId>);

impl MapSymbols {
    fn symbol(&self, map: MapRef) -> Option<SymbolId> {
        let index = match map {
            MapRef::Shared(name) => SHARED_MAPS.iter().position(|n| *n == name)?,
            MapRef::Private(index) => SHARED_MAPS.len() + index as usize,
            MapRef::Fd(_) => return None,
        };
        self.0.get(index).copied()
    }
}

/// Defines all maps; pointers make up each variable, all zero.
fn maps(object: &mut Object<'_>, btf: &mut Btf, image: &PolicyImage) -> MapSymbols {
    let shared: Vec<MapSpec> = SHARED_MAPS.iter().filter_map(|name| shared_map(name)).collect();
    let id = section(object, ".maps", SectionKind::Data, &[]);
    let mut symbols = Vec::new();
    let mut variables = Vec::new();
    let mut end = 0;
    let mut data = Vec::new();
    for map in shared.iter().chain(&image.maps) {
        if map.direct {
            let section_name = format!(".data.{}", map.name);
            let size = map.shape().value_size;
            let mut bytes = map.dense.clone();
            bytes.resize(size as usize, 0);
            let section = object.add_section(Vec::new(), section_name.clone().into(), SectionKind::Data);
            object.section_mut(section).append_data(&bytes, 8);
            symbols.push(symbol(object, &map.name, section, 0, bytes.len(), SymbolKind::Data));
            data.push((section_name, btf.bytes(&map.name, size), size));
            continue;
        }
        let (variable, size) = btf.map(map);
        let at = object.append_section_data(id, &vec![0; size as usize], 8);
        symbols.push(symbol(object, &map.name, id, at, size as usize, SymbolKind::Data));
        variables.push((variable, at as u32, size));
        end = at as u32 + size;
    }
    btf.data_section(".maps", end, &variables);
    for (name, variable, size) in data {
        btf.data_section(&name, size, &[(variable, 0, size)]);
    }
    MapSymbols(symbols)
}

fn section(object: &mut Object<'_>, name: &str, kind: SectionKind, data: &[u8]) -> SectionId {
    let id = object.add_section(Vec::new(), name.into(), kind);
    let section: &mut Section<'_> = object.section_mut(id);
    section.append_data(data, if kind == SectionKind::Other { 4 } else { 1 });
    id
}

fn symbol(
    object: &mut Object<'_>,
    name: &str,
    section: SectionId,
    at: u64,
    size: usize,
    kind: SymbolKind,
) -> SymbolId {
    object.add_symbol(Symbol {
        name: name.into(),
        value: at,
        size: size as u64,
        kind,
        scope: SymbolScope::Dynamic,
        weak: false,
        section: SymbolSection::Section(section),
        flags: SymbolFlags::None,
    })
}

fn relocate(
    object: &mut Object<'_>,
    section: SectionId,
    offset: u64,
    symbol: SymbolId,
) -> Result<(), ElfError> {
    let flags = RelocationFlags::Elf { r_type: object::elf::R_BPF_64_64 };
    Ok(object.add_relocation(section, Relocation { offset, symbol, addend: 0, flags })?)
}
