//! Remote write out over real sockets, into Davy's own receiver and into servers that misbehave.
#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use davy_collector::remote_write::{Receiver, RemoteWriteLimits, http_router};
use davy_collector::remote_write_out::{
    DestinationStats, Forwarder, MetadataConfig, Protocol, QueueConfig, RemoteWriteConfig,
};
use davy_egress::HttpConfig;
use davy_model::{
    BucketSpan, Exemplar, Histogram, Labels, ManualClock, Metadata, MetricType, STALE_NAN, Timestamp, Value,
};
use davy_store::control::Control;
use davy_store::{Durability, Limits, Options, SeriesSamples, Store};

const NOW: i64 = 1_767_225_600_000;

fn at(ms: i64) -> Timestamp {
    Timestamp::from_millis(NOW + ms)
}

fn open(dir: &Path, name: &str) -> Store {
    let options = Options {
        commit_interval: Duration::from_millis(1),
        limits: Limits { free_disk_bytes_min: 0, ..Limits::default() },
        ..Options::default()
    };
    Store::open(&dir.join(name), at(0), options).unwrap().0
}

/// One series, its value, at one time.
fn put(store: &Store, n: u64, ms: i64, value: Value) {
    let mut a = store.appender(at(ms));
    let s = a.series(&Labels::from_pairs([("__name__", "x"), ("n", &n.to_string())])).unwrap();
    a.append(s, at(ms), value).unwrap();
    a.commit(Durability::Sync).unwrap();
}

fn select(store: &Store) -> Vec<SeriesSamples> {
    store.snapshot().select(&[], Timestamp::MIN, Timestamp::MAX).unwrap()
}

fn config(address: SocketAddr) -> RemoteWriteConfig {
    RemoteWriteConfig {
        name: "far".into(),
        url: format!("http://{address}/api/v1/write"),
        remote_timeout: Duration::from_secs(5),
        headers: [].into(),
        external_labels: [].into(),
        write_relabel: vec![],
        http: HttpConfig::default(),
        protocol: Protocol::V1,
        send_exemplars: true,
        send_native_histograms: true,
        queue: QueueConfig {
            max_samples_per_send: 10,
            max_shards: 4,
            batch_send_deadline: Duration::from_millis(20),
            min_backoff: Duration::from_millis(5),
            max_backoff: Duration::from_millis(20),
            ..QueueConfig::default()
        },
        metadata: MetadataConfig::default(),
    }
}

async fn serve(router: Router) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

/// Davy's own receiver on a store.
async fn receiver(store: &Store) -> SocketAddr {
    let clock = Arc::new(ManualClock::new(at(0)));
    serve(http_router(Receiver::new(store.clone(), clock, &RemoteWriteLimits::default()))).await
}

fn forwarder(dir: &Path, store: &Store) -> Forwarder {
    let control = Control::open(&dir.join("control.db")).unwrap();
    Forwarder::new(store.clone(), control, Arc::new(ManualClock::new(at(0))))
}

