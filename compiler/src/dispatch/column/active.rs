//! The rules that match along an axis, from value to value.
//!
//! Cost: for few changes a search and a move in the list each, for many one pass over it.

/// At this value the rule (last) begins to match as this item, or ends (`None`, which
/// is less: a rule's spans may touch).
pub(super) type Event = (u32, Option<u32>, u32);

/// The rules that match at a value, ascending, each with the item that it is there.
#[derive(Default)]
pub(super) struct Active(Vec<(u32, u32)>);

impl Active {
    /// Goes on to the value of these events, which are ascending.
    pub fn advance(&mut self, events: &[Event]) {
        /// Events that are cheaper one by one.
        const FEW: usize = 32;
        let starts = events.partition_point(|(_, item, _)| item.is_none());
        let (ends, starts) = events.split_at(starts);
        let place = |list: &[(u32, u32)], live: u32| list.binary_search_by_key(&live, |(live, _)| *live);
        if events.len() <= FEW {
            for (_, _, live) in ends {
                place(&self.0, *live).ok().map(|at| self.0.remove(at));
            }
            for (_, item, live) in starts {
                if let (Err(at), Some(item)) = (place(&self.0, *live), item) {
                    self.0.insert(at, (*live, *item));
                }
            }
            return;
        }
        self.0.retain(|(active, _)| ends.binary_search_by_key(active, |(_, _, live)| *live).is_err());
        self.0.extend(starts.iter().filter_map(|(_, item, live)| Some((*live, (*item)?))));
        self.0.sort();
    }

    /// Those from one rule up to another.
    pub fn range(&self, from: u32, to: u32) -> &[(u32, u32)] {
        let at = |rule: u32| self.0.partition_point(|(live, _)| *live < rule);
        &self.0[at(from)..at(to)]
    }
}
