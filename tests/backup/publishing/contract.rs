//! What every store does.

use std::io::{Read, Write};
use std::sync::Arc;

use volbak::outside::BlockCursor;
use volbak::store::Store;
use volbak::store::api::{Content, Lock, Writers};
use volbak::store::local::LocalStore;
use volbak::store::open::OpenError;
use volbak::store::shared::SharedFolder;

use super::memory::Memory;

#[test]
fn a_directory_keeps_the_contract() {
    let dir = tempfile::tempdir().unwrap();
    keeps_the_contract(&LocalStore::open(dir.path()).unwrap());
    let dir = tempfile::tempdir().unwrap();
    keeps_the_contract(&LocalStore::by_path(dir.path()));
}

#[test]
fn a_directory_with_composed_archives_keeps_the_contract() {
    for composes in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        keeps_the_contract(&*SharedFolder::over(Arc::new(LocalStore::open(dir.path()).unwrap()), composes));
        keeps_the_contract(&*SharedFolder::over(Arc::new(Memory::new()), composes));
    }
}

#[test]
fn a_store_in_memory_keeps_the_contract() {
    keeps_the_contract(&Memory::new());
}

fn content(store: &dyn Store, name: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    BlockCursor::new(store.open(name).unwrap()).read_to_end(&mut bytes).unwrap();
    bytes
}

/// What every store does, from an empty one on.
pub(crate) fn keeps_the_contract(root: &dyn Store) {
    assert!(root.folder("v", false).unwrap().is_none());
    let store = root.folder("v", true).unwrap().unwrap();
    let store = &*store;
    assert!(root.folder("v", false).unwrap().is_some() && root.folder("v", true).unwrap().is_some());
    assert_eq!(root.list().unwrap().folders, ["v"]);
    assert_eq!(store.list().unwrap(), volbak::store::api::Listing::default());
    assert!(matches!(store.open("a"), Err(OpenError::Missing(_))));

    // A staged file is no published one, and cannot be staged twice.
    let file = store.create("a").unwrap();
    store.create("a").unwrap_err();
    let mut writer = file.writer(Content::Archive { share_blocks: false }).unwrap();
    writer.write_all(&vec![1; 100_000]).unwrap();
    writer.flush().unwrap();
    drop(writer);
    assert!(file.settle(100_001).is_err(), "it is shorter than it should be");
    assert_eq!(file.read().unwrap().len_bytes(), 100_000);
    file.start_over().unwrap();
    let mut writer = file.writer(Content::Index).unwrap();
    writer.write_all(b"once ").unwrap();
    drop(writer);
    let mut writer = file.writer(Content::Index).unwrap();
    writer.write_all(b"more").unwrap();
    drop(writer);
    file.settle(9).unwrap();
    assert!(store.open("a").is_err());
    let listing = store.list().unwrap();
    assert!(listing.has_staged("a") && !listing.has("a"));

    // A store that can continue a staged file does so at its end.
    assert!(store.resume("none").unwrap().is_none());
    drop(file);
    if let Some(file) = store.resume("a").unwrap() {
        file.settle(9).unwrap();
        let mut writer = file.writer(Content::Index).unwrap();
        writer.write_all(b", and more").unwrap();
        drop(writer);
        file.settle(19).unwrap();
        file.start_over().unwrap();
        file.write_all(b"once more").unwrap();
        file.settle(9).unwrap();
    }

    // Published, it is no longer staged. Whoever opened it keeps it.
    store.publish("a").unwrap();
    store.sync().unwrap();
    assert_eq!(content(store, "a"), b"once more");
    let listing = store.list().unwrap();
    assert!(listing.has("a") && !listing.has_staged("a"));
    let opened = store.open("a").unwrap();
    let mut middle = [0; 4];
    opened.read_at(5, &mut middle).unwrap();
    assert_eq!((&middle, opened.len_bytes()), (b"more", 9));
    opened.read_at(8, &mut middle).unwrap_err();

    // Nothing published is replaced.
    let other = store.create("a").unwrap();
    other.write_all(b"other").unwrap();
    other.settle(5).unwrap();
    store.publish("a").unwrap_err();
    assert!(!store.is_half_published("a"));
    assert_eq!(content(store, "a"), b"once more");

    // Set aside, it takes the place of what is staged.
    store.set_aside("a").unwrap();
    let listing = store.list().unwrap();
    assert!(listing.has_staged("a") && !listing.has("a"));
    store.set_aside("a").unwrap_err();
    store.discard("a").unwrap();
    store.discard("a").unwrap();
    store.publish("a").unwrap_err();
    opened.read_at(5, &mut middle).unwrap();
    assert_eq!(&middle, b"more");

    // Small files are replaced whole.
    store.put("r", b"one", Writers::One).unwrap();
    store.put("r", b"other", Writers::Many).unwrap();
    assert_eq!(store.read_file("r", 100).unwrap().unwrap(), b"other");
    assert_eq!(store.read_file("r", 2).unwrap().unwrap(), b"ot");
    assert_eq!(store.read_file("none", 2).unwrap(), None);
    assert_eq!(store.list().unwrap().staged, Vec::<String>::new());
    assert!(!store.remove_if_empty().unwrap());
    store.remove("r").unwrap();
    store.remove("r").unwrap();

    // One holder at a time.
    let Lock::Taken(held) = store.lock("lock", "first\n").unwrap() else { panic!("it is free") };
    assert!(matches!(store.lock("lock", "second\n").unwrap(), Lock::Held { .. }));
    drop(held);
    assert!(matches!(store.lock("lock", "third\n").unwrap(), Lock::Taken(_)));
    store.remove("lock").unwrap();

    assert!(store.is_still_there().unwrap());
    store.space().unwrap();
    let kept = store.detached();
    assert_eq!((kept.path(), Arc::strong_count(&kept)), (store.path(), 1));
    assert!(store.remove_if_empty().unwrap());
    assert!(root.folder("v", false).unwrap().is_none());
}
