//! What a listing shows, and the content of small objects that is known without a request for each.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use chrono::Utc;

use super::cache::{self, Cache, Named};
use super::catalogue::{self, FOLDER};
use super::{names, versions};
use crate::objects::{ListedObject, ObjectClient, ObjectError, ObjectListing};
use crate::store::at_once::AtOnce;
use crate::store::backup::RECORD;
use crate::store::names::{CHECKSUM, INDEX, MANIFEST};
use crate::store::shared::PARTS;

/// Fewer objects are read one by one.
const FEW: usize = 4;
/// Catalogues that are read at most.
const MOST_CATALOGUES: usize = 16;
/// Catalogues with a part of all objects, before one with all of them is written.
const MOST_PARTS: usize = 7;

/// The objects below a prefix.
#[derive(Debug, Default)]
pub(super) struct Seen {
    covers: String,
    objects: BTreeMap<String, ListedObject>,
    known: HashMap<String, Arc<Vec<u8>>>,
}

impl Seen {
    fn listed(client: &ObjectClient, covers: String) -> Result<Self, ObjectError> {
        let objects = client.list(&covers, false)?.objects;
        let objects = objects.into_iter().map(|object| (object.key.clone(), object)).collect();
        Ok(Self { covers, objects, known: HashMap::new() })
    }

    /// Lists all objects below a prefix, and reads catalogues if that is less work than to read what they have.
    pub(super) fn look(client: &ObjectClient, cache: &Cache, covers: String) -> Result<Self, ObjectError> {
        let mut seen = Self::listed(client, covers)?;
        seen.note_names(client, cache);
        let small: Vec<&ListedObject> = seen.small_objects().collect();
        let mut unknown: HashSet<String> =
            small.iter().filter(|object| !cache.has(named(object))).map(|object| object.key.clone()).collect();
        if unknown.len() > FEW {
            let catalogues = seen.catalogues(client)?;
            seen.read_catalogues(client, cache, &catalogues, |known| {
                unknown.remove(known);
                unknown.is_empty()
            });
        }
        Ok(seen)
    }

    /// Keeps the names of all backups for completion, if this is the whole destination.
    fn note_names(&self, client: &ObjectClient, cache: &Cache) {
        let root = client.address().key("");
        if self.covers == root {
            names::note(cache, &root, self.objects.keys().map(String::as_str));
        }
    }

    /// Whether all keys that begin so are known.
    pub(super) fn covers(&self, start: &str) -> bool {
        start.starts_with(&self.covers)
    }

    /// What the listing says of a key.
    pub(super) fn get(&self, key: &str) -> Option<&ListedObject> {
        self.objects.get(key)
    }

    /// The content of an object.
    pub(super) fn known(&self, key: &str) -> Option<Arc<Vec<u8>>> {
        self.known.get(key).cloned()
    }

    /// The objects whose keys begin so.
    pub(super) fn starting_with<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = &'a ListedObject> {
        let from = self.objects.range::<str, _>((std::ops::Bound::Included(prefix), std::ops::Bound::Unbounded));
        from.map(|(_, object)| object).take_while(move |object| object.key.starts_with(prefix))
    }

    /// A folder, as a listing with a delimiter shows it.
    pub(super) fn folder(&self, prefix: &str) -> ObjectListing {
        let mut listing = ObjectListing::default();
        for object in self.starting_with(prefix) {
            match object.key[prefix.len()..].find('/') {
                None => listing.objects.push(object.clone()),
                Some(end) => listing.prefixes.push(object.key[..=prefix.len() + end].to_owned()),
            }
        }
        listing.prefixes.dedup();
        listing
    }

    /// Manifests, and the newest record of each backup.
    fn small_objects(&self) -> impl Iterator<Item = &ListedObject> {
        let is_newest = |object: &&ListedObject| {
            let Some(name) = versions::name_of(&object.key) else { return object.key.ends_with(MANIFEST) };
            let next = self.starting_with(&object.key[..=name.len()]).last();
            name.ends_with(RECORD) && next.is_some_and(|last| last.key == object.key)
        };
        self.objects
            .values()
            .filter(is_newest)
            .filter(|object| object.len <= catalogue::MOST_BYTES && catalogue::looks_like_md5(&object.etag))
    }

    /// The catalogues that count, the newest first.
    fn catalogues(&self, client: &ObjectClient) -> Result<Vec<ListedObject>, ObjectError> {
        let prefix = client.address().key(FOLDER);
        let mut all = if self.covers(&prefix) {
            self.starting_with(&prefix).cloned().collect()
        } else {
            client.list(&prefix, false)?.objects
        };
        all.retain(|object| catalogue::is_catalogue(&object.key) && object.len <= cache::MOST_BYTES);
        all.reverse();
        let full = all.iter().position(|object| catalogue::is_full(&object.key));
        all.truncate(full.map_or(all.len(), |full| full + 1).min(MOST_CATALOGUES));
        Ok(all)
    }

    /// Reads catalogues until `is_enough` after one of the objects that they have.
    fn read_catalogues(
        &mut self,
        client: &ObjectClient,
        cache: &Cache,
        catalogues: &[ListedObject],
        mut is_enough: impl FnMut(&str) -> bool,
    ) {
        let root = client.address().key("");
        for object in catalogues {
            let Some(bytes) = content(client, cache, object) else { continue };
            let (objects, mut found) = (&self.objects, Vec::new());
            let is_listed = |named: Named<'_>| {
                let listed = objects.get(&format!("{root}{}", named.key));
                listed.is_some_and(|listed| listed.etag == named.etag && listed.len == named.len)
            };
            // What comes before the first wrong place counts, as each entry is compared with the listing.
            let _ = catalogue::decode(&bytes, is_listed, |key, bytes| found.push((format!("{root}{key}"), bytes)));
            let mut is_all = false;
            for (key, bytes) in found {
                is_all |= is_enough(&key);
                self.known.insert(key, Arc::new(bytes));
            }
            if is_all {
                break;
            }
        }
    }
}

