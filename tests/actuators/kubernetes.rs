//! Deployment, Rollout, VirtualService and HTTPRoute.

use std::time::Duration;

use davy_alerting::config::{ActuatorConfig, Destination, KubernetesAction, KubernetesObject};
use davy_alerting::release::{CallOutcome, Desired, Live, ReadError};
use serde_json::{Value, json};

use crate::api_server::ApiServer;
use crate::kit::{Target, actuator, conforms, expect, is_away, request, subject};

fn config(server: &str, object: KubernetesObject) -> ActuatorConfig {
    ActuatorConfig::Kubernetes(KubernetesAction {
        object,
        namespace: "shop".into(),
        name: "checkout".into(),
        server: server.into(),
        token_file: None,
        ca_file: None,
        timeout: Duration::from_secs(2),
    })
}

fn http_route() -> KubernetesObject {
    KubernetesObject::HttpRoute { baseline: "checkout-v1".into(), canary: "checkout-v2".into() }
}

const ROUTE: &str = "/apis/gateway.networking.k8s.io/v1/namespaces/shop/httproutes/checkout";

fn route(percent: u8) -> Value {
    json!({"rules": [{"backendRefs": [
        {"name": "checkout-v1", "weight": 100 - percent},
        {"name": "checkout-v2", "weight": percent},
    ]}]})
}

#[tokio::test]
async fn an_http_route_conforms() {
    let (server, url) = ApiServer::start(None).await;
    server.put(ROUTE, json!({"metadata": {"name": "checkout"}, "spec": route(0)}));
    let config = config(&url, http_route());
    let someone_sets = Box::new({
        let server = server.clone();
        move |percent: u8| server.change(ROUTE, |o| o["spec"] = route(percent))
    });
    conforms(&Target { config: config.clone(), someone_sets }).await;
    is_away(&self::config("http://127.0.0.1:9", http_route())).await;

    // A status update moves the resourceVersion, which is a conflict, and not the generation.
    let davy = actuator(&config);
    let before = davy.read(&subject()).await.unwrap();
    server.change(ROUTE, |o| o["status"] = json!({"parents": []}));
    let outcome = davy.call(&request(Desired::Share(5), Some(expect(&before)))).await;
    assert!(matches!(outcome, CallOutcome::Conflict { .. }), "{outcome:?}");
    assert_eq!(davy.read(&subject()).await.unwrap().generation, before.generation);

    // One that Git owns is not fought over.
    server.change(ROUTE, |o| o["metadata"]["labels"] = json!({"argocd.argoproj.io/instance": "shop"}));
    let refusal = davy.read(&subject()).await.unwrap().refusal.unwrap();
    assert!(refusal.contains("GitOps"), "{refusal}");
}

#[tokio::test]
async fn a_virtual_service_conforms() {
    const PATH: &str = "/apis/networking.istio.io/v1/namespaces/shop/virtualservices/checkout";
    let to = |subset: &str| Destination { host: "checkout".into(), subset: Some(subset.into()) };
    let spec = |percent: u8| {
        let route = |subset: &str, weight: u8| json!({"destination": {"host": "checkout", "subset": subset}, "weight": weight});
        json!({"http": [
            {"match": [{"uri": {"prefix": "/admin"}}], "route": [{"destination": {"host": "admin"}}]},
            {"route": [route("v1", 100 - percent), route("v2", percent)]},
        ]})
    };
    let (server, url) = ApiServer::start(None).await;
    server.put(PATH, json!({"metadata": {"annotations": {"owner": "shop"}}, "spec": spec(0)}));
    let config = config(&url, KubernetesObject::VirtualService { baseline: to("v1"), canary: to("v2") });
    let someone_sets = Box::new({
        let server = server.clone();
        move |percent: u8| server.change(PATH, |o| o["spec"] = spec(percent))
    });
    conforms(&Target { config, someone_sets }).await;
    assert_eq!(server.get(PATH)["metadata"]["annotations"]["owner"], "shop");
    assert_eq!(server.get(PATH)["spec"]["http"][0]["route"][0]["destination"]["host"], "admin");

    // A route to one of the two alone cannot be weighted.
    let lost = self::config(&url, KubernetesObject::VirtualService { baseline: to("v1"), canary: to("v9") });
    let read = actuator(&lost).read(&subject()).await;
    assert!(matches!(&read, Err(ReadError::Unusable(why)) if why.contains("both must be there")), "{read:?}");
}

const DEPLOYMENT: &str = "/apis/apps/v1/namespaces/shop/deployments/checkout";

fn template(version: &str) -> Value {
    json!({"metadata": {"labels": {"app": "checkout", "version": version}},
           "spec": {"containers": [{"name": "c", "image": format!("checkout:{version}")}]}})
}

