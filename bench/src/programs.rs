//! The measured BPF programs, on the maps of a load balancer.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use aya::maps::{Array, ArrayOfMaps, HashMap, Map, MapData, PerCpuArray};
use aya::programs::{TestRun as _, TestRunAttrs, TestRunOptions, Xdp, XdpMode};
use aya::{Ebpf, EbpfLoader};
use lb_common::abi::{Control, EndpointKey, FlowKey, FlowValue, Handle, Quota, ServiceValue};
use lb_common::bench::Job;
use lb_common::hash;
use lb_userspace::net::Netns;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// How many frames the kernel puts into a veth at once: its own default, a quarter of a veth's ring.
const BATCH: u32 = 64;

/// The programs, loaded.
pub(crate) struct Programs {
    ebpf: Ebpf,
    job: Array<MapData, Job>,
    count: PerCpuArray<MapData, u64>,
    /// The folder of the load balancer's maps.
    pins: PathBuf,
    /// The number of the next new flow, over all jobs.
    next_new: u64,
}

impl Programs {
    /// Loads the object; maps that are pinned below the folder are those, the rest are its own.
    pub(crate) fn load(object: &[u8], pins: &Path) -> Result<Self> {
        let mut loader = EbpfLoader::new();
        let pinned = pinned_maps(pins)?;
        for (name, path) in &pinned {
            loader.map_pin_path(name, path);
        }
        let mut ebpf = loader.load(object).context("cannot load the benchmarks' BPF object")?;
        for (name, program) in ebpf.programs_mut() {
            let program: &mut Xdp = program.try_into()?;
            program.load().with_context(|| format!("cannot load the program {name}"))?;
        }
        let job = Array::try_from(ebpf.take_map("bench_job").context("no map bench_job")?)?;
        let count = PerCpuArray::try_from(ebpf.take_map("bench_count").context("no map bench_count")?)?;
        Ok(Self { ebpf, job, count, pins: pins.to_owned(), next_new: 0 })
    }

    fn xdp(&mut self, name: &str) -> Result<&mut Xdp> {
        Ok(self.ebpf.program_mut(name).with_context(|| format!("no program {name}"))?.try_into()?)
    }

    /// Attaches a program to an interface, in the driver, for as long as this lives.
    pub(crate) fn attach(&mut self, name: &str, netns: &Netns, interface: &str) -> Result<()> {
        let program = self.xdp(name)?;
        netns
            .run(|| program.attach(interface, XdpMode::Driver))?
            .with_context(|| format!("cannot attach {name} to {interface}"))?;
        Ok(())
    }

    /// Runs a program so many times on a job's packet. Returns the mean time of one, which the kernel gives in whole
    /// nanoseconds and without the time in which other processes had the processor, and the last one's verdict.
    pub(crate) fn run(
        &mut self,
        name: &str,
        job: &Job,
        is_new: bool,
        repeat: u32,
    ) -> Result<(Duration, u32)> {
        self.begin(job, is_new)?;
        let options = TestRunOptions { data_in: Some(&job.frame), repeat, ..TestRunOptions::new() };
        let program = self.xdp(name)?;
        let result = program.test_run(options).with_context(|| format!("cannot run {name}"))?;
        self.end(is_new)?;
        Ok((result.duration, result.return_value))
    }

    /// Sends so many of a job's packets into the job's interface of the namespace. Returns how long that took and how
    /// many of them arrived where `count` is attached.
    pub(crate) fn generate(
        &mut self,
        netns: &Netns,
        job: &Job,
        is_new: bool,
        packets: u32,
    ) -> Result<(Duration, u64)> {
        self.begin(job, is_new)?;
        let before = self.counted()?;
        let options = TestRunOptions {
            data_in: Some(&job.frame),
            repeat: packets,
            attrs: TestRunAttrs::new().xdp_live_frames(BATCH),
            ..TestRunOptions::new()
        };
        let program = self.xdp("generate")?;
        let elapsed = netns.run(|| {
            let started = Instant::now();
            program.test_run(options).map(|_| started.elapsed())
        })?;
        let elapsed =
            elapsed.context("cannot send live frames, for which the kernel must be Linux 5.18 or later")?;
        self.end(is_new)?;
        Ok((elapsed, self.counted()? - before))
    }

