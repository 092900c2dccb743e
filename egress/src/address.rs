//! Which addresses Davy's requests may go to: whatever a name resolves to is checked, and then connected to, so that
//! a name cannot change its mind in between.
//!
//! Scraping reaches into private networks and loopback by its nature, and URLs come from the file. Link-local
//! addresses are never reached, because that is where clouds keep credentials, nor are those that are no host's own.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// Metadata services outside the link-local range: Alibaba Cloud, Oracle Cloud, Azure.
const METADATA_V4: [Ipv4Addr; 3] =
    [Ipv4Addr::new(100, 100, 100, 200), Ipv4Addr::new(192, 0, 0, 192), Ipv4Addr::new(168, 63, 129, 16)];
/// EC2's.
const METADATA_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);

#[derive(Debug, thiserror::Error)]
pub enum EgressError {
    #[error("{host} cannot be resolved: {source}")]
    Resolve { host: String, source: io::Error },
    #[error("{host} has no address")]
    NoAddress { host: String },
    #[error(
        "{host} resolves to {ip}, which is never reached (link-local, metadata, multicast or unspecified)"
    )]
    Forbidden { host: String, ip: IpAddr },
}

/// For URLs that name an address, which no resolver sees. `Url` has read decimal and octal spellings already.
pub fn check_url(url: &Url) -> Result<(), EgressError> {
    let host = url.host_str().unwrap_or("");
    match host.trim_matches(['[', ']']).parse::<IpAddr>() {
        Ok(ip) if is_forbidden(ip) => Err(EgressError::Forbidden { host: host.to_owned(), ip }),
        _ => Ok(()),
    }
}

/// Resolves names and keeps the addresses that may be reached.
#[derive(Debug, Clone, Default)]
pub enum Names {
    #[default]
    System,
    /// This one is resolved in place of what is asked for: the URL then holds the name that the certificate carries.
    Instead(String),
    /// Answers every name with these.
    Fixed(Vec<IpAddr>),
}

impl Names {
    /// Addresses of the host that may be reached, at least one.
    pub async fn lookup(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, EgressError> {
        let host = if let Self::Instead(other) = self { other } else { host };
        let found: Vec<SocketAddr> = match self {
            Self::System | Self::Instead(_) => {
                let found = tokio::net::lookup_host((host.trim_matches(['[', ']']), port)).await;
                found.map_err(|source| EgressError::Resolve { host: host.to_owned(), source })?.collect()
            }
            Self::Fixed(ips) => ips.iter().map(|ip| SocketAddr::new(*ip, port)).collect(),
        };
        let allowed: Vec<SocketAddr> = found.iter().copied().filter(|a| !is_forbidden(a.ip())).collect();
        match (allowed.is_empty(), found.first()) {
            (false, _) => Ok(allowed),
            (true, Some(bad)) => Err(EgressError::Forbidden { host: host.to_owned(), ip: bad.ip() }),
            (true, None) => Err(EgressError::NoAddress { host: host.to_owned() }),
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

fn is_forbidden(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => is_forbidden_v4(v4),
        IpAddr::V6(v6) => embedded_v4(v6).map_or_else(|| is_forbidden_v6(v6), is_forbidden_v4),
    }
}

fn is_forbidden_v4(ip: Ipv4Addr) -> bool {
    ip.is_link_local()
        || ip.is_multicast()
        || ip.is_broadcast()
        || ip.octets()[0] == 0
        || METADATA_V4.contains(&ip)
}

fn is_forbidden_v6(ip: Ipv6Addr) -> bool {
    ip.is_unspecified() || ip.is_multicast() || ip.is_unicast_link_local() || ip == METADATA_V6
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
            "http://0xa9.0376.0xa9fe/",
            "http://[::ffff:169.254.169.254]/",
            "http://[64:ff9b::a9fe:a9fe]/",
            "http://[2002:a9fe:a9fe::1]/",
            "http://[fd00:ec2::254]/",
            "http://[fe80::1]/",
            "http://100.100.100.200/",
            "http://0.0.0.0:9100/",
            "http://[::]/",
            "http://224.0.0.1/",
            "http://255.255.255.255/",
        ] {
            assert!(check_url(&Url::parse(bad).unwrap()).is_err(), "{bad}");
        }
    }

    #[test]
    fn private_networks_and_loopback_are_reached() {
        for good in [
            "http://127.0.0.1:9100/",
            "http://10.1.2.3/",
            "http://[::1]/",
            "http://[fd12::1]/",
            "http://name/",
        ] {
            assert!(check_url(&Url::parse(good).unwrap()).is_ok(), "{good}");
        }
    }

    #[tokio::test]
    async fn of_several_addresses_only_the_allowed_are_used() {
        let ips = ["169.254.1.1", "127.0.0.1", "fe80::1"].map(|ip| ip.parse().unwrap());
        let found = Names::Fixed(ips.to_vec()).lookup("mixed.example", 80).await.unwrap();
        assert_eq!(found, ["127.0.0.1:80".parse().unwrap()]);
        let none = Names::Fixed(vec![ips[0]]).lookup("bad.example", 80).await;
        assert!(matches!(none, Err(EgressError::Forbidden { .. })), "{none:?}");
        let none = Names::Fixed(vec![]).lookup("empty.example", 80).await;
        assert!(matches!(none, Err(EgressError::NoAddress { .. })), "{none:?}");
    }
}
