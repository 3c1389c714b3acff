//! Captures are put together byte by byte here: a reader tested with files of
//! its own writer would agree with its own mistakes.

use proptest::prelude::*;

use super::*;

/// Writes numbers in one byte order.
#[derive(Copy, Clone)]
struct W(Order);

impl W {
    fn u16(self, n: u16) -> Vec<u8> {
        if self.0 == Order::Big { n.to_be_bytes().into() } else { n.to_le_bytes().into() }
    }

    fn u32(self, n: u32) -> Vec<u8> {
        if self.0 == Order::Big { n.to_be_bytes().into() } else { n.to_le_bytes().into() }
    }

    fn words(self, words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|n| self.u32(*n)).collect()
    }

    fn pcap(self, magic: u32, link: u32) -> Vec<u8> {
        [self.u32(magic), self.u16(2), self.u16(4), self.words(&[0, 0, 65535, link])].concat()
    }

    fn record(self, seconds: u32, fraction: u32, data: &[u8], wire: u32) -> Vec<u8> {
        [self.words(&[seconds, fraction, data.len() as u32, wire]), data.to_vec()].concat()
    }

    fn block(self, kind: u32, body: &[u8]) -> Vec<u8> {
        let mut body = body.to_vec();
        body.resize(body.len().next_multiple_of(4), 0);
        let length = self.u32(body.len() as u32 + 12);
        [self.u32(kind), length.clone(), body, length].concat()
    }

    fn section(self) -> Vec<u8> {
        self.block(
            pcapng::SECTION_HEADER,
            &[self.words(&[0x1a2b_3c4d]), self.u16(1), self.u16(0), vec![0xff; 8]].concat(),
        )
    }

    fn option(self, code: u16, value: &[u8]) -> Vec<u8> {
        let mut padded = value.to_vec();
        padded.resize(value.len().next_multiple_of(4), 0);
        [self.u16(code), self.u16(value.len() as u16), padded].concat()
    }

    fn interface(self, link: u16, snap: u32, options: &[Vec<u8>]) -> Vec<u8> {
        self.block(1, &[self.u16(link), self.u16(0), self.u32(snap), options.concat()].concat())
    }

    fn enhanced(self, interface: u32, timestamp: u64, data: &[u8], wire: u32) -> Vec<u8> {
        let fixed =
            self.words(&[interface, (timestamp >> 32) as u32, timestamp as u32, data.len() as u32, wire]);
        let mut body = [fixed, data.to_vec()].concat();
        body.resize(body.len().next_multiple_of(4), 0);
        body.extend(self.option(1, b"a comment"));
        body.extend(self.option(0, b""));
        self.block(6, &body)
    }
}

/// What a capture gives: (frame, wire length, time, interface), and its error.
type Packets = Vec<(Vec<u8>, u32, u64, u32)>;

fn read(reader: impl Read) -> (Packets, Option<CaptureError>) {
    let mut packets = Vec::new();
    let mut capture = match Capture::new(reader) {
        Ok(capture) => capture,
        Err(e) => return (packets, Some(e)),
    };
    loop {
        match capture.next_packet() {
            Ok(Some(p)) => {
                assert_eq!(p.number, packets.len() as u64);
                packets.push((p.frame.to_vec(), p.wire_len, p.time, p.interface));
            }
            Ok(None) => return (packets, None),
            Err(e) => return (packets, Some(e)),
        }
    }
}

fn read_whole(bytes: &[u8]) -> Packets {
    let (packets, error) = read(bytes);
    assert!(error.is_none(), "{error:?}");
    packets
}

const ORDERS: [W; 2] = [W(Order::Little), W(Order::Big)];

#[test]
fn pcap_in_both_orders_and_resolutions() {
    for w in ORDERS {
        for (magic, unit) in [(0xa1b2_c3d4, 1000), (0xa1b2_3c4d, 1)] {
            let file = [w.pcap(magic, 1), w.record(7, 5, b"abc", 90), w.record(8, 0, b"", 0)].concat();
            let want =
                vec![(b"abc".to_vec(), 90, 7_000_000_000 + 5 * unit, 0), (vec![], 0, 8_000_000_000, 0)];
            assert_eq!(read_whole(&file), want);
        }
    }
}

