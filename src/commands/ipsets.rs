//! `polc ipsets dump`: the address sets of the policies in force.

use std::io::Write;

use serde::Serialize;

use super::bpffs::{BpfFs, Format};
use crate::exit::{Exit, Failure};
use crate::output as streams;

/// Arguments.
#[derive(clap::Subcommand, Debug)]
pub enum Args {
    /// Print every set with its members
    Dump {
        /// Form of the output
        #[arg(short, long, default_value = "table")]
        output: Format,

        #[command(flatten)]
        bpffs: BpfFs,
    },
}

/// Runs the command.
pub fn run(args: &Args) -> Result<Exit, Failure> {
    let Args::Dump { output, bpffs } = args;
    let sets = bpffs.view()?.sets()?;
    let mut out = streams::stdout();
    match output {
        Format::Table => {
            for (name, members) in &sets {
                writeln!(out, "IP set {:#x}  {name}", id(name))?;
                members.iter().try_for_each(|member| writeln!(out, "   {member}"))?;
                writeln!(out)?;
            }
        }
        Format::Json => {
            let sets = sets.iter().map(|(name, members)| {
                let id = format!("{:#x}", id(name));
                Set { id, name, members }
            });
            let document = Document { api_version: "polc/v1", kind: "IPSets", sets: sets.collect() };
            serde_json::to_writer_pretty(&mut out, &document).map_err(std::io::Error::from)?;
            writeln!(out)?;
        }
    }
    out.flush()?;
    Ok(Exit::Ok)
}

/// A stable number for a set: FNV-1a of its canonical name, 64 bits.
fn id(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// `docs/schema/ipsets.schema.json` describes it.
#[derive(Serialize)]
struct Document<'a> {
    #[serde(rename = "apiVersion")]
    api_version: &'static str,
    kind: &'static str,
    sets: Vec<Set<'a>>,
}

#[derive(Serialize)]
struct Set<'a> {
    id: String,
    name: &'a String,
    members: &'a Vec<String>,
}

#[cfg(test)]
mod tests {
    #[test]
    fn ids_are_fnv_1a() {
        // The published test vectors.
        assert_eq!(super::id(""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(super::id("a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(super::id("foobar"), 0x8594_4171_f739_67e8);
    }
}
