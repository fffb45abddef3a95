//! What is not as it should be, for as long as it lasts.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Something on the host that keeps Sluice from working as its files ask, and that a person can mend.
///
/// It is listed from the poll that finds it to the poll that finds it mended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostProblem {
    /// When it was found first.
    pub since: Timestamp,
    /// The thing: ``the uplink `eth1` ``, `the VIP 45.45.45.45`, a file.
    pub about: String,
    /// What is wrong with it, and what that does.
    pub what: String,
    /// What mends it; where there is one, the command, between backquotes.
    pub way_out: String,
}
