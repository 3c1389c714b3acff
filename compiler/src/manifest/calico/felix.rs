//! FelixConfiguration: the few fields that bear on policy.
//!
//! Defaults and meaning follow projectcalico/calico `felix/config/config_params.go`
//! and `felix/rules/static.go`.

use crate::diag::{Diagnostic, codes};
use crate::manifest::fields::Fields;
use crate::manifest::kinds::Head;
use crate::manifest::meta::{Scope, Strictness, read_meta};
use crate::manifest::net::{self, Bare};
use crate::manifest::objects::Spanned;
use crate::manifest::reader::{Reader, clip, one_of};
use crate::manifest::yaml::Node;
use crate::manifest::{FailsafePort, FelixConfiguration};

/// How much Felix logs: read for their values, which must be right.
const LOG_LEVELS: &[&str] = &["logSeverityFile", "logSeverityScreen", "logSeveritySys"];

/// The levels, in any case.
const LEVELS: &[&str] = &["Trace", "Debug", "Info", "Warning", "Error", "Fatal"];

/// Every other field of a FelixConfiguration: how packets travel, what is
/// measured, how rules are programmed. None changes what policy says.
#[rustfmt::skip]
const OTHERS: &[&str] = &[
    "useInternalDataplaneDriver", "dataplaneDriver", "dataplaneWatchdogTimeout", "ipv6Support",
    "routeRefreshInterval", "interfaceRefreshInterval", "iptablesRefreshInterval",
    "iptablesPostWriteCheckInterval", "iptablesLockFilePath", "iptablesLockTimeout",
    "iptablesLockProbeInterval", "featureDetectOverride", "featureGates", "ipsetsRefreshInterval",
    "maxIpsetSize", "iptablesBackend", "xdpRefreshInterval", "netlinkTimeout", "metadataAddr",
    "metadataPort", "openstackRegion", "interfacePrefix", "interfaceExclude", "chainInsertMode",
    "defaultEndpointToHostAction", "iptablesFilterAllowAction", "iptablesMangleAllowAction",
    "iptablesFilterDenyAction", "logPrefix", "logActionRateLimit", "logActionRateLimitBurst", "logFilePath",
    "logDebugFilenameRegex", "ipipEnabled", "ipipMTU", "vxlanEnabled", "vxlanMTU", "vxlanMTUV6", "vxlanPort",
    "vxlanVNI", "allowVXLANPacketsFromWorkloads", "allowIPIPPacketsFromWorkloads", "reportingInterval",
    "reportingTTL", "endpointReportingEnabled", "endpointReportingDelay", "endpointStatusPathPrefix",
    "iptablesMarkMask", "disableConntrackInvalidCheck", "healthEnabled", "healthHost", "healthPort",
    "healthTimeoutOverrides", "prometheusMetricsEnabled", "prometheusMetricsHost", "prometheusMetricsPort",
    "prometheusGoMetricsEnabled", "prometheusProcessMetricsEnabled", "prometheusWireGuardMetricsEnabled",
    "prometheusMetricsCAFile", "prometheusMetricsCertFile", "prometheusMetricsKeyFile",
    "prometheusMetricsClientAuth", "kubeNodePortRanges", "policySyncPathPrefix", "usageReportingEnabled",
    "usageReportingInitialDelay", "usageReportingInterval", "natPortRange", "natOutgoingAddress",
    "natOutgoingExclusions", "deviceRouteSourceAddress", "deviceRouteSourceAddressIPv6",
    "deviceRouteProtocol", "removeExternalRoutes", "programClusterRoutes", "ipForwarding",
    "externalNodesList", "debugMemoryProfilePath", "debugDisableLogDropping",
    "debugSimulateCalcGraphHangAfter", "debugSimulateDataplaneHangAfter",
    "debugSimulateDataplaneApplyDelay", "debugHost", "debugPort", "iptablesNATOutgoingInterfaceFilter",
    "sidecarAccelerationEnabled", "xdpEnabled", "genericXDPEnabled", "nftablesMode",
    "nftablesFlowTableOffload", "nftablesFlowTableDataIfacePattern", "nftablesRefreshInterval",
    "nftablesFilterAllowAction", "nftablesMangleAllowAction", "nftablesFilterDenyAction",
    "nftablesMarkMask", "bpfEnabled", "bpfOverlayHostSourceIP", "bpfDisableUnprivileged",
    "bpfJITHardening", "bpfLogLevel", "bpfConntrackLogLevel", "bpfConntrackMode", "bpfConntrackTimeouts",
    "bpfIPFragTimeout", "bpfLogFilters", "bpfCTLBLogFilter", "bpfDataIfacePattern", "bpfL3IfacePattern",
    "bpfConnectTimeLoadBalancingEnabled", "bpfConnectTimeLoadBalancing", "bpfHostNetworkedNATWithoutCTLB",
    "bpfExternalServiceMode", "bpfDSROptoutCIDRs", "bpfExtToServiceConnmark",
    "bpfKubeProxyIptablesCleanupEnabled", "bpfKubeProxyMinSyncPeriod", "bpfKubeProxyHealthzPort",
    "bpfKubeProxyEndpointSlicesEnabled", "bpfPSNATPorts", "bpfMapSizeNATFrontend", "bpfMapSizeNATBackend",
    "bpfMapSizeNATAffinity", "bpfMapSizeRoute", "bpfMapSizeConntrack", "bpfMapSizePerCpuConntrack",
    "bpfMapSizeConntrackScaling", "bpfMapSizeConntrackCleanupQueue", "bpfMapSizeIPSets",
    "bpfMapSizeIfState", "bpfHostConntrackBypass", "bpfIPFragmentReassemblyEnabled", "bpfEnforceRPF",
    "bpfPolicyDebugEnabled", "bpfForceTrackPacketsFromIfaces", "bpfDisableGROForIfaces",
    "bpfExcludeCIDRsFromNAT", "bpfExportBufferSizeMB", "istioAmbientMode", "istioDSCPMark", "cgroupV2Path",
    "flowLogsPolicyEvaluationMode", "bpfRedirectToPeer", "bpfAttachType", "flowLogsFlushInterval",
    "flowLogsCollectorDebugTrace", "flowLogsGoldmaneServer", "flowLogsLocalReporter", "bpfProfiling",
    "routeSource", "routeTableRanges", "routeTableRange", "routeSyncDisabled", "ipv4NormalRoutePriority",
    "ipv4ElevatedRoutePriority", "ipv6NormalRoutePriority", "ipv6ElevatedRoutePriority",
    "liveMigrationRouteConvergenceTime", "wireguardEnabled", "wireguardEnabledV6",
    "wireguardThreadingEnabled", "wireguardListeningPort", "wireguardListeningPortV6",
    "wireguardRoutingRulePriority", "wireguardInterfaceName", "wireguardInterfaceNameV6", "wireguardMTU",
    "wireguardMTUV6", "wireguardHostEncryptionEnabled", "wireguardKeepAlive", "awsSrcDstCheck",
    "serviceLoopPrevention", "workloadSourceSpoofing", "mtuIfacePattern", "floatingIPs",
    "localSubnetL2Reachability", "localSubnetL2ReachabilityRefreshInterval", "windowsManageFirewallRules",
    "goGCThreshold", "goMemoryLimitMB", "goMaxProcs", "requireMTUFile", "bpfMaglevMaxEndpointsPerService",
    "bpfMaglevMaxServices",
];

