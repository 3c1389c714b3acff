//! What passes and what does not.

use std::io::ErrorKind;
use std::net::UdpSocket;
use std::time::Duration;

use crate::policies::{calico_ingress, tcp_ports};
use crate::traffic::{Servers, connect, echoes, ping, soon, tcp, udp};
use crate::world::{IFACE, NODE_V4, NODE_V6, POD_V4, POD_V6, World, attach, text, within};

const MIXED: &str = "
    - { action: Allow, protocol: TCP, destination: { ports: [80] } }
    - { action: Allow, protocol: UDP, destination: { ports: [53] } }
    - { action: Allow, protocol: ICMPv6 }
";

fn verdicts_at(hook: &str) {
    let Some(world) = World::new() else { return };
    let _servers = Servers::new(&world, &[80, 81], &[53, 54]);
    let (v4, v6) = (POD_V4, format!("[{POD_V6}]"));
    soon("no policy yet, v4", || tcp(&world, &format!("{v4}:81")) && udp(&world, &format!("{v4}:54")));
    soon("no policy yet, v6", || tcp(&world, &format!("{v6}:81")) && udp(&world, &format!("{v6}:54")));
    soon("no policy yet, echo", || ping(&world.node, v4) && ping(&world.node, POD_V6));
    world.attach(&world.policy("mixed.yaml", &calico_ingress(MIXED)), &["--hook", hook]);
    for host in [v4, &v6] {
        assert!(tcp(&world, &format!("{host}:80")), "{hook}: TCP 80 of {host} is allowed");
        assert!(!tcp(&world, &format!("{host}:81")), "{hook}: TCP 81 of {host} is denied");
        assert!(udp(&world, &format!("{host}:53")), "{hook}: UDP 53 of {host} is allowed");
        assert!(!udp(&world, &format!("{host}:54")), "{hook}: UDP 54 of {host} is denied");
    }
    assert!(!ping(&world.node, POD_V4), "{hook}: ICMP is denied");
    assert!(ping(&world.node, POD_V6), "{hook}: ICMPv6 is allowed");
    // Egress has no policy: what the pod asks for is answered.
    assert!(ping(&world.pod, NODE_V4) && ping(&world.pod, NODE_V6), "{hook}: replies are tracked");
    world.ok(&["detach", "--interface", IFACE]);
    assert!(tcp(&world, &format!("{v4}:81")) && ping(&world.node, POD_V4), "{hook}: detached");
}

#[test]
fn tcp_udp_icmp_and_ipv6_with_tcx() {
    verdicts_at("tcx");
}

#[test]
fn tcp_udp_icmp_and_ipv6_with_clsact() {
    verdicts_at("clsact");
}

#[test]
fn errors_and_fragments_of_what_is_allowed_pass() {
    for hook in ["tcx", "clsact"] {
        let Some(world) = World::new() else { return };
        soon("the link is up", || ping(&world.node, POD_V4) && ping(&world.node, POD_V6));
        // Nothing comes in but what answers; nobody listens on the node's port 9.
        world.attach(&world.policy("none.yaml", &tcp_ports(&[])), &["--hook", hook]);
        assert!(!ping(&world.node, POD_V4) && !ping(&world.node, POD_V6), "{hook}");
        for (any, far) in [("0.0.0.0:0", format!("{NODE_V4}:9")), ("[::]:0", format!("[{NODE_V6}]:9"))] {
            let socket = within(&world.pod, || UdpSocket::bind(any).unwrap());
            socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
            socket.connect(&far).unwrap();
            socket.send(b"hello").unwrap();
            let answer = socket.recv(&mut [0; 16]).unwrap_err().kind();
            assert_eq!(answer, ErrorKind::ConnectionRefused, "{hook}: port unreachable from {far}");
        }
        // Larger than a frame: the first fragment is decided, and the others follow it.
        let big = |address| {
            let ping = ["ping", "-c1", "-W0.3", "-q", "-s4000", address];
            world.in_namespace(&ping).status.success()
        };
        assert!(!big(POD_V4) && !big(POD_V6), "{hook}");
        world.attach(&world.policy("mixed.yaml", &calico_ingress(MIXED)), &[]);
        assert!(!big(POD_V4) && big(POD_V6), "{hook}: ICMPv6 alone is allowed");
    }
}

#[test]
fn a_connection_survives_an_update_that_denies_its_like() {
    for hook in ["tcx", "clsact"] {
        let Some(world) = World::new() else { return };
        let _servers = Servers::new(&world, &[80], &[]);
        world.attach(&world.policy("old.yaml", &tcp_ports(&[80])), &["--hook", hook]);
        let mut stream = connect(&world, &format!("{POD_V4}:80")).unwrap();
        assert!(echoes(&mut stream));
        world.attach(&world.policy("new.yaml", &tcp_ports(&[81])), &[]);
        assert!(echoes(&mut stream), "{hook}: the connection goes on");
        assert!(!tcp(&world, &format!("{POD_V4}:80")), "{hook}: a new one does not");
    }
}

#[test]
fn a_policy_that_cannot_be_had_leaves_the_old_one() {
    let Some(world) = World::new() else { return };
    let _servers = Servers::new(&world, &[80, 81], &[]);
    let good = world.policy("good.yaml", &tcp_ports(&[80]));
    world.attach(&good, &[]);
    let before = world.pins();
    let invalid = world.policy("bad.yaml", "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\n");
    assert_eq!(world.polc(&attach(&invalid)).status.code(), Some(3));
    let nowhere = ["attach", &good, "--interface", "none9", "--endpoint", "default/pod"];
    let output = world.polc(&nowhere);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output).contains("interface `none9` is not there"), "{}", text(&output));
    assert_eq!(world.pins(), before);
    assert!(tcp(&world, &format!("{POD_V4}:80")) && !tcp(&world, &format!("{POD_V4}:81")));
}

#[test]
fn another_hook_takes_over_and_another_endpoint_has_its_own_connections() {
    let Some(world) = World::new() else { return };
    let _servers = Servers::new(&world, &[80, 81], &[]);
    let policy = world.policy("old.yaml", &tcp_ports(&[80]));
    for hook in ["tcx", "clsact", "tcx", "clsact", "auto"] {
        world.attach(&policy, &["--hook", hook]);
        assert!(tcp(&world, &format!("{POD_V4}:80")) && !tcp(&world, &format!("{POD_V4}:81")), "{hook}");
        let status = world.ok(&["status", "-o", "json"]);
        assert_eq!(status.matches("\"enforced\"").count(), 2, "{status}");
    }
    assert!(world.ok(&["status"]).contains("clsact"), "auto keeps what is there");
    let renamed = tcp_ports(&[81]).replace("name: pod,", "name: other,");
    let renamed = world.policy("renamed.yaml", &renamed);
    world.ok(&["attach", &renamed, "--interface", IFACE, "--endpoint", "default/other"]);
    assert!(tcp(&world, &format!("{POD_V4}:81")) && !tcp(&world, &format!("{POD_V4}:80")));
}
