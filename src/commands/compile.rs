//! `polc compile`: prints or writes what policy compiles to.

mod dot;
mod json;
mod profile;
mod stats;

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use polc_compiler::bpf::MapRef;
use polc_compiler::compile::CompileOptions;
use polc_compiler::diag::Sources;
use polc_compiler::image;
use polc_compiler::ir::{Direction, PolicyIr};
use polc_compiler::passes::{OptOptions, optimize};
use polc_compiler::resolve::Cluster;

use super::{DirectionArg, EndpointArg};
use crate::exit::{Exit, Failure};
use crate::inputs::{Inputs, Loaded};
use crate::output;
use crate::programs::{self, Program, Programs};

/// Arguments of `polc compile`.
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    inputs: Inputs,

    /// Only this pod's or host endpoint's policy; may be repeated. Without it and
    /// without endpoints in the input: each policy on its own
    #[arg(long, value_name = "NS/NAME|HOST")]
    endpoint: Vec<EndpointArg>,

    /// Only this direction
    #[arg(long)]
    direction: Option<DirectionArg>,

    /// What to print
    #[arg(long, default_value = "listing")]
    emit: Emit,

    /// File to write; with --emit elf and several programs a folder
    #[arg(short, long, value_name = "PATH")]
    output: Option<PathBuf>,

    /// Optimisation: 0 none, 1 normalise and prune, 2 reorder as well
    #[arg(short = 'O', value_name = "LEVEL", default_value_t = 2, value_parser = clap::value_parser!(u8).range(0..=2))]
    level: u8,

    /// Print instead which form each program has and why: estimated cost of the forms that
    /// were looked at, instructions, bytes of tables
    #[arg(long, conflicts_with = "emit")]
    stats: bool,

    /// Order rules by how often each was hit: a file of polc run --profile-out
    #[arg(long, value_name = "FILE")]
    profile: Option<PathBuf>,
}

/// `--emit`.
#[derive(ValueEnum, Copy, Clone, Debug, PartialEq, Eq)]
enum Emit {
    /// Instructions with the policy, rule and YAML line of each
    Listing,
    /// The policy IR after the passes
    Ir,
    /// An ELF object with BTF, for bpftool, tc and aya
    Elf,
    /// Instruction bytes, one slot per line
    Hex,
    /// Programs, maps and decisions, one object per line
    Json,
    /// Chains and rules as a Graphviz graph
    Dot,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<Exit, Failure> {
    if args.profile.is_some() && args.level < 2 {
        return Err(Failure::usage(format!(
            "--profile orders rules, which -O{} does not: use -O2",
            args.level
        )));
    }
    let Loaded { sources, cluster } = args.inputs.load()?;
    let programs = args.compile(&cluster)?;
    if programs.is_empty() {
        return Err(Failure::usage("nothing to compile: no policy in the input governs such packets"));
    }
    match args.emit {
        Emit::Elf => write_objects(&programs, &sources, args.output.as_deref())?,
        _ => write_text(&args.text(&programs, &sources)?, args.output.as_deref())?,
    }
    Ok(Exit::Ok)
}

impl Args {
    fn compile(&self, cluster: &Cluster) -> Result<Vec<Program>, Failure> {
        let options = CompileOptions { level: self.level, ..CompileOptions::default() };
        let profile = self.profile.as_deref().map(profile::read).transpose()?;
        let directions = DirectionArg::directions(self.direction);
        let mut programs = Programs::with_profile(&options, profile.as_ref());
        if self.endpoint.is_empty() && cluster.endpoints().is_empty() {
            for policy in cluster.policies().keys() {
                for direction in directions {
                    if let Some(ir) = cluster.resolve_policy(policy, *direction) {
                        programs.add(ir, Vec::new())?;
                    }
                }
            }
        } else {
            for endpoint in programs::endpoints(cluster, &self.endpoint)? {
                for direction in directions {
                    programs.endpoint(cluster, endpoint, *direction)?;
                }
            }
        }
        if let Some(path) = &self.profile {
            let partly = !self.endpoint.is_empty() || self.direction.is_some();
            profile::warn(path, cluster, partly, programs.unused());
        }
        Ok(programs.into_list())
    }

