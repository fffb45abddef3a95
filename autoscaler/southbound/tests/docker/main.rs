//! The `docker` provider on a real dockerd of the tests' own. Needs root, Debian's docker.io, busybox-static,
//! dnsmasq-base and openssl, and `examples/responder.rs` built (`cargo test` does it).

mod bed;
mod beside;
mod faults;
mod lives;
mod pulls;
mod registry;
mod restarts;
mod tls;
