//! `-o json`; `docs/schema/explain.schema.json` describes it.

use std::io::{self, Write};
use std::net::IpAddr;

use polc_compiler::explain::{StepView, TierView};
use polc_runtime::packet::parse::{Parsed, parse};
use serde::Serialize;

use super::Report;
use super::evaluate::Section;
use crate::commands::run::describe;
use crate::commands::run::json::{API_VERSION, Decider, Place};

#[derive(Serialize)]
struct Document<'a> {
    #[serde(rename = "apiVersion")]
    api_version: &'static str,
    kind: &'static str,
    packet: PacketView,
    stateless: bool,
    verdict: &'static str,
    endpoints: Vec<EndpointView<'a>>,
}

#[derive(Serialize)]
struct PacketView {
    /// Number in the capture.
    number: Option<u64>,
    text: String,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    flow: Option<FlowView>,
}

#[derive(Serialize)]
struct FlowView {
    src: IpAddr,
    dst: IpAddr,
    protocol: u8,
    sport: Option<u16>,
    dport: Option<u16>,
    icmp_type: Option<u8>,
    icmp_code: Option<u8>,
}

#[derive(Serialize)]
struct EndpointView<'a> {
    endpoint: &'a str,
    direction: &'static str,
    verdict: &'static str,
    decided_by: Decider<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    at: Option<Place<'a>>,
    logged: u32,
    tiers: &'a [TierView],
    instructions: &'a [StepView],
}

/// Writes the report as one object.
pub fn write(out: &mut impl Write, report: &Report) -> io::Result<()> {
    let document = Document {
        api_version: API_VERSION,
        kind: "Explanation",
        packet: packet(report),
        stateless: report.stateless,
        verdict: report.verdict().as_str(),
        endpoints: report.sections.iter().map(endpoint).collect(),
    };
    serde_json::to_writer_pretty(&mut *out, &document)?;
    out.write_all(b"\n")
}

fn packet(report: &Report) -> PacketView {
    let frame = &report.subject.frame;
    let flow = match parse(frame) {
        Parsed::Ip(headers) => Some(headers.flow),
        _ => None,
    };
    let flow = flow.map(|flow| FlowView {
        src: flow.src,
        dst: flow.dst,
        protocol: flow.protocol,
        sport: flow.ports.map(|(port, _)| port),
        dport: flow.ports.map(|(_, port)| port),
        icmp_type: flow.icmp.map(|(icmp_type, _)| icmp_type),
        icmp_code: flow.icmp.map(|(_, code)| code),
    });
    PacketView { number: report.subject.number, text: describe::packet(frame), flow }
}

fn endpoint(section: &Section) -> EndpointView<'_> {
    let explanation = section.explanation.as_ref();
    EndpointView {
        endpoint: &section.place.name,
        direction: section.place.direction.as_str(),
        verdict: section.record.verdict.as_str(),
        decided_by: section.decider(),
        at: section.at.as_ref().map(|(file, line, column)| Place { file, line: *line, column: *column }),
        logged: section.record.logged,
        tiers: explanation.map(|e| e.tiers.as_slice()).unwrap_or_default(),
        instructions: explanation.map(|e| e.instructions.as_slice()).unwrap_or_default(),
    }
}
