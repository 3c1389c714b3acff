//! Captures, put together by hand.

use polc_compiler::ir::Flow;
use polc_runtime::packet::build;

/// web 10.0.0.1, api 10.0.0.2; 192.0.2.1 is nobody's.
pub fn packets() -> Vec<Vec<u8>> {
    let tcp = |src: [u8; 4], dst: [u8; 4], ports| {
        let flow = Flow { src: src.into(), dst: dst.into(), protocol: 6, ports: Some(ports), icmp: None };
        build::frame(&flow).expect("a frame")
    };
    let mut arp = vec![0; 42];
    arp[12..14].copy_from_slice(&[8, 6]);
    vec![
        tcp([10, 0, 0, 2], [10, 0, 0, 1], (4000, 80)),
        tcp([10, 0, 0, 2], [10, 0, 0, 1], (4001, 81)),
        tcp([192, 0, 2, 1], [10, 0, 0, 1], (4002, 80)),
        tcp([192, 0, 2, 1], [192, 0, 2, 2], (1, 2)),
        arp,
        tcp([192, 0, 2, 1], [10, 0, 0, 1], (4003, 80))[..40].to_vec(),
        vec![0xff; 10],
    ]
}

/// A UDP packet.
pub fn udp(src: [u8; 4], dst: [u8; 4], ports: (u16, u16)) -> Vec<u8> {
    let flow = Flow { src: src.into(), dst: dst.into(), protocol: 17, ports: Some(ports), icmp: None };
    build::frame(&flow).expect("a frame")
}

/// A capture with microseconds, little endian.
pub fn pcap(packets: &[Vec<u8>]) -> Vec<u8> {
    classic(packets, 0xa1b2_c3d4, u32::to_le_bytes, u16::to_le_bytes, 1000)
}

/// The same packets in every form that has their times.
pub fn forms(packets: &[Vec<u8>]) -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("pcap, µs, big endian", classic(packets, 0xa1b2_c3d4, u32::to_be_bytes, u16::to_be_bytes, 1000)),
        ("pcap, ns, little endian", classic(packets, 0xa1b2_3c4d, u32::to_le_bytes, u16::to_le_bytes, 1)),
        ("pcap, ns, big endian", classic(packets, 0xa1b2_3c4d, u32::to_be_bytes, u16::to_be_bytes, 1)),
        ("pcapng, little endian", ng(packets, u32::to_le_bytes, u16::to_le_bytes)),
        ("pcapng, big endian", ng(packets, u32::to_be_bytes, u16::to_be_bytes)),
    ]
}

/// Packet `i` was captured `i` milliseconds after 10:00.
const SECONDS: u32 = 36_000;

fn classic(
    packets: &[Vec<u8>],
    magic: u32,
    long: fn(u32) -> [u8; 4],
    short: fn(u16) -> [u8; 2],
    unit: u32,
) -> Vec<u8> {
    let mut file = [&long(magic)[..], &short(2), &short(4)].concat();
    [0, 0, 65535, 1].iter().for_each(|n| file.extend(long(*n)));
    for (i, packet) in packets.iter().enumerate() {
        let length = packet.len() as u32;
        [SECONDS, i as u32 % 1000 * (1_000_000 / unit), length, length]
            .iter()
            .for_each(|n| file.extend(long(*n)));
        file.extend(packet);
    }
    file
}

fn ng(packets: &[Vec<u8>], long: fn(u32) -> [u8; 4], short: fn(u16) -> [u8; 2]) -> Vec<u8> {
    let words = |words: &[u32]| words.iter().flat_map(|n| long(*n)).collect::<Vec<u8>>();
    let block = |kind: u32, body: &[u8]| {
        let length = body.len().next_multiple_of(4) as u32 + 12;
        let mut block = [words(&[kind, length]), body.to_vec()].concat();
        block.resize(length as usize - 4, 0);
        block.extend(long(length));
        block
    };
    let version = [short(1), short(0)].concat();
    let mut file = block(0x0a0d_0d0a, &[words(&[0x1a2b_3c4d]), version, vec![0xff; 8]].concat());
    file.extend(block(1, &[&short(1)[..], &short(0), &long(0)].concat()));
    for (i, packet) in packets.iter().enumerate() {
        let time = u64::from(SECONDS) * 1_000_000 + i as u64 % 1000 * 1000;
        let length = packet.len() as u32;
        let head = words(&[0, (time >> 32) as u32, time as u32, length, length]);
        file.extend(block(6, &[head, packet.clone()].concat()));
    }
    file
}
