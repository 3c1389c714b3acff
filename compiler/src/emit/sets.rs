//! How the rules of a chain test whether an address is in a set.
//!
//! | test | what it takes |
//! |---|---|
//! | rows | a table look-up per side and program, then a bit of the class's row |
//! | compares | nothing before; two to four instructions for each prefix |
//!
//! Compares are for few prefixes that stand in the policy. Why sound: an address is in
//! a set if one of the set's prefixes covers it, and a prefix covers it if its leading
//! bits are the prefix's.

use std::collections::BTreeMap;

use ipnet::IpNet;

use super::builder::{Builder, SCRATCH, STATE};
use super::rule::Side;
use crate::abi::STATE_FAMILY;
use crate::bpf::{AsmError, Cond, Insn, Label, Size};
use crate::ir::{AddrSet, Family, PolicyIr};
use crate::passes::AddressClasses;

/// The way, with what it needs to know.
#[derive(Copy, Clone)]
pub(super) enum SetTests<'a> {
    /// By the bits of the class's row.
    Rows(&'a AddressClasses),
    /// By comparing the address with each prefix of the policy's sets.
    Compares(&'a PolicyIr),
}

impl SetTests<'_> {
    /// Index of the counters among the private maps.
    pub fn hits(self) -> u32 {
        match self {
            Self::Rows(classes) if !classes.sets.is_empty() => 3,
            _ => 0,
        }
    }

    /// Goes to `no` unless the side's address is in all of some sets and in none of the
    /// others. `family` is what the rule has tested already.
    pub fn test(
        self,
        b: &mut Builder,
        side: Side,
        family: Option<Family>,
        inside: &[AddrSet],
        outside: &[AddrSet],
        no: Label,
    ) -> Result<(), AsmError> {
        match self {
            Self::Rows(classes) => rows(b, side, inside, outside, classes, no),
            Self::Compares(ir) => {
                for set in inside {
                    let yes = b.label();
                    compare(b, side, family, &ir.sets[*set].nets, yes)?;
                    b.jump(no);
                    b.bind(yes)?;
                }
                for set in outside {
                    compare(b, side, family, &ir.sets[*set].nets, no)?;
                }
            }
        }
        Ok(())
    }
}

/// Goes to `no` unless the side's row has the bits of all sets in `inside` and
/// of none in `outside`: one load and at most one mask and one compare for each
/// 32 bits that matter. A set without bit has no members.
fn rows(
    b: &mut Builder,
    side: Side,
    inside: &[AddrSet],
    outside: &[AddrSet],
    classes: &AddressClasses,
    no: Label,
) {
    let mut words: BTreeMap<u32, (u32, u32)> = BTreeMap::new();
    for set in inside {
        match classes.bit(*set) {
            Some(bit) => words.entry(bit.as_u32() / 32).or_default().0 |= 1 << (bit.as_u32() % 32),
            None => b.jump(no),
        }
    }
    for bit in outside.iter().filter_map(|set| classes.bit(*set)) {
        words.entry(bit.as_u32() / 32).or_default().1 |= 1 << (bit.as_u32() % 32);
    }
    for (word, (set, clear)) in words {
        if set & clear != 0 {
            b.jump(no);
            return;
        }
        b.count_branches(1);
        b.push(Insn::load(Size::B4, SCRATCH, side.row(), (word * 4) as i16));
        if set == 0 {
            b.jump_if(Cond::Set, clear, no);
        } else {
            b.mask(set | clear);
            b.jump_if(Cond::Ne, set, no);
        }
    }
}

/// Goes to `yes` if a prefix covers the side's address, else on. Of the packet's family
/// this much is known.
fn compare(
    b: &mut Builder,
    side: Side,
    known: Option<Family>,
    nets: &[IpNet],
    yes: Label,
) -> Result<(), AsmError> {
    let (v4, v6): (Vec<IpNet>, Vec<IpNet>) = nets.iter().partition(|net| matches!(net, IpNet::V4(_)));
    for (family, mut nets) in [(Family::V4, v4), (Family::V6, v6)] {
        if nets.is_empty() || known.is_some_and(|known| known != family) {
            continue;
        }
        let other = b.label();
        if known.is_none() {
            b.load_field(STATE_FAMILY);
            b.jump_if(Cond::Ne, if family == Family::V4 { 4 } else { 6 }, other);
            b.count_branches(1);
        }
        // Those that are cut alike load and cut the address once.
        nets.sort_by_key(|net| (net.prefix_len(), net.network()));
        let mut loaded = None;
        for net in &nets {
            prefix(b, side, net, &mut loaded, yes)?;
        }
        b.bind(other)?;
    }
    Ok(())
}

/// Goes to `yes` if the prefix covers the address, which is of its family, else on.
/// `loaded` is the word of the address that the scratch register holds, and its mask.
fn prefix(
    b: &mut Builder,
    side: Side,
    net: &IpNet,
    loaded: &mut Option<(i16, u32)>,
    yes: Label,
) -> Result<(), AsmError> {
    let octets = match net.network() {
        std::net::IpAddr::V4(address) => address.octets().to_vec(),
        std::net::IpAddr::V6(address) => address.octets().to_vec(),
    };
    let words = usize::from(net.prefix_len()).div_ceil(32);
    if words == 0 {
        b.jump(yes);
        return Ok(());
    }
    let other = b.label();
    for (i, word) in octets.as_chunks::<4>().0[..words].iter().enumerate() {
        // The address lies in network order.
        let bits = (u32::from(net.prefix_len()) - i as u32 * 32).min(32);
        let mask = (u32::MAX << (32 - bits)).swap_bytes();
        let at = side.address_field().offset + i as i16 * 4;
        if *loaded != Some((at, mask)) {
            b.push(Insn::load(Size::B4, SCRATCH, STATE, at));
            if bits < 32 {
                b.mask(mask);
            }
        }
        *loaded = Some((at, mask));
        let word = u32::from_le_bytes(*word);
        match i + 1 == words {
            true => b.jump_if(Cond::Eq, word, yes),
            false => b.jump_if(Cond::Ne, word, other),
        }
        b.count_branches(1);
    }
    if words > 1 {
        // Either word may be there.
        *loaded = None;
    }
    b.bind(other)
}
