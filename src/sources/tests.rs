//! Sources that answer well, in part, too much, or not at all.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::routing::{get, post};
use davy_egress::HttpConfig;
use davy_model::{ManualClock, Timestamp};
use davy_store::{Limits, Options, Store};

use super::{Client, Failed, Fed, Feeds, ReleaseSource, SourceSpec};

const NOW: i64 = 1_767_225_600;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis((NOW + seconds) * 1000)
}

/// A part of what is asked, and the status and body of the answer.
type Rule = (&'static str, u16, String);

/// Answers by a part of what is asked; remembers what was asked.
#[derive(Clone, Default)]
struct Server {
    answers: Arc<Mutex<Vec<Rule>>>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    async fn start(&self) -> SourceSpec {
        let app = Router::new()
            .route("/prefix/api/v1/{*path}", get(answer).merge(post(answer_form)))
            .with_state(self.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, app).await });
        SourceSpec {
            name: "fleet".into(),
            url: format!("http://{address}/prefix/"),
            http: HttpConfig::default(),
            headers: BTreeMap::new(),
            timeout: Duration::from_secs(5),
            interval: Duration::from_millis(20),
            delay: Duration::from_secs(1),
        }
    }

    /// What is asked with `part` in it is answered so from now on.
    fn on(&self, part: &'static str, status: u16, body: impl Into<String>) {
        self.answers.lock().unwrap().insert(0, (part, status, body.into()));
    }

    fn find(&self, asked: &str) -> (StatusCode, String) {
        self.asked.lock().unwrap().push(asked.to_owned());
        let answers = self.answers.lock().unwrap();
        let found = answers.iter().find(|(part, ..)| asked.contains(part));
        found.map_or((StatusCode::NOT_FOUND, "lost".to_owned()), |(_, status, body)| {
            (StatusCode::from_u16(*status).unwrap(), body.clone())
        })
    }
}

async fn answer(State(server): State<Server>, uri: Uri) -> (StatusCode, String) {
    server.find(&uri.to_string())
}

async fn answer_form(State(server): State<Server>, uri: Uri, form: String) -> (StatusCode, String) {
    server.find(&format!("{uri} {form}"))
}

fn matrix(samples: &[(i64, &str)]) -> String {
    let values: Vec<String> = samples.iter().map(|(t, v)| format!("[{}, \"{v}\"]", NOW + t)).collect();
    let values = values.join(",");
    format!(
        r#"{{"status":"success","data":{{"resultType":"matrix","result":[
        {{"metric":{{"__name__":"up","service":"shop"}},"values":[{values}]}},
        {{"metric":{{"__name__":"native"}},"histograms":[[{NOW},{{"count":"3"}}]]}}]}}}}"#
    )
}

