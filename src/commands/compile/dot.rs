//! `polc compile --emit dot`: chains and rules as a Graphviz graph. A packet
//! enters at the first chain; solid edges are matches, dashed edges go on.

use std::fmt::Write as _;

use polc_compiler::ir::{Action, Chain, ChainEnd, PolicyIr};

/// Adds the graph of one policy.
pub fn graph(text: &mut String, ir: &PolicyIr) {
    let _ = writeln!(text, "digraph {} {{", quoted(&format!("{} {}", ir.name, ir.direction.as_str())));
    text.push_str("  rankdir=TB; node [shape=box, fontname=monospace];\n");
    text.push_str("  allow [shape=oval]; deny [shape=oval];\n");
    for (i, id) in ir.order.iter().enumerate() {
        chain(text, ir, *id, ir.order.get(i + 1).copied());
    }
    text.push_str("}\n");
}

fn chain(text: &mut String, ir: &PolicyIr, id: Chain, next: Option<Chain>) {
    let data = &ir.chains[id];
    let next = next.map_or_else(|| "deny".to_owned(), |c| c.to_string());
    let _ = writeln!(text, "  subgraph cluster_{id} {{\n    label={};", quoted(&data.name));
    let _ = writeln!(text, "    {id} [shape=point];");
    for rule in &data.rules {
        let _ = writeln!(text, "    {rule} [label={}];", quoted(&ir.rules[*rule].to_string()));
    }
    text.push_str("  }\n");
    let mut from = id.to_string();
    for rule in &data.rules {
        let _ = writeln!(text, "  {from} -> {rule} [style=dashed];");
        from = rule.to_string();
        let target = match ir.rules[*rule].action {
            Action::Allow => "allow",
            Action::Deny => "deny",
            Action::Pass => &next,
            Action::Log => continue,
        };
        let _ = writeln!(text, "  {rule} -> {target};");
    }
    let end = match data.end {
        ChainEnd::Allow(_) => "allow",
        ChainEnd::Deny(_) => "deny",
        ChainEnd::Pass => &next,
    };
    let _ = writeln!(text, "  {from} -> {end} [style=dashed];");
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}
