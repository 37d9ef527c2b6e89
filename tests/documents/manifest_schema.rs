//! docs/manifest.schema.json says what a manifest is: every field of a real one is described there, each required field is
//! there, and each value has the type that it says.

use std::process::Command;

use serde_json::Value;

use crate::testkit::schema::mistakes_of_manifest;

#[test]
fn a_real_manifest_is_what_the_schema_says() {
    let mut mistakes = Vec::new();
    let image = manifest_of_a_disk("--image");
    assert_eq!((image["format"].as_u64(), image["regions"].as_array().map(Vec::len)), (Some(2), Some(0)));
    mistakes.extend(mistakes_of_manifest(&image));
    let encrypted = manifest_of_a_disk("--config encrypted.toml");
    assert_eq!((encrypted["format"].as_u64(), encrypted["regions"].as_array().map(Vec::len)), (Some(4), Some(0)));
    mistakes.extend(mistakes_of_manifest(&encrypted));
    let manifest = manifest_of_a_disk("");
    mistakes.extend(mistakes_of_manifest(&manifest));
    assert!(mistakes.is_empty(), "{mistakes:#?}");

    let mut wrong = manifest.clone();
    wrong["sizes"]["members"] = "many".into();
    wrong["digests"].as_object_mut().unwrap().remove("archive_sha1");
    wrong["new"] = 1.into();
    mistakes.extend(mistakes_of_manifest(&wrong));
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