#[tokio::test]
async fn an_answer_counts_only_if_it_is_whole() {
    let server = Server::default();
    let client = Client::new(&server.start().await, 4000).unwrap();
    server.on("/query?", 200, matrix(&[(-30, "1"), (0, "NaN"), (1, "1")]));
    let found = client.raw("up", at(-20), at(0)).await.unwrap();
    assert_eq!(found.len(), 1, "a series of native histograms only is none");
    assert_eq!(found[0].samples.len(), 1, "what lies outside is left out");
    let ok = r#""data":{"resultType":"matrix","result":[]}"#;
    let big = format!(r#"{{"status":"success",{ok},"x":"{}"}}"#, "x".repeat(5000));
    for (body, status, want) in [
        (format!(r#"{{"status":"success","warnings":["store x is down"],{ok}}}"#), 200, "store x is down"),
        (format!(r#"{{"status":"success","isPartial":true,{ok}}}"#), 200, "partial"),
        (r#"{"status":"error","error":"out of memory"}"#.to_owned(), 503, "out of memory"),
        ("<html>".to_owned(), 502, "502: not an answer of Prometheus"),
        (r#"{"status":"success","data":{"resultType":"vector","result":[]}}"#.to_owned(), 200, "a vector"),
        (matrix(&[(0, "one")]), 200, "`one` is not a number"),
        (big, 200, "more than 4000 bytes"),
    ] {
        server.on("/query?", status, body);
        let error = client.raw("up", at(-20), at(0)).await.expect_err(want).to_string();
        assert!(error.contains(want), "{want}: {error}");
    }
    server.on(
        "/query ",
        200,
        r#"{"data":{"resultType":"vector","result":[{"metric":{"a":"b"},"value":[1,"2.5"]}]}}"#,
    );
    let instant = client.instant("sum by (a) (x)", at(0)).await.unwrap();
    assert_eq!((instant.len(), instant[0].1), (1, 2.5));
    assert!(server.asked.lock().unwrap().last().unwrap().contains("query=sum+by"), "sent as a form");
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_given_up_in_time() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let spec = SourceSpec {
        url: format!("http://{}", silent.local_addr().unwrap()),
        timeout: Duration::from_millis(50),
        ..Server::default().start().await
    };
    let error = Client::new(&spec, 4000).unwrap().raw("up", at(-20), at(0)).await.expect_err("no answer");
    assert!(matches!(&error, Failed::Other(why) if why.contains("no answer within 50ms")), "{error}");
}

struct Fixture {
    feeds: Feeds,
    store: Store,
    clock: Arc<ManualClock>,
    server: Server,
    _dir: tempfile::TempDir,
}

impl Fixture {
    async fn start(prepare: impl FnOnce(&Server)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let limits = Limits { free_disk_bytes_min: 0, ..Limits::default() };
        let (store, _) = Store::open(dir.path(), at(0), Options { limits, ..Options::default() }).unwrap();
        let clock = Arc::new(ManualClock::new(at(0)));
        let server = Server::default();
        prepare(&server);
        let feeds = Feeds::new(store.clone(), clock.clone());
        let of = ReleaseSource { source: "fleet".into(), selectors: vec![] };
        feeds.apply(&[server.start().await], &[("shop".to_owned(), of)].into()).await.unwrap();
        Self { feeds, store, clock, server, _dir: dir }
    }

    async fn until(&self, what: &str, probe: impl Fn(&Fed) -> bool) {
        for _ in 0..500 {
            if self.feeds.states().get("shop").is_some_and(|fed| probe(&fed)) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("waited for {what}: {:?}", self.feeds.states().get("shop"));
    }

    fn samples(&self) -> usize {
        let found = self.store.snapshot().select(&[], Timestamp::MIN, Timestamp::MAX).unwrap();
        found.iter().map(|s| s.samples.len()).sum()
    }
}

const NOTHING: &str = r#"{"data":{"resultType":"matrix","result":[]}}"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn samples_are_fetched_whole_or_not_at_all() {
    let f = Fixture::start(|server| {
        server.on("service%3D%22shop%22", 200, matrix(&[(-30, "1"), (-15, "1")]));
        server.on("job%3D%22shop%22", 200, NOTHING);
    })
    .await;
    f.until("the first fetch", |fed| fed.error.is_none()).await;
    assert_eq!(f.samples(), 2);
    // One of the two selectors fails: what the other brought is not kept.
    f.server.on("service%3D%22shop%22", 200, matrix(&[(-15, "1"), (0, "1")]));
    f.server.on("job%3D%22shop%22", 500, r#"{"error":"broken"}"#);
    f.clock.set(at(5));
    f.until("the failure", |fed| fed.error.as_ref().is_some_and(|e| e.contains("broken"))).await;
    assert_eq!((f.samples(), f.feeds.states().get("shop").unwrap().complete_until), (2, at(-1)));
    // The newest sample, less the delay.
    f.server.on("service%3D%22shop%22", 200, matrix(&[(-15, "1"), (3, "1")]));
    f.server.on("job%3D%22shop%22", 200, NOTHING);
    f.until("it to answer again", |fed| fed.error.is_none() && fed.complete_until == at(2)).await;
    assert_eq!(f.samples(), 3);
    f.feeds.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_much_is_asked_by_metric_and_what_is_not_raw_at_steps() {
    let f = Fixture::start(|server| {
        server.on("/query?", 422, r#"{"error":"query processing would load too many samples into memory"}"#);
        server.on("__name__%3D%22up%22", 200, r#"{"data":{"resultType":"vector","result":[]}}"#);
        server.on("/query_range?", 200, matrix(&[(-20, "1"), (-10, "1")]));
        server.on("/label/__name__/values", 200, r#"{"data":["up"]}"#);
    })
    .await;
    f.until("the fetch", |fed| fed.error.is_none()).await;
    assert_eq!(f.samples(), 2);
    let asked = f.server.asked.lock().unwrap().clone();
    assert!(asked.iter().any(|a| a.contains("/query_range?") && a.contains("step=1")), "{asked:?}");
    f.feeds.shutdown().await;
}
