//! Side conditions: what a rule says about one side's address.
//!
//! What: "in all of these sets, in any of those, in none of the others". Equal
//! conditions have one number, for both sides. A named port is a condition at
//! the columns of its number.
//!
//! Why sound: a condition looks at nothing but which sets hold the address, so it
//! has one truth for each class. For addresses in no set it has its *default*;
//! only conditions that name a set of the class can have another truth, and
//! [`Postings`] finds those.
//!
//! Cost: one list entry per condition (per set for alternatives and negations);
//! evaluating a class looks at the entries of its sets only, never at all rules.

use cranelift_entity::packed_option::PackedOption;
use cranelift_entity::{EntityRef, PrimaryMap, SecondaryMap, entity_impl};
use rustc_hash::FxHashMap;

use crate::address::{AddressClasses, SetBit};
use crate::ir::{AddrSet, SideMatch};

/// A side condition.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cond(u32);
entity_impl!(Cond, "cond");

impl Cond {
    /// The condition that every address meets.
    pub const ALWAYS: Self = Self(0);
}

/// What a condition asks for; sets ascending, without duplicates.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct CondData {
    /// The address is in each of these.
    pub all: Vec<AddrSet>,
    /// The address is in one of these; empty means no such criterion.
    pub any: Vec<AddrSet>,
    /// The address is in none of these.
    pub none: Vec<AddrSet>,
}

impl CondData {
    /// Whether an address in no set meets it.
    pub fn default_truth(&self) -> bool {
        self.all.is_empty() && self.any.is_empty()
    }

    fn holds(&self, has: impl Fn(AddrSet) -> bool) -> bool {
        self.all.iter().all(|set| has(*set))
            && (self.any.is_empty() || self.any.iter().any(|set| has(*set)))
            && !self.none.iter().any(|set| has(*set))
    }
}

/// All conditions of a policy.
#[derive(Clone, Debug)]
pub struct Conditions {
    data: PrimaryMap<Cond, CondData>,
    /// All but those in `single`.
    known: FxHashMap<CondData, Cond>,
    /// The condition "in this set and no more", by set.
    single: SecondaryMap<AddrSet, PackedOption<Cond>>,
}

impl Default for Conditions {
    /// Only [`Cond::ALWAYS`].
    fn default() -> Self {
        let mut data = PrimaryMap::new();
        let always = data.push(CondData::default());
        Self {
            data,
            known: FxHashMap::from_iter([(CondData::default(), always)]),
            single: SecondaryMap::new(),
        }
    }
}

impl Conditions {
    /// What a side asks for, with the alternatives of named ports (`None` where a
    /// range admits the port already) and the sets of negated ones. `None` if no
    /// address can meet it.
    pub fn intern(&mut self, side: &SideMatch, any: Option<&[AddrSet]>, not: &[AddrSet]) -> Option<Cond> {
        if any.is_some() || !not.is_empty() || !side.not_in.is_empty() {
            return self.intern_lists(side, any, not);
        }
        // What nearly every rule says.
        match side.in_sets[..] {
            [] => Some(Cond::ALWAYS),
            [set] if self.single[set].is_some() => self.single[set].expand(),
            _ => self.intern_lists(side, None, &[]),
        }
    }

    fn intern_lists(&mut self, side: &SideMatch, any: Option<&[AddrSet]>, not: &[AddrSet]) -> Option<Cond> {
        let mut none: Vec<AddrSet> = side.not_in.iter().chain(not).copied().collect();
        let mut all = side.in_sets.clone();
        let mut alternatives = Vec::new();
        if let Some(sets) = any {
            alternatives = sets.iter().copied().filter(|set| !none.contains(set)).collect();
            if alternatives.is_empty() {
                return None;
            }
        }
        sort(&mut none);
        sort(&mut alternatives);
        if let [only] = alternatives[..] {
            all.push(only);
        }
        sort(&mut all);
        if all.iter().any(|set| none.contains(set)) {
            return None;
        }
        if all.iter().any(|set| alternatives.contains(set)) {
            alternatives.clear();
        }
        let any = alternatives;
        let data = CondData { all, any, none };
        if let ([set], [], []) = (&data.all[..], &data.any[..], &data.none[..]) {
            let set = *set;
            if self.single[set].is_none() {
                self.single[set] = self.data.push(data).into();
            }
            return self.single[set].expand();
        }
        if let Some(known) = self.known.get(&data) {
            return Some(*known);
        }
        let cond = self.data.push(data.clone());
        self.known.insert(data, cond);
        Some(cond)
    }

    /// What a condition asks for.
    pub fn get(&self, cond: Cond) -> &CondData {
        &self.data[cond]
    }

    /// Number of conditions.
    pub fn count(&self) -> usize {
        self.data.len()
    }

