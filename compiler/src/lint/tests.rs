//! Lints on YAML, from text to findings.

use super::check;
use crate::diag::{Diagnostic, Severity, Sources, codes};

/// Pods and a network set that the policies below select from.
const CLUSTER: &str = "\
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: prod, labels: {app: web}}
spec: {containers: [{ports: [{name: http, containerPort: 8080}]}]}
status: {podIP: 10.0.0.1}
---
apiVersion: v1
kind: Pod
metadata: {name: db, namespace: prod, labels: {app: db}}
status: {podIP: 10.0.0.2}
---
apiVersion: projectcalico.org/v3
kind: GlobalNetworkSet
metadata: {name: office, labels: {role: office}}
spec: {nets: [192.0.2.0/24]}
";

/// The findings about a policy beside [`CLUSTER`]: code, and the text at the place.
fn found(policy: &str) -> Vec<(&'static str, String)> {
    found_beside(CLUSTER, policy).into_iter().map(|(d, text)| (d.code, text)).collect()
}

fn found_beside(cluster: &str, policy: &str) -> Vec<(Diagnostic, String)> {
    let mut sources = Sources::default();
    sources.add("cluster.yaml", cluster);
    sources.add("policy.yaml", policy);
    let text = |d: &Diagnostic| {
        let span = d.span.unwrap();
        sources.file(span.file).text[span.start as usize..span.end as usize].trim_end().to_owned()
    };
    check(&sources).into_iter().map(|d| (d.clone(), text(&d))).collect()
}

fn kubernetes(spec: &str) -> String {
    format!(
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: p, namespace: prod}}\nspec:\n{spec}"
    )
}

fn calico(spec: &str) -> String {
    format!(
        "apiVersion: projectcalico.org/v3\nkind: NetworkPolicy\nmetadata: {{name: p, namespace: prod}}\nspec:\n{spec}"
    )
}

#[track_caller]
fn assert_found(policy: &str, want: &[(&str, &str)]) {
    let found = found(policy);
    let found: Vec<(&str, &str)> = found.iter().map(|(code, text)| (*code, text.as_str())).collect();
    assert_eq!(found, want, "{policy}");
}

#[test]
fn selectors_without_a_match() {
    let web = "  podSelector: {matchLabels: {app: web}}\n";
    for (policy, want) in [
        (
            kubernetes(&format!(
                "{web}  ingress: [{{from: [{{podSelector: {{matchLabels: {{app: db}}}}}}]}}]\n"
            )),
            None,
        ),
        (
            kubernetes(&format!(
                "{web}  ingress: [{{from: [{{podSelector: {{matchLabels: {{app: dv}}}}}}]}}]\n"
            )),
            Some("{podSelector: {matchLabels: {app: dv}}}"),
        ),
        (
            kubernetes("  podSelector: {matchLabels: {app: wob}}\n  ingress: [{}]\n"),
            Some("{matchLabels: {app: wob}}"),
        ),
        // A Kubernetes selector never matches a network set, Calico's does.
        (
            kubernetes(&format!(
                "{web}  ingress: [{{from: [{{podSelector: {{matchLabels: {{role: office}}}}, namespaceSelector: {{}}}}]}}]\n"
            )),
            Some("{podSelector: {matchLabels: {role: office}}, namespaceSelector: {}}"),
        ),
        (
            calico(
                "  selector: app == 'web'\n  ingress:\n  - {action: Allow, source: {selector: role == 'office', namespaceSelector: global()}}\n",
            ),
            None,
        ),
        (
            calico(
                "  selector: app == 'web'\n  ingress:\n  - {action: Allow, source: {selector: role == 'office'}}\n",
            ),
            Some("role == 'office'"),
        ),
        (calico("  selector: app == 'wob'\n  ingress: [{action: Allow}]\n"), Some("app == 'wob'")),
    ] {
        let want: Vec<_> = want.iter().map(|text| (codes::UNMATCHED_SELECTOR, *text)).collect();
        assert_found(&policy, &want);
    }
}

#[test]
fn nothing_is_unmatched_without_an_inventory() {
    let policy =
        kubernetes("  podSelector: {}\n  ingress: [{from: [{podSelector: {matchLabels: {a: b}}}]}]\n");
    let host = "apiVersion: projectcalico.org/v3\nkind: HostEndpoint\nmetadata: {name: h}\nspec: {node: n, expectedIPs: [192.0.2.1]}\n";
    for cluster in ["", host] {
        assert_eq!(found_beside(cluster, &policy), [], "{cluster}");
    }
}

