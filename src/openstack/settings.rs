//! Which cloud, and as whom: from clouds.yaml and secure.yaml, or from the variables `OS_*`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::error::CloudError;
use super::secret::Secret;
use super::yaml::{self, Node};
use crate::outside::trust::changeable;
use crate::shown;

/// A longer file is no clouds.yaml.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Where settings are looked for.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The name of a cloud in clouds.yaml; `OS_CLOUD` if `None`.
    pub cloud: Option<String>,
    /// The clouds.yaml; the usual places if `None`.
    pub clouds_file: Option<PathBuf>,
    /// A file with the authorities that sign the servers' certificates; that of clouds.yaml, or the system's, if `None`.
    pub ca_file: Option<PathBuf>,
    /// Variables of the environment; those without `OS_` are not used, but `HOME` and `XDG_CONFIG_HOME`.
    pub environment: BTreeMap<String, String>,
}

impl Sources {
    /// With the environment of this process.
    pub fn from_environment() -> Self {
        let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        let is_used = |name: &str| name.starts_with("OS_") || matches!(name, "HOME" | "XDG_CONFIG_HOME");
        let environment = std::env::vars_os().filter_map(text).filter(|(name, _)| is_used(name)).collect();
        Self { environment, ..Self::default() }
    }

    fn variable(&self, name: &str) -> Option<&str> {
        self.environment.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }
}

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
    pub(super) identity: Identity,
    pub(super) scope: Scope,
    /// Addresses to use in place of the catalogue's, by service type.
    pub(super) endpoints: BTreeMap<String, String>,
}

/// As whom.
#[derive(Clone, Debug)]
pub(super) enum Identity {
    Password { user: Named, password: Secret },
    ApplicationCredential { id: Option<String>, name: String, user: Named, secret: Secret },
}

/// An id, or a name in a domain.
#[derive(Clone, Debug, Default)]
pub(super) struct Named {
    id: Option<String>,
    name: Option<String>,
    domain: Option<Domain>,
}

#[derive(Clone, Debug)]
pub(super) enum Domain {
    Id(String),
    Name(String),
}

/// What the token is for.
#[derive(Clone, Debug)]
pub(super) enum Scope {
    /// What the credentials say: application credentials belong to a project.
    Given,
    Project(Named),
    Domain(Domain),
    System,
}

impl Named {
    fn is_given(&self) -> bool {
        self.id.is_some() || self.name.is_some()
    }

    fn json(&self) -> Value {
        let domain = self.domain.as_ref().map_or_else(|| json!({ "id": "default" }), Domain::json);
        match (&self.id, &self.name) {
            (Some(id), _) => json!({ "id": id }),
            (None, name) => json!({ "name": name, "domain": domain }),
        }
    }

    fn shown(&self) -> String {
        shown::text(self.name.as_ref().or(self.id.as_ref()).map_or("?", String::as_str))
    }
}

