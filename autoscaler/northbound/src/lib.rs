//! What people and programs say to Sluice: tenant and host files, the API and its client.

pub mod api;
pub mod client;