/// Reads a configuration; `None` if it is for nodes that polc cannot tell.
pub(in crate::manifest) fn read_felix(
    reader: &mut Reader,
    node: &Node<'_>,
    head: &Head<'_>,
) -> Option<FelixConfiguration> {
    let mut object = Fields::new(reader, node, "a FelixConfiguration")?.at(head.span);
    object.ignore(&["apiVersion", "kind", "status"]);
    let meta = read_meta(reader, head, &mut object, Scope::Cluster, Strictness::Strict);
    let spec = object.take("spec");
    object.finish(reader);
    let (mut inbound, mut outbound) = (None, None);
    if let Some(mut fields) = spec.and_then(|spec| Fields::new(reader, spec, "spec")) {
        inbound = read_failsafes(reader, &mut fields, "failsafeInboundHostPorts");
        outbound = read_failsafes(reader, &mut fields, "failsafeOutboundHostPorts");
        fields.refuse(reader, &["nodeSelector"]);
        check_log_levels(reader, &mut fields);
        note_others(reader, &mut fields);
        fields.finish(reader);
    }
    let meta = meta?;
    if meta.name != "default" && !meta.name.starts_with("node.") {
        let message = format!("no node reads the configuration `{}`", clip(&meta.name));
        let warning = Diagnostic::warning(codes::IGNORED_FIELD, head.span, message);
        reader.report(warning.help("name it `default`, or `node.` and a node's name"));
    }
    Some(FelixConfiguration { meta, failsafe_inbound: inbound, failsafe_outbound: outbound })
}

fn read_failsafes(
    reader: &mut Reader,
    fields: &mut Fields<'_, '_>,
    name: &'static str,
) -> Option<Vec<Spanned<FailsafePort>>> {
    let node = fields.take(name)?;
    Some(reader.list(node, &format!("`{name}`"), read_failsafe))
}

fn read_failsafe(reader: &mut Reader, node: &Node<'_>) -> Option<Spanned<FailsafePort>> {
    let mut fields = Fields::new(reader, node, "a failsafe port")?;
    let protocol = match fields.take("protocol") {
        Some(node) => net::kubernetes_protocol(reader, node),
        None => Some(net::KUBERNETES_PROTOCOLS[0].1),
    };
    let port = fields.require("port").and_then(|node| net::port_number(reader, node, "`port`"));
    let net = fields.take("net").map(|node| net::cidr(reader, node, "`net`", Bare::Host));
    fields.finish(reader);
    // A net that does not read has been reported; without it the port would be open to all.
    let net = match net {
        Some(read) => Some(read?.value),
        None => None,
    };
    Some(reader.spanned(node, FailsafePort { protocol: protocol?, port: port?, net }))
}

fn check_log_levels(reader: &mut Reader, fields: &mut Fields<'_, '_>) {
    for name in LOG_LEVELS {
        let Some(node) = fields.take(name) else { continue };
        let Some(text) = reader.string(node, &format!("`{name}`")) else { continue };
        let known = text.is_empty() || LEVELS.iter().any(|level| level.eq_ignore_ascii_case(text));
        if !known {
            let message = format!("`{name}` cannot be `{}`", clip(text));
            let help = format!("write {}", one_of(LEVELS));
            reader.error_with_help(codes::UNKNOWN_VALUE, node, message, help);
        }
    }
}

/// One note for all fields that are set and not looked at.
fn note_others(reader: &mut Reader, fields: &mut Fields<'_, '_>) {
    let set: Vec<_> = OTHERS.iter().filter_map(|name| fields.entry(name)).collect();
    let Some(first) = set.first() else { return };
    let names: Vec<String> = set.iter().map(|entry| format!("`{}`", entry.key)).collect();
    let message = match names.as_slice() {
        [name] => format!("{name} is not looked at"),
        names => format!("{} fields are not looked at", names.len()),
    };
    let mut note = Diagnostic::note(codes::IGNORED_FIELD, reader.key_span(first), message);
    if names.len() > 1 {
        note = note.help(names.join(", "));
    }
    reader.report(note);
}
