//! What people and programs say to Sluice: tenant and host files, the API and its client.
//!
//! Every file is read to its end: all of its faults come back at once, each with file, line and column
//! ([`diagnostic`]). [`tenant`] and [`host`] read one file each, [`check`] any number of both, and [`watch`]
//! keeps the tenants' directory in force while people edit it.

pub mod api;
mod characters;
pub mod check;
pub mod client;
pub mod diagnostic;
pub mod evaluate;
pub mod export;
mod file;
pub mod host;
mod policies;
mod reader;
pub mod tenant;
pub mod terminal;
mod value;
pub mod watch;
mod yaml;
