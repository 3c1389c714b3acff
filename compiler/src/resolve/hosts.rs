//! Findings about host endpoints, profiles and what acts on them.

use super::profiles::{Known, Names};
use crate::diag::{Diagnostic, Severity, codes};
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

/// What a policy says beyond its hosts' own first packets is not modelled.
fn host_policy(policy: &CalicoPolicy, hosts: bool) -> Option<Diagnostic> {
    let (code, severity, message) = match (policy.do_not_track, policy.pre_dnat) {
        (untracked, pre_dnat) if !hosts && (untracked || pre_dnat) => {
            let field = if untracked { "doNotTrack" } else { "preDNAT" };
            let message =
                format!("policy with `{field}` has no effect on pods: it acts on host endpoints only");
            (codes::HOSTS_ONLY, Severity::Warning, message)
        }
        (true, _) => {
            let message =
                "connections that a `doNotTrack` policy allows are tracked all the same: their replies pass";
            (codes::TRACKED_ANYWAY, Severity::Warning, message.to_owned())
        }
        (_, true) => {
            let message =
                "a `preDNAT` policy is evaluated on packets as they are: addresses are not translated";
            (codes::HOST_TRAFFIC_ONLY, Severity::Note, message.to_owned())
        }
        _ if hosts && policy.apply_on_forward => {
            let message = "`applyOnForward` changes nothing: packets that a host forwards are not evaluated";
            (codes::HOST_TRAFFIC_ONLY, Severity::Note, message.to_owned())
        }
        _ => return None,
    };
    let span = policy.meta.span;
    Some(match severity {
        Severity::Warning => {
            let warning = Diagnostic::warning(code, span, message);
            match code {
                codes::TRACKED_ANYWAY => warning.help("evaluate each packet alone with `--stateless`"),
                _ => warning,
            }
        }
        _ => Diagnostic::note(code, span, message),
    })
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
