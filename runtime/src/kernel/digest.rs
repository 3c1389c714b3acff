//! Digests: equal things are found by them. SHA-256, of which 128 bits are kept;
//! the names of folders are made of it.

use polc_compiler::bpf::MapRef;
use polc_compiler::image::{MapSpec, PolicyImage};
use sha2::{Digest as _, Sha256};

/// Digest of some bytes, in hexadecimal.
pub(super) fn of(bytes: &[u8]) -> String {
    text(Sha256::new().chain_update(bytes))
}

/// Digest of what an image enforces and says: programs, map contents, decisions.
/// Not of its name: endpoints with the same policy share one.
pub(super) fn of_image(image: &PolicyImage, record: &[u8]) -> String {
    let mut hash = Sha256::new();
    put(&mut hash, record);
    for program in &image.programs {
        // Shared maps have numbers that no private one has.
        let code = program.code.encode(|map| match map {
            MapRef::Private(index) => index as i32,
            MapRef::Shared(name) => i32::MIN + name.len() as i32,
            MapRef::Fd(fd) => fd,
        });
        put(&mut hash, &code);
    }
    image.maps.iter().for_each(|map| put_map(&mut hash, map));
    text(hash)
}

/// Digest of a map: its name, which tools show, its definition and its contents.
pub(super) fn of_map(map: &MapSpec) -> String {
    let mut hash = Sha256::new();
    put(&mut hash, map.name.as_bytes());
    put_map(&mut hash, map);
    text(hash)
}

fn put_map(hash: &mut Sha256, map: &MapSpec) {
    let flags = [u32::from(map.direct), u32::from(map.fixed)];
    let sizes = [map.key_size, map.value_size, map.max_entries];
    for number in [map.kind as u32, map.flags].into_iter().chain(sizes).chain(flags) {
        put(hash, &number.to_le_bytes());
    }
    put(hash, &map.dense);
    for (key, value) in &map.entries {
        put(hash, key);
        put(hash, value);
    }
}

fn put(hash: &mut Sha256, bytes: &[u8]) {
    hash.update((bytes.len() as u64).to_le_bytes());
    hash.update(bytes);
}

fn text(hash: Sha256) -> String {
    hash.finalize()[..16].iter().map(|byte| format!("{byte:02x}")).collect()
}
