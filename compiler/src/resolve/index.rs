//! Finds the items that a selector matches without trying them all.
//!
//! Each label key and value leads to the items that carry it. A selector is
//! tried only on the items that its most selective requirement leaves: for
//! `app == 'web' && has(tier)` those with `app: web`. Sound because a candidate
//! list only ever leaves out items for which the expression is false.
//!
//! Cost: building is linear in the labels; a query is linear in its candidates,
//! all items for a selector of negations only.

use std::collections::HashMap;

use super::inventory::{Inventory, Item};
use crate::selector::{Expr, Op, Selector};

/// Items by label.
pub(super) struct LabelIndex<'a> {
    inventory: &'a Inventory,
    keys: HashMap<&'a str, KeyIndex<'a>>,
}

#[derive(Default)]
struct KeyIndex<'a> {
    present: Vec<Item>,
    values: HashMap<&'a str, Vec<Item>>,
}

/// A superset of a selector's matches: the union of the lists.
#[derive(Default)]
struct Candidates<'i> {
    count: usize,
    lists: Vec<&'i [Item]>,
}

impl<'i> Candidates<'i> {
    fn list(list: Option<&'i Vec<Item>>) -> Self {
        let list = list.map(Vec::as_slice).unwrap_or_default();
        Self { count: list.len(), lists: vec![list] }
    }

    fn join(mut self, other: Self) -> Self {
        self.count += other.count;
        self.lists.extend(other.lists);
        self
    }
}

impl<'a> LabelIndex<'a> {
    /// Indexes all items.
    pub(super) fn new(inventory: &'a Inventory) -> Self {
        let mut keys: HashMap<&str, KeyIndex> = HashMap::new();
        for item in inventory.items() {
            for (key, value) in inventory.labels(item).iter() {
                let index = keys.entry(key).or_default();
                index.present.push(item);
                index.values.entry(value).or_default().push(item);
            }
        }
        Self { inventory, keys }
    }

    /// The items that the selector matches, ascending.
    pub(super) fn matches(&self, selector: &Selector) -> Vec<Item> {
        let holds = |item: &Item| self.inventory.labels(*item).satisfy(selector);
        let Some(candidates) = self.candidates(selector.expr()) else {
            return self.inventory.items().filter(holds).collect();
        };
        let lists = candidates.lists.into_iter().flatten().copied();
        let mut items: Vec<Item> = lists.filter(holds).collect();
        items.sort_unstable();
        items.dedup();
        items
    }

    /// `None` where the expression may hold for an item without any label.
    fn candidates(&self, expr: &Expr) -> Option<Candidates<'_>> {
        match expr {
            Expr::All | Expr::Global | Expr::Not(_) => None,
            Expr::Has(key) => Some(self.present(key)),
            Expr::Test { op: Op::Differs, .. } => None,
            Expr::Test { key, op: Op::Equals, value } => Some(self.value(key, value)),
            Expr::Test { key, .. } => Some(self.present(key)),
            Expr::Member { negated: true, .. } => None,
            Expr::Member { key, values, .. } => {
                let lists = values.iter().map(|value| self.value(key, value));
                Some(lists.fold(Candidates::default(), Candidates::join))
            }
            Expr::And(operands) => operands.iter().filter_map(|o| self.candidates(o)).min_by_key(|c| c.count),
            Expr::Or(operands) => operands.iter().try_fold(Candidates::default(), |found, operand| {
                Some(found.join(self.candidates(operand)?))
            }),
        }
    }

    fn present(&self, key: &str) -> Candidates<'_> {
        Candidates::list(self.keys.get(key).map(|index| &index.present))
    }

    fn value(&self, key: &str, value: &str) -> Candidates<'_> {
        Candidates::list(self.keys.get(key).and_then(|index| index.values.get(value)))
    }
}
