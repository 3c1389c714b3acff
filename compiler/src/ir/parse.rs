//! Reads the textual form back, for tests and tools; see `print.rs` for the form.
//!
//! The parser checks the form only. What is well formed and wrong, such as a rule
//! that is placed twice or an empty port range, is the verifier's to find. Items
//! may stand in any order, `#` starts a comment. It never panics.

use std::collections::BTreeMap;

use cranelift_entity::{EntityRef, PrimaryMap};

use super::cursor::Cursor;
use super::{
    Action, AddrSet, AddrSetData, Chain, ChainData, ChainEnd, Decision, DecisionData, DecisionKind,
    Direction, Family, File, IcmpMatch, Match, Origin, PolicyIr, PortMatch, Rule, RuleData, RuleOrigins,
    SetKind, SideMatch,
};

pub use super::cursor::ParseError;

type Result<T> = std::result::Result<T, ParseError>;

/// Parses the textual form of one IR.
///
/// # Errors
/// The first place that is not in the form, with line and column.
pub fn parse(text: &str) -> Result<PolicyIr> {
    let mut parser = Parser::new(text);
    while !parser.c.at_end() {
        parser.item()?;
    }
    parser.finish()
}

/// Items by id: ids may come in any order, but none may be missing.
type Items<T> = BTreeMap<u32, T>;

struct Parser<'a> {
    c: Cursor<'a>,
    head: Option<(String, Direction)>,
    files: Items<String>,
    sets: Items<AddrSetData>,
    decisions: Items<DecisionData>,
    rules: Items<RuleData>,
    chains: Items<ChainData>,
    order: Option<Vec<Chain>>,
}

impl<'a> Parser<'a> {
    fn new(text: &'a str) -> Self {
        Self {
            c: Cursor::new(text),
            head: None,
            files: Items::new(),
            sets: Items::new(),
            decisions: Items::new(),
            rules: Items::new(),
            chains: Items::new(),
            order: None,
        }
    }

    fn item(&mut self) -> Result<()> {
        if self.c.word("policy") {
            let name = self.c.string()?;
            let direction =
                self.c.one_of(&[("ingress", Direction::Ingress), ("egress", Direction::Egress)])?;
            return match self.head.replace((name, direction)) {
                None => Ok(()),
                Some(_) => self.c.fail("a second `policy`"),
            };
        }
        if self.c.word("order") {
            let order = self.chain_list()?;
            return match self.order.replace(order) {
                None => Ok(()),
                Some(_) => self.c.fail("a second `order`"),
            };
        }
        if self.c.word("unplaced") {
            self.c.expect("{")?;
            while !self.c.eat("}") {
                self.rule(false)?;
            }
            return Ok(());
        }
        if let Some(id) = self.c.entity("file")? {
            self.c.expect("=")?;
            let name = self.c.string()?;
            return self.c.define("file", &mut self.files, id, name);
        }
        if let Some(id) = self.c.entity("set")? {
            let set = self.set()?;
            return self.c.define("set", &mut self.sets, id, set);
        }
        if let Some(id) = self.c.entity("decision")? {
            let decision = self.decision()?;
            return self.c.define("decision", &mut self.decisions, id, decision);
        }
        if let Some(id) = self.c.entity("chain")? {
            let chain = self.chain()?;
            return self.c.define("chain", &mut self.chains, id, chain);
        }
        self.c.fail("expected `policy`, a file, set, decision or chain, `unplaced` or `order`")
    }

    fn finish(self) -> Result<PolicyIr> {
        let Some((name, direction)) = self.head else { return self.c.fail("there is no `policy`") };
        let Some(order) = self.order else { return self.c.fail("there is no `order`") };
        Ok(PolicyIr {
            name,
            direction,
            files: dense(&self.c, "file", self.files)?,
            sets: dense(&self.c, "set", self.sets)?,
            decisions: dense(&self.c, "decision", self.decisions)?,
            rules: dense(&self.c, "rule", self.rules)?,
            chains: dense(&self.c, "chain", self.chains)?,
            order,
        })
    }

    fn chain_list(&mut self) -> Result<Vec<Chain>> {
        let mut chains = Vec::new();
        while let Some(id) = self.c.entity("chain")? {
            chains.push(Chain::from_u32(id));
            if !self.c.eat(",") {
                break;
            }
        }
        Ok(chains)
    }

