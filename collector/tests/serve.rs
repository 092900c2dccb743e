//! The accept loop against clients that are slow, silent, too many, or just there when it ends.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use axum::routing::{get, post};
use davy_collector::serve::{ServeLimits, serve};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

const LONG: Duration = Duration::from_secs(20);

fn limits() -> ServeLimits {
    ServeLimits {
        header_read: Duration::from_millis(300),
        body_read: Duration::from_millis(300),
        idle: Duration::from_millis(900),
        drain: Duration::from_secs(2),
        ..ServeLimits::default()
    }
}

struct Server {
    address: SocketAddr,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

async fn start(limits: ServeLimits) -> Server {
    let app = Router::new()
        .route("/", get(|| async { "hello" }))
        .route("/peer", get(|peer: ConnectInfo<SocketAddr>| async move { peer.ip().to_string() }))
        .route("/echo", post(|body: String| async move { body }))
        .route(
            "/slow",
            get(|| async {
                sleep(Duration::from_millis(1200)).await;
                "done"
            }),
        );
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    let task = tokio::spawn(serve(listener, app, limits, shutdown.clone()));
    Server { address, shutdown, task }
}

impl Server {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }
}

async fn send(stream: &mut TcpStream, text: &str) {
    stream.write_all(text.as_bytes()).await.unwrap();
}

/// What comes until the server closes the connection.
async fn rest(stream: &mut TcpStream) -> String {
    let mut all = Vec::new();
    let _ = timeout(LONG, stream.read_to_end(&mut all)).await.expect("the server closes the connection");
    String::from_utf8_lossy(&all).into_owned()
}

/// One answer on a connection that stays open.
async fn answer(stream: &mut TcpStream, ends: &str) -> String {
    let (mut all, mut chunk) = (String::new(), [0; 1024]);
    while !all.ends_with(ends) {
        let n = timeout(LONG, stream.read(&mut chunk)).await.expect("an answer").unwrap();
        assert!(n > 0, "closed after {all:?}");
        all.push_str(&String::from_utf8_lossy(&chunk[..n]));
    }
    all
}

#[tokio::test]
async fn half_a_header_is_cut_off_however_it_drips() {
    let server = start(limits()).await;
    let mut quick = server.connect().await;
    send(&mut quick, "GET / HTTP/1.1\r\nHost: a\r\nX-Slow: ").await;
    assert_eq!(rest(&mut quick).await, "");

    let mut dripping = server.connect().await;
    send(&mut dripping, "GET / HTTP/1.1\r\nX-Slow: ").await;
    let mut drops = 0;
    while dripping.write_all(b"a").await.is_ok() {
        drops += 1;
        assert!(drops < 200, "a drop now and then keeps the connection");
        sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_second_request_has_to_hurry_too() {
    let server = start(limits()).await;
    let mut stream = server.connect().await;
    send(&mut stream, "GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    answer(&mut stream, "hello").await;
    send(&mut stream, "GET / HT").await;
    assert_eq!(timeout(LONG, rest(&mut stream)).await.unwrap(), "");
}

#[tokio::test]
async fn a_silent_connection_is_closed_later_than_a_slow_one() {
    let server = start(limits()).await;
    let mut used = server.connect().await;
    send(&mut used, "GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    answer(&mut used, "hello").await;
    sleep(Duration::from_millis(500)).await;
    send(&mut used, "GET /peer HTTP/1.1\r\nHost: a\r\n\r\n").await;
    answer(&mut used, "127.0.0.1").await;
    assert_eq!(rest(&mut used).await, "");
    let mut never_used = server.connect().await;
    assert_eq!(rest(&mut never_used).await, "");
}

#[tokio::test]
async fn a_body_that_drips_fails_and_a_slow_handler_does_not() {
    let server = start(limits()).await;
    let mut slow = server.connect().await;
    send(&mut slow, "GET /slow HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let mut stream = server.connect().await;
    send(&mut stream, "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab").await;
    let refused = rest(&mut stream).await;
    assert!(refused.starts_with("HTTP/1.1 400"), "{refused:?}");
    assert!(answer(&mut slow, "done").await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn one_connection_too_many_is_closed_at_once_and_its_place_comes_back() {
    let server = start(ServeLimits { connections_max: 2, ..limits() }).await;
    let (mut a, mut b) = (server.connect().await, server.connect().await);
    for stream in [&mut a, &mut b] {
        send(stream, "GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        answer(stream, "hello").await;
    }
    let mut third = server.connect().await;
    assert_eq!(rest(&mut third).await, "");
    drop(a);
    for _ in 0..100 {
        let mut again = server.connect().await;
        if again.write_all(b"GET / HTTP/1.0\r\n\r\n").await.is_ok()
            && rest(&mut again).await.ends_with("hello")
        {
            return;
        }
        sleep(Duration::from_millis(20)).await;
    }
    panic!("the place never came back");
}

#[tokio::test]
async fn shutdown_lets_requests_finish_and_takes_no_more() {
    let server = start(limits()).await;
    let mut slow = server.connect().await;
    send(&mut slow, "GET /slow HTTP/1.1\r\nHost: a\r\n\r\n").await;
    sleep(Duration::from_millis(200)).await;
    server.shutdown.cancel();
    assert!(rest(&mut slow).await.ends_with("done"));
    timeout(LONG, server.task).await.unwrap().unwrap();
    assert!(TcpStream::connect(server.address).await.is_err());
}
