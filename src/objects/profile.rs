//! The files `credentials` and `config` of the AWS command line: profiles in brackets, and keys with values.

use std::collections::BTreeMap;

/// The profiles of a file, each with its keys.
pub(super) type Profiles = BTreeMap<String, BTreeMap<String, String>>;

/// Reads a file. The error names the line and never its content, which may be a secret.
///
/// `config` writes `[profile NAME]`, `credentials` writes `[NAME]`: both are read. Indented lines belong to nested tables
/// of the key above, which are not used.
pub(super) fn parse(text: &str) -> Result<Profiles, String> {
    let mut profiles = Profiles::new();
    let mut current: Option<String> = None;
    for (number, line) in text.lines().enumerate() {
        let wrong = |what: &str| format!("line {}: {what}", number + 1);
        if line.trim().is_empty() || line.starts_with(['#', ';', ' ', '\t']) {
            continue;
        }
        if let Some(header) = line.strip_prefix('[') {
            let (name, _) =
                header.split_once(']').ok_or_else(|| wrong("a profile's name lacks its closing bracket"))?;
            let name = name.trim();
            let name = name.strip_prefix("profile ").map_or(name, str::trim);
            profiles.entry(name.to_owned()).or_default();
            current = Some(name.to_owned());
            continue;
        }
        let (key, value) = line.split_once('=').ok_or_else(|| wrong("it is no `key = value`"))?;
        let name = current.as_ref().ok_or_else(|| wrong("it stands before the first [profile]"))?;
        let keys = profiles.entry(name.clone()).or_default();
        keys.insert(key.trim().to_ascii_lowercase(), value.trim().to_owned());
    }
    Ok(profiles)
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn both_files_forms_are_read() {
        let text = "# comment\n[default]\naws_access_key_id = A\nAWS_SECRET_ACCESS_KEY=S=/+\n\n[profile two]\nregion = r\ns3 =\n  \
                    max_concurrent_requests = 2\nendpoint_url = https://x\n; end\n";
        let found = parse(text).unwrap();
        assert_eq!(found["default"]["aws_secret_access_key"], "S=/+");
        assert_eq!(found["two"]["region"], "r");
        assert_eq!(found["two"]["endpoint_url"], "https://x");
        assert!(!found["two"].contains_key("max_concurrent_requests"));
    }

    #[test]
    fn an_error_shows_the_line_and_no_secret() {
        for text in ["[default\nx = 1", "[default]\ngeheim", "geheim = 1"] {
            let error = parse(text).unwrap_err();
            assert!(error.starts_with("line ") && !error.contains("geheim"), "{error}");
        }
    }
}
