//! The table of conventions: one row for each way in which software really counts its requests and its resources.
//!
//! Most trusted first: the server's own counters, then what stands before it, then what is derived from spans. `docs/presets.md` is this table with the source of each name.

use std::sync::LazyLock;

use crate::config::Preset;

/// How one kind of software counts requests.
#[derive(Debug, Clone)]
pub(super) struct Convention {
    pub(super) preset: Preset,
    /// What exports it.
    pub(super) by: &'static str,
    /// The counter of requests, as a series' name; `_count` of the histogram where there is no other.
    pub(super) counter: String,
    /// The histogram's name without `_bucket`, and what its unit is in seconds.
    pub(super) histogram: Option<(String, f64)>,
    /// Labels that may tell the outcome; the first that is seen counts.
    pub(super) outcome: Vec<String>,
    pub(super) fault: Fault,
    /// Only these series are of served requests, where any series says so.
    pub(super) only: Option<(&'static str, &'static str)>,
}

/// Values of the outcome label that are the server's fault; a client's mistake (4xx) is not the release's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    Http,
    Grpc,
    Span,
    /// A class alone: `5`.
    Class,
    /// `failure`.
    Classified,
    /// The label is there only when the request failed.
    Present,
}

impl Fault {
    pub(super) fn regex(self) -> &'static str {
        match self {
            Self::Http => "5..|5xx|5XX",
            // OpenTelemetry's list of server faults, as names and as numbers.
            Self::Grpc => {
                "Unknown|DeadlineExceeded|Unimplemented|Internal|Unavailable|DataLoss|UNKNOWN|DEADLINE_EXCEEDED|\
                 UNIMPLEMENTED|INTERNAL|UNAVAILABLE|DATA_LOSS|2|4|12|13|14|15"
            }
            Self::Span => "STATUS_CODE_ERROR",
            Self::Class => "5",
            Self::Classified => "failure",
            Self::Present => ".+",
        }
    }
}

/// Labels of a status that Prometheus client libraries and their middlewares use.
pub(super) const CODES: &[&str] =
    &["code", "status", "status_code", "http_status", "status_class", "response_code"];
const MS: f64 = 1e-3;

/// A middleware of a Prometheus client library.
fn http(by: &'static str, counter: &str, histogram: &str) -> Convention {
    Convention {
        preset: Preset::Http,
        by,
        counter: counter.to_owned(),
        histogram: Some((histogram.to_owned(), 1.0)),
        outcome: CODES.iter().map(|&c| c.to_owned()).collect(),
        fault: Fault::Http,
        only: None,
    }
}

/// A histogram of OpenTelemetry's conventions under the names that a translation to Prometheus may give it:
/// `http.server.request.duration` in `s` is `http_server_request_duration_seconds`, or, with UTF-8 names,
/// `http.server.request.duration_seconds`, and either without its unit.
fn otel(by: &'static str, name: &str, unit: &str, outcome: &[&str], fault: Fault) -> Vec<Convention> {
    let flat = |s: &str| s.replace('.', "_");
    let outcome: Vec<String> = outcome.iter().flat_map(|o| [flat(o), (*o).to_owned()]).collect();
    [format!("{}_{unit}", flat(name)), format!("{name}_{unit}"), name.to_owned(), flat(name)]
        .into_iter()
        .map(|name| Convention {
            preset: Preset::Otel,
            by,
            counter: format!("{name}_count"),
            histogram: Some((name, if unit == "seconds" { 1.0 } else { MS })),
            outcome: outcome.clone(),
            fault,
            only: None,
        })
        .collect()
}

/// Something that stands before the service, or beside it.
fn before(
    preset: Preset,
    by: &'static str,
    counter: &str,
    histogram: Option<(&str, f64)>,
    outcome: (&str, Fault),
    only: Option<(&'static str, &'static str)>,
) -> Convention {
    Convention {
        preset,
        by,
        counter: counter.to_owned(),
        histogram: histogram.map(|(name, unit)| (name.to_owned(), unit)),
        outcome: vec![outcome.0.to_owned()],
        fault: outcome.1,
        only,
    }
}