    /// Default truth of each condition, by index.
    pub fn defaults(&self) -> Vec<bool> {
        self.data.values().map(CondData::default_truth).collect()
    }
}

fn sort(sets: &mut Vec<AddrSet>) {
    sets.sort_unstable();
    sets.dedup();
}

/// For each set the conditions that an address in it may meet, or fail, against
/// their default.
#[derive(Clone, Debug)]
pub struct Postings {
    /// The conditions posted under each set's bit, one bit after the other, ascending.
    posted: Vec<Cond>,
    /// Where those of each bit start, and the end.
    starts: Vec<u32>,
    /// The set of each bit.
    sets: Vec<AddrSet>,
    /// Which sets the class at hand is in, by set; the mark of another class says no.
    held: Vec<u64>,
    class: u64,
}

impl Postings {
    /// Posts each condition where it is found with least work: one that asks for
    /// all of some sets under the one of them with the fewest classes.
    pub fn new(conditions: &Conditions, classes: &AddressClasses) -> Self {
        let mut frequency = vec![0_u32; classes.sets.len()];
        for class in classes.classes() {
            for bit in classes.sets_of(class) {
                frequency[bit.index()] += 1;
            }
        }
        let mut posts: Vec<(SetBit, Cond)> = Vec::with_capacity(conditions.count());
        let mut post = |set: AddrSet, cond: Cond| posts.extend(classes.bit(set).map(|bit| (bit, cond)));
        for (cond, data) in conditions.data.iter() {
            let rarest = data
                .all
                .iter()
                .min_by_key(|set| (classes.bit(**set).map_or(0, |bit| frequency[bit.index()]), set.as_u32()));
            match rarest {
                Some(set) => post(*set, cond),
                None if !data.any.is_empty() => data.any.iter().for_each(|set| post(*set, cond)),
                None => data.none.iter().for_each(|set| post(*set, cond)),
            }
        }
        let mut starts = vec![0; classes.sets.len() + 1];
        posts.iter().for_each(|(bit, _)| starts[bit.index() + 1] += 1);
        for bit in 1..starts.len() {
            starts[bit] += starts[bit - 1];
        }
        let mut next = starts.clone();
        let mut posted = vec![Cond::ALWAYS; posts.len()];
        for (bit, cond) in posts {
            let next = &mut next[bit.index()];
            posted[*next as usize] = cond;
            *next += 1;
        }
        let most = classes.sets.values().map(|set| set.index() + 1).max().unwrap_or(0);
        Self { posted, starts, sets: classes.sets.values().copied().collect(), held: vec![0; most], class: 0 }
    }

    /// The conditions whose truth is not their default for addresses in exactly
    /// these sets, ascending, into `out`; `conditions` are those that were posted.
    pub fn changed(&mut self, conditions: &Conditions, bits: &[SetBit], out: &mut Vec<Cond>) {
        out.clear();
        self.class += 1;
        for bit in bits {
            self.held[self.sets[bit.index()].index()] = self.class;
        }
        let has = |set: AddrSet| self.held.get(set.index()).is_some_and(|mark| *mark == self.class);
        let of = |bit: &SetBit| {
            let (start, end) = (self.starts[bit.index()], self.starts[bit.index() + 1]);
            &self.posted[start as usize..end as usize]
        };
        for cond in bits.iter().flat_map(of) {
            let data = conditions.get(*cond);
            if data.holds(has) != data.default_truth() {
                out.push(*cond);
            }
        }
        out.sort_unstable();
        out.dedup();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(n: u32) -> AddrSet {
        AddrSet::from_u32(n)
    }

    #[test]
    fn contradictions_have_no_condition_and_equals_one() {
        let mut conditions = Conditions::default();
        let side = |inside: &[u32], outside: &[u32]| SideMatch {
            in_sets: inside.iter().copied().map(set).collect(),
            not_in: outside.iter().copied().map(set).collect(),
            ..SideMatch::default()
        };
        assert_eq!(conditions.intern(&side(&[], &[]), None, &[]), Some(Cond::ALWAYS));
        assert_eq!(conditions.intern(&side(&[1], &[1]), None, &[]), None);
        assert_eq!(conditions.intern(&side(&[], &[]), Some(&[]), &[]), None);
        assert_eq!(conditions.intern(&side(&[], &[2]), Some(&[set(2)]), &[]), None);
        assert_eq!(conditions.intern(&side(&[], &[]), Some(&[set(2)]), &[set(2)]), None);
        let one = conditions.intern(&side(&[3, 1, 1], &[]), None, &[]);
        assert_eq!(conditions.intern(&side(&[1, 3], &[]), Some(&[set(3), set(4)]), &[]), one);
        assert_eq!(conditions.intern(&side(&[1], &[]), Some(&[set(3)]), &[]), one);
        assert_eq!(conditions.count(), 2);
    }
}
