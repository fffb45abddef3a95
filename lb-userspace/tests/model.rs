//! A reference model beside the real programs, for both ways: both get the same random and mutated packets, and must do
//! the same, while backends come, drain and go.
//!
//! `cargo xtask fuzz` runs this for longer. `SLUICE_FUZZ_PACKETS` says how many, `SLUICE_FUZZ_SEED` which.

#[path = "model/addresses.rs"]
mod addresses;
#[path = "model/answers.rs"]
mod answers;
mod bed;
#[path = "model/bytes.rs"]
mod bytes;
#[path = "model/census.rs"]
mod census;
#[path = "model/envelopes.rs"]
mod envelopes;
#[path = "model/flow.rs"]
mod flow;
#[path = "model/generate.rs"]
mod generate;
#[path = "model/hosts.rs"]
mod hosts;
#[path = "model/kinds.rs"]
mod kinds;
#[path = "model/payloads.rs"]
mod payloads;
#[path = "model/reference.rs"]
mod reference;
#[path = "model/replies.rs"]
mod replies;
#[path = "model/run.rs"]
mod run;
#[path = "model/said.rs"]
mod said;
#[path = "model/shared.rs"]
mod shared;
#[path = "model/slot.rs"]
mod slot;
#[path = "model/talk.rs"]
mod talk;
#[path = "model/world.rs"]
mod world;

use run::Run;

/// What runs in one test run of everything.
const PACKETS: u64 = 200_000;
/// What a run must have made of packets.
const OUTCOMES: [&str; 31] = [
    "redirect, IPv4",
    "redirect, IPv6",
    "later fragment, IPv4",
    "later fragment, IPv6",
    "error, IPv4",
    "error, IPv6",
    "pass",
    "answer",
    "no_backend",
    "fragment",
    "icmp_quote",
    "ipv6_unread",
    "too_long",
    "udp_length",
    "answer, IPv4",
    "answer, IPv6",
    "answer, later fragment",
    "answer, error, IPv4",
    "answer, error, IPv6",
    "answer, passed",
    "left",
    "source_spoofed",
    "not_allowed",
    "not_balanced",
    "other_mac",
    "impossible_source",
    "past_vip",
    "vlan_tag",
    "bad_checksum",
    "quiet",
    "unsolicited",
];

#[test]
fn random_packets_become_what_the_model_says() {
    let packets = from_environment("SLUICE_FUZZ_PACKETS").unwrap_or(PACKETS);
    let seed = from_environment("SLUICE_FUZZ_SEED").unwrap_or(0x51_0ce);
    let mut run = Run::new(seed);
    run.go_on_for(packets);
    for kind in OUTCOMES.iter().chain(&census::WANTED) {
        assert!(run.tally.contains_key(kind), "no packet was `{kind}`: the packets say nothing about it");
    }
}

fn from_environment(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text}: a number is wanted")))
}
