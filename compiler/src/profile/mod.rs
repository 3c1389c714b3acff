//! Hit profiles: how often each decision was hit, as a file, for the order of rules.
//!
//! What: a [`HitProfile`] is written by whatever counts hits (a replay, the
//! kernel's counters) and read when policy is compiled; [`Applied`] gives each
//! decision of an IR its hits.
//!
//! Hits are summed over endpoints: endpoints with equal policy share one program,
//! and pods come and go under new names while policies stay. Each entry names its
//! decision as users see it (policy, direction, index of the rule) and, where the
//! writer knows the rule itself, [`Criteria`], by which a rule is found again when
//! others were added before it. A profile changes the order of tests and nothing
//! else, so a wrong one costs time, never a verdict.

mod apply;
mod criteria;

pub use apply::{Applied, Unused};
pub use criteria::{Criteria, criteria};

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};

use crate::ir::{Action, DecisionData, DecisionKind, Direction};

/// Version of the format.
pub const API_VERSION: &str = "polc/v1";
/// The format's name beside its version.
pub const KIND: &str = "HitProfile";

/// How often each decision was hit. Prints as the file of
/// `docs/schema/profile.schema.json`: equal profiles give equal bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HitProfile {
    hits: BTreeMap<Entry, u64>,
}

/// Which decision an entry is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// What kind of thing decides.
    #[serde(rename = "type", with = "KindName")]
    pub kind: DecisionKind,
    /// The object's `apiVersion`; empty where there is no object.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub api: String,
    /// The object's `kind`; empty where there is no object.
    #[serde(default, rename = "kind", skip_serializing_if = "String::is_empty")]
    pub object: String,
    /// The object's namespace; `None` for cluster-wide objects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The object's name, or the tier's for its end; empty where there is neither.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Direction that the policy governs.
    #[serde(with = "DirectionName")]
    pub direction: Direction,
    /// Zero-based index in the list that the user wrote; `None` for defaults.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<u32>,
    /// The action as the user wrote it.
    #[serde(with = "ActionName")]
    pub action: Action,
    /// What the rule says; `None` where the writer did not know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub criteria: Option<Criteria>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "DecisionKind", rename_all = "kebab-case")]
enum KindName {
    Rule,
    TierDefault,
    Profile,
    NoProfileMatch,
    Failsafe,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Direction", rename_all = "lowercase")]
enum DirectionName {
    Ingress,
    Egress,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Action", rename_all = "lowercase")]
enum ActionName {
    Allow,
    Deny,
    Pass,
    Log,
}

impl Entry {
    /// The entry of a decision; `criteria` where the IR that has it is at hand.
    pub fn new(direction: Direction, decision: &DecisionData, criteria: Option<Criteria>) -> Self {
        Self {
            kind: decision.kind,
            api: decision.api.clone(),
            object: decision.object.clone(),
            namespace: decision.namespace.clone(),
            name: decision.name.clone(),
            direction,
            rule: decision.rule,
            action: decision.action,
            criteria,
        }
    }
}

/// `rule 3 of NetworkPolicy shop/web ingress`.
impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(rule) = self.rule {
            write!(f, "rule {rule} of ")?;
        }
        match self.kind {
            DecisionKind::Rule => write!(f, "{} ", self.object)?,
            DecisionKind::TierDefault => f.write_str("the end of tier ")?,
            DecisionKind::Profile => f.write_str("profile ")?,
            DecisionKind::NoProfileMatch => f.write_str("the end of profiles ")?,
            DecisionKind::Failsafe => f.write_str("failsafe ports ")?,
        }
        if let Some(namespace) = &self.namespace {
            write!(f, "{namespace}/")?;
        }
        if !self.name.is_empty() {
            write!(f, "{} ", self.name)?;
        }
        f.write_str(self.direction.as_str())
    }
}

impl HitProfile {
    /// Adds hits of a decision; none is no entry.
    pub fn add(&mut self, entry: Entry, hits: u64) {
        if hits > 0 {
            let sum = self.hits.entry(entry).or_default();
            *sum = sum.saturating_add(hits);
        }
    }

    /// The entries and their hits, in the order of the file.
    pub fn iter(&self) -> impl Iterator<Item = (&Entry, u64)> {
        self.hits.iter().map(|(entry, hits)| (entry, *hits))
    }

    /// Reads a file. Entries of one decision add up.
    ///
    /// # Errors
    /// The text is not JSON, not of this version, or an entry is not as the schema
    /// says; with the place.
    pub fn parse(text: &str) -> Result<Self, ProfileError> {
        let file: File = serde_json::from_str(text)?;
        let mut profile = Self::default();
        for Counted { decision, hits } in file.decisions {
            profile.add(decision, hits);
        }
        Ok(profile)
    }
}

