//! Kubernetes label selectors in Calico's language.

use crate::manifest::{LabelExpression, LabelOperator, LabelSelector};

use super::Selector;
use super::expr::{Expr, Op};
use super::labels;

impl Selector {
    /// The pods that a Kubernetes `podSelector` matches. Network sets carry no
    /// orchestrator label, so it never matches one, whatever its labels.
    pub fn pods(selector: &LabelSelector) -> Self {
        let orchestrator = Self::equals(labels::ORCHESTRATOR, labels::KUBERNETES);
        Self(Expr::and([orchestrator.0, requirements(selector)].into_iter().filter(|e| *e != Expr::All)))
    }

    /// A Kubernetes `namespaceSelector`, its keys as written; `all()` if empty.
    pub fn namespaces(selector: &LabelSelector) -> Self {
        Self(requirements(selector))
    }
}

/// All requirements ANDed, `matchLabels` first; `all()` of none.
fn requirements(selector: &LabelSelector) -> Expr {
    let equal = selector.match_labels.iter().map(|(key, value)| Expr::Test {
        key: key.clone(),
        op: Op::Equals,
        value: value.clone(),
    });
    Expr::and(equal.chain(selector.match_expressions.iter().map(requirement)))
}

fn requirement(expression: &LabelExpression) -> Expr {
    let key = expression.key.clone();
    match expression.operator {
        LabelOperator::In => Expr::member(key, false, expression.values.clone()),
        LabelOperator::NotIn => Expr::member(key, true, expression.values.clone()),
        LabelOperator::Exists => Expr::Has(key),
        LabelOperator::DoesNotExist => Expr::Has(key).negate(),
    }
}
