//! The sweep: from the rules of a plane to its columns.

use rustc_hash::{FxBuildHasher, FxHashMap};

use super::active::{Active, Event};
use super::{Act, Header, Item, Plane, Stretch};
use crate::dispatch::Unfit;
use crate::dispatch::axis::{self, Span};
use crate::dispatch::condition::{Cond, Conditions};
use crate::dispatch::lists::Distinct;
use crate::ir::{Action, ChainEnd, Decision, Family, Match, PolicyIr, PortMatch, SideMatch, Verdict};

/// Most rules that a sweep looks at, each time that it does.
const MAX_WORK: u64 = 150_000_000;
/// Most classes of source ports in one plane.
const MAX_SOURCE_CLASSES: usize = 256;

/// A rule of an evaluated chain.
struct Live<'a> {
    chain: u32,
    act: Act,
    decision: Decision,
    matches: &'a Match,
}

/// A rule's spans in one plane, as parts of one list: first those of the source side,
/// then those of the plane's own axis.
struct Spans {
    live: u32,
    start: u32,
    middle: u32,
    end: u32,
}

impl Spans {
    fn src<'s>(&self, all: &'s [Span]) -> &'s [Span] {
        &all[self.start as usize..self.middle as usize]
    }

    fn dst<'s>(&self, all: &'s [Span]) -> &'s [Span] {
        &all[self.middle as usize..self.end as usize]
    }
}

/// Finds columns, plane by plane, and numbers them.
pub(super) struct Sweeper<'a> {
    live: Vec<Live<'a>>,
    /// First live rule of each chain, and the number of live rules at the end.
    starts: Vec<u32>,
    /// What each chain ends with; `None` goes on.
    ends: Vec<Option<u32>>,
    /// Live rules without protocol, and by protocol.
    general: Vec<u32>,
    by_protocol: Vec<Vec<u32>>,
    /// Protocols that a rule names, by number.
    pub mentioned: [bool; 256],
    /// Whether a rule has named ports.
    pub named: bool,
    pub conditions: Conditions,
    pub items: Vec<Item>,
    pub ranks: Vec<u32>,
    item_ids: FxHashMap<Item, u32>,
    /// Number of each item's pair of conditions.
    pairs: Vec<u32>,
    pair_ids: FxHashMap<(Cond, Cond), u32>,
    /// The last list that had a pair in its chain, by pair.
    marks: Vec<u32>,
    mark: u32,
    pub columns: Distinct,
    /// Room for the column at hand.
    list: Vec<u32>,
    most: usize,
    work: u64,
}

impl<'a> Sweeper<'a> {
    pub fn new(ir: &'a PolicyIr, most: usize) -> Self {
        let rules = ir.rules.len();
        let mut sweeper = Self {
            live: Vec::with_capacity(rules),
            starts: Vec::new(),
            ends: Vec::new(),
            general: Vec::new(),
            by_protocol: vec![Vec::new(); 256],
            mentioned: [false; 256],
            named: false,
            conditions: Conditions::default(),
            items: Vec::with_capacity(rules),
            ranks: Vec::with_capacity(rules),
            item_ids: FxHashMap::with_capacity_and_hasher(rules, FxBuildHasher),
            pairs: Vec::with_capacity(rules),
            pair_ids: FxHashMap::with_capacity_and_hasher(rules, FxBuildHasher),
            marks: Vec::new(),
            mark: 0,
            columns: Distinct::default(),
            list: Vec::new(),
            most,
            work: 0,
        };
        for (chain, id) in (0..).zip(&ir.order) {
            sweeper.starts.push(sweeper.live.len() as u32);
            for rule in &ir.chains[*id].rules {
                let rule = &ir.rules[*rule];
                let act = match rule.action {
                    Action::Allow => Act::Decide(Verdict::Allow),
                    Action::Deny => Act::Decide(Verdict::Deny),
                    Action::Pass => Act::Pass,
                    Action::Log => Act::Log,
                };
                sweeper.add_rule(chain, act, rule.decision, &rule.matches);
            }
            let end = match ir.chains[*id].end {
                ChainEnd::Allow(decision) => Some((Verdict::Allow, decision)),
                ChainEnd::Deny(decision) => Some((Verdict::Deny, decision)),
                ChainEnd::Pass => None,
            };
            let end = end.map(|(verdict, decision)| {
                let (src, dst) = (Cond::ALWAYS, Cond::ALWAYS);
                let rank = 2 * sweeper.live.len() as u32;
                sweeper.item(Item { chain, act: Act::Decide(verdict), decision, src, dst }, rank)
            });
            sweeper.ends.push(end);
        }
        sweeper.starts.push(sweeper.live.len() as u32);
        sweeper
    }

