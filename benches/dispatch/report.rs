//! The table.

use std::fmt;
use std::time::Duration;

use crate::shapes::Shape;

/// What a program takes beside time per packet.
pub struct Size {
    pub slots: u32,
    pub map_bytes: u64,
    /// From IR to image; none for peers.
    pub build: Option<Duration>,
    /// Verify and JIT.
    pub load: Option<Duration>,
    /// Creating and filling maps.
    pub fill: Duration,
}

/// One of the compared.
pub enum Side {
    Measured {
        /// ns over the floor: the worst of first, last and no rule.
        hot: f64,
        /// ns over the floor: 4,096 packets in turn.
        spread: f64,
        /// ns of the floor in the same runs.
        floor: f64,
        size: Option<Size>,
        /// Packets that were decided otherwise than by the reference.
        mismatches: usize,
    },
    /// Does not load or fit, and why.
    Not(String),
    /// Not asked for.
    Left,
}

pub struct Row {
    pub shape: Shape,
    pub rules: usize,
    pub polc: Side,
    pub linear: Side,
    pub nftables: Side,
}

impl Row {
    pub fn mismatches(&self) -> usize {
        let count = |side: &Side| if let Side::Measured { mismatches, .. } = side { *mismatches } else { 0 };
        [&self.polc, &self.linear, &self.nftables].into_iter().map(count).sum()
    }
}

pub fn print_head() {
    println!(
        "{:17} {:>7} | {:>8} {:>8} {:>6} {:>10} {:>9} {:>8} {:>8} | {:>10} {:>10} | {:>8} {:>8}",
        "ns over the floor",
        "rules",
        "hot",
        "spread",
        "insns",
        "map KiB",
        "build ms",
        "load ms",
        "fill ms",
        "linear hot",
        "spread",
        "nft hot",
        "spread"
    );
}

/// The floor and how far apart its figures lie: the noise.
pub fn print_floor(rows: &[Row]) {
    let floors = rows.iter().filter_map(|row| match row.polc {
        Side::Measured { floor, .. } => Some(floor),
        _ => None,
    });
    let (least, most) = floors.fold((f64::INFINITY, 0.0_f64), |(a, b), f| (a.min(f), b.max(f)));
    println!("floor (state look-up, constant tail call): {least:.1} to {most:.1} ns in the rows above");
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:17} {:>7} |", self.shape.name(), self.rules)?;
        match &self.polc {
            Side::Measured { hot, spread, size, .. } => {
                write!(f, " {hot:>8.1} {spread:>8.1}")?;
                if let Some(size) = size {
                    write!(f, " {:>6} {:>10.1}", size.slots, size.map_bytes as f64 / 1024.0)?;
                    let load = size.load.map_or(0.0, ms);
                    write!(f, " {:>9.2} {load:>8.2} {:>8.2} |", size.build.map_or(0.0, ms), ms(size.fill))?;
                }
            }
            Side::Not(why) => write!(f, " {why:>63} |")?,
            Side::Left => write!(f, " {:>63} |", "")?,
        }
        let mut notes = Vec::new();
        for (name, side, width) in [("linear", &self.linear, 10), ("nft", &self.nftables, 8)] {
            match side {
                Side::Measured { hot, spread, .. } => write!(f, " {hot:>width$.1} {spread:>width$.1}")?,
                Side::Not(why) => {
                    write!(f, " {:>width$} {:>width$}", "-", "-")?;
                    notes.push(format!("{name}: {why}"));
                }
                Side::Left => write!(f, " {:>width$} {:>width$}", "", "")?,
            }
            if name == "linear" {
                write!(f, " |")?;
            }
        }
        match self.mismatches() {
            0 => {}
            n => notes.push(format!("{n} MISMATCHES")),
        }
        if notes.is_empty() { Ok(()) } else { write!(f, "  {}", notes.join("; ")) }
    }
}
