//! Expositions of real software, scraped into a store, and what is judged of each. `fixtures/expositions/` says
//! which were recorded and which were written after the documentation.

use std::fmt::Write;
use std::path::PathBuf;

use davy_detector::config::ReleaseSpec;
use davy_detector::{Arms, Observer, survey};
use davy_model::{Labels, Timestamp, Value};
use davy_store::{Durability, Limits, Options, Snapshot, Store};
use expect_test::{Expect, expect};

fn at(s: i64) -> Timestamp {
    Timestamp::from_millis((1_767_225_600 + s) * 1000)
}

fn exposition(name: &str) -> Vec<(Vec<(String, String)>, f64)> {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../fixtures/expositions").join(name);
    let text = std::fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    text.lines().filter(|l| !l.starts_with('#') && !l.trim().is_empty()).filter_map(sample).collect()
}

/// A line without escapes and time stamps, which is all that these have.
fn sample(line: &str) -> Option<(Vec<(String, String)>, f64)> {
    let (series, value) = line.trim().rsplit_once(' ')?;
    let (metric, labels) = series.split_once('{').unwrap_or((series, "}"));
    let mut all = vec![("__name__".to_owned(), metric.to_owned())];
    let mut rest = labels.strip_suffix('}')?;
    while !rest.is_empty() {
        let end = rest.find(['=', ',']).unwrap_or(rest.len());
        let name = rest[..end].trim().trim_matches('"').to_owned();
        if rest[end..].starts_with('=') {
            let (value, after) = rest[end + 2..].split_once('"')?;
            all.push((name, value.to_owned()));
            rest = after.trim_start_matches([',', ' ']);
        } else {
            // A name in quotes among the labels is the metric's.
            name.clone_into(&mut all[0].1);
            rest = rest[end..].trim_start_matches([',', ' ']);
        }
    }
    Some((all, value.parse().ok()?))
}

struct Scraped {
    store: Store,
    _dir: tempfile::TempDir,
}

impl Scraped {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a folder for the test");
        let limits = Limits { free_disk_bytes_min: 0, ..Limits::default() };
        let options = Options { limits, ..Options::default() };
        let (store, _) = Store::open(dir.path(), at(0), options).expect("a fresh store opens");
        Self { store, _dir: dir }
    }

    /// As a scrape writes it: labels of the target win, what they hide is `exported_`.
    fn scrape(&self, name: &str, target: &[(&str, &str)]) {
        for (time, grown) in [(1, 1.0), (16, 2.0)] {
            let mut appender = self.store.appender(at(time));
            for (labels, value) in exposition(name) {
                let exported =
                    |l: String| if target.iter().any(|(t, _)| *t == l) { format!("exported_{l}") } else { l };
                let own: Vec<(String, String)> = labels.into_iter().map(|(l, v)| (exported(l), v)).collect();
                let own = own.iter().map(|(l, v)| (l.as_str(), v.as_str()));
                let labels =
                    Labels::from_pairs(own.filter(|(_, v)| !v.is_empty()).chain(target.iter().copied()));
                let series = appender.series(&labels).expect("no limit is reached");
                appender.append(series, at(time), Value::Float(value * grown)).expect("scrapes are in order");
            }
            appender.commit(Durability::Group).expect("the disk takes it");
        }
    }

    fn snapshot(&self) -> Snapshot {
        self.store.snapshot()
    }
}

fn shown(arms: &Arms, snapshot: &Snapshot) -> String {
    let spec = ReleaseSpec::default();
    let survey = survey(&spec, arms, snapshot, at(0), at(60)).expect("the store can be read");
    let mut out = String::new();
    for m in &survey.plan.metrics {
        let by = survey.found.iter().find(|(name, _)| *name == m.name).map_or("", |(_, by)| by);
        writeln!(out, "{} of {by}: {}", m.name, m.source).expect("a string takes it");
    }
    for seen in &survey.also_seen {
        writeln!(out, "also seen: {seen}").expect("a string takes it");
    }
    for refused in &survey.refused {
        writeln!(out, "refused: {refused}").expect("a string takes it");
    }
    // What was planned is also found where it is counted.
    let mut observer = Observer::new(survey.plan.clone(), arms.clone());
    let read = observer.observe(snapshot, at(15), at(30)).expect("the store can be read");
    for arm in [davy_detector::Arm::Baseline, davy_detector::Arm::Canary] {
        for (i, m) in survey.plan.metrics.iter().enumerate() {
            let measured = |x: &davy_detector::InstanceInterval| x.arm == arm && x.measurements[i].is_some();
            assert!(read.instances.iter().any(measured), "{} is not read of {arm:?}", m.name);
        }
    }
    out.trim_end().to_owned()
}

