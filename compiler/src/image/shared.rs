//! Definitions of the maps that all programs of a host share, as the entry
//! programs declare them: loaders and libbpf reuse a pinned map only if its
//! definition is the same.

use super::{MapKind, MapSpec};
use crate::abi::{PROGS_ENTRIES, PROGS_MAP, STATE_MAP, STATE_SIZE};

/// Names of the shared maps that policy programs refer to.
pub const SHARED_MAPS: [&str; 2] = [STATE_MAP, PROGS_MAP];

/// The definition of a shared map; `None` for a name that is not in [`SHARED_MAPS`].
pub fn shared_map(name: &str) -> Option<MapSpec> {
    let (kind, value_size, max_entries) = match name {
        STATE_MAP => (MapKind::PerCpuArray, STATE_SIZE, 1),
        PROGS_MAP => (MapKind::ProgArray, 4, PROGS_ENTRIES),
        _ => return None,
    };
    Some(MapSpec {
        name: name.into(),
        kind,
        key_size: 4,
        value_size,
        max_entries,
        flags: 0,
        entries: Vec::new(),
        dense: Vec::new(),
        direct: false,
        fixed: false,
    })
}