impl Domain {
    fn json(&self) -> Value {
        match self {
            Self::Id(id) => json!({ "id": id }),
            Self::Name(name) => json!({ "name": name }),
        }
    }
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
                match names[..] {
                    [one] => Self::of_file(one, sources),
                    _ => Err(CloudError::File {
                        path,
                        what: format!(
                            "it has {} clouds ({}); set `cloud` in [openstack], or OS_CLOUD",
                            names.len(),
                            shown::text(&names.join(", "))
                        ),
                    }),
                }
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
        let wrong = |what: String| CloudError::File { path: path.clone(), what };
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
        let missing = |what: &str| wrong(&format!("{what} is missing"));
        let auth_url = auth_url(&given("auth_url").ok_or_else(|| missing("auth_url"))?).map_err(wrong)?;
        if given("verify").is_some_and(|verify| matches!(&*verify.to_ascii_lowercase(), "false" | "no" | "0" | "off")) {
            let what = "`verify: false` would send the password to whoever answers; name the certificate's authority in `cacert`";
            return Err(wrong(what));
        }
        if given("cert").is_some() {
            return Err(wrong(
                "client certificates (`cert`) are not supported; use a password or an application credential",
            ));
        }
        let domain = |kind: &str| {
            let id = given(&format!("{kind}domain_id")).map(Domain::Id);
            let default = || given("default_domain").or_else(|| given("default_domain_id")).map(Domain::Id);
            id.or_else(|| given(&format!("{kind}domain_name")).map(Domain::Name))
                .or_else(|| default().filter(|_| !kind.is_empty()))
        };
        let user = Named { id: given("user_id"), name: given("username"), domain: domain("user_") };
        let kind = given("auth_type").unwrap_or_default();
        let is_credential = match &*kind {
            "" => given("application_credential_secret").is_some(),
            "v3applicationcredential" => true,
            "password" | "v3password" => false,
            other => {
                let what = format!(
                    "auth_type {:?} is not supported; use v3password or v3applicationcredential",
                    shown::text(other)
                );
                return Err(wrong(&what));
            }
        };
        let identity = if is_credential {
            let secret =
                given("application_credential_secret").ok_or_else(|| missing("application_credential_secret"))?;
            let (id, name) = (given("application_credential_id"), given("application_credential_name"));
            if id.is_none() && (name.is_none() || !user.is_given()) {
                return Err(missing(
                    "application_credential_id, or application_credential_name with username or user_id,",
                ));
            }
            Identity::ApplicationCredential { id, name: name.unwrap_or_default(), user, secret: Secret::new(secret) }
        } else {
            if !user.is_given() {
                return Err(missing("username, or user_id,"));
            }
            let password = given("password").ok_or_else(|| missing("password"))?;
            Identity::Password { user, password: Secret::new(password) }
        };
        let project = Named {
            id: given("project_id").or_else(|| given("tenant_id")),
            name: given("project_name").or_else(|| given("tenant_name")),
            domain: domain("project_"),
        };
        let scope = match (&identity, given("system_scope")) {
            (Identity::ApplicationCredential { .. }, _) => Scope::Given,
            (_, Some(system)) if system == "all" => Scope::System,
            _ if project.is_given() => Scope::Project(project),
            _ => domain("").map(Scope::Domain).ok_or_else(|| missing("project_name, project_id or system_scope"))?,
        };
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
            identity,
            scope,
            endpoints,
        })
    }

    /// The body of `POST /auth/tokens`.
    pub(super) fn auth_body(&self) -> Value {
        let identity = match &self.identity {
            Identity::Password { user, password } => {
                let mut user = user.json();
                user["password"] = password.reveal().into();
                json!({ "methods": ["password"], "password": { "user": user } })
            }
            Identity::ApplicationCredential { id: Some(id), secret, .. } => json!({
                "methods": ["application_credential"],
                "application_credential": { "id": id, "secret": secret.reveal() },
            }),
            Identity::ApplicationCredential { id: None, name, user, secret } => json!({
                "methods": ["application_credential"],
                "application_credential": { "name": name, "user": user.json(), "secret": secret.reveal() },
            }),
        };
        let scope = match &self.scope {
            Scope::Given => return json!({ "auth": { "identity": identity } }),
            Scope::Project(project) => json!({ "project": project.json() }),
            Scope::Domain(domain) => json!({ "domain": domain.json() }),
            Scope::System => json!({ "system": { "all": true } }),
        };
        json!({ "auth": { "identity": identity, "scope": scope } })
    }

    pub(super) fn secret(&self) -> &Secret {
        match &self.identity {
            Identity::Password { password, .. } => password,
            Identity::ApplicationCredential { secret, .. } => secret,
        }
    }

    /// For messages.
    pub(super) fn who(&self) -> String {
        match &self.identity {
            Identity::Password { user, .. } => format!("the user {}", user.shown()),
            Identity::ApplicationCredential { id, name, .. } => {
                format!("the application credential {}", shown::text(id.as_ref().unwrap_or(name)))
            }
        }
    }
}

