//! Where a replay's records go.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use polc_runtime::packet::{Captured, Writer};
use polc_runtime::replay::{DecidedBy, Record};

use super::engine::Timing;
use super::plan::Plan;
use super::{describe, json, table};
use crate::exit::Failure;

/// What is printed per record.
pub enum Output {
    /// Nothing.
    Quiet,
    /// Rows.
    Table {
        /// The rows so far.
        rows: Box<table::Records>,
        /// Whether packets of no endpoint are left out.
        narrowed: bool,
    },
    /// Lines.
    Json,
}

impl Output {
    /// Prints a record.
    #[inline]
    pub fn record(
        &mut self,
        out: &mut impl Write,
        plan: &Plan,
        packet: &Captured<'_>,
        record: &Record,
        timing: Option<Timing>,
    ) -> io::Result<()> {
        match self {
            Self::Quiet => Ok(()),
            Self::Table { narrowed: true, .. }
                if matches!(record.decided_by, DecidedBy::NotAnEndpoint(_)) =>
            {
                Ok(())
            }
            Self::Table { rows, .. } => rows.add(out, plan, packet, record, timing),
            Self::Json => json::write_record(out, plan, packet, record, timing),
        }
    }

    /// Prints what is left.
    pub fn finish(&mut self, out: &mut impl Write) -> io::Result<()> {
        match self {
            Self::Table { rows, .. } => rows.flush(out),
            Self::Quiet | Self::Json => Ok(()),
        }
    }
}

/// The pcapng file of `--write`.
pub struct Annotated<W: Write> {
    path: PathBuf,
    writer: Writer<W>,
}

impl Annotated<BufWriter<File>> {
    /// Creates the file; one that exists is replaced.
    pub fn create(path: &Path) -> Result<Self, Failure> {
        let name = path.display().to_string();
        let file = File::create(path).map_err(|e| Failure::write(&name, &e))?;
        let writer = Writer::new(BufWriter::new(file)).map_err(|e| Failure::usage(format!("{name}: {e}")))?;
        Ok(Self { path: path.to_owned(), writer })
    }

    /// Writes a packet with a comment per record.
    pub fn packet(&mut self, plan: &Plan, packet: &Captured<'_>, records: &[Record]) -> Result<(), Failure> {
        let comments: Vec<String> = records.iter().map(|record| comment(plan, record)).collect();
        self.writer
            .write(packet, &comments)
            .map_err(|e| Failure::usage(format!("{}: {e}", self.path.display())))
    }

    /// Writes what is left.
    pub fn finish(self) -> Result<(), Failure> {
        self.writer.into_inner().flush().map_err(|e| Failure::write(&self.path.display().to_string(), &e))
    }
}

/// `polc: shop/web-0 ingress deny by NetworkPolicy shop/web ingress[1] (policy.yaml:14)`.
fn comment(plan: &Plan, record: &Record) -> String {
    let by = describe::decided_by(plan, record);
    match record.at.map(|at| plan.place(at)) {
        Some(place) => {
            let (direction, verdict) = (place.direction.as_str(), record.verdict.as_str());
            format!("polc: {} {direction} {verdict} by {by}", place.name)
        }
        None => format!("polc: {} ({by})", record.verdict.as_str()),
    }
}
