//! Real traffic in namespaces of its own: the demo's world and the end-to-end tests' clients.

pub mod observer;
mod phases;
pub mod summary;
pub mod traffic;
pub mod world;
