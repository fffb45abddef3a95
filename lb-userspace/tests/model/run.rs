//! One run: what the programs make of each packet, beside what the model says.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use aya::Pod;
use aya::maps::{Array, HashMap as BpfHashMap, HashOfMaps, Map, MapData};
use fastrand::Rng;
use lb_common::abi::{
    Address, AnswerFragmentKey, AnswerFragmentWords, Control, EndpointKey, FragmentKey, Handle, ServiceValue,
    VERSION,
};
use lb_common::attempt::AttemptSet;
use lb_common::handshake;
use lb_common::recent::Set;

use super::answers::{self, Opened};
use super::bed::{Bed, Verdict};
use super::census::{self, Census};
use super::generate::{self, Side};
use super::hosts;
use super::reference::{self, Follows, Forward, Fragments, Outcome};
use super::shared::Shared;
use super::talk::Talk;
use super::world::World;

/// Packets between two checks of the counters, and at most one change of backends.
const BATCH: u64 = 1_000;
/// Packets from one side in a row.
const ROUND: u64 = 25;
/// Batches between two times at which all flows end, far below what the tables hold.
const CLEARING: u64 = 10;

pub(crate) struct Run {
    bed: Bed,
    world: World,
    /// What all ends have said.
    talk: Talk,
    fragments: Fragments,
    answer_fragments: answers::Fragments,
    /// The programs' clock when all flows were over.
    forgotten_at: u32,
    control: Array<MapData, Control>,
    /// The tenant's own connections, while it may have some.
    opened: Option<Opened>,
    /// What the programs have dropped in this batch, by the model.
    drops: Census,
    /// How many packets became what.
    pub(crate) tally: Census,
    seed: u64,
    batch: u64,
}

impl Run {
    pub(crate) fn new(seed: u64) -> Self {
        let mut bed = Bed::with_room_for(16);
        let world = World::new(&mut bed);
        let control: Array<_, Control> = Map::Array(pinned(&bed, "control")).try_into().expect("its type");
        let talk = Talk::new(Shared::new(handles(&bed, &world), control.get(&0, 0).expect("the control")));
        Self {
            bed,
            world,
            talk,
            fragments: Fragments::new(),
            answer_fragments: answers::Fragments::new(),
            forgotten_at: 0,
            control,
            opened: None,
            drops: Census::new(),
            tally: Census::new(),
            seed,
            batch: 0,
        }
    }

    /// Compares so many packets.
    pub(crate) fn go_on_for(&mut self, packets: u64) {
        let started = Instant::now();
        for batch in 0..packets.div_ceil(BATCH) {
            self.batch = batch;
            self.compare_batch();
            if (batch + 1) % 1_000 == 0 {
                eprintln!("{} packets in {:.0?}, no difference", (batch + 1) * BATCH, started.elapsed());
            }
        }
        let Self { seed, tally, .. } = self;
        eprintln!("seed {seed}: {packets} packets in {:.1?}: {tally:?}", started.elapsed());
    }

    fn compare_batch(&mut self) {
        // Each batch has its own seed, so that one that fails can be run alone; but what came before may matter.
        let mut rng = Rng::with_seed(self.seed.wrapping_add(self.batch));
        if self.batch.is_multiple_of(CLEARING) || self.talk.is_too_late() {
            self.forget();
        }
        if rng.bool() {
            let service = self.world.change(&mut rng, &mut self.bed);
            self.talk.table_changed(&self.world, service);
            *self.tally.entry("change of backends").or_default() += 1;
        }
        let before = self.bed.lb.counters().expect("counters").drops;
        let mut number = 0;
        while number < BATCH {
            let mut frames =
                |side| -> Vec<_> { (0..ROUND).map(|_| generate::frame(&mut rng, side)).collect() };
            let (from_clients, from_tenant) = (frames(Side::Client), frames(Side::Tenant));
            self.compare(&from_clients, number);
            self.compare_answers(&from_tenant, number + ROUND);
            number += 2 * ROUND;
        }
        self.check_counts(&before);
    }

    fn compare(&mut self, frames: &[Vec<u8>], first: u64) {
        let results = self.run(|bed| bed.uplink_all(frames));
        for (number, (frame, (verdict, out))) in (first..).zip(frames.iter().zip(results)) {
            census::count(&mut self.tally, &self.world, &self.talk, frame);
            // What the programs see of it, and what is left of it where they change nothing.
            let frame = &reference::untagged(frame);
            let outcome = reference::outcome(&self.world, &self.fragments, &mut self.talk, frame);
            if let Err(what) = self.became(outcome, frame, verdict, &out) {
                self.fail(number, frame, (verdict, &out), &what);
            }
        }
    }

