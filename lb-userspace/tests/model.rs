//! A reference model beside the real programs, for both ways: both get the same random and mutated packets, and must do
//! the same.
//!
//! `cargo xtask fuzz` runs this for longer. `SLUICE_FUZZ_PACKETS` says how many, `SLUICE_FUZZ_SEED` which.

#[path = "model/addresses.rs"]
mod addresses;
#[path = "model/answers.rs"]
mod answers;
mod bed;
#[path = "model/bytes.rs"]
mod bytes;
#[path = "model/generate.rs"]
mod generate;
#[path = "model/kinds.rs"]
mod kinds;
#[path = "model/reference.rs"]
mod reference;
#[path = "model/talk.rs"]
mod talk;
#[path = "model/world.rs"]
mod world;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use aya::Pod;
use aya::maps::{HashMap as BpfHashMap, Map, MapData};
use bed::{Bed, Verdict};
use fastrand::Rng;
use generate::Side;
use lb_common::abi::{FragmentKey, FragmentValue, OutboundKey, VERSION};
use reference::{Follows, Forward, Fragments, Outcome};
use talk::Talk;
use world::World;

/// What runs in one test run of everything.
const PACKETS: u64 = 200_000;
/// Frames between two looks at the counters.
const BATCH: u64 = 1_000;
/// What a run must have had.
const KINDS: [&str; 31] = [
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
/// Batches between two clearings of the table of fragments, far below what it holds.
const CLEARING: u64 = 10;

#[test]
fn random_packets_become_what_the_model_says() {
    let packets = from_environment("SLUICE_FUZZ_PACKETS").unwrap_or(PACKETS);
    let seed = from_environment("SLUICE_FUZZ_SEED").unwrap_or(0x51_0ce);
    let mut bed = Bed::with_room_for(16);
    let world = World::new(&mut bed);
    let mut run = Run {
        bed,
        world,
        talk: Talk::default(),
        let_through: 0,
        held_back: 0,
        fragments: Fragments::new(),
        answer_fragments: answers::Fragments::new(),
        opened: None,
        tally: BTreeMap::new(),
    };
    let started = Instant::now();
    for batch in 0..packets.div_ceil(BATCH) {
        // Each batch has its own seed, so that one that fails can be run alone; but what came before may matter.
        let mut rng = Rng::with_seed(seed.wrapping_add(batch));
        let mut frames =
            |side| -> Vec<_> { (0..BATCH / 2).map(|_| generate::frame(&mut rng, side)).collect() };
        let (from_clients, from_tenant) = (frames(Side::Client), frames(Side::Tenant));
        if batch % CLEARING == 0 {
            run.forget();
        }
        run.compare(&from_clients, seed, batch);
        run.compare_answers(&from_tenant, seed, batch);
        if (batch + 1) % 1_000 == 0 {
            eprintln!("{} packets in {:.0?}, no difference", (batch + 1) * BATCH, started.elapsed());
        }
    }
    eprintln!("seed {seed}: {packets} packets in {:.1?}: {:?}", started.elapsed(), run.tally);
    let unsolicited = run.tally.get("unsolicited").copied().unwrap_or_default();
    assert!(run.let_through * 50 < unsolicited, "{} of {unsolicited} left", run.let_through);
    let answered = run.tally["answer, IPv4"] + run.tally["answer, IPv6"];
    assert!(run.held_back * 50 < answered, "{} of {answered} answers were held back", run.held_back);
    for kind in KINDS {
        assert!(run.tally.contains_key(kind), "no packet was `{kind}`: the packets say nothing about it");
    }
}

fn from_environment(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text}: a number is wanted")))
}

struct Run {
    bed: Bed,
    world: World,
    /// What all ends have said.
    talk: Talk,
    /// How many packets left that were no answers: flows share bits of their hashes by chance, and what one has said then
    /// counts for the other.
    let_through: u64,
    /// How many answers were held back that the model would let out.
    held_back: u64,
    fragments: Fragments,
    answer_fragments: answers::Fragments,
    /// The tenant's own connections, while it may have some.
    opened: Option<answers::Opened>,
    /// How many packets became what.
    tally: BTreeMap<&'static str, u64>,
}