    fn begin(&mut self, job: &Job, is_new: bool) -> Result<()> {
        let next = if is_new { self.next_new } else { job.next };
        Ok(self.job.set(0, Job { next, ..*job }, 0)?)
    }

    fn end(&mut self, is_new: bool) -> Result<()> {
        if is_new {
            self.next_new = self.job.get(&0, 0)?.next;
        }
        Ok(())
    }

    fn counted(&self) -> Result<u64> {
        Ok(self.count.get(&0, 0)?.iter().sum())
    }

    /// The place of a service.
    pub(crate) fn service(&mut self, endpoint: &EndpointKey) -> Result<Handle> {
        let map = self.ebpf.map_mut("services").context("no map services")?;
        let services: HashMap<&mut MapData, EndpointKey, ServiceValue> = map.try_into()?;
        Ok(services.get(endpoint, 0).context("the service is not in its map")?.service)
    }

    /// How many of these flows the flow table knows.
    pub(crate) fn known(&self, flows: impl Iterator<Item = FlowKey>) -> Result<usize> {
        type Part = HashMap<MapData, FlowKey, FlowValue>;
        let control: Array<MapData, Control> = self.pinned("control")?.try_into()?;
        let parts: ArrayOfMaps<MapData, Part> = self.pinned("flows")?.try_into()?;
        let Control { seed, flow_parts, .. } = control.get(&0, 0)?;
        let opened = (0..flow_parts).map(|number| parts.get(&number, 0)).collect::<Result<Vec<_>, _>>()?;
        let is_known = |key: &FlowKey| {
            let part = opened.get(hash::part(hash::of_flow(key, seed), flow_parts) as usize);
            part.is_some_and(|part| part.get(key, 0).is_ok())
        };
        Ok(flows.filter(is_known).count())
    }

    /// Lets each service have more than all of the flow table: here one has all the flows that there are, and recording one
    /// again takes a place for a moment.
    pub(crate) fn lift_quota(&self) -> Result<()> {
        let mut controls: Array<MapData, Control> = self.pinned("control")?.try_into()?;
        let control = controls.get(&0, 0)?;
        Ok(controls.set(0, Control { quota: Quota::of(2 * control.flow_room, 1), ..control }, 0)?)
    }

    /// A map of the load balancer's, of the size that it has: aya takes those of the object to be of the object's sizes.
    fn pinned(&self, name: &str) -> Result<Map> {
        let data = MapData::from_pin(self.pins.join(name)).with_context(|| format!("no map {name}"))?;
        Ok(Map::from_map_data(data)?)
    }
}

/// The files of a folder of pins, each with its name; links are in a folder of their own.
fn pinned_maps(pins: &Path) -> Result<Vec<(String, std::path::PathBuf)>> {
    let entries = fs::read_dir(pins).with_context(|| format!("cannot read {}", pins.display()))?;
    let mut maps = Vec::new();
    for entry in entries {
        let entry = entry?;
        if !entry.file_type()?.is_dir() {
            maps.push((entry.file_name().to_string_lossy().into_owned(), entry.path()));
        }
    }
    Ok(maps)
}

/// Does a piece of work, and what it starts, on one processor: the last that this process may use.
pub(crate) fn on_one_cpu<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let pinned = || {
        let this = Pid::from_raw(0);
        let allowed = sched_getaffinity(this)?;
        let last = (0..CpuSet::count()).rev().find(|&cpu| allowed.is_set(cpu).unwrap_or(false));
        let mut one = CpuSet::new();
        one.set(last.context("no processor to run on")?)?;
        sched_setaffinity(this, &one)?;
        work()
    };
    std::thread::scope(|scope| match scope.spawn(pinned).join() {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}
