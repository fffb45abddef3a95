//! One flow, as its ends' packets make it: nothing of the code under test. No time passes here.

use super::said::{ACK, FIN, RST, SYN, Said, Segment};
pub(crate) use super::slot::Slot;

/// A backend's place in its service's list, and how often it has been added.
pub(crate) type Member = (usize, u32);

/// What is known of a flow.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Flow {
    awaited: Awaited,
    attempt: Option<(Attempt, Member)>,
    real: Option<(Real, Member)>,
    /// Its answers say nothing new, but those that begin or end it.
    in_use: bool,
    /// What its last packet has left behind where other flows may find it.
    traces: Traces,
}

/// What a packet leaves in places that flows share.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(crate) struct Traces {
    /// That there was a SYN.
    pub(crate) syn: bool,
    /// That the client's next packet is waited for.
    pub(crate) answer: bool,
    /// That the flow is in use.
    pub(crate) in_use: bool,
    /// An attempt where there was none.
    pub(crate) attempt: bool,
}

impl Traces {
    pub(crate) const ALL: Self = Self { syn: true, answer: true, in_use: true, attempt: true };

    /// Those of both that `is_there` says.
    pub(crate) fn merged(self, other: Self, is_there: fn(bool, bool) -> bool) -> Self {
        Self {
            syn: is_there(self.syn, other.syn),
            answer: is_there(self.answer, other.answer),
            in_use: is_there(self.in_use, other.in_use),
            attempt: is_there(self.attempt, other.attempt),
        }
    }
}

/// What other flows may have left in the places that a flow shares with them.
pub(crate) type Strays = Traces;

/// Who has spoken last, as far as the client's next packet is looked up for it.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Awaited {
    #[default]
    No,
    Syn,
    Answer,
}

/// What is known of a flow that isn't real.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Attempt {
    Asked,
    Handshake { number: u32, acknowledged: u16 },
    Answered { acknowledged: u16 },
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
struct Real {
    client_fin: bool,
    backend_fin: bool,
    reset: bool,
    claimed_fin: Option<u32>,
    claimed_reset: bool,
    /// What its client has acknowledged the backend's SYN with, until something is said of its end.
    handshake: Option<u32>,
}

/// What time has made of what was said before.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Passed {
    /// The client's SYN was in a second before this one.
    pub(crate) syn_is_old: bool,
    /// What the client has claimed stands no longer.
    pub(crate) claims_are_old: bool,
}

impl Passed {
    /// All that may be after so many seconds.
    pub(crate) fn after(seconds: u32) -> Vec<Self> {
        let of = |least: u32| if seconds >= least { &[false, true][..] } else { &[false] };
        let each =
            |&syn_is_old: &bool| of(2).iter().map(move |&claims_are_old| Self { syn_is_old, claims_are_old });
        of(1).iter().flat_map(each).collect()
    }
}

/// What an answer is to its client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    No,
    Yes,
    Another,
}

impl Real {
    fn is_closed(&self) -> bool {
        self.reset || self.client_fin && self.backend_fin
    }

    fn claim(&mut self, segment: &Segment) {
        self.handshake = None;
        let end = segment.sequence.wrapping_add(segment.length);
        if segment.flags & RST != 0 {
            self.claimed_reset = true;
            // One number is kept, of the last claim.
            self.claimed_fin =
                (self.claimed_fin.is_some() || segment.flags & FIN != 0).then_some(segment.sequence);
        } else {
            self.claimed_fin = Some(end.wrapping_add(1));
        }
    }

    /// Whether its answers say nothing new from now on.
    fn go_on(&mut self, segment: &Segment, was_in_use: bool, passed: Passed) -> bool {
        self.backend_fin |= segment.flags & FIN != 0;
        self.reset |= segment.flags & RST != 0;
        self.handshake = self.handshake.filter(|_| !self.backend_fin);
        if self.claimed_fin == Some(segment.acknowledgement) {
            (self.client_fin, self.claimed_fin) = (true, None);
        }
        if passed.claims_are_old {
            (self.claimed_fin, self.claimed_reset) = (None, false);
        }
        let is_claimed = self.claimed_fin.is_some() || self.claimed_reset;
        !self.is_closed() && (!is_claimed || was_in_use)
    }
}

impl Flow {
    /// Whether both ends have spoken, and none has ended it.
    pub(crate) fn is_open(&self) -> bool {
        self.real.is_some_and(|(real, _)| !real.is_closed())
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.real.is_some_and(|(real, _)| real.is_closed())
    }

