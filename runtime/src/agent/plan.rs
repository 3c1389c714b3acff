//! From what is attached and what is wanted to what is to be done.
//!
//! Cost: linear in both.

use std::collections::{BTreeMap, BTreeSet};

/// What is attached to an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    /// Endpoint.
    pub endpoint: String,
    /// Whether it is a host endpoint.
    pub host: bool,
    /// Digests, or names of images, of the ingress and egress policy.
    pub policy: [String; 2],
    /// Likewise of untracked policy, where there is any.
    pub untracked: [Option<String>; 2],
}

/// What is wanted at an interface. The same facts, of the other kind.
pub type Wanted = Attached;

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nobody wants this interface any more.
    Detach(String),
    /// First policy, or another endpoint.
    Attach(String),
    /// Another policy for the same endpoint.
    Replace(String),
    /// Other members for the policies in force.
    Members(String),
}

impl Step {
    /// The interface.
    pub fn interface(&self) -> &str {
        match self {
            Self::Detach(interface)
            | Self::Attach(interface)
            | Self::Replace(interface)
            | Self::Members(interface) => interface,
        }
    }
}

/// What leads from one to the other; nothing for what is right already. Detaching
/// comes first: it makes room. Members come last: tables are shared, and a policy that
/// is being replaced shall not see those of its successor. `moved` are the interfaces
/// where tables that stay get other members.
pub fn plan(
    attached: &BTreeMap<String, Attached>,
    wanted: &BTreeMap<String, Wanted>,
    moved: &BTreeSet<String>,
) -> Vec<Step> {
    let gone = attached.keys().filter(|interface| !wanted.contains_key(*interface));
    let mut steps: Vec<Step> = gone.map(|interface| Step::Detach(interface.clone())).collect();
    for (interface, want) in wanted {
        match attached.get(interface) {
            Some(have) if have == want => {}
            Some(have) if (&have.endpoint, have.host) == (&want.endpoint, want.host) => {
                steps.push(Step::Replace(interface.clone()));
            }
            _ => steps.push(Step::Attach(interface.clone())),
        }
    }
    steps.extend(moved.iter().map(|interface| Step::Members(interface.clone())));
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(endpoint: &str, policy: &str) -> Attached {
        Attached {
            endpoint: endpoint.into(),
            host: false,
            policy: [policy.into(), "e".into()],
            untracked: [None, None],
        }
    }

    fn state(of: &[(&str, Attached)]) -> BTreeMap<String, Attached> {
        of.iter().map(|(name, attached)| (name.to_string(), attached.clone())).collect()
    }

    #[test]
    fn only_what_differs_is_done_and_room_is_made_first() {
        let have =
            state(&[("a", at("x", "1")), ("b", at("y", "1")), ("d", at("z", "1")), ("e", at("q", "1"))]);
        let want =
            state(&[("a", at("x", "1")), ("b", at("y", "2")), ("c", at("w", "1")), ("e", at("r", "1"))]);
        let moved = BTreeSet::from(["a".to_owned(), "b".to_owned()]);
        let steps = plan(&have, &want, &moved);
        let [d, b, c, e] = ["d", "b", "c", "e"].map(String::from);
        let changes = [Step::Detach(d), Step::Replace(b.clone()), Step::Attach(c), Step::Attach(e)];
        assert_eq!(steps[..4], changes);
        assert_eq!(steps[4..], [Step::Members("a".into()), Step::Members(b)]);
        assert_eq!(plan(&want, &want, &BTreeSet::new()), []);
    }
}
