//! The demo's own weighted splitter: a reverse proxy with real sockets, and a small admin API that speaks the Davy
//! protocol, as anyone may write one.
//!
//! `GET /state`, `PUT /weights`, `POST /split` (Standard Webhooks signature and `Idempotency-Key` required).

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::body::{Body as HttpBody, Bytes, to_bytes};
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use standardwebhooks::Webhook;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::split::{Body, Split, SplitState};
use super::{Answer, Change, View};

const BODY_BYTES_MAX: usize = 1 << 20;
/// Calls that are kept for the story; more are answered but no longer listed.
const CALLS_MAX: usize = 100;

/// A running splitter; dropping it closes its sockets.
pub(in crate::demo) struct Builtin {
    pub(in crate::demo) traffic: SocketAddr,
    pub(in crate::demo) admin: SocketAddr,
    shared: Arc<Shared>,
    _tasks: JoinSet<()>,
}

struct Shared {
    split: Mutex<Split>,
    changes: Mutex<Vec<Change>>,
    webhook: Webhook,
    client: reqwest::Client,
}

impl Builtin {
    /// Listens on two free loopback ports, one for traffic and one for the admin API.
    pub(in crate::demo) async fn start(
        split: Split,
        webhook: Webhook,
        client: reqwest::Client,
    ) -> io::Result<Self> {
        let shared =
            Arc::new(Shared { split: Mutex::new(split), changes: Mutex::default(), webhook, client });
        let mut tasks = JoinSet::new();
        let proxy = Router::new().fallback(forward).with_state(Arc::clone(&shared));
        let admin = Router::new()
            .route("/state", get(state))
            .route("/weights", put(weights))
            .route("/split", post(change))
            .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
            .with_state(Arc::clone(&shared));
        let traffic = serve(&mut tasks, proxy).await?;
        let admin = serve(&mut tasks, admin).await?;
        Ok(Self { traffic, admin, shared, _tasks: tasks })
    }

    /// Looks at the split or changes it, as an operator on the splitter's own machine could.
    pub(in crate::demo) fn with<T>(&self, f: impl FnOnce(&mut Split) -> T) -> T {
        f(&mut lock(&self.shared.split))
    }

    pub(super) fn view(&self) -> View {
        // The changes first: one that is listed is in the counts.
        let changes = lock(&self.shared.changes).clone();
        let (shares, counts) = self.with(|split| (split.shares(), split.all_counts()));
        View { shares, counts, changes, unseen: 0 }
    }
}

async fn serve(tasks: &mut JoinSet<()>, router: Router) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tasks.spawn(async move {
        // Ends only when the set is dropped: axum goes on after accept errors.
        let _ = axum::serve(listener, router).await;
    });
    Ok(address)
}

async fn forward(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let Ok(body) = to_bytes(body, BODY_BYTES_MAX).await else {
        return StatusCode::PAYLOAD_TOO_LARGE.into_response();
    };
    let Some(choice) = lock(&shared.split).choose() else {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    };
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    let mut upstream = shared.client.request(head.method, format!("{}{path}", choice.instance)).body(body);
    if let Some(kind) = head.headers.get(header::CONTENT_TYPE) {
        upstream = upstream.header(header::CONTENT_TYPE, kind);
    }
    let (code, kind, body) = match exchange(upstream).await {
        Ok(answer) => answer,
        Err(_) => (StatusCode::BAD_GATEWAY, None, Bytes::new()),
    };
    if code.is_server_error() {
        lock(&shared.split).count_error(&choice.version);
    }
    let mut response = Response::new(HttpBody::from(body));
    *response.status_mut() = code;
    if let Some(kind) = kind {
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
    }
    response
}

type Exchanged = (StatusCode, Option<header::HeaderValue>, Bytes);

async fn exchange(request: reqwest::RequestBuilder) -> reqwest::Result<Exchanged> {
    let response = request.send().await?;
    let kind = response.headers().get(header::CONTENT_TYPE).cloned();
    Ok((response.status(), kind, response.bytes().await?))
}

async fn state(State(shared): State<Arc<Shared>>) -> Json<SplitState> {
    Json(lock(&shared.split).state())
}

async fn weights(State(shared): State<Arc<Shared>>, Json(weights): Json<BTreeMap<String, u32>>) -> Response {
    match lock(&shared.split).set_weights(&weights) {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(why) => (StatusCode::UNPROCESSABLE_ENTITY, why).into_response(),
    }
}

