//! Calico's objects: `projectcalico.org/v3`, and `crd.projectcalico.org/v1`,
//! which is the same as stored in the Kubernetes API.
//!
//! The checks follow projectcalico/calico: `api/pkg/apis/projectcalico/v3` (the
//! validation rules at the types) and `libcalico-go/lib/validator/v3`.

mod entity;
mod policy;
mod rule;
mod selector;
mod sets;

pub(super) use policy::read_policy;
pub(super) use sets::{read_network_set, read_tier};
