//! What a misspelt word may have been meant to be.

/// The candidate nearest to `word`, if one is near enough: a third of the
/// word's length may differ, at least one character and at most three; case
/// alone never counts. Ties go to the earlier candidate.
pub(crate) fn nearest<'c>(word: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    let length = word.chars().count();
    if length > 64 {
        return None;
    }
    let allowed = (length / 3).clamp(1, 3);
    let folded = word.to_ascii_lowercase();
    let mut best: Option<(usize, &str)> = None;
    for candidate in candidates {
        let far = distance(&folded, &candidate.to_ascii_lowercase());
        if far <= allowed && best.is_none_or(|(b, _)| far < b) {
            best = Some((far, candidate));
        }
    }
    best.map(|(_, candidate)| candidate)
}

/// Edits from one word to the other: insert, delete, replace, swap neighbours
/// (optimal string alignment). Quadratic in the length.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replace = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut cost = replace.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                cost = cost.min(before[j - 2] + 1);
            }
            row.push(cost);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_nearest() {
        let fields = ["podSelector", "policyTypes", "ingress", "egress", "to", "from", "ports"];
        for (word, want) in [
            ("podSelectr", Some("podSelector")),
            ("podselector", Some("podSelector")),
            ("ingres", Some("ingress")),
            ("ergess", Some("egress")),
            ("form", Some("from")),
            ("port", Some("ports")),
            ("spec", None),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, fields), want, "{word}");
        }
    }

    #[test]
    fn distances() {
        for (a, b, want) in [("", "", 0), ("a", "", 1), ("form", "from", 1), ("kitten", "sitting", 3)] {
            assert_eq!(distance(a, b), want, "{a} {b}");
        }
    }
}
