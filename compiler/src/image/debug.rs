//! Types and source lines of one program, as `BPF_PROG_LOAD` takes them: what the
//! object carries in `.BTF` and `.BTF.ext`, for loaders without an object.
//!
//! Cost: linear in the program's notes.

use super::btf::Btf;
use super::lines::lines;
use super::source::SourceLines;
use super::{PolicyImage, Program};

/// BTF and the records that refer to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DebugInfo {
    /// Contents of `.BTF`.
    pub btf: Vec<u8>,
    /// One `struct bpf_func_info`: slot 0 and its type.
    pub functions: Vec<u8>,
    /// `struct bpf_line_info` records by slot, ascending; may be empty.
    pub lines: Vec<u8>,
}

/// What the kernel shows beside the program's instructions: the policy's YAML.
pub fn debug_info(image: &PolicyImage, program: &Program, source: &SourceLines<'_>) -> DebugInfo {
    let mut btf = Btf::new();
    let prototype = btf.classifier();
    let function = btf.function(&program.name, prototype);
    let mut records = Vec::new();
    for line in lines(image, program, source) {
        let place = line.line.min((1 << 22) - 1) << 10 | line.column.min((1 << 10) - 1);
        let record = [line.slot, btf.string(line.file), btf.string(&line.text), place];
        records.extend(record.into_iter().flat_map(u32::to_le_bytes));
    }
    let functions = [0, function.index()].into_iter().flat_map(u32::to_le_bytes).collect();
    DebugInfo { btf: btf.finish(), functions, lines: records }
}