    /// Whether the programs have made of a client's frame what they should.
    fn became(&mut self, outcome: Outcome, frame: &[u8], verdict: Verdict, out: &[u8]) -> Result<(), String> {
        match outcome {
            Outcome::Pass => {
                if (verdict, out) != (Verdict::Pass, frame) {
                    return Err("to be passed as it is".into());
                }
                self.tell("pass");
            }
            Outcome::Drop(reason) => {
                if verdict != Verdict::Drop {
                    return Err(format!("to be dropped: {reason}"));
                }
                self.drops(reason);
            }
            Outcome::Answer { reason, frame: answer, is_limited } => {
                let is_answer = verdict == Verdict::Transmit && out == answer;
                let is_withheld = is_limited && verdict == Verdict::Drop;
                if !is_answer && !is_withheld {
                    return Err(format!("to be answered: {reason}\n  as:  {}", hex(&answer)));
                }
                self.drops(reason);
                if is_answer {
                    self.tell("answer");
                }
            }
            Outcome::Forward(forward) => {
                self.forwarded(&forward, frame, verdict, out)?;
                if forward.is_unsound(frame) {
                    self.drops("bad_checksum");
                }
                self.tell(forward.kind());
            }
        }
        Ok(())
    }

    /// As [`compare`](Self::compare), for the way back.
    fn compare_answers(&mut self, frames: &[Vec<u8>], first: u64) {
        let results = self.run(|bed| bed.answer_all(frames));
        for (number, (frame, (verdict, out))) in (first..).zip(frames.iter().zip(results)) {
            let opened = self.opened.as_mut();
            let outcome =
                answers::outcome(&self.world, &self.answer_fragments, opened, &mut self.talk, frame);
            let what = match self.wanted(outcome, frame, verdict, &out) {
                Ok(wanted) if wanted == (verdict, out.clone()) => continue,
                Ok((wanted, as_frame)) => format!("to be {wanted:?} as\n       {}", hex(&as_frame)),
                Err(what) => what,
            };
            self.fail(number, frame, (verdict, &out), &format!("from the tenant, {what}"));
        }
    }

    /// Has the programs do something with packets, and tells what has become of the time meanwhile.
    fn run<T>(&mut self, packets: impl FnOnce(&Bed) -> T) -> T {
        let before = self.control();
        let results = packets(&self.bed);
        let after = self.control();
        self.talk.time_passes(after.clock.wrapping_sub(self.forgotten_at), [before, after]);
        results
    }

    /// What is to become of a tenant's frame; or what can't have become of it.
    fn wanted(
        &mut self,
        outcome: answers::Outcome,
        frame: &[u8],
        verdict: Verdict,
        out: &[u8],
    ) -> Result<(Verdict, Vec<u8>), String> {
        use answers::Outcome;

        Ok(match outcome {
            Outcome::Pass(reason) => {
                if let Some(reason) = reason {
                    self.drops(reason);
                }
                self.tell("answer, passed");
                (Verdict::Pass, frame.to_vec())
            }
            Outcome::Leave => {
                self.tell("left");
                (Verdict::Pass, frame.to_vec())
            }
            Outcome::Drop(reason) => {
                self.drops(reason);
                (Verdict::Drop, out.to_vec())
            }
            Outcome::Quiet => {
                self.tell("quiet");
                (Verdict::Drop, out.to_vec())
            }
            Outcome::Send { frame, leads, kind } => {
                self.answer_fragments.extend(leads);
                self.tell(kind);
                (Verdict::Redirect, frame)
            }
            Outcome::Answer { frame, leads, kind, of, may_leave } => {
                let is_let_out = verdict == Verdict::Redirect;
                self.talk.was_let_out(of, is_let_out, may_leave)?;
                if is_let_out {
                    self.answer_fragments.extend(leads);
                    self.tell(kind);
                    (Verdict::Redirect, frame)
                } else {
                    self.drops("unsolicited");
                    (Verdict::Drop, out.to_vec())
                }
            }
        })
    }

    /// Checks what was counted as dropped in this batch.
    fn check_counts(&mut self, before: &BTreeMap<&'static str, u64>) {
        let after = self.bed.lb.counters().expect("counters").drops;
        let counted: Census = after
            .iter()
            .map(|(reason, count)| (*reason, count - before[reason]))
            .filter(|(_, count)| *count > 0)
            .collect();
        let expected = std::mem::take(&mut self.drops);
        assert_eq!(counted, expected, "drops of SLUICE_FUZZ_SEED={}", self.seed.wrapping_add(self.batch));
        for (reason, count) in expected {
            *self.tally.entry(reason).or_default() += count;
        }
    }

