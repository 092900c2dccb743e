//! What each kind of object says of a release, and how it is changed. Pure: JSON in, JSON out.

use serde_json::{Value, json};

use crate::config::{Destination, KubernetesObject};
use crate::release::{ActRequest, Desired, Live, ReadError, Subject};

const DEPLOYMENT_REVISION: &str = "deployment.kubernetes.io/revision";
const ROLLOUT_REVISION: &str = "rollout.argoproj.io/revision";

pub(super) struct Kind(KubernetesObject);

pub(super) enum Change {
    /// Operations of a JSON patch on the object.
    Patch(Vec<Value>),
    /// What is merged into the status subresource.
    Status(Value),
}

/// A weight's place in the object, and whose it is.
struct Weight {
    path: String,
    canary: bool,
    value: f64,
    is_there: bool,
}

impl Kind {
    pub(super) fn of(object: &KubernetesObject) -> Self {
        Self(object.clone())
    }

    pub(super) fn group(&self) -> &'static str {
        match self.0 {
            KubernetesObject::Deployment { .. } => "/apis/apps/v1",
            KubernetesObject::Rollout { .. } => "/apis/argoproj.io/v1alpha1",
            KubernetesObject::VirtualService { .. } => "/apis/networking.istio.io/v1",
            KubernetesObject::HttpRoute { .. } => "/apis/gateway.networking.k8s.io/v1",
        }
    }

    pub(super) fn resource(&self) -> &'static str {
        match self.0 {
            KubernetesObject::Deployment { .. } => "deployments",
            KubernetesObject::Rollout { .. } => "rollouts",
            KubernetesObject::VirtualService { .. } => "virtualservices",
            KubernetesObject::HttpRoute { .. } => "httproutes",
        }
    }

    pub(super) fn needs_replica_sets(&self) -> bool {
        matches!(self.0, KubernetesObject::Deployment { .. })
    }

    /// A number that moves with each change of the release and with nothing else.
    pub(super) fn generation(&self, object: &Value) -> Result<String, ReadError> {
        let meta = &object["metadata"];
        let annotation = |name: &str| meta["annotations"][name].as_str().unwrap_or("0").to_owned();
        match self.0 {
            KubernetesObject::Deployment { .. } => {
                // The controller counts a new template after it was written: until then the number is an old one.
                if meta["generation"] != object["status"]["observedGeneration"] {
                    let why = "its controller has not seen its newest generation yet";
                    return Err(ReadError::Unreachable(why.to_owned()));
                }
                Ok(annotation(DEPLOYMENT_REVISION))
            }
            KubernetesObject::Rollout { .. } => {
                let status = &object["status"];
                Ok(format!(
                    "{}/{}/{}/{}",
                    annotation(ROLLOUT_REVISION),
                    status["currentPodHash"].as_str().unwrap_or(""),
                    status["currentStepIndex"].as_i64().unwrap_or(0),
                    if status["abort"] == true { "aborted" } else { "on" }
                ))
            }
            KubernetesObject::VirtualService { .. } | KubernetesObject::HttpRoute { .. } => {
                meta["generation"]
                    .as_i64()
                    .map(|g| g.to_string())
                    .ok_or_else(|| ReadError::Unusable("the object has no generation".to_owned()))
            }
        }
    }

    pub(super) fn live(&self, object: &Value, subject: &Subject) -> Result<Live, ReadError> {
        match &self.0 {
            KubernetesObject::Deployment { version_label } => {
                Ok(by_version(template_version(object, version_label)?, subject, 1.0))
            }
            KubernetesObject::Rollout { version_label } => {
                let status = &object["status"];
                let stable = status["currentPodHash"] == status["stableRS"];
                if status["abort"] == true {
                    return Ok(Live::Baseline);
                }
                let weight = status["canary"]["weights"]["canary"]["weight"].as_f64();
                let share = if stable { 1.0 } else { weight.unwrap_or(0.0) / 100.0 };
                let live = by_version(template_version(object, version_label)?, subject, share);
                Ok(if live == Live::Share(0.0) { Live::Baseline } else { live })
            }
            KubernetesObject::VirtualService { .. } | KubernetesObject::HttpRoute { .. } => {
                let weights = self.weights(object)?;
                let sum = |canary: bool| {
                    weights.iter().filter(|w| w.canary == canary).map(|w| w.value).sum::<f64>()
                };
                let (baseline, canary) = (sum(false), sum(true));
                Ok(if canary > 0.0 { Live::Share(canary / (baseline + canary)) } else { Live::Baseline })
            }
        }
    }

    pub(super) fn change(
        &self,
        object: &Value,
        sets: &Value,
        request: &ActRequest,
    ) -> Result<Change, String> {
        match (&self.0, request.desired) {
            (KubernetesObject::Deployment { version_label }, Desired::Baseline) => {
                let template = baseline_template(object, sets, version_label, &request.subject.baseline)?;
                Ok(Change::Patch(vec![json!({"op": "replace", "path": "/spec/template", "value": template})]))
            }
            (KubernetesObject::Deployment { .. }, _) => {
                Err("a Deployment runs one version or the other; it has no shares".to_owned())
            }
            (KubernetesObject::Rollout { .. }, Desired::Baseline) => {
                let status = &object["status"];
                // An abort with nothing in progress has scaled the stable version down (argo-rollouts#1292).
                if status["currentPodHash"] == status["stableRS"] {
                    return Err("no rollout is in progress, so there is nothing to abort".to_owned());
                }
                let phase = status["phase"].as_str().unwrap_or("");
                if !matches!(phase, "Progressing" | "Paused") {
                    return Err(format!(
                        "it is {phase:?}; only a rollout that progresses or pauses is aborted"
                    ));
                }
                Ok(Change::Status(json!({"abort": true})))
            }
            (KubernetesObject::Rollout { .. }, Desired::Canary) => {
                Ok(Change::Status(json!({"promoteFull": true})))
            }
            (KubernetesObject::Rollout { .. }, Desired::Share(_)) => {
                Err("a Rollout sets its shares by its own steps".to_owned())
            }
            (KubernetesObject::VirtualService { .. } | KubernetesObject::HttpRoute { .. }, desired) => {
                let weights = self.weights(object).map_err(|e| match e {
                    ReadError::Unreachable(why) | ReadError::Unusable(why) => why,
                })?;
                let set = |w: &Weight| {
                    let value = if w.canary { desired.percent() } else { 100 - desired.percent() };
                    let op = if w.is_there { "replace" } else { "add" };
                    json!({"op": op, "path": w.path, "value": value})
                };
                Ok(Change::Patch(weights.iter().map(set).collect()))
            }
        }
    }

    /// Every rule that sends to both, or to one of them.
    fn weights(&self, object: &Value) -> Result<Vec<Weight>, ReadError> {
        let (rules, to) = match self.0 {
            KubernetesObject::VirtualService { .. } => ("http", "route"),
            _ => ("rules", "backendRefs"),
        };
        let mut found = Vec::new();
        for (i, rule) in list(&object["spec"][rules]).enumerate() {
            for (j, route) in list(&rule[to]).enumerate() {
                let Some(canary) = self.arm(route) else { continue };
                let weight = &route["weight"];
                // Left out, it is 1 of HTTPRoute; of VirtualService it is all, where it is the only one.
                let alone = list(&rule[to]).count() == 1;
                let value = weight.as_f64().unwrap_or(if alone { 100.0 } else { 1.0 });
                let path = format!("/spec/{rules}/{i}/{to}/{j}/weight");
                found.push(Weight { path, canary, value, is_there: !weight.is_null() });
            }
        }
        let both = found.iter().any(|w| w.canary) && found.iter().any(|w| !w.canary);
        if both {
            return Ok(found);
        }
        Err(ReadError::Unusable(format!(
            "{rules} send to {} of the two destinations: both must be there, one with weight 0",
            if found.is_empty() { "none" } else { "one" }
        )))
    }

    /// Whether a route leads to the canary; `None` for one that leads elsewhere.
    fn arm(&self, route: &Value) -> Option<bool> {
        match &self.0 {
            KubernetesObject::VirtualService { baseline, canary } => {
                let leads = |d: &Destination| {
                    route["destination"]["host"] == d.host.as_str()
                        && route["destination"]["subset"].as_str() == d.subset.as_deref()
                };
                if leads(canary) { Some(true) } else { leads(baseline).then_some(false) }
            }
            KubernetesObject::HttpRoute { baseline, canary } => {
                let name = route["name"].as_str()?;
                if name == canary { Some(true) } else { (name == baseline).then_some(false) }
            }
            KubernetesObject::Deployment { .. } | KubernetesObject::Rollout { .. } => None,
        }
    }
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn template_version<'a>(object: &'a Value, label: &str) -> Result<&'a str, ReadError> {
    object["spec"]["template"]["metadata"]["labels"][label]
        .as_str()
        .ok_or_else(|| ReadError::Unusable(format!("its pod template has no label {label}")))
}

