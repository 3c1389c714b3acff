//! Kubernetes and Calico objects as read from YAML.

mod objects;

pub use objects::*;
