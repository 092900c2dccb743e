//! Which addresses Davy's requests may go to: whatever a name resolves to is checked, and then connected to.
//!
//! Scraping reaches into private networks and loopback by its nature. Link-local addresses are refused, because that
//! is where clouds keep credentials, and so are those that are no host's own.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// AWS' metadata service, which does not live on a link-local address in IPv6.
const EC2_METADATA: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);

#[derive(Debug, thiserror::Error)]
pub(crate) enum EgressError {
    #[error("host {host:?} cannot be resolved: {source}")]
    Resolve { host: String, source: std::io::Error },
    #[error("host {host:?} resolves to no address")]
    NoAddress { host: String },
    #[error(
        "host {host:?} is at {ip}, which is never asked (link-local, multicast, unspecified or metadata service)"
    )]
    Forbidden { host: String, ip: IpAddr },
}

pub(crate) fn is_allowed(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => is_allowed_v4(v4),
        IpAddr::V6(v6) => match embedded_v4(v6) {
            Some(v4) => is_allowed_v4(v4),
            None => {
                !(v6.is_unspecified()
                    || v6.is_multicast()
                    || v6.is_unicast_link_local()
                    || v6 == EC2_METADATA)
            }
        },
    }
}

fn is_allowed_v4(ip: Ipv4Addr) -> bool {
    !(ip.is_unspecified() || ip.is_multicast() || ip.is_broadcast() || ip.is_link_local())
}

/// The address that an IPv4-mapped or NAT64 (64:ff9b::/96) one stands for.
fn embedded_v4(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    let [a, b, .., hi, lo] = ip.segments();
    let nat64 = [a, b] == [0x64, 0xff9b] && ip.segments()[2..6] == [0; 4];
    let v4 = || Ipv4Addr::from(u32::from(hi) << 16 | u32::from(lo));
    ip.to_ipv4_mapped().or_else(|| nat64.then(v4))
}

/// For URLs that name an address, which no resolver sees. `Url` has read decimal and octal spellings already.
pub(crate) fn check_url(url: &Url) -> Result<(), EgressError> {
    let host = url.host_str().unwrap_or("");
    match host.trim_matches(['[', ']']).parse::<IpAddr>() {
        Ok(ip) if !is_allowed(ip) => Err(EgressError::Forbidden { host: host.to_owned(), ip }),
        _ => Ok(()),
    }
}

/// Resolves by the system, and yields only if every address is allowed.
#[derive(Debug, Clone, Default)]
pub(crate) struct EgressResolver {
    /// Resolved in place of the name asked for: the URL then holds the name that the certificate must carry.
    pub(crate) instead: Option<String>,
}

impl Resolve for EgressResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let host = self.instead.clone().unwrap_or_else(|| name.as_str().to_owned());
        Box::pin(async move {
            let found = tokio::net::lookup_host((host.trim_matches(['[', ']']), 0)).await;
            let found: Vec<SocketAddr> =
                found.map_err(|source| EgressError::Resolve { host: host.clone(), source })?.collect();
            if let Some(bad) = found.iter().find(|a| !is_allowed(a.ip())) {
                return Err(EgressError::Forbidden { host, ip: bad.ip() }.into());
            }
            if found.is_empty() {
                return Err(EgressError::NoAddress { host }.into());
            }
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_services_are_refused_in_every_spelling() {
        for url in [
            "http://169.254.169.254/",
            "http://2852039166/",
            "http://0xa9.0376.0xa9fe/",
            "http://[::ffff:169.254.169.254]/",
            "http://[64:ff9b::a9fe:a9fe]/",
            "http://[fd00:ec2::254]/",
            "http://[fe80::1]/",
            "http://0.0.0.0:9100/",
            "http://[::]/",
            "http://224.0.0.1/",
        ] {
            assert!(check_url(&Url::parse(url).unwrap()).is_err(), "{url}");
        }
    }

    #[test]
    fn private_networks_and_loopback_are_scraped() {
        for url in [
            "http://127.0.0.1:9100/",
            "http://10.1.2.3/",
            "http://[::1]/",
            "http://[fd12::1]/",
            "http://name/",
        ] {
            assert!(check_url(&Url::parse(url).unwrap()).is_ok(), "{url}");
        }
    }
}