/// Counts a new template as a new revision and says that it has seen it.
fn deployment_controller(object: &mut Value) {
    if object["spec"]["template"].is_null() {
        return;
    }
    if object["status"]["template"] != object["spec"]["template"] {
        let revision = object["metadata"]["annotations"]["deployment.kubernetes.io/revision"]
            .as_str()
            .and_then(|r| r.parse::<u64>().ok())
            .unwrap_or(0);
        object["metadata"]["annotations"]["deployment.kubernetes.io/revision"] =
            json!((revision + 1).to_string());
        object["status"]["template"] = object["spec"]["template"].clone();
    }
    object["status"]["observedGeneration"] = object["metadata"]["generation"].clone();
}

#[tokio::test]
async fn a_deployment_goes_back_to_the_template_of_the_baseline() {
    let (server, url) = ApiServer::start(Some(deployment_controller)).await;
    server.put(DEPLOYMENT, json!({"metadata": {}, "spec": {"replicas": 3, "template": template("v1")}}));
    let uid = server.get(DEPLOYMENT)["metadata"]["uid"].clone();
    let mut kept = template("v1");
    kept["metadata"]["labels"]["pod-template-hash"] = json!("abc");
    server.put(
        "/apis/apps/v1/namespaces/shop/replicasets/checkout-abc",
        json!({"metadata": {"ownerReferences": [{"uid": uid}],
                            "annotations": {"deployment.kubernetes.io/revision": "1"}},
               "spec": {"template": kept}}),
    );
    server.change(DEPLOYMENT, |o| o["spec"]["template"] = template("v2"));
    let object = || KubernetesObject::Deployment { version_label: "version".into() };
    let davy = actuator(&config(&url, object()));
    let before = davy.read(&subject()).await.unwrap();
    assert_eq!((before.live.clone(), before.generation.as_str()), (Live::Share(1.0), "2"));

    // An autoscaler moves metadata.generation; what was judged is the same.
    server.change(DEPLOYMENT, |o| o["spec"]["replicas"] = json!(5));
    let scaled = davy.read(&subject()).await.unwrap();
    assert_eq!(scaled.generation, before.generation);
    let down = request(Desired::Baseline, Some(expect(&scaled)));
    let outcome = davy.call(&down).await;
    assert!(matches!(outcome, CallOutcome::Accepted { .. }), "{outcome:?}");
    let after = davy.read(&subject()).await.unwrap();
    assert_eq!((after.live, after.marker), (Live::Baseline, Some(down.marker.clone())));
    let now = server.get(DEPLOYMENT);
    assert_eq!(now["spec"]["template"], template("v1"), "without the controller's own label");
    assert_eq!(now["spec"]["replicas"], 5);

    // Deliberately again, the same revision: another generation, and the late call does not fit.
    server.change(DEPLOYMENT, |o| o["spec"]["template"] = template("v2"));
    let late = davy.call(&down).await;
    assert!(matches!(late, CallOutcome::Conflict { .. }), "{late:?}");
    assert_eq!(server.get(DEPLOYMENT)["spec"]["template"], template("v2"));

    let unknown = davy.call(&request(Desired::Share(5), Some(expect(&scaled)))).await;
    assert!(matches!(unknown, CallOutcome::Rejected { .. }), "{unknown:?}");
    server.change(DEPLOYMENT, |o| o["spec"]["template"] = template("v3"));
    assert_eq!(davy.read(&subject()).await.unwrap().live, Live::Other("v3".into()));
}

#[tokio::test]
async fn a_rollout_is_aborted_only_while_it_is_under_way() {
    const PATH: &str = "/apis/argoproj.io/v1alpha1/namespaces/shop/rollouts/checkout";
    let (server, url) = ApiServer::start(None).await;
    let status = json!({"phase": "Paused", "currentPodHash": "b", "stableRS": "a", "currentStepIndex": 1,
                        "canary": {"weights": {"canary": {"weight": 20}}}});
    let meta = json!({"annotations": {"rollout.argoproj.io/revision": "7"}});
    server.put(PATH, json!({"metadata": meta, "spec": {"template": template("v2")}, "status": status}));
    let davy = actuator(&config(&url, KubernetesObject::Rollout { version_label: "version".into() }));
    let before = davy.read(&subject()).await.unwrap();
    assert_eq!(before.live, Live::Share(0.2));

    let down = request(Desired::Baseline, Some(expect(&before)));
    assert!(matches!(davy.call(&down).await, CallOutcome::Accepted { .. }));
    let after = davy.read(&subject()).await.unwrap();
    assert_eq!(after.live, Live::Baseline);
    assert_ne!(after.generation, before.generation);
    assert!(matches!(davy.call(&down).await, CallOutcome::Conflict { .. }));

    // With nothing in progress an abort would scale the stable version down.
    server.change(PATH, |o| {
        o["status"] = json!({"phase": "Healthy", "currentPodHash": "b", "stableRS": "b"});
    });
    let promoted = davy.read(&subject()).await.unwrap();
    assert_eq!(promoted.live, Live::Share(1.0));
    let outcome = davy.call(&request(Desired::Baseline, Some(expect(&promoted)))).await;
    assert!(
        matches!(&outcome, CallOutcome::Rejected { detail } if detail.contains("nothing to abort")),
        "{outcome:?}"
    );
}
