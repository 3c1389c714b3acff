//! Hand-built frames, whole and hostile.

use super::*;
use crate::packet::{Addresses, addresses};

fn ethernet(ethertype: u16, body: &[u8]) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1];
    frame.extend_from_slice(&ethertype.to_be_bytes());
    frame.extend_from_slice(body);
    frame
}

/// A frame of an IPv4 header of `words` words and `body`; `fragment` is its offset field.
fn v4_with(protocol: u8, words: u8, fragment: u16, body: &[u8]) -> Vec<u8> {
    let header_len = usize::from(words) * 4;
    let mut ip = vec![0; header_len.max(20)];
    ip[0] = 0x40 | words;
    ip[2..4].copy_from_slice(&((header_len + body.len()) as u16).to_be_bytes());
    ip[4..6].copy_from_slice(&0x1234u16.to_be_bytes());
    ip[6..8].copy_from_slice(&fragment.to_be_bytes());
    ip[9] = protocol;
    ip[12..16].copy_from_slice(&[10, 0, 0, 1]);
    ip[16..20].copy_from_slice(&[10, 0, 0, 2]);
    ip.extend_from_slice(body);
    ethernet(0x0800, &ip)
}

fn v4(protocol: u8, body: &[u8]) -> Vec<u8> {
    v4_with(protocol, 5, 0, body)
}

