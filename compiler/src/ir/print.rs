//! The textual form: every field of an IR, for people, golden files and the parser.
//!
//! ```text
//! policy "prod/web" ingress
//!
//! file0 = "policy.yaml"
//!
//! set0 = nets "10.0.0.0/8" { 10.0.0.0/8 }
//! set1 = members "role == 'db'" { 10.0.0.7/32, fd00::7/128 }
//!
//! decision0 = rule allow tier "default" index 0 api "networking.k8s.io/v1" object "NetworkPolicy"
//!     namespace "prod" name "web" at file0:8:5
//! decision1 = tier-default deny tier "default" name "default"
//!
//! chain0 "default" {
//!   rule0: family v4; proto tcp; src in set0; src not in set1; dport 443, 8000-8080 -> allow decision0 at file0:8:5 dst at file0:9:7
//!   rule1: any -> deny decision1
//! } deny decision1
//!
//! order chain0
//! ```
//!
//! (One line per decision; the example wraps.) Chains stand in evaluation order,
//! then those that are not evaluated; rules stand where they are placed, a second
//! placement is the bare id, and rules that no chain has stand in `unplaced { }`.
//! The law is `parse(print(x)) == x`, for invalid IRs too.

use std::fmt::{self, Display, Formatter, Write as _};

use cranelift_entity::EntitySet;

use super::{
    AddrSet, AddrSetData, Chain, ChainEnd, DecisionData, Family, IcmpMatch, Match, Origin, PolicyIr,
    PortMatch, Rule, RuleData, SetKind, SideMatch, protocol,
};

impl Display for PolicyIr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "policy {} {}", Quoted(&self.name), self.direction.as_str())?;
        section(f, self.files.iter(), |f, (id, name)| writeln!(f, "{id} = {}", Quoted(name)))?;
        section(f, self.sets.iter(), |f, (id, set)| writeln!(f, "{id} = {set}"))?;
        section(f, self.decisions.iter(), |f, (id, decision)| writeln!(f, "{id} = {decision}"))?;
        let mut printer = Printer { ir: self, placed: EntitySet::new() };
        printer.chains(f)?;
        printer.unplaced(f)?;
        write!(f, "\norder")?;
        list(f, " ", &self.order)?;
        f.write_char('\n')
    }
}

/// An empty line and the items, or nothing.
fn section<T>(
    f: &mut Formatter<'_>,
    items: impl Iterator<Item = T>,
    print: impl Fn(&mut Formatter<'_>, T) -> fmt::Result,
) -> fmt::Result {
    let mut items = items.peekable();
    if items.peek().is_some() {
        f.write_char('\n')?;
    }
    items.try_for_each(|item| print(f, item))
}

/// `lead`, then the items with commas; nothing if there are none.
fn list<T: Display>(f: &mut Formatter<'_>, lead: &str, items: &[T]) -> fmt::Result {
    for (i, item) in items.iter().enumerate() {
        write!(f, "{}{item}", if i == 0 { lead } else { ", " })?;
    }
    Ok(())
}

struct Printer<'a> {
    ir: &'a PolicyIr,
    /// Rules that stand in the text already.
    placed: EntitySet<Rule>,
}

impl Printer<'_> {
    fn chains(&mut self, f: &mut Formatter<'_>) -> fmt::Result {
        let ir = self.ir;
        let mut printed = EntitySet::new();
        for chain in ir.order.iter().copied().chain(ir.chains.keys()) {
            if ir.chains.is_valid(chain) && printed.insert(chain) {
                self.chain(f, chain)?;
            }
        }
        Ok(())
    }

    fn chain(&mut self, f: &mut Formatter<'_>, id: Chain) -> fmt::Result {
        let chain = &self.ir.chains[id];
        writeln!(f, "\n{id} {} {{", Quoted(&chain.name))?;
        for rule in &chain.rules {
            match self.ir.rules.get(*rule) {
                Some(data) if self.placed.insert(*rule) => writeln!(f, "  {rule}: {data}")?,
                _ => writeln!(f, "  {rule}")?,
            }
        }
        match chain.end {
            ChainEnd::Allow(decision) => writeln!(f, "}} allow {decision}"),
            ChainEnd::Deny(decision) => writeln!(f, "}} deny {decision}"),
            ChainEnd::Pass => writeln!(f, "}} pass"),
        }
    }

    fn unplaced(&mut self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut rules = self.ir.rules.iter().filter(|(id, _)| !self.placed.contains(*id)).peekable();
        if rules.peek().is_none() {
            return Ok(());
        }
        writeln!(f, "\nunplaced {{")?;
        rules.try_for_each(|(id, data)| writeln!(f, "  {id}: {data}"))?;
        writeln!(f, "}}")
    }
}