#[test]
fn rules_that_never_match() {
    for (rule, want) in [
        ("{action: Allow, source: {nets: [10.0.0.0/8], notNets: [10.0.0.0/7]}}", true),
        ("{action: Allow, source: {nets: [10.0.0.0/8], notNets: [10.0.0.0/9]}}", false),
        ("{action: Allow, protocol: TCP, notProtocol: TCP}", true),
        ("{action: Allow, protocol: TCP, destination: {ports: [80], notPorts: ['1:90']}}", true),
        ("{action: Allow, protocol: UDP, destination: {ports: [http]}}", true),
        ("{action: Allow, protocol: TCP, destination: {ports: [http]}}", false),
    ] {
        let want: Vec<_> = want.then_some((codes::NEVER_MATCHES, rule)).into_iter().collect();
        assert_found(&calico(&format!("  ingress:\n  - {rule}\n")), &want);
    }
}

#[test]
fn a_known_reason_is_not_given_twice() {
    assert_found(
        &calico("  ingress:\n  - {action: Allow, source: {notNets: [0.0.0.0/0]}}\n"),
        &[(codes::CATCH_ALL, "0.0.0.0/0")],
    );
}

#[test]
fn peers_are_told_apart_where_others_of_the_rule_live() {
    let block = "{ipBlock: {cidr: 10.0.0.0/31, except: [10.0.0.0/32, 10.0.0.1/32]}}";
    let policy = kubernetes(&format!(
        "  podSelector: {{}}\n  ingress:\n  - from: [{block}, {{podSelector: {{matchLabels: {{app: db}}}}}}]\n"
    ));
    assert_found(&policy, &[(codes::NEVER_MATCHES, block)]);
    let narrow = "{ipBlock: {cidr: 10.1.0.0/16}}";
    let policy = kubernetes(&format!(
        "  podSelector: {{}}\n  ingress:\n  - from: [{{ipBlock: {{cidr: 10.0.0.0/8}}}}, {narrow}]\n"
    ));
    assert_found(&policy, &[(codes::COVERED_RULE, narrow)]);
}

#[test]
fn covered_rules_name_what_covers_them() {
    let policy = calico(
        "  ingress:\n  - {action: Deny, source: {nets: [10.0.0.0/8]}}\n  - {action: Log}\n\
         \u{20} - {action: Allow, protocol: TCP, source: {nets: [10.1.0.0/16]}}\n  - {action: Deny, source: {nets: [10.2.0.0/16]}}\n",
    );
    let found = found_beside(CLUSTER, &policy);
    let seen: Vec<_> =
        found.iter().map(|(d, text)| (d.code, text.split(',').next().unwrap(), d.help[0].as_str())).collect();
    assert_eq!(
        seen,
        [
            (
                codes::COVERED_RULE,
                "{action: Allow",
                "move it to the front if it is meant as an exception, or remove it"
            ),
            (codes::COVERED_RULE, "{action: Deny", "remove it: nothing changes"),
        ]
    );
    for (diagnostic, _) in &found {
        assert!(diagnostic.message.contains("`ingress[0]`"), "{}", diagnostic.message);
        assert_eq!(diagnostic.related.len(), 1);
    }
}

#[test]
fn rules_that_only_overlap_are_left_alone() {
    assert_found(
        &calico(
            "  ingress:\n  - {action: Deny, source: {nets: [10.1.0.0/16]}}\n  - {action: Allow, source: {nets: [10.0.0.0/8]}}\n\
             \u{20} - {action: Allow, protocol: TCP, destination: {ports: [80]}}\n",
        ),
        &[],
    );
}

#[test]
fn ports_without_protocol() {
    let policy =
        |ports: &str| kubernetes(&format!("  podSelector: {{}}\n  ingress:\n  - ports: [{ports}]\n"));
    for (ports, want, help) in [
        ("{port: 80, protocol: TCP}", None, ""),
        ("{protocol: UDP}", None, ""),
        ("{port: 80}", Some("{port: 80}"), "protocol: TCP"),
        ("{port: 80}, {port: 53}", Some("{port: 53}"), "DNS"),
        ("{port: 50, endPort: 60}", Some("{port: 50, endPort: 60}"), "DNS"),
        ("{port: 53}, {port: 53, protocol: UDP}", Some("{port: 53}"), "DNS"),
    ] {
        let found = found_beside(CLUSTER, &policy(ports));
        assert_eq!(found.first().map(|(_, text)| text.as_str()), want, "{ports}");
        assert!(
            found.iter().all(|(d, _)| d.code == codes::IMPLIED_PROTOCOL && d.help[0].contains(help)),
            "{found:?}"
        );
    }
    assert_found(
        &calico("  ingress:\n  - {action: Allow, destination: {ports: [http]}}\n"),
        &[(codes::IMPLIED_PROTOCOL, "http")],
    );
}

