//! `polc policy dump`: the policy in force at an interface, rule by rule, with what
//! it hit.

use std::io::Write;

use comfy_table::{Cell, CellAlignment, Table, presets};
use polc_runtime::kernel::{DecisionRecord, ImageRecord};
use serde::Serialize;

use super::DirectionArg;
use super::bpffs::{BpfFs, Format};
use crate::exit::{Exit, Failure};
use crate::output as streams;

/// Arguments.
#[derive(clap::Subcommand, Debug)]
pub enum Args {
    /// Print an interface's rules with their hit counters beside the YAML lines
    Dump {
        /// The interface
        #[arg(value_name = "IFACE")]
        interface: String,

        /// The direction
        direction: DirectionArg,

        /// The untracked policy of a host endpoint, as it stands at XDP (ingress) or
        /// before tracking (egress)
        #[arg(long)]
        untracked: bool,

        /// Print the instructions as well
        #[arg(long)]
        asm: bool,

        /// Form of the output
        #[arg(short, long, default_value = "table")]
        output: Format,

        #[command(flatten)]
        bpffs: BpfFs,
    },
}

/// Runs the command.
pub fn run(args: &Args) -> Result<Exit, Failure> {
    let Args::Dump { interface, direction, untracked, asm, output, bpffs } = args;
    let direction = DirectionArg::directions(Some(*direction))[0];
    let view = bpffs.view()?;
    let record = view.record(interface)?;
    let place = match (untracked, record.untracked_place(direction)) {
        (false, _) => record.place(direction),
        (true, Some(place)) => place,
        (true, None) => {
            let none = format!("interface `{interface}` has no untracked {} policy", direction.as_str());
            return Err(Failure::usage(none));
        }
    };
    let image = view.image(place)?;
    let hits = view.hits(place, &image)?;
    let listing = if *asm { Some(view.listing(place)?) } else { None };
    let mut out = streams::stdout();
    match output {
        Format::Table => {
            writeln!(out, "{interface} ({}) {}", record.endpoint, direction.as_str())?;
            writeln!(out, "{}", table(&image, hits.as_deref()))?;
            if let Some(listing) = listing {
                write!(out, "\n{listing}")?;
            }
        }
        Format::Json => {
            let rule = |(index, decision)| Rule {
                hits: hits.as_ref().and_then(|hits| hits.get::<usize>(index).copied()),
                decided_by: decision,
                at: at(&image, decision),
            };
            let document = Document {
                api_version: "polc/v1",
                kind: "Policy",
                interface,
                endpoint: &record.endpoint,
                direction: direction.as_str(),
                rules: image.decisions.iter().enumerate().map(rule).collect(),
                listing,
            };
            serde_json::to_writer_pretty(&mut out, &document).map_err(std::io::Error::from)?;
            writeln!(out)?;
        }
    }
    out.flush()?;
    Ok(Exit::Ok)
}

/// `policy.yaml:12`.
pub(super) fn at(image: &ImageRecord, decision: &DecisionRecord) -> Option<String> {
    let (file, line, _) = decision.at?;
    Some(format!("{}:{line}", image.files.get(file as usize)?))
}

/// What decides, in words.
pub(super) fn words(decision: &DecisionRecord) -> String {
    let name = match &decision.namespace {
        Some(namespace) => format!("{namespace}/{}", decision.name),
        None => decision.name.clone(),
    };
    match (decision.kind.as_str(), decision.rule) {
        ("rule", Some(rule)) => format!("{} {name} rule {rule}", decision.object),
        ("tier-default", _) => format!("end of tier {name}"),
        ("profile", Some(rule)) => format!("profile {name} rule {rule}"),
        ("no-profile-match", _) => "no profile matched".into(),
        (kind, _) => {
            let words = [kind, &decision.object, &name];
            words.into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
        }
    }
}

fn table(image: &ImageRecord, hits: Option<&[u64]>) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["HITS", "ACTION", "RULE", "WHERE", "LINE"]);
    for (index, decision) in image.decisions.iter().enumerate() {
        let hits = hits.and_then(|hits| hits.get(index)).map_or("-".into(), u64::to_string);
        table.add_row([
            Cell::new(hits).set_alignment(CellAlignment::Right),
            Cell::new(&decision.action),
            Cell::new(words(decision)),
            Cell::new(at(image, decision).unwrap_or_default()),
            Cell::new(decision.text.as_deref().unwrap_or_default()),
        ]);
    }
    table
}

/// `docs/schema/policy.schema.json` describes it.
#[derive(Serialize)]
struct Document<'a> {
    #[serde(rename = "apiVersion")]
    api_version: &'static str,
    kind: &'static str,
    interface: &'a str,
    endpoint: &'a str,
    direction: &'static str,
    rules: Vec<Rule<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    listing: Option<String>,
}

#[derive(Serialize)]
struct Rule<'a> {
    hits: Option<u64>,
    decided_by: &'a DecisionRecord,
    at: Option<String>,
}