    fn add_rule(&mut self, chain: u32, act: Act, decision: Decision, matches: &'a Match) {
        let number = self.live.len() as u32;
        match matches.protocol {
            Some(protocol) => self.by_protocol[usize::from(protocol)].push(number),
            None => self.general.push(number),
        }
        let ports = |side: &'a SideMatch| side.ports.iter().flatten().chain(&side.not_ports);
        let names = ports(&matches.src).chain(ports(&matches.dst)).filter_map(|port| match port {
            PortMatch::Named { protocol, .. } => Some(*protocol),
            PortMatch::Range(..) => None,
        });
        let mut mentioned: Vec<u8> = names.collect();
        self.named |= !mentioned.is_empty();
        mentioned.extend(matches.protocol.iter().chain(&matches.not_protocol));
        for protocol in mentioned {
            self.mentioned[usize::from(protocol)] = true;
        }
        self.live.push(Live { chain, act, decision, matches });
    }

    /// Live rules that packets of a family and protocol can match, ascending.
    pub fn rules_for(&self, family: Family, protocol: u8) -> Vec<u32> {
        let own = &self.by_protocol[usize::from(protocol)];
        let mut rules = Vec::with_capacity(own.len() + self.general.len());
        rules.extend(own.iter().chain(&self.general).filter(|number| {
            let m = self.live[**number as usize].matches;
            m.family.is_none_or(|f| f == family) && m.not_protocol != Some(protocol)
        }));
        rules.sort_unstable();
        rules
    }

    pub fn plane(&mut self, rules: &[u32], header: Header, protocol: u8) -> Result<Plane, Unfit> {
        let mut all = Vec::with_capacity(2 * rules.len());
        let spans: Vec<Spans> =
            rules.iter().filter_map(|live| self.spans(*live, header, protocol, &mut all)).collect();
        let mut bounds = vec![0_u32];
        for span in spans.iter().flat_map(|rule| rule.src(&all)) {
            bounds.extend([u32::from(span.first), u32::from(span.last) + 1]);
        }
        bounds.sort_unstable();
        bounds.dedup();
        bounds.retain(|bound| *bound <= u32::from(u16::MAX));
        let mut plane = Plane { sources: Vec::new(), columns: Vec::new() };
        let mut known: FxHashMap<Vec<Stretch>, u16> = FxHashMap::default();
        for bound in bounds {
            let stretches = self.sweep(&spans, &all, bound as u16)?;
            let next = plane.columns.len() as u16;
            let class = *known.entry(stretches).or_insert_with_key(|stretches| {
                plane.columns.push(stretches.clone());
                next
            });
            if plane.sources.last().is_none_or(|(_, last)| *last != class) {
                plane.sources.push((bound as u16, class));
            }
            if plane.columns.len() > MAX_SOURCE_CLASSES {
                return Err(Unfit::SourceClasses { max: MAX_SOURCE_CLASSES });
            }
        }
        Ok(plane)
    }

    /// Appends where a rule can match in a plane; `None` if nowhere.
    fn spans(&mut self, live: u32, header: Header, protocol: u8, all: &mut Vec<Span>) -> Option<Spans> {
        let m = self.live[live as usize].matches;
        let start = all.len();
        let mut side = |of: &SideMatch, all: &mut Vec<Span>| match header {
            Header::Ports => axis::with_ports(of, protocol, &mut self.conditions, all),
            Header::None | Header::Icmp => all.extend(axis::without_ports(of, &mut self.conditions)),
        };
        if m.icmp.is_some() && header != Header::Icmp {
            return None;
        }
        side(&m.src, all);
        let middle = all.len();
        if middle > start {
            side(&m.dst, all);
        }
        if header == Header::Icmp
            && let Some(dst) = all.get(middle).copied()
        {
            all.truncate(middle);
            all.extend(axis::icmp(m).into_iter().map(|(first, last)| Span { first, last, ..dst }));
        }
        if all.len() == middle {
            all.truncate(start);
            return None;
        }
        Some(Spans { live, start: start as u32, middle: middle as u32, end: all.len() as u32 })
    }

