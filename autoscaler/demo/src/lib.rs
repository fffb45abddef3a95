//! Real traffic in namespaces of its own: the demo, its world, and the end-to-end tests' clients.

mod drains;
mod ground;
pub mod host_load;
pub mod observer;
mod phases;
pub mod report;
mod run;
mod shares;
pub mod summary;
pub mod traffic;
mod view;
pub mod world;

pub use run::{Options, run};
pub use summary::Summary;
