//! The way out: which addresses may be reached, and the one kind of HTTP client that reaches them.
//!
//! URLs come from the file and may point at loopback or private networks. Never at link-local, metadata,
//! multicast or unspecified addresses, whatever a name resolves to: every address is checked where the
//! connection is made, so that a name cannot change its mind in between. No redirects, no proxies.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{Certificate, Client, ClientBuilder, Response, Url, redirect, retry};
use secrecy::{ExposeSecret, SecretString};

/// Longest answer that is read.
pub(crate) const RESPONSE_BYTES_MAX: usize = 64 * 1024;
const USER_AGENT: &str = concat!("davy/", env!("CARGO_PKG_VERSION"));

/// Why a receiver or an actuator cannot be used at all. Never holds a URL or a secret.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    #[error("{owner}: bad url: {detail}")]
    Url { owner: String, detail: String },
    #[error(
        "{owner}: {host} is a link-local, metadata, multicast or unspecified address, which is never reached"
    )]
    Address { owner: String, host: String },
    #[error("{owner}: the signing secret is not base64")]
    Secret { owner: String },
    #[error("{owner}: bad e-mail address {got:?}: {detail}")]
    Mailbox { owner: String, got: String, detail: String },
    #[error("{owner}: no http client: {detail}")]
    Client { owner: String, detail: String },
}

/// The URL of a receiver or actuator: http or https, with a host that may be reached.
pub(crate) fn url(owner: &str, secret: &SecretString) -> Result<Url, SetupError> {
    let bad = |detail: &str| SetupError::Url { owner: owner.to_owned(), detail: detail.to_owned() };
    let url = Url::parse(secret.expose_secret()).map_err(|e| bad(&e.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(bad("got a scheme other than http and https"));
    }
    let host = url.host_str().ok_or_else(|| bad("it has no host"))?;
    // Literal addresses are not resolved; the parser has turned decimal and octal forms into dotted ones.
    let literal = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    if literal.is_ok_and(is_forbidden) {
        return Err(SetupError::Address { owner: owner.to_owned(), host: host.to_owned() });
    }
    Ok(url)
}

/// A client for one owner. Connections are not kept: a request never meets one that is being closed.
pub(crate) fn client(owner: &str, connect_timeout: Duration, names: Names) -> Result<Client, SetupError> {
    build(owner, builder(connect_timeout, names))
}

/// The same, which trusts these and nobody else.
pub(crate) fn client_trusting(
    owner: &str,
    connect_timeout: Duration,
    names: Names,
    roots: Vec<Certificate>,
) -> Result<Client, SetupError> {
    build(owner, builder(connect_timeout, names).tls_certs_only(roots))
}

fn build(owner: &str, builder: ClientBuilder) -> Result<Client, SetupError> {
    builder
        .build()
        .map_err(|e| SetupError::Client { owner: owner.to_owned(), detail: chain(&e.without_url()) })
}

fn builder(connect_timeout: Duration, names: Names) -> ClientBuilder {
    // An error means that a provider is installed already, which serves as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder()
        .user_agent(USER_AGENT)
        .redirect(redirect::Policy::none())
        .retry(retry::never())
        .no_proxy()
        .referer(false)
        .pool_max_idle_per_host(0)
        .connect_timeout(connect_timeout)
        .dns_resolver(names)
}

/// At most [`RESPONSE_BYTES_MAX`] of the body, and what was read until then if it breaks off.
pub(crate) async fn body_start(mut response: Response) -> Vec<u8> {
    let mut body = Vec::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        let room = RESPONSE_BYTES_MAX - body.len();
        body.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if body.len() == RESPONSE_BYTES_MAX {
            break;
        }
    }
    body
}

/// An error with its causes, and without the URL: that is a secret.
pub fn describe(error: reqwest::Error) -> String {
    chain(&error.without_url())
}

pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text += ": ";
            text += &cause_text;
        }
        source = cause.source();
    }
    text
}

/// Resolves names and keeps the addresses that may be reached.
#[derive(Debug, Clone, Default)]
pub(crate) enum Names {
    #[default]
    System,
    /// Answers every name with these.
    #[cfg(test)]
    Fixed(Vec<IpAddr>),
}

