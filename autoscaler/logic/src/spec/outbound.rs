//! What instances may reach.

use serde::{Deserialize, Serialize};

/// Whether a tenant's instances may open connections to the outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outbound {
    /// They answer clients, and reach each other and their gateway.
    #[default]
    None,
    /// They may, by the uplink, behind its own address (NAPT, RFC 3022).
    Nat,
}
