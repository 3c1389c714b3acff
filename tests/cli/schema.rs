//! As much of JSON Schema as `docs/schema` uses.

use serde_json::Value;

/// The schema of `polc run -o json`.
pub fn run_schema() -> Value {
    serde_json::from_str(include_str!("../../docs/schema/run.schema.json")).expect("the schema is JSON")
}

/// The schema of `polc check -o json`.
pub fn diagnostics_schema() -> Value {
    serde_json::from_str(include_str!("../../docs/schema/diagnostics.schema.json"))
        .expect("the schema is JSON")
}

/// The schema of hit profiles.
pub fn profile_schema() -> Value {
    serde_json::from_str(include_str!("../../docs/schema/profile.schema.json")).expect("the schema is JSON")
}

/// Why `value` does not satisfy `schema`, a part of `root`.
pub fn check(root: &Value, schema: &Value, value: &Value) -> Result<(), String> {
    if let Some(reference) = schema["$ref"].as_str() {
        let pointer = reference.strip_prefix('#').expect("a reference inside the file");
        return check(root, root.pointer(pointer).expect("the reference leads somewhere"), value);
    }
    if let Some(options) = schema["oneOf"].as_array() {
        let problems: Vec<_> = options.iter().filter_map(|s| check(root, s, value).err()).collect();
        let fitting = options.len() - problems.len();
        return if fitting == 1 { Ok(()) } else { Err(format!("{value}: fits {fitting}: {problems:?}")) };
    }
    if let Some(allowed) = schema["enum"].as_array()
        && !allowed.contains(value)
    {
        return Err(format!("{value} is not one of {allowed:?}"));
    }
    check_type(&schema["type"], value)?;
    if let (Some(least), Some(n)) = (schema["minimum"].as_i64(), value.as_i64())
        && n < least
    {
        return Err(format!("{n} is less than {least}"));
    }
    match value {
        Value::Object(object) => check_object(root, schema, object),
        Value::Array(items) if !schema["items"].is_null() => {
            items.iter().try_for_each(|item| check(root, &schema["items"], item))
        }
        _ => Ok(()),
    }
}

fn check_type(wanted: &Value, value: &Value) -> Result<(), String> {
    let is = |name: &str| match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        other => panic!("the schema uses type {other}"),
    };
    let fits = match wanted {
        Value::Null => true,
        Value::String(name) => is(name),
        Value::Array(names) => names.iter().any(|n| is(n.as_str().expect("a name"))),
        other => panic!("the schema has type {other}"),
    };
    if fits { Ok(()) } else { Err(format!("{value} is not of type {wanted}")) }
}

fn check_object(root: &Value, schema: &Value, object: &serde_json::Map<String, Value>) -> Result<(), String> {
    for name in schema["required"].as_array().into_iter().flatten() {
        if !object.contains_key(name.as_str().expect("a name")) {
            return Err(format!("{name} is missing"));
        }
    }
    for (name, value) in object {
        match schema["properties"].get(name) {
            Some(property) => check(root, property, value).map_err(|e| format!("{name}: {e}"))?,
            None if schema["additionalProperties"] == false => return Err(format!("{name} is not known")),
            None => {}
        }
    }
    Ok(())
}

#[test]
fn the_checker_can_fail() {
    let schema = run_schema();
    let good = serde_json::json!({
        "packet": 0, "endpoint": null, "direction": null, "verdict": "allow",
        "decided_by": {"type": "not-an-endpoint"}, "time_ns": 0, "apiVersion": "polc/v1",
    });
    assert_eq!(check(&schema, &schema, &good), Ok(()));
    for (pointer, bad) in [
        ("/packet", serde_json::json!(-1)),
        ("/endpoint", serde_json::json!(7)),
        ("/verdict", serde_json::json!("maybe")),
        ("/decided_by", serde_json::json!({"type": "rule"})),
        ("/decided_by/type", serde_json::json!("else")),
    ] {
        let mut value = good.clone();
        *value.pointer_mut(pointer).unwrap() = bad;
        assert!(check(&schema, &schema, &value).is_err(), "{pointer}");
    }
}
