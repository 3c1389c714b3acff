//! Kubernetes label selectors.

use super::fields::Fields;
use super::meta::{check_label_key, check_label_value, read_labels};
use super::objects::{LabelExpression, LabelOperator, LabelSelector};
use super::reader::Reader;
use super::yaml::Node;
use crate::diag::codes;

const OPERATORS: &[(&str, LabelOperator)] = &[
    ("In", LabelOperator::In),
    ("NotIn", LabelOperator::NotIn),
    ("Exists", LabelOperator::Exists),
    ("DoesNotExist", LabelOperator::DoesNotExist),
];

/// Reads a label selector; what does not read is left out of it.
pub(super) fn read_label_selector(
    reader: &mut Reader,
    node: &Node<'_>,
    what: &'static str,
) -> Option<LabelSelector> {
    let mut fields = Fields::new(reader, node, what)?;
    let match_labels =
        fields.take("matchLabels").map(|node| read_labels(reader, node, "`matchLabels`")).unwrap_or_default();
    let match_expressions = fields
        .take("matchExpressions")
        .map(|node| reader.list(node, "`matchExpressions`", read_expression))
        .unwrap_or_default();
    fields.finish(reader);
    Some(LabelSelector { match_labels, match_expressions })
}

fn read_expression(reader: &mut Reader, node: &Node<'_>) -> Option<LabelExpression> {
    let mut fields = Fields::new(reader, node, "a label expression")?;
    let key = fields.require("key").and_then(|node| {
        let key = reader.string(node, "`key`")?;
        let span = reader.span(node);
        check_label_key(reader, span, key);
        Some(key.to_owned())
    });
    let operator_node = fields.require("operator");
    let operator = operator_node.and_then(|node| reader.choice(node, "`operator`", OPERATORS));
    let values =
        fields.take("values").map(|node| reader.list(node, "`values`", read_value)).unwrap_or_default();
    fields.finish(reader);
    let (operator_node, operator) = (operator_node?, operator?);
    let needs_values = matches!(operator, LabelOperator::In | LabelOperator::NotIn);
    if needs_values == values.is_empty() {
        let (message, help) = match needs_values {
            true => {
                ("this operator needs `values`", "write `values: [\"…\"]`, or use Exists or DoesNotExist")
            }
            false => ("this operator takes no `values`", "remove `values`, or use In or NotIn"),
        };
        reader.error_with_help(codes::OPERATOR_VALUES, operator_node, message, help);
    }
    Some(LabelExpression { key: key?, operator, values })
}

fn read_value(reader: &mut Reader, node: &Node<'_>) -> Option<String> {
    let value = reader.string(node, "a label value")?;
    check_label_value(reader, node, value);
    Some(value.to_owned())
}
