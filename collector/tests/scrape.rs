//! The scrape loop over real sockets into a real store.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use davy_collector::scrape::{Health, Reason, TargetStatus};
use davy_egress::{Auth, Secret};
use davy_model::Labels;
use flate2::Compression;
use flate2::write::GzEncoder;
use tokio::io::AsyncWriteExt;

mod common;
use common::{Davy, bytes, fast, float, is_stale, mortal, ok, server};

fn is_up(t: &TargetStatus) -> bool {
    t.health == Health::Up
}

fn is_down(t: &TargetStatus) -> bool {
    t.health == Health::Down
}

/// Scrapes what `answer` sends until it has failed once.
async fn failure(answer: Vec<u8>) -> (Reason, String) {
    let address = bytes(answer).await;
    let davy = Davy::new();
    davy.apply(vec![fast("j", &[&address])]).await;
    let t = davy.until("down", is_down).await;
    let up = davy.samples_until("up", |s| !s.is_empty()).await;
    assert_eq!(float(&up[0]), 0.0);
    assert_eq!(t.samples, 0);
    davy.manager.shutdown().await;
    (t.reason.unwrap(), t.last_error.unwrap())
}

#[tokio::test]
async fn samples_and_reports_reach_the_store_at_the_time_of_their_tick() {
    let address = bytes(ok("", b"# TYPE a gauge\n# HELP a Help.\na{x=\"1\"} 5\n")).await;
    let davy = Davy::new();
    davy.apply(vec![fast("api", &[&address])]).await;
    let a = davy.samples_until("a", |s| s.len() >= 3).await;
    davy.manager.shutdown().await;

    let labels = [("__name__", "a"), ("x", "1"), ("job", "api"), ("instance", &address)];
    assert_eq!(davy.series("a")[0].0, Labels::from_pairs(labels));
    assert_eq!(davy.store.snapshot().metadata("a").unwrap().help, "Help.");
    let gaps: Vec<i64> =
        a.windows(2).map(|w| w[1].timestamp.as_millis() - w[0].timestamp.as_millis()).collect();
    assert!(gaps.iter().all(|g| *g >= 300), "missed ticks are not made up for: {gaps:?}");
    for (metric, value) in [
        ("up", 1.0),
        ("scrape_samples_scraped", 1.0),
        ("scrape_samples_post_metric_relabeling", 1.0),
        ("scrape_series_added", 1.0),
    ] {
        let first = &davy.samples(metric)[0];
        assert_eq!((float(first), first.timestamp), (value, a[0].timestamp), "{metric}");
    }
    assert!(float(&davy.samples("scrape_duration_seconds")[0]) > 0.0);
    assert!(!is_stale(&davy.samples("a")), "Davy went, not the target");
}