fn grpc(by: &'static str, counter: &str, histogram: &str, outcome: &str) -> Convention {
    before(Preset::Grpc, by, counter, Some((histogram, 1.0)), (outcome, Fault::Grpc), None)
}

const HTTP_CODE: &[&str] = &["http.response.status_code", "http.status_code"];
const RPC_CODE: &[&str] = &["rpc.response.status_code", "rpc.grpc.status_code"];
const ERROR_TYPE: &[&str] = &["error.type"];

/// Every convention of requests, in the order of preference.
pub(super) fn requests() -> &'static [Convention] {
    static ALL: LazyLock<Vec<Convention>> = LazyLock::new(served);
    &ALL
}

/// What a service asks of others: looked at only where nothing counts what it serves, as of a worker.
pub(super) fn outgoing() -> &'static [Convention] {
    static ALL: LazyLock<Vec<Convention>> = LazyLock::new(asked);
    &ALL
}

fn served() -> Vec<Convention> {
    let http_total = "http_requests_total";
    let http_seconds = "http_request_duration_seconds";
    let mut all = vec![
        // Its default histogram has three buckets; the other was made for quantiles.
        http(
            "FastAPI (prometheus-fastapi-instrumentator)",
            http_total,
            "http_request_duration_highr_seconds",
        ),
        http("client libraries of Go, Python and Node, fiberprometheus", http_total, http_seconds),
        http(
            "Ruby (prometheus-client, rack)",
            "http_server_requests_total",
            "http_server_request_duration_seconds",
        ),
        http(
            "Spring Boot, Quarkus (Micrometer)",
            "http_server_requests_seconds_count",
            "http_server_requests_seconds",
        ),
        http(
            "Ktor (Micrometer)",
            "ktor_http_server_requests_seconds_count",
            "ktor_http_server_requests_seconds",
        ),
        http(
            "Vert.x (Micrometer)",
            "vertx_http_server_response_time_seconds_count",
            "vertx_http_server_response_time_seconds",
        ),
        http(
            "Vert.x (Micrometer), requests alone",
            "vertx_http_server_requests_total",
            "vertx_http_server_response_time_seconds",
        ),
        // Its times are a sum and a maximum, which are not judged.
        before(
            Preset::Http,
            "Jetty (simpleclient_jetty)",
            "jetty_responses_total",
            None,
            ("code", Fault::Http),
            None,
        ),
        http("ASP.NET Core (prometheus-net)", "http_requests_received_total", http_seconds),
        http(
            "Flask (prometheus-flask-exporter)",
            "flask_http_request_total",
            "flask_http_request_duration_seconds",
        ),
        http(
            "Starlette (starlette-exporter)",
            "starlette_requests_total",
            "starlette_request_duration_seconds",
        ),
        http(
            "Starlette (starlette-prometheus)",
            "starlette_responses_total",
            "starlette_requests_processing_time_seconds",
        ),
        http(
            "Django (django-prometheus)",
            "django_http_responses_total_by_status_total",
            "django_http_requests_latency_seconds_by_view_method",
        ),
        http("Echo (echo-contrib)", "echo_requests_total", "echo_request_duration_seconds"),
        http("Gin (go-gin-prometheus)", "gin_requests_total", "gin_request_duration_seconds"),
        http("axum (axum-prometheus)", "axum_http_requests_total", "axum_http_requests_duration_seconds"),
        http(
            "Rocket (rocket_prometheus)",
            "rocket_http_requests_total",
            "rocket_http_requests_duration_seconds",
        ),
        http(
            "actix-web (actix-web-prom, namespace `api`)",
            "api_http_requests_total",
            "api_http_requests_duration_seconds",
        ),
        http(
            "Node (express-prom-bundle, fastify-metrics), others with a histogram alone",
            "http_request_duration_seconds_count",
            http_seconds,
        ),
    ];
    all.extend(otel(
        "OpenTelemetry HTTP server, ASP.NET Core 8",
        "http.server.request.duration",
        "seconds",
        HTTP_CODE,
        Fault::Http,
    ));
    all.extend(otel(
        "OpenTelemetry HTTP server before 1.23",
        "http.server.duration",
        "milliseconds",
        HTTP_CODE,
        Fault::Http,
    ));
    all.extend([
        grpc(
            "go-grpc-prometheus, go-grpc-middleware",
            "grpc_server_handled_total",
            "grpc_server_handling_seconds",
            "grpc_code",
        ),
        grpc(
            "gRPC's own OpenTelemetry plugin (gRFC A66)",
            "grpc_server_call_duration_seconds_count",
            "grpc_server_call_duration_seconds",
            "grpc_status",
        ),
        grpc(
            "grpc-spring (Micrometer)",
            "grpc_server_processing_duration_seconds_count",
            "grpc_server_processing_duration_seconds",
            "statusCode",
        ),
    ]);
    all.extend(otel(
        "OpenTelemetry RPC server",
        "rpc.server.call.duration",
        "seconds",
        RPC_CODE,
        Fault::Grpc,
    ));
    all.extend(otel(
        "OpenTelemetry RPC server before 1.38",
        "rpc.server.duration",
        "milliseconds",
        RPC_CODE,
        Fault::Grpc,
    ));
    all.extend(otel(
        "OpenTelemetry messages processed",
        "messaging.process.duration",
        "seconds",
        ERROR_TYPE,
        Fault::Present,
    ));
    all.extend([
        before(
            Preset::Istio,
            "Istio",
            "istio_requests_total",
            Some(("istio_request_duration_milliseconds", MS)),
            ("response_code", Fault::Http),
            Some(("reporter", "destination")),
        ),
        before(
            Preset::Linkerd,
            "Linkerd",
            "response_total",
            Some(("response_latency_ms", MS)),
            ("classification", Fault::Classified),
            Some(("direction", "inbound")),
        ),
        before(
            Preset::Traefik,
            "Traefik",
            "traefik_service_requests_total",
            Some(("traefik_service_request_duration_seconds", 1.0)),
            ("code", Fault::Http),
            None,
        ),
        before(
            Preset::Nginx,
            "ingress-nginx",
            "nginx_ingress_controller_requests",
            Some(("nginx_ingress_controller_request_duration_seconds", 1.0)),
            ("status", Fault::Http),
            None,
        ),
        before(
            Preset::Istio,
            "Envoy",
            "envoy_cluster_upstream_rq_xx",
            Some(("envoy_cluster_upstream_rq_time", MS)),
            ("envoy_response_code_class", Fault::Class),
            None,
        ),
        // Its response times are averages, which are not judged.
        before(
            Preset::Haproxy,
            "HAProxy, server by server",
            "haproxy_server_http_responses_total",
            None,
            ("code", Fault::Http),
            None,
        ),
        before(
            Preset::Haproxy,
            "HAProxy, a back end each",
            "haproxy_backend_http_responses_total",
            None,
            ("code", Fault::Http),
            None,
        ),
        before(
            Preset::Otel,
            "spans received by Davy",
            "traces_spanmetrics_calls_total",
            Some(("traces_spanmetrics_latency", 1.0)),
            ("status_code", Fault::Span),
            Some(("span_kind", "SPAN_KIND_SERVER")),
        ),
        before(
            Preset::Otel,
            "spans (OpenTelemetry Collector's spanmetrics)",
            "traces_span_metrics_calls_total",
            Some(("traces_span_metrics_duration_milliseconds", MS)),
            ("status_code", Fault::Span),
            Some(("span_kind", "SPAN_KIND_SERVER")),
        ),
    ]);
    all
}

