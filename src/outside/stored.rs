//! An object of a store, as the source of copies that the store makes by itself.

/// One content of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredObject {
    /// The store: its endpoint and the bucket.
    pub store: String,
    /// The object's key.
    pub key: String,
    /// Tells this content from others that the key had or will have.
    pub etag: String,
    /// Its length.
    pub len_bytes: u64,
    /// Whether it lies in an archive tier, from which the store does not copy.
    pub is_cold: bool,
}
