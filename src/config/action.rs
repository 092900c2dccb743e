//! `actions`: named actuators, a mapping of name to kind.

use std::path::PathBuf;
use std::time::Duration;

use davy_alerting::config::{
    ActionSpec, ActuatorConfig, Destination, EtcdAction, HaproxyAction, HaproxySocket, KubernetesAction,
    KubernetesObject, NginxAction, WebhookAction,
};
use davy_egress::{HttpConfig, TlsConfig};
use davy_model::name;
use secrecy::SecretString;

use super::http;
use super::reader::{Field, Section};
use super::receiver::{secret_url, smarthost, webhook_keys};
use super::secrets::read_secret;
use super::value::positive_duration;

const TIMEOUT: Duration = Duration::from_secs(10);
const KINDS: &str = "webhook, haproxy, nginx, etcd, kubernetes, argo_rollouts, istio or gateway_api";
/// Where a pod finds its own account, and the API server.
const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const SERVER: &str = "https://kubernetes.default.svc";

pub(super) fn read(top: &mut Section<'_>) -> Vec<ActionSpec> {
    let Some(field) = top.get("actions") else { return Vec::new() };
    field.entries().into_iter().filter_map(|(name, f)| action(name, &f)).collect()
}

fn action(name: String, field: &Field<'_>) -> Option<ActionSpec> {
    if name.is_empty()
        || name.len() > 64
        || !name.chars().all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c))
    {
        field.error("the name of an action is made of up to 64 letters, digits, `-`, `_` and `.`");
    }
    let actuator = field.section(|s| {
        let kinds = [
            s.get("webhook").map(|f| webhook(&f)),
            s.get("haproxy").map(|f| haproxy(&f)),
            s.get("nginx").map(|f| nginx(&f)),
            s.get("etcd").map(|f| etcd(&f)),
            s.get("kubernetes").map(|f| kubernetes(&f, "deployment", deployment)),
            s.get("argo_rollouts").map(|f| kubernetes(&f, "rollout", rollout)),
            s.get("istio").map(|f| kubernetes(&f, "virtual_service", virtual_service)),
            s.get("gateway_api").map(|f| kubernetes(&f, "http_route", http_route)),
        ];
        let mut given = kinds.into_iter().flatten();
        match (given.next(), given.next()) {
            (Some(kind), None) => kind,
            (None, _) => {
                s.error(format!("what the action calls is missing: {KINDS}"));
                None
            }
            (Some(_), Some(_)) => {
                s.error(format!("an action has one kind: {KINDS}"));
                None
            }
        }
    })?;
    Some(ActionSpec { name, actuator })
}

fn timeout(s: &mut Section<'_>) -> Duration {
    s.or("timeout", TIMEOUT, |f| f.parse(positive_duration))
}

fn webhook(field: &Field<'_>) -> Option<ActuatorConfig> {
    field.section(|s| {
        let (url, signing_secret, timeout) = webhook_keys(s);
        let state_url = secret_url(s, "state_url", "state_url_file");
        let http = http::section(s, &HttpConfig::default());
        Some(ActuatorConfig::Webhook(WebhookAction { url: url?, state_url, signing_secret, timeout, http }))
    })
}

fn etcd(field: &Field<'_>) -> Option<ActuatorConfig> {
    field.section(|s| {
        let endpoint = s.required("endpoint", "such as http://127.0.0.1:2379").and_then(|f| http_url(&f));
        let key = s.required("key", "the key that holds the split").and_then(|f| f.name());
        let username = s.get("username").and_then(|f| f.name()).map(str::to_owned);
        let password = read_secret(s, "password", "password_file");
        if username.is_some() != password.is_some() {
            s.error("`username` and `password` (or `password_file`) belong together");
        }
        let timeout = timeout(s);
        let auth = username.zip(password);
        let tls = s.or("tls_config", TlsConfig::default(), http::tls);
        let http = HttpConfig { tls, ..HttpConfig::default() };
        let key = key?.to_owned();
        Some(ActuatorConfig::Etcd(EtcdAction { endpoint: endpoint?, key, auth, timeout, http }))
    })
}

fn http_url(field: &Field<'_>) -> Option<SecretString> {
    let text = field.text()?;
    if text.starts_with("http://") || text.starts_with("https://") {
        return Some(SecretString::from(text));
    }
    field.error("expected an address that begins with http:// or https://");
    None
}

fn haproxy(field: &Field<'_>) -> Option<ActuatorConfig> {
    field.section(|s| {
        let socket = s.get("socket").and_then(|f| f.text()).map(|t| HaproxySocket::Unix(PathBuf::from(t)));
        let address = s.get("address").and_then(|f| f.parse(smarthost));
        let address = address.map(|(host, port)| HaproxySocket::Tcp(host, port));
        if socket.is_some() == address.is_some() {
            s.error("give one of `socket` (a path) and `address` (host:port): where HAProxy's runtime API listens");
        }
        let backend = s.required("backend", "whose servers are weighted").and_then(|f| plain(&f));
        let baseline = servers(s, "baseline");
        let canary = servers(s, "canary");
        let timeout = timeout(s);
        Some(ActuatorConfig::Haproxy(HaproxyAction {
            socket: socket.or(address)?,
            backend: backend?,
            baseline: baseline?,
            canary: canary?,
            timeout,
        }))
    })
}

