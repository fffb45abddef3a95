//! The same decisions in virtual time, against a recorded load.
//!
//! A simulation runs [`decide`](crate::decision::decide), [`plan`](crate::planner::plan) and the forecasts of the daemon
//! on instances that exist as numbers: they take their time to start, share the load, and drain. What it can't know is
//! what the trace doesn't say: how clients behave while instances are missing, or what a request costs.
//!
//! Time goes in steps. In each the trace's value is the load on the group; at its end the instances in service are
//! sampled, a decision is taken with what has been seen until then and nothing else, and its plan begins. An instance
//! launched there with a start time of two steps serves from the third step on.

mod fleet;
pub mod lineup;
mod measures;
mod run;
mod scenario;
mod setup;
mod trace;
mod tune;

pub use lineup::Contender;
pub use measures::{Measures, Weights};
pub use run::{Change, Record, Run, simulate};
pub use scenario::Scenario;
pub use setup::{BadSetup, Setup};
pub use trace::{BadTrace, Gaps, Point, Trace};
pub use tune::{Candidate, Tuned, calmer_than, candidates, choose, paces};
