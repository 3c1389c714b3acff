//! Reading the input files.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use polc_compiler::diag::{self, Diagnostic, Sources};
use polc_compiler::manifest;
use polc_compiler::resolve::Cluster;

use crate::exit::{Exit, Failure};
use crate::output;
#[cfg(target_os = "linux")]
use crate::stamps::Stamps;

/// Largest input file in bytes. Spans count in 32 bits; a cluster of 100,000
/// pods dumped as YAML stays below it.
const MAX_FILE: u64 = 1 << 30;

/// The arguments that name input.
#[derive(clap::Args, Debug)]
pub struct Inputs {
    /// YAML or JSON files, folders (their *.yaml, *.yml and *.json, not deeper), or - for standard input
    #[arg(value_name = "INPUT", required_unless_present = "files")]
    positional: Vec<PathBuf>,

    /// The same as a positional INPUT, as kubectl spells it
    #[arg(short = 'f', long = "filename", value_name = "INPUT")]
    files: Vec<PathBuf>,
}

/// What the input says.
pub struct Loaded {
    /// Its text.
    pub sources: Sources,
    /// Its meaning.
    pub cluster: Cluster,
}

impl Loaded {
    /// Finds out what sources mean, prints the diagnostics and stops if one is an error.
    pub fn new(sources: Sources) -> Result<Self, Failure> {
        let (objects, mut diagnostics) = manifest::read(&sources);
        let (cluster, more) = Cluster::new(&sources, objects);
        diagnostics.extend(more);
        print(&sources, &diagnostics);
        if diag::has_errors(&diagnostics) {
            return Err(Failure::Reported(Exit::InvalidPolicy));
        }
        Ok(Self { sources, cluster })
    }
}

impl Inputs {
    /// Whether standard input is among them.
    pub fn use_stdin(&self) -> bool {
        self.iter().any(is_stdin)
    }

    /// What the files are now, to see later whether they changed. Standard input is none.
    #[cfg(target_os = "linux")]
    pub fn stamps(&self) -> Stamps {
        let files = |input: &Path| expand(input).unwrap_or_else(|_| vec![input.to_owned()]);
        Stamps::take(self.iter().filter(|input| !is_stdin(input)).flat_map(files))
    }

    fn iter(&self) -> impl Iterator<Item = &Path> {
        self.positional.iter().chain(&self.files).map(PathBuf::as_path)
    }

    /// Reads everything, prints the diagnostics and stops if one is an error.
    pub fn load(&self) -> Result<Loaded, Failure> {
        Loaded::new(self.read()?)
    }

    /// Reads the text of all inputs; reports every one that cannot be read.
    pub fn read(&self) -> Result<Sources, Failure> {
        let mut sources = Sources::default();
        let mut problems = Vec::new();
        let mut stdin_read = false;
        for input in self.iter() {
            if is_stdin(input) {
                if !stdin_read {
                    stdin_read = true;
                    add(&mut sources, &mut problems, "<stdin>", read_text(io::stdin().lock()));
                }
                continue;
            }
            match expand(input) {
                Ok(files) => {
                    for file in files {
                        let text = fs::File::open(&file).map_err(|e| e.to_string()).and_then(read_text);
                        add(&mut sources, &mut problems, &file.to_string_lossy(), text);
                    }
                }
                Err(problem) => problems.push(format!("{}: {problem}", input.display())),
            }
        }
        if problems.is_empty() {
            return Ok(sources);
        }
        problems.iter().for_each(|p| output::error(p));
        Err(Failure::Reported(Exit::Usage))
    }
}

fn add(sources: &mut Sources, problems: &mut Vec<String>, name: &str, text: Result<String, String>) {
    match text {
        Ok(text) => {
            sources.add(name, text);
        }
        Err(problem) => problems.push(format!("{name}: {problem}")),
    }
}

fn is_stdin(path: &Path) -> bool {
    path.as_os_str() == "-"
}

/// The file itself, or a folder's manifests in the byte order of their names.
fn expand(input: &Path) -> Result<Vec<PathBuf>, String> {
    if !fs::metadata(input).map_err(|e| e.to_string())?.is_dir() {
        return Ok(vec![input.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(input).map_err(|e| e.to_string())? {
        let path = entry.map_err(|e| e.to_string())?.path();
        let is_manifest = path.extension().is_some_and(|e| e == "yaml" || e == "yml" || e == "json");
        if is_manifest && path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    if files.is_empty() {
        return Err("the folder holds no *.yaml, *.yml or *.json".into());
    }
    Ok(files)
}

fn read_text(reader: impl Read) -> Result<String, String> {
    let mut bytes = Vec::new();
    reader.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(|e| e.to_string())?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(format!("larger than {MAX_FILE} bytes"));
    }
    String::from_utf8(bytes).map_err(|e| {
        format!(
            "not UTF-8 text: byte {:#04x} at offset {}",
            e.as_bytes()[e.utf8_error().valid_up_to()],
            e.utf8_error().valid_up_to()
        )
    })
}

fn print(sources: &Sources, diagnostics: &[Diagnostic]) {
    use std::io::Write;
    if !diagnostics.is_empty() {
        let text = diag::render(sources, diagnostics, output::stderr_color());
        let _ = io::stderr().lock().write_all(text.as_bytes());
    }
}
