//! Draws packets for the entry programs: short conversations between few hosts,
//! so that connections and datagrams meet again, a third of them damaged.

use polc_compiler::ir::generate::Rng;

const SECOND: u64 = 1_000_000_000;

/// A packet at one of the attachments.
pub struct Drawn {
    /// Index of the attachment: endpoint 0 ingress, egress, endpoint 1 ingress, ….
    pub attachment: u32,
    pub data: Vec<u8>,
    /// More than `data` where the capture is cut off.
    pub wire_len: u32,
    pub now: u64,
}

/// `count` packets, in order of arrival (almost: the clock may step back).
pub fn draw(seed: u64, count: usize, attachments: usize) -> Vec<Drawn> {
    let mut rng = Rng::new(seed);
    let mut now = 1_700_000_000 * SECOND;
    let mut last: Option<(u32, Vec<u8>)> = None;
    (0..count)
        .map(|_| {
            if rng.chance(4) {
                now += rng.of([1, 1, 1, 1, 4, 4, 18, 29, 31, 41, 61, 119, 601, 3601]) * SECOND;
            }
            let back = if rng.chance(3) { 2 * SECOND } else { 0 };
            // Fragments keep to fewer places, so that they find each other.
            let fragmented = rng.chance(20);
            let attachment = rng.below(if fragmented { 1 } else { attachments }) as u32;
            let about = last.take().filter(|_| rng.chance(12));
            if let Some((attachment, data)) =
                about.and_then(|(at, data)| Some((at ^ 1, error_about(&mut rng, &data)?)))
            {
                let wire_len = data.len() as u32;
                return Drawn { attachment, data, wire_len, now: now - back };
            }
            let (data, wire_len) = frame(&mut rng, fragmented);
            last = Some((attachment, data.clone()));
            Drawn { attachment, data, wire_len, now: now - back }
        })
        .collect()
}

/// A frame as it was captured, and its length on the wire.
fn frame(rng: &mut Rng, fragmented: bool) -> (Vec<u8>, u32) {
    let v6 = rng.chance(50);
    let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1];
    for _ in 0..if rng.chance(90) { 0 } else { rng.of([1, 1, 2, 2, 3]) } {
        frame.extend_from_slice(&rng.of([[0x81, 0, 0, 7], [0x88, 0xa8, 0x20, 1]]));
    }
    if rng.chance(2) {
        frame.extend_from_slice(&[8, 6]);
    }
    frame.extend_from_slice(if v6 { &[0x86, 0xdd] } else { &[8, 0] });
    let packet = if v6 { ipv6(rng, fragmented) } else { ipv4(rng, fragmented) };
    frame.extend_from_slice(&packet);
    change(rng, &mut frame);
    let wire_len = frame.len() as u32;
    if rng.chance(8) {
        let keep = 14 + rng.below(frame.len() - 13);
        frame.truncate(keep);
    }
    (frame, wire_len)
}

/// One to three bytes changed, or padding behind the packet.
fn change(rng: &mut Rng, frame: &mut Vec<u8>) {
    if rng.chance(20) {
        for _ in 0..rng.of([1, 1, 1, 2, 3]) {
            let at = 12 + rng.below(frame.len().min(120) - 12);
            let any = rng.below(256) as u8;
            frame[at] = rng.of([any, 0, 1, 0xff, frame[at] ^ 1, frame[at].wrapping_add(1), 44, 60]);
        }
    }
    if rng.chance(20) {
        let padding = rng.below(40);
        frame.resize(frame.len() + padding, 0x50);
    }
}

/// Source and destination, as their last bytes.
fn hosts(rng: &mut Rng, fragmented: bool) -> (u8, u8) {
    if fragmented {
        return rng.of([(1, 2), (2, 1)]);
    }
    rng.of([(1, 2), (2, 1), (1, 2), (2, 1), (1, 2), (2, 1), (1, 2), (2, 1), (1, 1), (3, 1)])
}

/// Offset in units of eight bytes, and whether more follow.
fn fragment(rng: &mut Rng, fragmented: bool) -> (u16, bool) {
    if !fragmented {
        return (0, false);
    }
    let offset = rng.of([0, 0, 0, 0, 0, 1, 2, 185, 185, 185, 8190]);
    (offset, rng.chance(60))
}

fn ipv4(rng: &mut Rng, fragmented: bool) -> Vec<u8> {
    let protocol =
        if fragmented { rng.of([17, 17, 17, 6]) } else { rng.of([6, 6, 6, 17, 17, 132, 1, 1, 58, 47, 136]) };
    let body = transport(rng, protocol, 8, 0);
    let words = rng.of([5, 5, 5, 5, 6, 15]);
    let (offset, more) = fragment(rng, fragmented);
    let (src, dst) = hosts(rng, fragmented);
    let mut packet = vec![0; usize::from(words) * 4];
    packet[0] = 0x40 | words;
    packet[2..4].copy_from_slice(&((usize::from(words) * 4 + body.len()) as u16).to_be_bytes());
    packet[5] = rng.of([1, 2]);
    packet[6..8].copy_from_slice(&(offset | if more { 0x2000 } else { 0 }).to_be_bytes());
    packet[9] = protocol;
    packet[12..20].copy_from_slice(&[10, 0, 0, src, 10, 0, 0, dst]);
    packet.extend_from_slice(&body);
    packet
}