    /// The columns along a plane's axis for packets with this source port.
    fn sweep(&mut self, spans: &[Spans], all: &[Span], source: u16) -> Result<Vec<Stretch>, Unfit> {
        let mut events: Vec<Event> = Vec::with_capacity(2 * spans.len());
        for rule in spans {
            self.work += 1;
            let sources = rule.src(all);
            let at = sources.partition_point(|span| span.last < source);
            let Some(src) = sources.get(at).filter(|span| span.first <= source).map(|span| span.cond) else {
                continue;
            };
            let Live { chain, act, decision, .. } = self.live[rule.live as usize];
            for span in rule.dst(all) {
                let item = self.item(Item { chain, act, decision, src, dst: span.cond }, 2 * rule.live + 1);
                events.push((span.first.into(), Some(item), rule.live));
                events.push((u32::from(span.last) + 1, None, rule.live));
            }
        }
        events.sort_unstable();
        let mut active = Active::default();
        let mut stretches: Vec<Stretch> = Vec::new();
        if events.first().is_none_or(|(at, ..)| *at > 0) {
            stretches.push((0, self.column(&active)?));
        }
        for same in events.chunk_by(|a, b| a.0 == b.0) {
            active.advance(same);
            let Ok(at) = u16::try_from(same[0].0) else { break };
            let column = self.column(&active)?;
            if stretches.last().is_none_or(|(_, last)| *last != column) {
                stretches.push((at, column));
            }
        }
        Ok(stretches)
    }

    /// The column of the active rules, reduced.
    fn column(&mut self, active: &Active) -> Result<u16, Unfit> {
        let mut list = std::mem::take(&mut self.list);
        list.clear();
        for chain in 0..self.ends.len() {
            if !self.reduce(chain, active, &mut list) {
                break;
            }
        }
        let column = self.number(&list);
        self.list = list;
        column
    }

    /// The number of a column with these items.
    fn number(&mut self, list: &[u32]) -> Result<u16, Unfit> {
        if self.work > MAX_WORK {
            return Err(Unfit::Work { max: MAX_WORK });
        }
        let number = self.columns.number(list, self.most).ok_or(Unfit::Columns { max: self.most })?;
        Ok(number as u16)
    }

    /// Adds what of a chain can decide. Whether the next chain can be reached.
    fn reduce(&mut self, chain: usize, active: &Active, list: &mut Vec<u32>) -> bool {
        self.mark += 1;
        let mut passes = false;
        for (_, id) in active.range(self.starts[chain], self.starts[chain + 1]) {
            self.work += 1;
            let pair = self.pairs[*id as usize] as usize;
            if self.marks[pair] == self.mark {
                continue;
            }
            list.push(*id);
            let item = &self.items[*id as usize];
            if item.act == Act::Log {
                continue;
            }
            if item.is_sure() {
                return passes || item.act == Act::Pass;
            }
            self.marks[pair] = self.mark;
            passes |= item.act == Act::Pass;
        }
        list.extend(self.ends[chain]);
        passes || self.ends[chain].is_none()
    }

    /// The number of an item; `rank` is its place if it is new.
    fn item(&mut self, item: Item, rank: u32) -> u32 {
        if let Some(known) = self.item_ids.get(&item) {
            return *known;
        }
        let next_pair = self.pair_ids.len() as u32;
        let pair = *self.pair_ids.entry((item.src, item.dst)).or_insert(next_pair);
        if pair == next_pair {
            self.marks.push(0);
        }
        let id = self.items.len() as u32;
        self.items.push(item);
        self.ranks.push(rank);
        self.pairs.push(pair);
        self.item_ids.insert(item, id);
        id
    }
}
