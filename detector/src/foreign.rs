//! Series that others report of a service: meshes, ingresses, load balancers. Their `job` and their `service`
//! label are not the service's; a label of their own convention names whom the requests went to.
//!
//! Nothing is guessed: what is left of a name when the service, a version or a role and what the convention adds
//! are taken away must be nothing, or the series belongs to nobody.

use std::sync::{Arc, OnceLock};

use davy_model::{Labels, MatchOp, Matcher, name};

use crate::plan::Arm;
use crate::versions::Arms;

/// Whom a convention's series speak of.
#[derive(Debug)]
pub(crate) struct Reporter {
    /// Metrics of this convention start so.
    pub(crate) prefixes: &'static [&'static str],
    /// Labels that name the service alone; the first that a series has counts.
    pub(crate) service: &'static [&'static str],
    /// Labels that name the version alone.
    pub(crate) version: &'static [&'static str],
    /// Labels whose value holds the service and what tells the arm: `shop-canary`, `default-shop-v2-80@kubernetes`.
    pub(crate) workload: &'static [&'static str],
    /// A label that is set for the canary's requests only.
    pub(crate) canary: Option<&'static str>,
    /// It stands before the service: its `instance` is its own and no instance of the service.
    pub(crate) is_edge: bool,
    /// Told apart beside `instance` by this label.
    pub(crate) member: Option<&'static str>,
}

const NONE: Reporter = Reporter {
    prefixes: &[],
    service: &[],
    version: &[],
    workload: &[],
    canary: None,
    is_edge: false,
    member: None,
};

/// Every reporter. Sources of the names: `docs/presets.md`.
pub(crate) const REPORTERS: &[Reporter] = &[
    Reporter {
        prefixes: &["istio_"],
        service: &["destination_canonical_service", "destination_app", "destination_service_name"],
        version: &["destination_version", "destination_canonical_revision"],
        workload: &["destination_workload"],
        ..NONE
    },
    Reporter {
        prefixes: &["response_total", "response_latency_ms"],
        service: &["app", "app_kubernetes_io_name"],
        version: &["version", "app_kubernetes_io_version"],
        workload: &["deployment", "statefulset", "daemonset"],
        ..NONE
    },
    Reporter { prefixes: &["envoy_cluster_"], workload: &["envoy_cluster_name"], is_edge: true, ..NONE },
    Reporter {
        prefixes: &["traefik_service_"],
        workload: &["service", "exported_service"],
        is_edge: true,
        ..NONE
    },
    Reporter {
        prefixes: &["nginx_ingress_controller_"],
        service: &["exported_service", "service"],
        workload: &["exported_service", "service"],
        canary: Some("canary"),
        is_edge: true,
        ..NONE
    },
    // Its `service` label is the called interface's, on series of the service itself.
    Reporter {
        prefixes: &["grpc_server_processing_duration_seconds"],
        service: &[name::JOB],
        version: &[name::VERSION, "service_version"],
        ..NONE
    },
    // Of a back end whose servers are the arms, or of a back end for each arm.
    Reporter {
        prefixes: &["haproxy_server_"],
        service: &["proxy"],
        version: &["server"],
        member: Some("server"),
        ..NONE
    },
    Reporter { prefixes: &["haproxy_backend_"], workload: &["proxy"], is_edge: true, ..NONE },
];

/// Words of deployment tools for the two arms.
const CANARY: &[&str] = &["canary"];
const BASELINE: &[&str] = &["stable", "primary", "baseline"];
/// What conventions add to a name: directions, protocols, providers, the cluster's domain.
const ADDED: &[&str] = &[
    "outbound",
    "inbound",
    "svc",
    "cluster",
    "local",
    "http",
    "https",
    "grpc",
    "tcp",
    "default",
    "kubernetes",
    "kubernetescrd",
    "kubernetesgateway",
    "docker",
    "file",
    "consulcatalog",
    "nomad",
    "swarm",
    "ecs",
];

/// The convention that a metric is of, if it is one of others' reports.
pub(crate) fn reporter(metric: &str) -> Option<&'static Reporter> {
    REPORTERS.iter().find(|r| r.prefixes.iter().any(|p| metric.starts_with(p)))
}

/// The convention of the metric that matchers name.
pub(crate) fn reporter_of(matchers: &[Matcher]) -> Option<&'static Reporter> {
    let named = matchers.iter().find(|m| m.name() == name::METRIC && m.op() == MatchOp::Equal)?;
    reporter(named.value())
}

/// [`narrowing`] for one service, each made when it is first asked for: compiling it costs far more than a read.
#[derive(Debug, Clone, Default)]
pub(crate) struct Narrowings(Arc<[OnceLock<Vec<Matcher>>; REPORTERS.len()]>);

impl Narrowings {
    pub(crate) fn of(&self, reporter: &'static Reporter, service: &str) -> &[Matcher] {
        let at =
            REPORTERS.iter().position(|r| std::ptr::eq(r, reporter)).expect("every reporter is one of these");
        self.0[at].get_or_init(|| narrowing(reporter, service))
    }
}

