//! The OTLP receiver over real sockets: gRPC and HTTP clients of others' making against a real store.

#[path = "otlp_sockets/grpc.rs"]
mod grpc;
#[path = "otlp_sockets/http.rs"]
mod http;
#[path = "otlp_sockets/sdk.rs"]
mod sdk;
#[path = "otlp_sockets/support.rs"]
mod support;
