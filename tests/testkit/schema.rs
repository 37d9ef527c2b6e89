//! JSON that volbak printed, compared with its schema in docs/schemas: each of its fields is described there, each required one is
//! there, and each value has the type that it says. (Of JSON Schema it knows just the keywords that those files use.)

use std::fs;
use std::path::Path;

use serde_json::Value;

const MANIFEST: &str = "docs/manifest.schema.json";

/// Fails unless the output of a verb is what `docs/schemas/NAME.schema.json` says.
pub fn compare(value: &Value, name: &str) {
    let schema = read(&format!("docs/schemas/{name}.schema.json"));
    let mistakes = mistakes(value, &schema, "output");
    assert!(mistakes.is_empty(), "{name}: {mistakes:#?}\n{value:#}");
}

/// What a manifest has that docs/manifest.schema.json does not say.
pub fn mistakes_of_manifest(manifest: &Value) -> Vec<String> {
    mistakes(manifest, &read(MANIFEST), "manifest")
}

fn read(path: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

fn mistakes(value: &Value, schema: &Value, name: &str) -> Vec<String> {
    let mut mistakes = Vec::new();
    check(value, schema, schema, name, &mut mistakes);
    mistakes
}

fn check(value: &Value, schema: &Value, whole: &Value, at: &str, mistakes: &mut Vec<String>) {
    if let Some(name) = schema.get("$ref").and_then(Value::as_str) {
        let Some(pointer) = name.strip_prefix('#') else {
            let other = read(MANIFEST);
            assert_eq!(other["$id"], name);
            return check(value, &other, &other, at, mistakes);
        };
        return check(value, whole.pointer(pointer).unwrap(), whole, at, mistakes);
    }
    if let Some(choices) = schema.get("anyOf").and_then(Value::as_array) {
        let chosen = choices.iter().find(|choice| value.is_null() == (choice["type"] == "null")).unwrap();
        return check(value, chosen, whole, at, mistakes);
    }
    if let Some(choices) = schema.get("enum").and_then(Value::as_array)
        && !choices.contains(value)
    {
        mistakes.push(format!("{at}: {value} is none of {choices:?}"));
    }
    if let Some(constant) = schema.get("const")
        && constant != value
    {
        mistakes.push(format!("{at}: {value} is not {constant}"));
    }
    if let Some(types) = schema.get("type") {
        let types = types.as_array().cloned().unwrap_or_else(|| vec![types.clone()]);
        if !types.iter().any(|name| is_of_type(value, name.as_str().unwrap())) {
            mistakes.push(format!("{at}: {value} is not of the types {types:?}"));
            return;
        }
    }
    if let Some(fields) = value.as_object() {
        let described = schema["properties"].as_object().unwrap();
        for required in schema["required"].as_array().unwrap() {
            if !fields.contains_key(required.as_str().unwrap()) {
                mistakes.push(format!("{at}: {required} is missing"));
            }
        }
        // The names of a map are any; other objects may have more fields in a later version, and have none today.
        let of_map = schema.get("additionalProperties").filter(|values| values.is_object());
        for (name, value) in fields {
            match described.get(name).or(of_map) {
                Some(schema) => check(value, schema, whole, &format!("{at}.{name}"), mistakes),
                None => mistakes.push(format!("{at}.{name}: is not described")),
            }
        }
    }
    for (number, item) in value.as_array().into_iter().flatten().enumerate() {
        check(item, &schema["items"], whole, &format!("{at}[{number}]"), mistakes);
    }
}

fn is_of_type(value: &Value, name: &str) -> bool {
    match name {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("the schema has the unknown type {other}"),
    }
}
