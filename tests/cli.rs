//! The command as a user sees it: exit codes, streams and formats.

#[path = "cli/captures.rs"]
mod captures;
#[path = "cli/check.rs"]
mod check;
#[path = "cli/compile.rs"]
mod compile;
#[path = "cli/hosts.rs"]
mod hosts;
#[path = "cli/profile.rs"]
mod profile;
#[path = "cli/run.rs"]
mod run;
#[path = "cli/schema.rs"]
mod schema;
#[path = "cli/support.rs"]
mod support;

use support::{Scene, polc};

#[test]
fn wrong_usage_is_exit_2() {
    let scene = Scene::new();
    let pods = scene.path("cluster.yaml");
    let cases: [(&[&str], &str); 10] = [
        (&[], "Usage"),
        (&["explode"], "unrecognized subcommand"),
        (&["compile"], "required"),
        (&["compile", "/nonexistent/p.yaml"], "/nonexistent/p.yaml"),
        (&["compile", &pods, "--endpoint", "a/b/c"], "NAMESPACE/NAME"),
        (&["compile", &pods, "--endpoint", "web"], "no endpoint web"),
        (&["compile", &pods, "--endpoint", "shop/nobody"], "no endpoint shop/nobody"),
        (&["run", &pods], "--pcap"),
        (&["run", &pods, "--pcap", "/nonexistent/t.pcap"], "/nonexistent/t.pcap"),
        (&["run", "-", "--pcap", "-"], "both"),
    ];
    for (args, want) in cases {
        let result = polc(args, b"");
        assert_eq!(result.code, 2, "{args:?}: {}", result.stderr);
        assert!(result.stderr.contains(want), "{args:?}: {}", result.stderr);
        assert_eq!(result.stdout, "", "{args:?}");
    }
}

#[test]
fn everything_unreadable_is_named_at_once() {
    let scene = Scene::new();
    scene.write("latin1.yaml", b"name: caf\xe9\n");
    scene.make_folder("empty");
    let (latin1, empty) = (scene.path("latin1.yaml"), scene.path("empty"));
    let result = polc(&["compile", "/nonexistent.yaml", &latin1, &empty], b"");
    assert_eq!(result.code, 2);
    for want in ["/nonexistent.yaml", "byte 0xe9 at offset 9", "holds no *.yaml"] {
        assert!(result.stderr.contains(want), "{want}: {}", result.stderr);
    }
}

#[test]
fn invalid_policy_is_exit_3_with_its_place() {
    let bad = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata:\n  name: p\nspec:\n  podSelectr: {}\n";
    let result = polc(&["compile", "-"], bad.as_bytes());
    assert_eq!(result.code, 3, "{}", result.stderr);
    assert!(result.stderr.contains("<stdin>:6"), "{}", result.stderr);
}

#[test]
fn no_colours_where_nobody_sees_them() {
    let scene = Scene::new();
    let result = polc(&["run", &scene.path("cluster.yaml"), "--pcap", &scene.path("t.pcap")], b"");
    assert!(!result.stdout.contains('\x1b') && !result.stderr.contains('\x1b'), "{}", result.stdout);
}

#[test]
fn completions_and_manual_are_generated() {
    for shell in ["bash", "zsh", "fish"] {
        assert!(polc(&["completions", shell], b"").stdout.contains("pcap"), "{shell}");
    }
    let manual = polc(&["man"], b"").stdout;
    assert!(manual.starts_with(".") || manual.contains(".TH"), "{manual}");
    assert!(manual.contains("polc\\-run") || manual.contains("polc run"), "the subcommands are in it");
}
