//! The look-up from a packet to its column: pages of 256 column numbers.
//!
//! ```text
//! directory[flags, family][protocol] ─▶ index ─[high byte]▶ page ─[low byte]▶ column
//! ```
//!
//! All three steps read one array of values of 256 `u16` each; a number that a
//! step finds is the index of the value that the next step reads. For packets
//! with ports the axis is the destination port; for ICMP its high byte is the code
//! and its low byte the type, as they lie in the packet state; for the others it
//! is 0. Equal pages are one. If rules look at source ports, the same array has a
//! second directory for them, and a second array leads from both numbers to the
//! column.
//!
//! What no packet can have leads to [`NOWHERE`], beyond the array: such a look-up
//! finds nothing and the packet is dropped.

use rustc_hash::FxHashMap;

use super::Unfit;
use super::column::{Header, Partition, Plane, Stretch};
use crate::ir::{Family, Flow, protocol};
use std::net::IpAddr;

/// Numbers in a value.
pub const PAGE: usize = 256;
/// Values of a directory: flags (two bits) and family.
pub const DIRECTORY: usize = 8;
/// Number of no value.
pub const NOWHERE: u16 = u16::MAX;
/// Most numbers of the array that joins source and destination ports.
const MAX_PAIRS: usize = 1 << 22;

type Page = Vec<u16>;

/// The arrays of the look-up.
#[derive(Clone, Debug)]
pub struct PortTables {
    /// Directories, indices and pages.
    pub pages: Vec<Page>,
    /// With source ports: columns by destination number times `width` plus source
    /// number.
    pub pairs: Vec<u16>,
    /// Source numbers; 0 if no rule looks at source ports.
    pub width: u32,
}

/// Lays the partition out.
///
/// # Errors
/// More pages, or more pairs of source and destination classes, than there is
/// room for.
pub fn lay_out(partition: &Partition) -> Result<PortTables, Unfit> {
    let width = partition.planes.iter().map(|plane| plane.columns.len()).max().unwrap_or(1);
    let mut layout = Layout { pages: Vec::new(), known: FxHashMap::default() };
    let directories = if width > 1 { 2 } else { 1 };
    layout.pages.resize(directories * DIRECTORY, vec![NOWHERE; PAGE]);
    let mut joined = Joined { ids: FxHashMap::default(), pairs: Vec::new(), width };
    let mut starts = Vec::with_capacity(partition.planes.len());
    // The same plane is laid out twice if it serves both ports and ICMP.
    let mut done: FxHashMap<(u16, bool), usize> = FxHashMap::default();
    let mut place = |layout: &mut Layout, plane: u16, icmp: bool| -> Result<usize, Unfit> {
        if let Some(done) = done.get(&(plane, icmp)) {
            return Ok(*done);
        }
        let data = &partition.planes[plane as usize];
        let axis = joined.axis(data)?;
        let axis = if icmp { swapped(&axis) } else { axis };
        let dst = layout.axis(&axis)?;
        let src = if width > 1 { layout.axis(&expand(&data.sources))? } else { NOWHERE };
        starts.push((dst, src));
        done.insert((plane, icmp), starts.len() - 1);
        Ok(starts.len() - 1)
    };
    for family in [Family::V4, Family::V6] {
        for header in [Header::None, Header::Ports, Header::Icmp] {
            for protocol in 0..=u8::MAX {
                let Some(plane) = partition.plane(family, header, protocol) else { continue };
                let at = place(&mut layout, plane, header == Header::Icmp)?;
                let (row, column) = (row(family, header), usize::from(protocol));
                layout.pages[row][column] = at as u16;
            }
        }
    }
    // The directories held places until all of them were known.
    for row in 0..DIRECTORY {
        for column in 0..PAGE {
            let (dst, src) = match layout.pages[row][column] {
                NOWHERE => (NOWHERE, NOWHERE),
                at => starts[at as usize],
            };
            layout.pages[row][column] = dst;
            if width > 1 {
                layout.pages[DIRECTORY + row][column] = src;
            }
        }
    }
    let width = if width > 1 { width as u32 } else { 0 };
    Ok(PortTables { pages: layout.pages, pairs: joined.pairs, width })
}

/// Row of a directory: the packet state's flags, then the family.
fn row(family: Family, header: Header) -> usize {
    let flags = match header {
        Header::None => 0,
        Header::Ports => crate::abi::FLAG_PORTS,
        Header::Icmp => crate::abi::FLAG_ICMP,
    };
    flags as usize | if family == Family::V6 { 4 } else { 0 }
}

/// Packets that a program need not look into the directory for.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Likely {
    /// They have ports of this protocol.
    pub protocol: u8,
    /// And are of this family, unless both have the same index.
    pub family: Option<Family>,
    /// Number of their index.
    pub index: u16,
}

