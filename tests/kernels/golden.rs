//! The golden images (`golden/bytecode`), to be loaded: each as its listing shows it,
//! in the other forms that hold it, and about so many prefixes that addresses are looked
//! up otherwise.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use polc_compiler::emit::{EmitOptions, Form, emit};
use polc_compiler::image::PolicyImage;
use polc_compiler::ir::{PolicyIr, SetKind, parse};
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
    let web = parse(GOLDEN[2].1).unwrap();
    for (what, networks, lengths) in TABLES {
        for max_direct_bytes in [0, EmitOptions::default().max_direct_bytes] {
            let options = EmitOptions { max_direct_bytes, ..EmitOptions::default() };
            let image =
                emit(&about(&web, networks, lengths), &options).unwrap_or_else(|e| panic!("{what}: {e}"));
            images.push((format!("{what}, {max_direct_bytes} bytes direct"), image));
        }
    }
    images
}

/// Address tables of each kind: their name, and the prefixes that lead to them: IPv4 ones
/// in so many networks of 16 bits, and IPv6 ones of these lengths.
const TABLES: [(&str, u32, &[u8]); 4] = [
    ("a home, and a probe for each length", 1, &[48, 64, 128]),
    ("a narrow trie", 20, &[32, 40, 48, 56, 64]),
    ("a wide trie", 600, &[32, 40, 48, 56, 64, 72, 80, 96, 112]),
    ("a sparse trie", 3_000, &[]),
];

/// The policy with such prefixes in each of its sets.
fn about(ir: &PolicyIr, networks: u32, lengths: &[u8]) -> PolicyIr {
    let mut ir = ir.clone();
    for (number, set) in (0..).zip(ir.sets.values_mut()) {
        let v4 = |i: u32| {
            let address = Ipv4Addr::from(0x2800_0000 + (i << 16) + (number << 8));
            IpNet::V4(Ipv4Net::new_assert(address, 24))
        };
        let v6 = |length: &u8| {
            let address = Ipv6Addr::from((0xfd00 << 112) + (u128::from(number) << 96));
            IpNet::V6(Ipv6Net::new_assert(address, *length).trunc())
        };
        set.kind = SetKind::Nets;
        set.nets = (0..networks).map(v4).chain(lengths.iter().map(v6)).collect();
        set.nets.sort_unstable();
        set.nets.dedup();
    }
    ir
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
    // Wide and sparse tries are large, and differ in what a value of theirs holds.
    let trie = |(_, image): &(String, PolicyImage)| {
        let map = image.maps.iter().find(|map| map.name == "polc_nets4")?;
        Some((map.value_size, map.capacity_bytes() > 256 << 10))
    };
    let tries: Vec<_> = images.iter().filter_map(trie).collect();
    for kind in [(1_024, false), (1_024, true), (64, true)] {
        assert!(tries.contains(&kind), "{kind:?}: {tries:?}");
    }
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
