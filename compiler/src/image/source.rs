//! From an origin to its text: file, line number and the line itself.

use cranelift_entity::EntityRef;

use super::PolicyImage;
use crate::diag::Sources;
use crate::ir::Origin;

/// Gives the text of a line (from 1) of a file, by the file's name; `None` where
/// the text is not at hand.
pub type SourceLines<'a> = dyn Fn(&str, u32) -> Option<String> + 'a;

/// For when no source text is at hand.
pub fn no_source_lines(_file: &str, _line: u32) -> Option<String> {
    None
}

/// The lines of everything that was read. A file that was read twice under one
/// name gives the lines of the first.
pub fn source_lines(sources: &Sources) -> impl Fn(&str, u32) -> Option<String> + '_ {
    |name, line| {
        let (_, file) = sources.iter().find(|(_, file)| file.name == name)?;
        file.line(line).map(str::to_string)
    }
}

impl PolicyImage {
    /// Name of the file that an origin refers to; empty if there is none.
    pub fn file_name(&self, at: Origin) -> &str {
        self.files.get(at.file.index()).map_or("", String::as_str)
    }

    /// `policy.yaml:12`.
    pub fn place(&self, at: Origin) -> String {
        format!("{}:{}", self.file_name(at), at.line)
    }
}