impl Display for AddrSetData {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            SetKind::Nets => "nets",
            SetKind::Members => "members",
        };
        write!(f, "{kind} {} {{", Quoted(&self.name))?;
        list(f, " ", &self.nets)?;
        f.write_str(" }")
    }
}

impl Display for DecisionData {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind.as_str(), self.action.as_str())?;
        if let Some(tier) = &self.tier {
            write!(f, " tier {}", Quoted(tier))?;
        }
        if let Some(index) = self.rule {
            write!(f, " index {index}")?;
        }
        for (word, text) in [("api", &self.api), ("object", &self.object)] {
            if !text.is_empty() {
                write!(f, " {word} {}", Quoted(text))?;
            }
        }
        if let Some(namespace) = &self.namespace {
            write!(f, " namespace {}", Quoted(namespace))?;
        }
        write!(f, " name {}", Quoted(&self.name))?;
        self.at.map_or(Ok(()), |at| write!(f, " at {at}"))
    }
}

impl Display for Origin {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

impl Display for RuleData {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} -> {} {}", self.matches, self.action.as_str(), self.decision)?;
        let o = &self.origins;
        let origins = [
            ("", o.rule),
            ("proto ", o.protocol),
            ("src ", o.src),
            ("dst ", o.dst),
            ("sport ", o.src_ports),
            ("dport ", o.dst_ports),
        ];
        for (word, at) in origins {
            if let Some(at) = at {
                write!(f, " {word}at {at}")?;
            }
        }
        Ok(())
    }
}

impl Display for Match {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if *self == Self::default() {
            return f.write_str("any");
        }
        let mut c = Criteria { f, first: true };
        if let Some(family) = self.family {
            c.one("family", &family)?;
        }
        if let Some(protocol) = self.protocol {
            c.one("proto", &Protocol(protocol))?;
        }
        if let Some(protocol) = self.not_protocol {
            c.one("not proto", &Protocol(protocol))?;
        }
        if let Some(icmp) = self.icmp {
            c.one("icmp", &icmp)?;
        }
        if let Some(icmp) = self.not_icmp {
            c.one("not icmp", &icmp)?;
        }
        c.side(&self.src, ["src in", "src not in", "sport", "not sport"])?;
        c.side(&self.dst, ["dst in", "dst not in", "dport", "not dport"])
    }
}

/// Writes criteria with `; ` between them.
struct Criteria<'a, 'b> {
    f: &'a mut Formatter<'b>,
    first: bool,
}

impl Criteria<'_, '_> {
    fn word(&mut self, word: &str) -> fmt::Result {
        let separator = if std::mem::take(&mut self.first) { "" } else { "; " };
        write!(self.f, "{separator}{word}")
    }

    fn one(&mut self, word: &str, value: &dyn Display) -> fmt::Result {
        self.word(word)?;
        write!(self.f, " {value}")
    }

    fn many<T: Display>(&mut self, word: &str, items: &[T]) -> fmt::Result {
        if items.is_empty() {
            return Ok(());
        }
        self.word(word)?;
        list(self.f, " ", items)
    }

    fn side(&mut self, side: &SideMatch, words: [&str; 4]) -> fmt::Result {
        self.many::<AddrSet>(words[0], &side.in_sets)?;
        self.many::<AddrSet>(words[1], &side.not_in)?;
        match side.ports.as_deref() {
            Some([]) => self.one(words[2], &"none")?,
            ports => self.many(words[2], ports.unwrap_or_default())?,
        }
        self.many(words[3], &side.not_ports)
    }
}

impl Display for Family {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "v4",
            Self::V6 => "v6",
        })
    }
}

impl Display for IcmpMatch {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.icmp_type)?;
        self.code.map_or(Ok(()), |code| write!(f, "/{code}"))
    }
}

impl Display for PortMatch {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Range(first, last) if first == last => write!(f, "{first}"),
            Self::Range(first, last) => write!(f, "{first}-{last}"),
            Self::Named { protocol, port, set } => write!(f, "{}/{port} in {set}", Protocol(protocol)),
        }
    }
}

/// A protocol number by its name, if it has one here.
struct Protocol(u8);

impl Display for Protocol {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match protocol::name(self.0) {
            Some(name) => f.write_str(name),
            None => self.0.fmt(f),
        }
    }
}

/// A text in double quotes; quotes, backslashes and control characters escaped.
struct Quoted<'a>(&'a str);

impl Display for Quoted<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        for c in self.0.chars() {
            match c {
                '"' | '\\' => write!(f, "\\{c}")?,
                c if c.is_control() => write!(f, "\\u{{{:x}}}", u32::from(c))?,
                c => f.write_char(c)?,
            }
        }
        f.write_char('"')
    }
}
