//! The golden images (`golden/bytecode`), to be loaded: each as its listing shows it,
//! and in the other forms that hold it.

use polc_compiler::emit::{EmitOptions, Form, emit};
use polc_compiler::image::PolicyImage;
use polc_compiler::ir::{SetKind, parse};
use polc_runtime::kernel::KernelEngine;
use polc_runtime::{AttachmentSpec, EngineError};

macro_rules! golden {
    ($name:literal) => {
        ($name, include_str!(concat!("../../golden/bytecode/", $name, ".pir")))
    };
}

/// Every one, since a virtual machine has no folder to look into; a test compares.
const GOLDEN: [(&str, &str); 3] = [golden!("split"), golden!("tiers"), golden!("web")];

fn images() -> Vec<(String, PolicyImage)> {
    let mut images = Vec::new();
    for (name, text) in GOLDEN {
        let ir = parse(text).unwrap_or_else(|e| panic!("{name}: {e}"));
        // A budget of slots is a chain's.
        let budget = text.lines().find_map(|line| line.strip_prefix("# slots "));
        let slots = budget.map(|slots| slots.trim().parse().unwrap());
        let forms = [Form::Auto, Form::Chain, Form::Dense, Form::Sparse, Form::Bits, Form::Cross];
        let usual = EmitOptions::default();
        for form in forms {
            let max_slots = slots.filter(|_| form == Form::Chain).unwrap_or(usual.max_slots);
            if let Ok(image) = emit(&ir, &EmitOptions { form, max_slots, ..usual }) {
                images.push((format!("{name} as {form:?}"), image));
            }
            // As large tables are: looked into.
            if let Ok(image) = emit(&ir, &EmitOptions { form, max_slots, max_direct_bytes: 0, ..usual }) {
                images.push((format!("{name} as {form:?}, looked into"), image));
            }
        }
        // Few rules whose sets stand in the policy: prefixes are compared.
        let mut listed = ir.clone();
        listed.sets.values_mut().for_each(|set| set.kind = SetKind::Nets);
        if let Ok(image) = emit(&listed, &EmitOptions { form: Form::Direct, ..usual }) {
            images.push((format!("{name} as Direct"), image));
        }
    }
    images
}

/// Has the kernel verify every image: how many there are.
///
/// # Errors
/// [`EngineError::Unavailable`] where nobody may load.
pub fn verify(entry: &[u8]) -> Result<usize, EngineError> {
    let images = images();
    for (name, image) in &images {
        let spec = AttachmentSpec { endpoint: 1, direction: image.direction, image };
        match KernelEngine::new(entry, &[spec], false) {
            Ok(_) => {}
            Err(e @ EngineError::Unavailable { .. }) => return Err(e),
            Err(e) => panic!("{name}: {e}"),
        }
    }
    Ok(images.len())
}

#[test]
fn all_are_here_and_in_more_than_one_form() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/golden/bytecode");
    let mut there: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .filter_map(|entry| Some(entry.unwrap().file_name().to_str()?.strip_suffix(".pir")?.to_owned()))
        .collect();
    there.sort();
    assert_eq!(there, GOLDEN.map(|(name, _)| name));
    let images = images();
    for (name, _) in GOLDEN {
        let of = |form: &str| images.iter().any(|(image, _)| *image == format!("{name} as {form}"));
        assert!(of("Auto") && of("Chain"), "{name}");
    }
    assert!(images.iter().any(|(_, image)| image.programs.len() > 1), "one is a chain of programs");
}

#[test]
fn verified_by_this_machines_kernel() {
    match verify(super::guest::ENTRY) {
        Ok(count) => assert!(count > GOLDEN.len()),
        Err(e) => {
            let required = std::env::var_os("POLC_REQUIRE_KERNEL").is_some_and(|v| v == "1");
            assert!(!required, "{e}");
            eprintln!("skipped: {e}");
        }
    }
}