fn servers(s: &mut Section<'_>, key: &'static str) -> Option<Vec<String>> {
    let names = s.list(key, |f| plain(&f));
    if names.is_empty() {
        s.error(format!("`{key}` is missing: the names of its servers, such as [web1, web2]"));
        return None;
    }
    Some(names)
}

/// Ends up in a command or a file of a proxy.
fn plain(field: &Field<'_>) -> Option<String> {
    let text = field.name()?;
    if text.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c)) {
        return Some(text.to_owned());
    }
    field.error("expected letters, digits, `.`, `_` and `-` only");
    None
}

fn nginx(field: &Field<'_>) -> Option<ActuatorConfig> {
    field.section(|s| {
        let file = s.required("file", "the file that Davy owns, included by nginx").and_then(|f| f.text());
        let variable = s.required("variable", "what the split is called, without $").and_then(|f| plain(&f));
        let baseline = s.required("baseline", "an upstream").and_then(|f| plain(&f));
        let canary = s.required("canary", "an upstream").and_then(|f| plain(&f));
        let key = s.or("key", "$request_id".to_owned(), |f| {
            let text = f.text()?;
            let good = |c: char| c.is_ascii_alphanumeric() || "$_{}.-".contains(c);
            if text.is_empty() || !text.chars().all(good) {
                f.error(
                    "expected variables of nginx, such as $request_id or ${remote_addr}${http_user_agent}",
                );
                return None;
            }
            Some(text.to_owned())
        });
        let test = command(s, "test", &["nginx", "-t"]);
        let reload = command(s, "reload", &["nginx", "-s", "reload"]);
        let timeout = timeout(s);
        Some(ActuatorConfig::Nginx(NginxAction {
            file: PathBuf::from(file?),
            key,
            variable: variable?,
            baseline: baseline?,
            canary: canary?,
            test,
            reload,
            timeout,
        }))
    })
}

/// A program with its arguments; there is no shell.
fn command(s: &mut Section<'_>, key: &'static str, default: &[&str]) -> Vec<String> {
    if s.get(key).is_none() {
        return default.iter().map(|w| (*w).to_owned()).collect();
    }
    s.list(key, |f| f.text().map(str::to_owned))
}

fn kubernetes(
    field: &Field<'_>,
    object_key: &'static str,
    object: impl FnOnce(&mut Section<'_>) -> Option<KubernetesObject>,
) -> Option<ActuatorConfig> {
    field.section(|s| {
        let named = s.required(object_key, "namespace/name of the object").and_then(|f| {
            let text = f.text()?;
            let good = |t: &str| {
                !t.is_empty()
                    && t.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.".contains(c))
            };
            let parts = text.split_once('/').filter(|(namespace, name)| good(namespace) && good(name));
            if parts.is_none() {
                f.error("expected namespace/name, such as shop/checkout");
            }
            parts.map(|(namespace, name)| (namespace.to_owned(), name.to_owned()))
        });
        let object = object(s);
        let given = s.get("server").and_then(|f| http_url(&f));
        let outside = given.is_some();
        let own = |file: &str| (!outside).then(|| PathBuf::from(ACCOUNT).join(file));
        let path =
            |s: &mut Section<'_>, key: &'static str| s.get(key).and_then(|f| f.text()).map(PathBuf::from);
        let token_file = path(s, "token_file").or_else(|| own("token"));
        let ca_file = path(s, "ca_file").or_else(|| own("ca.crt"));
        let timeout = timeout(s);
        let (namespace, name) = named?;
        Some(ActuatorConfig::Kubernetes(KubernetesAction {
            object: object?,
            namespace,
            name,
            server: given.unwrap_or_else(|| SecretString::from(SERVER)),
            token_file,
            ca_file,
            timeout,
        }))
    })
}

fn version_label(s: &mut Section<'_>) -> String {
    s.or("version_label", name::VERSION.to_owned(), |f| f.name().map(str::to_owned))
}

#[expect(clippy::unnecessary_wraps, reason = "the other kinds can be wrong")]
fn deployment(s: &mut Section<'_>) -> Option<KubernetesObject> {
    Some(KubernetesObject::Deployment { version_label: version_label(s) })
}

#[expect(clippy::unnecessary_wraps, reason = "the other kinds can be wrong")]
fn rollout(s: &mut Section<'_>) -> Option<KubernetesObject> {
    Some(KubernetesObject::Rollout { version_label: version_label(s) })
}

fn virtual_service(s: &mut Section<'_>) -> Option<KubernetesObject> {
    let baseline = s.required("baseline", "{host: …, subset: …}").and_then(|f| destination(&f));
    let canary = s.required("canary", "{host: …, subset: …}").and_then(|f| destination(&f));
    Some(KubernetesObject::VirtualService { baseline: baseline?, canary: canary? })
}

fn destination(field: &Field<'_>) -> Option<Destination> {
    field.section(|s| {
        let host = s.required("host", "the destination's host").and_then(|f| f.name());
        let subset = s.get("subset").and_then(|f| f.name()).map(str::to_owned);
        Some(Destination { host: host?.to_owned(), subset })
    })
}

fn http_route(s: &mut Section<'_>) -> Option<KubernetesObject> {
    let name = |f: Option<Field<'_>>| f.and_then(|f| f.name().map(str::to_owned));
    let baseline = name(s.required("baseline", "the name of its backend"));
    let canary = name(s.required("canary", "the name of its backend"));
    Some(KubernetesObject::HttpRoute { baseline: baseline?, canary: canary? })
}
