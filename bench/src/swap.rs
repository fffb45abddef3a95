//! How soon a change of a service with many backends takes effect.
//!
//! One backend after the other begins to drain, and takes new flows again. The effect is the moment at which the
//! service's generation flips, from which on packets meet the new table; a thread looks for it without a pause.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use aya::maps::{Array, Map, MapData};
use lb_userspace::lb::Limits;
use serde::Serialize;
use tokio::runtime::Runtime;

use crate::bed::{Bed, Lane, tcp};
use crate::frames::PORT;
use crate::interrupt;
use crate::spread::Spread;

/// Backends of the service.
const BACKENDS: u16 = 1_000;
const LANE: Lane = Lane(0);
/// Several of the scheduler's ticks.
const SETTLING: Duration = Duration::from_millis(20);

/// What changes took, milliseconds.
#[derive(Debug, Serialize)]
pub(crate) struct Swap {
    pub(crate) backends: u16,
    pub(crate) rounds: usize,
    /// From the call until packets met the new table.
    pub(crate) effect: Spread,
    /// From the call until it returned: no packet can be at the old table any more.
    pub(crate) call: Spread,
}

/// Measures it.
pub(crate) fn measure(runtime: &Runtime, quick: bool) -> Result<Swap> {
    let rounds = if quick { 4 } else { 30 };
    eprintln!("swapping a table");
    let bed = Bed::new(runtime, 1)?;
    let mut balancer = bed.load_balancer(LANE, Limits::default())?;
    let key = tcp(LANE.vip(), Some(PORT));
    balancer.apply(&bed.large_service(LANE, key, BACKENDS, None)?)?;
    let place = 0;
    let generations = MapData::from_pin(bed.pins(LANE).join("generations"))?;
    let generations: Array<MapData, u32> = Map::Array(generations).try_into()?;
    let generation = || Ok::<_, anyhow::Error>(generations.get(&place, 0)?);
    let (mut effects, mut calls) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        interrupt::check()?;
        let draining = (round % 2 == 0).then_some(u16::try_from(round).context("few rounds")?);
        let service = bed.large_service(LANE, key, BACKENDS, draining)?;
        let before = generation()?;
        let (begun, done) = (AtomicBool::new(false), AtomicBool::new(false));
        let (started, effect, call) = thread::scope(|scope| {
            let watcher = scope.spawn(|| {
                loop {
                    begun.store(true, Ordering::Release);
                    let is_last = done.load(Ordering::Acquire);
                    if generation()? != before {
                        return Ok(Instant::now());
                    }
                    if is_last {
                        return Err(anyhow!("the table was not swapped"));
                    }
                }
            });
            // By then the watcher has a processor of its own: on this one it would keep the call waiting for a time slice.
            loop {
                thread::sleep(SETTLING);
                if begun.load(Ordering::Acquire) {
                    break;
                }
            }
            let started = Instant::now();
            let applied = balancer.apply(&service);
            let call = started.elapsed();
            done.store(true, Ordering::Release);
            let effect = watcher.join().map_err(|_| anyhow!("the watching thread panicked"))?;
            anyhow::Ok((started, effect?, applied.map(|()| call)?))
        })?;
        effects.push(milliseconds(effect.saturating_duration_since(started)));
        calls.push(milliseconds(call));
    }
    Ok(Swap { backends: BACKENDS, rounds, effect: Spread::of(&effects), call: Spread::of(&calls) })
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
