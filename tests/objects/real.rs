//! The client and `store check` against a real store.

use std::collections::BTreeSet;
use std::process::Command;
use std::thread;

use serde_json::Value;
use volbak::objects::{Limits, ObjectAddress, ObjectClient, ObjectSettings, ObjectSources};

use crate::check::{status, volbak};
use crate::testkit::schema::compare;

/// Parts other than the last have at least so much.
const PART_BYTES: usize = 5 << 20;

pub(crate) fn kind() -> String {
    std::env::var("OBJECTS_KIND").expect("scripts/test-objects sets it")
}

/// Whether Swift's own API is spoken.
pub(crate) fn is_native() -> bool {
    kind() == "native" || kind() == "keystone"
}

fn request(args: &[&str]) {
    asked("request", args);
}

/// A request to the store of scripts/objects, in its S3 API (`request`) or in Swift's own one (`native`).
pub(crate) fn asked(api: &str, args: &[&str]) {
    let dir = std::env::var("OBJECTS_DIR").expect("scripts/test-objects sets it");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/objects");
    let output = Command::new(script).args([api, &dir]).args(args).output().unwrap();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A new bucket, and a client for the prefix `host-1` in it.
pub(crate) fn bucket(name: &str, headers: &[&str]) -> ObjectClient {
    let name = format!("{name}-{}", std::process::id());
    #[cfg(feature = "swift")]
    if is_native() {
        return crate::swift::container(&name, headers);
    }
    let mut args = vec!["PUT", "/bucket", ""];
    let path = format!("/{name}");
    args[1] = &path;
    args.extend(headers);
    request(&args);
    let settings = ObjectSettings::find(&ObjectSources::from_environment()).unwrap();
    let address = ObjectAddress::parse(&format!("s3://{name}/host-1")).unwrap();
    ObjectClient::new(address, settings, Limits::default()).unwrap()
}

/// A second client of the same prefix.
pub(crate) fn same(client: &ObjectClient) -> ObjectClient {
    ObjectClient::new(client.address().clone(), client.settings().clone(), Limits::default()).unwrap()
}

fn facts(client: &ObjectClient) -> (i32, Value) {
    let output = volbak(&["store", "check", "--json", &client.address().to_string()]).output().unwrap();
    let (code, text) = status(&output);
    let facts = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {text}"));
    compare(&facts, "store-check");
    (code, facts)
}

#[test]
#[ignore = "needs a store of scripts/objects"]
fn a_check_finds_what_the_store_can_do_and_leaves_its_record_alone() {
    let client = bucket("check", &[]);
    // What an interrupted check left.
    client.put("host-1/.volbak/probe/old/plain", b"x", false).unwrap();
    client.begin_upload("host-1/.volbak/probe/old/parts").unwrap();
    let (code, facts) = facts(&client);
    assert_eq!(code, 3, "no versions, and a key for all of the bucket: {facts:#}");
    let expected: &[(&str, Value)] = match kind().as_str() {
        "swift" => &[
            ("most_parts", 1000.into()),
            ("only_new", false.into()),
            ("only_new_upload", false.into()),
            ("locks", false.into()),
            ("ends_uploads", Value::Null),
        ],
        "native" | "keystone" => &[
            ("most_parts", 1000.into()),
            ("only_new", true.into()),
            ("only_new_upload", true.into()),
            ("locks", false.into()),
            ("ends_uploads", Value::Null),
        ],
        _ => &[
            ("most_parts", 10_000.into()),
            ("only_new", true.into()),
            ("only_new_upload", false.into()),
            ("locks", false.into()),
            ("ends_uploads", false.into()),
        ],
    };
    let of_both: &[(&str, Value)] = &[
        ("ranged_reads", true.into()),
        ("checks_md5", true.into()),
        ("small_parts", is_native().into()),
        ("copies_ranges", true.into()),
        ("versions", false.into()),
        ("may_delete", true.into()),
        ("may_write_elsewhere", true.into()),
        ("skew_seconds", 0.into()),
    ];
    for (name, value) in expected.iter().chain(of_both) {
        assert_eq!(&facts[*name], value, "{name}: {facts:#}");
    }
    let left: Vec<String> = client.list("", false).unwrap().objects.into_iter().map(|object| object.key).collect();
    assert_eq!(left, [facts["recorded_as"].as_str().unwrap()]);
    assert!(client.uploads("host-1/").unwrap().is_empty());
    let record = client.get(&left[0], 1 << 20).unwrap().unwrap();
    let record: Value = serde_json::from_slice(&record).unwrap();
    assert_eq!(record["most_parts"], facts["most_parts"]);
    let text = record.to_string();
    for secret in ["AWS_SECRET_ACCESS_KEY", "ST_KEY", "OS_APPLICATION_CREDENTIAL_SECRET"] {
        assert!(std::env::var(secret).ok().is_none_or(|secret| !text.contains(&secret)), "{text}");
    }
}

#[test]
#[ignore = "needs a store of scripts/objects"]
fn object_lock_is_tried_and_not_believed() {
    let client = bucket("locked", &["x-amz-bucket-object-lock-enabled=true"]);
    let (_, facts) = facts(&client);
    let finding = facts["findings"].as_array().unwrap().iter().find(|finding| finding["about"] == "lock").unwrap();
    if kind() == "swift" {
        assert_eq!(facts["locks"], false);
        assert!(finding["what"].as_str().unwrap().contains("without a word"), "{finding}");
    } else if is_native() {
        assert_eq!((&facts["locks"], &facts["versions"]), (&false.into(), &true.into()), "{facts:#}");
        assert!(finding["what"].as_str().unwrap().contains("Swift has no object lock"), "{finding}");
    } else {
        assert_eq!((&facts["locks"], &facts["versions"]), (&true.into(), &true.into()), "{facts:#}");
        assert!(finding["what"].as_str().unwrap().contains("enforced"), "{finding}");
    }
}

/// Selected for stores that have policies alone: scripts/test-objects leaves this module out for Swift.
mod where_policies_are {
    use serde_json::Value;

    use super::{bucket, request};
    use crate::check::{status, volbak};

    #[test]
    #[ignore = "needs a store of scripts/objects with policies"]
    fn a_writers_key_neither_deletes_nor_writes_elsewhere() {
        let client = bucket("writer", &[]);
        let name = &client.address().bucket;
        let policy = format!(
            r#"{{"Version": "2012-10-17", "Statement": [
                {{"Effect": "Allow", "Principal": {{"AWS": ["arn:aws:iam:::user/writer"]}},
                  "Action": ["s3:PutObject", "s3:GetObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts"],
                  "Resource": ["arn:aws:s3:::{name}/host-1/*"]}},
                {{"Effect": "Allow", "Principal": {{"AWS": ["arn:aws:iam:::user/writer"]}},
                  "Action": ["s3:ListBucket", "s3:ListBucketMultipartUploads", "s3:GetBucketVersioning"],
                  "Resource": ["arn:aws:s3:::{name}"]}}]}}"#
        );
        request(&["PUT", &format!("/{name}?policy"), &policy]);
        let mut command = volbak(&["store", "check", "--json", &client.address().to_string()]);
        for variable in ["ACCESS_KEY_ID", "SECRET_ACCESS_KEY"] {
            command.env(format!("AWS_{variable}"), std::env::var(format!("WRITER_{variable}")).unwrap());
        }
        let output = command.output().unwrap();
        let (code, text) = status(&output);
        let facts: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {text}"));
        assert_eq!(code, 3, "{text}");
        assert_eq!((&facts["may_delete"], &facts["may_write_elsewhere"]), (&false.into(), &false.into()), "{facts:#}");
        assert!(facts["recorded_as"].is_string(), "{facts:#}");
    }
}