    fn set(&mut self) -> Result<AddrSetData> {
        self.c.expect("=")?;
        let kind = self.c.one_of(&[("nets", SetKind::Nets), ("members", SetKind::Members)])?;
        let name = self.c.string()?;
        self.c.expect("{")?;
        let mut nets = Vec::new();
        if !self.c.eat("}") {
            nets.push(self.c.net()?);
            while self.c.eat(",") {
                nets.push(self.c.net()?);
            }
            self.c.expect("}")?;
        }
        Ok(AddrSetData { kind, name, nets })
    }

    fn decision(&mut self) -> Result<DecisionData> {
        self.c.expect("=")?;
        let kind = self.c.one_of(&[
            ("rule", DecisionKind::Rule),
            ("tier-default", DecisionKind::TierDefault),
            ("profile", DecisionKind::Profile),
            ("no-profile-match", DecisionKind::NoProfileMatch),
            ("failsafe", DecisionKind::Failsafe),
        ])?;
        let action = self.action()?;
        let mut optional = |word| if self.c.word(word) { self.c.string().map(Some) } else { Ok(None) };
        let tier = optional("tier")?;
        let rule = if self.c.word("index") { Some(self.c.number()?) } else { None };
        let mut optional = |word| if self.c.word(word) { self.c.string().map(Some) } else { Ok(None) };
        let api = optional("api")?.unwrap_or_default();
        let object = optional("object")?.unwrap_or_default();
        let namespace = optional("namespace")?;
        self.c.expect("name")?;
        let name = self.c.string()?;
        let at = if self.c.word("at") { Some(self.origin()?) } else { None };
        Ok(DecisionData { kind, api, object, namespace, name, tier, rule, action, at })
    }

    fn action(&mut self) -> Result<Action> {
        const ACTIONS: [Action; 4] = [Action::Allow, Action::Deny, Action::Pass, Action::Log];
        self.c.one_of(&ACTIONS.map(|action| (action.as_str(), action)))
    }

    fn origin(&mut self) -> Result<Origin> {
        let file = self.c.required_entity("file").map(File::from_u32)?;
        self.c.expect(":")?;
        let line = self.c.number()?;
        self.c.expect(":")?;
        let column = self.c.number()?;
        Ok(Origin { file, line, column })
    }

    fn chain(&mut self) -> Result<ChainData> {
        let name = self.c.string()?;
        self.c.expect("{")?;
        let mut rules = Vec::new();
        while !self.c.eat("}") {
            rules.push(self.rule(true)?);
        }
        let end = match self.action()? {
            Action::Allow => ChainEnd::Allow(self.decision_id()?),
            Action::Deny => ChainEnd::Deny(self.decision_id()?),
            Action::Pass => ChainEnd::Pass,
            Action::Log => return self.c.fail("a chain cannot end with log"),
        };
        Ok(ChainData { name, rules, end })
    }

    fn decision_id(&mut self) -> Result<Decision> {
        self.c.required_entity("decision").map(Decision::from_u32)
    }

    /// A rule, or where that is allowed, the bare id of one that stands elsewhere.
    fn rule(&mut self, may_refer: bool) -> Result<Rule> {
        let id = self.c.required_entity("rule")?;
        if may_refer && !self.c.peek(":") {
            return Ok(Rule::from_u32(id));
        }
        self.c.expect(":")?;
        let matches = self.matches()?;
        self.c.expect("->")?;
        let action = self.action()?;
        let decision = self.decision_id()?;
        let origins = self.rule_origins()?;
        self.c.define("rule", &mut self.rules, id, RuleData { matches, action, decision, origins })?;
        Ok(Rule::from_u32(id))
    }

    fn rule_origins(&mut self) -> Result<RuleOrigins> {
        let mut o = RuleOrigins::default();
        let places = [
            ("", &mut o.rule),
            ("proto", &mut o.protocol),
            ("src", &mut o.src),
            ("dst", &mut o.dst),
            ("sport", &mut o.src_ports),
            ("dport", &mut o.dst_ports),
        ];
        for (word, place) in places {
            if word.is_empty() {
                *place = if self.c.word("at") { Some(self.origin()?) } else { None };
            } else if self.c.word(word) {
                self.c.expect("at")?;
                *place = Some(self.origin()?);
            }
        }
        Ok(o)
    }

