//! Mail over SMTP: plain text with an HTML alternative, TLS required beyond this machine.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use davy_egress::{Names, causes};
use davy_model::Timestamp;
use lettre::Address;
use lettre::address::Envelope;
use lettre::message::header::{HeaderName, HeaderValue};
use lettre::message::{Mailbox, MultiPart, SinglePart};
use lettre::transport::smtp;
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::{AsyncSmtpConnection, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use secrecy::{ExposeSecret, SecretString};

use super::notice::Notice;
use super::{CONNECT_TIMEOUT, DeliveryError, Envelope as Message, permanent, temporary};
use crate::alert::Fnv1a;
use crate::client::SetupError;
use crate::config::{EmailConfig, EmailForm};
use crate::template::{Markup, TemplateError, Text};
use crate::text::{html, one_line};

/// Port on which TLS starts with the first byte.
const SMTPS_PORT: u16 = 465;
/// From connecting to the server's word that it has taken the mail.
const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(120);
const HEADER_CHARS_MAX: usize = 500;
const QUIT_TIMEOUT: Duration = Duration::from_secs(1);
/// Last second of the year 9999: later ones have no mail date.
const DATE_SECONDS_MAX: u64 = 253_402_300_799;

pub(super) struct Email {
    from: Mailbox,
    to: Vec<Mailbox>,
    host: String,
    port: u16,
    auth: Option<(String, SecretString)>,
    require_tls: bool,
    exchange_timeout: Duration,
    form: Option<EmailForm>,
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
            exchange_timeout: EXCHANGE_TIMEOUT,
            form: config.form.is_own().then(|| config.form.clone()),
            names: names.clone(),
        })
    }

    pub(super) async fn send(&self, message: &Message<'_>) -> Result<(), DeliveryError> {
        let form = self.form.as_ref().map(|form| Letter::of_form(form, message)).transpose();
        let (letter, notice) = message.form_or_notice(form);
        let letter = letter.unwrap_or_else(|| Letter::of(&notice));
        self.deliver(&message.record.id, &letter, message.now).await
    }

    async fn deliver(&self, id: &str, letter: &Letter, now: Timestamp) -> Result<(), DeliveryError> {
        let mail = self.mail(id, letter, now).map_err(|e| permanent(e.to_string()))?.formatted();
        let servers = self.names.lookup(&self.host, self.port).await;
        let servers = servers.map_err(|e| temporary(e.to_string()))?;
        let server = *servers.first().expect("lookup gives at least one address");
        let to: Vec<Address> = self.to.iter().map(|m| m.email.clone()).collect();
        match self.send_to(server, &to, &mail).await {
            // One bad address must not keep the mail from the good ones.
            Err(e) if !e.retryable && to.len() > 1 => {
                let mut refusal = Err(e);
                let mut delivered = false;
                for address in to {
                    match self.send_to(server, &[address], &mail).await {
                        Ok(()) => delivered = true,
                        Err(e) => {
                            tracing::warn!(id, error = %e, "a recipient was refused");
                            refusal = Err(e);
                        }
                    }
                }
                if delivered { Ok(()) } else { refusal }
            }
            result => result,
        }
    }

    async fn send_to(&self, server: SocketAddr, to: &[Address], mail: &[u8]) -> Result<(), DeliveryError> {
        let envelope = Envelope::new(Some(self.from.email.clone()), to.to_vec())
            .map_err(|e| permanent(e.to_string()))?;
        let exchange = async {
            let mut connection = self.connect(server).await?;
            connection.send(&envelope, mail).await?;
            Ok(connection)
        };
        let mut connection = match tokio::time::timeout(self.exchange_timeout, exchange).await {
            Ok(result) => result.map_err(|e| failed(&e))?,
            Err(_) => return Err(temporary("the mail server is too slow".to_owned())),
        };
        // The mail has been taken: how the server says goodbye changes nothing.
        let _ = tokio::time::timeout(QUIT_TIMEOUT, connection.quit()).await;
        Ok(())
    }

    /// Connects to the address that was checked; TLS verifies the name from the file. Done by hand, because
    /// lettre's transport has no time-out but for connecting, and would wait for ever for an answer to QUIT.
    async fn connect(&self, server: SocketAddr) -> Result<AsyncSmtpConnection, smtp::Error> {
        let hello = ClientId::default();
        let tls = || TlsParameters::new(self.host.clone());
        let security = security(self.require_tls, &self.host, self.port, server);
        let from_start = if security == Security::Smtps { Some(tls()?) } else { None };
        let mut connection =
            AsyncSmtpConnection::connect_tokio1(server, Some(CONNECT_TIMEOUT), &hello, from_start, None)
                .await?;
        if security == Security::Starttls {
            connection.starttls(tls()?, &hello).await?;
        }
        if let Some((user, password)) = &self.auth {
            let credentials = Credentials::new(user.clone(), password.expose_secret().to_owned());
            connection.auth(&[Mechanism::Plain, Mechanism::Login], &credentials).await?;
        }
        Ok(connection)
    }

    fn mail(
        &self,
        id: &str,
        letter: &Letter,
        now: Timestamp,
    ) -> Result<lettre::Message, lettre::error::Error> {
        let seconds = u64::try_from(now.as_millis() / 1000).unwrap_or(0).min(DATE_SECONDS_MAX);
        let domain = self.from.email.domain();
        // All mails of a release, or of a group, answer the same one, which was never sent: so they are one thread.
        let thread = Fnv1a::default().write(letter.thread.as_bytes()).0;
        let thread = format!("<thread_{thread:016x}@{domain}>");
        let mut builder = lettre::Message::builder()
            .from(self.from.clone())
            .subject(letter.subject.clone())
            .date(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
            .message_id(Some(format!("<{id}@{domain}>")))
            .in_reply_to(thread.clone())
            .references(thread)
            .raw_header(HeaderValue::new(
                HeaderName::new_from_ascii_str("Auto-Submitted"),
                "auto-generated".to_owned(),
            ));
        for to in &self.to {
            builder = builder.to(to.clone());
        }
        for (name, value) in &letter.headers {
            if let Ok(name) = HeaderName::new_from_ascii(name.clone()) {
                builder = builder.raw_header(HeaderValue::new(name, value.clone()));
            }
        }
        match (letter.text.clone(), letter.html.clone()) {
            (text, Some(html)) => builder.multipart(MultiPart::alternative_plain_html(text, html)),
            (text, None) => builder.singlepart(SinglePart::plain(text)),
        }
    }
}

