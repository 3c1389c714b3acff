//! One side of a rule.

use super::selector::{Global, read_selector};
use crate::manifest::fields::Fields;
use crate::manifest::net::{self, Bare};
use crate::manifest::objects::{EntityRule, PortSpec, ServiceAccountMatch, Spanned};
use crate::manifest::reader::Reader;
use crate::manifest::yaml::Node;
use crate::selector::Selector;

/// Reads `source` or `destination`; what does not read is left out of it.
pub(super) fn read_entity(reader: &mut Reader, node: &Node<'_>, what: &'static str) -> EntityRule {
    let Some(mut fields) = Fields::new(reader, node, what) else { return EntityRule::default() };
    let entity = EntityRule {
        selector: read_field(reader, &mut fields, "selector", Global::Nowhere),
        not_selector: read_field(reader, &mut fields, "notSelector", Global::Nowhere),
        namespace_selector: read_field(reader, &mut fields, "namespaceSelector", Global::Alone),
        service_accounts: fields.take("serviceAccounts").and_then(|node| read_accounts(reader, node)),
        nets: fields.take("nets").map(|n| net::cidrs(reader, n, "`nets`", Bare::Host)).unwrap_or_default(),
        not_nets: fields
            .take("notNets")
            .map(|n| net::cidrs(reader, n, "`notNets`", Bare::Host))
            .unwrap_or_default(),
        ports: fields.take("ports").map(|n| read_ports(reader, n, "`ports`")).unwrap_or_default(),
        not_ports: fields.take("notPorts").map(|n| read_ports(reader, n, "`notPorts`")).unwrap_or_default(),
    };
    fields.refuse(reader, &["services", "domains"]);
    fields.finish(reader);
    entity
}

fn read_field(
    reader: &mut Reader,
    fields: &mut Fields<'_, '_>,
    name: &'static str,
    global: Global,
) -> Option<Spanned<Selector>> {
    let node = fields.take(name)?;
    read_selector(reader, node, &format!("`{name}`"), global)
}

fn read_ports(reader: &mut Reader, node: &Node<'_>, what: &str) -> Vec<Spanned<PortSpec>> {
    reader.list(node, what, |reader, node| {
        let port = net::calico_port(reader, node)?;
        Some(reader.spanned(node, port))
    })
}

fn read_accounts(reader: &mut Reader, node: &Node<'_>) -> Option<Spanned<ServiceAccountMatch>> {
    let mut fields = Fields::new(reader, node, "serviceAccounts")?;
    let names = fields
        .take("names")
        .map(|node| {
            reader.list(node, "`names`", |reader, node| {
                reader.string(node, "a service account's name").map(Into::into)
            })
        })
        .unwrap_or_default();
    let selector =
        fields.take("selector").and_then(|node| read_selector(reader, node, "`selector`", Global::Nowhere));
    fields.finish(reader);
    Some(reader.spanned(node, ServiceAccountMatch { names, selector }))
}