/// The exposition of a service in both versions.
fn check(name: &str, want: &Expect) {
    let scraped = Scraped::new();
    for (version, instance) in [("1", "a:80"), ("2", "c:80")] {
        let target = [("job", "shop"), ("instance", instance), ("version", version)];
        scraped.scrape(&format!("conventions/{name}.txt"), &target);
    }
    let arms = Arms::of(&ReleaseSpec::default(), "shop", "1", "2");
    want.assert_eq(&shown(&arms, &scraped.snapshot()));
}

/// The exposition of what stands before both versions.
fn check_before(name: &str, service: &str, want: &Expect) {
    let scraped = Scraped::new();
    scraped.scrape(name, &[("job", "edge"), ("instance", "e:9000")]);
    let arms = Arms::of(&ReleaseSpec::default(), service, "1", "2");
    want.assert_eq(&shown(&arms, &scraped.snapshot()));
}

#[test]
fn java() {
    check(
        "spring_boot",
        &expect![[r#"
        errors of Spring Boot, Quarkus (Micrometer): http_server_requests_seconds_count{status=~"5..|5xx|5XX"} / http_server_requests_seconds_count
        latency of Spring Boot, Quarkus (Micrometer): http_server_requests_seconds_bucket
        cpu of JVM (Micrometer): process_cpu_time_ns_total
        memory of JVM heap (Micrometer, Java client 1.x): jvm_memory_used_bytes{area="heap"}"#]],
    );
    check(
        "spring_boot_summary",
        &expect![[r#"
        errors of Spring Boot, Quarkus (Micrometer): http_server_requests_seconds_count{status=~"5..|5xx|5XX"} / http_server_requests_seconds_count
        cpu of JVM (Micrometer): process_cpu_time_ns_total
        memory of JVM heap (Micrometer, Java client 1.x): jvm_memory_used_bytes{area="heap"}
        refused: latency: http_server_requests_seconds is a summary (Spring Boot, Quarkus (Micrometer)); its quantiles cannot be added up over instances or compared with known luck: export a histogram instead"#]],
    );
    check(
        "ktor",
        &expect![[r#"
        errors of Ktor (Micrometer): ktor_http_server_requests_seconds_count{status=~"5..|5xx|5XX"} / ktor_http_server_requests_seconds_count
        latency of Ktor (Micrometer): ktor_http_server_requests_seconds_bucket
        cpu of JVM (Micrometer): process_cpu_time_ns_total
        memory of JVM heap (Micrometer, Java client 1.x): jvm_memory_used_bytes{area="heap"}"#]],
    );
    check(
        "vertx",
        &expect![[r#"
        errors of Vert.x (Micrometer): vertx_http_server_response_time_seconds_count{code=~"5..|5xx|5XX"} / vertx_http_server_response_time_seconds_count
        latency of Vert.x (Micrometer): vertx_http_server_response_time_seconds_bucket
        also seen: vertx_http_server_requests_total (Vert.x (Micrometer), requests alone)"#]],
    );
    check(
        "jetty_simpleclient",
        &expect![[r#"
        errors of Jetty (simpleclient_jetty): jetty_responses_total{code=~"5..|5xx|5XX"} / jetty_responses_total
        cpu of client libraries of Go, Java, Python, Node, .NET, Rust: process_cpu_seconds_total
        memory of JVM heap (simpleclient): jvm_memory_bytes_used{area="heap"}"#]],
    );
}

#[test]
fn go() {
    check(
        "go_client",
        &expect![[r#"
            errors of client libraries of Go, Python and Node, fiberprometheus: http_requests_total{code=~"5..|5xx|5XX"} / http_requests_total
            latency of client libraries of Go, Python and Node, fiberprometheus: http_request_duration_seconds_bucket
            cpu of client libraries of Go, Java, Python, Node, .NET, Rust: process_cpu_seconds_total
            memory of client libraries of Go, Java, Python, Node, .NET, Rust: process_resident_memory_bytes
            also seen: go_memstats_heap_inuse_bytes (Go heap (client_golang))"#]],
    );
    check(
        "echo",
        &expect![[r#"
        errors of Echo (echo-contrib): echo_requests_total{code=~"5..|5xx|5XX"} / echo_requests_total
        latency of Echo (echo-contrib): echo_request_duration_seconds_bucket
        cpu of client libraries of Go, Java, Python, Node, .NET, Rust: process_cpu_seconds_total
        memory of client libraries of Go, Java, Python, Node, .NET, Rust: process_resident_memory_bytes"#]],
    );
    check(
        "gin",
        &expect![[r#"
        errors of Gin (go-gin-prometheus): gin_requests_total{code=~"5..|5xx|5XX"} / gin_requests_total
        latency of Gin (go-gin-prometheus): gin_request_duration_seconds_bucket
        cpu of client libraries of Go, Java, Python, Node, .NET, Rust: process_cpu_seconds_total
        memory of client libraries of Go, Java, Python, Node, .NET, Rust: process_resident_memory_bytes"#]],
    );
}

#[test]
fn python() {
    check(
        "fastapi_instrumentator",
        &expect![[r#"
            errors of FastAPI (prometheus-fastapi-instrumentator): http_requests_total{status=~"5..|5xx|5XX"} / http_requests_total
            latency of FastAPI (prometheus-fastapi-instrumentator): http_request_duration_highr_seconds_bucket
            cpu of client libraries of Go, Java, Python, Node, .NET, Rust: process_cpu_seconds_total
            memory of client libraries of Go, Java, Python, Node, .NET, Rust: process_resident_memory_bytes
            also seen: http_request_duration_seconds_count (Node (express-prom-bundle, fastify-metrics), others with a histogram alone)
            also seen: http_request_duration_seconds_bucket (client libraries of Go, Python and Node, fiberprometheus)"#]],
    );
    check(
        "starlette_exporter",
        &expect![[r#"
        errors of Starlette (starlette-exporter): starlette_requests_total{status_code=~"5..|5xx|5XX"} / starlette_requests_total
        latency of Starlette (starlette-exporter): starlette_request_duration_seconds_bucket
        cpu of client libraries of Go, Java, Python, Node, .NET, Rust: process_cpu_seconds_total
        memory of client libraries of Go, Java, Python, Node, .NET, Rust: process_resident_memory_bytes"#]],
    );
    check(
        "flask_exporter",
        &expect![[r#"
        errors of Flask (prometheus-flask-exporter): flask_http_request_total{status=~"5..|5xx|5XX"} / flask_http_request_total
        latency of Flask (prometheus-flask-exporter): flask_http_request_duration_seconds_bucket
        cpu of client libraries of Go, Java, Python, Node, .NET, Rust: process_cpu_seconds_total
        memory of client libraries of Go, Java, Python, Node, .NET, Rust: process_resident_memory_bytes"#]],
    );
    check(
        "django_prometheus",
        &expect![[r#"
        errors of Django (django-prometheus): django_http_responses_total_by_status_total{status=~"5..|5xx|5XX"} / django_http_responses_total_by_status_total
        latency of Django (django-prometheus): django_http_requests_latency_seconds_by_view_method_bucket
        cpu of client libraries of Go, Java, Python, Node, .NET, Rust: process_cpu_seconds_total
        memory of client libraries of Go, Java, Python, Node, .NET, Rust: process_resident_memory_bytes"#]],
    );
}

#[test]
fn node() {
    check(
        "express_prom_bundle",
        &expect![[r#"
            errors of Node (express-prom-bundle, fastify-metrics), others with a histogram alone: http_request_duration_seconds_count{status_code=~"5..|5xx|5XX"} / http_request_duration_seconds_count
            latency of Node (express-prom-bundle, fastify-metrics), others with a histogram alone: http_request_duration_seconds_bucket
            cpu of client libraries of Go, Java, Python, Node, .NET, Rust: process_cpu_seconds_total
            memory of client libraries of Go, Java, Python, Node, .NET, Rust: process_resident_memory_bytes
            also seen: nodejs_heap_size_used_bytes (Node heap (prom-client))"#]],
    );
    check(
        "fastify_metrics",
        &expect![[r#"
            errors of Node (express-prom-bundle, fastify-metrics), others with a histogram alone: http_request_duration_seconds_count{status_code=~"5..|5xx|5XX"} / http_request_duration_seconds_count
            latency of Node (express-prom-bundle, fastify-metrics), others with a histogram alone: http_request_duration_seconds_bucket
            cpu of client libraries of Go, Java, Python, Node, .NET, Rust: process_cpu_seconds_total
            memory of client libraries of Go, Java, Python, Node, .NET, Rust: process_resident_memory_bytes
            also seen: nodejs_heap_size_used_bytes (Node heap (prom-client))"#]],
    );
}

#[test]
fn dotnet() {
    check(
        "prometheus_net",
        &expect![[r#"
            errors of ASP.NET Core (prometheus-net): http_requests_received_total{code=~"5..|5xx|5XX"} / http_requests_received_total
            latency of ASP.NET Core (prometheus-net): http_request_duration_seconds_bucket
            cpu of client libraries of Go, Java, Python, Node, .NET, Rust: process_cpu_seconds_total
            memory of .NET (prometheus-net): process_working_set_bytes"#]],
    );
    check(
        "aspnet_otel",
        &expect![[r#"
        errors of OpenTelemetry HTTP server, ASP.NET Core 8: http_server_request_duration_seconds_count{http_response_status_code=~"5..|5xx|5XX"} / http_server_request_duration_seconds_count
        latency of OpenTelemetry HTTP server, ASP.NET Core 8: http_server_request_duration_seconds_bucket
        cpu of .NET 9 (OpenTelemetry): dotnet_process_cpu_time_seconds_total
        memory of .NET 9 (OpenTelemetry): dotnet_process_memory_working_set_bytes"#]],
    );
}

#[test]
fn rust() {
    check(
        "axum",
        &expect![[r#"
        errors of axum (axum-prometheus): axum_http_requests_total{status=~"5..|5xx|5XX"} / axum_http_requests_total
        latency of axum (axum-prometheus): axum_http_requests_duration_seconds_bucket
        cpu of client libraries of Go, Java, Python, Node, .NET, Rust: process_cpu_seconds_total
        memory of client libraries of Go, Java, Python, Node, .NET, Rust: process_resident_memory_bytes"#]],
    );
    check(
        "rocket",
        &expect![[r#"
        errors of Rocket (rocket_prometheus): rocket_http_requests_total{status=~"5..|5xx|5XX"} / rocket_http_requests_total
        latency of Rocket (rocket_prometheus): rocket_http_requests_duration_seconds_bucket"#]],
    );
    check(
        "actix",
        &expect![[r#"
        errors of actix-web (actix-web-prom, namespace `api`): api_http_requests_total{status=~"5..|5xx|5XX"} / api_http_requests_total
        latency of actix-web (actix-web-prom, namespace `api`): api_http_requests_duration_seconds_bucket"#]],
    );
    check(
        "metrics_exporter",
        &expect![[r#"
            errors of client libraries of Go, Python and Node, fiberprometheus: http_requests_total{status=~"5..|5xx|5XX"} / http_requests_total
            refused: latency: http_request_duration_seconds is a summary (client libraries of Go, Python and Node, fiberprometheus); its quantiles cannot be added up over instances or compared with known luck: export a histogram instead"#]],
    );
}

#[test]
fn opentelemetry() {
    check(
        "otel_python",
        &expect![[r#"
        errors of OpenTelemetry HTTP server, ASP.NET Core 8: http_server_request_duration_seconds_count{http_response_status_code=~"5..|5xx|5XX"} / http_server_request_duration_seconds_count
        latency of OpenTelemetry HTTP server, ASP.NET Core 8: http_server_request_duration_seconds_bucket
        cpu of client libraries of Go, Java, Python, Node, .NET, Rust: process_cpu_seconds_total
        memory of client libraries of Go, Java, Python, Node, .NET, Rust: process_resident_memory_bytes
        also seen: process_cpu_time_seconds_total (OpenTelemetry process)
        also seen: process_memory_usage_bytes (OpenTelemetry process)"#]],
    );
    check(
        "otel_java_agent",
        &expect![[r#"
        errors of OpenTelemetry HTTP server, ASP.NET Core 8: http_server_request_duration_seconds_count{http_response_status_code=~"5..|5xx|5XX"} / http_server_request_duration_seconds_count
        latency of OpenTelemetry HTTP server, ASP.NET Core 8: http_server_request_duration_seconds_bucket
        cpu of JVM (OpenTelemetry): jvm_cpu_time_seconds_total
        memory of JVM heap (OpenTelemetry): jvm_memory_used_bytes{jvm_memory_type="heap"}
        also seen: db_client_operation_duration_seconds_bucket (OpenTelemetry database client)"#]],
    );
    check(
        "otel_before_1_23",
        &expect![[r#"
        errors of OpenTelemetry HTTP server before 1.23: http_server_duration_milliseconds_count{http_status_code=~"5..|5xx|5XX"} / http_server_duration_milliseconds_count
        latency of OpenTelemetry HTTP server before 1.23: http_server_duration_milliseconds_bucket"#]],
    );
    check(
        "otel_utf8",
        &expect![[r#"
        errors of OpenTelemetry HTTP server, ASP.NET Core 8: http.server.request.duration_seconds_count{http.response.status_code=~"5..|5xx|5XX"} / http.server.request.duration_seconds_count
        latency of OpenTelemetry HTTP server, ASP.NET Core 8: http.server.request.duration_seconds_bucket"#]],
    );
    check(
        "otel_rpc",
        &expect![[r#"
        errors of OpenTelemetry RPC server: rpc_server_call_duration_seconds_count{rpc_response_status_code=~"Unknown|DeadlineExceeded|Unimplemented|Internal|Unavailable|DataLoss|UNKNOWN|DEADLINE_EXCEEDED|UNIMPLEMENTED|INTERNAL|UNAVAILABLE|DATA_LOSS|2|4|12|13|14|15"} / rpc_server_call_duration_seconds_count
        latency of OpenTelemetry RPC server: rpc_server_call_duration_seconds_bucket"#]],
    );
    check(
        "otel_rpc_before_1_38",
        &expect![[r#"
        errors of OpenTelemetry RPC server before 1.38: rpc_server_duration_milliseconds_count{rpc_grpc_status_code=~"Unknown|DeadlineExceeded|Unimplemented|Internal|Unavailable|DataLoss|UNKNOWN|DEADLINE_EXCEEDED|UNIMPLEMENTED|INTERNAL|UNAVAILABLE|DATA_LOSS|2|4|12|13|14|15"} / rpc_server_duration_milliseconds_count
        latency of OpenTelemetry RPC server before 1.38: rpc_server_duration_milliseconds_bucket"#]],
    );
    check(
        "otel_worker",
        &expect![[r#"
        errors of OpenTelemetry messages processed: messaging_process_duration_seconds_count{error_type=~".+"} / messaging_process_duration_seconds_count
        latency of OpenTelemetry messages processed: messaging_process_duration_seconds_bucket
        cpu of OpenTelemetry process: process_cpu_time_seconds_total
        memory of OpenTelemetry process: process_memory_usage_bytes
        also seen: db_client_operation_duration_seconds_bucket (OpenTelemetry database client)"#]],
    );
    check(
        "otel_database_alone",
        &expect![[r#"
        errors of OpenTelemetry database client: db_client_operation_duration_seconds_count{error_type=~".+"} / db_client_operation_duration_seconds_count
        latency of OpenTelemetry database client: db_client_operation_duration_seconds_bucket"#]],
    );
}

#[test]
fn grpc() {
    check(
        "grpc_go",
        &expect![[r#"
        errors of go-grpc-prometheus, go-grpc-middleware: grpc_server_handled_total{grpc_code=~"Unknown|DeadlineExceeded|Unimplemented|Internal|Unavailable|DataLoss|UNKNOWN|DEADLINE_EXCEEDED|UNIMPLEMENTED|INTERNAL|UNAVAILABLE|DATA_LOSS|2|4|12|13|14|15"} / grpc_server_handled_total
        latency of go-grpc-prometheus, go-grpc-middleware: grpc_server_handling_seconds_bucket
        cpu of client libraries of Go, Java, Python, Node, .NET, Rust: process_cpu_seconds_total
        memory of client libraries of Go, Java, Python, Node, .NET, Rust: process_resident_memory_bytes"#]],
    );
    check(
        "grpc_otel_plugin",
        &expect![[r#"
        errors of gRPC's own OpenTelemetry plugin (gRFC A66): grpc_server_call_duration_seconds_count{grpc_status=~"Unknown|DeadlineExceeded|Unimplemented|Internal|Unavailable|DataLoss|UNKNOWN|DEADLINE_EXCEEDED|UNIMPLEMENTED|INTERNAL|UNAVAILABLE|DATA_LOSS|2|4|12|13|14|15"} / grpc_server_call_duration_seconds_count
        latency of gRPC's own OpenTelemetry plugin (gRFC A66): grpc_server_call_duration_seconds_bucket"#]],
    );
    check(
        "grpc_spring",
        &expect![[r#"
            errors of grpc-spring (Micrometer): grpc_server_processing_duration_seconds_count{statusCode=~"Unknown|DeadlineExceeded|Unimplemented|Internal|Unavailable|DataLoss|UNKNOWN|DEADLINE_EXCEEDED|UNIMPLEMENTED|INTERNAL|UNAVAILABLE|DATA_LOSS|2|4|12|13|14|15"} / grpc_server_processing_duration_seconds_count
            latency of grpc-spring (Micrometer): grpc_server_processing_duration_seconds_bucket
            cpu of JVM (Micrometer): process_cpu_time_ns_total
            memory of JVM heap (Micrometer, Java client 1.x): jvm_memory_used_bytes{area="heap"}"#]],
    );
}

#[test]
fn meshes_and_ingresses_are_found_by_their_own_labels() {
    check_before(
        "conventions/istio.txt",
        "shop",
        &expect![[r#"
        errors of Istio: istio_requests_total{reporter="destination", response_code=~"5..|5xx|5XX"} / istio_requests_total{reporter="destination"}
        latency of Istio: istio_request_duration_milliseconds_bucket{reporter="destination"}"#]],
    );
    check_before(
        "conventions/linkerd.txt",
        "shop",
        &expect![[r#"
        errors of Linkerd: response_total{direction="inbound", classification=~"failure"} / response_total{direction="inbound"}
        latency of Linkerd: response_latency_ms_bucket{direction="inbound"}"#]],
    );
    check_before(
        "conventions/envoy.txt",
        "shop",
        &expect![[r#"
        errors of Envoy: envoy_cluster_upstream_rq_xx{envoy_response_code_class=~"5"} / envoy_cluster_upstream_rq_xx
        latency of Envoy: envoy_cluster_upstream_rq_time_bucket"#]],
    );
    check_before(
        "conventions/traefik.txt",
        "shop",
        &expect![[r#"
        errors of Traefik: traefik_service_requests_total{code=~"5..|5xx|5XX"} / traefik_service_requests_total
        latency of Traefik: traefik_service_request_duration_seconds_bucket"#]],
    );
    check_before(
        "conventions/ingress_nginx.txt",
        "shop",
        &expect![[r#"
        errors of ingress-nginx: nginx_ingress_controller_requests{status=~"5..|5xx|5XX"} / nginx_ingress_controller_requests
        latency of ingress-nginx: nginx_ingress_controller_request_duration_seconds_bucket"#]],
    );
    check_before(
        "haproxy.txt",
        "app",
        &expect![[
            r#"errors of HAProxy, server by server: haproxy_server_http_responses_total{code=~"5..|5xx|5XX"} / haproxy_server_http_responses_total"#
        ]],
    );
}

#[test]
fn ruby_and_older_python() {
    check(
        "ruby",
        &expect![[r#"
        errors of Ruby (prometheus-client, rack): http_server_requests_total{code=~"5..|5xx|5XX"} / http_server_requests_total
        latency of Ruby (prometheus-client, rack): http_server_request_duration_seconds_bucket"#]],
    );
    check(
        "starlette_prometheus",
        &expect![[r#"
        errors of Starlette (starlette-prometheus): starlette_responses_total{status_code=~"5..|5xx|5XX"} / starlette_responses_total
        latency of Starlette (starlette-prometheus): starlette_requests_processing_time_seconds_bucket
        also seen: starlette_requests_total (Starlette (starlette-exporter))"#]],
    );
}

#[test]
fn spans_counted_by_a_collector_and_containers() {
    check(
        "collector_spanmetrics",
        &expect![[r#"
        errors of spans (OpenTelemetry Collector's spanmetrics): traces_span_metrics_calls_total{span_kind="SPAN_KIND_SERVER", status_code=~"STATUS_CODE_ERROR"} / traces_span_metrics_calls_total{span_kind="SPAN_KIND_SERVER"}
        latency of spans (OpenTelemetry Collector's spanmetrics): traces_span_metrics_duration_milliseconds_bucket{span_kind="SPAN_KIND_SERVER"}"#]],
    );
    check(
        "cadvisor",
        &expect![[r#"
        cpu of cAdvisor: container_cpu_usage_seconds_total{container!="", container!="POD"}
        memory of cAdvisor: container_memory_working_set_bytes{container!="", container!="POD"}"#]],
    );
}
