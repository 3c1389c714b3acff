//! Source lines of a program's instructions, as line_info wants them: the first
//! instruction has one, and slots ascend strictly.

use super::source::SourceLines;
use super::{PolicyImage, Program};

/// Instructions from a slot on stem from this line.
pub(super) struct Line<'a> {
    pub slot: u32,
    pub file: &'a str,
    pub text: String,
    pub line: u32,
    pub column: u32,
}

/// Lines of a program; empty if nothing in it leads to a file. What no line of
/// the policy asked for (prologue, shared ends) stands at the program's first
/// line, with its own text.
pub(super) fn lines<'a>(
    image: &'a PolicyImage,
    program: &Program,
    source: &SourceLines<'_>,
) -> Vec<Line<'a>> {
    let Some(home) = program.notes.iter().find_map(|note| note.at) else { return Vec::new() };
    let mut lines: Vec<Line<'a>> = Vec::with_capacity(program.notes.len());
    for note in &program.notes {
        let at = note.at.unwrap_or(home);
        let file = image.file_name(at);
        let written = note.at.and_then(|at| source(file, at.line)).map(|line| line.trim().to_string());
        let text = written.unwrap_or_else(|| format!("polc: {}", note.text));
        let line = Line { slot: note.slot, file, text, line: at.line, column: at.column };
        match lines.last_mut() {
            // The note of the lower kind is the more exact one.
            Some(last) if last.slot == line.slot => *last = line,
            Some(last) if (last.line, last.file, &last.text) == (line.line, line.file, &line.text) => {}
            _ => lines.push(line),
        }
    }
    lines
}
