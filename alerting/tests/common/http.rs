//! Receivers on loopback: polite ones that note what they got, and rude ones that do not answer as they should.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

#[derive(Debug, Clone)]
pub(crate) struct Received {
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Received {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |v| v.to_str().unwrap())
    }
}

/// Status, headers, body.
pub(crate) type Answer = (u16, Vec<(&'static str, String)>, &'static str);

#[derive(Clone)]
pub(crate) struct Receiver {
    pub(crate) url: String,
    answers: Arc<Mutex<VecDeque<Answer>>>,
    got: Arc<Mutex<Vec<Received>>>,
}

impl Receiver {
    /// Answers with one after the other, the last one for ever.
    pub(crate) async fn start(answers: Vec<Answer>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook?token=s3cret", listener.local_addr().unwrap());
        let receiver =
            Self { url, answers: Arc::new(Mutex::new(answers.into())), got: Arc::new(Mutex::default()) };
        let app = Router::new().fallback(answer).with_state(receiver.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
        receiver
    }

    pub(crate) fn got(&self) -> Vec<Received> {
        self.got.lock().unwrap().clone()
    }
}

async fn answer(State(receiver): State<Receiver>, headers: HeaderMap, body: Bytes) -> Response {
    let body = String::from_utf8(body.to_vec()).unwrap();
    receiver.got.lock().unwrap().push(Received { headers, body });
    let mut answers = receiver.answers.lock().unwrap();
    let (status, headers, body) =
        if answers.len() > 1 { answers.pop_front().unwrap() } else { answers[0].clone() };
    let mut response = (StatusCode::from_u16(status).unwrap(), body).into_response();
    for (name, value) in headers {
        response.headers_mut().insert(name, value.parse().unwrap());
    }
    response
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Rude {
    /// Reads the request and says nothing.
    Silent,
    /// Reads the request and resets the connection.
    ResetAfterRequest,
    /// Resets the connection as soon as it is there.
    ResetAtOnce,
    /// Reads the request and closes the connection.
    CloseAfterRequest,
    /// Answers in another protocol.
    NotHttp,
    /// Answers with this status and a body without end.
    Endless(u16),
}

/// A server that behaves like this on every connection; its URL with the scheme left out.
pub(crate) async fn rude(manners: Rude) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(behave(stream, manners));
        }
    });
    format!("{address}/hook?token=s3cret")
}

async fn behave(mut stream: TcpStream, manners: Rude) {
    if matches!(manners, Rude::ResetAtOnce) {
        stream.set_zero_linger().unwrap();
        return;
    }
    let mut request = vec![0; 64 * 1024];
    let mut got = 0;
    while !String::from_utf8_lossy(&request[..got]).contains("report_url") && got < 500 {
        match stream.read(&mut request[got..]).await {
            Ok(n) if n > 0 => got += n,
            _ => return,
        }
    }
    match manners {
        Rude::Silent => tokio::time::sleep(Duration::from_secs(60)).await,
        Rude::ResetAfterRequest => stream.set_zero_linger().unwrap(),
        Rude::ResetAtOnce | Rude::CloseAfterRequest => {}
        Rude::NotHttp => drop(stream.write_all(b"220 mail.example ESMTP\r\n").await),
        Rude::Endless(status) => {
            let head = format!("HTTP/1.1 {status} X\r\ncontent-type: text/plain\r\n\r\n");
            let mut written = stream.write_all(head.as_bytes()).await;
            while written.is_ok() {
                written = stream.write_all(&[b'x'; 4096]).await;
            }
        }
    }
}

/// A port on which nothing listens.
pub(crate) async fn refusing() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    format!("{}/hook?token=s3cret", listener.local_addr().unwrap())
}