#[tokio::test]
async fn the_request_says_what_davy_wants() {
    let seen = Arc::new(Mutex::new(String::new()));
    let heard = seen.clone();
    let address = server(move |head, mut stream| {
        *heard.lock().unwrap() = head;
        async move {
            let _ = stream.write_all(&ok("Content-Type: application/openmetrics-text\r\n", b"# EOF\n")).await;
        }
    })
    .await;
    let dir = tempfile::tempdir().unwrap();
    let token = dir.path().join("token");
    std::fs::write(&token, "first\n").unwrap();
    let mut config = fast("j", &[&address]);
    config.params.insert("match[]".into(), vec!["a b".into()]);
    config.http.auth =
        Some(Auth::Authorization { scheme: "Bearer".into(), credentials: Secret::File(token.clone()) });
    let davy = Davy::new();
    davy.apply(vec![config]).await;
    davy.until("up", is_up).await;
    let head = seen.lock().unwrap().clone();
    for want in [
        "get /metrics?match%5b%5d=a+b http/1.1\r\n",
        "accept: application/openmetrics-text;version=1.0.0;",
        "accept-encoding: gzip\r\n",
        "x-prometheus-scrape-timeout-seconds: 0.4\r\n",
        concat!("user-agent: davy/", env!("CARGO_PKG_VERSION"), "\r\n"),
        "authorization: bearer first\r\n",
    ] {
        assert!(head.contains(want), "{want} in {head}");
    }
    std::fs::write(&token, "second").unwrap();
    for _ in 0..500 {
        if seen.lock().unwrap().contains("authorization: bearer second\r\n") {
            return davy.manager.shutdown().await;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the new token was never sent");
}

#[tokio::test]
async fn connections_are_used_again() {
    let accepted = Arc::new(AtomicU64::new(0));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let app = axum::Router::new().route("/metrics", axum::routing::get(|| async { "a 1\n" }));
    let counted = accepted.clone();
    let limits = davy_collector::serve::ServeLimits::default();
    let shutdown = tokio_util::sync::CancellationToken::new();
    let app = app.layer(axum::middleware::from_fn(
        move |peer: axum::extract::ConnectInfo<std::net::SocketAddr>,
              request,
              next: axum::middleware::Next| {
            counted.fetch_max(u64::from(peer.port()), Ordering::Relaxed);
            let first = counted.load(Ordering::Relaxed);
            async move {
                assert_eq!(u64::from(peer.port()), first, "the same connection");
                next.run(request).await
            }
        },
    ));
    tokio::spawn(davy_collector::serve::serve(listener, app, limits, shutdown));
    let davy = Davy::new();
    davy.apply(vec![fast("j", &[&address])]).await;
    let t = davy.until("scraped three times", |t| t.scrapes >= 3).await;
    assert_eq!((t.failures, t.health), (0, Health::Up));
    davy.manager.shutdown().await;
}

#[tokio::test]
async fn a_target_that_hangs_or_drips_fails_at_its_timeout() {
    let hang = server(|_, stream| async move {
        tokio::time::sleep(Duration::from_secs(60)).await;
        drop(stream);
    })
    .await;
    let drip = server(|_, mut stream| async move {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
        while stream.write_all(b"a 1\n").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    let davy = Davy::new();
    davy.apply(vec![fast("hang", &[&hang]), fast("drip", &[&drip])]).await;
    for job in ["hang", "drip"] {
        let t = davy.until(job, |t| t.job == job && is_down(t)).await;
        assert_eq!(t.reason, Some(Reason::Timeout), "{t:?}");
        assert!(t.last_duration < Duration::from_secs(2), "{t:?}");
    }
    davy.manager.shutdown().await;
}

#[tokio::test]
async fn wrong_answers_fail_with_their_reason() {
    let status = |line: &str, headers: &str| {
        format!("HTTP/1.1 {line}\r\nConnection: close\r\nContent-Length: 0\r\n{headers}\r\n").into_bytes()
    };
    let no_length = |body: &[u8]| [b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", body].concat();
    let openmetrics = "Content-Type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\n";
    let cut = ok("", b"a 1\nb 2\n");
    for (name, answer, reason, message) in [
        ("401", status("401 Unauthorized", ""), Reason::Auth, "401 Unauthorized"),
        ("403", status("403 Forbidden", ""), Reason::Auth, "403 Forbidden"),
        ("500", status("500 Oops", ""), Reason::HttpStatus, "expected status 200, got 500"),
        (
            "redirect",
            status("302 Found", "Location: /other\r\n"),
            Reason::HttpStatus,
            "redirects are not followed",
        ),
        ("half a line", no_length(b"a 1\nb_total 1"), Reason::Parse, "line 2, column 10"),
        ("cut off", cut[..cut.len() - 2].to_vec(), Reason::Connection, ""),
        ("no EOF", ok(openmetrics, b"a 1\n"), Reason::Parse, "`# EOF` as the last line"),
        ("not UTF-8", ok("", b"a{b=\"\xff\"} 1\n"), Reason::Parse, "line 1, column 6: expected valid UTF-8"),
        ("HTML", ok("Content-Type: text/html\r\n", b"<html></html>\n"), Reason::Parse, "got \"<html>"),
        ("brotli", ok("Content-Encoding: br\r\n", b"x"), Reason::Parse, "got \"br\""),
        ("not gzip", ok("Content-Encoding: gzip\r\n", b"a 1\n"), Reason::Parse, "gzip body is damaged"),
        ("not HTTP", b"SSH-2.0-OpenSSH\r\n".to_vec(), Reason::Connection, ""),
    ] {
        let (got, error) = failure(answer).await;
        assert_eq!(got, reason, "{name}: {error}");
        assert!(error.contains(message), "{name}: {error}");
    }
}

/// Speaks before it is spoken to, and not TLS.
async fn plain() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    });
    address
}

#[tokio::test]
async fn unreachable_targets_say_how() {
    let closed =
        tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string();
    let plain = plain().await;
    let davy = Davy::new();
    let mut https = fast("tls", &[&plain]);
    https.scheme = davy_collector::config::Scheme::Https;
    let mut dns = fast("dns", &["davy.invalid:80"]);
    // Some resolvers take their time to say no.
    (dns.scrape_interval, dns.scrape_timeout) = (Duration::from_secs(3), Duration::from_secs(3));
    davy.apply(vec![dns, fast("refused", &[&closed]), fast("config", &["169.254.169.254:80"]), https]).await;
    for (job, reason) in
        [("dns", Reason::Dns), ("refused", Reason::Refused), ("config", Reason::Config), ("tls", Reason::Tls)]
    {
        let t = davy.until(job, |t| t.job == job && is_down(t)).await;
        assert_eq!(t.reason, Some(reason), "{t:?}");
    }
    davy.manager.shutdown().await;
}

#[tokio::test]
async fn gigabytes_of_gzipped_zeros_stop_at_the_limit() {
    // 64 GiB of zeros are 64 MiB of such members: more than the buffers of two sockets hold.
    const MEMBERS: u64 = 65_536;
    let mut member = GzEncoder::new(Vec::new(), Compression::best());
    member.write_all(&vec![b'0'; 1 << 20]).unwrap();
    let member = member.finish().unwrap();
    let sent = Arc::new(AtomicU64::new(0));
    let counted = sent.clone();
    let address = server(move |_, mut stream| {
        let (member, counted) = (member.clone(), counted.clone());
        async move {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n").await;
            for _ in 0..MEMBERS {
                if stream.write_all(&member).await.is_err() {
                    return;
                }
                counted.fetch_add(1, Ordering::Relaxed);
            }
        }
    })
    .await;
    let davy = Davy::new();
    let mut config = fast("j", &[&address]);
    config.scrape_interval = Duration::from_secs(2);
    config.scrape_timeout = Duration::from_secs(2);
    config.limits.body_bytes_max = 4 << 20;
    davy.apply(vec![config]).await;
    let t = davy.until("down", is_down).await;
    assert_eq!((t.reason, t.failures), (Some(Reason::Limit), 1), "{t:?}");
    davy.manager.shutdown().await;
    // What lies between are the buffers of the two sockets.
    assert!(sent.load(Ordering::Relaxed) < MEMBERS, "the target sent all of it");
}

#[tokio::test]
async fn limits_fail_the_whole_scrape() {
    let address = bytes(ok("", b"a 1\nb 2\nc 3\n")).await;
    let davy = Davy::new();
    let mut config = fast("j", &[&address]);
    config.limits.samples_max = 2;
    davy.apply(vec![config]).await;
    let t = davy.until("down", is_down).await;
    assert_eq!((t.reason, t.last_error.as_deref()), (Some(Reason::Limit), Some("more than 2 samples")));
    assert!(davy.series("a").is_empty(), "nothing of it is stored");
    davy.manager.shutdown().await;
}

#[tokio::test]
async fn duplicates_and_the_year_9999_are_counted_and_the_rest_is_stored() {
    let address = bytes(ok("", b"a 1\na 2\nfar 1 253370764800000\nb 1\n")).await;
    let davy = Davy::new();
    davy.apply(vec![fast("j", &[&address])]).await;
    let t = davy.until("up", is_up).await;
    assert_eq!((t.duplicates, t.refused), (1, 1));
    assert!(t.last_error.as_deref().unwrap().contains("outside the accepted window"), "{t:?}");
    assert_eq!(float(&davy.samples("a")[0]), 1.0);
    assert_eq!(float(&davy.samples("b")[0]), 1.0);
    davy.manager.shutdown().await;
    assert!(davy.series("far").is_empty());
}

#[tokio::test]
async fn gzip_bodies_are_read() {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    gzip.write_all(b"a 7\n").unwrap();
    let address = bytes(ok("Content-Encoding: gzip\r\n", &gzip.finish().unwrap())).await;
    let davy = Davy::new();
    davy.apply(vec![fast("j", &[&address])]).await;
    let a = davy.samples_until("a", |s| !s.is_empty()).await;
    assert_eq!(float(&a[0]), 7.0);
    davy.manager.shutdown().await;
}

#[tokio::test]
async fn series_end_when_their_target_fails_or_goes() {
    let dead = Arc::new(AtomicBool::new(false));
    let address = mortal(dead.clone()).await;
    let davy = Davy::new();
    davy.apply(vec![fast("j", &[&address])]).await;
    davy.until("up", is_up).await;
    dead.store(true, Ordering::Relaxed);
    davy.samples_until("healthy", is_stale).await;
    assert!(!is_stale(&davy.samples("up")), "that it is down is a value");
    dead.store(false, Ordering::Relaxed);
    davy.samples_until("healthy", |s| !is_stale(s)).await;
    davy.apply(vec![]).await;
    davy.samples_until("healthy", is_stale).await;
    davy.samples_until("up", is_stale).await;
    assert!(davy.manager.targets().is_empty());
    davy.manager.shutdown().await;
}

#[tokio::test]
async fn the_first_errors_of_a_running_target_count_from_zero() {
    let address = mortal(Arc::default()).await;
    let davy = Davy::new();
    davy.apply(vec![fast("j", &[&address])]).await;
    davy.until("scraped four times", |t| t.scrapes >= 4).await;
    davy.manager.shutdown().await;
    let series = davy.series("r_total");
    let of = |code| &series.iter().find(|(l, _)| l.get("code") == Some(code)).unwrap().1;
    let (errors, requests) = (of("500"), of("200"));
    assert_eq!((float(&errors[0]), float(&errors[1])), (0.0, 3.0), "{errors:?}");
    assert_eq!(errors[0].timestamp, requests[1].timestamp, "at the scrape before");
    assert_eq!(float(&requests[0]), 10.0, "it was there at the first scrape, and may be old");
}

#[tokio::test]
async fn a_restart_of_davy_puts_no_zero_before_what_it_stored() {
    let start = common::SystemClock;
    let start = davy_model::Clock::now(&start).as_secs_f64();
    let body = format!("process_start_time_seconds {start}\nr_total 9\n");
    let address = bytes(ok("", body.as_bytes())).await;
    let davy = Davy::new();
    let mut config = fast("j", &[&address]);
    // Two intervals reach back to before the restart.
    config.scrape_interval = Duration::from_secs(1);
    davy.apply(vec![config.clone()]).await;
    davy.until("up", is_up).await;
    davy.manager.shutdown().await;
    let again = davy_collector::scrape::ScrapeManager::new(davy.store.clone(), Arc::new(common::SystemClock));
    again.apply(vec![config]).await.unwrap();
    davy.samples_until("r_total", |s| s.len() >= 3).await;
    again.shutdown().await;
    let values: Vec<f64> = davy.samples("r_total").iter().map(float).collect();
    assert_eq!(values[..3], [0.0, 9.0, 9.0]);
    assert!(values[1..].iter().all(|v| *v == 9.0), "{values:?}");
}