async fn until(what: &str, mut probe: impl FnMut() -> bool) {
    for _ in 0..1000 {
        if probe() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("waited for {what}");
}

fn samples(store: &Store) -> usize {
    select(store).iter().map(|s| s.samples.len()).sum()
}

fn stats(f: &Forwarder) -> Arc<DestinationStats> {
    f.stats()[0].1.clone()
}

fn histogram(schema: i32) -> Histogram {
    Histogram {
        schema,
        count: 3.5,
        sum: 4.5,
        zero_count: if schema == -53 { 0.0 } else { 0.5 },
        positive_spans: vec![BucketSpan { offset: 1, length: 2 }],
        positive_counts: vec![1.0, 2.0],
        custom_bounds: if schema == -53 { vec![0.1, 0.5, 1.0] } else { vec![] },
        ..Histogram::default()
    }
}

async fn everything_arrives(protocol: Protocol) {
    let dir = tempfile::tempdir().unwrap();
    let (near, far) = (open(dir.path(), "near"), open(dir.path(), "far"));
    put(&near, 0, -1000, Value::Float(7.0));
    let address = receiver(&far).await;
    let f = forwarder(dir.path(), &near);
    f.apply(vec![RemoteWriteConfig { protocol, ..config(address) }]).await.unwrap();
    // What was there before a destination is not sent to it.
    until("the position", || f.stats().len() == 1 && dir.path().join("control.db").exists()).await;
    let begun = || Control::open(&dir.path().join("control.db")).unwrap().forwarded("far").unwrap().is_some();
    until("the position to be on disk", begun).await;
    let values = [1.5, -0.0, f64::INFINITY, f64::from_bits(0x7ff8_0000_0000_0001), STALE_NAN];
    for n in 0..40 {
        for (t, v) in values.iter().enumerate() {
            put(&near, n, t as i64, Value::Float(*v));
        }
    }
    let mut stale = Histogram { sum: STALE_NAN, ..Histogram::default() };
    stale.schema = 1;
    let whole = Histogram { count: 3.0, zero_count: 0.0, ..histogram(2) };
    for (t, h) in [histogram(1), whole, histogram(-53), stale].into_iter().enumerate() {
        put(&near, 99, t as i64, Value::Histogram(Arc::new(h)));
    }
    let mut a = near.appender(at(0));
    let s = a.series(&Labels::from_pairs([("__name__", "x"), ("n", "1")])).unwrap();
    let labels = Labels::from_pairs([("trace_id", "abc")]);
    a.exemplar(s, Exemplar { labels, value: 0.25, timestamp: at(2) });
    a.metadata("x", &Metadata { metric_type: MetricType::Gauge, help: "An x.".into(), unit: "".into() });
    a.append(s, at(10), Value::Float(1.0)).unwrap();
    a.commit(Durability::Sync).unwrap();
    until("everything to arrive", || samples(&far) == 40 * 5 + 4 + 1).await;
    let want: Vec<String> = select(&near).iter().map(|s| format!("{s:?}")).collect();
    let want: Vec<String> =
        want.into_iter().map(|s| s.replace(&format!("{:?}, ", sample(-1000)), "")).collect();
    let got: Vec<String> = select(&far).iter().map(|s| format!("{s:?}")).collect();
    assert_eq!(got, want);
    let bits = |store: &Store| -> Vec<Option<u64>> {
        let all = select(store).into_iter().flat_map(|s| s.samples);
        all.filter(|s| s.timestamp >= at(0)).map(|s| s.value.as_float().map(f64::to_bits)).collect()
    };
    assert_eq!(bits(&far), bits(&near), "bit for bit");
    let snapshot = far.snapshot();
    assert_eq!(snapshot.exemplars(&[], at(0), at(10))[0].1[0].value, 0.25);
    let known = || far.snapshot().metadata("x").is_some_and(|m| m.help == "An x.");
    if protocol == Protocol::V2 {
        until("metadata", known).await;
    }
    f.shutdown().await;
    assert_eq!(stats(&f).samples_failed.load(Ordering::Relaxed), 0);
}

fn sample(ms: i64) -> davy_model::Sample {
    davy_model::Sample { timestamp: at(ms), value: Value::Float(7.0) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_arrives_bit_for_bit_by_1_0() {
    everything_arrives(Protocol::V1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_arrives_bit_for_bit_by_2_0() {
    everything_arrives(Protocol::V2).await;
}

/// A server that answers as told and remembers what it acknowledged.
#[derive(Clone, Default)]
struct Script {
    /// Statuses of the first requests.
    first: Arc<Mutex<Vec<u16>>>,
    asked: Arc<AtomicUsize>,
    taken: Arc<Mutex<Vec<Bytes>>>,
}

async fn script(State(s): State<Script>, _: HeaderMap, body: Bytes) -> StatusCode {
    s.asked.fetch_add(1, Ordering::Relaxed);
    let status = s.first.lock().unwrap().pop().unwrap_or(204);
    if status == 204 {
        s.taken.lock().unwrap().push(body);
    }
    StatusCode::from_u16(status).unwrap()
}

fn scripted(script_: &Script) -> Router {
    Router::new().route("/api/v1/write", post(script)).with_state(script_.clone())
}

/// How many samples of 1.0 a body holds, roughly read: each is a series of its own here.
fn series_in(body: &Bytes) -> usize {
    let message = snap::raw::Decoder::new().decompress_vec(body).unwrap();
    let text = String::from_utf8_lossy(&message).into_owned();
    text.matches("__name__").count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_while_the_server_is_not_ready_and_refusals_are_counted() {
    let dir = tempfile::tempdir().unwrap();
    let near = open(dir.path(), "near");
    let server = Script::default();
    *server.first.lock().unwrap() = vec![429, 500, 503];
    let f = forwarder(dir.path(), &near);
    let mut config = config(serve(scripted(&server)).await);
    config.metadata.send = false;
    f.apply(vec![config.clone()]).await.unwrap();
    let begun = || Control::open(&dir.path().join("control.db")).unwrap().forwarded("far").unwrap().is_some();
    until("the position", begun).await;
    put(&near, 1, 0, Value::Float(1.0));
    until("the sample", || server.taken.lock().unwrap().len() == 1).await;
    let s = stats(&f);
    assert_eq!((s.samples_retried.load(Ordering::Relaxed), server.asked.load(Ordering::Relaxed)), (3, 4));
    // Refused for good: counted, and the next goes on.
    *server.first.lock().unwrap() = vec![403];
    put(&near, 1, 1, Value::Float(1.0));
    until("the refusal", || s.samples_failed.load(Ordering::Relaxed) == 1).await;
    put(&near, 1, 2, Value::Float(1.0));
    until("the next", || server.taken.lock().unwrap().len() == 2).await;
    f.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clean_restart_sends_nothing_twice_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let near = open(dir.path(), "near");
    let server = Script::default();
    let mut config = config(serve(scripted(&server)).await);
    config.metadata.send = false;
    let count = || server.taken.lock().unwrap().iter().map(series_in).sum::<usize>();
    let f = forwarder(dir.path(), &near);
    f.apply(vec![config.clone()]).await.unwrap();
    let begun = || Control::open(&dir.path().join("control.db")).unwrap().forwarded("far").unwrap().is_some();
    until("the position", begun).await;
    for n in 0..300 {
        put(&near, n, 0, Value::Float(1.0));
    }
    // Stopped in the middle, again and again.
    for _ in 0..5 {
        let before = count();
        until("some of it", || count() > before || count() == 300).await;
        f.shutdown().await;
        f.apply(vec![config.clone()]).await.unwrap();
    }
    until("all of it", || count() >= 300).await;
    f.shutdown().await;
    assert_eq!(count(), 300, "each once");
}

/// As Prometheus before 3: one sample that it does not like and nothing of the request is kept.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_refuses_all_for_one_gets_the_good_ones_by_themselves() {
    let dir = tempfile::tempdir().unwrap();
    let near = open(dir.path(), "near");
    let taken: Arc<Mutex<Vec<usize>>> = Arc::default();
    let app = Router::new().route(
        "/api/v1/write",
        post({
            let taken = taken.clone();
            move |body: Bytes| async move {
                let message = snap::raw::Decoder::new().decompress_vec(&body).unwrap();
                if message.windows(6).any(|w| w == b"poison") {
                    return StatusCode::BAD_REQUEST;
                }
                taken.lock().unwrap().push(series_in(&body));
                StatusCode::NO_CONTENT
            }
        }),
    );
    let f = forwarder(dir.path(), &near);
    let mut config = config(serve(app).await);
    config.metadata.send = false;
    config.queue.max_samples_per_send = 16;
    config.queue.batch_send_deadline = Duration::from_secs(5);
    f.apply(vec![config]).await.unwrap();
    let begun = || Control::open(&dir.path().join("control.db")).unwrap().forwarded("far").unwrap().is_some();
    until("the position", begun).await;
    let mut a = near.appender(at(0));
    for n in 0..16 {
        let name = if n == 5 { "poison".to_owned() } else { format!("fine_{n}") };
        let s = a.series(&Labels::from_pairs([("__name__", name)])).unwrap();
        a.append(s, at(n), Value::Float(1.0)).unwrap();
    }
    a.commit(Durability::Sync).unwrap();
    until("the good ones", || taken.lock().unwrap().iter().sum::<usize>() == 15).await;
    until("the refusal", || stats(&f).samples_failed.load(Ordering::Relaxed) == 1).await;
    f.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_log_no_longer_holds_comes_out_of_the_sealed_samples() {
    let dir = tempfile::tempdir().unwrap();
    let (near, far) = (open(dir.path(), "near"), open(dir.path(), "far"));
    let address = receiver(&far).await;
    let f = forwarder(dir.path(), &near);
    f.apply(vec![config(address)]).await.unwrap();
    let begun = || Control::open(&dir.path().join("control.db")).unwrap().forwarded("far").unwrap().is_some();
    until("the position", begun).await;
    f.shutdown().await;
    // Away while two hours are sealed. The receiver takes an hour: what matters is that they were asked for.
    for t in 1..=20 {
        put(&near, t as u64 % 3, t * 60_000, Value::Float(t as f64));
    }
    let later = 4 * 3_600_000;
    near.maintain(at(later)).unwrap();
    f.apply(vec![config(address)]).await.unwrap();
    until("the sealed ones", || samples(&far) >= 10).await;
    until("the gap to be counted", || stats(&f).gaps.load(Ordering::Relaxed) == 1).await;
    until("the log to be read on", || stats(&f).records_behind.load(Ordering::Relaxed) == 0).await;
    f.shutdown().await;
    // Up to ten minutes ahead of its clock is what the receiver believes.
    let values: Vec<f64> =
        select(&far).iter().flat_map(|s| &s.samples).filter_map(|s| s.value.as_float()).collect();
    assert_eq!(values.len(), 10, "{values:?}");
}