fn failed(error: &smtp::Error) -> DeliveryError {
    let detail = causes(error);
    if error.is_permanent() { permanent(detail) } else { temporary(detail) }
}

/// What a mail says, in whatever form.
struct Letter {
    subject: String,
    text: String,
    html: Option<String>,
    headers: Vec<(String, String)>,
    thread: String,
}

impl Letter {
    fn of(notice: &Notice) -> Self {
        Self {
            subject: notice.title.clone(),
            text: plain_body(notice),
            html: Some(html_body(notice)),
            headers: Vec::new(),
            thread: notice.thread.clone(),
        }
    }

    /// In the file's form; what it does not name is Davy's.
    fn of_form(form: &EmailForm, message: &Message<'_>) -> Result<Self, TemplateError> {
        let own = Self::of(&message.notice());
        let data = message.data();
        let filled = |text: &Text, markup| text.expand(&data, markup, message.now);
        let line = |text: &Text| Ok(one_line(&filled(text, Markup::Plain)?, HEADER_CHARS_MAX));
        let headers = form.headers.iter().map(|(name, text)| Ok((name.clone(), line(text)?)));
        Ok(Self {
            subject: form.subject.as_ref().map(line).transpose()?.unwrap_or(own.subject),
            headers: headers.collect::<Result<_, TemplateError>>()?,
            html: match (&form.html, &form.text) {
                (Some(html), _) => Some(filled(html, Markup::Html)?).filter(|t| !t.is_empty()),
                // A text alone is a mail of text.
                (None, Some(_)) => None,
                (None, None) => own.html,
            },
            text: match (&form.text, &form.html) {
                (Some(text), _) => filled(text, Markup::Plain)?,
                (None, _) => own.text,
            },
            thread: own.thread,
        })
    }
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
    let (title, link, link_text) = (html(&notice.title), html(&notice.link), html(&notice.link_text));
    format!(
        "<!DOCTYPE html>\n<html><body>\n<h2>{title}</h2>\n{facts}<p><a href=\"{link}\">{link_text}</a></p>\n<table>\n{labels}</table>\n</body></html>\n"
    )
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
    use tokio::net::TcpListener;

