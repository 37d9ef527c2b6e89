//! The cloud to use and the login, from clouds.yaml and secure.yaml or from the variables `OS_*`.

mod address;
mod files;
mod login;

use std::collections::BTreeMap;
use std::path::PathBuf;

use self::address::auth_url;
pub use self::files::Sources;
use self::files::{clouds_file, no_cloud, secure_file};
use self::login::Login;
use super::error::CloudError;
use super::yaml::Node;
use crate::http::address;
use crate::http::files::{FileError, doubt};
use crate::shown;

/// How to reach a cloud.
#[derive(Clone, Debug)]
pub struct CloudSettings {
    /// Its name in clouds.yaml, or its address.
    pub name: String,
    /// Keystone's address, which ends in `/v3`.
    pub auth_url: String,
    /// The region; may be `None` if there is one alone.
    pub region: Option<String>,
    /// The interface of endpoints: `public`, `internal` or `admin`.
    pub interface: String,
    /// What is doubtful about the settings, for the log.
    pub doubts: Vec<String>,
    pub(super) ca_file: Option<PathBuf>,
    pub(super) login: Login,
    /// Addresses to use in place of the catalogue's, by service type.
    pub(super) endpoints: BTreeMap<String, String>,
}

impl CloudSettings {
    /// Reads the settings. Without any, the error names the places that were looked at.
    pub fn find(sources: &Sources) -> Result<Self, CloudError> {
        let cloud = sources.cloud.as_deref().or_else(|| sources.variable("OS_CLOUD"));
        if let Some(cloud) = cloud {
            return Self::of_file(cloud, sources);
        }
        if sources.variable("OS_AUTH_URL").is_some() {
            return Self::of_variables(sources);
        }
        // A clouds.yaml with one cloud leaves no choice.
        match clouds_file(sources)? {
            Some((path, node)) => {
                let names: Vec<&str> = match node.get("clouds") {
                    Some(Node::Map(clouds)) => clouds.keys().map(String::as_str).collect(),
                    _ => Vec::new(),
                };
                if let [one] = names[..] {
                    return Self::of_file(one, sources);
                }
                let what = format!(
                    "it has {} clouds ({}); set `cloud` in [openstack], or OS_CLOUD",
                    names.len(),
                    shown::text(&names.join(", "))
                );
                Err(FileError::wrong(&path, what).into())
            }
            None => Err(no_cloud(sources)),
        }
    }

    fn of_file(cloud: &str, sources: &Sources) -> Result<Self, CloudError> {
        let Some((path, mut node)) = clouds_file(sources)? else { return Err(no_cloud(sources)) };
        let mut doubts = Vec::new();
        let mut files = vec![path.clone()];
        if let Some((secure, over)) = secure_file(sources, &path)? {
            files.push(secure);
            node.laid_over(over);
        }
        let wrong = |what: String| CloudError::from(FileError::wrong(&path, what));
        let clouds = node.get("clouds");
        let Some(found @ Node::Map(_)) = clouds.and_then(|clouds| clouds.get(cloud)) else {
            let names = match clouds {
                Some(Node::Map(clouds)) => clouds.keys().map(|name| shown::text(name)).collect::<Vec<_>>().join(", "),
                _ => "none".to_owned(),
            };
            return Err(wrong(format!("it has no cloud {:?}; it has: {names}", shown::text(cloud))));
        };
        let given = |key: &str| {
            let auth = found.get("auth").and_then(|auth| auth.get(key));
            let text = auth.or_else(|| found.get(key)).and_then(Node::text).filter(|text| !text.is_empty());
            let fills = match key {
                "password" => sources.variable("OS_PASSWORD"),
                "application_credential_secret" => sources.variable("OS_APPLICATION_CREDENTIAL_SECRET"),
                _ => None,
            };
            text.or(fills).map(str::to_owned)
        };
        if given("auth_url").is_none() && given("profile").is_some() {
            let what = "has a `profile`, which volbak does not read; write `auth_url` and the rest into it";
            return Err(wrong(format!("cloud {:?} {what}", shown::text(cloud))));
        }
        for file in &files {
            doubts.extend(doubt(file));
        }
        let mut settings =
            Self::from_keys(cloud, &format!("{}: cloud {:?}", path.display(), shown::text(cloud)), &given)?;
        if settings.region.is_none()
            && let Some(Node::List(regions)) = found.get("regions")
            && let [region] = &regions[..]
        {
            settings.region = region.text().or_else(|| region.get("name").and_then(Node::text)).map(str::to_owned);
        }
        settings.doubts = doubts;
        settings.ca_file = sources.ca_file.clone().or(settings.ca_file);
        Ok(settings)
    }