impl PartialEq for Narrowings {
    /// They follow from the service, and so say nothing of their own.
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

/// Matchers that keep a read of a big ingress near the service, one for each label that may name it.
fn narrowing(reporter: &Reporter, service: &str) -> Vec<Matcher> {
    let any_separator: String =
        service.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '.' }).collect();
    let labels = reporter.service.iter().chain(reporter.workload);
    let mut seen = Vec::new();
    for label in labels.filter(|l| **l != name::METRIC) {
        if !seen.contains(label) {
            seen.push(*label);
        }
    }
    let like = |label| {
        Matcher::new(label, MatchOp::Regex, &format!("(?i).*{any_separator}.*"))
            .expect("letters, digits and dots")
    };
    seen.into_iter().map(like).collect()
}

impl Reporter {
    /// The arm that a series of this convention speaks of.
    pub(crate) fn arm_of(&self, arms: &Arms, labels: &Labels) -> Option<Arm> {
        let first =
            |names: &[&'static str]| names.iter().find_map(|l| labels.get(l).filter(|v| !v.is_empty()));
        let named = first(self.service).is_some_and(|v| words(v) == words(&arms.service));
        if named {
            if let Some(arm) = said(arms, labels) {
                return Some(arm);
            }
            if let Some(label) = self.canary {
                // Of no canary there is an empty value, which is no label, or a dash.
                let marked = labels.get(label).is_some_and(|v| !v.is_empty() && v != "-");
                return Some(if marked { Arm::Canary } else { Arm::Baseline });
            }
            let version = labels.get(&arms.version_label).or_else(|| first(self.version));
            if let Some(arm) = version.and_then(|v| arm_in(arms, &words(v))) {
                return Some(arm);
            }
        }
        // A workload's name may hold both.
        let namespaces: Vec<&str> =
            labels.iter().filter(|(l, _)| l.ends_with("namespace")).map(|(_, v)| v).collect();
        first(self.workload).and_then(|v| arm_of_workload(arms, v, &namespaces))
    }
}

/// Arms that the file tells apart by labels which the series has.
fn said(arms: &Arms, labels: &Labels) -> Option<Arm> {
    let fits = |m: &[Matcher]| {
        m.iter()
            .all(|m| m.name() != arms.version_label && labels.get(m.name()).is_some() && m.matches(labels))
    };
    if !arms.canary_matchers.is_empty() && fits(&arms.canary_matchers) {
        Some(Arm::Canary)
    } else if !arms.baseline_matchers.is_empty() && fits(&arms.baseline_matchers) {
        Some(Arm::Baseline)
    } else {
        None
    }
}

/// `shop-v2`, `default-shop-canary-80@kubernetes`, `outbound|80|v2|shop.default.svc.cluster.local`.
fn arm_of_workload(arms: &Arms, value: &str, namespaces: &[&str]) -> Option<Arm> {
    let mut rest = words(value);
    take(&mut rest, &words(&arms.service))?;
    let left = |mut rest: Vec<String>, mark: &[String]| -> Option<bool> {
        take(&mut rest, mark)?;
        for namespace in namespaces {
            take(&mut rest, &words(namespace));
        }
        let added = |w: &String| ADDED.contains(&w.as_str()) || w.bytes().all(|b| b.is_ascii_digit());
        Some(rest.iter().all(added))
    };
    let marked = |version: &str, roles: &[&str]| {
        marks(version, roles).iter().any(|mark| left(rest.clone(), mark) == Some(true))
    };
    one(marked(&arms.baseline, BASELINE), marked(&arms.canary, CANARY))
}

/// A label that holds nothing but a version or a role.
fn arm_in(arms: &Arms, found: &[String]) -> Option<Arm> {
    let is = |version: &str, roles: &[&str]| {
        found == words(version) || marks(version, roles).iter().any(|mark| mark == found)
    };
    one(is(&arms.baseline, BASELINE), is(&arms.canary, CANARY))
}

/// What may stand for an arm in a name. A bare number could be a port, so it is only looked for with its `v`.
fn marks(version: &str, roles: &[&str]) -> Vec<Vec<String>> {
    let version = words(version);
    let bare = version.iter().all(|w| w.bytes().all(|b| b.is_ascii_digit()));
    let mut with_v = version.clone();
    if let Some(first) = with_v.first_mut() {
        first.insert(0, 'v');
    }
    let mut marks: Vec<Vec<String>> = roles.iter().map(|r| vec![(*r).to_owned()]).collect();
    marks.push(with_v);
    if !(bare && version.len() == 1) {
        marks.push(version);
    }
    marks.retain(|m| !m.is_empty());
    marks
}

fn one(baseline: bool, canary: bool) -> Option<Arm> {
    match (baseline, canary) {
        (true, false) => Some(Arm::Baseline),
        (false, true) => Some(Arm::Canary),
        (true, true) | (false, false) => None,
    }
}

/// Lower case, split where names are joined: `Shop_v1.2` and `shop-v1-2` are the same words.
fn words(name: &str) -> Vec<String> {
    name.split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|w| !w.is_empty())
        .map(str::to_ascii_lowercase)
        .collect()
}

