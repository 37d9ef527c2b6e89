//! Keys in addresses and in headers.

/// A key with all but unreserved characters and slashes as `%XX` (RFC 3986, 2.3).
pub(super) fn encoded(key: &str) -> String {
    let mut text = String::with_capacity(key.len());
    for byte in key.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}
