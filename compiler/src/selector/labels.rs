//! Labels that Calico gives to endpoints and network sets.

/// Namespace of an endpoint or network set.
pub const NAMESPACE: &str = "projectcalico.org/namespace";
/// Orchestrator of a workload; [`KUBERNETES`] for pods.
pub const ORCHESTRATOR: &str = "projectcalico.org/orchestrator";
/// Value of [`ORCHESTRATOR`] for pods.
pub const KUBERNETES: &str = "k8s";
/// Service account of a pod.
pub const SERVICE_ACCOUNT: &str = "projectcalico.org/serviceaccount";
/// Name of a namespace or service account; stands behind one of the prefixes.
pub const NAME: &str = "projectcalico.org/name";
/// Prefix of labels inherited from the namespace.
pub const NAMESPACE_PREFIX: &str = "pcns.";
/// Prefix of labels inherited from the service account.
pub const SERVICE_ACCOUNT_PREFIX: &str = "pcsa.";
/// Label that the API server sets on each namespace: its name.
pub const METADATA_NAME: &str = "kubernetes.io/metadata.name";
