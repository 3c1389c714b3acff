//! Findings about host endpoints, profiles and what acts on them.

use super::profiles::{Known, Names};
use crate::diag::{Diagnostic, codes};
use crate::manifest::{CalicoPolicy, HostEndpoint, Objects};

/// All findings, in the order of the objects within each kind.
pub(super) fn check(objects: &Objects, names: &Names<'_>) -> Vec<Diagnostic> {
    let hosts = !objects.host_endpoints.is_empty();
    let mut found = unknown_profiles(objects, names);
    found.extend(objects.host_endpoints.iter().filter_map(without_address));
    found.extend(objects.calico_policies.iter().filter_map(|policy| host_policy(policy, hosts)));
    if !hosts {
        found.extend(failsafes_without_hosts(objects));
    }
    found.extend(replaced_pods(objects));
    found
}

fn unknown_profiles(objects: &Objects, names: &Names<'_>) -> Vec<Diagnostic> {
    let hosts = objects.host_endpoints.iter().flat_map(|endpoint| &endpoint.profiles);
    let workloads = objects.workload_endpoints.iter().flat_map(|endpoint| &endpoint.profiles);
    let unknown = hosts.chain(workloads).filter(|name| names.get(&name.value) == Known::Missing);
    unknown
        .map(|name| {
            let message = format!("profile `{}` does not exist: it denies what reaches it", name.value);
            Diagnostic::warning(codes::UNKNOWN_PROFILE, name.span, message)
                .help(format!("add a Profile named `{}`, or take it off the list", name.value))
        })
        .collect()
}

fn without_address(endpoint: &HostEndpoint) -> Option<Diagnostic> {
    let message = "a host endpoint without `expectedIPs` is in no selector's set, and no packet of a capture is its own";
    endpoint.expected_ips.is_empty().then(|| {
        Diagnostic::note(codes::HOST_WITHOUT_ADDRESS, endpoint.meta.span, message)
            .help("write the interface's addresses as `expectedIPs`")
    })
}

/// What a policy says beyond the first packets of its hosts' own connections is
/// not modelled.
fn host_policy(policy: &CalicoPolicy, hosts: bool) -> Option<Diagnostic> {
    let at = policy.meta.span;
    if !hosts && (policy.do_not_track || policy.pre_dnat) {
        let field = if policy.do_not_track { "doNotTrack" } else { "preDNAT" };
        let message = format!("policy with `{field}` has no effect on pods: it acts on host endpoints only");
        return Some(Diagnostic::warning(codes::HOSTS_ONLY, at, message));
    }
    if policy.do_not_track {
        let message =
            "`polc run` tracks the connections that a `doNotTrack` policy allows: their replies pass";
        let warning = Diagnostic::warning(codes::TRACKED_ANYWAY, at, message);
        return Some(warning.help("evaluate each packet alone with `--stateless`"));
    }
    let message = match (policy.pre_dnat, policy.apply_on_forward && hosts) {
        (true, _) => "a `preDNAT` policy is evaluated on packets as they are: addresses are not translated",
        (_, true) => "`applyOnForward` changes nothing: packets that a host forwards are not evaluated",
        _ => return None,
    };
    Some(Diagnostic::note(codes::HOST_TRAFFIC_ONLY, at, message))
}

/// Failsafe ports that no endpoint of the input has.
fn failsafes_without_hosts(objects: &Objects) -> Vec<Diagnostic> {
    let lists = objects.felix_configurations.iter().flat_map(|c| [&c.failsafe_inbound, &c.failsafe_outbound]);
    let first = lists.flatten().filter_map(|ports| ports.first());
    first
        .map(|port| {
            let message = "failsafe ports have no effect: the input has no host endpoint";
            Diagnostic::note(codes::FAILSAFE_WITHOUT_HOST, port.span, message)
        })
        .collect()
}

/// Pods that are there a second time, as Calico sees them.
fn replaced_pods(objects: &Objects) -> Vec<Diagnostic> {
    let pods: std::collections::HashMap<_, _> =
        objects.pods.iter().map(|pod| ((&pod.meta.namespace, pod.meta.name.as_str()), &pod.meta)).collect();
    let replaced = objects.workload_endpoints.iter().filter_map(|endpoint| {
        let pod = pods.get(&(&endpoint.meta.namespace, endpoint.pod.as_deref()?))?;
        let message = format!("this WorkloadEndpoint stands for the pod `{}`", pod.name);
        Some(
            Diagnostic::note(codes::POD_REPLACED, endpoint.meta.span, message)
                .related(pod.span, "the pod's own labels, addresses and ports are not looked at"),
        )
    });
    replaced.collect()
}
