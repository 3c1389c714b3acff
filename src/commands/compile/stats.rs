//! `polc compile --stats`: which form each program has and why, and what it takes.

use std::fmt::Write as _;

use polc_compiler::cost::Cost;
use polc_compiler::image::{Considered, MapSpec, PolicyImage};

/// Appends what there is to say about an image.
pub(super) fn image(text: &mut String, image: &PolicyImage) {
    let _ = write(text, image);
}

fn write(text: &mut String, image: &PolicyImage) -> std::fmt::Result {
    writeln!(text, "{} {}", image.name, image.direction.as_str())?;
    let mut forms = image.considered.iter();
    if let Some(taken) = forms.next() {
        writeln!(text, "  form          {}", estimate(taken))?;
    }
    for (i, other) in forms.enumerate() {
        writeln!(text, "  {:13} {}", if i == 0 { "instead of" } else { "" }, estimate(other))?;
    }
    let slots: u32 = image.programs.iter().map(|p| p.code.slots()).sum();
    writeln!(text, "  instructions  {slots} in {} program(s)", image.programs.len())?;
    writeln!(text, "  decisions     {}", image.decisions.len())?;
    let total: u64 = image.maps.iter().map(MapSpec::capacity_bytes).sum();
    writeln!(text, "  tables        {} in all", kib(total))?;
    for map in &image.maps {
        let how = match (map.direct, map.kind.as_str()) {
            (true, _) => "addressed directly",
            (false, kind) => kind,
        };
        writeln!(text, "    {:15} {:>12}  {how}", map.name, kib(map.capacity_bytes()))?;
    }
    Ok(())
}

fn estimate(considered: &Considered) -> String {
    match &considered.estimate {
        Ok((Cost { hot, spread }, bytes)) => format!(
            "{}: about {}.{} ns hot, {}.{} ns spread, {} of its own",
            considered.form,
            hot / 10,
            hot % 10,
            spread / 10,
            spread % 10,
            kib(*bytes)
        ),
        Err(why) => format!("{}: {why}", considered.form),
    }
}

fn kib(bytes: u64) -> String {
    format!("{}.{} KiB", bytes / 1024, bytes % 1024 * 10 / 1024)
}
