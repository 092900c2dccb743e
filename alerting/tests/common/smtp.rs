//! An SMTP server on loopback: mailin speaks the protocol, this file owns the sockets.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use mailin::{Action, Handler, Response, SessionBuilder, response};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

#[derive(Debug, Clone, Default)]
pub(crate) struct Mail {
    pub(crate) from: String,
    pub(crate) to: Vec<String>,
    /// Headers and body as they came, lines ending in `\n`.
    pub(crate) text: String,
}

#[derive(Clone)]
pub(crate) struct MailServer {
    pub(crate) address: SocketAddr,
    mails: Arc<Mutex<Vec<Mail>>>,
    /// Answers to the ends of mails, in turn; then they are taken.
    answers: Arc<Mutex<VecDeque<Response>>>,
    /// Nobody of this name is known here.
    unknown: Option<&'static str>,
    starttls: bool,
    /// What came after STARTTLS was granted.
    after_starttls: Arc<Mutex<Vec<u8>>>,
    /// Mails that are taken next and never answered: the connection breaks.
    unanswered: Arc<AtomicU32>,
}

impl MailServer {
    pub(crate) async fn start() -> Self {
        Self::with(vec![], None, false).await
    }

    pub(crate) async fn with(answers: Vec<Response>, unknown: Option<&'static str>, starttls: bool) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let server = Self {
            address: listener.local_addr().unwrap(),
            mails: Arc::default(),
            answers: Arc::new(Mutex::new(answers.into())),
            unknown,
            starttls,
            after_starttls: Arc::default(),
            unanswered: Arc::default(),
        };
        let accepting = server.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let server = accepting.clone();
                // A client that goes away in the middle is none of the server's business.
                tokio::spawn(async move { drop(server.serve(stream).await) });
            }
        });
        server
    }

    pub(crate) fn mails(&self) -> Vec<Mail> {
        self.mails.lock().unwrap().clone()
    }

    pub(crate) fn leave_unanswered(&self, mails: u32) {
        self.unanswered.store(mails, Ordering::SeqCst);
    }

    pub(crate) fn after_starttls(&self) -> Vec<u8> {
        self.after_starttls.lock().unwrap().clone()
    }

    async fn serve(&self, stream: TcpStream) -> io::Result<()> {
        let mut stream = BufReader::new(stream);
        let mut builder = SessionBuilder::new("mail.test");
        if self.starttls {
            builder.enable_start_tls();
        }
        let mut session = builder
            .build(IpAddr::V4(Ipv4Addr::LOCALHOST), Inbox { server: self.clone(), mail: Mail::default() });
        stream.write_all(&session.greeting().buffer()?).await?;
        let mut refused = false;
        loop {
            let mut line = Vec::new();
            if stream.read_until(b'\n', &mut line).await? == 0 {
                return Ok(());
            }
            // mailin takes what follows a refused mail for more of it.
            if refused && line == b"QUIT\r\n" {
                return stream.write_all(&response::GOODBYE.buffer()?).await;
            }
            let taken = self.mails().len();
            let answer = session.process(&line);
            let cut = |n: u32| n.checked_sub(1);
            if self.mails().len() > taken
                && self.unanswered.fetch_update(Ordering::SeqCst, Ordering::SeqCst, cut).is_ok()
            {
                return Ok(());
            }
            refused = answer.is_error;
            match answer.action {
                Action::NoReply => {}
                Action::Reply => stream.write_all(&answer.buffer()?).await?,
                Action::Close => return stream.write_all(&answer.buffer()?).await,
                // There is no certificate here: what the client sends next is kept, then it is hung up on.
                Action::UpgradeTls => {
                    stream.write_all(&answer.buffer()?).await?;
                    let mut bytes = vec![0; 4096];
                    let n = stream.read(&mut bytes).await?;
                    *self.after_starttls.lock().unwrap() = bytes[..n].to_vec();
                    return Ok(());
                }
            }
        }
    }
}

struct Inbox {
    server: MailServer,
    mail: Mail,
}

impl Handler for Inbox {
    fn mail(&mut self, _ip: IpAddr, _domain: &str, from: &str) -> Response {
        self.mail = Mail { from: from.to_owned(), ..Mail::default() };
        response::OK
    }

    fn rcpt(&mut self, to: &str) -> Response {
        if self.server.unknown.is_some_and(|unknown| to.starts_with(unknown)) {
            return response::NO_MAILBOX;
        }
        self.mail.to.push(to.to_owned());
        response::OK
    }

    fn data(&mut self, line: &[u8]) -> io::Result<()> {
        self.mail.text += &String::from_utf8_lossy(line).replace("\r\n", "\n");
        Ok(())
    }

    fn data_end(&mut self) -> Response {
        if let Some(answer) = self.server.answers.lock().unwrap().pop_front() {
            return answer;
        }
        self.server.mails.lock().unwrap().push(std::mem::take(&mut self.mail));
        response::OK
    }
}
