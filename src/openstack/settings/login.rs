//! The user or application credential that logs in, and the scope of its token.

use serde_json::{Value, json};

use crate::http::Secret;
use crate::shown;

/// A login: who, and for which scope.
#[derive(Clone, Debug)]
pub(in crate::openstack) struct Login {
    identity: Identity,
    scope: Scope,
}

/// Who logs in.
#[derive(Clone, Debug)]
enum Identity {
    Password { user: Named, password: Secret },
    ApplicationCredential { id: Option<String>, name: String, user: Named, secret: Secret },
}

/// An id, or a name in a domain.
#[derive(Clone, Debug, Default)]
struct Named {
    id: Option<String>,
    name: Option<String>,
    domain: Option<Domain>,
}

#[derive(Clone, Debug)]
enum Domain {
    Id(String),
    Name(String),
}

/// The scope of a token.
#[derive(Clone, Debug)]
enum Scope {
    /// The scope of the credential: an application credential belongs to a project.
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

impl Login {
    /// Reads the login from `given`, which returns the value of a key. The error says what is missing or unsupported.
    pub(super) fn from_keys(given: &dyn Fn(&str) -> Option<String>) -> Result<Self, String> {
        let missing = |what: &str| format!("{what} is missing");
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
                return Err(what);
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
        Ok(Self { identity, scope })
    }

    /// The body of `POST /auth/tokens`.
    pub(in crate::openstack) fn auth_body(&self) -> Value {
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

    pub(in crate::openstack) fn secret(&self) -> &Secret {
        match &self.identity {
            Identity::Password { password, .. } => password,
            Identity::ApplicationCredential { secret, .. } => secret,
        }
    }

    /// For messages.
    pub(in crate::openstack) fn who(&self) -> String {
        match &self.identity {
            Identity::Password { user, .. } => format!("the user {}", user.shown()),
            Identity::ApplicationCredential { id, name, .. } => {
                format!("the application credential {}", shown::text(id.as_ref().unwrap_or(name)))
            }
        }
    }
}
