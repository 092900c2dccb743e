//! HTTPS targets: private authorities, names that are not the address, client certificates. Needs the `openssl`
//! program, which makes the certificates.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use davy_collector::config::{Scheme, ScrapeConfig};
use davy_collector::scrape::{Health, Reason};
use davy_egress::TlsConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};

mod common;
use common::{Davy, fast, ok};

/// An authority and what it signed, in a folder of its own.
struct Authority(tempfile::TempDir);

impl Authority {
    fn new() -> Self {
        let authority = Self(tempfile::tempdir().unwrap());
        authority.openssl(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=ca \
             -keyout ca.key -out ca.pem",
        );
        authority
    }

    /// `NAME.pem` and `NAME.key`, good for the DNS name.
    fn sign(&self, name: &str, dns: &str) {
        self.openssl(&format!(
            "req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN={name} -keyout {name}.key -out {name}.csr"
        ));
        std::fs::write(self.path("ext"), format!("subjectAltName=DNS:{dns}\n")).unwrap();
        self.openssl(&format!(
            "x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile ext -out {name}.pem"
        ));
    }

    fn openssl(&self, arguments: &str) {
        let output = Command::new("openssl")
            .args(arguments.split_whitespace())
            .current_dir(self.0.path())
            .output()
            .expect("openssl is installed");
        assert!(output.status.success(), "{arguments}: {}", String::from_utf8_lossy(&output.stderr));
    }

    fn path(&self, file: &str) -> PathBuf {
        self.0.path().join(file)
    }
}

/// Serves `a 1` over TLS as `name`; wants a client certificate of the same authority if told so. Returns the port.
fn serve(authority: &Authority, name: &str, wants_client: bool) -> u16 {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions().unwrap();
    let builder = if wants_client {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(authority.path("ca.pem")).unwrap()).unwrap();
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
        builder.with_client_cert_verifier(verifier)
    } else {
        builder.with_no_client_auth()
    };
    let certificate = CertificateDer::from_pem_file(authority.path(&format!("{name}.pem"))).unwrap();
    let key = PrivateKeyDer::from_pem_file(authority.path(&format!("{name}.key"))).unwrap();
    let config = Arc::new(builder.with_single_cert(vec![certificate], key).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let mut tls = StreamOwned::new(ServerConnection::new(config.clone()).unwrap(), stream);
            let mut head = [0; 4096];
            if tls.read(&mut head).is_ok_and(|n| n > 0) {
                let _ = tls.write_all(&ok("", b"a 1\n"));
                tls.conn.send_close_notify();
                let _ = tls.flush();
            }
        }
    });
    port
}

async fn scrape(port: u16, tls: TlsConfig) -> (Health, Option<Reason>, Option<String>) {
    let mut config: ScrapeConfig = fast("j", &[&format!("127.0.0.1:{port}")]);
    config.scheme = Scheme::Https;
    config.http.tls = tls;
    let davy = Davy::new();
    davy.apply(vec![config]).await;
    let t = davy.until("scraped", |t| t.scrapes > 0).await;
    davy.manager.shutdown().await;
    (t.health, t.reason, t.last_error)
}

fn trusting(ca: &Path, server_name: Option<&str>) -> TlsConfig {
    TlsConfig {
        ca_file: Some(ca.to_owned()),
        server_name: server_name.map(str::to_owned),
        ..TlsConfig::default()
    }
}

#[tokio::test]
async fn a_certificate_is_checked_against_its_authority_and_name() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    ours.sign("server", "metrics.example");
    let port = serve(&ours, "server", false);
    let (ca, other_ca) = (ours.path("ca.pem"), theirs.path("ca.pem"));

    let (health, _, error) = scrape(port, trusting(&ca, Some("metrics.example"))).await;
    assert_eq!(health, Health::Up, "{error:?}");

    for (what, tls, message) in [
        ("the name of the address", trusting(&ca, None), "not valid for name"),
        ("another name", trusting(&ca, Some("other.example")), "not valid for name"),
        ("another authority", trusting(&other_ca, Some("metrics.example")), "invalid peer certificate"),
        ("no authority", TlsConfig::default(), "invalid peer certificate"),
    ] {
        let (health, reason, error) = scrape(port, tls).await;
        assert_eq!((health, reason), (Health::Down, Some(Reason::Tls)), "{what}: {error:?}");
        assert!(error.as_ref().unwrap().contains(message), "{what}: {error:?}");
    }
}

#[tokio::test]
async fn a_client_certificate_is_shown() {
    let authority = Authority::new();
    authority.sign("server", "metrics.example");
    authority.sign("davy", "davy.example");
    let port = serve(&authority, "server", true);
    let anonymous = trusting(&authority.path("ca.pem"), Some("metrics.example"));
    let known = TlsConfig {
        cert_file: Some(authority.path("davy.pem")),
        key_file: Some(authority.path("davy.key")),
        ..anonymous.clone()
    };
    let (health, _, error) = scrape(port, known).await;
    assert_eq!(health, Health::Up, "{error:?}");
    assert_eq!(scrape(port, anonymous).await.0, Health::Down);
}
