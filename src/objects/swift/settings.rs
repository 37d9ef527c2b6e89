//! Which Swift, and as whom: a cloud of clouds.yaml or the variables `OS_*`, or Swift's own v1 log-in.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::login::SwiftLogin;
use crate::http::files::{self, FileError};
use crate::http::{Secret, address};
use crate::objects::error::ObjectError;
use crate::objects::profile;
use crate::objects::settings::{Login, ObjectSettings, is_local};
use crate::openstack::{CloudError, CloudSettings, Sources};
use crate::shown;

/// Where the settings of `swift://` are looked for.
#[derive(Clone, Debug, Default)]
pub struct SwiftSources {
    /// The name of a cloud in clouds.yaml; `OS_CLOUD` if `None`.
    pub cloud: Option<String>,
    /// The clouds.yaml; the usual places if `None`.
    pub clouds_file: Option<PathBuf>,
    /// The region; that of the cloud if `None`.
    pub region: Option<String>,
    /// The interface of the catalogue: `public`, `internal` or `admin`; that of the cloud if `None`.
    pub interface: Option<String>,
    /// The address of the v1 log-in, where there is no Keystone; `ST_AUTH` if `None`.
    pub endpoint: Option<String>,
    /// A file of profiles with `user` and `key` of the v1 log-in; `ST_USER` and `ST_KEY` if `None`.
    pub credentials_file: Option<PathBuf>,
    /// The profile in that file; `default` if `None`.
    pub profile: Option<String>,
    /// A file with the authorities that sign the servers' certificates; the cloud's, or the system's if `None`.
    pub ca_file: Option<PathBuf>,
    /// The proxy; that of the environment if `None`.
    pub proxy: Option<String>,
    /// Variables of the environment: those that begin with `OS_` or `ST_`, `HOME` and `XDG_CONFIG_HOME`.
    pub environment: BTreeMap<String, String>,
}

impl SwiftSources {
    /// With the environment of this process.
    pub fn from_environment() -> Self {
        let mut environment = Sources::from_environment().environment;
        let v1 = ["ST_AUTH", "ST_USER", "ST_KEY"].map(|name| Some((name.to_owned(), std::env::var(name).ok()?)));
        environment.extend(v1.into_iter().flatten());
        Self { environment, ..Self::default() }
    }

