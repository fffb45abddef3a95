//! A line of a log as it is kept.

use std::net::IpAddr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sluice_logic::group::InstanceId;

/// A message that an instance or a host has sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// When it came, by our clock.
    pub at: Timestamp,
    /// From where.
    pub from: IpAddr,
    /// The instance whose address that was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<InstanceId>,
    /// What it says.
    #[serde(flatten)]
    pub message: LogMessage,
}

/// What a message says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LogMessage {
    /// When, by its sender's clock; of RFC 3164, whose times have no year, in the year of now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<Timestamp>,
    /// Such as `daemon`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub facility: Option<String>,
    /// Such as `err`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub severity: Option<String>,
    /// What the sender calls itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// The program.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app: Option<String>,
    /// Its process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub process: Option<String>,
    /// The kind of message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message_id: Option<String>,
    /// As RFC 5424 writes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub structured_data: Option<String>,
    /// The text; of a malformed message all of it, as it came.
    pub text: String,
    /// It has no priority, so it is not syslog.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub malformed: bool,
}
