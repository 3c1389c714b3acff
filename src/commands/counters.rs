//! `polc counters dump`: packets by what became of them, in the shape that users
//! of Calico's tool know.

use std::io::Write;

use comfy_table::{Cell, CellAlignment, Table, presets};
use polc_compiler::abi;
use polc_compiler::ir::Direction;
use polc_runtime::kernel::Counters;
use serde::Serialize;

use super::bpffs::{BpfFs, Format};
use crate::exit::{Exit, Failure};
use crate::output as streams;

/// Arguments.
#[derive(clap::Subcommand, Debug)]
pub enum Args {
    /// Print the counters of an interface
    Dump {
        /// The interface
        #[arg(short, long = "iface", visible_alias = "interface", value_name = "IFACE")]
        interface: String,

        /// Form of the output
        #[arg(short, long, default_value = "table")]
        output: Format,

        #[command(flatten)]
        bpffs: BpfFs,
    },
}

/// A row: its category, its name, and the reasons that it adds up.
const ROWS: [(&str, &str, bool, &[u32]); 15] = [
    ("Accepted", "by another program", false, &[abi::REASON_ANOTHER_PROGRAM]),
    ("Accepted", "by failsafe", false, &[abi::REASON_FAILSAFE]),
    ("Accepted", "by policy", false, &[abi::REASON_POLICY]),
    ("Accepted", "by tracked connection", false, &[abi::REASON_CONNTRACK]),
    ("Accepted", "neighbour discovery", false, &[abi::REASON_NEIGHBOUR_DISCOVERY]),
    ("Accepted", "left to normal policy", false, &[abi::REASON_PASSED_ON]),
    ("Accepted", "other protocols than IP", false, &[abi::REASON_NOT_IP]),
    ("Dropped", "by policy", true, &[abi::REASON_POLICY]),
    ("Dropped", "by first fragment's verdict", true, &[abi::REASON_CONNTRACK]),
    ("Dropped", "malformed IP packets", true, &[abi::REASON_MALFORMED]),
    ("Dropped", "too short packets", true, &[abi::REASON_TOO_SHORT]),
    ("Dropped", "unsupported header chains", true, &[abi::REASON_UNSUPPORTED]),
    ("Dropped", "missing policy program", true, &[abi::REASON_NO_PROGRAM]),
    ("Dropped", "missing table entry", true, &[abi::REASON_NO_TABLE]),
    ("Total", "packets", false, &[]),
];

/// Runs the command.
pub fn run(args: &Args) -> Result<Exit, Failure> {
    let Args::Dump { interface, output, bpffs } = args;
    let view = bpffs.view()?;
    let record = view.record(interface)?;
    let ingress = view.counters(record.place(Direction::Ingress).slot)?;
    let egress = view.counters(record.place(Direction::Egress).slot)?;
    let xdp = match &record.untracked_ingress {
        Some(untracked) => view.counters(untracked.counters)?,
        None => Counters::default(),
    };
    let mut out = streams::stdout();
    match output {
        Format::Table => writeln!(out, "{}", table(&ingress, &egress, &xdp))?,
        Format::Json => {
            let rows = ROWS.iter().map(|(category, kind, deny, reasons)| Row {
                category,
                kind,
                ingress: count(&ingress, *deny, reasons),
                egress: count(&egress, *deny, reasons),
                xdp: count(&xdp, *deny, reasons),
            });
            let document = Document {
                api_version: "polc/v1",
                kind: "Counters",
                interface,
                endpoint: &record.endpoint,
                counters: rows.collect(),
            };
            serde_json::to_writer_pretty(&mut out, &document).map_err(std::io::Error::from)?;
            writeln!(out)?;
        }
    }
    out.flush()?;
    Ok(Exit::Ok)
}

/// The sum of a row's reasons; without any, all packets.
fn count(counters: &Counters, deny: bool, reasons: &[u32]) -> u64 {
    if reasons.is_empty() {
        return counters.total();
    }
    reasons.iter().map(|reason| counters.get(deny, *reason)).sum()
}

fn table(ingress: &Counters, egress: &Counters, xdp: &Counters) -> Table {
    let mut table = Table::new();
    table.load_style(STYLE);
    table.set_header(["CATEGORY", "TYPE", "INGRESS", "EGRESS", "XDP"]);
    let mut last = "";
    for (category, kind, deny, reasons) in ROWS {
        let right = |n: u64| Cell::new(n).set_alignment(CellAlignment::Right);
        let shown = if category == last { "" } else { category };
        table.add_row([
            Cell::new(shown),
            Cell::new(kind),
            right(count(ingress, deny, reasons)),
            right(count(egress, deny, reasons)),
            right(count(xdp, deny, reasons)),
        ]);
        last = category;
    }
    table
}

/// Borders as Calico's tool draws them.
const STYLE: comfy_table::TableStyle =
    presets::ASCII_FULL_CONDENSED.header_separator(comfy_table::LineStyle::new('+', '-', '+', '+'));

/// `docs/schema/counters.schema.json` describes it.
#[derive(Serialize)]
struct Document<'a> {
    #[serde(rename = "apiVersion")]
    api_version: &'static str,
    kind: &'static str,
    interface: &'a str,
    endpoint: &'a str,
    counters: Vec<Row<'a>>,
}

#[derive(Serialize)]
struct Row<'a> {
    category: &'a str,
    #[serde(rename = "type")]
    kind: &'a str,
    ingress: u64,
    egress: u64,
    xdp: u64,
}
