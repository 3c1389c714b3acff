//! Every diagnostic code, with its title.
//!
//! Codes are stable: a code keeps its meaning, and a code that is no longer
//! used is not given out again. The first two digits are the area: 01 files and
//! documents, 02 fields, 03 values, 04 combinations, 05 selectors, 06 the
//! cluster as a whole, 07 lints: what is legal and probably not meant.

use super::Code;

macro_rules! codes {
    ($($name:ident = $code:literal, $title:literal;)*) => {
        $(
            #[doc = concat!($code, ": ", $title, ".")]
            pub const $name: Code = $code;
        )*

        /// Every code with its title, in ascending order.
        pub const ALL: &[(Code, &str)] = &[$(($code, $title)),*];
    };
}

codes! {
    SYNTAX = "P0101", "the text is not YAML";
    TOO_DEEP = "P0102", "nesting is too deep";
    TOO_BIG = "P0103", "a file, object or alias expansion is too big";
    DUPLICATE_KEY = "P0104", "a key stands twice in one mapping";
    UNSUPPORTED_YAML = "P0105", "a YAML feature that Kubernetes objects do not use";
    NOT_AN_OBJECT = "P0106", "a document is not a Kubernetes object";
    UNKNOWN_KIND = "P0107", "a kind that its API group does not have";
    UNSUPPORTED_KIND = "P0108", "a kind that affects policy and is not supported yet";
    SKIPPED_KIND = "P0109", "objects that cannot affect policy were skipped";
    STAGED_POLICY = "P0110", "a staged policy is not enforced";
    DUPLICATE_OBJECT = "P0111", "an object is defined twice";
    TOO_MANY_ERRORS = "P0112", "reading stopped after too many findings";

    UNKNOWN_FIELD = "P0201", "a field that does not exist";
    MISSING_FIELD = "P0202", "a required field is missing";
    WRONG_TYPE = "P0203", "a value has the wrong type";
    NOT_A_STRING = "P0204", "a string must be quoted to be one";
    UNSUPPORTED_FIELD = "P0205", "a field that is not supported yet";
    IGNORED_FIELD = "P0206", "a field that changes nothing here";
    UNKNOWN_VALUE = "P0207", "a word that the field does not know";
    BAD_NAME = "P0208", "an object name that the API refuses";
    BAD_LABEL = "P0209", "a label key or value that the API refuses";
    IMPLIED_FIELD = "P0210", "a missing field has a far-reaching default";
    OTHER_READING = "P0211", "an unquoted word that other readers take for a boolean";

    BAD_CIDR = "P0301", "not a CIDR";
    HOST_BITS = "P0302", "a CIDR has bits set behind its prefix";
    BAD_PORT = "P0303", "not a port";
    REVERSED_PORTS = "P0304", "a port range ends before it starts";
    BAD_PROTOCOL = "P0305", "not a protocol";
    BAD_ICMP = "P0306", "not an ICMP type or code";
    BAD_ADDRESS = "P0307", "not an IP address";
    BAD_NUMBER = "P0308", "a number is out of range or oddly written";
    IMPOSSIBLE_PORT = "P0309", "a port that cannot exist makes its rule match nothing";
    CATCH_ALL = "P0310", "a negated CIDR of all addresses makes its rule match nothing";

    EMPTY_PEER = "P0401", "a peer selects nothing";
    MIXED_PEER = "P0402", "ipBlock stands beside a selector";
    EXCEPT_OUTSIDE = "P0403", "an except is not inside its CIDR";
    OPERATOR_VALUES = "P0404", "operator and values do not fit";
    PORTS_NEED_PROTOCOL = "P0405", "ports without a protocol that has them";
    ICMP_NEEDS_PROTOCOL = "P0406", "ICMP criteria without an ICMP protocol";
    WRONG_FAMILY = "P0407", "criteria contradict the rule's IP version";
    BAD_COMBINATION = "P0408", "fields that exclude each other";
    BUILT_IN_TIER = "P0409", "a built-in tier cannot be changed";
    UNSUPPORTED_PEER = "P0410", "a peer of a kind that is not supported makes its rule fail closed";
    TOO_MANY_ITEMS = "P0411", "a list is longer than the API takes";

    BAD_SELECTOR = "P0501", "not a selector";
    MISPLACED_GLOBAL = "P0502", "global() stands where it has no meaning";

    UNKNOWN_TIER = "P0601", "a policy's tier does not exist";
    HOSTS_ONLY = "P0602", "a policy acts on host endpoints only";
    RULES_WITHOUT_EFFECT = "P0603", "rules of a direction that the policy's types leave out";
    UNKNOWN_PORT_NAME = "P0604", "a port name that no pod declares";
    EQUAL_PRIORITIES = "P0605", "two policies of one tier have the same priority";
    UNKNOWN_PROFILE = "P0621", "an endpoint's profile does not exist";
    HOST_WITHOUT_ADDRESS = "P0622", "a host endpoint has no address";
    HOST_TRAFFIC_ONLY = "P0623", "what a host forwards or translates is not evaluated";
    TRACKED_ANYWAY = "P0624", "untracked connections are tracked all the same";
    FAILSAFE_WITHOUT_HOST = "P0625", "failsafe ports without a host endpoint";
    POD_REPLACED = "P0626", "a WorkloadEndpoint stands for a pod of the input";

    UNMATCHED_SELECTOR = "P0701", "a selector that matches nothing in the input";
    NEVER_MATCHES = "P0702", "a rule that no packet can match";
    COVERED_RULE = "P0703", "an earlier rule matches all that a rule matches";
    IMPLIED_PROTOCOL = "P0704", "ports without a protocol";
    EMPTY_LIST = "P0705", "a policy without rules denies everything";
    OPEN_LIST = "P0706", "an empty list that denies nothing";
    LEADING_ZERO = "P0707", "a quoted number with leading zeros";
}

/// The title of a code, if there is such a code.
pub fn title(code: &str) -> Option<&'static str> {
    ALL.iter().find(|(c, _)| *c == code).map(|(_, title)| *title)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_ascend_and_have_titles() {
        assert!(ALL.windows(2).all(|w| w[0].0 < w[1].0), "codes must ascend");
        for (code, title) in ALL {
            assert!(code.len() == 5 && code.starts_with('P') && code[1..].parse::<u16>().is_ok(), "{code}");
            assert!(!title.is_empty() && !title.ends_with('.'), "{code}: {title}");
        }
        assert_eq!(title(SYNTAX), Some("the text is not YAML"));
        assert_eq!(title("P9999"), None);
    }
}