fn v6_hop(next: u8, hop_limit: u8, body: &[u8]) -> Vec<u8> {
    let mut ip = vec![0x60, 0, 0, 0];
    ip.extend_from_slice(&(body.len() as u16).to_be_bytes());
    ip.extend_from_slice(&[next, hop_limit]);
    ip.extend_from_slice(&[0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    ip.extend_from_slice(&[0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
    ip.extend_from_slice(body);
    ethernet(0x86dd, &ip)
}

fn v6(next: u8, body: &[u8]) -> Vec<u8> {
    v6_hop(next, 64, body)
}

fn tcp(flags: u8) -> Vec<u8> {
    let mut header = vec![0; 20];
    header[0..4].copy_from_slice(&[4, 210, 0, 80]);
    (header[12], header[13]) = (0x50, flags);
    header
}

fn udp(len: u16) -> Vec<u8> {
    let mut header = vec![0, 53, 1, 0];
    header.extend_from_slice(&len.to_be_bytes());
    header.extend_from_slice(&[0, 0]);
    header
}

fn echo(icmp_type: u8) -> Vec<u8> {
    vec![icmp_type, 0, 0, 0, 0xab, 0xcd, 0, 1]
}

/// An extension header of `units + 1` times eight bytes before `body`.
fn extension(next: u8, units: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; (usize::from(units) + 1) * 8];
    (bytes[0], bytes[1]) = (next, units);
    bytes.extend_from_slice(body);
    bytes
}

fn fragment(next: u8, offset: u16, more: bool, body: &[u8]) -> Vec<u8> {
    let field = offset << 3 | u16::from(more);
    let mut bytes = vec![next, 0, (field >> 8) as u8, field as u8, 1, 2, 3, 4];
    bytes.extend_from_slice(body);
    bytes
}

/// `count` destination options, then TCP.
fn options(count: usize) -> Vec<u8> {
    (0..count).fold(tcp(2), |body, i| extension(if i == 0 { 6 } else { 60 }, 0, &body))
}

fn changed(mut frame: Vec<u8>, at: usize, byte: u8) -> Vec<u8> {
    frame[at] = byte;
    frame
}

fn cut(mut frame: Vec<u8>, len: usize) -> Vec<u8> {
    frame.truncate(len);
    frame
}

fn headers(what: &str, frame: &[u8]) -> Headers {
    match parse(frame) {
        Parsed::Ip(headers) => headers,
        other => panic!("{what}: {other:?}"),
    }
}

#[test]
fn transport_facts() {
    let all = [
        ("tcp", v4(6, &tcp(2)), 6, Some((1234, 80)), None),
        ("udp", v4(17, &udp(8)), 17, Some((53, 256)), None),
        ("sctp", v4(132, &tcp(0)), 132, Some((1234, 80)), None),
        ("icmp", v4(1, &echo(3)), 1, None, Some((3, 0))),
        ("icmpv6 number over IPv4", v4(58, &echo(128)), 58, None, None),
        ("udplite has no ports here", v4(136, &udp(8)), 136, None, None),
        ("gre without a byte", v4(47, &[]), 47, None, None),
        ("options", v4_with(6, 15, 0, &tcp(2)), 6, Some((1234, 80)), None),
        ("tcp6", v6(6, &tcp(2)), 6, Some((1234, 80)), None),
        ("icmpv6", v6(58, &echo(1)), 58, None, Some((1, 0))),
        ("icmp number over IPv6", v6(1, &echo(8)), 1, None, None),
        ("udp jumbogram", v6(17, &udp(0)), 17, Some((53, 256)), None),
        ("esp ends the chain", v6(50, &[1]), 50, None, None),
        ("no next header", v6(59, &[]), 59, None, None),
    ];
    for (what, frame, protocol, ports, icmp) in all {
        let found = headers(what, &frame);
        assert_eq!(
            (found.flow.protocol, found.flow.ports, found.flow.icmp),
            (protocol, ports, icmp),
            "{what}"
        );
        assert_eq!(found.fragment, Fragment::Whole, "{what}");
        let Addresses::Ip(src, dst) = addresses(&frame) else { panic!("{what}") };
        assert_eq!((found.flow.src, found.flow.dst), (src, dst), "{what}");
    }
}

#[test]
fn tcp_flags_and_echo() {
    assert_eq!(headers("syn", &v4(6, &tcp(2))).tcp_flags, 2);
    for (frame, want) in [
        (v4(1, &echo(8)), Some(true)),
        (v4(1, &echo(0)), Some(false)),
        (v4(1, &echo(128)), None),
        (v6(58, &echo(128)), Some(true)),
        (v6(58, &echo(129)), Some(false)),
        (v6(58, &echo(8)), None),
    ] {
        assert_eq!(headers("echo", &frame).echo, want.map(|request| Echo { request, id: 0xabcd }));
    }
}

#[test]
fn tags_and_chains() {
    let tagged = |frame: &[u8]| {
        let mut tagged = frame[..12].to_vec();
        tagged.extend_from_slice(&[0x81, 0, 0, 7]);
        tagged.extend_from_slice(&frame[12..]);
        tagged
    };
    let plain = v4(6, &tcp(2));
    let twice = tagged(&tagged(&plain));
    assert_eq!(parse(&tagged(&plain)), parse(&plain));
    assert_eq!(parse(&changed(changed(twice.clone(), 12, 0x88), 13, 0xa8)), parse(&plain));
    assert_eq!(parse(&tagged(&twice)), Parsed::Bad(Fault::Unsupported));

    let chain = extension(
        43,
        1,
        &extension(
            60,
            0,
            &extension(51, 2, &{
                // Authentication: length field in units of four bytes, less two.
                let mut ah = vec![6, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
                ah.extend_from_slice(&tcp(2));
                ah
            }),
        ),
    );
    assert_eq!(headers("chain", &v6(0, &chain)).flow.ports, Some((1234, 80)));
    assert_eq!(headers("eight", &v6(60, &options(8))).flow.ports, Some((1234, 80)));
}

#[test]
fn fragments() {
    let first = Fragment::First { id: 0x1234 };
    let later = Fragment::Later { id: 0x1234 };
    let (first6, later6) = (Fragment::First { id: 0x0102_0304 }, Fragment::Later { id: 0x0102_0304 });
    let ports = Some((1234, 80));
    for (what, frame, want, want_ports, protocol) in [
        ("first", v4_with(6, 5, 0x2000, &tcp(2)), first, ports, 6),
        ("middle", v4_with(6, 5, 0x2005, &tcp(2)), later, None, 6),
        ("last", v4_with(6, 5, 0x0005, &[0; 3]), later, None, 6),
        ("udp at 8", v4_with(17, 5, 0x0001, &[0; 3]), later, None, 17),
        ("don't fragment", v4_with(6, 5, 0x4000, &tcp(2)), Fragment::Whole, ports, 6),
        ("first 6", v6(44, &fragment(6, 0, true, &tcp(2))), first6, ports, 6),
        ("first 6 with options", v6(44, &fragment(60, 0, true, &options(1))), first6, ports, 6),
        ("later 6", v6(44, &fragment(60, 9, false, &[0; 3])), later6, None, 60),
        ("atomic", v6(44, &fragment(6, 0, false, &tcp(2))), Fragment::Whole, ports, 6),
    ] {
        let found = headers(what, &frame);
        assert_eq!(
            (found.fragment, found.flow.ports, found.flow.protocol),
            (want, want_ports, protocol),
            "{what}"
        );
    }
}

#[test]
fn neighbour_discovery() {
    for (icmp_type, hop_limit, want) in [
        (135, 255, true),
        (136, 255, true),
        (133, 255, true),
        (135, 64, false),
        (134, 255, false),
        (137, 255, false),
        (131, 1, true),
        (131, 255, false),
        (143, 1, false),
        (128, 255, false),
    ] {
        let found = headers("nd", &v6_hop(58, hop_limit, &echo(icmp_type)));
        assert_eq!(found.neighbour_discovery, want, "type {icmp_type} hop limit {hop_limit}");
    }
    let in_fragment = v6_hop(44, 255, &fragment(58, 0, true, &echo(135)));
    assert!(!headers("fragment", &in_fragment).neighbour_discovery);
    let code = v6_hop(58, 255, &[135, 1, 0, 0, 0, 0, 0, 0]);
    assert!(!headers("code", &code).neighbour_discovery);
}

#[test]
fn not_ip() {
    for ethertype in [0x0806, 0x8847, 0x9100, 46] {
        assert_eq!(parse(&ethernet(ethertype, &[])), Parsed::NotIp, "{ethertype:#x}");
    }
}

#[test]
fn faults() {
    use Fault::*;
    let ping_of_death = v4_with(1, 5, 8189, &[0; 40]);
    let good = v4(6, &tcp(2));
    let good6 = v6(6, &tcp(2));
    let jumbo_fragment = changed(changed(v6(44, &fragment(17, 9, false, &[0; 8])), 18, 0), 19, 0);
    let all: Vec<(&str, Vec<u8>, Fault)> = vec![
        ("nothing", vec![], TooShort),
        ("13 bytes", cut(good.clone(), 13), TooShort),
        ("tag cut", cut(ethernet(0x8100, &[0, 1, 8]), 17), TooShort),
        ("no IP header", cut(good.clone(), 14), TooShort),
        ("IP header cut", cut(good.clone(), 33), TooShort),
        ("TCP cut", cut(good.clone(), 53), TooShort),
        ("version 6 in IPv4", changed(good.clone(), 14, 0x65), Malformed),
        ("IHL 4", changed(good.clone(), 14, 0x44), Malformed),
        ("total below header", changed(good.clone(), 17, 19), Malformed),
        ("total 0", changed(good.clone(), 17, 0), Malformed),
        ("TCP in the padding", changed(good.clone(), 17, 39), Malformed),
        ("options not there", cut(v4_with(6, 15, 0, &tcp(2)), 60), TooShort),
        ("TCP offset 4", changed(good.clone(), 46, 0x40), Malformed),
        ("TCP options outside", changed(good.clone(), 46, 0x60), Malformed),
        ("UDP length 7", v4(17, &udp(7)), Malformed),
        ("UDP length 0 over IPv4", v4(17, &udp(0)), Malformed),
        ("SCTP 11 bytes", v4(132, &tcp(0)[..11]), Malformed),
        ("ICMP 7 bytes", v4(1, &echo(8)[..7]), Malformed),
        ("tiny first fragment", v4_with(6, 5, 0x2000, &tcp(2)[..16]), Malformed),
        ("TCP at 8", v4_with(6, 5, 1, &[0; 20]), Malformed),
        ("ping of death", ping_of_death, Malformed),
        ("version 4 in IPv6", changed(good6.clone(), 14, 0x40), Malformed),
        ("IPv6 header cut", cut(good6.clone(), 53), TooShort),
        ("TCP outside the payload", changed(good6.clone(), 19, 19), Malformed),
        ("TCP6 cut", cut(good6.clone(), 73), TooShort),
        ("nine extensions", v6(60, &options(9)), Unsupported),
        ("hop-by-hop second", v6(60, &extension(0, 0, &extension(6, 0, &tcp(2)))), Malformed),
        ("extension outside", v6(60, &extension(59, 0, &[])[..7]), Malformed),
        ("long extension outside", changed(v6(60, &options(1)), 55, 4), Malformed),
        ("extension cut", cut(v6(60, &extension(59, 3, &[0; 4])), 80), TooShort),
        ("short authentication", v6(51, &extension(59, 0, &[0; 8])), Malformed),
        ("two fragment headers", v6(44, &fragment(44, 0, false, &fragment(6, 0, false, &tcp(2)))), Malformed),
        ("TCP6 at 8", v6(44, &fragment(6, 1, false, &[0; 20])), Malformed),
        ("IPv6 ping of death", v6(44, &fragment(17, 8190, false, &[0; 40])), Malformed),
        ("chain beyond the first fragment", v6(44, &fragment(60, 0, true, &[6, 0, 0])), Malformed),
        ("fragment of a jumbogram", jumbo_fragment, Malformed),
    ];
    for (what, frame, want) in all {
        assert_eq!(parse(&frame), Parsed::Bad(want), "{what}");
    }
}

#[test]
fn capture_cut_behind_the_headers_is_whole() {
    let frame = v4(6, &[tcp(2), vec![0; 1000]].concat());
    assert_eq!(parse(&cut(frame.clone(), 54)), parse(&frame));
    // No bound from the IP header: a jumbogram, or the kernel's BIG TCP.
    let jumbo = changed(changed(v6(6, &tcp(2)), 18, 0), 19, 0);
    assert_eq!(headers("jumbogram", &jumbo).flow.ports, Some((1234, 80)));
    let mut big = changed(changed(v4(6, &tcp(2)), 16, 0), 17, 0);
    big.resize(65_536, 0);
    assert_eq!(headers("big tcp", &big).flow.ports, Some((1234, 80)));
}

#[test]
fn ethernet_padding_is_not_read() {
    let mut frame = v4(6, &tcp(2)[..10]);
    frame.extend_from_slice(&tcp(2));
    assert!(matches!(parse(&frame), Parsed::Bad(Fault::Malformed)));
}

proptest::proptest! {
    #[test]
    fn never_panics(seed in 0usize..6, edits in proptest::collection::vec((0usize..90, 0u8..), 0..12), len in 0usize..120) {
        let mut frame = [
            v4(6, &tcp(2)), v4(17, &udp(8)), v4_with(6, 6, 0x2000, &tcp(2)),
            v6(0, &extension(60, 0, &options(3))), v6(44, &fragment(6, 3, true, &tcp(2))), v6(58, &echo(135)),
        ][seed].clone();
        for (at, byte) in edits {
            if let Some(b) = frame.get_mut(at) {
                *b = byte;
            }
        }
        frame.truncate(len);
        if let Parsed::Ip(found) = parse(&frame) {
            assert_eq!(addresses(&frame), Addresses::Ip(found.flow.src, found.flow.dst));
        }
    }
}