/// scripts/test-objects leaves this module out where Swift's own API is spoken.
mod where_s3_is {
    use super::bucket;
    use crate::check::{status, volbak};

    #[test]
    #[ignore = "needs a store of scripts/objects"]
    fn a_wrong_secret_is_an_error_that_does_not_show_it() {
        let client = bucket("secret", &[]);
        let wrong = "0123456789abcdef0123456789abcdef01234567";
        let output = volbak(&["store", "check", &client.address().to_string()])
            .env("AWS_SECRET_ACCESS_KEY", wrong)
            .output()
            .unwrap();
        let (code, text) = status(&output);
        assert!(code == 1 && text.contains("SignatureDoesNotMatch") && !text.contains(wrong), "{code} {text}");
    }
}

#[test]
#[ignore = "needs a store of scripts/objects"]
fn an_upload_in_parts_shows_nothing_until_it_is_complete() {
    let client = bucket("parts", &[]);
    let key = "host-1/big object+%";
    let content: Vec<u8> = (0..2 * PART_BYTES + 777).map(|at| u8::try_from(at % 251).unwrap()).collect();
    let id = client.begin_upload(key).unwrap();
    // Two parts at once.
    let parts: Vec<_> = thread::scope(|scope| {
        let (client, id) = (&client, &id);
        let running: Vec<_> = content
            .chunks(PART_BYTES)
            .zip(1..)
            .map(|(bytes, number)| scope.spawn(move || client.put_part(key, id, number, bytes).unwrap()))
            .collect();
        running.into_iter().map(|one| one.join().unwrap()).collect()
    });
    assert!(client.head(key).unwrap().is_none() && client.list("host-1/", false).unwrap().objects.is_empty());
    assert_eq!(client.uploads("host-1/").unwrap(), [(key.to_owned(), id.clone())]);
    client.complete_upload(key, &id, &parts, false).unwrap();
    assert_eq!(client.head(key).unwrap().unwrap().len, content.len() as u64);
    let listed = client.list("host-1/", false).unwrap().objects;
    assert_eq!((listed[0].key.as_str(), listed[0].len), (key, content.len() as u64));
    let (from, to) = (PART_BYTES - 3, 2 * PART_BYTES + 5);
    assert!(client.get_range(key, &(from as u64..to as u64)).unwrap() == content[from..to]);

    let id = client.begin_upload("host-1/dead").unwrap();
    client.put_part("host-1/dead", &id, 1, b"x").unwrap();
    client.abort_upload("host-1/dead", &id).unwrap();
    assert!(!client.has_parts("host-1/dead", &id).unwrap());
    client.abort_upload("host-1/dead", &id).unwrap();
    assert!(client.uploads("host-1/").unwrap().is_empty());
}

#[test]
#[ignore = "needs a store of scripts/objects"]
fn lists_have_pages_and_folders() {
    let client = bucket("lists", &[]);
    let names: BTreeSet<String> = (0..1005).map(|at| format!("host-1/v/{at:04} ü")).collect();
    thread::scope(|scope| {
        let all: Vec<&String> = names.iter().collect();
        for some in all.chunks(300) {
            let (client, some) = (&client, some.to_vec());
            scope.spawn(move || some.into_iter().for_each(|key| drop(client.put(key, b"", false).unwrap())));
        }
    });
    client.put("host-1/top", b"x", false).unwrap();
    client.put("host-2/top", b"x", false).unwrap();
    let before = client.traffic().requests;
    let listed: BTreeSet<String> =
        client.list("host-1/v/", false).unwrap().objects.into_iter().map(|object| object.key).collect();
    assert!(listed == names, "{} of {}", listed.len(), names.len());
    assert_eq!(client.traffic().requests - before, if is_native() { 1 } else { 2 });
    let top = client.list("host-1/", true).unwrap();
    assert_eq!(top.objects.iter().map(|object| object.key.as_str()).collect::<Vec<_>>(), ["host-1/top"]);
    assert_eq!(top.prefixes, ["host-1/v/"]);
}
