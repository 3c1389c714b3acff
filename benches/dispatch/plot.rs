//! docs/dispatch.svg: ns per packet over the number of rules, both logarithmic; a panel
//! for each of six shapes. Solid lines are hot packets, dashed ones the spread.

use std::fmt::Write as _;

use crate::report::{Row, Side};
use crate::shapes::Shape;
use crate::{Failure, failed};

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/dispatch.svg");
const PANELS: [Shape; 6] =
    [Shape::SelectorPort, Shape::CidrPort, Shape::Mix, Shape::Overlap, Shape::OverlapBoth, Shape::Lengths6];
/// Pixels of a panel's plot, and around it.
const WIDTH: f64 = 300.0;
const HEIGHT: f64 = 230.0;
const LEFT: f64 = 56.0;
const TOP: f64 = 60.0;
const GAP: f64 = 64.0;
/// Decades of the axes: rules, ns.
const RULES: (i32, i32) = (0, 5);
const NS: (i32, i32) = (0, 7);

type Pick = fn(&Row) -> &Side;
const SERIES: [(&str, &str, Pick); 3] = [
    ("polc", "#1b6ac9", |row| &row.polc),
    ("linear", "#c0392b", |row| &row.linear),
    ("nftables", "#7a7a1f", |row| &row.nftables),
];

/// Writes the file.
pub fn write(rows: &[Row]) -> Result<(), Failure> {
    std::fs::write(PATH, svg(rows)?).map_err(|e| failed(format!("{PATH}: {e}")))
}

fn svg(rows: &[Row]) -> Result<String, Failure> {
    let (columns, lines) = (3.0, 2.0);
    let (width, height) = (columns * (WIDTH + GAP) + LEFT, TOP + lines * (HEIGHT + GAP));
    let mut out = String::new();
    writeln!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>"
    )?;
    writeln!(
        out,
        "<text x=\"{LEFT}\" y=\"20\">ns per packet over the floor; solid: one hot packet, dashed: 4,096 packets in turn</text>"
    )?;
    for (i, (name, colour, _)) in SERIES.iter().enumerate() {
        let x = LEFT + 110.0 * i as f64;
        writeln!(
            out,
            "<path d=\"M{x} 34h24\" stroke=\"{colour}\" stroke-width=\"2\"/><text x=\"{}\" y=\"38\">{name}</text>",
            x + 30.0
        )?;
    }
    for (i, shape) in PANELS.into_iter().enumerate() {
        let (x, y) = (LEFT + (WIDTH + GAP) * (i % 3) as f64, TOP + (HEIGHT + GAP) * (i / 3) as f64);
        writeln!(out, "<g transform=\"translate({x} {y})\">")?;
        panel(&mut out, shape, rows)?;
        writeln!(out, "</g>")?;
    }
    out.push_str("</svg>\n");
    Ok(out)
}

fn panel(out: &mut String, shape: Shape, rows: &[Row]) -> Result<(), Failure> {
    writeln!(out, "<text y=\"-6\" font-weight=\"bold\">{}</text>", shape.name())?;
    for decade in RULES.0..=RULES.1 {
        let x = across(10_f64.powi(decade));
        writeln!(
            out,
            "<path d=\"M{x:.1} 0v{HEIGHT}\" stroke=\"#ddd\"/><text x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\">1e{decade}</text>",
            HEIGHT + 16.0
        )?;
    }
    for decade in NS.0..=NS.1 {
        let y = down(10_f64.powi(decade));
        writeln!(
            out,
            "<path d=\"M0 {y:.1}h{WIDTH}\" stroke=\"#ddd\"/><text x=\"-6\" y=\"{:.1}\" text-anchor=\"end\">1e{decade}</text>",
            y + 4.0
        )?;
    }
    for (_, colour, side) in SERIES {
        let of_shape = || rows.iter().filter(|row| row.shape == shape);
        let hot = of_shape().filter_map(|row| figures(side(row)).map(|f| (row.rules, f.0)));
        line(out, colour, "", hot)?;
        let spread = of_shape().filter_map(|row| figures(side(row)).map(|f| (row.rules, f.1)));
        line(out, colour, " stroke-dasharray=\"4 3\"", spread)?;
    }
    Ok(())
}

fn figures(side: &Side) -> Option<(f64, f64)> {
    match side {
        Side::Measured { hot, spread, .. } => Some((*hot, *spread)),
        _ => None,
    }
}

fn line(
    out: &mut String,
    colour: &str,
    dashes: &str,
    points: impl Iterator<Item = (usize, f64)>,
) -> Result<(), Failure> {
    let points: Vec<String> =
        points.map(|(rules, ns)| format!("{:.1},{:.1}", across(rules as f64), down(ns))).collect();
    writeln!(
        out,
        "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"{dashes}/>",
        points.join(" ")
    )?;
    Ok(())
}

fn across(rules: f64) -> f64 {
    WIDTH * (rules.log10() - f64::from(RULES.0)) / f64::from(RULES.1 - RULES.0)
}

/// What is below the axis' start stands on it.
fn down(ns: f64) -> f64 {
    let low = f64::from(NS.0);
    HEIGHT * (1.0 - (ns.max(1e-3).log10().max(low) - low) / f64::from(NS.1 - NS.0))
}
