//! A local SMTP server: the `mailin` state machine behind a tokio listener. It takes every mail and relays none.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use mailin::{Action, Handler, Response, SessionBuilder, response};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::{Channel, Letters};

const LINE_BYTES_MAX: u64 = 4 << 10;
const MAIL_BYTES_MAX: usize = 1 << 20;
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// The `Subject` header as it was sent (encoded words stay encoded), folded lines joined.
fn subject(mail: &str) -> String {
    let mut lines = mail.lines().take_while(|line| !line.is_empty());
    let Some(first) = lines.by_ref().find_map(|line| line.strip_prefix("Subject:")) else {
        return String::new();
    };
    let folded = lines.take_while(|line| line.starts_with([' ', '\t']));
    folded.fold(first.trim().to_owned(), |subject, line| subject + " " + line.trim())
}

/// A running server; dropping it closes its sockets.
pub(in crate::demo) struct Smtp {
    pub(in crate::demo) address: SocketAddr,
    _task: JoinSet<()>,
}

impl Smtp {
    pub(in crate::demo) async fn start(letters: Letters) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let mut task = JoinSet::new();
        task.spawn(accept(listener, letters));
        Ok(Self { address, _task: task })
    }
}

async fn accept(listener: TcpListener, letters: Letters) {
    let mut sessions = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        while sessions.try_join_next().is_some() {}
        let letters = letters.clone();
        sessions.spawn(async move {
            // A client that breaks off has lost its mail; it will say so itself.
            let _ = converse(stream, letters).await;
        });
    }
}

async fn converse(stream: TcpStream, letters: Letters) -> io::Result<()> {
    let peer = stream.peer_addr()?.ip();
    let (read, mut write) = stream.into_split();
    let mut read = BufReader::new(read);
    let handler = Collector { letters, data: Vec::new() };
    let mut session = SessionBuilder::new("davy-demo").build(peer, handler);
    reply(&mut write, &session.greeting()).await?;
    loop {
        let mut line = Vec::new();
        let bounded = (&mut read).take(LINE_BYTES_MAX);
        let n = timeout(IDLE_TIMEOUT, { bounded }.read_until(b'\n', &mut line)).await??;
        if n == 0 || line.last() != Some(&b'\n') {
            return Ok(());
        }
        let answer = session.process(&line);
        match answer.action {
            Action::Reply => reply(&mut write, &answer).await?,
            Action::NoReply => {}
            // There is no TLS on offer: loopback only.
            Action::Close | Action::UpgradeTls => return reply(&mut write, &answer).await,
        }
    }
}

async fn reply(write: &mut (impl AsyncWriteExt + Unpin), response: &Response) -> io::Result<()> {
    let mut bytes = Vec::new();
    response.write_to(&mut bytes)?;
    write.write_all(&bytes).await
}

/// Keeps what one session sends.
struct Collector {
    letters: Letters,
    data: Vec<u8>,
}

impl Handler for Collector {
    fn data_start(&mut self, _domain: &str, _from: &str, _is8bit: bool, _to: &[String]) -> Response {
        self.data.clear();
        response::OK
    }

    fn data(&mut self, line: &[u8]) -> io::Result<()> {
        if self.data.len() + line.len() > MAIL_BYTES_MAX {
            return Err(io::Error::other("mail is too large"));
        }
        self.data.extend_from_slice(line);
        Ok(())
    }

    fn data_end(&mut self) -> Response {
        let data = String::from_utf8_lossy(&self.data).replace("\r\n", "\n");
        match self.letters.keep(Channel::Email, subject(&data), data) {
            true => response::OK,
            false => response::OUT_OF_SPACE,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Speaks SMTP line by line and returns the last answer.
    async fn speak(smtp: &Smtp, lines: &[&str]) -> String {
        let stream = TcpStream::connect(smtp.address).await.unwrap();
        let (read, mut write) = stream.into_split();
        let mut answers = BufReader::new(read).lines();
        let mut last = answers.next_line().await.unwrap().unwrap();
        for line in lines {
            write.write_all(format!("{line}\r\n").as_bytes()).await.unwrap();
            last = answers.next_line().await.unwrap().unwrap_or_default();
        }
        last
    }

    #[tokio::test]
    async fn a_mail_is_kept_under_its_subject() {
        let letters = Letters::default();
        let smtp = Smtp::start(letters.clone()).await.unwrap();
        let mail =
            "From: davy@localhost\r\nSubject: checkout v2\r\n rolled back\r\nTo: x\r\n\r\nSubject: body\r\n.";
        let last = speak(
            &smtp,
            &["HELO test", "MAIL FROM:<davy@localhost>", "RCPT TO:<ops@localhost>", "DATA", mail],
        )
        .await;
        assert!(last.starts_with("250"), "{last}");
        let mails = letters.all();
        assert_eq!(mails.len(), 1);
        assert_eq!((mails[0].channel, mails[0].title.as_str()), (Channel::Email, "checkout v2 rolled back"));
        assert!(mails[0].text.ends_with("\n\nSubject: body\n"), "{:?}", mails[0].text);
    }

    #[tokio::test]
    async fn a_line_without_end_closes_the_session_and_keeps_nothing() {
        let letters = Letters::default();
        let smtp = Smtp::start(letters.clone()).await.unwrap();
        let stream = TcpStream::connect(smtp.address).await.unwrap();
        let (mut read, mut write) = stream.into_split();
        // The server may close while this is still being written.
        let _ = write.write_all(&vec![b'x'; 8 * LINE_BYTES_MAX as usize]).await;
        let mut answer = Vec::new();
        let _ = timeout(Duration::from_secs(10), read.read_to_end(&mut answer)).await.unwrap();
        assert!(letters.all().is_empty());
    }
}
