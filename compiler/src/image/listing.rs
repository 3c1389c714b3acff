//! The image as text for people: instructions with slot numbers, labels, and the
//! policy, rule and YAML line behind each of them.
//!
//! ```text
//! after_rule2:
//!   ; NetworkPolicy shop/web ingress[1] allow                policy.yaml:14: - ports:
//!      41: r1 = *(u8 *)(r9 + 45)                     ; :17 protocol tcp
//!      42: if w1 != 0x6 goto after_rule3             ; :17
//! ```

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use super::source::SourceLines;
use super::{MapSpec, Note, NoteKind, PolicyImage, Program};
use crate::bpf::{Code, Insn, MapRef, Names};

/// Column of comments.
const COMMENT: usize = 50;
/// Characters of a YAML line that are shown.
const QUOTE: usize = 60;

/// The whole image as text; lines of the policy are quoted where `source` has them.
pub fn listing(image: &PolicyImage, source: &SourceLines<'_>) -> String {
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = write_image(&mut out, image, source);
    out
}

fn write_image(out: &mut String, image: &PolicyImage, source: &SourceLines<'_>) -> fmt::Result {
    let slots: u32 = image.programs.iter().map(|p| p.code.slots()).sum();
    let jumps: u32 = image.programs.iter().map(|p| p.code.conditional_jumps()).sum();
    let bytes: u64 = image.maps.iter().map(MapSpec::content_bytes).sum();
    writeln!(out, "; policy {} {}", image.name, image.direction.as_str())?;
    writeln!(
        out,
        "; {}, {slots} slots, {jumps} conditional jumps; {}, {bytes} bytes of contents; {}",
        count(image.programs.len(), "program"),
        count(image.maps.len(), "map"),
        count(image.decisions.len(), "decision"),
    )?;
    if let Some(taken) = image.considered.first() {
        writeln!(out, "; form {}", taken.form)?;
    }
    for map in &image.maps {
        writeln!(
            out,
            "; map {}: {}, key {}, value {} bytes, {} of {} entries",
            map.name,
            map.kind.as_str(),
            map.key_size,
            map.value_size,
            map.held_entries(),
            map.max_entries
        )?;
    }
    for program in &image.programs {
        Lister { out, image, program, source, targets: targets(program) }.program()?;
    }
    Ok(())
}

fn count(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

/// Names of all slots that jumps go to.
fn targets(program: &Program) -> BTreeMap<u32, String> {
    let named: BTreeMap<u32, &String> = program.labels.iter().map(|(slot, name)| (*slot, name)).collect();
    let targets = program.code.iter().filter_map(|(at, insn)| Code::jump_target(at, insn));
    targets
        .map(|slot| (slot, named.get(&slot).map_or_else(|| format!("L{slot}"), |n| n.to_string())))
        .collect()
}

struct Lister<'a> {
    out: &'a mut String,
    image: &'a PolicyImage,
    program: &'a Program,
    source: &'a SourceLines<'a>,
    targets: BTreeMap<u32, String>,
}

impl Lister<'_> {
    fn program(mut self) -> fmt::Result {
        let Program { name, code, notes, .. } = self.program;
        writeln!(self.out, "\n{name}:{:pad$}; {} slots", "", code.slots(), pad = COMMENT - name.len() - 1)?;
        let mut notes = notes.iter().peekable();
        let mut current: Option<&Note> = None;
        for (slot, insn) in code.iter() {
            if let Some(label) = self.targets.get(&slot) {
                writeln!(self.out, "{label}:")?;
            }
            let mut fresh = None;
            while let Some(note) = notes.next_if(|n| n.slot <= slot) {
                current = Some(note);
                match note.kind {
                    NoteKind::Test => fresh = Some(note),
                    _ => self.heading(note)?,
                }
            }
            self.instruction(slot, insn, current, fresh)?;
        }
        Ok(())
    }

    /// A line of its own: `  ; rule  policy.yaml:14: - ports:`.
    fn heading(&mut self, note: &Note) -> fmt::Result {
        let Some(at) = note.at else { return writeln!(self.out, "  ; {}", note.text) };
        let place = self.image.place(at);
        write!(self.out, "  ; {:width$}  {place}", note.text, width = COMMENT - 4)?;
        match self.quote(note) {
            Some(line) => writeln!(self.out, ": {line}"),
            None => writeln!(self.out),
        }
    }

    fn instruction(
        &mut self,
        slot: u32,
        insn: &Insn,
        note: Option<&Note>,
        fresh: Option<&Note>,
    ) -> fmt::Result {
        let target = Code::jump_target(slot, insn).and_then(|to| self.targets.get(&to));
        let map = match insn.map() {
            Some(MapRef::Private(index)) => self.image.maps.get(index as usize).map(|m| m.name.as_str()),
            _ => None,
        };
        let text = insn.text(Names { target: target.map(String::as_str), map });
        let line = format!("{slot:6}: {text}");
        let comment = note.map(|note| self.comment(note, fresh)).unwrap_or_default();
        if comment.is_empty() {
            return writeln!(self.out, "{line}");
        }
        writeln!(self.out, "{line:COMMENT$}; {comment}")
    }

    /// The YAML line at every instruction; what it tests at the first one.
    fn comment(&self, note: &Note, fresh: Option<&Note>) -> String {
        let place = note.at.map(|at| self.image.place(at));
        match (place, fresh) {
            (Some(place), Some(note)) => format!("{place} {}", note.text),
            (Some(place), None) => place,
            (None, Some(note)) => note.text.clone(),
            (None, None) => String::new(),
        }
    }

    fn quote(&self, note: &Note) -> Option<String> {
        let at = note.at?;
        let line = (self.source)(self.image.file_name(at), at.line)?;
        let line = line.trim();
        let mut short: String = line.chars().take(QUOTE).collect();
        if short.len() < line.len() {
            short.push('…');
        }
        Some(short).filter(|line| !line.is_empty())
    }
}