impl Names {
    /// Addresses of the host that may be reached, at least one.
    pub(crate) async fn lookup(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        let found: Vec<SocketAddr> = match self {
            Self::System => tokio::net::lookup_host((host, port)).await?.collect(),
            #[cfg(test)]
            Self::Fixed(ips) => ips.iter().map(|ip| SocketAddr::new(*ip, port)).collect(),
        };
        let allowed: Vec<SocketAddr> = found.iter().copied().filter(|a| !is_forbidden(a.ip())).collect();
        match (allowed.is_empty(), found.first()) {
            (false, _) => Ok(allowed),
            (true, Some(address)) => Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                format!("{host} resolves to {}, which is never reached", address.ip()),
            )),
            (true, None) => Err(io::Error::new(io::ErrorKind::NotFound, format!("{host} has no address"))),
        }
    }
}

impl Resolve for Names {
    fn resolve(&self, name: Name) -> Resolving {
        let names = self.clone();
        Box::pin(async move {
            // Port 0 stands for the URL's own.
            let found = names.lookup(name.as_str(), 0).await?;
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

/// Addresses that nothing in the file can make Davy reach.
pub(crate) fn is_forbidden(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => is_forbidden_v4(v4),
        IpAddr::V6(v6) => embedded_v4(v6).map_or_else(|| is_forbidden_v6(v6), is_forbidden_v4),
    }
}

fn is_forbidden_v4(ip: Ipv4Addr) -> bool {
    /// Metadata services outside the link-local range: Alibaba Cloud, Oracle Cloud, Azure.
    const METADATA: [Ipv4Addr; 3] =
        [Ipv4Addr::new(100, 100, 100, 200), Ipv4Addr::new(192, 0, 0, 192), Ipv4Addr::new(168, 63, 129, 16)];
    ip.is_link_local()
        || ip.is_multicast()
        || ip.is_broadcast()
        || ip.octets()[0] == 0
        || METADATA.contains(&ip)
}

fn is_forbidden_v6(ip: Ipv6Addr) -> bool {
    /// EC2's metadata service.
    const METADATA: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);
    ip.is_unspecified() || ip.is_multicast() || ip.is_unicast_link_local() || ip == METADATA
}

/// The IPv4 address inside a mapped, NAT64 or 6to4 address.
fn embedded_v4(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    let v4 = |hi: u16, lo: u16| Ipv4Addr::from(u32::from(hi) << 16 | u32::from(lo));
    match ip.segments() {
        [0, 0, 0, 0, 0, 0xffff, hi, lo] | [0x64, 0xff9b, 0, 0, 0, 0, hi, lo] => Some(v4(hi, lo)),
        [0x2002, hi, lo, ..] => Some(v4(hi, lo)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn link_local_metadata_and_their_disguises_are_refused() {
        for bad in [
            "http://169.254.169.254/latest",
            "http://2852039166/", // the same in decimal
            "http://0xa9.0xfe.0xa9.0xfe/",
            "http://[::ffff:169.254.169.254]/",
            "http://[64:ff9b::a9fe:a9fe]/",
            "http://[2002:a9fe:a9fe::1]/",
            "http://[fd00:ec2::254]/",
            "http://[fe80::1]/",
            "http://100.100.100.200/",
            "http://0.0.0.0/",
            "http://[::]/",
            "http://224.0.0.1/",
            "http://255.255.255.255/",
        ] {
            assert!(matches!(url("x", &bad.into()), Err(SetupError::Address { .. })), "{bad}");
        }
        for good in ["http://127.0.0.1:9/", "http://[::1]/", "http://10.0.0.1/", "https://hooks.slack.com/x"]
        {
            assert!(url("x", &good.into()).is_ok(), "{good}");
        }
        for bad in ["ftp://example.org/", "file:///etc/passwd", "not a url", "http://"] {
            assert!(matches!(url("x", &bad.into()), Err(SetupError::Url { .. })), "{bad}");
        }
    }

    #[tokio::test]
    async fn a_name_that_resolves_to_a_forbidden_address_is_not_connected_to() {
        let names = Names::Fixed(vec!["169.254.169.254".parse().unwrap()]);
        let client = client("x", Duration::from_secs(5), names).unwrap();
        let error = client.get("http://metadata.example/").send().await.unwrap_err();
        assert!(error.is_connect());
        let text = describe(error);
        assert!(text.contains("resolves to 169.254.169.254, which is never reached"), "{text}");
        assert!(!text.contains("http://metadata"), "{text}");
    }

    #[tokio::test]
    async fn of_several_addresses_only_the_allowed_are_used() {
        let ips = ["169.254.1.1", "127.0.0.1", "fe80::1"].map(|ip| ip.parse().unwrap());
        let found = Names::Fixed(ips.to_vec()).lookup("mixed.example", 80).await.unwrap();
        assert_eq!(found, ["127.0.0.1:80".parse().unwrap()]);
    }
}