    /// What its last packet has left; it is told once.
    pub(crate) fn take_traces(&mut self) -> Traces {
        std::mem::take(&mut self.traces)
    }

    /// All that the flow may look like to the programs, where others may have left this in the places that it shares:
    /// their traces look like its own, and as many attempts as a set has push its own out. The cache of flows in use
    /// is free to miss any.
    pub(crate) fn with_strays(self, strays: Strays) -> impl Iterator<Item = Self> {
        let each = |is_so: bool, other: Self| std::iter::once(other).filter(move |_| is_so);
        let awaited = std::iter::once(self)
            .chain(each(strays.syn, Self { awaited: Awaited::Syn, ..self }))
            .chain(each(strays.answer, Self { awaited: Awaited::Answer, ..self }));
        let in_use = awaited.flat_map(move |flow| {
            each(true, flow).chain(each(flow.in_use || strays.in_use, Self { in_use: !flow.in_use, ..flow }))
        });
        in_use.flat_map(move |flow| {
            each(true, flow).chain(each(strays.attempt, Self { attempt: None, ..flow }))
        })
    }

    /// A client's packet comes in; who gets it.
    pub(crate) fn client(
        &mut self,
        slot: Slot,
        said: &Said,
        lives: &dyn Fn(Member) -> bool,
    ) -> Option<Member> {
        if let Said::Segment(segment) = said
            && !slot.is_tracked
        {
            if segment.opens() {
                self.hear_syn();
                return slot.owner;
            }
            let is_awaited = self.awaited != Awaited::No && !self.in_use;
            return if segment.claims_an_end() || is_awaited {
                self.settle(slot, said, lives)
            } else {
                slot.owner
            };
        }
        match self.real {
            Some((real, member))
                if lives(member) && !real.is_closed() && !said.claims_an_end() && !said.opens() =>
            {
                Some(member)
            }
            _ => self.settle(slot, said, lives),
        }
    }

    /// Who gets a packet by all that is known.
    fn settle(&mut self, slot: Slot, said: &Said, lives: &dyn Fn(Member) -> bool) -> Option<Member> {
        self.real = self.real.filter(|&(_, member)| lives(member));
        if let Some((real, member)) = &mut self.real
            && !real.is_closed()
        {
            if let Said::Segment(segment) = said
                && segment.claims_an_end()
            {
                real.claim(segment);
                self.in_use = false;
            }
            let member = *member;
            if said.opens() {
                self.hear_syn();
            }
            return Some(member);
        }
        let attempt = self.attempt.filter(|&(_, member)| lives(member));
        if said.may_begin() {
            let member = attempt.map(|(_, member)| member).or(slot.owner)?;
            match said {
                Said::Segment(_) => self.hear_syn(),
                Said::Datagram => self.attempt(Attempt::Asked, member),
            }
            return Some(member);
        }
        let segment = said.segment()?;
        if let Some((known, member)) =
            attempt.filter(|&(_, member)| slot.is_tracked || Some(member) == slot.owner)
        {
            let completes = segment.flags & (SYN | ACK | RST | FIN) == ACK
                && matches!(known, Attempt::Handshake { number, .. } if number == segment.acknowledgement);
            if completes && segment.length == 0 && segment.is_intact {
                let handshake = Some(segment.acknowledgement);
                self.become_real(member, Real { handshake, ..Real::default() });
                return Some(member);
            }
            let belies = segment.flags & RST != 0
                && matches!(known, Attempt::Answered { acknowledged } if acknowledged == segment.numbered());
            if completes || belies || self.real.is_none() {
                return Some(member);
            }
        }
        if let Some((_, member)) = self.real {
            return Some(member);
        }
        let member = if slot.is_tracked { slot.previous_owner.or(slot.owner) } else { slot.owner }?;
        if attempt.is_none() && segment.flags & RST == 0 && self.awaited != Awaited::No {
            self.attempt(Attempt::Asked, member);
        }
        Some(member)
    }

    fn hear_syn(&mut self) {
        self.awaited = Awaited::Syn;
        self.traces.syn = true;
    }

    fn attempt(&mut self, attempt: Attempt, member: Member) {
        self.traces.attempt = self.attempt.is_none();
        self.attempt = Some((attempt, member));
    }

    fn become_real(&mut self, member: Member, real: Real) {
        (self.real, self.attempt, self.in_use) = (Some((real, member)), None, true);
        self.traces.in_use = true;
    }

