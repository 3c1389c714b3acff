//! The lines of `polc compile --emit json`: one object per distinct program.

use polc_compiler::bpf::{MapRef, Names};
use polc_compiler::image::PolicyImage;
use polc_compiler::ir::{Decision, Origin};
use serde_json::{Value, json};

use crate::programs::Program;

/// Adds a program's line.
pub fn program(text: &mut String, program: &Program) {
    let image = &program.image;
    let line = json!({
        "apiVersion": "polc/v1",
        "kind": "Program",
        "name": image.name,
        "direction": image.direction.as_str(),
        "endpoints": program.endpoints,
        "programs": image.programs.iter().map(|p| part(image, p)).collect::<Vec<_>>(),
        "maps": image.maps.iter().map(map).collect::<Vec<_>>(),
        "decisions": image.decisions.iter().map(|d| decision(image, d)).collect::<Vec<_>>(),
        "hits": image.hits.iter().map(|credited| numbers(credited)).collect::<Vec<_>>(),
    });
    text.push_str(&line.to_string());
    text.push('\n');
}

fn part(image: &PolicyImage, part: &polc_compiler::image::Program) -> Value {
    let bytes = part.code.encode(|_| 0);
    let instructions: Vec<Value> = part
        .code
        .iter()
        .map(|(slot, insn)| {
            let start = slot as usize * 8;
            let end = start + insn.slots() as usize * 8;
            json!({ "slot": slot, "bytes": hex(&bytes[start..end]), "text": text(image, insn) })
        })
        .collect();
    let notes: Vec<Value> = part
        .notes
        .iter()
        .map(|n| json!({ "slot": n.slot, "text": n.text, "at": place(image, n.at) }))
        .collect();
    json!({ "name": part.name, "slots": part.code.slots(), "instructions": instructions, "notes": notes })
}

fn text(image: &PolicyImage, insn: &polc_compiler::bpf::Insn) -> String {
    let map = match insn.map() {
        Some(MapRef::Private(index)) => image.maps.get(index as usize).map(|m| m.name.as_str()),
        _ => None,
    };
    insn.text(Names { map, ..Names::default() }).to_string()
}

fn map(map: &polc_compiler::image::MapSpec) -> Value {
    let entries: Vec<Value> = map.entries.iter().map(|(key, value)| json!([hex(key), hex(value)])).collect();
    json!({
        "name": map.name,
        "type": map.kind as u32,
        "key_size": map.key_size,
        "value_size": map.value_size,
        "max_entries": map.max_entries,
        "flags": map.flags,
        "direct": map.direct,
        "fixed": map.fixed,
        "entries": entries,
        "dense": hex(&map.dense),
    })
}

fn decision(image: &PolicyImage, d: &polc_compiler::ir::DecisionData) -> Value {
    json!({
        "type": d.kind.as_str(),
        "api": d.api,
        "kind": d.object,
        "namespace": d.namespace,
        "name": d.name,
        "tier": d.tier,
        "rule": d.rule,
        "action": d.action.as_str(),
        "at": place(image, d.at),
    })
}

fn place(image: &PolicyImage, at: Option<Origin>) -> Value {
    match at.and_then(|at| Some((image.files.get(at.file.as_u32() as usize)?, at))) {
        Some((file, at)) => json!({ "file": file, "line": at.line, "column": at.column }),
        None => Value::Null,
    }
}

/// Indices into the line's decisions.
fn numbers(decisions: &[Decision]) -> Vec<u32> {
    decisions.iter().map(|decision| decision.as_u32()).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