    fn matches(&mut self) -> Result<Match> {
        let mut m = Match::default();
        if self.c.word("any") {
            return Ok(m);
        }
        loop {
            self.criterion(&mut m)?;
            if !self.c.eat(";") {
                return Ok(m);
            }
        }
    }

    fn criterion(&mut self, m: &mut Match) -> Result<()> {
        let negated = self.c.word("not");
        let c = &mut self.c;
        match (c.take_word(), negated) {
            ("family", false) => {
                let family = c.one_of(&[("v4", Family::V4), ("v6", Family::V6)])?;
                c.once(&mut m.family, family)
            }
            ("proto", false) => c.protocol().and_then(|p| c.once(&mut m.protocol, p)),
            ("proto", true) => c.protocol().and_then(|p| c.once(&mut m.not_protocol, p)),
            ("icmp", false) => self.icmp().and_then(|i| self.c.once(&mut m.icmp, i)),
            ("icmp", true) => self.icmp().and_then(|i| self.c.once(&mut m.not_icmp, i)),
            ("src", false) => self.sets_of(&mut m.src),
            ("dst", false) => self.sets_of(&mut m.dst),
            ("sport", _) => self.ports_of(&mut m.src, negated),
            ("dport", _) => self.ports_of(&mut m.dst, negated),
            _ => c.fail("expected a criterion: family, proto, icmp, src, dst, sport or dport"),
        }
    }

    fn icmp(&mut self) -> Result<IcmpMatch> {
        let icmp_type = self.c.number()?;
        let code = if self.c.eat("/") { Some(self.c.number()?) } else { None };
        Ok(IcmpMatch { icmp_type, code })
    }

    fn sets_of(&mut self, side: &mut SideMatch) -> Result<()> {
        let list = if self.c.word("not") { &mut side.not_in } else { &mut side.in_sets };
        self.c.expect("in")?;
        loop {
            list.push(self.c.required_entity("set").map(AddrSet::from_u32)?);
            if !self.c.eat(",") {
                return Ok(());
            }
        }
    }

    fn ports_of(&mut self, side: &mut SideMatch, negated: bool) -> Result<()> {
        let mut ports = Vec::new();
        if negated || !self.c.word("none") {
            ports.push(self.port()?);
            while self.c.eat(",") {
                ports.push(self.port()?);
            }
        }
        if negated {
            side.not_ports.extend(ports);
            return Ok(());
        }
        self.c.once(&mut side.ports, ports)
    }

    /// A number, a range, or a named port: `tcp/80 in set0`, `6/80 in set0`.
    fn port(&mut self) -> Result<PortMatch> {
        if self.c.word_before("/") {
            let protocol = self.c.protocol()?;
            self.c.expect("/")?;
            let port = self.c.number()?;
            self.c.expect("in")?;
            let set = self.c.required_entity("set").map(AddrSet::from_u32)?;
            return Ok(PortMatch::Named { protocol, port, set });
        }
        let first = self.c.number()?;
        let range = !self.c.peek("->") && self.c.eat("-");
        let last = if range { self.c.number()? } else { first };
        Ok(PortMatch::Range(first, last))
    }
}

