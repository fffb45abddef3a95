//! The decisions of Sluice: what a tenant asked for, what its group is now, and what should be done next.
//!
//! Everything here is a function of its arguments: no I/O, no clock, no async, no randomness. Time is passed
//! in as a [`jiff::Timestamp`], so the daemon and the simulator run the same code.
//!
//! ```text
//! samples ──load──► policy ──wishes──► decision ──desired, reason──► planner ──steps──► (southbound)
//!                                         ▲                             ▲
//!                                         └──────── group: instances ───┘
//! ```

pub mod decision;
pub mod easing;
pub mod forecast;
pub mod group;
pub mod history;
pub mod outlook;
pub mod placement;
pub mod planner;
pub mod policy;
pub mod samples;
pub mod simulate;
pub mod spec;
pub mod starts;