#[test]
fn pcapng_sections_interfaces_and_clocks() {
    let [le, be] = ORDERS;
    let second = [
        be.section(),
        be.interface(1, 2, &[be.option(9, &[9])]),
        be.interface(
            1,
            0,
            &[be.option(2, b"eth0"), be.option(9, &[0x80 | 10]), be.option(14, &100i64.to_be_bytes())],
        ),
        be.block(0x0bad, &[1; 40]),
        be.enhanced(1, 1536, b"abcde", 50),
        be.block(3, &[be.u32(9), b"xy".to_vec()].concat()),
        be.enhanced(0, 77, b"z", 1),
    ];
    let file =
        [le.section(), le.interface(1, 0, &[]), le.enhanced(0, 1_000_001, b"first", 5), second.concat()]
            .concat();
    let want: Packets = vec![
        (b"first".to_vec(), 5, 1_000_001_000, 0),
        (b"abcde".to_vec(), 50, 101_500_000_000, 2),
        (b"xy".to_vec(), 9, 101_500_000_000, 1),
        (b"z".to_vec(), 1, 77, 1),
    ];
    assert_eq!(read_whole(&file), want);
}

#[test]
fn interface_names_are_kept() {
    let [w, _] = ORDERS;
    let file = [w.section(), w.interface(101, 96, &[w.option(2, b"veth7")])].concat();
    let mut capture = Capture::new(&file[..]).unwrap();
    assert!(capture.next_packet().unwrap().is_none());
    let want = Interface { link: LinkType::RAW, snap_len: 96, name: Some("veth7".into()) };
    assert_eq!(capture.interfaces(), [want]);
}

#[test]
fn the_obsolete_packet_block() {
    for w in ORDERS {
        let body = [w.u16(0), w.u16(3), w.words(&[0, 42, 2, 60]), b"hi".to_vec()].concat();
        let file = [w.section(), w.interface(1, 0, &[]), w.block(2, &body)].concat();
        assert_eq!(read_whole(&file), vec![(b"hi".to_vec(), 60, 42_000, 0)]);
    }
}

#[test]
fn clocks_outside_64_bits_are_clamped() {
    let [w, _] = ORDERS;
    let cases: [(&[u8], i64, u64, u64); 6] = [
        (&[6], 0, u64::MAX, u64::MAX),
        (&[6], -10, 3, 0),
        (&[0], 0, 2, 2_000_000_000),
        (&[12], 0, 5000, 5),
        (&[127], 0, u64::MAX, 0),
        (&[0xff], i64::MAX, u64::MAX, u64::MAX),
    ];
    for (resolution, offset, timestamp, want) in cases {
        let options = [w.option(9, resolution), w.option(14, &offset.to_le_bytes())];
        let file = [w.section(), w.interface(1, 0, &options), w.enhanced(0, timestamp, b"", 0)].concat();
        assert_eq!(read_whole(&file)[0].2, want, "{resolution:?} {offset}");
    }
}

#[test]
fn every_cut_gives_the_packets_before_it_and_an_error() {
    let [w, _] = ORDERS;
    let pcap = [w.pcap(0xa1b2_c3d4, 1), w.record(1, 0, b"one", 3), w.record(2, 0, b"two", 3)].concat();
    let ng = [w.section(), w.interface(1, 0, &[]), w.enhanced(0, 0, b"one", 3), w.enhanced(0, 0, b"two", 3)]
        .concat();
    for (file, bounds) in [(pcap, vec![24, 43, 62]), (ng, vec![28, 48, 104, 160])] {
        for cut in 0..file.len() {
            let (packets, error) = read(&file[..cut]);
            assert_eq!(error.is_none(), bounds.contains(&cut), "cut at {cut}: {error:?}");
            let ends: Vec<_> = bounds.iter().rev().take(2).collect();
            assert_eq!(packets.len(), ends.iter().filter(|end| cut >= ***end).count(), "cut at {cut}");
        }
    }
}