async fn change(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> Response {
    let at = Instant::now();
    let key = headers.get("idempotency-key").and_then(|key| key.to_str().ok()).unwrap_or_default().to_owned();
    let read = read_call(&shared.webhook, &headers, &key, &body);
    // One lock for the change and the counts: what the canary gets afterwards is counted from here.
    let mut split = lock(&shared.split);
    let (order, answer) = match read {
        Ok(body) => {
            let answer = split.change(&key, &body);
            (Some(body.order()), answer)
        }
        Err((status, why)) => (None, Answer::Refused(status, why)),
    };
    let of = |version: Option<&String>| split.counts(version.map_or("", String::as_str));
    let (baseline, canary) = (of(order.as_ref().map(|o| &o.baseline)), of(order.as_ref().map(|o| &o.canary)));
    let state = split.state();
    let mut changes = lock(&shared.changes);
    if changes.len() < CALLS_MAX {
        changes.push(Change { at, key, order, answer: answer.clone(), baseline, canary });
    }
    match answer {
        Answer::Applied | Answer::Duplicate => Json(state).into_response(),
        Answer::Refused(status, why) => {
            (StatusCode::from_u16(status).expect("statuses here are constants"), why).into_response()
        }
    }
}

fn read_call(webhook: &Webhook, headers: &HeaderMap, key: &str, body: &[u8]) -> Result<Body, (u16, String)> {
    webhook.verify(body, headers).map_err(|error| (401, error.to_string()))?;
    if key.is_empty() {
        return Err((400, "the Idempotency-Key header is missing".to_owned()));
    }
    serde_json::from_slice(body).map_err(|error| (422, error.to_string()))
}

/// No holder of these locks panics half way through a change.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::super::Wanted;
    use super::*;
    use crate::demo::{SIGNING_SECRET, http_client};

    async fn service(answer: &'static str) -> (String, JoinSet<()>) {
        let mut tasks = JoinSet::new();
        let router = Router::new().route("/checkout", post(move || async move { answer }));
        let address = serve(&mut tasks, router).await.unwrap();
        (format!("http://{address}"), tasks)
    }

    async fn splitter(v1: String, v2: String) -> Builtin {
        let mut split = Split::new(1);
        split.deploy("v1", vec![v1]);
        split.deploy("v2", vec![v2]);
        split.set_weights(&[("v1".to_owned(), 50), ("v2".to_owned(), 50)].into()).unwrap();
        let webhook = Webhook::new(SIGNING_SECRET).unwrap();
        Builtin::start(split, webhook, http_client().unwrap()).await.unwrap()
    }

    fn call(splitter: &Builtin, secret: &str, key: &str) -> reqwest::RequestBuilder {
        let generation = splitter.with(|split| split.generation());
        let body = serde_json::json!({
            "action": "rollback", "release_id": "checkout-v2-1", "service": "checkout",
            "from_version": "v2", "to_version": "v1", "share": 0, "marker": key,
            "expect": {"revision": "v2", "uid": "splitter", "generation": generation.to_string()},
        })
        .to_string();
        #[expect(clippy::disallowed_methods, reason = "the verifier compares with the machine's clock")]
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let now = now.as_secs() as i64;
        let signature = Webhook::new(secret).unwrap().sign("msg_1", now, body.as_bytes()).unwrap();
        http_client()
            .unwrap()
            .post(format!("http://{}/split", splitter.admin))
            .header("webhook-id", "msg_1")
            .header("webhook-timestamp", now)
            .header("webhook-signature", signature)
            .header("idempotency-key", key)
            .body(body)
    }

    #[tokio::test]
    async fn requests_reach_both_versions_and_dead_instances_count_as_errors() {
        let (v1, _v1) = service("one").await;
        let splitter = splitter(v1, "http://127.0.0.1:1".into()).await;
        let client = http_client().unwrap();
        let mut codes = BTreeMap::<u16, u64>::new();
        for _ in 0..40 {
            let url = format!("http://{}/checkout", splitter.traffic);
            *codes.entry(client.post(url).send().await.unwrap().status().as_u16()).or_default() += 1;
        }
        let (stable, canary) = splitter.with(|split| (split.counts("v1"), split.counts("v2")));
        assert_eq!(stable.requests + canary.requests, 40);
        assert_eq!(stable.errors, 0);
        assert_eq!(canary.errors, canary.requests);
        assert_eq!(codes, [(200, stable.requests), (502, canary.requests)].into());
    }

    #[tokio::test]
    async fn a_signed_rollback_is_applied_once_and_answered_twice() {
        let splitter = splitter("http://127.0.0.1:1".into(), "http://127.0.0.1:1".into()).await;
        for _ in 0..2 {
            let response = call(&splitter, SIGNING_SECRET, "key-1").send().await.unwrap();
            assert_eq!(response.status(), 200);
            let state: serde_json::Value = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap();
            assert_eq!(state["weights"], serde_json::json!({"v1": 100, "v2": 0}));
        }
        let changes = splitter.view().changes;
        let answers: Vec<_> = changes.iter().map(|change| change.answer.clone()).collect();
        assert_eq!(answers, [Answer::Applied, Answer::Duplicate]);
        let order = changes[0].order.as_ref().unwrap();
        assert_eq!((order.wanted, order.canary.as_str()), (Wanted::Rollback, "v2"));
    }

    #[tokio::test]
    async fn a_rollback_with_a_wrong_signature_or_without_a_key_changes_nothing() {
        let splitter = splitter("http://127.0.0.1:1".into(), "http://127.0.0.1:1".into()).await;
        let forged = call(&splitter, "whsec_bm90IHRoZSBzaGFyZWQgc2VjcmV0", "key-1").send().await.unwrap();
        assert_eq!(forged.status(), 401);
        assert_eq!(call(&splitter, SIGNING_SECRET, "").send().await.unwrap().status(), 400);
        let view = splitter.view();
        assert_eq!(view.shares["v2"], 50);
        assert!(view.changes.iter().all(|change| matches!(change.answer, Answer::Refused(..))));
    }

    #[tokio::test]
    async fn the_admin_api_shows_and_sets_weights() {
        let splitter = splitter("http://127.0.0.1:1".into(), "http://127.0.0.1:1".into()).await;
        let client = http_client().unwrap();
        let admin = format!("http://{}", splitter.admin);
        let put = |body: &'static str| {
            client
                .put(format!("{admin}/weights"))
                .header("content-type", "application/json")
                .body(body)
                .send()
        };
        assert_eq!(put(r#"{"v1":90,"v2":10}"#).await.unwrap().status(), 204);
        assert_eq!(put(r#"{"v3":10}"#).await.unwrap().status(), 422);
        let state = client.get(format!("{admin}/state")).send().await.unwrap().bytes().await.unwrap();
        let state: serde_json::Value = serde_json::from_slice(&state).unwrap();
        let expected = serde_json::json!({"uid":"splitter","generation":4,"share":10,"baseline":"v1",
            "canary":"v2","weights":{"v1":90,"v2":10}});
        assert_eq!(state, expected);
    }
}
