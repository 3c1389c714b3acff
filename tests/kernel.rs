//! Policy on real interfaces, in network namespaces and a bpffs of their own
//! making. Skipped, with the reason printed, without the privileges; with
//! POLC_REQUIRE_KERNEL=1 that is a failure.
#![cfg(target_os = "linux")]

#[path = "kernel/agent.rs"]
mod agent;
#[path = "kernel/crash.rs"]
mod crash;
#[path = "kernel/dumps.rs"]
mod dumps;
#[path = "kernel/exclusion.rs"]
mod exclusion;
#[path = "kernel/hosts.rs"]
mod hosts;
#[path = "kernel/leaks.rs"]
mod leaks;
#[path = "kernel/policies.rs"]
mod policies;
#[expect(dead_code, reason = "other tests use the rest")]
#[path = "cli/schema.rs"]
mod schema;
#[path = "kernel/sharing.rs"]
mod sharing;
#[path = "kernel/support.rs"]
mod support;
#[path = "kernel/traffic.rs"]
mod traffic;
#[path = "kernel/verdicts.rs"]
mod verdicts;
#[path = "kernel/world.rs"]
mod world;