impl Run {
    fn compare(&mut self, frames: &[Vec<u8>], seed: u64, batch: u64) {
        let before = self.bed.lb.counters().expect("counters").drops;
        let mut expected: BTreeMap<&'static str, u64> = BTreeMap::new();
        for (number, (frame, (verdict, out))) in frames.iter().zip(self.bed.uplink_all(frames)).enumerate() {
            let differs = |what: String| -> ! { fail(seed, batch, number, frame, (verdict, &out), &what) };
            // What the programs see of it, and what is left of it where they change nothing.
            let frame = &reference::untagged(frame);
            match reference::outcome(&self.world, &self.fragments, &mut self.talk, frame) {
                Outcome::Pass => {
                    if (verdict, &out) != (Verdict::Pass, frame) {
                        differs("to be passed as it is".into());
                    }
                    *self.tally.entry("pass").or_default() += 1;
                }
                Outcome::Drop(reason) => {
                    if verdict != Verdict::Drop {
                        differs(format!("to be dropped: {reason}"));
                    }
                    *expected.entry(reason).or_default() += 1;
                }
                Outcome::Answer { reason, frame: answer, is_limited } => {
                    let is_answer = verdict == Verdict::Transmit && out == answer;
                    let is_withheld = is_limited && verdict == Verdict::Drop;
                    if !is_answer && !is_withheld {
                        differs(format!("to be answered: {reason}\n  as:  {}", hex(&answer)));
                    }
                    *expected.entry(reason).or_default() += 1;
                    *self.tally.entry("answer").or_default() += u64::from(is_answer);
                }
                Outcome::Forward(forward) => {
                    if let Err(what) = self.forwarded(&forward, frame, verdict, &out) {
                        differs(what);
                    }
                    if forward.is_unsound(frame) {
                        *expected.entry("bad_checksum").or_default() += 1;
                    }
                    *self.tally.entry(forward.kind()).or_default() += 1;
                }
            }
        }
        self.check_counts(&before, expected, seed.wrapping_add(batch));
    }

    /// As [`compare`](Self::compare), for the way back.
    fn compare_answers(&mut self, frames: &[Vec<u8>], seed: u64, batch: u64) {
        use answers::Outcome;

        let before = self.bed.lb.counters().expect("counters").drops;
        let mut expected: BTreeMap<&'static str, u64> = BTreeMap::new();
        for (number, (frame, (verdict, out))) in frames.iter().zip(self.bed.answer_all(frames)).enumerate() {
            let opened = self.opened.as_mut();
            let outcome =
                answers::outcome(&self.world, &self.answer_fragments, opened, &mut self.talk, frame);
            let (wanted, as_frame) = match outcome {
                Outcome::Pass(reason) => {
                    if let Some(reason) = reason {
                        *expected.entry(reason).or_default() += 1;
                    }
                    *self.tally.entry("answer, passed").or_default() += 1;
                    (Verdict::Pass, frame.clone())
                }
                Outcome::Leave => {
                    *self.tally.entry("left").or_default() += 1;
                    (Verdict::Pass, frame.clone())
                }
                Outcome::Drop(reason) => {
                    *expected.entry(reason).or_default() += 1;
                    (Verdict::Drop, out.clone())
                }
                Outcome::Quiet => {
                    *self.tally.entry("quiet").or_default() += 1;
                    (Verdict::Drop, out.clone())
                }
                Outcome::Unsolicited { frame, leads } if verdict == Verdict::Redirect => {
                    self.answer_fragments.extend(leads);
                    self.let_through += 1;
                    (Verdict::Redirect, frame)
                }
                Outcome::Unsolicited { .. } => {
                    *expected.entry("unsolicited").or_default() += 1;
                    (Verdict::Drop, out.clone())
                }
                // Time passes by the host's clock, so on a busy host a client may have asked too long ago.
                Outcome::Send { of: Some(of), .. } if verdict == Verdict::Drop => {
                    self.talk.forget_one(of);
                    self.held_back += 1;
                    *expected.entry("unsolicited").or_default() += 1;
                    (Verdict::Drop, out.clone())
                }
                Outcome::Send { frame, leads, kind, .. } => {
                    self.answer_fragments.extend(leads);
                    *self.tally.entry(kind).or_default() += 1;
                    (Verdict::Redirect, frame)
                }
            };
            if (verdict, &out) != (wanted, &as_frame) {
                let what = format!("from the tenant, to be {wanted:?} as\n       {}", hex(&as_frame));
                fail(seed, batch, number, frame, (verdict, &out), &what);
            }
        }
        self.check_counts(&before, expected, seed.wrapping_add(batch));
    }

