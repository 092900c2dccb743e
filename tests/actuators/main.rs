//! One conformance kit for every actuator, on the real programs: etcd, HAProxy and nginx from Debian, a receiver of the
//! Davy protocol, and an API server of Kubernetes that keeps to its rules of concurrency.

#![expect(clippy::unwrap_used, reason = "a test may end early")]

#[path = "../common/mod.rs"]
mod common;

mod api_server;
mod kit;
mod kubernetes;
mod protocol;
mod proxies;