#[test]
fn empty_lists() {
    use Severity::{Note, Warning};
    let cases = [
        (kubernetes("  podSelector: {}\n  policyTypes: [Ingress]\n"), vec![(codes::EMPTY_LIST, Note)]),
        (
            kubernetes("  podSelector: {}\n  policyTypes: [Ingress, Egress]\n  ingress: []\n"),
            vec![(codes::EMPTY_LIST, Note); 2],
        ),
        (kubernetes("  podSelector: {}\n  ingress: []\n"), vec![(codes::EMPTY_LIST, Warning)]),
        (kubernetes("  podSelector: {}\n"), vec![(codes::EMPTY_LIST, Warning)]),
        (kubernetes("  podSelector: {}\n  egress: [{}]\n"), vec![(codes::EMPTY_LIST, Warning)]),
        (kubernetes("  podSelector: {}\n  ingress: [{}]\n  egress: []\n"), vec![(codes::OPEN_LIST, Warning)]),
        (kubernetes("  podSelector: {}\n  policyTypes: [Ingress]\n  ingress: [{}]\n  egress: []\n"), vec![]),
        (calico("  egress: [{action: Allow}]\n"), vec![]),
        (calico("  ingress: []\n  egress: [{action: Allow}]\n"), vec![(codes::OPEN_LIST, Warning)]),
        (calico("  selector: all()\n"), vec![(codes::EMPTY_LIST, Warning)]),
        (calico("  types: [Egress]\n"), vec![(codes::EMPTY_LIST, Note)]),
    ];
    for (policy, want) in cases {
        let found: Vec<_> =
            found_beside(CLUSTER, &policy).iter().map(|(d, _)| (d.code, d.severity)).collect();
        assert_eq!(found, want, "{policy}");
    }
}

#[test]
fn leading_zeros() {
    let rule = |ports: &str| {
        calico(&format!(
            "  ingress:\n  - {{action: Allow, protocol: TCP, destination: {{ports: [{ports}]}}}}\n"
        ))
    };
    for (ports, fixed) in [
        ("80, '8080'", None),
        ("'080'", Some("80")),
        ("\"080:90\"", Some("80:90")),
        ("010:020", Some("10:20")),
        ("http-080", None),
    ] {
        let found = found_beside(CLUSTER, &rule(ports));
        let found: Vec<_> = found.iter().filter(|(d, _)| d.code == codes::LEADING_ZERO).collect();
        let fix = found.first().and_then(|(d, _)| d.fix.as_ref()).map(|fix| fix.text.as_str());
        assert_eq!(fix, fixed, "{ports}");
    }
}

/// Applying every fix of a run cures every finding that has one.
#[test]
fn fixes_cure() {
    let text = calico(
        "  selektor: role = 'db' and app == 'web'\n  order: 1\n  ingress:\n  - action: Alow\n    protocol: tcp\n    source: {nets: [\"10.1.2.3/8\"]}\n    destination: {ports: ['080']}\n",
    );
    let mut text = text.replace("selektor", "selecter");
    for round in 0.. {
        let mut sources = Sources::default();
        sources.add("policy.yaml", text.as_str());
        let mut fixes: Vec<_> = check(&sources).into_iter().filter_map(|d| d.fix).collect();
        if fixes.is_empty() {
            assert!(check(&sources).is_empty(), "{text}: {:?}", check(&sources));
            assert!(round > 1 && text.contains("selector: role == 'db' && app == 'web'"), "{text}");
            assert!(text.contains("\"10.0.0.0/8\"") && text.contains("['80']"), "{text}");
            return;
        }
        assert!(round < 8, "fixes do not come to an end: {text}");
        fixes.sort_by_key(|fix| std::cmp::Reverse(fix.span.start));
        for fix in fixes {
            text.replace_range(fix.span.start as usize..fix.span.end as usize, &fix.text);
        }
    }
}

#[test]
fn the_missing_label_is_named() {
    let peer = |peer: &str| kubernetes(&format!("  podSelector: {{}}\n  ingress: [{{from: [{peer}]}}]\n"));
    for (policy, want) in [
        (
            peer("{podSelector: {matchLabels: {app: wbe}}}"),
            "no endpoint or network set has `app: wbe`; did you mean `web`?",
        ),
        (
            peer("{podSelector: {matchLabels: {ap: web}}}"),
            "no endpoint or network set has the label `ap`; did you mean `app`?",
        ),
        (
            peer("{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: prd}}}"),
            "no namespace has `kubernetes.io/metadata.name: prd`; did you mean `prod`?",
        ),
        (
            kubernetes("  podSelector: {}\n  ingress: [{}]\n").replace("prod", "prdo"),
            "nothing is in the namespace `prdo`; did you mean `prod`?",
        ),
        (peer("{podSelector: {matchLabels: {app: web, role: office}}}"), "what is looked for is"),
    ] {
        let found = found_beside(CLUSTER, &policy);
        assert_eq!(found.len(), 1, "{policy}: {found:?}");
        assert!(found[0].0.help[0].starts_with(want), "{:?}", found[0].0.help);
    }
}