fn ipv6(rng: &mut Rng, fragmented: bool) -> Vec<u8> {
    let protocol = rng.of([6, 6, 6, 17, 17, 132, 58, 58, 58, 1, 47, 50, 59]);
    let mut body = transport(rng, protocol, 128, 129);
    let mut next = protocol;
    for _ in 0..if rng.chance(75) { 0 } else { rng.of([1, 1, 1, 2, 2, 3, 8, 9]) } {
        let extension = if rng.chance(3) { 0 } else { rng.of([43, 60, 51]) };
        (body, next) = (extend(rng, extension, next, &body), extension);
    }
    let (offset, more) = fragment(rng, fragmented);
    if offset != 0 || more || rng.chance(5) {
        let field = offset << 3 | u16::from(more);
        let header = [next, 0, (field >> 8) as u8, field as u8, 0, 0, 0, rng.of([1, 2])];
        (body, next) = ([&header[..], &body].concat(), 44);
        if rng.chance(20) {
            (body, next) = (extend(rng, 0, next, &body), 0);
        }
    }
    let (src, dst) = hosts(rng, fragmented);
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend_from_slice(&(body.len() as u16).to_be_bytes());
    packet.extend_from_slice(&[next, rng.of([1, 64, 255, 255])]);
    for host in [src, dst] {
        packet.extend_from_slice(&[0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, host]);
    }
    packet.extend_from_slice(&body);
    if rng.chance(3) {
        packet[4..6].copy_from_slice(&[0, 0]);
    }
    packet
}

/// An extension header before `body`.
fn extend(rng: &mut Rng, extension: u8, next: u8, body: &[u8]) -> Vec<u8> {
    let field = rng.of([0_u8, 0, 1, 4]);
    let len = if extension == 51 { (usize::from(field) + 2) * 4 } else { (usize::from(field) + 1) * 8 };
    let mut header = vec![0; len];
    (header[0], header[1]) = (next, field);
    header.extend_from_slice(body);
    header
}

/// A transport header and some payload; ICMP is mostly echo, of these types.
fn transport(rng: &mut Rng, protocol: u8, request: u8, reply: u8) -> Vec<u8> {
    let ports =
        rng.of([[0, 80, 4, 0], [4, 0, 0, 80], [0, 80, 4, 0], [4, 0, 0, 80], [4, 0, 4, 0], [0, 80, 4, 1]]);
    let mut body = match protocol {
        6 => {
            let flags = rng.of([2, 2, 0x12, 0x12, 0x10, 0x10, 0x10, 0x18, 0x11, 0x11, 4, 0x14, 0]);
            [&ports[..], &[0; 8], &[rng.of([0x50, 0x50, 0x50, 0x50, 0x50, 0x60]), flags], &[0; 10]].concat()
        }
        17 => [&ports[..], &[0, if rng.chance(90) { 8 } else { rng.of([0, 7]) }, 0, 0]].concat(),
        132 => [&ports[..], &[0; 8]].concat(),
        1 | 58 if rng.chance(40) => icmp_error(rng, request == 128),
        1 | 58 => {
            let icmp_type = rng.of([request, request, reply, reply, 3, 130, 133, 134, 135, 136]);
            vec![icmp_type, rng.of([0, 0, 0, 1]), 0, 0, 0, rng.of([1, 2]), 0, 1]
        }
        _ => Vec::new(),
    };
    body.resize(body.len() + rng.below(12), 0x70);
    body
}

/// An ICMP error that quotes a packet between the same hosts, a third of them cut off.
fn icmp_error(rng: &mut Rng, v6: bool) -> Vec<u8> {
    let icmp_type = if v6 { rng.of([1, 2, 3, 4, 4, 5]) } else { rng.of([3, 3, 4, 5, 11, 12]) };
    let fragmented = rng.chance(10);
    let mut quote = match v6 != rng.chance(3) {
        true => ipv6(rng, fragmented),
        false => ipv4(rng, fragmented),
    };
    if rng.chance(30) {
        let keep = rng.below(quote.len());
        quote.truncate(keep);
    }
    if rng.chance(10) {
        let at = rng.below(quote.len().max(1));
        if let Some(byte) = quote.get_mut(at) {
            *byte = rng.below(256) as u8;
        }
    }
    [&[icmp_type, rng.of([0, 0, 1, 4]), 0, 0, 0, 0, 0, 0][..], &quote].concat()
}

/// The ICMP error that some router sends back about a frame without tags.
fn error_about(rng: &mut Rng, frame: &[u8]) -> Option<Vec<u8>> {
    let ip = &frame[14..];
    let v6 = frame[12..14] == [0x86, 0xdd];
    let addresses = if v6 { ip.get(8..40)? } else { ip.get(12..20)? };
    let (src, dst) = addresses.split_at(addresses.len() / 2);
    let router = [&dst[..dst.len() - 1], &[rng.of([9, dst[dst.len() - 1]])]].concat();
    let quote = &ip[..if rng.chance(60) { ip.len() } else { rng.below(ip.len() + 1) }];
    let icmp_type = if v6 { rng.of([1, 2, 3, 4]) } else { rng.of([3, 11, 12]) };
    let body = [&[icmp_type, 0, 0, 0, 0, 0, 0, 0][..], quote].concat();
    let len = |more: usize| ((body.len() + more) as u16).to_be_bytes();
    let mut header = frame[..14].to_vec();
    if v6 {
        header.extend([&[0x60, 0, 0, 0][..], &len(0), &[58, 64]].concat());
    } else {
        header.extend([&[0x45, 0][..], &len(20), &[0, 3, 0, 0, 64, 1, 0, 0]].concat());
    }
    Some([header, router, src.to_vec(), body].concat())
}