/// Ids must be 0, 1, 2, … without a gap.
fn dense<K: EntityRef, T>(c: &Cursor<'_>, kind: &str, items: Items<T>) -> Result<PrimaryMap<K, T>> {
    let mut map = PrimaryMap::with_capacity(items.len());
    for (expected, (id, item)) in items.into_iter().enumerate() {
        if id as usize != expected {
            return c.fail(&format!("{kind}{expected} is not defined, but {kind}{id} is"));
        }
        map.push(item);
    }
    Ok(map)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::generate::{Rng, Shape, policy};

    const SMALL: &str = "policy \"p\" ingress\norder chain0\nchain0 \"t\" {\n} pass\n";

    #[test]
    fn what_is_printed_parses_back() {
        for seed in 0..2000 {
            let ir = policy(seed, &Shape::default());
            assert!(parse(&ir.to_string()).as_ref() == Ok(&ir), "seed {seed}\n{ir}");
        }
    }

    /// The law holds for IRs that do not verify, too.
    #[test]
    fn invalid_irs_parse_back() {
        let mut wrong = 0;
        for seed in 0..1000 {
            let mut ir = policy(seed, &Shape::default());
            spoil(&mut ir, &mut Rng::new(seed));
            wrong += usize::from(crate::ir::verify(&ir).is_err());
            assert!(parse(&ir.to_string()).as_ref() == Ok(&ir), "seed {seed}\n{ir}");
        }
        assert!(wrong > 500, "{wrong}");
    }

    fn spoil(ir: &mut PolicyIr, rng: &mut Rng) {
        ir.name.push_str("\"\\\n\u{1}é\u{2028}");
        for (id, chain) in ir.chains.iter_mut() {
            match rng.below(5) {
                0 => chain.rules.extend([Rule::from_u32(0), Rule::from_u32(9999)]),
                1 => drop(chain.rules.pop()),
                2 => chain.end = ChainEnd::Allow(Decision::from_u32(777)),
                3 => ir.order.extend([id, Chain::from_u32(99)]),
                _ => {}
            }
        }
        for (_, set) in ir.sets.iter_mut() {
            set.nets.reverse();
            set.nets.extend(
                ["10.1.2.3/8".parse::<ipnet::IpNet>(), "::ffff:1.2.3.4/128".parse()].into_iter().flatten(),
            );
        }
        for (_, rule) in ir.rules.iter_mut() {
            rule.matches.src.not_ports.push(PortMatch::Range(9, 3));
            rule.origins.src_ports = Some(Origin { file: File::from_u32(5), line: 0, column: 0 });
        }
    }

    #[test]
    fn damaged_text_never_panics() {
        let mut rng = Rng::new(7);
        let (mut good, mut bad) = (0, 0);
        for seed in 0..300 {
            let text: Vec<char> = policy(seed, &Shape::default()).to_string().chars().collect();
            for _ in 0..20 {
                let mut text = text.clone();
                let at = rng.below(text.len());
                match rng.below(3) {
                    0 => text.truncate(at),
                    1 => drop(text.remove(at)),
                    _ => text[at] = rng.of(['"', '\\', '{', '}', '9', 'é', '#', '\n', ':', 'r']),
                }
                match parse(&text.iter().collect::<String>()) {
                    Ok(_) => good += 1,
                    Err(_) => bad += 1,
                }
            }
        }
        assert!(good > 100 && bad > 1000, "{good} {bad}");
    }

    #[test]
    fn errors_name_line_and_column() {
        let cases = [
            ("", "1:1: there is no `policy`"),
            ("policy p ingress", "1:8: expected a text in double quotes"),
            ("policy \"p", "1:8: the text has no closing quote"),
            ("policy \"é\\x\" ingress", "1:10: expected `\\\"`, `\\\\` or `\\u{…}`"),
            ("policy \"p\" sideways", "1:12: expected `ingress` or `egress`"),
            ("# c\n  policy \"p\" ingress", "2:21: there is no `order`"),
            ("policy \"p\" ingress order order", "1:31: a second `order`"),
            ("set1 = nets \"\" { }\npolicy \"\" egress order", "2:23: set0 is not defined, but set1 is"),
            (
                "set0 = nets \"\" { 10.0.0.0/33 }",
                "1:18: expected a prefix, as in `10.0.0.0/8` or `fd00::/64`",
            ),
            ("unplaced { rule0: dport 80-70000 -> allow decision0 }", "1:28: 70000 is too large here"),
            ("unplaced { rule0: dport -> allow decision0 }", "1:25: expected a number"),
            (
                "unplaced { rule0: port 80 -> allow decision0 }",
                "1:24: expected a criterion: family, proto, icmp, src, dst, sport or dport",
            ),
            ("unplaced { rule0: proto 6; proto 7 -> allow decision0 }", "1:36: this criterion stands twice"),
            (
                "unplaced { rule4294967295: any -> allow decision0 }",
                "1:12: rule4294967295: the index is too large",
            ),
            ("file0 = \"a\" file0 = \"b\"", "1:24: file0 is defined twice"),
        ];
        assert!(parse(SMALL).is_ok());
        for (text, want) in cases {
            assert_eq!(parse(text).map_err(|e| e.to_string()), Err(want.to_string()), "{text}");
        }
    }
}
