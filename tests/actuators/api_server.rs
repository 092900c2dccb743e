//! An API server of Kubernetes, as far as concurrency goes: a resourceVersion that moves with every write, a generation
//! that moves with the spec, a uid for life, JSON patch with tests, merge patch, the status subresource, 409 and 422.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::net::TcpListener;

#[derive(Clone, Default)]
pub(crate) struct ApiServer(Arc<Mutex<Cluster>>);

#[derive(Default)]
struct Cluster {
    /// By path.
    objects: BTreeMap<String, Value>,
    version: u64,
    /// After a write, as the object's controller would.
    controller: Option<fn(&mut Value)>,
}

impl ApiServer {
    pub(crate) async fn start(controller: Option<fn(&mut Value)>) -> (Self, String) {
        let server = Self::default();
        server.0.lock().unwrap().controller = controller;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let app = Router::new().fallback(serve).with_state(server.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
        (server, url)
    }

    pub(crate) fn put(&self, path: &str, object: Value) {
        self.change(path, |o| *o = object);
    }

    /// A write by someone else.
    pub(crate) fn change(&self, path: &str, change: impl FnOnce(&mut Value)) {
        let mut cluster = self.0.lock().unwrap();
        let mut object = cluster.objects.get(path).cloned().unwrap_or(Value::Null);
        let before = object.clone();
        change(&mut object);
        cluster.store(path, &before, object);
    }

    pub(crate) fn get(&self, path: &str) -> Value {
        self.0.lock().unwrap().objects[path].clone()
    }
}

impl Cluster {
    fn store(&mut self, path: &str, before: &Value, mut object: Value) {
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        if object["metadata"]["uid"].is_null() {
            object["metadata"]["uid"] = json!(format!("uid-{}", self.version));
        }
        let generation = before["metadata"]["generation"].as_u64().unwrap_or(0);
        let moved = u64::from(before["spec"] != object["spec"]);
        object["metadata"]["generation"] = json!(generation + moved);
        if let Some(controller) = self.controller {
            controller(&mut object);
        }
        self.objects.insert(path.to_owned(), object);
    }
}

async fn serve(State(server): State<ApiServer>, request: Request) -> (StatusCode, String) {
    let (parts, body) = request.into_parts();
    let bytes = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    let path = parts.uri.path();
    if parts.method == Method::GET {
        return server.read(path);
    }
    let patch: Value = serde_json::from_slice(&bytes).unwrap();
    server.patch(path, parts.headers["content-type"].to_str().unwrap(), &patch)
}

impl ApiServer {
    fn read(&self, path: &str) -> (StatusCode, String) {
        let cluster = self.0.lock().unwrap();
        if path.ends_with("/replicasets") {
            let prefix = format!("{path}/");
            let items: Vec<&Value> =
                cluster.objects.iter().filter(|(p, _)| p.starts_with(&prefix)).map(|(_, o)| o).collect();
            return (StatusCode::OK, json!({"items": items}).to_string());
        }
        match cluster.objects.get(path) {
            Some(object) => (StatusCode::OK, object.to_string()),
            None => (StatusCode::NOT_FOUND, r#"{"reason":"NotFound"}"#.to_owned()),
        }
    }

    fn patch(&self, path: &str, kind: &str, patch: &Value) -> (StatusCode, String) {
        let mut cluster = self.0.lock().unwrap();
        let (name, status) = path.strip_suffix("/status").map_or((path, false), |p| (p, true));
        let Some(object) = cluster.objects.get(name).cloned() else {
            return (StatusCode::NOT_FOUND, r#"{"reason":"NotFound"}"#.to_owned());
        };
        let patched = if kind == "application/json-patch+json" {
            json_patch(&object, patch)
        } else {
            merge_patch(&object, patch, status)
        };
        match patched {
            Ok(new) => {
                cluster.store(name, &object, new);
                (StatusCode::OK, cluster.objects[name].to_string())
            }
            Err((code, why)) => (code, json!({"reason": why}).to_string()),
        }
    }
}

fn json_patch(object: &Value, patch: &Value) -> Result<Value, (StatusCode, String)> {
    let mut new = object.clone();
    for op in patch.as_array().unwrap() {
        let path = op["path"].as_str().unwrap();
        let failed = |why: &str| (StatusCode::UNPROCESSABLE_ENTITY, format!("{path}: {why}"));
        let (parent, last) = path.rsplit_once('/').unwrap();
        let last = last.replace("~1", "/");
        match op["op"].as_str().unwrap() {
            "test" if new.pointer(path) == Some(&op["value"]) => {}
            "test" => return Err(failed("the test failed")),
            "replace" if new.pointer(path).is_none() => return Err(failed("nothing to replace")),
            "replace" | "add" => match new.pointer_mut(parent) {
                Some(Value::Object(o)) => {
                    o.insert(last, op["value"].clone());
                }
                _ => return Err(failed("no such parent")),
            },
            other => return Err(failed(other)),
        }
    }
    Ok(new)
}

fn merge_patch(object: &Value, patch: &Value, status: bool) -> Result<Value, (StatusCode, String)> {
    for field in ["resourceVersion", "uid"] {
        let wanted = &patch["metadata"][field];
        if !wanted.is_null() && *wanted != object["metadata"][field] {
            return Err((StatusCode::CONFLICT, "the object has been modified".to_owned()));
        }
    }
    let mut new = object.clone();
    // A status subresource takes nothing else.
    let section = if status { "status" } else { "spec" };
    for (key, value) in patch[section].as_object().into_iter().flatten() {
        new[section][key] = value.clone();
    }
    Ok(new)
}
