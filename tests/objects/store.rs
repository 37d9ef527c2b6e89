//! A destination in a real store: the contract of every store, archives in parts, reads, leases, and what killed runs leave.

use std::io::{Read, Write};

use volbak::outside::BlockCursor;
use volbak::store::Store;
use volbak::store::api::{Content, Lock};
use volbak::store::object::ObjectStore;

use crate::contract::keeps_the_contract;
use crate::real::bucket;

#[test]
#[ignore = "needs a store of scripts/objects"]
fn an_object_store_keeps_the_contract() {
    keeps_the_contract(&ObjectStore::new(bucket("contract", &[])));
}

#[test]
#[ignore = "needs a store of scripts/objects"]
fn a_long_archive_is_sent_in_parts_and_read_by_ranges() {
    let store = ObjectStore::new(bucket("archive", &[]));
    let content: Vec<u8> = (0..(40_u32 << 18)).flat_map(|at| at.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let file = store.create("a").unwrap();
    let mut writer = file.writer(Content::Archive { share_blocks: false }).unwrap();
    for some in content.chunks(777_777) {
        writer.write_all(some).unwrap();
    }
    drop(writer);
    assert!(file.settle(content.len() as u64 - 1).is_err());
    file.settle(content.len() as u64).unwrap();
    // Nothing shows before it is published.
    assert_eq!(store.list().unwrap().files, Vec::<String>::new());
    store.publish("a").unwrap();
    let opened = store.open("a").unwrap();
    let mut read = Vec::new();
    BlockCursor::new(opened.clone()).read_to_end(&mut read).unwrap();
    assert!(read == content, "{} of {}", read.len(), content.len());
    for (offset, len) in [(0, 1), ((8 << 20) - 5, 10), (content.len() - 3, 3), (300_000, 9 << 20)] {
        let mut some = vec![0; len];
        opened.read_at(offset as u64, &mut some).unwrap();
        assert!(some == content[offset..offset + len], "{offset}");
    }
    opened.read_at(content.len() as u64 - 1, &mut [0; 2]).unwrap_err();

    // One that was given up leaves no parts, and its name is free.
    let file = store.create("b").unwrap();
    file.write_all(&content).unwrap();
    store.discard("b").unwrap();
    assert_eq!(store.abort_dead_uploads().unwrap(), 0);
    store.create("b").unwrap();
}

#[test]
#[ignore = "needs a store of scripts/objects"]
fn uploads_of_killed_runs_are_aborted_and_those_of_other_hosts_are_not() {
    let client = bucket("dead", &[]);
    for key in ["host-1/v/a", "host-2/v/a"] {
        let id = client.begin_upload(key).unwrap();
        client.put_part(key, &id, 1, b"x").unwrap();
    }
    let other = client.uploads("host-2/").unwrap();
    let again = ObjectStore::new(crate::real::same(&client));
    // One of this process is under way.
    let file = again.create("mine").unwrap();
    file.write_all(&vec![1; 9 << 20]).unwrap();
    assert_eq!(again.abort_dead_uploads().unwrap(), 1);
    file.settle(9 << 20).unwrap();
    again.publish("mine").unwrap();
    assert_eq!(client.uploads("host-1/").unwrap(), []);
    assert_eq!(client.uploads("host-2/").unwrap(), other);
}

#[test]
#[ignore = "needs a store of scripts/objects"]
fn a_lease_names_its_holder_and_expires() {
    let client = bucket("lease", &[]);
    let store = ObjectStore::new(crate::real::same(&client));
    let Lock::Taken(held) = store.lock("lock", "process 1 on one\n").unwrap() else { panic!("it is free") };
    let other = ObjectStore::new(crate::real::same(&client));
    match other.lock("lock", "process 2 on two\n").unwrap() {
        Lock::Held { by } => assert_eq!(by, "process 1 on one"),
        Lock::Taken(_) => panic!("it is held"),
    }
    drop(held);
    // Of a run that was killed long ago, and what is no lease at all.
    for left in
        [&b"{\"holder\":\"x\",\"nonce\":\"y\",\"expires_at\":\"2020-01-01T00:00:00Z\"}"[..], b"\0", &[b'x'; 9000]]
    {
        client.put("host-1/lock", left, false).unwrap();
        assert!(matches!(other.lock("lock", "process 2 on two\n").unwrap(), Lock::Taken(_)));
    }
}
