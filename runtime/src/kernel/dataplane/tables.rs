//! Entries of shared tables that belong to an attachment: counters, connections,
//! generations, failsafe ports.

use std::collections::BTreeMap;

use ipnet::IpNet;
use polc_compiler::abi;
use polc_compiler::abi::failsafe::{self, MAX_NETS, MAX_PORTS, Port};

use super::{Dataplane, Failsafe};
use crate::kernel::error::{LoaderError, kernel};
use crate::kernel::record::InterfaceRecord;
use crate::kernel::{conntrack, log};

impl Dataplane {
    /// Zero counters in the rows that are new to an endpoint.
    pub(super) fn reset(
        &self,
        new: &InterfaceRecord,
        old: Option<&InterfaceRecord>,
    ) -> Result<(), LoaderError> {
        let known = old.filter(|old| old.endpoint_id == new.endpoint_id);
        let known = known.map(InterfaceRecord::rows).unwrap_or_default();
        let counters = self.shared_map(abi::COUNTERS_MAP)?;
        let zeros = vec![0; counters.value_span()];
        for row in new.rows().into_iter().filter(|row| !known.contains(row)) {
            counters.update(&row.to_le_bytes(), &zeros).map_err(kernel("resetting counters"))?;
        }
        Ok(())
    }

    /// Gives back what an attachment had that is no more: its slots, and its
    /// endpoint's connections, whose number may come to another one.
    pub(super) fn release(&self, record: &InterfaceRecord) -> Result<(), LoaderError> {
        for (array, slot) in record.slots() {
            self.clear_slot(array, slot)?;
        }
        conntrack::forget(self.shared_map(abi::CONNTRACK_MAP)?, record.endpoint_id)?;
        Ok(())
    }

    /// Has policy asked again about every connection that it allowed up to now.
    ///
    /// The setting is the host's and stays on; which connections it is about, the
    /// generations say, and those change here only. An update without this keeps
    /// connections, whatever the setting.
    pub(super) fn recheck(&self, record: &InterfaceRecord) -> Result<(), LoaderError> {
        let generations = self.shared_map(abi::GENERATIONS_MAP)?;
        for slot in [record.ingress.slot, record.egress.slot] {
            let key = slot.to_le_bytes();
            let value = generations.lookup(&key).map_err(kernel("reading a generation"))?;
            let value = value.and_then(|v| v.first_chunk().map(|v| u32::from_ne_bytes(*v))).unwrap_or(0);
            let next = value.wrapping_add(1).to_ne_bytes();
            generations.update(&key, &next).map_err(kernel("changing a generation"))?;
        }
        let map = self.shared_map(abi::SETTINGS_MAP)?;
        let mut settings = log::read_settings(map)?;
        if settings.flags & abi::config::SETTING_RECHECK == 0 {
            settings.flags |= abi::config::SETTING_RECHECK;
            log::write_settings(map, &settings)?;
        }
        Ok(())
    }

    /// Makes these the host's failsafe ports: new ones first, so that none that
    /// stays is closed for a moment.
    pub(super) fn set_failsafes(&self, ports: &[Failsafe]) -> Result<(), LoaderError> {
        let mut wanted: BTreeMap<Port, Vec<Option<IpNet>>> = BTreeMap::new();
        for failsafe in ports {
            wanted.entry(failsafe.port).or_default().push(failsafe.net);
        }
        let limit = |what, given: usize, allowed: usize| LoaderError::Limit {
            what,
            given: given as u64,
            allowed: allowed as u64,
        };
        if wanted.len() > MAX_PORTS as usize {
            return Err(limit("failsafe ports", wanted.len(), MAX_PORTS as usize));
        }
        let map = self.shared_map(abi::FAILSAFES_MAP)?;
        for (port, nets) in &wanted {
            let value =
                failsafe::value(nets).map_err(|e| limit("nets of a failsafe port", e.given, MAX_NETS))?;
            map.update(&port.key(), &value).map_err(kernel("opening a failsafe port"))?;
        }
        let keep: Vec<_> = wanted.keys().map(|port| port.key()).collect();
        for (key, _) in map.entries(usize::MAX).map_err(kernel("listing failsafe ports"))? {
            if !keep.iter().any(|k| k[..] == key[..]) {
                map.delete(&key).map_err(kernel("closing a failsafe port"))?;
            }
        }
        Ok(())
    }
}
