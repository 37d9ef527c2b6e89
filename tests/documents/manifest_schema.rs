//! docs/manifest.schema.json says what a manifest is: every field of a real one is described there, each required field is
//! there, and each value has the type that it says. (A check of just those keywords of JSON Schema that the file uses.)

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

#[test]
fn a_real_manifest_is_what_the_schema_says() {
    let schema = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/manifest.schema.json");
    let schema: Value = serde_json::from_str(&fs::read_to_string(schema).unwrap()).unwrap();
    let mut mistakes = Vec::new();
    let image = manifest_of_a_disk("--image");
    assert_eq!((image["format"].as_u64(), image["regions"].as_array().map(Vec::len)), (Some(2), Some(0)));
    check(&image, &schema, &schema, "manifest", &mut mistakes);
    let encrypted = manifest_of_a_disk("--config encrypted.toml");
    assert_eq!((encrypted["format"].as_u64(), encrypted["regions"].as_array().map(Vec::len)), (Some(4), Some(0)));
    check(&encrypted, &schema, &schema, "manifest", &mut mistakes);
    let manifest = manifest_of_a_disk("");
    check(&manifest, &schema, &schema, "manifest", &mut mistakes);
    assert!(mistakes.is_empty(), "{mistakes:#?}");

    let mut wrong = manifest.clone();
    wrong["sizes"]["members"] = "many".into();
    wrong["digests"].as_object_mut().unwrap().remove("archive_sha1");
    wrong["new"] = 1.into();
    check(&wrong, &schema, &schema, "manifest", &mut mistakes);
    assert_eq!(mistakes.len(), 3, "{mistakes:#?}");
}

/// The manifest of a disk with a table, something unknown in a partition and a filesystem in another.
fn manifest_of_a_disk(options: &str) -> Value {
    let dir = tempfile::tempdir().unwrap();
    let script = "truncate -s 16M disk.img && printf 'label: dos\\nsize=4M\\nsize=8M\\n' | sfdisk --quiet disk.img \
        && mkfs.ext4 -q -E offset=5242880 disk.img 8M \
        && head -c 100000 /dev/urandom | dd of=disk.img bs=1M seek=2 conv=notrunc status=none && mkdir to \
        && ssh-keygen -q -t ed25519 -N '' -f signing && age-keygen -o key 2>/dev/null \
        && printf 'backup_destination = \"/\"\n[encryption]\nallow_one_recipient = true\nrecipients = [\"%s\"]\nsigning_key = \"%s\"\n\
index_cache = \"%s\"\n' \"$(age-keygen -y key)\" \"$PWD/signing\" \"$PWD/cache\" > encrypted.toml && \"$VOLBAK\" snapshot disk.img --to to --quiet $OPTIONS; test $? != 1 && cat to/disk/*.manifest.json";
    let output = Command::new("bash")
        .args(["-c", script])
        .current_dir(&dir)
        .env("OPTIONS", options)
        .env("VOLBAK", env!("CARGO_BIN_EXE_volbak"))
        .env("PATH", format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap()))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let json = output.stdout.iter().position(|byte| *byte == b'{').unwrap();
    let json = &output.stdout[json..];
    serde_json::from_slice(json).unwrap()
}

pub(crate) fn check(value: &Value, schema: &Value, whole: &Value, at: &str, mistakes: &mut Vec<String>) {
    if let Some(name) = schema.get("$ref").and_then(Value::as_str) {
        let pointer = name.strip_prefix('#').unwrap();
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
        for (name, value) in fields {
            match described.get(name) {
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
        "integer" => value.is_u64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("the schema has the unknown type {other}"),
    }
}
