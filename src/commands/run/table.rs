//! The table that a person reads, and the summary.
//!
//! Rows are laid out in pages, so that memory does not grow with the capture.
//! The first page decides the columns' least widths, so that later pages line
//! up with it.

use std::io::{self, Write};

use comfy_table::{
    Attribute, Cell, CellAlignment, Color, ColumnConstraint, Table, TableStyle, Width, presets,
};
use polc_compiler::ir::Verdict;
use polc_runtime::packet::Captured;
use polc_runtime::replay::Record;

use super::describe;
use super::engine::Timing;
use super::plan::Plan;
use super::summary::Summary;

/// Rows that are laid out together.
const PAGE: usize = 2000;

/// Lays out records as they come.
pub struct Records {
    page: Table,
    widths: Option<Vec<u16>>,
    color: bool,
    /// Whether each row has its cost.
    timed: bool,
    /// Time of the first packet; times are shown from there.
    start: Option<u64>,
}

impl Records {
    /// An empty table.
    pub fn new(color: bool, timed: bool) -> Self {
        Self { page: table(), widths: None, color, timed, start: None }
    }

    /// Adds a record's row.
    pub fn add(
        &mut self,
        out: &mut impl Write,
        plan: &Plan,
        packet: &Captured<'_>,
        record: &Record,
        timing: Option<Timing>,
    ) -> io::Result<()> {
        let start = *self.start.get_or_insert(packet.time);
        let place = record.at.map(|at| plan.place(at));
        let mut row = vec![
            right(packet.number.to_string()),
            right(seconds(packet.time, start)),
            Cell::new(describe::packet(packet.frame)),
            Cell::new(place.map_or("-", |p| &p.name)),
            Cell::new(place.map_or("-", |p| p.direction.as_str())),
            verdict(record.verdict),
            Cell::new(describe::decided_by(plan, record)),
        ];
        if self.timed {
            let cell = |ns: Option<u64>| right(ns.map_or_else(|| "-".into(), |ns| ns.to_string()));
            row.extend([cell(timing.map(|t| t.ns)), cell(timing.map(|t| t.ns_policy))]);
        }
        self.page.add_row(row);
        if self.page.row_count() >= PAGE { self.flush(out) } else { Ok(()) }
    }

    /// Writes the rows that have not been written.
    pub fn flush(&mut self, out: &mut impl Write) -> io::Result<()> {
        if self.page.is_empty() {
            return Ok(());
        }
        let mut page = std::mem::replace(&mut self.page, table());
        match &self.widths {
            Some(widths) => {
                page.set_constraints(widths.iter().map(|w| least(*w)));
            }
            None => {
                page.set_header(header(if self.timed { COLUMNS } else { &COLUMNS[..COLUMNS.len() - 2] }));
                self.widths = Some(page.column_max_content_widths());
            }
        }
        write(out, page, self.color)
    }
}

/// Column titles; the last two only where evaluations are timed.
const COLUMNS: &[&str] =
    &["packet", "time", "from > to", "endpoint", "direction", "verdict", "decided by", "ns", "ns policy"];

fn least(content: u16) -> ColumnConstraint {
    // A column's width counts its padding.
    ColumnConstraint::LowerBoundary(Width::Fixed(content.saturating_add(PADDING)))
}

/// Spaces behind each column.
const PADDING: u16 = 2;

/// Writes the summary: totals, then what decided how often.
pub fn write_summary(out: &mut impl Write, summary: &Summary, color: bool) -> io::Result<()> {
    writeln!(
        out,
        "{} packets, {} evaluations: {} allowed, {} denied, {} logged",
        summary.packets,
        summary.tally.evaluations,
        summary.tally.allowed,
        summary.tally.denied,
        summary.tally.logged
    )?;
    if summary.tally.other > 0 {
        writeln!(out, "{} packets concern none of the endpoints", summary.tally.other)?;
    }
    if summary.tally.unreadable > 0 {
        writeln!(out, "{} packets have no readable addresses: dropped everywhere", summary.tally.unreadable)?;
    }
    if summary.rows.is_empty() {
        return Ok(());
    }
    writeln!(out)?;
    let mut rows = table();
    rows.set_header(header(&["allowed", "denied", "logged", "decided by"]));
    for row in &summary.rows {
        let count = |n: u64| right(if n == 0 { "-".to_owned() } else { n.to_string() });
        rows.add_row([
            count(row.count.allowed),
            count(row.count.denied),
            count(row.count.logged),
            Cell::new(&row.text),
        ]);
    }
    write(out, rows, color)
}

fn table() -> Table {
    let mut table = Table::new();
    table.load_style(STYLE);
    table
}

const STYLE: TableStyle = presets::NOTHING;

fn header(names: &[&str]) -> Vec<Cell> {
    names.iter().map(|name| Cell::new(name).add_attribute(Attribute::Bold)).collect()
}

fn right(text: String) -> Cell {
    Cell::new(text).set_alignment(CellAlignment::Right)
}

fn verdict(verdict: Verdict) -> Cell {
    let color = match verdict {
        Verdict::Allow => Color::Green,
        Verdict::Deny => Color::Red,
    };
    Cell::new(verdict.as_str()).fg(color)
}

/// Seconds from `start`, to the microsecond; a capture may go back in time.
fn seconds(time: u64, start: u64) -> String {
    let sign = if time < start { "-" } else { "" };
    let us = time.abs_diff(start) / 1000;
    format!("{sign}{}.{:06}", us / 1_000_000, us % 1_000_000)
}

fn write(out: &mut impl Write, mut table: Table, color: bool) -> io::Result<()> {
    for column in table.column_iter_mut() {
        column.set_padding((0, PADDING));
    }
    if color {
        table.enforce_styling();
    } else {
        table.force_no_tty();
    }
    for line in table.lines() {
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_count_from_the_first_packet() {
        assert_eq!(seconds(1_000_000_000, 1_000_000_000), "0.000000");
        assert_eq!(seconds(3_500_001_999, 1_000_000_000), "2.500001");
        assert_eq!(seconds(0, 1_500_000_000), "-1.500000");
    }
}
