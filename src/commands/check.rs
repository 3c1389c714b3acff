//! `polc check`: everything there is to say about the input. Findings are this
//! command's data, so they go to standard output.

mod json;
mod sarif;

use std::io::Write;

use clap::ValueEnum;
use polc_compiler::diag::{self, Diagnostic, Position, Severity, Sources, Span};
use polc_compiler::lint;

use crate::exit::{Exit, Failure};
use crate::inputs::Inputs;
use crate::output;

/// Arguments of `polc check`.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Exit codes: 0 nothing or notes only, 1 warnings, 2 usage or unreadable input, 3 errors.\n\
                        docs/diagnostics/ has a page for each code."
)]
pub struct Args {
    #[command(flatten)]
    inputs: Inputs,

    /// Form of the output
    #[arg(short, long, default_value = "text")]
    output: Format,
}

/// `--output`.
#[derive(ValueEnum, Copy, Clone, Debug)]
enum Format {
    /// The lines concerned, for people
    Text,
    /// One JSON document, described by docs/schema/diagnostics.schema.json
    Json,
    /// SARIF 2.1.0, for code scanning
    Sarif,
}

/// A place in a file, as tools want it: the end is the place behind the last
/// character.
struct Region<'a> {
    file: &'a str,
    start: Position,
    end: Position,
}

impl<'a> Region<'a> {
    fn of(sources: &'a Sources, span: Span) -> Self {
        let file = sources.file(span.file).name.as_str();
        Self { file, start: sources.position(span), end: sources.end_position(span) }
    }
}

/// Runs `polc check`.
pub fn run(args: &Args) -> Result<Exit, Failure> {
    let sources = args.inputs.read()?;
    let found = lint::check(&sources);
    let mut out = output::stdout();
    match args.output {
        Format::Text => {
            out.write_all(diag::render(&sources, &found, output::stdout_color()).as_bytes())?;
            let blank = if found.is_empty() { "" } else { "\n" };
            writeln!(out, "{blank}{}", summary(&found, sources.iter().count()))?;
        }
        Format::Json => json::write(&mut out, &sources, &found)?,
        Format::Sarif => sarif::write(&mut out, &sources, &found)?,
    }
    out.flush()?;
    Ok(exit(&found))
}

fn exit(found: &[Diagnostic]) -> Exit {
    match found.iter().map(|d| d.severity).max() {
        Some(Severity::Error) => Exit::InvalidPolicy,
        Some(Severity::Warning) => Exit::Finding,
        Some(Severity::Note) | None => Exit::Ok,
    }
}

/// `2 errors, 1 warning in 3 files`.
fn summary(found: &[Diagnostic], files: usize) -> String {
    let count = |severity, name| {
        let n = found.iter().filter(|d| d.severity == severity).count();
        (n > 0).then(|| counted(n, name))
    };
    let counts = [(Severity::Error, "error"), (Severity::Warning, "warning"), (Severity::Note, "note")];
    let counts: Vec<String> = counts.into_iter().filter_map(|(s, name)| count(s, name)).collect();
    let counts = if counts.is_empty() { "nothing found".to_owned() } else { counts.join(", ") };
    format!("{counts} in {}", counted(files, "file"))
}

fn counted(n: usize, name: &str) -> String {
    format!("{n} {name}{}", if n == 1 { "" } else { "s" })
}

/// The severity's name.
fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Note => "note",
    }
}

#[cfg(test)]
mod tests {
    use polc_compiler::diag::codes;

    use super::*;

    #[test]
    fn the_gravest_finding_decides_the_exit_code() {
        let mut sources = Sources::default();
        let file = sources.add("f", "text");
        let span = Span { file, start: 0, end: 1 };
        let note = Diagnostic::note(codes::SKIPPED_KIND, span, "n");
        let warning = Diagnostic::warning(codes::HOST_BITS, span, "w");
        let error = Diagnostic::error(codes::SYNTAX, span, "e");
        let cases = [
            (vec![], Exit::Ok, "nothing found in 1 file"),
            (vec![note.clone()], Exit::Ok, "1 note in 1 file"),
            (vec![note.clone(), warning.clone()], Exit::Finding, "1 warning, 1 note in 1 file"),
            (vec![error, warning.clone(), warning], Exit::InvalidPolicy, "1 error, 2 warnings in 1 file"),
        ];
        for (found, want_exit, want) in cases {
            assert_eq!((exit(&found), summary(&found, 1).as_str()), (want_exit, want));
        }
    }
}