    /// Who gets what is about it.
    pub(crate) fn holder(
        &self,
        slot: Slot,
        has_connections: bool,
        lives: &dyn Fn(Member) -> bool,
    ) -> Option<Member> {
        let real = self.real.map(|(_, member)| member).filter(|&member| lives(member));
        let attempt = self.attempt.map(|(_, member)| member).filter(|&member| lives(member));
        let previous = slot.previous_owner.filter(|_| has_connections && slot.is_tracked);
        real.or(attempt).or(previous).or(slot.owner)
    }

    /// A backend's packet would leave.
    pub(crate) fn backend(
        &mut self,
        slot: Slot,
        said: &Said,
        (from, passed): (Member, Passed),
        lives: &dyn Fn(Member) -> bool,
    ) -> Asked {
        let is_special = said.segment().is_some_and(|segment| segment.flags & (SYN | FIN | RST) != 0);
        if self.in_use && !is_special {
            return Asked::Yes;
        }
        let opens = said.segment().is_some_and(|segment| segment.flags & SYN != 0);
        if let Some((real, member)) = &mut self.real
            && !real.is_closed()
            && lives(*member)
        {
            let handshake = said.segment().map(|segment| segment.sequence.wrapping_add(1));
            match (*member == from, opens) {
                (true, true) if real.handshake.is_some() && real.handshake == handshake => return Asked::Yes,
                (true, true) => real.reset = true,
                (true, false) => {
                    self.in_use =
                        said.segment().is_none_or(|segment| real.go_on(segment, self.in_use, passed));
                    self.traces.in_use = self.in_use;
                    return Asked::Yes;
                }
                (false, true) => return Asked::Another,
                (false, false) => return Asked::Yes,
            }
        }
        let attempt = self.attempt.filter(|&(_, member)| lives(member));
        match said {
            Said::Segment(segment) if opens => self.hear_handshake(slot, segment, (from, passed), attempt),
            _ => match attempt.filter(|&(_, member)| member == from) {
                Some((attempt, _)) => {
                    self.hear_of_attempt(said, attempt, from);
                    Asked::Yes
                }
                None => self.hear_of_nothing(slot, said, (from, passed)),
            },
        }
    }

    fn hear_handshake(
        &mut self,
        slot: Slot,
        segment: &Segment,
        (from, passed): (Member, Passed),
        attempt: Option<(Attempt, Member)>,
    ) -> Asked {
        self.in_use = false;
        let is_its = match attempt {
            Some((_, member)) => member == from,
            None if self.awaited != Awaited::Syn => return Asked::No,
            None => {
                let before = self.real.map(|(_, member)| member);
                [slot.owner, slot.previous_owner, before].contains(&Some(from))
            }
        };
        if !is_its {
            return Asked::Another;
        }
        let number = segment.sequence.wrapping_add(1);
        self.attempt(Attempt::Handshake { number, acknowledged: segment.acknowledged() }, from);
        self.await_client(passed);
        Asked::Yes
    }

    fn hear_of_attempt(&mut self, said: &Said, attempt: Attempt, from: Member) {
        let Said::Segment(segment) = said else { return self.become_real(from, Real::default()) };
        if segment.flags & RST != 0 {
            self.attempt = None;
            return;
        }
        let acknowledged = segment.acknowledged();
        match attempt {
            Attempt::Asked if segment.says_nothing() => {
                self.attempt(Attempt::Answered { acknowledged }, from);
            }
            Attempt::Handshake { acknowledged: before, .. } | Attempt::Answered { acknowledged: before }
                if segment.says_nothing() && acknowledged == before => {}
            _ => self.become_real(from, Real { backend_fin: segment.flags & FIN != 0, ..Real::default() }),
        }
    }

    fn hear_of_nothing(&mut self, slot: Slot, said: &Said, (from, passed): (Member, Passed)) -> Asked {
        if self.real.is_some_and(|(_, member)| member == from) {
            return Asked::Yes;
        }
        match said {
            Said::Datagram => Asked::No,
            Said::Segment(segment) if segment.length == 0 && self.awaited == Awaited::Syn => {
                if !segment.claims_an_end() && slot.owner == Some(from) {
                    self.attempt(Attempt::Answered { acknowledged: segment.acknowledged() }, from);
                }
                Asked::Yes
            }
            Said::Segment(_) => {
                self.await_client(passed);
                Asked::No
            }
        }
    }

    fn await_client(&mut self, passed: Passed) {
        if self.awaited != Awaited::Syn || passed.syn_is_old {
            self.awaited = Awaited::Answer;
            self.traces.answer = true;
        }
    }
}