    use super::*;
    use crate::alert::AlertState;

    fn email(host: &str, port: u16, require_tls: bool) -> Email {
        let config = EmailConfig {
            to: vec!["ops@example.org".into()],
            from: "davy@example.org".into(),
            smarthost: (host.into(), port),
            auth: None,
            require_tls,
            send_resolved: true,
            form: EmailForm::default(),
        };
        let names = Names::Fixed(vec!["127.0.0.1".parse().unwrap()]);
        let email = Email::new("receiver ops", &config, &names).unwrap();
        Email { exchange_timeout: Duration::from_secs(2), ..email }
    }

    async fn send(email: &Email) -> Result<(), DeliveryError> {
        let notice = Notice {
            state: AlertState::Firing,
            severity: "critical".into(),
            title: "title".into(),
            facts: vec![],
            labels: vec![],
            link: "http://davy.example".into(),
            link_text: "Open in Davy".into(),
            lasting: 0,
            thread: "checkout-v2-7".into(),
        };
        email.deliver("msg_1", &Letter::of(&notice), Timestamp::from_millis(0)).await
    }

    /// A server without STARTTLS that answers everything but this command; the commands it got.
    async fn server(silent_at: &'static str) -> (u16, Arc<Mutex<Vec<String>>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (port, got) = (listener.local_addr().unwrap().port(), Arc::new(Mutex::new(Vec::new())));
        let commands = Arc::clone(&got);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let mut stream = BufReader::new(stream);
                stream.write_all(b"220 mail.test\r\n").await.unwrap();
                let (mut line, mut in_data) = (String::new(), false);
                while stream.read_line(&mut line).await.is_ok_and(|n| n > 0) {
                    let command = std::mem::take(&mut line).trim_end().to_owned();
                    in_data &= command != ".";
                    if !in_data {
                        in_data = command == "DATA";
                        let answer: &[u8] = match command.as_str() {
                            silent if silent == silent_at => b"",
                            "DATA" => b"354 go on\r\n",
                            _ => b"250 ok\r\n",
                        };
                        commands.lock().unwrap().push(command);
                        if stream.write_all(answer).await.is_err() {
                            break;
                        }
                    }
                }
            }
        });
        (port, got)
    }

    #[test]
    fn only_this_machine_may_go_without_tls_and_only_if_the_file_says_so() {
        let check = |require_tls, host, port, ip: &str, want| {
            let address = SocketAddr::new(ip.parse().unwrap(), port);
            assert_eq!(security(require_tls, host, port, address), want, "{require_tls} {host} {port} {ip}");
        };
        check(false, "localhost", 25, "127.0.0.1", Security::Plain);
        check(false, "127.0.0.1", 1025, "127.0.0.1", Security::Plain);
        check(false, "::1", 1025, "::1", Security::Plain);
        check(true, "localhost", 25, "127.0.0.1", Security::Starttls);
        check(false, "localhost", 25, "192.0.2.1", Security::Starttls);
        check(false, "mail.example.org", 25, "127.0.0.1", Security::Starttls);
        check(false, "mail.example.org", 587, "192.0.2.1", Security::Starttls);
        check(false, "localhost", 465, "127.0.0.1", Security::Smtps);
    }

    #[tokio::test]
    async fn a_name_that_is_not_this_machine_s_gets_nothing_without_starttls() {
        let (port, got) = server("").await;
        let error = send(&email("mail.example.org", port, false)).await.unwrap_err();
        assert!(error.retryable && error.detail.contains("STARTTLS"), "{error}");
        assert!(got.lock().unwrap().iter().all(|c| c.starts_with("EHLO") || c == "QUIT"), "{got:?}");
    }

    #[tokio::test]
    async fn a_mail_that_was_taken_is_delivered_though_the_server_never_says_goodbye() {
        let (port, got) = server("QUIT").await;
        send(&email("localhost", port, false)).await.unwrap();
        assert_eq!(got.lock().unwrap().iter().filter(|c| *c == ".").count(), 1);
    }

    #[tokio::test]
    async fn a_server_that_falls_silent_is_given_up_and_tried_again() {
        let (port, _) = server("DATA").await;
        let error = send(&email("localhost", port, false)).await.unwrap_err();
        assert_eq!((error.retryable, error.detail.as_str()), (true, "the mail server is too slow"));
    }
}
