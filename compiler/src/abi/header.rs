//! The C header that the entry programs include.

use std::fmt::Write as _;

use super::*;

/// `polc_abi.h`: every constant and layout of [`super`].
pub fn c_header() -> String {
    let mut h = String::from(
        "/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */\n\
         /* Generated from compiler/src/abi.rs; do not edit. */\n\
         #ifndef POLC_ABI_H\n#define POLC_ABI_H\n\n",
    );
    for (name, value) in constants() {
        let _ = writeln!(h, "#define POLC_{name} {value:#x}u");
    }
    for (value, name) in REASONS {
        let name = name.to_uppercase().replace('-', "_");
        let _ = writeln!(h, "#define POLC_REASON_{name} {value}u");
    }
    for (name, value) in conntrack::TIMEOUTS {
        let _ = writeln!(h, "#define POLC_{name} {value}ull");
    }
    let _ = writeln!(h, "#define POLC_CONNTRACK_SEEN_STEP {}ull", conntrack::SEEN_STEP);
    state(&mut h);
    config(&mut h);
    settings(&mut h);
    h.push_str("\n#endif\n");
    h
}

fn constants() -> [(&'static str, u32); 44] {
    [
        ("ABI_VERSION", ABI_VERSION),
        ("PROGS_ENTRIES", PROGS_ENTRIES),
        ("SLOT_ALLOWED", SLOT_ALLOWED),
        ("SLOT_DENIED", SLOT_DENIED),
        ("SLOT_FIRST_POLICY", SLOT_FIRST_POLICY),
        ("NO_SLOT", NO_SLOT),
        ("FLAG_PORTS", FLAG_PORTS),
        ("FLAG_ICMP", FLAG_ICMP),
        ("FLAG_FIRST_FRAGMENT", FLAG_FIRST_FRAGMENT),
        ("FLAG_LATER_FRAGMENT", FLAG_LATER_FRAGMENT),
        ("FLAG_EGRESS", FLAG_EGRESS),
        ("FLAG_STATELESS", FLAG_STATELESS),
        ("FLAG_XDP", FLAG_XDP),
        ("FLAG_LOG", FLAG_LOG),
        ("FLAG_RECHECK", FLAG_RECHECK),
        ("FLAG_REVERSED", FLAG_REVERSED),
        ("FLAG_UNTRACKED", FLAG_UNTRACKED),
        ("VERDICT_ALLOW", VERDICT_ALLOW),
        ("VERDICT_DENY", VERDICT_DENY),
        ("NO_DECISION", NO_DECISION),
        ("COUNTER_REASONS", COUNTER_REASONS),
        ("COUNTERS", COUNTERS),
        ("COUNTER_ROWS", COUNTER_ROWS),
        ("LOG_BYTES", LOG_BYTES),
        ("XDP_ACCEPTED", XDP_ACCEPTED),
        ("TC_OK", TC_OK),
        ("TC_SHOT", TC_SHOT),
        ("XDP_DROP", XDP_DROP),
        ("XDP_PASS", XDP_PASS),
        ("CONFIG_STATELESS", CONFIG_STATELESS),
        ("CONFIG_REPLAY_CLOCK", CONFIG_REPLAY_CLOCK),
        ("CONFIG_FAILSAFES", CONFIG_FAILSAFES),
        ("CONFIG_UNTRACKED", CONFIG_UNTRACKED),
        ("CONFIG_XDP", CONFIG_XDP),
        ("SETTING_RECHECK", config::SETTING_RECHECK),
        ("SETTING_LOG", config::SETTING_LOG),
        ("FAILSAFE_PORTS", failsafe::MAX_PORTS),
        ("FAILSAFE_NETS", failsafe::MAX_NETS as u32),
        ("FAILSAFE_KEY_SIZE", failsafe::KEY_SIZE),
        ("FAILSAFE_VALUE_SIZE", failsafe::VALUE_SIZE),
        ("CONNTRACK_ENTRIES", conntrack::MAX_ENTRIES),
        ("CONNTRACK_KEY_SIZE", conntrack::KEY_SIZE),
        ("CONNTRACK_VALUE_SIZE", conntrack::VALUE_SIZE),
        ("STATE_SIZE", STATE_SIZE),
    ]
}

fn state(h: &mut String) {
    h.push_str("\nstruct polc_state {\n");
    for f in STATE_FIELDS {
        let ty = match f.size {
            1 => "__u8",
            2 => "__u16",
            4 => "__u32",
            _ => "__u64",
        };
        let dim = if f.count > 1 { format!("[{}]", f.count) } else { String::new() };
        let _ = writeln!(h, "\t{ty} {}{dim};", f.name);
    }
    let _ = writeln!(h, "}};\n_Static_assert(sizeof(struct polc_state) == {STATE_SIZE}, \"state size\");");
}

fn config(h: &mut String) {
    h.push_str("\nstruct polc_config {\n");
    for name in config::CONFIG_FIELDS {
        let _ = writeln!(h, "\t__u32 {name};");
    }
    let _ = writeln!(h, "}};\n_Static_assert(sizeof(struct polc_config) == {CONFIG_SIZE}, \"config size\");");
}

fn settings(h: &mut String) {
    h.push_str("\nstruct polc_settings {\n");
    for name in ["flags", "log_ifindex", "accept_mark", "accept_mask"] {
        let _ = writeln!(h, "\t__u32 {name};");
    }
    h.push_str("\t__u64 log_interval;\n\t__u64 log_credit;\n};\n");
    let size = config::SETTINGS_SIZE;
    let _ = writeln!(h, "_Static_assert(sizeof(struct polc_settings) == {size}, \"settings size\");");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checked_in_header_is_current() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../prebuilt-bpf/polc_abi.h");
        if std::env::var_os("POLC_BLESS").is_some() {
            std::fs::write(path, c_header()).unwrap();
        }
        let have = std::fs::read_to_string(path).unwrap_or_default();
        assert_eq!(have, c_header(), "run with POLC_BLESS=1 to regenerate {path}");
    }
}
