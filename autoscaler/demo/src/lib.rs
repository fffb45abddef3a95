//! Real traffic in namespaces of its own: the demo's world and the end-to-end tests' clients.

pub mod traffic;
pub mod world;
