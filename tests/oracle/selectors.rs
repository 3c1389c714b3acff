//! Random selectors, in both languages.

use crate::random::Random;
use crate::world::{NAMESPACES, VALUES};

/// A selector of Calico's language over these keys, in double quotes. `all()`
/// stands in it only alone or joined with `&&`.
pub fn calico(random: &mut Random, keys: &[&str]) -> String {
    let text = match random.below(10) {
        0 => "all()".to_owned(),
        1 => format!("all() && {}", expression(random, keys, 1)),
        _ => expression(random, keys, 2),
    };
    format!("\"{text}\"")
}

/// The `namespaceSelector` of a rule.
pub fn of_namespaces(random: &mut Random, keys: &[&str]) -> String {
    match random.below(6) {
        0 => "global()".into(),
        1 => "all()".into(),
        2 => format!("\"projectcalico.org/name == '{}'\"", random.pick(&NAMESPACES)),
        _ => format!("\"{}\"", expression(random, keys, 1)),
    }
}

fn expression(random: &mut Random, keys: &[&str], depth: usize) -> String {
    if depth == 0 || random.chance(40) {
        return test(random, keys);
    }
    let mut operand = || expression(random, keys, depth - 1);
    let (one, other) = (operand(), operand());
    match random.below(4) {
        0 => format!("{one} && {other}"),
        1 => format!("{one} || {other}"),
        2 => format!("!({one} || {other})"),
        _ => format!("({one} || {other}) && {}", test(random, keys)),
    }
}

fn test(random: &mut Random, keys: &[&str]) -> String {
    let key = random.pick(keys);
    let value = random.pick(&VALUES);
    let list = || format!("{{'{value}', 'vgreen'}}");
    match random.below(9) {
        0 => format!("has({key})"),
        1 => format!("!has({key})"),
        2 => format!("{key} != '{value}'"),
        3 => format!("{key} in {}", list()),
        4 => format!("{key} not in {}", list()),
        5 => format!("{key} starts with 'vred'"),
        6 => format!("{key} contains 'dis'"),
        7 => format!("!{key} ends with 'ed'"),
        _ => format!("{key} == '{value}'"),
    }
}

/// A Kubernetes label selector over these keys.
pub fn kubernetes(random: &mut Random, keys: &[&str]) -> String {
    let mut fields = Vec::new();
    if random.chance(50) {
        fields.push(format!("matchLabels: {{{}: '{}'}}", random.pick(keys), random.pick(&VALUES)));
    }
    if random.chance(40) {
        let expressions: Vec<String> = (0..1 + random.below(2)).map(|_| requirement(random, keys)).collect();
        fields.push(format!("matchExpressions: [{}]", expressions.join(", ")));
    }
    format!("{{{}}}", fields.join(", "))
}

fn requirement(random: &mut Random, keys: &[&str]) -> String {
    let key = random.pick(keys);
    let values = random.some(&VALUES, 1, 2).join("', '");
    match random.below(4) {
        0 => format!("{{key: {key}, operator: Exists}}"),
        1 => format!("{{key: {key}, operator: DoesNotExist}}"),
        2 => format!("{{key: {key}, operator: In, values: ['{values}']}}"),
        _ => format!("{{key: {key}, operator: NotIn, values: ['{values}']}}"),
    }
}
