//! The address sets that the cluster's policies use, each made once.
//!
//! While policies are read a set is only its recipe; members are filled in when
//! all recipes are known. Which sets exist, and so which code is generated,
//! depends on the policies and never on who is in a set.

use std::collections::HashMap;

use cranelift_entity::{EntityRef, PrimaryMap};
use ipnet::IpNet;

use super::Endpoint;
use super::index::LabelIndex;
use super::inventory::{Inventory, Item};
use crate::ir::{AddrSet, AddrSetData, SetKind, protocol};
use crate::selector::Selector;

/// What is in a set.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Recipe {
    /// These prefixes: masked, sorted, without duplicates.
    Nets(Vec<IpNet>),
    /// Every endpoint and network set that the selector matches.
    Selected(Selector),
    /// The endpoints that the selector matches and that give this protocol and
    /// port this name.
    Named { selector: Selector, name: String, protocol: u8, port: u16 },
}

/// Sets by recipe.
#[derive(Default)]
pub(super) struct SetTable {
    recipes: PrimaryMap<AddrSet, Recipe>,
    ids: HashMap<Recipe, AddrSet>,
}

impl SetTable {
    /// The set of these prefixes.
    pub(super) fn nets(&mut self, nets: impl IntoIterator<Item = IpNet>) -> AddrSet {
        let mut nets: Vec<IpNet> = nets.into_iter().map(|net| net.trunc()).collect();
        nets.sort_unstable();
        nets.dedup();
        self.intern(Recipe::Nets(nets))
    }

    /// The set of what a selector matches.
    pub(super) fn selected(&mut self, selector: &Selector) -> AddrSet {
        self.intern(Recipe::Selected(selector.clone()))
    }

    /// The set of endpoints for which `name` is this protocol and port.
    pub(super) fn named(&mut self, selector: &Selector, name: &str, protocol: u8, port: u16) -> AddrSet {
        self.intern(Recipe::Named { selector: selector.clone(), name: name.into(), protocol, port })
    }

    fn intern(&mut self, recipe: Recipe) -> AddrSet {
        if let Some(id) = self.ids.get(&recipe) {
            return *id;
        }
        let id = self.recipes.push(recipe.clone());
        self.ids.insert(recipe, id);
        id
    }

    /// Fills every set with its members of now.
    pub(super) fn fill(
        self,
        inventory: &Inventory,
        index: &LabelIndex<'_>,
    ) -> PrimaryMap<AddrSet, AddrSetData> {
        let named = endpoints_by_port(inventory);
        let mut sets = PrimaryMap::with_capacity(self.recipes.len());
        for recipe in self.recipes.values() {
            sets.push(match recipe {
                Recipe::Nets(nets) => {
                    let names: Vec<String> = nets.iter().map(IpNet::to_string).collect();
                    AddrSetData { kind: SetKind::Nets, name: names.join(", "), nets: nets.clone() }
                }
                Recipe::Selected(selector) => {
                    members(selector.to_string(), inventory, index.matches(selector).into_iter())
                }
                Recipe::Named { selector, name, protocol, port } => {
                    let declared = named.get(&(name.as_str(), *protocol, *port)).into_iter().flatten();
                    let selected = declared.copied().filter(|i| inventory.labels(*i).satisfy(selector));
                    let protocol = protocol::name(*protocol).map_or(protocol.to_string(), str::to_owned);
                    members(format!("{selector} [{name} {protocol}/{port}]"), inventory, selected)
                }
            });
        }
        sets
    }
}

fn members(name: String, inventory: &Inventory, items: impl Iterator<Item = Item>) -> AddrSetData {
    let mut nets = Vec::new();
    for item in items {
        inventory.collect_nets(item, &mut nets);
    }
    nets.sort_unstable();
    nets.dedup();
    AddrSetData { kind: SetKind::Members, name, nets }
}

fn endpoints_by_port(inventory: &Inventory) -> HashMap<(&str, u8, u16), Vec<Item>> {
    let mut by_port: HashMap<(&str, u8, u16), Vec<Item>> = HashMap::new();
    for (endpoint, data) in &inventory.endpoints {
        for port in &data.ports {
            let key = (port.name.as_str(), port.protocol, port.port);
            by_port.entry(key).or_default().push(Endpoint::index(endpoint) as Item);
        }
    }
    by_port
}