    fn text(&self, programs: &[Program], sources: &Sources) -> Result<String, Failure> {
        let mut text = String::new();
        for (i, program) in programs.iter().enumerate() {
            if i > 0 && self.emit != Emit::Json {
                text.push('\n');
            }
            if self.stats {
                text.push_str(&sharers(program, '#'));
                stats::image(&mut text, &program.image);
                continue;
            }
            match self.emit {
                Emit::Listing => {
                    text.push_str(&sharers(program, ';'));
                    text.push_str(&image::listing(&program.image, &|file, line| {
                        source_line(sources, file, line)
                    }));
                }
                Emit::Ir => {
                    let _ = write!(text, "{}{}", sharers(program, '#'), self.optimized(program)?);
                }
                Emit::Hex => hex(&mut text, program),
                Emit::Json => json::program(&mut text, program),
                Emit::Dot => dot::graph(&mut text, &self.optimized(program)?),
                Emit::Elf => {}
            }
        }
        Ok(text)
    }

    /// The policy as all passes of the level leave it, which is what a chain of rules is
    /// emitted from; tables take the passes that they gain from.
    fn optimized(&self, program: &Program) -> Result<PolicyIr, Failure> {
        let mut ir = program.ir.clone();
        let options =
            OptOptions { level: self.level, profile: program.hits.clone(), ..OptOptions::default() };
        optimize(&mut ir, &options).map_err(|e| Failure::Message(Exit::Bug, e.to_string()))?;
        Ok(ir)
    }
}

/// Who else uses the program; nothing if nobody does.
fn sharers(program: &Program, comment: char) -> String {
    match program.endpoints.as_slice() {
        [] | [_] => String::new(),
        all => format!("{comment} shared by {}\n", all.join(", ")),
    }
}

fn source_line(sources: &Sources, file: &str, line: u32) -> Option<String> {
    let (_, file) = sources.iter().find(|(_, f)| f.name == file)?;
    file.line(line).map(str::to_owned)
}

/// Slots as bytes in the order of memory; map references are zero.
fn hex(text: &mut String, program: &Program) {
    let direction = program.image.direction.as_str();
    for part in &program.image.programs {
        let _ = writeln!(text, "# {} {direction} {}", program.image.name, part.name);
        for slot in part.code.encode(|_: MapRef| 0).chunks(8) {
            text.extend(slot.iter().map(|byte| format!("{byte:02x}")));
            text.push('\n');
        }
    }
}

fn write_text(text: &str, path: Option<&Path>) -> Result<(), Failure> {
    match path {
        Some(path) => write_file(path, text.as_bytes()),
        None => {
            let mut out = output::stdout();
            out.write_all(text.as_bytes())?;
            Ok(out.flush()?)
        }
    }
}

fn write_file(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    fs::write(path, bytes).map_err(|e| Failure::write(&path.display().to_string(), &e))
}

/// One object per program: to the file or standard output if there is one, else
/// into a folder.
fn write_objects(programs: &[Program], sources: &Sources, path: Option<&Path>) -> Result<(), Failure> {
    let object = |program: &Program| {
        image::elf(&program.image, &|file, line| source_line(sources, file, line))
            .map_err(|e| Failure::Message(Exit::Limit, format!("{}: {e}", program.image.name)))
    };
    match (programs, path) {
        ([program], Some(path)) if !path.is_dir() => write_file(path, &object(program)?),
        ([_], None) if output::stdout_is_terminal() => {
            Err(Failure::usage("an ELF object is not for a terminal: give -o FILE or redirect the output"))
        }
        ([program], None) => {
            let mut out = output::stdout();
            out.write_all(&object(program)?)?;
            Ok(out.flush()?)
        }
        (_, None) => Err(Failure::usage(format!(
            "{} programs: give -o FOLDER, or choose one with --endpoint and --direction",
            programs.len()
        ))),
        (_, Some(path)) => {
            let problem = |e| Failure::write(&path.display().to_string(), &e);
            fs::create_dir_all(path).map_err(problem)?;
            for program in programs {
                let name = file_name(&program.image.name, program.image.direction);
                write_file(&path.join(name), &object(program)?)?;
            }
            Ok(())
        }
    }
}

/// `shop_web-0.ingress.o`; names of objects hold no character that needs care.
fn file_name(name: &str, direction: Direction) -> String {
    let safe = |c: char| if c.is_ascii_alphanumeric() || "-._".contains(c) { c } else { '_' };
    format!("{}.{}.o", name.chars().map(safe).collect::<String>(), direction.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_names_stay_in_the_folder() {
        assert_eq!(file_name("shop/web-0", Direction::Ingress), "shop_web-0.ingress.o");
        assert_eq!(file_name("../../etc", Direction::Egress), ".._.._etc.egress.o");
    }
}
