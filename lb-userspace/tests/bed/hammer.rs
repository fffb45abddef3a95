//! Packets without a pause while the load balancer is changed.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use aya::EbpfLoader;
use aya::programs::{TestRun, TestRunOptions, Xdp};
use lb_common::abi::VERSION;

use crate::bed::Bed;

/// What became of each packet: the program's verdict, and the packet as it left.
pub(crate) type Outcomes = Vec<(u32, Vec<u8>)>;

/// A thread that runs the uplink's program on one packet after the other.
pub(crate) struct Hammer {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Outcomes>,
}

impl Hammer {
    /// Starts it; `frame` makes the packet of a number. Returns when it has sent the first.
    pub(crate) fn start(bed: &Bed, frame: impl Fn(u32) -> Vec<u8> + Send + 'static) -> Self {
        // A program of its own, of the same object on the same maps: the bed's can't be changed while it is borrowed.
        let pins = bed.settings.pin_root.join(format!("v{VERSION}"));
        let entries = std::fs::read_dir(&pins).expect("the pins").map(|entry| entry.expect("a pin"));
        let maps: Vec<(String, PathBuf)> = entries
            .filter(|entry| !entry.file_type().expect("its type").is_dir())
            .map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.path()))
            .collect();
        let mut loader = EbpfLoader::new();
        for (name, path) in &maps {
            loader.map_pin_path(name, path);
        }
        let mut ebpf = loader.load(lb_userspace::object::object().expect("the object")).expect("it loads");
        let program: &mut Xdp = ebpf.program_mut("uplink").expect("the program").try_into().expect("XDP");
        program.load().expect("it loads");
        let (stop, transit) = (Arc::new(AtomicBool::new(false)), bed.settings.transit.clone());
        let (started, first) = std::sync::mpsc::channel();
        let until = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let program: &Xdp = ebpf.program("uplink").expect("the program").try_into().expect("XDP");
            let send = move || {
                let mut outcomes = Outcomes::new();
                while !until.load(Ordering::Relaxed) {
                    let frame = frame(u32::try_from(outcomes.len()).expect("few packets"));
                    outcomes.push(run(program, &frame));
                    let _ = started.send(());
                }
                outcomes
            };
            transit.run(send).expect("the namespace")
        });
        first.recv().expect("a first packet");
        Self { stop, thread }
    }

    /// Ends it, and tells what became of its packets.
    pub(crate) fn stop(self) -> Outcomes {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the hammer")
    }
}

fn run(program: &Xdp, frame: &[u8]) -> (u32, Vec<u8>) {
    let mut out = vec![0; frame.len() + 64];
    let options = TestRunOptions { data_in: Some(frame), data_out: Some(&mut out), ..TestRunOptions::new() };
    let result = program.test_run(options).expect("the program runs");
    out.truncate(result.data_size_out as usize);
    (result.return_value, out)
}