    fn of_variables(sources: &Sources) -> Result<Self, CloudError> {
        let given = |key: &str| {
            let name = match key {
                "profile" | "verify" => return None,
                key => format!("OS_{}", key.to_ascii_uppercase()),
            };
            sources.variable(&name).map(str::to_owned)
        };
        let name = given("auth_url").unwrap_or_default();
        let mut settings = Self::from_keys(&name, "the variables OS_*", &given)?;
        settings.name = settings.auth_url.clone();
        settings.ca_file = sources.ca_file.clone().or(settings.ca_file);
        Ok(settings)
    }

    fn from_keys(name: &str, place: &str, given: &dyn Fn(&str) -> Option<String>) -> Result<Self, CloudError> {
        let wrong = |what: &str| CloudError::Settings { place: place.to_owned(), what: what.to_owned() };
        let auth_url = auth_url(&given("auth_url").ok_or_else(|| wrong("auth_url is missing"))?).map_err(wrong)?;
        if given("verify").is_some_and(|verify| matches!(&*verify.to_ascii_lowercase(), "false" | "no" | "0" | "off")) {
            let what = "`verify: false` would send the password to whoever answers; name the certificate's authority in `cacert`";
            return Err(wrong(what));
        }
        if given("cert").is_some() {
            return Err(wrong(
                "client certificates (`cert`) are not supported; use a password or an application credential",
            ));
        }
        let login = Login::from_keys(given).map_err(|what| wrong(&what))?;
        let interface = given("interface").or_else(|| given("endpoint_type")).unwrap_or_else(|| "public".to_owned());
        let interface = interface.trim_end_matches("URL").to_ascii_lowercase();
        if !["public", "internal", "admin"].contains(&&*interface) {
            return Err(wrong("`interface` is one of public, internal, admin"));
        }
        let mut endpoints = BTreeMap::new();
        for (service, keys) in [
            (
                "block-storage",
                ["block_storage_endpoint_override", "volume_endpoint_override", "volumev3_endpoint_override"],
            ),
            ("compute", ["compute_endpoint_override"; 3]),
            ("object-store", ["object_store_endpoint_override"; 3]),
        ] {
            if let Some(url) = keys.iter().find_map(|key| given(key)) {
                endpoints.insert(service.to_owned(), address(&url).map_err(wrong)?);
            }
        }
        Ok(Self {
            name: name.to_owned(),
            auth_url,
            region: given("region_name"),
            interface,
            doubts: Vec::new(),
            ca_file: given("cacert").map(PathBuf::from),
            login,
            endpoints,
        })
    }
}

#[cfg(feature = "swift")]
impl CloudSettings {
    /// A file with the authorities that sign the servers' certificates.
    pub(crate) fn ca_file(&self) -> Option<&std::path::Path> {
        self.ca_file.as_deref()
    }

