//! Golden sizes: what every golden policy and every shape of the dispatch bench
//! compiles to, in one file: form, programs, instructions, and the bytes of each
//! table. A change of cost shows there at a glance; listings say where it comes from.
//!
//! `INSTA_UPDATE=always` accepts new sizes.

#[path = "../../benches/dispatch/shapes.rs"]
#[expect(dead_code, reason = "the packets are for other users")]
mod shapes;

use std::fmt::Write as _;
use std::path::Path;

use polc_compiler::compile::{CompileOptions, compile};
use polc_compiler::image::PolicyImage;
use polc_compiler::ir::{PolicyIr, parse, verify};

use shapes::{Shape, workload};

const RULES: [usize; 4] = [1, 10, 100, 1_000];

#[test]
fn sizes() {
    let mut text = String::new();
    for folder in ["bytecode", "ir"] {
        for (name, ir) in golden(folder) {
            line(&mut text, &format!("{folder}/{name}"), ir);
        }
    }
    for shape in Shape::ALL {
        for rules in RULES {
            line(&mut text, &format!("{} {rules}", shape.name()), workload(shape, rules).ir);
        }
    }
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("../../golden");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!("sizes", text));
}

/// The valid policies of a folder, by name.
fn golden(folder: &str) -> Vec<(String, PolicyIr)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../golden").join(folder);
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|e| e == "pir"));
    files.sort();
    let read = |path: &std::path::PathBuf| {
        let ir = parse(&std::fs::read_to_string(path).unwrap()).unwrap();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        verify(&ir).is_ok().then_some((name, ir))
    };
    files.iter().filter_map(read).collect()
}

fn line(text: &mut String, name: &str, ir: PolicyIr) {
    let image = match compile(ir, &CompileOptions::default()) {
        Ok(image) => image,
        Err(error) => return writeln!(text, "{name}: {error}").unwrap(),
    };
    let slots: u32 = image.programs.iter().map(|program| program.code.slots()).sum();
    let programs =
        if image.programs.len() == 1 { String::new() } else { format!(" in {}", image.programs.len()) };
    write!(text, "{name}: {}, {slots} slots{programs};", form(&image)).unwrap();
    for map in &image.maps {
        let bytes = u64::from(map.value_size) * u64::from(map.max_entries);
        write!(text, " {} {bytes}", map.name.trim_start_matches("polc_")).unwrap();
    }
    text.push('\n');
}

/// The form, as its maps tell.
fn form(image: &PolicyImage) -> &'static str {
    let has = |name: &str| image.maps.iter().any(|map| map.name == name);
    let tables = [
        ("polc_records", "bits"),
        ("polc_cross", "cross"),
        ("polc_cells", "cells"),
        ("polc_defaults", "columns"),
        ("polc_ports", "columns"),
    ];
    tables.into_iter().find(|(map, _)| has(map)).map_or("code", |(_, form)| form)
}
