//! Which store, and as whom: from the config, the environment, or the profile files of the AWS command line.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use url::Url;

use super::error::ObjectError;
use super::profile::{self, Profiles};
use crate::http::files::FileError;
use crate::http::{Secret, address, files};
use crate::shown;

/// The region of stores that have none.
const USUAL_REGION: &str = "us-east-1";

/// Where settings are looked for.
#[derive(Clone, Debug, Default)]
pub struct ObjectSources {
    /// The store's address; `AWS_ENDPOINT_URL_S3`, `AWS_ENDPOINT_URL`, or the profile's `endpoint_url` if `None`.
    pub endpoint: Option<String>,
    /// The region; `AWS_REGION`, `AWS_DEFAULT_REGION`, or the profile's if `None`.
    pub region: Option<String>,
    /// Whether the bucket is in the path of addresses and not in their host name; it is if `None`.
    pub path_style: Option<bool>,
    /// A file with the authorities that sign the server's certificate; `AWS_CA_BUNDLE`, or the system's if `None`.
    pub ca_file: Option<PathBuf>,
    /// A file of profiles with the credentials; the environment, then the usual files if `None`.
    pub credentials_file: Option<PathBuf>,
    /// The profile; `AWS_PROFILE`, or `default` if `None`.
    pub profile: Option<String>,
    /// The proxy; that of the environment if `None`.
    pub proxy: Option<String>,
    /// Variables of the environment; those without `AWS_` are not used, but `HOME`.
    pub environment: BTreeMap<String, String>,
}

impl ObjectSources {
    /// With the environment of this process.
    pub fn from_environment() -> Self {
        let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        let is_used = |name: &str| name.starts_with("AWS_") || name == "HOME";
        let environment = std::env::vars_os().filter_map(text).filter(|(name, _)| is_used(name)).collect();
        Self { environment, ..Self::default() }
    }

    fn variable(&self, name: &str) -> Option<&str> {
        self.environment.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }
}

/// How to reach a store.
#[derive(Clone, Debug)]
pub struct ObjectSettings {
    /// The store's address, without a slash at its end.
    pub endpoint: String,
    /// The region.
    pub region: String,
    /// Whether the bucket is in the path of addresses.
    pub path_style: bool,
    /// Where the credentials come from.
    pub credentials_from: String,
    /// What is doubtful about the settings, for the log.
    pub doubts: Vec<String>,
    /// Files with credentials that every user of this host can read, a sentence each.
    pub readable_files: Vec<String>,
    pub(super) ca_file: Option<PathBuf>,
    pub(super) proxy: Option<String>,
    pub(super) login: Login,
}

/// Who uses the store.
#[derive(Clone, Debug)]
pub(super) enum Login {
    /// With the keys of an S3 API.
    S3(Credentials),
    /// With a token of Swift.
    #[cfg(feature = "swift")]
    Swift(super::swift::login::SwiftLogin),
}

/// An access key and its secret.
#[derive(Clone, Debug)]
pub(super) struct Credentials {
    pub(super) key: String,
    pub(super) secret: Secret,
    pub(super) token: Option<Secret>,
}

impl ObjectSettings {
    /// Reads the settings. An error names the places that were looked at.
    pub fn find(sources: &ObjectSources) -> Result<Self, ObjectError> {
        let profile = sources.profile.as_deref().or_else(|| sources.variable("AWS_PROFILE")).unwrap_or("default");
        let files = Files::read(sources)?;
        let found = if sources.credentials_file.is_some() || sources.profile.is_some() {
            files.credentials(profile)?
        } else {
            match of_variables(sources)? {
                Some(found) => Some((found, "the environment".to_owned())),
                None => files.credentials(profile)?,
            }
        };
        let (credentials, credentials_from) = found.ok_or_else(|| ObjectError::NoCredentials {
            profile: shown::text(profile),
            looked: files.paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", "),
        })?;
        let mut readable_files = Vec::new();
        if credentials_from != "the environment" {
            readable_files.extend(files.read.iter().filter_map(|(path, _)| files::doubt(path)));
        }
        let variable = |names: &[&str]| names.iter().find_map(|name| sources.variable(name)).map(str::to_owned);
        let endpoint = sources.endpoint.clone();
        let endpoint = endpoint.or_else(|| variable(&["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"]));
        let endpoint = endpoint.or_else(|| files.value(profile, "endpoint_url")).ok_or(ObjectError::NoEndpoint)?;
        let endpoint = endpoint_of(&endpoint)?;
        let mut doubts = Vec::new();
        if endpoint.starts_with("http://") && !is_local(&endpoint) {
            doubts
                .push(format!("{endpoint} is not encrypted: backups and signatures can be read on the way; use https"));
        }
        let region = sources.region.clone().or_else(|| variable(&["AWS_REGION", "AWS_DEFAULT_REGION"]));
        let region = region.or_else(|| files.value(profile, "region")).unwrap_or_else(|| USUAL_REGION.to_owned());
        let is_region = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if region.is_empty() || !region.chars().all(is_region) {
            let what = "a region has letters, digits and - _ .".to_owned();
            return Err(ObjectError::Settings { place: format!("the region {}", shown::text(&region)), what });
        }
        let ca_file = sources.ca_file.clone().or_else(|| variable(&["AWS_CA_BUNDLE"]).map(PathBuf::from));
        let path_style = sources.path_style.unwrap_or(true);
        Ok(Self {
            endpoint,
            region,
            path_style,
            credentials_from,
            doubts,
            readable_files,
            ca_file,
            proxy: sources.proxy.clone(),
            login: Login::S3(credentials),
        })
    }
}