#[test]
fn errors_say_what_and_where() {
    let [w, _] = ORDERS;
    let head = [w.section(), w.interface(127, 0, &[])].concat();
    let mut torn = w.block(5, &[0; 8]);
    torn.truncate(14);
    let mut unequal = w.enhanced(0, 0, b"", 0);
    *unequal.last_mut().unwrap() = 1;
    let cases: [(Vec<u8>, &str); 14] = [
        (vec![], "not a pcap or pcapng file: it is empty"),
        (vec![1, 2], "not a pcap or pcapng file: it has only 2 bytes"),
        (b"<htm".to_vec(), "not a pcap or pcapng file: it starts with 3c 68 74 6d"),
        (vec![0x1f, 0x8b, 8, 0], "gzip data"),
        (w.pcap(0xa1b2_cd34, 1), "editcap"),
        (w.pcap(0xa1b2_c3d4, 105), "offset 20: link type IEEE802_11 (105) is not supported"),
        (
            w.pcap(0xa1b2_c3d4, 1)[..20].to_vec(),
            "offset 0: the file ends inside the file header (20 bytes of 24)",
        ),
        (
            [w.pcap(0xa1b2_c3d4, 1), w.words(&[0, 0, 1 << 20, 0])].concat(),
            "offset 24: a packet of 1048576 bytes",
        ),
        ([head.clone(), w.enhanced(0, 0, b"", 0)].concat(), "offset 48: link type IEEE802_11_RADIOTAP (127)"),
        (
            [head.clone(), w.enhanced(1, 0, b"", 0)].concat(),
            "offset 48: packet of interface 1, but the section has 1",
        ),
        ([head.clone(), torn].concat(), "offset 48: the file ends inside a block (14 bytes of 20)"),
        ([head.clone(), unequal].concat(), "at the start and"),
        ([head.clone(), w.words(&[6, 33])].concat(), "offset 48: block type 0x6 with length 33"),
        (
            [w.section(), w.interface(1, 0, &[]), w.block(6, &w.words(&[0, 0, 0, 9, 9]))].concat(),
            "packet of 9 bytes in a block with room for 0",
        ),
    ];
    for (file, want) in cases {
        let (_, error) = read(&file[..]);
        let text = error.map(|e| e.to_string()).unwrap_or_default();
        assert!(text.contains(want), "want {want:?}, have {text:?}");
    }
}

#[test]
fn huge_unknown_blocks_are_skipped_without_memory() {
    let [w, _] = ORDERS;
    let length = 64 << 20;
    let head = [w.section(), w.interface(1, 0, &[]), w.words(&[0x0bad, length])].concat();
    let body = std::io::repeat(0).take(u64::from(length) - 12);
    let tail = [w.u32(length), w.enhanced(0, 0, b"x", 1)].concat();
    let mut capture = Capture::new(head.chain(body).chain(&tail[..])).unwrap();
    assert_eq!(capture.next_packet().unwrap().unwrap().frame, b"x");
}

/// Gives one byte at a time, with an interruption before each.
struct Trickle<'a>(&'a [u8], bool);

impl Read for Trickle<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.1 = !self.1;
        if self.1 {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let n = buf.len().min(1);
        self.0.read(&mut buf[..n])
    }
}

#[test]
fn the_size_of_reads_does_not_matter() {
    let [_, w] = ORDERS;
    let file = [w.pcap(0xa1b2_c3d4, 1), w.record(1, 2, &[7; 300], 300), w.record(3, 4, b"b", 1)].concat();
    assert_eq!(read(Trickle(&file, false)).0, read_whole(&file));
}

#[test]
fn an_error_of_the_reader_is_handed_on() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::ErrorKind::PermissionDenied.into())
        }
    }
    let [w, _] = ORDERS;
    let file = [w.pcap(0xa1b2_c3d4, 1), w.record(1, 2, b"a", 1)].concat();
    let (packets, error) = read(file.chain(Broken));
    assert_eq!(packets.len(), 1);
    assert!(matches!(error, Some(CaptureError::Io { offset: 41, .. })), "{error:?}");
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(
        at in proptest::collection::vec((0usize..300, any::<u8>()), 0..8),
        big in any::<bool>(), ng in any::<bool>(), link in 0u16..300,
    ) {
        let w = W(if big { Order::Big } else { Order::Little });
        let mut file = if ng {
            let options = [w.option(9, &[6]), w.option(14, &[0; 8])];
            let simple = w.block(3, &w.words(&[3, 4]));
            [w.section(), w.interface(link, 0, &options), w.enhanced(0, 9, &[0x45; 33], 40), simple].concat()
        } else {
            [w.pcap(0xa1b2_c3d4, link.into()), w.record(1, 2, &[0x60; 50], 60), w.record(1, 2, b"", 0)].concat()
        };
        for (i, byte) in at {
            let i = i % file.len();
            file[i] = byte;
        }
        let (packets, _) = read(&file[..]);
        for (frame, wire, ..) in packets {
            prop_assert!(wire as usize >= frame.len());
        }
    }
}
