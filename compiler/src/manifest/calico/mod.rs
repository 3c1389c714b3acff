//! Calico's objects: `projectcalico.org/v3`, and `crd.projectcalico.org/v1`,
//! which is the same as stored in the Kubernetes API.
//!
//! The checks follow projectcalico/calico: `api/pkg/apis/projectcalico/v3` (the
//! validation rules at the types) and `libcalico-go/lib/validator/v3`.

mod endpoints;
mod entity;
mod felix;
mod policy;
mod rule;
mod selector;
mod sets;
mod staged;

pub(super) use endpoints::{read_host_endpoint, read_profile, read_workload_endpoint};
pub(super) use felix::read_felix;
pub(super) use policy::read_policy;
pub(super) use sets::{read_network_set, read_tier};
pub(super) use staged::{StagedAction, read_action, report as report_staged};
