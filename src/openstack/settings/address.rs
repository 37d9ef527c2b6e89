//! The address of Keystone.

use crate::http::address;

/// Keystone's address with `/v3` at its end.
pub(super) fn auth_url(url: &str) -> Result<String, &'static str> {
    let url = address(url)?;
    if url.ends_with("/v3") {
        return Ok(url);
    }
    if url.ends_with("/v2.0") {
        return Err("auth_url is that of Keystone v2.0, which no supported cloud has; write the one that ends in /v3");
    }
    Ok(format!("{url}/v3"))
}
