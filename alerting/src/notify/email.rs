//! Mail over SMTP: plain text with an HTML alternative, TLS required beyond this machine.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use davy_model::Timestamp;
use lettre::address::Envelope;
use lettre::message::header::{HeaderName, HeaderValue};
use lettre::message::{Mailbox, MultiPart};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Tls, TlsParameters};
use lettre::transport::smtp::{self, AsyncSmtpTransportBuilder};
use lettre::{AsyncSmtpTransport, AsyncTransport, Tokio1Executor};
use secrecy::{ExposeSecret, SecretString};

use super::notice::Notice;
use super::{ATTEMPT_TIMEOUT, DeliveryError, permanent, temporary};
use crate::config::EmailConfig;
use crate::egress::{Names, SetupError, chain};
use crate::text::html;

/// Port on which TLS starts with the first byte.
const SMTPS_PORT: u16 = 465;
/// Last second of the year 9999: later ones have no mail date.
const DATE_SECONDS_MAX: u64 = 253_402_300_799;

pub(super) struct Email {
    from: Mailbox,
    to: Vec<Mailbox>,
    host: String,
    port: u16,
    auth: Option<(String, SecretString)>,
    require_tls: bool,
    names: Names,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Security {
    /// TLS from the first byte.
    Smtps,
    /// STARTTLS, or nothing is sent.
    Starttls,
    /// Only within this machine, and only when the file says so.
    Plain,
}

fn security(require_tls: bool, host: &str, port: u16, address: SocketAddr) -> Security {
    let literal = host.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback());
    let here = (literal || host.eq_ignore_ascii_case("localhost")) && address.ip().is_loopback();
    match (port, require_tls) {
        (SMTPS_PORT, _) => Security::Smtps,
        (_, false) if here => Security::Plain,
        (_, true | false) => Security::Starttls,
    }
}

impl Email {
    pub(super) fn new(owner: &str, config: &EmailConfig, names: &Names) -> Result<Self, SetupError> {
        // The parser refuses line breaks, so that an address cannot become another header.
        let mailbox = |text: &String| {
            text.parse::<Mailbox>().map_err(|e| SetupError::Mailbox {
                owner: owner.to_owned(),
                got: text.clone(),
                detail: e.to_string(),
            })
        };
        let (host, port) = config.smarthost.clone();
        Ok(Self {
            from: mailbox(&config.from)?,
            to: config.to.iter().map(mailbox).collect::<Result<_, _>>()?,
            host,
            port,
            auth: config.auth.clone(),
            require_tls: config.require_tls,
            names: names.clone(),
        })
    }

    pub(super) async fn send(&self, id: &str, notice: &Notice, now: Timestamp) -> Result<(), DeliveryError> {
        let mail = self.mail(id, notice, now).map_err(|e| permanent(e.to_string()))?.formatted();
        let server = self.names.lookup(&self.host, self.port).await;
        let servers = server.map_err(|e| temporary(e.to_string()))?;
        let server = *servers.first().expect("lookup gives at least one address");
        let transport = self.transport(server).map_err(|e| permanent(chain(&e)))?;
        let to: Vec<_> = self.to.iter().map(|m| m.email.clone()).collect();
        match self.send_to(&transport, to.clone(), &mail).await {
            // One bad address must not keep the mail from the good ones.
            Err(e) if e.is_permanent() && to.len() > 1 => {
                let mut refusal = e;
                let mut delivered = false;
                for address in to {
                    match self.send_to(&transport, vec![address], &mail).await {
                        Ok(()) => delivered = true,
                        Err(e) => {
                            tracing::warn!(id, error = %chain(&e), "a recipient was refused");
                            refusal = e;
                        }
                    }
                }
                if delivered { Ok(()) } else { Err(failed(&refusal)) }
            }
            result => result.map_err(|e| failed(&e)),
        }
    }

    async fn send_to(
        &self,
        transport: &AsyncSmtpTransport<Tokio1Executor>,
        to: Vec<lettre::Address>,
        mail: &[u8],
    ) -> Result<(), smtp::Error> {
        let envelope = Envelope::new(Some(self.from.email.clone()), to).expect("the file names a recipient");
        transport.send_raw(&envelope, mail).await.map(|_| ())
    }

    /// Connects to the address that was checked; TLS verifies the name from the file.
    fn transport(&self, server: SocketAddr) -> Result<AsyncSmtpTransport<Tokio1Executor>, smtp::Error> {
        let tls = match security(self.require_tls, &self.host, self.port, server) {
            Security::Smtps => Tls::Wrapper(TlsParameters::new(self.host.clone())?),
            Security::Starttls => Tls::Required(TlsParameters::new(self.host.clone())?),
            Security::Plain => Tls::None,
        };
        let mut builder: AsyncSmtpTransportBuilder =
            AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(server.ip().to_string())
                .port(server.port())
                .timeout(Some(ATTEMPT_TIMEOUT))
                .tls(tls);
        if let Some((user, password)) = &self.auth {
            builder =
                builder.credentials(Credentials::new(user.clone(), password.expose_secret().to_owned()));
        }
        Ok(builder.build())
    }

    fn mail(
        &self,
        id: &str,
        notice: &Notice,
        now: Timestamp,
    ) -> Result<lettre::Message, lettre::error::Error> {
        let seconds = u64::try_from(now.as_millis() / 1000).unwrap_or(0).min(DATE_SECONDS_MAX);
        let domain = self.from.email.domain();
        let mut builder = lettre::Message::builder()
            .from(self.from.clone())
            .subject(notice.title.clone())
            .date(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
            .message_id(Some(format!("<{id}@{domain}>")))
            .raw_header(HeaderValue::new(
                HeaderName::new_from_ascii_str("Auto-Submitted"),
                "auto-generated".to_owned(),
            ));
        for to in &self.to {
            builder = builder.to(to.clone());
        }
        builder.multipart(MultiPart::alternative_plain_html(plain_body(notice), html_body(notice)))
    }
}

fn failed(error: &smtp::Error) -> DeliveryError {
    let detail = chain(error);
    if error.is_permanent() { permanent(detail) } else { temporary(detail) }
}

fn plain_body(notice: &Notice) -> String {
    let mut text = format!("{}\n", notice.title);
    for (heading, fact) in &notice.facts {
        text += &format!("\n{heading}:\n");
        for line in fact.lines() {
            text += &format!("  {line}\n");
        }
    }
    text += &format!("\n{}\n\n", notice.link);
    for (name, value) in &notice.labels {
        text += &format!("{name} = {value}\n");
    }
    text
}

fn html_body(notice: &Notice) -> String {
    let facts: String = notice
        .facts
        .iter()
        .map(|(heading, fact)| {
            format!("<h3>{}</h3>\n<p>{}</p>\n", html(heading), html(fact).replace('\n', "<br>\n"))
        })
        .collect();
    let labels: String = notice
        .labels
        .iter()
        .map(|(n, v)| format!("<tr><td>{}</td><td>{}</td></tr>\n", html(n), html(v)))
        .collect();
    let (title, link) = (html(&notice.title), html(&notice.link));
    format!(
        "<!DOCTYPE html>\n<html><body>\n<h2>{title}</h2>\n{facts}<p><a href=\"{link}\">Open in Davy</a></p>\n<table>\n{labels}</table>\n</body></html>\n"
    )
}