/// Keystone's address with `/v3` at its end.
fn auth_url(url: &str) -> Result<String, &'static str> {
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
pub(super) fn address(url: &str) -> Result<String, &'static str> {
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

/// The folders in which clouds.yaml is looked for, as other clients do.
fn folders(sources: &Sources) -> Vec<PathBuf> {
    let home = sources.variable("HOME").map(PathBuf::from);
    let config = sources.variable("XDG_CONFIG_HOME").map(PathBuf::from).or_else(|| Some(home?.join(".config")));
    let mut folders = vec![PathBuf::from(".")];
    folders.extend(config.map(|config| config.join("openstack")));
    folders.push(PathBuf::from("/etc/openstack"));
    folders
}

fn candidates(sources: &Sources) -> Vec<PathBuf> {
    match sources.clouds_file.clone().or_else(|| sources.variable("OS_CLIENT_CONFIG_FILE").map(PathBuf::from)) {
        Some(file) => vec![file],
        None => {
            folders(sources).iter().flat_map(|folder| [folder.join("clouds.yaml"), folder.join("clouds.yml")]).collect()
        }
    }
}

fn clouds_file(sources: &Sources) -> Result<Option<(PathBuf, Node)>, CloudError> {
    for path in candidates(sources) {
        if let Some(node) = read(&path)? {
            return Ok(Some((path, node)));
        }
    }
    Ok(None)
}

/// The secure.yaml: the one named, the one beside clouds.yaml, or one of the usual places.
fn secure_file(sources: &Sources, beside: &Path) -> Result<Option<(PathBuf, Node)>, CloudError> {
    let paths = if let Some(file) = sources.variable("OS_CLIENT_SECURE_FILE") {
        vec![PathBuf::from(file)]
    } else {
        let near = beside.parent().map(|folder| folder.join("secure.yaml"));
        near.into_iter().chain(folders(sources).iter().map(|folder| folder.join("secure.yaml"))).collect()
    };
    for path in paths {
        if let Some(node) = read(&path)? {
            return Ok(Some((path, node)));
        }
    }
    Ok(None)
}

fn no_cloud(sources: &Sources) -> CloudError {
    let looked: Vec<String> = candidates(sources).iter().map(|path| path.display().to_string()).collect();
    CloudError::NoCloud { looked: looked.join(", ") }
}

/// Reads a file of settings; `None` if it does not exist.
fn read(path: &Path) -> Result<Option<Node>, CloudError> {
    let unreadable = |source| CloudError::Unreadable { path: path.to_owned(), source };
    let wrong = |what: String| CloudError::File { path: path.to_owned(), what };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(None),
        Err(error) => return Err(unreadable(error)),
    };
    if !file.metadata().map_err(unreadable)?.is_file() {
        return Err(wrong("it is not a regular file".to_owned()));
    }
    // Who changes the address in it gets the password.
    if let Some(found) = changeable(path).map_err(unreadable)? {
        return Err(wrong(format!("it is not used: {found}")));
    }
    let mut text = String::new();
    file.take(MAX_FILE_BYTES + 1).read_to_string(&mut text).map_err(unreadable)?;
    if text.len() as u64 > MAX_FILE_BYTES {
        return Err(wrong(format!("it has more than {MAX_FILE_BYTES} bytes")));
    }
    yaml::parse(&text).map(Some).map_err(wrong)
}

fn doubt(path: &Path) -> Option<String> {
    let mode = path.metadata().ok()?.mode();
    (mode & 0o004 != 0).then(|| {
        format!("every user of this host can read {}, which may hold a password; run chmod o= on it", path.display())
    })
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
            found.auth_body()["auth"],
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
            found.auth_body()["auth"],
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
        assert_eq!(found.secret().reveal(), "yes");
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
