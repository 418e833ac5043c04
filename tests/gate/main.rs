//! The gate: TLS and HTTP/2 as a stranger meets them, with made certificates and raw frames.

#[path = "../support/frames.rs"]
mod frames;
#[path = "../support/gate.rs"]
mod gate;
#[path = "../support/pki.rs"]
mod pki;

mod http2_limits;
mod http2_pace;
mod http2_shapes;
mod tls_call;
mod tls_certificates;
mod tls_courier;
mod tls_gate;
mod tls_lifetime;
