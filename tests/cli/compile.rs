//! `polc compile`.

use crate::support::{POLICY, Scene, command, polc};

#[test]
fn the_listing_names_policy_and_line() {
    let scene = Scene::new();
    let ran = polc(&["compile", &scene.path("policy.yaml")], b"");
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    assert!(ran.stdout.contains("shop/web") && ran.stdout.contains("policy.yaml:7"), "{}", ran.stdout);
}

#[test]
fn text_forms() {
    let scene = Scene::new();
    let policy = scene.path("policy.yaml");
    for (emit, want) in [
        ("ir", "policy \"shop/web\" ingress"),
        ("hex", "# shop/web ingress"),
        ("json", "{\"apiVersion\":\"polc/v1\",\"kind\":\"Program\",\"name\":\"shop/web\""),
        ("dot", "digraph \"shop/web ingress\" {"),
    ] {
        let ran = polc(&["compile", &policy, "--emit", emit], b"");
        assert!(ran.stdout.starts_with(want), "{emit}: {}", ran.stdout);
        scene.write("out", b"");
        polc(&["compile", &policy, "--emit", emit, "-o", &scene.path("out")], b"");
        assert_eq!(scene.read("out"), ran.stdout.as_bytes(), "{emit}: the same into a file");
    }
}

#[test]
fn stats_say_which_form_was_taken_and_what_else_there_was() {
    let scene = Scene::new();
    // A selector: tables, whose members may change.
    let ran = polc(&["compile", &scene.path("policy.yaml"), "--stats"], b"");
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    assert!(ran.stdout.starts_with("shop/web ingress\n  form          dense: about "), "{}", ran.stdout);
    assert!(ran.stdout.contains("polc_cells") && ran.stdout.contains("addressed directly"), "{}", ran.stdout);
    // A block of addresses and a port: compared, which tables would have cost more.
    let blocks = b"
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: { name: office, namespace: shop }
spec:
  podSelector: {}
  ingress: [{ from: [{ ipBlock: { cidr: 192.0.2.0/24 } }], ports: [{ port: 443 }] }]
";
    let ran = polc(&["compile", "-", "--stats"], blocks);
    assert!(ran.stdout.contains("  form          direct: about "), "{}", ran.stdout);
    assert!(ran.stdout.contains("  instead of    dense: about "), "{}", ran.stdout);
    assert_eq!(polc(&["compile", "-", "--stats", "--emit", "hex"], blocks).code, 2);
}

#[test]
fn levels_are_0_to_2() {
    let scene = Scene::new();
    let policy = scene.path("policy.yaml");
    for level in ["-O0", "-O1", "-O2"] {
        assert_eq!(polc(&["compile", &policy, level], b"").code, 0, "{level}");
    }
    assert_eq!(polc(&["compile", &policy, "-O3"], b"").code, 2);
}

#[test]
fn objects_are_the_same_each_time() {
    let scene = Scene::new();
    let object =
        || command(&["compile", &scene.path("policy.yaml"), "--emit", "elf"]).output().unwrap().stdout;
    let first = object();
    assert!(first.starts_with(b"\x7fELF"));
    assert_eq!(first, object());
    let file = scene.path("web.o");
    assert_eq!(polc(&["compile", &scene.path("policy.yaml"), "--emit", "elf", "-o", &file], b"").code, 0);
    assert_eq!(scene.read("web.o"), first);
}

#[test]
fn several_objects_need_a_folder() {
    let scene = Scene::new();
    let inputs = [scene.path("cluster.yaml"), scene.path("policy.yaml")];
    let args = ["compile", &inputs[0], &inputs[1], "--emit", "elf"];
    let ran = polc(&args, b"");
    assert_eq!(ran.code, 2);
    assert!(ran.stderr.contains("-o FOLDER"), "{}", ran.stderr);
    let folder = scene.path("objects");
    let ran = polc(&[&args[..], &["-o", &folder]].concat(), b"");
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    assert!(scene.read("objects/shop_web.ingress.o").starts_with(b"\x7fELF"));
}

#[test]
fn equal_programs_are_compiled_once_and_name_their_sharers() {
    let scene = Scene::new();
    let ran = polc(&["compile", &scene.path("cluster.yaml"), "--direction", "egress"], b"");
    assert!(
        ran.stdout.contains("shared by shop/web, shop/api")
            || ran.stdout.contains("shared by shop/api, shop/web"),
        "{}",
        ran.stdout
    );
}

#[test]
fn a_folder_is_read_in_the_order_of_names() {
    let scene = Scene::new();
    scene.make_folder("in/deeper");
    scene.write("in/b.yaml", POLICY.as_bytes());
    scene.write("in/a.yml", POLICY.replace("name: web", "name: first").as_bytes());
    scene.write("in/notes.txt", b"{{{ not yaml");
    scene.write("in/deeper/c.yaml", b"{{{ not read");
    let ran = polc(&["compile", &scene.path("in"), "--emit", "json"], b"");
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let files: Vec<&str> = ran.stdout.matches("in/a.yml").chain(ran.stdout.matches("in/b.yaml")).collect();
    assert!(!files.is_empty(), "{}", ran.stdout);
}

#[test]
fn nothing_to_compile_is_said() {
    let scene = Scene::new();
    scene.write("ns.yaml", b"apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n");
    let ran = polc(&["compile", &scene.path("ns.yaml")], b"");
    assert_eq!(ran.code, 2);
    assert!(ran.stderr.contains("nothing to compile"), "{}", ran.stderr);
}
