use proptest::prelude::*;

use super::{Expr, MAX_DEPTH, Op, Selector};
use crate::manifest::{LabelExpression, LabelOperator, LabelSelector, Labels};

fn labels(text: &str) -> Labels {
    text.split(',')
        .filter(|t| !t.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

fn parsed(text: &str) -> Selector {
    Selector::parse(text).unwrap_or_else(|e| panic!("{text}: {e:?}"))
}

/// Each selector with labels that it matches and labels that it does not.
#[test]
fn evaluates_each_operator() {
    let cases: &[(&str, &[&str], &[&str])] = &[
        ("", &["", "a=b"], &[]),
        ("all()", &["", "a=b"], &[]),
        (" all( ) ", &[""], &[]),
        ("!all()", &[], &["", "a=b"]),
        ("global()", &["", "a=b"], &[]),
        ("has(a)", &["a=b", "a="], &["", "b=a"]),
        ("has( a\t)", &["a=b"], &[""]),
        ("a == 'b'", &["a=b"], &["", "a=", "a=c", "a=bb"]),
        ("a == ''", &["a="], &["", "a=b"]),
        ("a != 'b'", &["", "a=", "a=c"], &["a=b"]),
        ("a in {'b','c'}", &["a=b", "a=c"], &["", "a=", "a=d"]),
        ("a in {}", &[], &["", "a=", "a=b"]),
        ("a in {'b', }", &["a=b"], &["", "a="]),
        ("a not in {'b', 'c'}", &["", "a=", "a=d"], &["a=b", "a=c"]),
        ("a notin {'b'}", &["", "a=c"], &["a=b"]),
        ("a not in {}", &["", "a=b"], &[]),
        ("a contains 'b'", &["a=b", "a=abc"], &["", "a=", "a=c"]),
        ("a contains ''", &["a=", "a=x"], &[""]),
        ("a starts with 'b'", &["a=b", "a=bc"], &["", "a=cb"]),
        ("a startswith 'b'", &["a=bc"], &["", "a=cb"]),
        ("a ends with 'b'", &["a=b", "a=cb"], &["", "a=bc"]),
        ("a endswith \"b\"", &["a=cb"], &["", "a=bc"]),
        ("a=='b'", &["a=b"], &["a=c"]),
        ("a in{'b'}", &["a=b"], &["a=c"]),
        ("a contains'b'", &["a=xbx"], &["a=c"]),
        ("a\tstarts\twith\t'b'", &["a=b"], &["a=c"]),
    ];
    for (text, yes, no) in cases {
        let selector = parsed(text);
        for set in *yes {
            assert!(selector.evaluate(&labels(set)), "{text} on {set}");
        }
        for set in *no {
            assert!(!selector.evaluate(&labels(set)), "{text} on {set}");
        }
    }
}

#[test]
fn not_binds_to_one_operation_and_and_before_or() {
    let cases: &[(&str, &[&str], &[&str])] = &[
        ("!has(a) && has(b)", &["b="], &["", "a=,b=", "a="]),
        ("!a == 'x' && has(b)", &["b=", "a=y,b="], &["a=x,b=", ""]),
        ("has(a) || has(b) && has(c)", &["a=", "b=,c="], &["b=", "c="]),
        ("(has(a) || has(b)) && has(c)", &["a=,c="], &["a=", "b="]),
        ("!(has(a) || has(b))", &["", "c="], &["a=", "b="]),
        ("!!has(a)", &["a="], &[""]),
        ("! ! ! has(a)", &[""], &["a="]),
        ("!(!(has(a)))", &["a="], &[""]),
    ];
    for (text, yes, no) in cases {
        let selector = parsed(text);
        for set in *yes {
            assert!(selector.evaluate(&labels(set)), "{text} on {set}");
        }
        for set in *no {
            assert!(!selector.evaluate(&labels(set)), "{text} on {set}");
        }
    }
}

#[test]
fn operator_words_are_operators_only_after_a_label() {
    for word in ["in", "has", "not", "all", "global", "contains", "starts", "ends", "notin", "with"] {
        let labels = labels(&format!("{word}=x"));
        for text in [format!("{word} == 'x'"), format!("{word} in {{'x'}}"), format!("has({word})")] {
            assert!(parsed(&text).evaluate(&labels), "{text}");
        }
        assert!(!parsed(&format!("{word} not in {{'x'}}")).evaluate(&labels), "{word}");
    }
}

#[test]
fn prints_canonical_text() {
    let cases = [
        ("", "all()"),
        ("a==\"b\"", "a == 'b'"),
        ("a == \"it's\"", "a == \"it's\""),
        ("a == '\"'", "a == '\"'"),
        ("a notin {'z', 'b','z' ,}", "a not in {'b', 'z'}"),
        ("a in {}", "a in {}"),
        ("((has(a)))", "has(a)"),
        ("has(a) && (has(b) && has(c))", "has(a) && has(b) && has(c)"),
        ("(has(a) && has(b)) || has(c)", "has(a) && has(b) || has(c)"),
        ("has(a) && (has(b) || has(c))", "has(a) && (has(b) || has(c))"),
        ("!(has(a) && has(b))", "!(has(a) && has(b))"),
        ("!(a == 'b')", "!a == 'b'"),
        ("!!!has(a)", "!has(a)"),
        ("a startswith 'b' || a endswith 'c'", "a starts with 'b' || a ends with 'c'"),
    ];
    for (text, want) in cases {
        let selector = parsed(text);
        assert_eq!(selector.to_string(), want, "{text}");
        assert_eq!(parsed(want), selector, "{text}");
    }
}

#[test]
fn errors_name_the_place_and_the_cure() {
    // Selector, offending text, part of the message, part of the help.
    let cases = [
        ("role = 'db'", "=", "expected an operator after label `role`", "did you mean `==`?"),
        ("role is 'db'", "is", "found `is`", "operators are ==, !="),
        ("role == db", "db", "expected a value in quotes", "write 'db'"),
        ("role ==", "", "the selector ends", ""),
        ("role == 'db", "'db", "without a closing quote", "end it with '"),
        ("role", "role", "the selector ends", "has(role)"),
        ("a == 'b' & has(c)", "&", "expected `&&` or `||`", "did you mean `&&`?"),
        ("a == 'b' | has(c)", "|", "expected `&&` or `||`", "did you mean `||`?"),
        ("a == 'b' and c == 'd'", "and", "found `and`", "did you mean `&&`?"),
        ("a == 'b' OR c == 'd'", "OR", "found `OR`", "did you mean `||`?"),
        ("a == 'b' c == 'd'", "c", "found `c`", ""),
        ("a == 'b')", ")", "found `)`", "there is no `(`"),
        ("(a == 'b'", "(", "without its closing `)`", "add `)`"),
        ("a in 'b'", "'", "expected a set", "{'a', 'b'}"),
        ("a in {b}", "b", "expected a value in quotes", "write 'b'"),
        ("a in {'b' 'c'}", "'", "expected `,` or `}`", ""),
        ("a in {'b'", "", "the selector ends", ""),
        ("has (a)", "has (", "space between the function", "write `has(`"),
        ("has()", ")", "expected a label in `has()`", ""),
        ("has('a')", "'", "expected a label in `has()`", "without quotes"),
        ("has(a", "", "expected `)`", ""),
        ("all(x)", "x", "expected `)` to end `all()`", ""),
        ("any()", "any", "unknown function `any`", "has(label), all() and global()"),
        ("'a' == 'b'", "'", "expected a condition", "labels are written without quotes"),
        ("a == 'b' &&", "", "expected a condition, but the selector ends", ""),
        ("a == 'b'\n", "\n", "expected `&&` or `||`", ""),
        ("rôle == 'b'", "ô", "found `ô`", ""),
        ("!", "", "expected a condition", ""),
    ];
    for (text, at, message, help) in cases {
        let error = Selector::parse(text).expect_err(text);
        assert_eq!(&text[error.start..error.end], at, "{text}: {error:?}");
        assert!(error.message.contains(message), "{text}: {}", error.message);
        assert!(error.help.clone().unwrap_or_default().contains(help), "{text}: {:?}", error.help);
    }
}

#[test]
fn nesting_is_limited() {
    let nested = |n: usize| format!("{}has(a){}", "(".repeat(n), ")".repeat(n));
    assert!(Selector::parse(&nested(MAX_DEPTH as usize)).is_ok());
    let error = Selector::parse(&nested(MAX_DEPTH as usize + 1)).expect_err("too deep");
    assert_eq!((error.start, error.end), (64, 65));
    assert!(Selector::parse(&"(".repeat(1_000_000)).is_err());
    assert!(parsed(&format!("{}has(a)", "!".repeat(1_000_000))).evaluate(&labels("a=")));
}

#[test]
fn long_selectors_take_linear_time() {
    let start = std::time::Instant::now();
    let text = (0..50_000).map(|i| format!("l{i} == 'x'")).collect::<Vec<_>>().join(" && ");
    let selector = parsed(&text);
    assert_eq!(Selector::all_of([selector.clone(), selector.clone()]), selector);
    assert!(!selector.evaluate(&labels("l0=x")));
    assert!(start.elapsed() < std::time::Duration::from_secs(5));
}

#[test]
fn prefixing_reaches_every_key_and_nothing_else() {
    let selector = parsed("!(a == 'a' || has(b)) && c in {'c'} && d contains 'd' && all() && global()");
    assert_eq!(
        selector.prefix_keys("pcns.").to_string(),
        "!(pcns.a == 'a' || has(pcns.b)) && pcns.c in {'c'} && pcns.d contains 'd' && all() && global()"
    );
}

#[test]
fn replacing_all_and_global_keeps_values() {
    let selector = parsed("!all() || a == 'all()' && !global()");
    let replaced = selector.replace_all(&Selector::has("n")).replace_global(&Selector::has("n").negate());
    assert_eq!(replaced.to_string(), "!has(n) || a == 'all()' && has(n)");
}

#[test]
fn all_of_drops_all_and_repetitions() {
    let cases: &[(&[&str], &str)] = &[
        (&[], "all()"),
        (&["all()"], "all()"),
        (&["has(a)", "all()", "has(a) && has(b)"], "has(a) && has(b)"),
        (&["global()", "has(a) || has(b)"], "global() && (has(a) || has(b))"),
    ];
    for (operands, want) in cases {
        assert_eq!(Selector::all_of(operands.iter().map(|t| parsed(t))).to_string(), *want);
    }
}

#[test]
fn kubernetes_selectors_keep_their_meaning() {
    let expression = |key: &str, operator, values: &[&str]| LabelExpression {
        key: key.into(),
        operator,
        values: values.iter().map(|v| (*v).into()).collect(),
    };
    let selector = LabelSelector {
        match_labels: labels("b=2,a=1"),
        match_expressions: vec![
            expression("c", LabelOperator::In, &["y", "x"]),
            expression("d", LabelOperator::NotIn, &["z"]),
            expression("e", LabelOperator::Exists, &[]),
            expression("f", LabelOperator::DoesNotExist, &[]),
        ],
    };
    let terms = "a == '1' && b == '2' && c in {'x', 'y'} && d not in {'z'} && has(e) && !has(f)";
    assert_eq!(Selector::namespaces(&selector).to_string(), terms);
    assert_eq!(
        Selector::pods(&selector).to_string(),
        format!("projectcalico.org/orchestrator == 'k8s' && {terms}")
    );
    assert_eq!(Selector::namespaces(&LabelSelector::default()), Selector::all());
    assert_eq!(
        Selector::pods(&LabelSelector::default()).to_string(),
        "projectcalico.org/orchestrator == 'k8s'"
    );
}

fn key() -> impl Strategy<Value = String> {
    prop_oneof![Just("in".to_owned()), Just("has".to_owned()), Just("not".to_owned()), "[a-zA-Z0-9_./-]{1,6}"]
}

fn value() -> impl Strategy<Value = String> {
    prop_oneof!["[^']{0,5}", "[^\"]{0,5}", "[a-c]{0,2}"]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        Just(Op::Equals),
        Just(Op::Differs),
        Just(Op::Contains),
        Just(Op::StartsWith),
        Just(Op::EndsWith)
    ]
}

fn expr() -> impl Strategy<Value = Expr> {
    let leaf = prop_oneof![
        Just(Expr::All),
        Just(Expr::Global),
        key().prop_map(Expr::Has),
        (key(), op(), value()).prop_map(|(key, op, value)| Expr::Test { key, op, value }),
        (key(), any::<bool>(), prop::collection::vec(value(), 0..4))
            .prop_map(|(key, negated, values)| Expr::member(key, negated, values)),
    ];
    leaf.prop_recursive(5, 40, 4, |inner| {
        prop_oneof![
            inner.clone().prop_map(Expr::negate),
            prop::collection::vec(inner.clone(), 1..4).prop_map(Expr::and),
            prop::collection::vec(inner, 1..4).prop_map(Expr::or),
        ]
    })
}

proptest! {
    #[test]
    fn printed_selectors_parse_to_themselves(expr in expr()) {
        let selector = Selector(expr);
        let text = selector.to_string();
        prop_assert_eq!(Selector::parse(&text), Ok(selector), "{}", text);
    }

    #[test]
    fn any_text_parses_or_fails_at_a_place_inside(text in "(a|in|has\\(|not| |\t|==|=|!|&&|&|\\|\\||\\(|\\)|\\{|\\}|,|'|\"|é|x){0,24}") {
        match Selector::parse(&text) {
            Ok(selector) => prop_assert_eq!(Selector::parse(&selector.to_string()), Ok(selector)),
            Err(e) => prop_assert!(text.get(e.start..e.end).is_some(), "{:?}", e),
        }
    }
}
