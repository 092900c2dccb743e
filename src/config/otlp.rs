//! `otlp`: where OpenTelemetry's exporters reach Davy.

use std::net::{Ipv4Addr, SocketAddr};

use super::reader::{Field, Section};
use super::value::check_listen;

/// Where OTLP is listened for; only loopback, until there is authentication.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Otlp {
    pub grpc: SocketAddr,
    pub http: SocketAddr,
}

impl Default for Otlp {
    fn default() -> Self {
        let local = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        Self { grpc: local(4317), http: local(4318) }
    }
}

pub(super) fn read(top: &mut Section<'_>) -> Otlp {
    top.or("otlp", Otlp::default(), |field| field.section(section))
}

fn section(s: &mut Section<'_>) -> Option<Otlp> {
    let default = Otlp::default();
    let grpc = s.or("grpc", default.grpc, listen);
    let http_field = s.get("http");
    let http = http_field.as_ref().and_then(listen).unwrap_or(default.http);
    // Port 0 lets the system choose, twice.
    if grpc == http && grpc.port() != 0 {
        s.error(format!("`grpc` and `http` are both on {grpc}; each needs a port of its own"));
    }
    s.not_yet(
        &[
            "promote_resource_attributes",
            "promote_all_resource_attributes",
            "ignore_resource_attributes",
            "translation_strategy",
            "keep_identifying_resource_attributes",
            "convert_histograms_to_nhcb",
            "promote_scope_metadata",
        ],
        "that is Prometheus' receiver",
    );
    Some(Otlp { grpc, http })
}

fn listen(field: &Field<'_>) -> Option<SocketAddr> {
    let text = field.text()?;
    check_listen(text).map_err(|e| field.error(e.to_string())).ok()
}
