//! What a loader would switch in the kernel: settings, failsafe ports, policy
//! generations; and what it would read: the log.

use ipnet::IpNet;
use polc_compiler::abi;
use polc_compiler::abi::config::Settings;
use polc_compiler::abi::failsafe::{self, Port, TooManyNets};

use super::maps::{Map, Update};
use super::{Vm, unknown};
use crate::{Attachment, EngineError};

impl Vm {
    /// Replaces the settings, from the next packet on. At first all are off.
    pub fn set_settings(&mut self, settings: &Settings) {
        self.world.arena.write(self.addresses.settings, &settings.bytes());
    }

    /// Opens failsafe ports, each for these far addresses (`None`: all); what was
    /// open before stays. Only attachments of hosts ([`Self::set_host`]) look.
    ///
    /// # Errors
    /// [`TooManyNets`] for the first port that has too many; those before it are open.
    pub fn open_failsafes(&mut self, ports: &[(Port, Vec<Option<IpNet>>)]) -> Result<(), TooManyNets> {
        for (port, nets) in ports {
            let value = failsafe::value(nets)?;
            let world = &mut self.world;
            if let Some(Some(map)) = world.maps.get_mut(self.failsafes as usize) {
                let _ = map.update(&world.arena, &port.key(), &value, Update::Any);
            }
        }
        Ok(())
    }

    /// Makes an attachment one of a host endpoint, which has failsafe ports.
    ///
    /// # Errors
    /// There is no such attachment.
    pub fn set_host(&mut self, at: Attachment) -> Result<(), EngineError> {
        self.attachments.get_mut(at.0 as usize).ok_or_else(|| unknown(at))?.host = true;
        self.current = None;
        Ok(())
    }

    /// Takes an attachment's policy away: what it should decide is dropped.
    ///
    /// # Errors
    /// There is no such attachment.
    pub fn remove_image(&mut self, at: Attachment) -> Result<(), EngineError> {
        let attached = self.attachments.get_mut(at.0 as usize).ok_or_else(|| unknown(at))?;
        let image = std::mem::replace(&mut attached.image, usize::MAX);
        self.release_image(image);
        self.current = None;
        Ok(())
    }

    /// Takes the records of the log since the last call, oldest first: packet
    /// states ([`abi::STATE_FIELDS`]).
    pub fn take_log(&mut self) -> Vec<Vec<u8>> {
        match self.world.maps.get_mut(self.log as usize) {
            Some(Some(Map::Ring(ring))) => ring.take(),
            _ => Vec::new(),
        }
    }

    /// Writes the generations of the selected attachment's policy and its peer's.
    pub(super) fn place_generations(&self, own: u32, peer: u32) {
        let at = |slot: u32| self.addresses.generations + 8 * u64::from(slot);
        self.world.arena.write_u32(at(abi::SLOT_FIRST_POLICY), own);
        self.world.arena.write_u32(at(super::PEER_SLOT), peer);
    }
}
