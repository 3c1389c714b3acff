//! What a loader tells the entry programs: a constant for each attachment, and
//! settings that are switched while they run.

use super::{ABI_VERSION, NO_DECISION};

/// No slot of a program array: a tail call there falls through.
pub const NO_SLOT: u32 = u32::MAX;

/// Leave out connection and fragment tracking.
pub const CONFIG_STATELESS: u32 = 1;
/// Take the time from `cb[0]` (low) and `cb[1]` (high) instead of the kernel's
/// clock, so that a replay has the capture's clock.
pub const CONFIG_REPLAY_CLOCK: u32 = 2;
/// A host endpoint: failsafe ports pass whatever policy says.
pub const CONFIG_FAILSAFES: u32 = 4;
/// A host endpoint's egress with untracked policy, which comes first.
pub const CONFIG_UNTRACKED: u32 = 8;
/// A host endpoint's ingress at an interface whose XDP program is
/// [`super::PROG_XDP`]: what that accepted passes.
pub const CONFIG_XDP: u32 = 16;

/// Size of `struct polc_config` in bytes.
pub const CONFIG_SIZE: u32 = 4 * CONFIG_FIELDS.len() as u32;

/// Fields of `struct polc_config`, all `u32`, in the order of [`Config::words`].
pub const CONFIG_FIELDS: [&str; 9] = [
    "policy_slot",
    "endpoint",
    "flags",
    "abi_version",
    "peer_slot",
    "counters",
    "untracked_slot",
    "next_slot",
    "pass_decision",
];

/// Constant configuration of one attachment: `struct polc_config`, symbol
/// [`super::CONFIG_SYMBOL`].
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Slot of the policy of this endpoint and direction: in [`super::PROGS_MAP`],
    /// at XDP in [`super::XDP_PROGS_MAP`].
    pub policy_slot: u32,
    /// Endpoint id, the same for all attachments of the endpoint: they share its
    /// connections.
    pub endpoint: u32,
    /// `CONFIG_*`.
    pub flags: u32,
    /// Slot of the policy of the endpoint's other direction, which decides anew
    /// about connections that were opened that way ([`SETTING_RECHECK`]).
    pub peer_slot: u32,
    /// Row in [`super::COUNTERS_MAP`], below [`super::COUNTER_ROWS`].
    pub counters: u32,
    /// With [`CONFIG_UNTRACKED`]: slot of the untracked policy in [`super::PROGS_MAP`].
    pub untracked_slot: u32,
    /// With [`CONFIG_UNTRACKED`]: slot of [`super::PROG_TRACKED`].
    pub next_slot: u32,
    /// With [`CONFIG_UNTRACKED`], and at XDP: decision with which the untracked
    /// policy says that it has nothing to say.
    pub pass_decision: u32,
}

impl Default for Config {
    /// No slot at all: what policy should decide is dropped.
    fn default() -> Self {
        Self {
            policy_slot: NO_SLOT,
            endpoint: 0,
            flags: 0,
            peer_slot: NO_SLOT,
            counters: 0,
            untracked_slot: NO_SLOT,
            next_slot: NO_SLOT,
            pass_decision: NO_DECISION,
        }
    }
}

impl Config {
    /// The constant's words, native-endian in memory, [`ABI_VERSION`] among them.
    pub fn words(&self) -> [u32; CONFIG_FIELDS.len()] {
        [
            self.policy_slot,
            self.endpoint,
            self.flags,
            ABI_VERSION,
            self.peer_slot,
            self.counters,
            self.untracked_slot,
            self.next_slot,
            self.pass_decision,
        ]
    }
}

/// Ask policy again about connections that an older generation of it allowed.
/// Without it they are kept.
pub const SETTING_RECHECK: u32 = 1;
/// Log decisions to [`super::LOG_MAP`].
pub const SETTING_LOG: u32 = 2;

/// Size of `struct polc_settings` in bytes.
pub const SETTINGS_SIZE: u32 = 32;

/// What is switched at run time: the one value of [`super::SETTINGS_MAP`]. Zero
/// switches everything off.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// `SETTING_*`.
    pub flags: u32,
    /// Log at this interface only; 0: at all.
    pub log_ifindex: u32,
    /// Packets whose mark has this value under [`Self::accept_mask`] were accepted
    /// by another program and pass.
    pub accept_mark: u32,
    /// 0: no mark says anything.
    pub accept_mask: u32,
    /// Nanoseconds that a record of the log costs, on each CPU: 1 s / records per
    /// second. 0: unlimited.
    pub log_interval: u64,
    /// Most nanoseconds that a silent CPU saves up: `log_interval` times the burst.
    pub log_credit: u64,
}

impl Settings {
    /// The value of the map, native-endian.
    pub fn bytes(&self) -> [u8; SETTINGS_SIZE as usize] {
        let mut bytes = [0; SETTINGS_SIZE as usize];
        let words = [self.flags, self.log_ifindex, self.accept_mark, self.accept_mask];
        for (at, word) in bytes.chunks_exact_mut(4).zip(words) {
            at.copy_from_slice(&word.to_ne_bytes());
        }
        bytes[16..24].copy_from_slice(&self.log_interval.to_ne_bytes());
        bytes[24..].copy_from_slice(&self.log_credit.to_ne_bytes());
        bytes
    }

    /// Reads the value of the map; `None` if it has another length.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; SETTINGS_SIZE as usize] = bytes.try_into().ok()?;
        let word = |at: usize| u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let long = |at: usize| {
            let mut eight = [0; 8];
            eight.copy_from_slice(&bytes[at..at + 8]);
            u64::from_ne_bytes(eight)
        };
        Some(Self {
            flags: word(0),
            log_ifindex: word(4),
            accept_mark: word(8),
            accept_mask: word(12),
            log_interval: long(16),
            log_credit: long(24),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_as_they_were_written() {
        let settings = Settings {
            flags: SETTING_LOG,
            log_ifindex: 7,
            accept_mark: 0x300_0000,
            accept_mask: 0x1ff0_0000,
            log_interval: 1 << 40,
            log_credit: 3 << 50,
        };
        assert_eq!(Settings::from_bytes(&settings.bytes()), Some(settings));
        assert_eq!(Settings::from_bytes(&[0; 31]), None);
    }

    #[test]
    fn configuration_words_stand_where_the_fields_do() {
        let config = Config { counters: 5, pass_decision: 9, ..Config::default() };
        let words = config.words();
        let at = |name| words[CONFIG_FIELDS.iter().position(|f| *f == name).unwrap()];
        assert_eq!((at("policy_slot"), at("abi_version")), (NO_SLOT, ABI_VERSION));
        assert_eq!((at("counters"), at("pass_decision")), (5, 9));
    }
}