/// The file: a line for each entry, so that a difference shows which.
impl fmt::Display for HitProfile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{\"apiVersion\":\"{API_VERSION}\",\"kind\":\"{KIND}\",\"decisions\":[")?;
        for (i, (entry, hits)) in self.hits.iter().enumerate() {
            let line = Counted { decision: entry, hits: *hits };
            let line = serde_json::to_string(&line).map_err(|_| fmt::Error)?;
            write!(f, "{}\n{line}", if i == 0 { "" } else { "," })?;
        }
        f.write_str("\n]}\n")
    }
}

/// A profile cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{line}:{column}: {message}")]
pub struct ProfileError {
    /// Line, from 1.
    pub line: usize,
    /// Column in bytes, from 1; 0 at the end of a line before the first byte.
    pub column: usize,
    /// What is wrong there.
    pub message: String,
}

impl From<serde_json::Error> for ProfileError {
    fn from(error: serde_json::Error) -> Self {
        let (line, column) = (error.line(), error.column());
        let text = error.to_string();
        let place = format!(" at line {line} column {column}");
        Self { line, column, message: text.strip_suffix(&place).unwrap_or(&text).to_owned() }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(rename = "apiVersion", deserialize_with = "version")]
    _version: (),
    #[serde(rename = "kind", deserialize_with = "kind")]
    _kind: (),
    decisions: Vec<Counted<Entry>>,
}

/// An entry's line; `decision` is an [`Entry`].
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Counted<E> {
    decision: E,
    hits: u64,
}

fn version<'de, D: Deserializer<'de>>(from: D) -> Result<(), D::Error> {
    expect(from, API_VERSION)
}

fn kind<'de, D: Deserializer<'de>>(from: D) -> Result<(), D::Error> {
    expect(from, KIND)
}

fn expect<'de, D: Deserializer<'de>>(from: D, want: &str) -> Result<(), D::Error> {
    let have = String::deserialize(from)?;
    if have == want {
        return Ok(());
    }
    Err(serde::de::Error::custom(format!("expected {want:?}, which this polc reads, and found {have:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str, rule: u32) -> Entry {
        Entry {
            kind: DecisionKind::Rule,
            api: "networking.k8s.io/v1".into(),
            object: "NetworkPolicy".into(),
            namespace: Some("shop".into()),
            name: name.into(),
            direction: Direction::Ingress,
            rule: Some(rule),
            action: Action::Allow,
            criteria: Some(Criteria(0xfedc)),
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let mut profile = HitProfile::default();
        assert_eq!(HitProfile::parse(&profile.to_string()), Ok(profile.clone()));
        profile.add(entry("web", 1), 7);
        profile.add(entry("web", 1), 2);
        profile.add(entry("api", 0), 0);
        let end = Entry {
            kind: DecisionKind::NoProfileMatch,
            api: String::new(),
            object: String::new(),
            namespace: None,
            name: String::new(),
            rule: None,
            action: Action::Deny,
            criteria: None,
            direction: Direction::Egress,
        };
        profile.add(end, u64::MAX);
        assert_eq!(HitProfile::parse(&profile.to_string()), Ok(profile.clone()));
        let text = profile.to_string();
        assert_eq!(text.lines().count(), 4, "a line for each entry: {text}");
        assert!(text.contains("\"criteria\":\"000000000000fedc\"},\"hits\":9}"), "{text}");
        let names: Vec<String> = profile.iter().map(|(entry, _)| entry.to_string()).collect();
        assert_eq!(names, ["rule 1 of NetworkPolicy shop/web ingress", "the end of profiles egress"]);
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        let whole = |entry: &str| {
            format!("{{\"apiVersion\":\"polc/v1\",\"kind\":\"HitProfile\",\"decisions\":[\n{entry}\n]}}")
        };
        let good = "{\"decision\":{\"type\":\"no-profile-match\",\"direction\":\"ingress\",\"action\":\"deny\"},\"hits\":1}";
        assert_eq!(HitProfile::parse(&whole(good)).map(|p| p.iter().count()), Ok(1));
        for (text, line, message) in [
            (String::new(), 1, "EOF"),
            ("{}".into(), 1, "missing field `apiVersion`"),
            (whole(good).replace("v1", "v2"), 1, "expected \"polc/v1\""),
            (whole(good).replace("HitProfile", "Profile"), 1, "expected \"HitProfile\""),
            (whole(&good.replace("hits\":1", "hits\":-1")), 2, "u64"),
            (whole(&good.replace("hits\":1", "hits\":1.5")), 2, "u64"),
            (whole(&good.replace("deny", "drop")), 2, "unknown variant `drop`"),
            (whole(&good.replace("direction", "way")), 2, "unknown field `way`"),
            (
                whole(&good.replace("\"action\"", "\"criteria\":\"zz\",\"action\"")),
                2,
                "16 hexadecimal digits",
            ),
            (whole(&format!("{good},")), 3, "trailing comma"),
        ] {
            let error = HitProfile::parse(&text).unwrap_err();
            assert!(error.line == line && error.message.contains(message), "{text}\n{error}");
            assert!(!error.message.contains(" at line "), "{error}");
        }
    }
}