    /// Who logs in, for messages.
    pub(crate) fn who(&self) -> String {
        self.login.who()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    use serde_json::json;

    use super::{CloudError, CloudSettings, Sources};

    fn variables(pairs: &[(&str, &str)]) -> Sources {
        let environment = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Sources { environment, ..Sources::default() }
    }

    fn file(folder: &Path, name: &str, text: &str) -> String {
        let path = folder.join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path.display().to_string()
    }

    #[test]
    fn variables_make_a_password_or_a_credential() {
        let all = [
            ("OS_AUTH_URL", "https://c:5000/"),
            ("OS_USERNAME", "u"),
            ("OS_PASSWORD", "0123"),
            ("OS_PROJECT_NAME", "p"),
            ("OS_USER_DOMAIN_NAME", "Default"),
            ("OS_REGION_NAME", "R"),
            ("OS_ENDPOINT_TYPE", "internalURL"),
            ("OS_CACERT", "/ca.pem"),
        ];
        let found = CloudSettings::find(&variables(&all)).unwrap();
        assert_eq!((found.auth_url.as_str(), found.interface.as_str()), ("https://c:5000/v3", "internal"));
        assert_eq!(found.region.as_deref(), Some("R"));
        assert_eq!(
            found.login.auth_body()["auth"],
            json!({
                "identity": { "methods": ["password"], "password": { "user":
                    { "name": "u", "domain": { "name": "Default" }, "password": "0123" } } },
                "scope": { "project": { "name": "p", "domain": { "id": "default" } } },
            })
        );
        assert!(!format!("{found:?}").contains("0123"), "{found:?}");
        let credential = [
            ("OS_AUTH_URL", "http://c/v3"),
            ("OS_AUTH_TYPE", "v3applicationcredential"),
            ("OS_APPLICATION_CREDENTIAL_ID", "i"),
            ("OS_APPLICATION_CREDENTIAL_SECRET", "geheim"),
            ("OS_PROJECT_NAME", "is not sent"),
        ];
        let found = CloudSettings::find(&variables(&credential)).unwrap();
        assert_eq!(
            found.login.auth_body()["auth"],
            json!({ "identity": { "methods": ["application_credential"],
                    "application_credential": { "id": "i", "secret": "geheim" } } })
        );
        assert!(!format!("{found:?}").contains("geheim"));
        let without = |name: &str| {
            let left: Vec<(&str, &str)> = all.iter().copied().filter(|(other, _)| *other != name).collect();
            CloudSettings::find(&variables(&left)).unwrap_err().to_string()
        };
        assert!(without("OS_PASSWORD").contains("password is missing"));
        assert!(without("OS_USERNAME").contains("username, or user_id, is missing"));
        assert!(without("OS_PROJECT_NAME").contains("project_name, project_id or system_scope"));
    }

    #[test]
    fn a_cloud_of_clouds_yaml_is_found_with_the_password_of_secure_yaml() {
        let folder = tempfile::tempdir().unwrap();
        let clouds = file(
            folder.path(),
            "clouds.yaml",
            "clouds:\n  a: &a\n    auth: {auth_url: 'http://c/v3', username: u, project_name: p}\n    region_name: R\n  \
             b:\n    <<: *a\n    interface: admin\n  \
             c: {auth: {auth_url: 'http://c/v3', username: u, project_name: p}, verify: false}\n  d: {profile: vexxhost}\n",
        );
        let mut sources = variables(&[("OS_CLIENT_CONFIG_FILE", &clouds), ("OS_CLOUD", "b")]);
        let missing = CloudSettings::find(&sources).unwrap_err().to_string();
        assert!(missing.contains(&clouds) && missing.contains("cloud \"b\": password is missing"), "{missing}");
        file(folder.path(), "secure.yaml", "clouds: {a: {auth: {password: x}}, b: {auth: {password: yes}}}");
        let found = CloudSettings::find(&sources).unwrap();
        assert_eq!((found.interface.as_str(), found.region.as_deref()), ("admin", Some("R")));
        assert_eq!(found.login.secret().reveal(), "yes");
        assert!(found.doubts.is_empty());
        for (cloud, why) in [("nope", "it has: a, b, c, d"), ("c", "verify: false"), ("d", "profile")] {
            sources.cloud = Some(cloud.to_owned());
            let error = CloudSettings::find(&sources).unwrap_err().to_string();
            assert!(error.contains(why), "{cloud}: {error}");
        }
        // Several, and none is named.
        sources.cloud = None;
        sources.environment.remove("OS_CLOUD");
        assert!(CloudSettings::find(&sources).unwrap_err().to_string().contains("4 clouds (a, b, c, d)"));
    }

    #[test]
    fn files_that_others_can_change_are_refused_and_readable_ones_are_doubted() {
        let folder = tempfile::tempdir().unwrap();
        let text = "clouds: {a: {auth: {auth_url: 'http://c/v3', username: u, project_name: p, password: geheim}}}";
        let clouds = file(folder.path(), "clouds.yaml", text);
        let sources = variables(&[("OS_CLIENT_CONFIG_FILE", &clouds)]);
        fs::set_permissions(&clouds, fs::Permissions::from_mode(0o644)).unwrap();
        let found = CloudSettings::find(&sources).unwrap();
        assert!(found.doubts[0].contains("chmod o="), "{:?}", found.doubts);
        fs::set_permissions(&clouds, fs::Permissions::from_mode(0o666)).unwrap();
        let error = CloudSettings::find(&sources).unwrap_err().to_string();
        assert!(error.contains("others can write to") && !error.contains("geheim"), "{error}");
        fs::write(&clouds, "clouds: {a: {password: \"geheim").unwrap();
        fs::set_permissions(&clouds, fs::Permissions::from_mode(0o600)).unwrap();
        let error = CloudSettings::find(&sources).unwrap_err().to_string();
        assert!(error.contains("not valid YAML") && !error.contains("geheim"), "{error}");
        let nowhere = CloudSettings::find(&variables(&[("OS_CLOUD", "x"), ("HOME", "/nonexistent")])).unwrap_err();
        assert!(matches!(nowhere, CloudError::NoCloud { .. }), "{nowhere}");
    }
}
