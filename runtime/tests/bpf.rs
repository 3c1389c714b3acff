//! The wrappers around `bpf(2)`. Skipped, with the reason printed, without the
//! privileges; with POLC_REQUIRE_KERNEL=1 that is a failure.
#![cfg(target_os = "linux")]

use polc_runtime::sys::bpf::{
    DebugInfo, Link, Map, MapDefinition, MappedArray, ObjectKind, Program, ProgramKind, ProgramSource,
    object_ids,
};
use polc_runtime::sys::{PrivateBpfFs, possible_cpus};

/// `BPF_F_MMAPABLE`.
const MMAPABLE: u32 = 1 << 10;
const HASH: u32 = 1;
const ARRAY: u32 = 2;
const PROG_ARRAY: u32 = 3;
const PERCPU_ARRAY: u32 = 6;

fn fs() -> Option<PrivateBpfFs> {
    match PrivateBpfFs::new() {
        Ok(fs) => Some(fs),
        Err(e) => {
            let required = std::env::var_os("POLC_REQUIRE_KERNEL").is_some_and(|v| v == "1");
            assert!(!required, "{e:?}");
            eprintln!("skipped: no bpffs: {e}");
            None
        }
    }
}

fn map(kind: u32, value_size: u32, max_entries: u32, flags: u32) -> Map {
    Map::create("test", &MapDefinition { kind, key_size: 4, value_size, max_entries, flags }).unwrap()
}

/// `r0 = value; exit`.
fn returning(value: i32) -> Vec<u8> {
    let mut code = vec![0xb7, 0, 0, 0];
    code.extend(value.to_le_bytes());
    code.extend([0x95, 0, 0, 0, 0, 0, 0, 0]);
    code
}

fn load(code: &[u8]) -> Result<Program, polc_runtime::sys::bpf::LoadError> {
    Program::load(&ProgramSource {
        name: "test",
        kind: ProgramKind::Classifier,
        code,
        license: "Apache-2.0",
        debug: DebugInfo::default(),
    })
}

#[test]
fn values_come_back_as_they_were_written() {
    let Some(_fs) = fs() else { return };
    let hash = map(HASH, 3, 100, 0);
    assert_eq!(hash.lookup(&[1, 0, 0, 0]).unwrap(), None);
    hash.update(&[1, 0, 0, 0], &[7, 8, 9]).unwrap();
    hash.update_batch(&[2, 0, 0, 0, 3, 0, 0, 0], &[1, 1, 1, 2, 2, 2]).unwrap();
    assert_eq!(hash.lookup(&[1, 0, 0, 0]).unwrap(), Some(vec![7, 8, 9]));
    let mut all = hash.entries(usize::MAX).unwrap();
    all.sort();
    assert_eq!(all.len(), 3);
    assert_eq!(all[2], (vec![3, 0, 0, 0], vec![2, 2, 2]));
    assert!(hash.delete(&[2, 0, 0, 0]).unwrap() && !hash.delete(&[2, 0, 0, 0]).unwrap());
    assert!(hash.next_key(None).unwrap().is_some());
    for bad in [hash.update(&[1], &[1, 2, 3]), hash.update(&[1, 0, 0, 0], &[1])] {
        assert_eq!(bad.unwrap_err().io_error.raw_os_error(), Some(22));
    }
}

#[test]
fn a_batch_of_many_entries_is_read_whole() {
    let Some(_fs) = fs() else { return };
    let hash = map(HASH, 4, 10_000, 0);
    let keys: Vec<u8> = (0..5000u32).flat_map(u32::to_le_bytes).collect();
    hash.update_batch(&keys, &keys).unwrap();
    let mut all = hash.entries(usize::MAX).unwrap();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 5000);
    assert!(all.iter().all(|(k, v)| k == v));
}

#[test]
fn a_mapped_array_is_the_map() {
    let Some(_fs) = fs() else { return };
    for size in [1usize, 2, 4, 8, 12, 19] {
        let array = map(ARRAY, size as u32, 1000, MMAPABLE);
        let mapped = MappedArray::new(&array).unwrap();
        let value: Vec<u8> = (1..=size as u8).collect();
        mapped.store(999, &value).unwrap();
        assert_eq!(array.lookup(&999u32.to_le_bytes()).unwrap().unwrap(), value);
        assert_eq!(mapped.load(999).unwrap(), value);
        assert!(mapped.store(1000, &value).is_err() && mapped.load(1000).is_none());
        mapped.fill(&[value.clone(), value.clone()].concat()).unwrap();
        assert_eq!(array.lookup(&1u32.to_le_bytes()).unwrap().unwrap(), value);
        assert!(mapped.fill(&vec![0; size * 1001]).is_err());
    }
    assert!(MappedArray::new(&map(HASH, 4, 10, 0)).is_err());
}

#[test]
fn per_cpu_values_have_a_place_for_each_cpu() {
    let Some(_fs) = fs() else { return };
    let array = map(PERCPU_ARRAY, 4, 2, 0);
    assert_eq!(array.value_span(), 8 * possible_cpus().unwrap());
    assert_eq!(array.lookup(&[1, 0, 0, 0]).unwrap().unwrap().len(), array.value_span());
}

#[test]
fn pins_are_what_they_were_and_nothing_else() {
    let Some(fs) = fs() else { return };
    let (map, program) = (map(ARRAY, 4, 1, 0), load(&returning(2)).unwrap());
    map.pin(&fs.path().join("map")).unwrap();
    program.pin(&fs.path().join("program")).unwrap();
    assert_eq!(Map::open(&fs.path().join("map")).unwrap().id(), map.id());
    let again = Program::open(&fs.path().join("program")).unwrap();
    assert_eq!(again.info().unwrap(), program.info().unwrap());
    assert!(Map::open(&fs.path().join("program")).is_err());
    assert!(Program::open(&fs.path().join("map")).is_err());
    assert!(Link::open(&fs.path().join("map")).is_err());
    assert!(object_ids(ObjectKind::Map).unwrap().contains(&map.id()));
}

#[test]
fn a_slot_leads_to_its_program_and_says_which() {
    let Some(_fs) = fs() else { return };
    let (slots, program) = (map(PROG_ARRAY, 4, 4, 0), load(&returning(2)).unwrap());
    slots.set_program(3, &program).unwrap();
    let id = program.info().unwrap().id;
    assert_eq!(slots.lookup(&3u32.to_le_bytes()).unwrap(), Some(id.to_le_bytes().to_vec()));
    assert_eq!(program.test_run(&[0; 64], 3).unwrap().0, 2);
}

#[test]
fn a_refusal_has_the_verifiers_words() {
    let Some(_fs) = fs() else { return };
    // Reads a register that was never written.
    let code = [0xbf, 0x30, 0, 0, 0, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0];
    let error = load(&code).unwrap_err();
    assert!(error.log.contains("R3 !read_ok"), "{error}");
    assert_eq!(error.source.io_error.raw_os_error(), Some(13));
}

#[test]
fn a_frozen_map_is_not_written() {
    let Some(_fs) = fs() else { return };
    let array = map(ARRAY, 4, 1, 0);
    array.freeze().unwrap();
    assert!(array.update(&[0; 4], &[1; 4]).is_err());
}