    fn variable(&self, name: &str) -> Option<&str> {
        self.environment.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// The address of the v1 log-in, if that is meant: a cloud goes first, and `endpoint` before what the environment says.
    fn v1_url(&self) -> Option<&str> {
        if self.cloud.is_some() || self.clouds_file.is_some() {
            return None;
        }
        let of_environment = || {
            self.variable("ST_AUTH")
                .filter(|_| self.variable("OS_CLOUD").is_none() && self.variable("OS_AUTH_URL").is_none())
        };
        self.endpoint.as_deref().or_else(of_environment)
    }
}

impl ObjectSettings {
    /// The settings of `swift://`. An error names what is missing.
    pub fn find_swift(sources: &SwiftSources) -> Result<Self, ObjectError> {
        let (mut doubts, mut readable_files) = (Vec::new(), Vec::new());
        let (login, from, region, ca_file) = if let Some(url) = sources.v1_url() {
            let (login, from) = v1(sources, url, &mut readable_files)?;
            (login, from, String::new(), sources.ca_file.clone())
        } else {
            let cloud = keystone(sources)?;
            readable_files.extend(cloud.doubts.iter().cloned());
            let from = format!("{} of {}", cloud.who(), shown::text(&cloud.name));
            let (region, ca_file) = (cloud.region.clone(), cloud.ca_file().map(PathBuf::from));
            (SwiftLogin::Keystone(Box::new(cloud)), from, region.unwrap_or_default(), ca_file)
        };
        let endpoint = login.url().to_owned();
        if endpoint.starts_with("http://") && !is_local(&endpoint) {
            doubts.push(format!("{endpoint} is not encrypted: the password can be read on the way; use https"));
        }
        Ok(Self {
            endpoint,
            region,
            path_style: true,
            credentials_from: from,
            doubts,
            readable_files,
            ca_file,
            proxy: sources.proxy.clone(),
            login: Login::Swift(login),
        })
    }
}

fn keystone(sources: &SwiftSources) -> Result<CloudSettings, ObjectError> {
    if sources.credentials_file.is_some() && sources.cloud.is_none() && sources.clouds_file.is_none() {
        let what = "`credentials_file` has a user and a key of Swift's v1 log-in, whose address is missing: set `endpoint`; for Keystone set `cloud` instead".to_owned();
        return Err(ObjectError::Settings { place: "[store]".to_owned(), what });
    }
    let found = CloudSettings::find(&Sources {
        cloud: sources.cloud.clone(),
        clouds_file: sources.clouds_file.clone(),
        ca_file: sources.ca_file.clone(),
        environment: sources.environment.clone(),
    });
    let mut cloud = found.map_err(|error| match error {
        CloudError::NoCloud { looked } => ObjectError::NoCloud { looked },
        CloudError::File(error) => error.into(),
        CloudError::Settings { place, what } => ObjectError::Settings { place, what },
        other => ObjectError::LogIn { why: other.to_string() },
    })?;
    cloud.region = sources.region.clone().or(cloud.region);
    cloud.interface = sources.interface.clone().unwrap_or(cloud.interface);
    Ok(cloud)
}

fn v1(
    sources: &SwiftSources,
    url: &str,
    readable_files: &mut Vec<String>,
) -> Result<(SwiftLogin, String), ObjectError> {
    let wrong =
        |what: &str| ObjectError::Settings { place: "the address of the v1 log-in".to_owned(), what: what.to_owned() };
    let url = address(url).map_err(wrong)?;
    let (user, key, from) = if let Some(file) = &sources.credentials_file {
        let missing = |what: &str| ObjectError::from(FileError::wrong(file, what.to_owned()));
        let text =
            files::read(file)?.ok_or_else(|| missing("it does not exist; `credentials_file` in [store] names it"))?;
        let name = sources.profile.as_deref().unwrap_or("default");
        let profiles = profile::parse(&text).map_err(|what| missing(&what))?;
        let keys = profiles.get(name).ok_or_else(|| missing(&format!("it has no profile {}", shown::text(name))))?;
        let of = |name: &str| keys.get(name).filter(|value| !value.is_empty()).cloned();
        let both = of("user").zip(of("key"));
        let (user, key) =
            both.ok_or_else(|| missing(&format!("the profile {} lacks `user` or `key`", shown::text(name))))?;
        readable_files.extend(files::doubt(file));
        (user, key, format!("the profile {} of {}", shown::text(name), file.display()))
    } else {
        let both = sources.variable("ST_USER").zip(sources.variable("ST_KEY"));
        let (user, key) = both.ok_or_else(|| ObjectError::Settings {
                place: "the environment".to_owned(),
                what: "ST_USER and ST_KEY are needed for the v1 log-in of Swift, or `credentials_file` in [store] with `user` and `key`".to_owned(),
            })?;
        (user.to_owned(), key.to_owned(), "the environment".to_owned())
    };
    let from = format!("the user {} of {from}", shown::text(&user));
    Ok((SwiftLogin::V1 { url, user, key: Secret::new(key) }, from))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::{Login, ObjectError, ObjectSettings, SwiftLogin, SwiftSources};

    const SECRET: &str = "geheim-4711";

    fn sources(pairs: &[(&str, &str)]) -> SwiftSources {
        let environment = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        SwiftSources { environment, ..SwiftSources::default() }
    }

    fn is_v1(settings: &ObjectSettings) -> bool {
        matches!(&settings.login, Login::Swift(SwiftLogin::V1 { .. }))
    }

    const V1: [(&str, &str); 3] =
        [("ST_AUTH", "https://swift.example.com/auth/v1.0"), ("ST_USER", "test:owner"), ("ST_KEY", SECRET)];
    const OS: [(&str, &str); 4] = [
        ("OS_AUTH_URL", "https://cloud.example.com:5000"),
        ("OS_APPLICATION_CREDENTIAL_ID", "0123"),
        ("OS_APPLICATION_CREDENTIAL_SECRET", SECRET),
        ("OS_REGION_NAME", "one"),
    ];

    #[test]
    fn keystone_goes_first_and_settings_go_before_the_environment() {
        let found = ObjectSettings::find_swift(&sources(&V1)).unwrap();
        assert!(is_v1(&found) && found.credentials_from.contains("test:owner"), "{found:?}");
        assert!(!format!("{found:?}").contains(SECRET));
        let found = ObjectSettings::find_swift(&sources(&[&V1[..], &OS[..]].concat())).unwrap();
        assert!(!is_v1(&found) && found.region == "one", "{found:?}");
        assert_eq!(found.endpoint, "https://cloud.example.com:5000/v3");
        assert!(!format!("{found:?}").contains(SECRET));
        let named = SwiftSources { region: Some("two".to_owned()), ..sources(&OS) };
        assert_eq!(ObjectSettings::find_swift(&named).unwrap().region, "two");
        let named = SwiftSources {
            endpoint: Some("http://swift.example.com/auth/v1.0".to_owned()),
            ..sources(&[&V1[..], &OS[..]].concat())
        };
        let found = ObjectSettings::find_swift(&named).unwrap();
        assert!(is_v1(&found) && found.doubts.len() == 1, "{found:?}");
    }

    #[test]
    fn a_file_has_a_user_and_a_key() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys");
        let with = |text: &str, mode: u32, endpoint: Option<&str>| {
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let endpoint = endpoint.map(str::to_owned);
            ObjectSettings::find_swift(&SwiftSources { credentials_file: Some(path.clone()), endpoint, ..sources(&[]) })
        };
        let url = Some("https://swift.example.com/auth/v1.0");
        let good = format!("[default]\nuser = test:owner\nkey = {SECRET}\n");
        assert!(is_v1(&with(&good, 0o600, url).unwrap()));
        assert_eq!(with(&good, 0o604, url).unwrap().readable_files.len(), 1);
        for (text, mode, endpoint) in [
            (&*good, 0o622, url),
            (&good, 0o600, None),
            ("[default]\nuser = x\n", 0o600, url),
            ("[other]\nuser = x\nkey = y\n", 0o600, url),
            (&good, 0o600, Some("swift.example.com")),
        ] {
            let error = with(text, mode, endpoint).unwrap_err();
            assert!(!error.to_string().contains(SECRET), "{error}");
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        let error = ObjectSettings::find_swift(&sources(&[])).unwrap_err();
        assert!(matches!(&error, ObjectError::NoCloud { .. }) && error.to_string().contains("[store]"), "{error}");
        let error = ObjectSettings::find_swift(&sources(&V1[..2])).unwrap_err();
        assert!(error.to_string().contains("ST_KEY"), "{error}");
    }
}