fn endpoint_of(text: &str) -> Result<String, ObjectError> {
    let wrong =
        |what: &str| ObjectError::Settings { place: "the endpoint of [store]".to_owned(), what: what.to_owned() };
    let endpoint = address(text).map_err(wrong)?;
    match Url::parse(&endpoint) {
        Ok(url) if url.has_host() => Ok(endpoint),
        _ => Err(wrong("an address is like https://s3.example.com")),
    }
}

pub(super) fn is_local(endpoint: &str) -> bool {
    Url::parse(endpoint).ok().is_some_and(|url| matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]")))
}

fn of_variables(sources: &ObjectSources) -> Result<Option<Credentials>, ObjectError> {
    let (key, secret) = (sources.variable("AWS_ACCESS_KEY_ID"), sources.variable("AWS_SECRET_ACCESS_KEY"));
    match (key, secret) {
        (None, None) => Ok(None),
        (Some(key), Some(secret)) => {
            credentials(key, secret, sources.variable("AWS_SESSION_TOKEN"), "the environment").map(Some)
        }
        _ => Err(ObjectError::Settings {
            place: "the environment".to_owned(),
            what: "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY belong together: one of them is not set".to_owned(),
        }),
    }
}

fn credentials(key: &str, secret: &str, token: Option<&str>, place: &str) -> Result<Credentials, ObjectError> {
    let is_plain = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
    if !is_plain(key) || !is_plain(secret) || !token.is_none_or(is_plain) {
        let what = "an access key, its secret and a token have no spaces and no letters beyond ASCII".to_owned();
        return Err(ObjectError::Settings { place: place.to_owned(), what });
    }
    Ok(Credentials { key: key.to_owned(), secret: Secret::new(secret), token: token.map(Secret::new) })
}

/// The files of profiles.
struct Files {
    /// Those looked for.
    paths: Vec<PathBuf>,
    read: Vec<(PathBuf, Profiles)>,
}

impl Files {
    fn read(sources: &ObjectSources) -> Result<Self, ObjectError> {
        let home = |name: &str| sources.variable("HOME").map(|home| Path::new(home).join(".aws").join(name));
        let paths: Vec<PathBuf> = if let Some(file) = &sources.credentials_file {
            vec![file.clone()]
        } else {
            let of = |variable: &str, name: &str| sources.variable(variable).map(PathBuf::from).or_else(|| home(name));
            let both = [of("AWS_SHARED_CREDENTIALS_FILE", "credentials"), of("AWS_CONFIG_FILE", "config")];
            both.into_iter().flatten().collect()
        };
        let mut read = Vec::new();
        for path in &paths {
            let Some(text) = files::read(path)? else {
                if sources.credentials_file.is_some() {
                    let what = "it does not exist; `credentials_file` in [store] names it".to_owned();
                    return Err(FileError::wrong(path, what).into());
                }
                continue;
            };
            let profiles = profile::parse(&text).map_err(|what| FileError::wrong(path, what))?;
            read.push((path.clone(), profiles));
        }
        Ok(Self { paths, read })
    }

    fn credentials(&self, profile: &str) -> Result<Option<(Credentials, String)>, ObjectError> {
        for (path, profiles) in &self.read {
            let Some(keys) = profiles.get(profile) else { continue };
            let of = |name: &str| keys.get(name).map(String::as_str).filter(|value| !value.is_empty());
            let (Some(key), Some(secret)) = (of("aws_access_key_id"), of("aws_secret_access_key")) else { continue };
            let place = format!("the profile {} of {}", shown::text(profile), path.display());
            return Ok(Some((credentials(key, secret, of("aws_session_token"), &place)?, place)));
        }
        Ok(None)
    }