    /// Checks what was counted as dropped since a look at the counters.
    fn check_counts(
        &mut self,
        before: &BTreeMap<&'static str, u64>,
        expected: BTreeMap<&'static str, u64>,
        seed: u64,
    ) {
        let after = self.bed.lb.counters().expect("counters").drops;
        let counted: BTreeMap<_, _> = after
            .iter()
            .map(|(reason, count)| (*reason, count - before[reason]))
            .filter(|(_, count)| *count > 0)
            .collect();
        assert_eq!(counted, expected, "drops of SLUICE_FUZZ_SEED={seed}");
        for (reason, count) in expected {
            *self.tally.entry(reason).or_default() += count;
        }
    }

    /// Checks a frame that went to a backend: to the one that has the flow, and as it is to be.
    fn forwarded(
        &mut self,
        forward: &Forward,
        frame: &[u8],
        verdict: Verdict,
        out: &[u8],
    ) -> Result<(), String> {
        let service = &self.world.services[forward.service];
        let sent_to = service.backends.iter().position(|backend| out.starts_with(&backend.mac));
        let (Verdict::Redirect, Some(backend)) = (verdict, sent_to) else {
            return Err(format!("to go to a backend of service {}", forward.service));
        };
        let owner = match forward.follows {
            Follows::Flow(flow) => *self.talk.owners.entry(flow).or_insert(backend),
            Follows::Fragment(backend) => backend,
        };
        if owner != backend {
            return Err(format!("to go to backend {owner}, which has the flow"));
        }
        let expected = forward.to(frame, service, backend);
        if out != expected {
            return Err(format!("to be\n       {}", hex(&expected)));
        }
        if let Some(fragment) = forward.leads {
            self.fragments.insert(fragment, (forward.service, backend));
        }
        Ok(())
    }

    /// So that the programs' tables never have to make room, which the model doesn't. From then on the tenant may go to the
    /// outside where it could not, and can't where it could.
    fn forget(&mut self) {
        self.fragments.clear();
        self.answer_fragments.clear();
        self.empty::<FragmentKey, FragmentValue>("fragments");
        self.empty::<FragmentKey, FragmentValue>("answer_fragments");
        self.empty::<OutboundKey, u32>("outbound_flows");
        // Flows and attempts end, and no packet is waited for any more.
        self.bed.lb.sweep_after(Duration::from_secs(401)).expect("a sweep");
        self.talk.forget();
        self.opened = if self.opened.is_none() { Some(answers::Opened::new()) } else { None };
        self.bed.set_outbound(self.opened.is_some());
    }

    fn empty<K: Pod, V: Pod>(&self, name: &str) {
        let path = self.bed.settings.pin_root.join(format!("v{VERSION}/{name}"));
        let map = Map::LruHashMap(MapData::from_pin(path).expect("the map"));
        let mut map: BpfHashMap<_, K, V> = map.try_into().expect("its types");
        let keys: Vec<_> = map.keys().map(|key| key.expect("a key")).collect();
        for key in keys {
            map.remove(&key).expect("removed");
        }
    }
}

fn fail(
    seed: u64,
    batch: u64,
    number: usize,
    frame: &[u8],
    (verdict, out): (Verdict, &[u8]),
    what: &str,
) -> ! {
    panic!(
        "seed {seed}, packet {} ({number} of SLUICE_FUZZ_SEED={} SLUICE_FUZZ_PACKETS=1000): {what}\n  in:  {}\n  out: {verdict:?} {}",
        batch * BATCH + number as u64,
        seed.wrapping_add(batch),
        hex(frame),
        hex(out),
    )
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().take(200).fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("written");
        text
    })
}