fn by_version(version: &str, subject: &Subject, share: f64) -> Live {
    if version == subject.baseline {
        Live::Baseline
    } else if version == subject.canary {
        Live::Share(share)
    } else {
        Live::Other(version.to_owned())
    }
}

/// The pod template of the newest ReplicaSet of this Deployment that ran the version.
fn baseline_template(object: &Value, sets: &Value, label: &str, baseline: &str) -> Result<Value, String> {
    let uid = &object["metadata"]["uid"];
    let revision = |set: &Value| {
        let text = set["metadata"]["annotations"][DEPLOYMENT_REVISION].as_str();
        text.and_then(|t| t.parse::<u64>().ok()).unwrap_or(0)
    };
    let owned = |set: &&Value| list(&set["metadata"]["ownerReferences"]).any(|o| o["uid"] == *uid);
    let runs = |set: &&Value| set["spec"]["template"]["metadata"]["labels"][label] == baseline;
    let newest = list(&sets["items"]).filter(owned).filter(runs).max_by_key(|set| revision(set));
    let Some(set) = newest else {
        return Err(format!(
            "no ReplicaSet of it runs {label}={baseline}: is its revisionHistoryLimit too low?"
        ));
    };
    let mut template = set["spec"]["template"].clone();
    // The controller's own label; with it the new ReplicaSet would not be a new one.
    if let Some(labels) = template["metadata"]["labels"].as_object_mut() {
        labels.remove("pod-template-hash");
    }
    Ok(template)
}