    fn value(&self, profile: &str, key: &str) -> Option<String> {
        self.read.iter().find_map(|(_, profiles)| profiles.get(profile)?.get(key).cloned())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    use super::{Credentials, Login, ObjectError, ObjectSettings, ObjectSources};
    use crate::http::files::FileError;

    const SECRET: &str = "geheim-4711";

    fn keys(settings: &ObjectSettings) -> &Credentials {
        match &settings.login {
            Login::S3(credentials) => credentials,
            #[cfg(feature = "swift")]
            Login::Swift(_) => panic!("keys of an S3 API were asked for"),
        }
    }

    fn sources(pairs: &[(&str, &str)]) -> ObjectSources {
        let environment = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        ObjectSources { environment, ..ObjectSources::default() }
    }

    fn file(path: &Path, text: &str, mode: u32) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn the_environment_is_enough() {
        let found = ObjectSettings::find(&sources(&[
            ("AWS_ENDPOINT_URL", "https://s3.example.com/"),
            ("AWS_ACCESS_KEY_ID", "KEY"),
            ("AWS_SECRET_ACCESS_KEY", SECRET),
        ]))
        .unwrap();
        assert_eq!((found.endpoint.as_str(), found.region.as_str()), ("https://s3.example.com", "us-east-1"));
        assert!(found.path_style && found.doubts.is_empty(), "{found:?}");
        assert!(!format!("{found:?}").contains(SECRET));
    }

    #[test]
    fn a_profile_has_credentials_endpoint_and_region() {
        let home = tempfile::tempdir().unwrap();
        let profile =
            format!("[night]\naws_access_key_id = KEY\naws_secret_access_key = {SECRET}\naws_session_token = T\n");
        file(&home.path().join(".aws/credentials"), &profile, 0o604);
        file(
            &home.path().join(".aws/config"),
            "[profile night]\nregion = r-1\nendpoint_url = http://s3.example.com\n",
            0o600,
        );
        let found =
            ObjectSettings::find(&sources(&[("HOME", home.path().to_str().unwrap()), ("AWS_PROFILE", "night")]));
        let found = found.unwrap();
        assert_eq!((found.region.as_str(), found.endpoint.as_str()), ("r-1", "http://s3.example.com"));
        assert!(keys(&found).token.is_some());
        // Everyone can read the secret, and the address is not encrypted.
        assert_eq!((found.readable_files.len(), found.doubts.len()), (1, 1), "{found:?}");
    }

    #[test]
    fn a_named_file_is_used_before_the_environment() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys");
        let from = |key: &str| {
            let mut from = sources(&[
                ("AWS_ACCESS_KEY_ID", "OTHER"),
                ("AWS_SECRET_ACCESS_KEY", "other"),
                ("AWS_ENDPOINT_URL", "http://127.0.0.1:1"),
            ]);
            from.credentials_file = Some(path.clone());
            file(&path, &format!("[default]\naws_access_key_id = {key}\naws_secret_access_key = {SECRET}\n"), 0o600);
            ObjectSettings::find(&from)
        };
        assert_eq!(keys(&from("MINE").unwrap()).key, "MINE");
        let error = from("MI NE").unwrap_err();
        assert!(matches!(error, ObjectError::Settings { .. }) && !error.to_string().contains("MI NE"), "{error}");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o622)).unwrap();
        let mut named = sources(&[]);
        named.credentials_file = Some(path.clone());
        assert!(matches!(ObjectSettings::find(&named), Err(ObjectError::File(FileError::Wrong { .. }))));
        fs::remove_file(&path).unwrap();
        assert!(matches!(ObjectSettings::find(&named), Err(ObjectError::File(FileError::Wrong { .. }))));
    }

    #[test]
    fn what_is_missing_is_named() {
        let empty = tempfile::tempdir().unwrap();
        let home = ("HOME", empty.path().to_str().unwrap());
        let error =
            ObjectSettings::find(&sources(&[home, ("AWS_ENDPOINT_URL", "https://s3.example.com")])).unwrap_err();
        assert!(error.to_string().contains(".aws/credentials"), "{error}");
        let keys = [("AWS_ACCESS_KEY_ID", "KEY"), ("AWS_SECRET_ACCESS_KEY", SECRET)];
        assert!(matches!(ObjectSettings::find(&sources(&[home, keys[0], keys[1]])), Err(ObjectError::NoEndpoint)));
        assert!(matches!(ObjectSettings::find(&sources(&[home, keys[0]])), Err(ObjectError::Settings { .. })));
        for endpoint in ["s3.example.com", "https://u:p@s3.example.com", "https://", "http://x y"] {
            let error =
                ObjectSettings::find(&sources(&[keys[0], keys[1], ("AWS_ENDPOINT_URL", endpoint)])).unwrap_err();
            assert!(matches!(error, ObjectError::Settings { .. }), "{endpoint}: {error}");
        }
    }
}