/// Takes the first run of these words out.
fn take(from: &mut Vec<String>, run: &[String]) -> Option<()> {
    if run.is_empty() {
        return None;
    }
    let at = from.windows(run.len()).position(|w| w == run)?;
    from.drain(at..at + run.len());
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ArmSpec, ReleaseSpec};

    fn arms(baseline: &str, canary: &str) -> Arms {
        Arms::of(&ReleaseSpec::default(), "shop", baseline, canary)
    }

    fn arm(arms: &Arms, metric: &str, labels: &[(&str, &str)]) -> Option<Arm> {
        let all = labels.iter().copied().chain([(name::METRIC, metric), (name::JOB, "edge")]);
        arms.arm_of(&Labels::from_pairs(all))
    }

    #[test]
    fn meshes_name_the_service_and_its_version() {
        let arms = arms("v1", "v2");
        let istio = |service: &str, version: &str| {
            let labels = [("destination_canonical_service", service), ("destination_version", version)];
            arm(&arms, "istio_requests_total", &labels)
        };
        assert_eq!(istio("shop", "v1"), Some(Arm::Baseline));
        assert_eq!(istio("shop", "v2"), Some(Arm::Canary));
        assert_eq!(istio("shop", "v3"), None);
        assert_eq!(istio("coffee-shop", "v2"), None);
        let workload = [("destination_service_name", "shop"), ("destination_workload", "shop-v2")];
        assert_eq!(arm(&arms, "istio_requests_total", &workload), Some(Arm::Canary));
        let linkerd = |d| arm(&arms, "response_total", &[("deployment", d), ("direction", "inbound")]);
        assert_eq!(linkerd("shop-primary"), Some(Arm::Baseline));
        assert_eq!(linkerd("shop-v2"), Some(Arm::Canary));
        assert_eq!(linkerd("shop"), None);
    }

    #[test]
    fn names_of_ingresses_hold_the_service_and_the_arm_and_nothing_else() {
        let versions = arms("1.4.0", "1.5.0");
        let traefik = |s| arm(&versions, "traefik_service_requests_total", &[("service", s)]);
        assert_eq!(traefik("default-shop-canary-80@kubernetes"), Some(Arm::Canary));
        assert_eq!(traefik("shop-1-4-0@docker"), Some(Arm::Baseline));
        assert_eq!(traefik("shop-v1-5-0@file"), Some(Arm::Canary));
        assert_eq!(traefik("coffee-shop-canary@docker"), None);
        assert_eq!(traefik("shop-api-canary@docker"), None);
        assert_eq!(traefik("shop@docker"), None);
        let envoy = |c| arm(&arms("v1", "v2"), "envoy_cluster_upstream_rq_xx", &[("envoy_cluster_name", c)]);
        assert_eq!(envoy("outbound|80|v2|shop.default.svc.cluster.local"), Some(Arm::Canary));
        assert_eq!(envoy("shop_v1"), Some(Arm::Baseline));
        // A port is not a version.
        let numbers = arms("80", "81");
        assert_eq!(arm(&numbers, "traefik_service_requests_total", &[("service", "shop-80@docker")]), None);
    }

    #[test]
    fn the_nginx_ingress_marks_the_canarys_requests_only() {
        let nginx = |canary: &str| {
            let labels = [("exported_service", "shop"), ("service", "ingress"), ("canary", canary)];
            arm(&arms("1", "2"), "nginx_ingress_controller_requests", &labels)
        };
        assert_eq!(nginx("default-shop-canary-80"), Some(Arm::Canary));
        assert_eq!(nginx("-"), Some(Arm::Baseline));
        assert_eq!(nginx(""), Some(Arm::Baseline));
    }

    #[test]
    fn haproxys_servers_are_the_arms() {
        let server = |s| {
            arm(&arms("1", "2"), "haproxy_server_http_responses_total", &[("proxy", "shop"), ("server", s)])
        };
        assert_eq!((server("stable"), server("canary")), (Some(Arm::Baseline), Some(Arm::Canary)));
        assert_eq!(
            (server("v1"), server("2"), server("web3")),
            (Some(Arm::Baseline), Some(Arm::Canary), None)
        );
    }

    #[test]
    fn the_file_may_say_which_label_of_a_mesh_tells_the_arms() {
        let spec = ReleaseSpec {
            baseline: ArmSpec::Matchers(vec![Matcher::equal("destination_workload", "blue")]),
            canary: ArmSpec::Matchers(vec![Matcher::equal("destination_workload", "green")]),
            ..ReleaseSpec::default()
        };
        let arms = Arms::of(&spec, "shop", "blue", "green");
        let istio = |w| {
            let labels = [("destination_service_name", "shop"), ("destination_workload", w)];
            arm(&arms, "istio_requests_total", &labels)
        };
        assert_eq!(
            (istio("blue"), istio("green"), istio("red")),
            (Some(Arm::Baseline), Some(Arm::Canary), None)
        );
    }
}
