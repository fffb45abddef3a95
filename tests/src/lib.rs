//! What the end-to-end tests share: the program, a world with clients, tenant files.
//!
//! Every test has a world of its own (namespaces, a daemon, a tenants' directory) under a name of its own. They take
//! CPU time from one another, so they run one after the other: `cargo test -p sluice-tests -- --test-threads=1`.

mod clock;
pub mod frames;
mod inventory;
mod machines;
mod memory;
mod processes;
mod program;
mod scene;
mod shares;
mod tenant;
mod wire;

pub use clock::midday;
pub use inventory::{Inventory, inventory, links, namespaces};
pub use machines::Machines;
pub use memory::{map_memory, resident_memory};
pub use processes::{processes_about, processes_in};
pub use program::{lb, logs, number, responder, sluice};
pub use scene::{Held, Scene};
pub use shares::Shares;
pub use tenant::TenantFile;
pub use wire::Wire;
