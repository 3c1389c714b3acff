//! Digests: equal things are found by them. SHA-256, of which 128 bits are kept;
//! the names of folders are made of it.

use polc_compiler::bpf::MapRef;
use polc_compiler::image::PolicyImage;
use sha2::{Digest as _, Sha256};

/// Digest of some bytes, in hexadecimal.
pub(super) fn of(bytes: &[u8]) -> String {
    text(Sha256::new().chain_update(bytes))
}

/// Digest of what an image enforces and says: programs, map contents, decisions.
/// Not of its name: endpoints with the same policy share one.
pub(super) fn of_image(image: &PolicyImage, record: &[u8]) -> String {
    let mut hash = Sha256::new();
    let mut put = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    put(record);
    for program in &image.programs {
        // Shared maps have numbers that no private one has.
        put(&program.code.encode(|map| match map {
            MapRef::Private(index) => index as i32,
            MapRef::Shared(name) => i32::MIN + name.len() as i32,
            MapRef::Fd(fd) => fd,
        }));
    }
    for map in &image.maps {
        for number in
            [map.kind as u32, map.key_size, map.value_size, map.max_entries, map.flags, u32::from(map.direct)]
        {
            put(&number.to_le_bytes());
        }
        put(&map.dense);
        for (key, value) in &map.entries {
            put(key);
            put(value);
        }
    }
    text(hash)
}

fn text(hash: Sha256) -> String {
    hash.finalize()[..16].iter().map(|byte| format!("{byte:02x}")).collect()
}