/// An object's name in the cache.
pub(super) fn named(object: &ListedObject) -> Named<'_> {
    Named { key: &object.key, etag: &object.etag, len: object.len }
}

/// Whether objects of this name are kept on this host: they are read again and again, and never change.
pub(super) fn is_kept(key: &str) -> bool {
    let name = versions::name_of(key).unwrap_or(key);
    [MANIFEST, INDEX, CHECKSUM, RECORD, PARTS].iter().any(|suffix| name.ends_with(suffix))
        || catalogue::is_catalogue(name)
}

/// Whether objects of this name are too small to have parts.
pub(super) fn is_small(name: &str) -> bool {
    [MANIFEST, CHECKSUM].iter().any(|suffix| name.ends_with(suffix)) || name.contains(RECORD)
}

/// The whole of a listed object, from the cache or the store; `None` if it is another one by now, or cannot be read.
pub(super) fn content(client: &ObjectClient, cache: &Cache, object: &ListedObject) -> Option<Vec<u8>> {
    if let Some(bytes) = cache.read(named(object)) {
        return Some(bytes);
    }
    let bytes = client.get_range_of(&object.key, &(0..object.len), &object.etag).ok()?;
    cache.keep(named(object), &bytes);
    Some(bytes)
}

/// Writes a catalogue of what no catalogue has yet. Every eighth has everything, and those before it are removed, if the key
/// may do that.
pub(super) fn write_catalogue(client: &ObjectClient, cache: &Cache) -> Result<(), ObjectError> {
    cache.tidy();
    let root = client.address().key("");
    let mut seen = Seen::listed(client, root.clone())?;
    seen.note_names(client, cache);
    let catalogues = seen.catalogues(client)?;
    seen.read_catalogues(client, cache, &catalogues, |_| false);
    let missing: Vec<ListedObject> =
        seen.small_objects().filter(|object| !seen.known.contains_key(&object.key)).cloned().collect();
    if missing.is_empty() {
        return Ok(());
    }
    let is_full = catalogues.len() > MOST_PARTS || !catalogues.iter().any(|object| catalogue::is_full(&object.key));
    let missing = AtOnce::default().map(missing, |object| {
        let bytes = content(client, cache, &object);
        (object, bytes)
    });
    let of_seen = seen.known.iter().filter(|_| is_full).filter_map(|(key, bytes)| Some((seen.get(key)?, &***bytes)));
    let new = missing.iter().filter_map(|(object, bytes)| Some((object, bytes.as_deref()?)));
    let mut entries: Vec<(&ListedObject, &[u8])> =
        of_seen.chain(new).filter(|(object, bytes)| catalogue::is_md5_of(&object.etag, bytes)).collect();
    entries.sort_unstable_by(|(one, _), (other, _)| one.key.cmp(&other.key));
    let below =
        entries.iter().map(|(object, bytes)| (Named { key: &object.key[root.len()..], ..named(object) }, *bytes));
    // Writing to memory does not fail.
    let encoded = catalogue::encode(below).unwrap_or_default();
    if encoded.is_empty() || encoded.len() as u64 > cache::MOST_BYTES {
        return Ok(());
    }
    let millis = (Utc::now().timestamp_millis()).saturating_add(client.skew_seconds().saturating_mul(1000));
    let key = client.address().key(&format!("{FOLDER}{}", catalogue::name(millis, &versions::random(), is_full)));
    client.put(&key, &encoded, false)?;
    let etag = catalogue::md5(&encoded);
    cache.keep(Named { key: &key, etag: &etag, len: encoded.len() as u64 }, &encoded);
    if is_full {
        let folder = client.address().key(FOLDER);
        let old = seen.starting_with(&folder).filter(|object| catalogue::is_catalogue(&object.key));
        // The key may have no right to delete: they stay, and are not read.
        let _ = old.into_iter().try_for_each(|object| client.delete(&object.key, None));
    }
    Ok(())
}
