//! Tracked connections: listed, swept, and forgotten with their endpoint.
//!
//! The entry programs take an entry that is over for none, and the map makes room
//! for new ones by itself, least recently used first; sweeping only gives memory
//! back and keeps lists short. An entry is looked at once more before it is deleted, as
//! a connection may have begun anew with it; one that does between the two calls loses
//! it, and its next packet is policy's, as where the map made room.
//!
//! Cost: a system call for some thousand entries, and two for each that is deleted.

use polc_compiler::abi::{
    CONNTRACK_MAP,
    conntrack::{KEY_SIZE, Key, VALUE_SIZE, Value},
};

use super::error::{LoaderError, kernel};
use super::view::View;
use crate::sys::bpf::Map;
use crate::sys::monotonic_ns;

/// A tracked connection.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    /// Which one.
    pub key: Key,
    /// What is known of it.
    pub value: Value,
}

/// Connections and the clock that their times are of, in ns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connections {
    /// Those that are not over, in no order.
    pub live: Vec<Connection>,
    /// How many are over and still in the map.
    pub over: usize,
    /// Now.
    pub now: u64,
}

impl View {
    /// All connections.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn connections(&self) -> Result<Connections, LoaderError> {
        let now = monotonic_ns();
        let mut found = Connections { live: Vec::new(), over: 0, now };
        let Some(map) = self.shared_map(CONNTRACK_MAP)? else { return Ok(found) };
        check(&map)?;
        for (_, connection) in entries(&map)? {
            if connection.value.is_over(&connection.key, now) {
                found.over += 1;
            } else {
                found.live.push(connection);
            }
        }
        Ok(found)
    }

    /// Deletes the connections that are over: how many there were.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn sweep(&self) -> Result<usize, LoaderError> {
        let Some(map) = self.shared_map(CONNTRACK_MAP)? else { return Ok(0) };
        check(&map)?;
        let now = monotonic_ns();
        delete(&map, |connection| connection.value.is_over(&connection.key, now))
    }
}

/// Forgets an endpoint's connections: its number may come to another one.
pub(super) fn forget(map: &Map, endpoint: u32) -> Result<usize, LoaderError> {
    delete(map, |connection| connection.key.endpoint == endpoint)
}

fn delete(map: &Map, which: impl Fn(&Connection) -> bool) -> Result<usize, LoaderError> {
    let mut count = 0;
    for (key, connection) in entries(map)? {
        if !which(&connection) {
            continue;
        }
        let value = map.lookup(&key).map_err(kernel("reading a connection"))?;
        let value = value.and_then(|value| Value::from_bytes(&value));
        if value.is_some_and(|value| which(&Connection { value, ..connection })) {
            count += usize::from(map.delete(&key).map_err(kernel("deleting a connection"))?);
        }
    }
    Ok(count)
}

fn entries(map: &Map) -> Result<Vec<(Vec<u8>, Connection)>, LoaderError> {
    let entries = map.entries(usize::MAX).map_err(kernel("listing connections"))?;
    let read = |(key, value): (Vec<u8>, Vec<u8>)| {
        let connection = Connection { key: Key::from_bytes(&key)?, value: Value::from_bytes(&value)? };
        Some((key, connection))
    };
    Ok(entries.into_iter().filter_map(read).collect())
}

/// Entries of other sizes would be misread.
fn check(map: &Map) -> Result<(), LoaderError> {
    let definition = map.definition();
    if (definition.key_size, definition.value_size) == (KEY_SIZE, VALUE_SIZE) {
        return Ok(());
    }
    Err(LoaderError::Shape {
        path: CONNTRACK_MAP.into(),
        found: format!("{definition:?}"),
        needed: format!("of keys of {KEY_SIZE} and values of {VALUE_SIZE} bytes"),
    })
}