impl PortTables {
    /// The packets whose destination ports tell the most columns apart, the first protocol
    /// among equals; `None` if no ports do.
    ///
    /// What a packet has there is most likely what rules are about; and if not, the branch
    /// that nobody foresaw costs about what the directory does.
    pub fn likely(&self) -> Option<Likely> {
        let columns = |index: u16| -> usize {
            let page = |number: &u16| self.pages.get(usize::from(*number));
            let pages = self.pages.get(usize::from(index)).into_iter().flatten();
            let mut columns: Vec<u16> = pages.filter_map(page).flatten().copied().collect();
            columns.sort_unstable();
            columns.dedup();
            columns.len()
        };
        let index = |family, protocol| self.pages[row(family, Header::Ports)][usize::from(protocol)];
        let mut best: Option<(usize, Likely)> = None;
        for protocol in (0..=u8::MAX).filter(|protocol| protocol::has_ports(*protocol)) {
            let (v4, v6) = (index(Family::V4, protocol), index(Family::V6, protocol));
            for (family, index) in [(Family::V4, v4), (Family::V6, v6)] {
                let likely = Likely { protocol, family: (v4 != v6).then_some(family), index };
                let found = columns(index);
                if best.is_none_or(|(most, _)| found > most) {
                    best = Some((found, likely));
                }
            }
        }
        best.filter(|(columns, _)| *columns > 1).map(|(_, likely)| likely)
    }

    /// The column of a packet, by the same steps as a program takes; `None` for
    /// packets that cannot be.
    pub fn column(&self, flow: &Flow) -> Option<u16> {
        let family = if matches!(flow.src, IpAddr::V4(_)) { Family::V4 } else { Family::V6 };
        let (header, source, axis) = match (flow.ports, flow.icmp) {
            (Some((src, dst)), None) => (Header::Ports, src, dst),
            (None, Some((ty, code))) => (Header::Icmp, 0, u16::from_le_bytes([ty, code])),
            (None, None) => (Header::None, 0, 0),
            (Some(_), Some(_)) => return None,
        };
        let row = row(family, header);
        let find = |row: usize, axis: u16| -> Option<u16> {
            let start = self.pages[row][usize::from(flow.protocol)];
            let page = self.pages.get(usize::from(start))?[usize::from(axis >> 8)];
            Some(self.pages.get(usize::from(page))?[usize::from(axis & 0xff)])
        };
        let number = find(row, axis)?;
        if self.width == 0 {
            return Some(number);
        }
        let source = find(DIRECTORY + row, source)?;
        self.pairs.get(usize::from(number) * self.width as usize + usize::from(source)).copied()
    }

    /// Bytes of both arrays.
    pub fn bytes(&self) -> u64 {
        (self.pages.len() * PAGE * 2 + self.pairs.len() * 2) as u64
    }
}

/// All values of an axis.
fn expand(stretches: &[Stretch]) -> Vec<u16> {
    let mut values = vec![0; 1 << 16];
    for (i, (start, value)) in stretches.iter().enumerate() {
        let end = stretches.get(i + 1).map_or(1 << 16, |(next, _)| usize::from(*next));
        values[usize::from(*start)..end].fill(*value);
    }
    values
}

/// The axis of type times 256 plus code as one of code times 256 plus type.
fn swapped(axis: &[u16]) -> Vec<u16> {
    (0..=u16::MAX).map(|value| axis[usize::from(value.swap_bytes())]).collect()
}

struct Layout {
    pages: Vec<Page>,
    known: FxHashMap<Page, u16>,
}

impl Layout {
    /// Stores an axis; gives the number of its index.
    fn axis(&mut self, values: &[u16]) -> Result<u16, Unfit> {
        let pages: Vec<u16> =
            values.chunks_exact(PAGE).map(|page| self.page(page)).collect::<Result<_, _>>()?;
        self.page(&pages)
    }

    fn page(&mut self, page: &[u16]) -> Result<u16, Unfit> {
        if let Some(known) = self.known.get(page) {
            return Ok(*known);
        }
        let id = u16::try_from(self.pages.len()).ok().filter(|id| *id < NOWHERE);
        let id = id.ok_or(Unfit::Pages { max: NOWHERE.into() })?;
        self.pages.push(page.to_vec());
        self.known.insert(page.to_vec(), id);
        Ok(id)
    }
}

/// Numbers for the columns of each destination port, one for each class of source
/// ports.
struct Joined {
    ids: FxHashMap<Vec<u16>, u16>,
    pairs: Vec<u16>,
    width: usize,
}

impl Joined {
    /// The axis of a plane: columns, or with source ports the numbers of their
    /// combinations.
    fn axis(&mut self, plane: &Plane) -> Result<Vec<u16>, Unfit> {
        if self.width == 1 {
            return Ok(expand(&plane.columns[0]));
        }
        let mut bounds: Vec<u16> = plane.columns.iter().flatten().map(|(start, _)| *start).collect();
        bounds.sort_unstable();
        bounds.dedup();
        let mut stretches = Vec::with_capacity(bounds.len());
        for start in bounds {
            let at = |columns: &Vec<Stretch>| columns[columns.partition_point(|(s, _)| *s <= start) - 1].1;
            let mut columns: Vec<u16> = plane.columns.iter().map(at).collect();
            columns.resize(self.width, 0);
            stretches.push((start, self.number(columns)?));
        }
        Ok(expand(&stretches))
    }

    fn number(&mut self, columns: Vec<u16>) -> Result<u16, Unfit> {
        if let Some(known) = self.ids.get(&columns) {
            return Ok(*known);
        }
        let id = u16::try_from(self.ids.len()).map_err(|_| Unfit::Columns { max: 1 << 16 })?;
        if self.pairs.len() + columns.len() > MAX_PAIRS {
            return Err(Unfit::Pairs { max: MAX_PAIRS });
        }
        self.pairs.extend(&columns);
        self.ids.insert(columns, id);
        Ok(id)
    }
}