fn asked() -> Vec<Convention> {
    otel(
        "OpenTelemetry database client",
        "db.client.operation.duration",
        "seconds",
        ERROR_TYPE,
        Fault::Present,
    )
}

/// How a process, a runtime or a container counts what it uses.
#[derive(Debug, Clone)]
pub(super) struct Resource {
    pub(super) preset: Preset,
    pub(super) by: &'static str,
    pub(super) metric: String,
    pub(super) reading: Use,
    /// A heap is large or small as its collector has just run: it is shown, and fails no release.
    pub(super) is_heap: bool,
    /// Only these series: the label is the value, or is not what stands after a `!`.
    pub(super) only: &'static [(&'static str, &'static str)],
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Use {
    /// A counter of CPU time, with its unit in seconds.
    Counter(f64),
    Gauge,
}

fn resource(preset: Preset, by: &'static str, metric: &str, reading: Use) -> Resource {
    Resource { preset, by, metric: metric.to_owned(), reading, is_heap: false, only: &[] }
}

/// Under the names that a translation may give it, as `otel` above.
fn otel_resource(preset: Preset, by: &'static str, name: &str, suffix: &str, reading: Use) -> Vec<Resource> {
    let flat = name.replace('.', "_");
    let names = [format!("{flat}_{suffix}"), format!("{name}_{suffix}"), name.to_owned(), flat];
    names.iter().map(|n| resource(preset, by, n, reading)).collect()
}

const SECONDS: Use = Use::Counter(1.0);
/// cAdvisor also has a series for the pod as a whole, without this label, and one for its pause container.
const CONTAINERS: &[(&str, &str)] = &[("container", "!"), ("container", "!POD")];

pub(super) fn cpu() -> Vec<Resource> {
    let mut all = vec![resource(
        Preset::Process,
        "client libraries of Go, Java, Python, Node, .NET, Rust",
        "process_cpu_seconds_total",
        SECONDS,
    )];
    all.extend(otel_resource(
        Preset::Otel,
        "OpenTelemetry process",
        "process.cpu.time",
        "seconds_total",
        SECONDS,
    ));
    all.push(resource(Preset::Runtime, "JVM (Micrometer)", "process_cpu_time_ns_total", Use::Counter(1e-9)));
    all.extend(otel_resource(
        Preset::Runtime,
        "JVM (OpenTelemetry)",
        "jvm.cpu.time",
        "seconds_total",
        SECONDS,
    ));
    all.extend(otel_resource(
        Preset::Runtime,
        ".NET 9 (OpenTelemetry)",
        "dotnet.process.cpu.time",
        "seconds_total",
        SECONDS,
    ));
    all.push(Resource {
        only: CONTAINERS,
        ..resource(Preset::Container, "cAdvisor", "container_cpu_usage_seconds_total", SECONDS)
    });
    all
}

pub(super) fn memory() -> Vec<Resource> {
    let heap = |metric: &str, by, only| Resource {
        is_heap: true,
        only,
        ..resource(Preset::Runtime, by, metric, Use::Gauge)
    };
    let mut all = vec![resource(
        Preset::Process,
        "client libraries of Go, Java, Python, Node, .NET, Rust",
        "process_resident_memory_bytes",
        Use::Gauge,
    )];
    all.push(resource(Preset::Process, ".NET (prometheus-net)", "process_working_set_bytes", Use::Gauge));
    all.extend(otel_resource(
        Preset::Otel,
        "OpenTelemetry process",
        "process.memory.usage",
        "bytes",
        Use::Gauge,
    ));
    all.extend(otel_resource(
        Preset::Runtime,
        ".NET 9 (OpenTelemetry)",
        "dotnet.process.memory.working_set",
        "bytes",
        Use::Gauge,
    ));
    all.push(Resource {
        only: CONTAINERS,
        ..resource(Preset::Container, "cAdvisor", "container_memory_working_set_bytes", Use::Gauge)
    });
    // A part of the memory, where nothing shows the whole.
    all.push(heap("jvm_memory_used_bytes", "JVM heap (Micrometer, Java client 1.x)", &[("area", "heap")]));
    all.push(heap("jvm_memory_used_bytes", "JVM heap (OpenTelemetry)", &[("jvm_memory_type", "heap")]));
    all.push(heap("jvm_memory_bytes_used", "JVM heap (simpleclient)", &[("area", "heap")]));
    all.push(heap("go_memstats_heap_inuse_bytes", "Go heap (client_golang)", &[]));
    all.push(heap("go_memory_used_bytes", "Go (OpenTelemetry)", &[]));
    all.push(heap("nodejs_heap_size_used_bytes", "Node heap (prom-client)", &[]));
    all.push(heap("v8js_memory_heap_used_bytes", "Node heap (OpenTelemetry)", &[]));
    all
}
