//! How to reach an HTTP server: credentials, TLS, redirects. Prometheus' `http_config`, inlined in a section.

use std::path::PathBuf;

use davy_egress::{Auth, HttpConfig, TlsConfig};

use super::reader::{Field, Section};
use super::secrets::secret_or_file;

/// `http_config`, as receivers and actions have it: a section of its own, and no redirects, which could carry a message
/// or a call to a host nobody named.
pub(super) fn section(s: &mut Section<'_>, default: &HttpConfig) -> HttpConfig {
    let nested = |f: &Field<'_>| {
        f.section(|s| {
            s.only("follow_redirects", &["false"], "messages and calls go where the file says");
            Some(HttpConfig { follow_redirects: false, ..read(s) })
        })
    };
    s.or("http_config", default.clone(), |f| nested(f))
}

/// The keys that every HTTP client of the file has.
pub(super) fn read(section: &mut Section<'_>) -> HttpConfig {
    let basic = section.get("basic_auth").map(|f| (f.clone(), basic_auth(&f)));
    let authorization = section.get("authorization").map(|f| (f.clone(), authorization(&f)));
    let bearer = secret_or_file(section, "bearer_token", "bearer_token_file")
        .map(|credentials| Auth::Authorization { scheme: "Bearer".to_owned(), credentials });
    if let (Some(_), Some((field, _))) = (&basic, &authorization) {
        field.error("`basic_auth` and `authorization` are both given; keep one of them");
    }
    if let (Some(_), Some((field, _))) = (&bearer, basic.as_ref().or(authorization.as_ref())) {
        field.error("`bearer_token` is given beside it; keep one of them");
    }
    let auth = basic.or(authorization).map_or(bearer, |(_, auth)| auth);
    let tls = section.or("tls_config", TlsConfig::default(), tls);
    let follow_redirects = section.or("follow_redirects", false, Field::bool);
    section.only("enable_http2", &["true"], "HTTP/2 is spoken where the server offers it");
    section.only("proxy_from_environment", &["false"], "Davy connects directly");
    section.not_yet(
        &["oauth2", "proxy_url", "proxy_connect_header", "no_proxy", "http_headers"],
        "Davy connects directly, with `basic_auth` or `authorization`",
    );
    HttpConfig { auth, tls, follow_redirects }
}

fn basic_auth(field: &Field<'_>) -> Option<Auth> {
    field.section(|s| {
        s.not_yet(&["username_file"], "write `username`");
        let username = s.required("username", "who to log in as").and_then(|f| f.name());
        let password = secret_or_file(s, "password", "password_file");
        if password.is_none() && username.is_some() {
            s.missing_one_of("password", "password_file");
        }
        Some(Auth::Basic { username: username?.to_owned(), password: password? })
    })
}

fn authorization(field: &Field<'_>) -> Option<Auth> {
    field.section(|s| {
        let scheme = s.or("type", "Bearer", |f| f.parse(auth_scheme));
        let credentials = secret_or_file(s, "credentials", "credentials_file");
        if credentials.is_none() {
            s.missing_one_of("credentials", "credentials_file");
        }
        Some(Auth::Authorization { scheme: scheme.to_owned(), credentials: credentials? })
    })
}

/// RFC 9110's token.
fn auth_scheme(text: &str) -> Result<&str, String> {
    if text.eq_ignore_ascii_case("basic") {
        return Err("write `basic_auth` with username and password".to_owned());
    }
    let token =
        !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c));
    if token { Ok(text) } else { Err("expected one word such as Bearer".to_owned()) }
}

/// `tls_config`.
pub(super) fn tls(field: &Field<'_>) -> Option<TlsConfig> {
    field.section(|s| {
        if let Some(skip) = s.get("insecure_skip_verify")
            && skip.bool() == Some(true)
        {
            skip.error(
                "certificates are always checked: anyone on the way could otherwise feed Davy what leads to a \
                 rollback; name the server's CA (or its own certificate) in `ca_file`, and its name in `server_name`",
            );
        }
        s.not_yet(&["ca", "cert", "key", "ca_ref", "cert_ref", "key_ref"], "write it to a file and name that");
        s.not_yet(&["min_version", "max_version"], "TLS 1.2 and 1.3 are spoken");
        let ca_file = readable(s, "ca_file");
        let cert_file = readable(s, "cert_file");
        let key_file = readable(s, "key_file");
        if cert_file.is_some() != key_file.is_some() {
            s.error("`cert_file` and `key_file` belong together; one of them is missing");
        }
        let server_name = s.get("server_name").and_then(|f| f.name()).map(str::to_owned);
        Some(TlsConfig { ca_file, cert_file, key_file, server_name })
    })
}

/// A file that can be opened now; it is read at each use.
fn readable(section: &mut Section<'_>, key: &'static str) -> Option<PathBuf> {
    let field = section.get(key)?;
    let path = field.path()?;
    match std::fs::metadata(&path) {
        Ok(m) if m.is_file() => {}
        Ok(_) => field.error(format!("{} is not a regular file", path.display())),
        Err(e) => field.error(format!("cannot read {}: {e}", path.display())),
    }
    Some(path)
}
