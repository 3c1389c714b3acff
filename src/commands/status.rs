//! `polc status`: what is attached, and how it is.

use std::io::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use comfy_table::{Table, presets};
use polc_compiler::ir::Direction;
use polc_runtime::kernel::{DirectionStatus, InterfaceStatus};
use serde::Serialize;

use super::bpffs::{BpfFs, Format};
use crate::exit::{Exit, Failure};
use crate::output as streams;

/// Arguments.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Form of the output
    #[arg(short, long, default_value = "table")]
    output: Format,

    #[command(flatten)]
    bpffs: BpfFs,
}

/// Runs the command: exit code 1 if something is not as it should be.
pub fn run(args: &Args) -> Result<Exit, Failure> {
    let all = args.bpffs.view()?.attachments()?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let mut out = streams::stdout();
    match args.output {
        Format::Table if all.is_empty() => writeln!(out, "nothing is attached")?,
        Format::Table => writeln!(out, "{}", table(&all, now))?,
        Format::Json => {
            let document = Document {
                api_version: "polc/v1",
                kind: "Status",
                interfaces: all.iter().map(|a| Interface::new(a, now)).collect(),
            };
            serde_json::to_writer_pretty(&mut out, &document).map_err(std::io::Error::from)?;
            writeln!(out)?;
        }
    }
    out.flush()?;
    let whole = all.iter().all(|a| a.directions.iter().all(|d| state(a, d) == "enforced"));
    Ok(if whole { Exit::Ok } else { Exit::Finding })
}

/// `enforced`, or what is wrong.
fn state(attachment: &InterfaceStatus, direction: &DirectionStatus) -> &'static str {
    match (&attachment.name, direction.entry, direction.in_force) {
        (None, _, _) => "interface gone or elsewhere",
        (_, None, _) => "not attached",
        (_, _, false) => "update interrupted",
        _ => "enforced",
    }
}

/// Where a direction's entry program is.
fn hook(attachment: &InterfaceStatus, direction: &DirectionStatus) -> &'static str {
    match (direction.untracked, direction.direction) {
        (true, Direction::Ingress) => "xdp",
        _ => attachment.record.hook.as_str(),
    }
}

fn table(all: &[InterfaceStatus], now: u64) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header([
        "INTERFACE",
        "ENDPOINT",
        "DIRECTION",
        "HOOK",
        "STATE",
        "ENTRY",
        "POLICY",
        "INSNS",
        "MAPS",
        "AGE",
        "UPDATED",
    ]);
    for attachment in all {
        let record = &attachment.record;
        for direction in &attachment.directions {
            table.add_row([
                attachment.name.as_ref().unwrap_or(&record.interface).clone(),
                record.endpoint.clone(),
                if direction.untracked {
                    format!("{} untracked", direction.direction.as_str())
                } else {
                    direction.direction.as_str().into()
                },
                hook(attachment, direction).into(),
                state(attachment, direction).into(),
                direction.entry.map_or("-".into(), |id| id.to_string()),
                ids(&direction.programs),
                direction.instructions.to_string(),
                memory(direction.map_memory, direction.shared_map_memory),
                age(now, record.attached_at),
                age(now, record.updated_at),
            ]);
        }
    }
    table
}

fn ids(ids: &[u32]) -> String {
    ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

fn bytes(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{:.1} KiB", bytes as f64 / 1024.0),
        _ => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
    }
}

/// All bytes, and how many of them other policies' programs use as well.
fn memory(all: u64, shared: u64) -> String {
    match shared {
        0 => bytes(all),
        shared => format!("{} ({} shared)", bytes(all), bytes(shared)),
    }
}

/// The largest unit that gives a whole number, as kubectl shows ages.
fn age(now: u64, then: u64) -> String {
    let seconds = now.saturating_sub(then);
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7200 => format!("{}m", seconds / 60),
        7200..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// `docs/schema/status.schema.json` describes it.
#[derive(Serialize)]
struct Document<'a> {
    #[serde(rename = "apiVersion")]
    api_version: &'static str,
    kind: &'static str,
    interfaces: Vec<Interface<'a>>,
}

#[derive(Serialize)]
struct Interface<'a> {
    interface: &'a str,
    ifindex: u32,
    present: bool,
    endpoint: &'a str,
    host: bool,
    hook: &'static str,
    age_seconds: u64,
    updated_seconds_ago: u64,
    directions: Vec<DirectionJson<'a>>,
}

#[derive(Serialize)]
struct DirectionJson<'a> {
    direction: &'static str,
    untracked: bool,
    hook: &'static str,
    state: &'static str,
    entry_program: Option<u32>,
    slot: u32,
    image: &'a str,
    programs: &'a [u32],
    instructions: u32,
    verified_instructions: u32,
    machine_code_bytes: u32,
    map_memory_bytes: u64,
    shared_map_memory_bytes: u64,
}

impl<'a> Interface<'a> {
    fn new(attachment: &'a InterfaceStatus, now: u64) -> Self {
        let record = &attachment.record;
        Self {
            interface: attachment.name.as_ref().unwrap_or(&record.interface),
            ifindex: record.ifindex,
            present: attachment.name.is_some(),
            endpoint: &record.endpoint,
            host: record.host,
            hook: record.hook.as_str(),
            age_seconds: now.saturating_sub(record.attached_at),
            updated_seconds_ago: now.saturating_sub(record.updated_at),
            directions: attachment.directions.iter().map(|d| DirectionJson::new(attachment, d)).collect(),
        }
    }
}

impl<'a> DirectionJson<'a> {
    fn new(attachment: &InterfaceStatus, direction: &'a DirectionStatus) -> Self {
        Self {
            direction: direction.direction.as_str(),
            untracked: direction.untracked,
            hook: hook(attachment, direction),
            state: state(attachment, direction),
            entry_program: direction.entry,
            slot: direction.slot,
            image: &direction.image,
            programs: &direction.programs,
            instructions: direction.instructions,
            verified_instructions: direction.verified_instructions,
            machine_code_bytes: direction.machine_code,
            map_memory_bytes: direction.map_memory,
            shared_map_memory_bytes: direction.shared_map_memory,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_and_sizes_have_one_unit() {
        let ages: Vec<_> = [5, 119, 120, 7199, 7200, 172_800].map(|s| age(s, 0)).into();
        assert_eq!(ages, ["5s", "119s", "2m", "119m", "2h", "2d"]);
        assert_eq!(age(3, 9), "0s");
        assert_eq!([0, 2048, 3 << 20].map(bytes), ["0 B", "2.0 KiB", "3.0 MiB"]);
        assert_eq!([memory(2048, 0), memory(3 << 20, 512)], ["2.0 KiB", "3.0 MiB (512 B shared)"]);
    }
}
