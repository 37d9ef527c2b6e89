//! Addresses of services.

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

/// An address of a service, without a slash at its end.
pub(in crate::openstack) fn address(url: &str) -> Result<String, &'static str> {
    let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
    let rest = rest.ok_or("an address begins with http:// or https://")?;
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if host.contains('@') {
        return Err("an address holds no user and no password; write them into username and password");
    }
    if host.is_empty() || !url.bytes().all(|byte| byte.is_ascii_graphic()) || url.contains(['?', '#']) {
        return Err("an address is like https://cloud.example.com:5000/v3");
    }
    Ok(url.trim_end_matches('/').to_owned())
}