    /// Checks a frame that went to a backend: to one that can have the flow, and as it is to be.
    fn forwarded(
        &mut self,
        forward: &Forward,
        frame: &[u8],
        verdict: Verdict,
        out: &[u8],
    ) -> Result<(), String> {
        let service = &self.world.services[forward.service];
        let is_its = |&(place, _): &(usize, u32)| out.starts_with(&service.backends[place].mac);
        let sent_to = service.members().find(is_its);
        let (Verdict::Redirect, Some(member)) = (verdict, sent_to) else {
            return Err(format!("to go to a backend of service {}", forward.service));
        };
        match forward.follows {
            Follows::Flow(flow) => {
                let goes = self.talk.goes_to((forward.service, flow), member);
                goes.map_err(|possible| format!("not to go to backend {member:?}: {possible}"))?;
            }
            Follows::Fragment(first) if first != member => {
                return Err(format!("to go to backend {first:?}, as its first fragment did"));
            }
            Follows::Fragment(_) => {}
        }
        let expected = forward.to(frame, service, member.0);
        if out != expected {
            return Err(format!("to be\n       {}", hex(&expected)));
        }
        if let Some(fragment) = forward.leads {
            self.fragments.insert(fragment, (forward.service, member));
        }
        Ok(())
    }

    fn tell(&mut self, kind: &'static str) {
        *self.tally.entry(kind).or_default() += 1;
    }

    fn drops(&mut self, reason: &'static str) {
        *self.drops.entry(reason).or_default() += 1;
    }

    /// So that the programs' tables never have to make room, which the model doesn't. From then on the tenant may go to the
    /// outside where it could not, and can't where it could.
    fn forget(&mut self) {
        self.fragments.clear();
        self.answer_fragments.clear();
        self.empty_tables::<Address, FragmentKey, u64>("fragments");
        self.empty_tables::<u32, AnswerFragmentKey, AnswerFragmentWords>("answer_fragments");
        // Flows and attempts end, and no packet is waited for any more.
        self.bed.lb.sweep_after(Duration::from_secs(401)).expect("a sweep");
        // What ended flows have left says its time in a few bits, which come round.
        // So all cells get the time that is farthest: none looks fresh by chance.
        let stamp = handshake::stamp_of_answer(self.clock().wrapping_add(64));
        let stamps: Box<[u8; handshake::CELLS]> =
            vec![stamp; handshake::CELLS].into_boxed_slice().try_into().expect("as many");
        let everything = || [None, None];
        let [in_use, attempts] = self.talk.used_sets().map_or_else(everything, |sets| sets.map(Some));
        self.overwrite("handshakes", None, &*stamps);
        self.overwrite("recent_flows", in_use, &Set::default());
        self.overwrite("attempts", attempts, &AttemptSet::default());
        self.talk.forget(hosts::is_usual_client);
        self.forgotten_at = self.clock();
        self.opened = if self.opened.is_none() { Some(Opened::new()) } else { None };
        self.bed.set_outbound(self.opened.is_some());
    }

    /// Empties each table in a map of them, by whatever it has them.
    fn empty_tables<O: Pod, K: Pod, V: Pod>(&self, name: &str) {
        let map = Map::HashOfMaps(pinned(&self.bed, name));
        let tables: HashOfMaps<_, O, BpfHashMap<MapData, K, V>> = map.try_into().expect("its types");
        for key in tables.keys() {
            let mut table = tables.get(&key.expect("a key"), 0).expect("a table");
            let entries: Vec<_> = table.keys().map(|key| key.expect("a key")).collect();
            for entry in entries {
                table.remove(&entry).expect("removed");
            }
        }
    }

    /// Writes to these places of an array; to all where none are named.
    fn overwrite<V: Pod>(&self, name: &str, places: Option<BTreeSet<u32>>, value: &V) {
        let mut map: Array<_, V> = Map::Array(pinned(&self.bed, name)).try_into().expect("its types");
        for place in places.unwrap_or_else(|| (0..map.len()).collect()) {
            map.set(place, value, 0).expect("written");
        }
    }

    fn control(&self) -> Control {
        self.control.get(&0, 0).expect("the control")
    }

    /// The programs' clock, in seconds.
    fn clock(&self) -> u32 {
        self.control().clock
    }

    fn fail(&self, number: u64, frame: &[u8], (verdict, out): (Verdict, &[u8]), what: &str) -> ! {
        panic!(
            "seed {}, packet {} ({number} of SLUICE_FUZZ_SEED={} SLUICE_FUZZ_PACKETS=1000): \
             {what}\n  in:  {}\n  out: {verdict:?} {}",
            self.seed,
            self.batch * BATCH + number,
            self.seed.wrapping_add(self.batch),
            hex(frame),
            hex(out),
        )
    }
}

/// What the programs call the services.
fn handles(bed: &Bed, world: &World) -> Vec<Handle> {
    let services: BpfHashMap<_, EndpointKey, ServiceValue> =
        Map::HashMap(pinned(bed, "services")).try_into().expect("its types");
    let handle = |key: EndpointKey| services.get(&key, 0).expect("the service").service;
    world.services.iter().map(|service| handle(service.endpoint())).collect()
}

fn pinned(bed: &Bed, name: &str) -> MapData {
    let path = bed.settings.pin_root.join(format!("v{VERSION}/{name}"));
    MapData::from_pin(path).expect("the map")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().take(200).fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("written");
        text
    })
}
