//! The process between the daemon and an instance's command.
//!
//! It starts the command, is its parent, and takes what it writes, so that all that goes on while no daemon runs: output
//! has somewhere to go, and how the command ended is known afterwards. It is a process of its own, in a cgroup of its own
//! beside the instance's, whose limits are not for it.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::{self, PipeReader, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStdout, Command, ExitCode, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use lb_userspace::net::Netns;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::label::{Label, Labels};
use super::output::{REST_AFTER, Recorder};
use super::process::{self, Launch};
use crate::cgroup::Hierarchies;
use crate::provider::InstanceSpec;
use crate::scope::{Scope, instance_id};

/// What the daemon reads where the command has been started; anything else is why it wasn't.
pub(super) const STARTED: &str = "started";
/// A supervisor has started the command, or has failed, within this.
const START_PATIENCE: Duration = Duration::from_secs(30);
/// More than any error has, bytes.
const LONGEST_ANSWER: u64 = 64 << 10;
/// After output that finds no room.
const PAUSE: Duration = Duration::from_millis(1);
/// Read at once, bytes: what a pipe holds.
const AT_ONCE: usize = 64 << 10;
/// The kernel kills this process last when memory is short: an instance without it could not write any more.
const OOM_SCORE: &str = "-900";

/// Runs an instance's command: `<scope> <instance> <command…>` is what [`NetnsProvider`](super::NetnsProvider) gives the
/// program as its arguments. Says on standard output whether it was started, and returns when it has ended and its output
/// is closed.
pub fn supervise(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let mut said = io::stdout();
    let started = match start(arguments) {
        Ok(started) => started,
        Err(error) => {
            let _ = write!(said, "{error}");
            return ExitCode::FAILURE;
        }
    };
    let _ = write!(said, "{STARTED}").and_then(|()| said.flush());
    match let_go_of_the_daemon().and_then(|()| started.watch()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// A command that runs.
struct Started {
    labels: Labels,
    spec: InstanceSpec,
    child: Child,
    output: PipeReader,
    recorder: Recorder,
}

fn start(mut arguments: impl Iterator<Item = OsString>) -> io::Result<Started> {
    let mut word = || arguments.next().and_then(|word| word.into_string().ok());
    let usage = || io::Error::other("the arguments are a scope, an instance, and its command");
    let scope = Scope::new(&word().ok_or_else(usage)?).map_err(io::Error::other)?;
    let id = word().as_deref().and_then(instance_id).ok_or_else(usage)?;
    let labels = Labels::of(&scope);
    let Label::Read(spec) = labels.read(&id)? else {
        return Err(io::Error::other("the instance has no label any more"));
    };
    let hierarchies = Hierarchies::of_host().map_err(io::Error::other)?;
    let own = hierarchies.group(scope.supervisor_cgroup(&id));
    own.make().and_then(|()| own.enter()).map_err(io::Error::other)?;
    let entrances = hierarchies.group(scope.cgroup().join(id.as_str())).entrances();
    let (output, input) = io::pipe()?;
    let file = labels.open_log(&id)?;
    let launch = Launch {
        command: arguments.collect(),
        environment: spec.environment(),
        netns: Netns::open(&scope.netns(&id))?,
        entrances: entrances.map_err(io::Error::other)?,
        output: input.into(),
    };
    let child = launch.spawn()?;
    labels.started(&id)?;
    // A host may not let us; then all are alike.
    let _ = fs::write("/proc/self/oom_score_adj", OOM_SCORE);
    let recorder = Recorder::new(labels.output(&id), file, Instant::now());
    Ok(Started { labels, spec: *spec, child, output, recorder })
}

/// Whoever reads our standard output is told no more.
fn let_go_of_the_daemon() -> io::Result<()> {
    let null = OpenOptions::new().read(true).write(true).open("/dev/null")?;
    nix::unistd::dup2_stdin(&null)?;
    nix::unistd::dup2_stdout(&null)?;
    nix::unistd::dup2_stderr(&null)?;
    Ok(())
}

impl Started {
    /// Until the command has ended and nothing of it can write any more.
    fn watch(mut self) -> io::Result<()> {
        let mut buffer = vec![0; AT_ONCE];
        let mut process = Some(pidfd(&self.child)?);
        let mut is_open = true;
        while is_open || process.is_some() {
            let (has_output, has_ended) =
                wait(is_open.then(|| self.output.as_fd()), process.as_ref().map(AsFd::as_fd))?;
            if has_output {
                is_open = self.take(&mut buffer)?;
            } else {
                self.recorder.rest();
            }
            if has_ended && let Some(status) = self.child.try_wait()? {
                process = None;
                self.record(status);
            }
        }
        self.recorder.rest();
        Ok(())
    }

    /// Takes what has come; `false` where it was the last.
    fn take(&mut self, buffer: &mut [u8]) -> io::Result<bool> {
        let length = self.output.read(buffer)?;
        let bytes = buffer.get(..length).unwrap_or_default();
        if !bytes.is_empty() && !self.recorder.take(bytes, Instant::now()) {
            // Whoever writes more than 64 MiB a second waits a moment, so that reading it takes no CPU from others.
            std::thread::sleep(PAUSE);
        }
        Ok(length > 0)
    }

    fn record(&self, status: ExitStatus) {
        let ended = process::Status { code: status.code(), signal: status.signal() };
        // Without it the daemon says that it has ended, and not how.
        let _ = self.labels.ended(&self.spec.id, ended);
    }
}

fn pidfd(child: &Child) -> io::Result<OwnedFd> {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| io::Error::other("a process without a number"))?;
    Ok(pidfd_open(pid, PidfdFlags::empty())?)
}

/// Whether there is output, or its end, and whether the process has ended; waits for one of them, but not for long.
fn wait(output: Option<BorrowedFd<'_>>, process: Option<BorrowedFd<'_>>) -> io::Result<(bool, bool)> {
    let mut watched: Vec<PollFd<'_>> =
        [output, process].into_iter().flatten().map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
    let limit = PollTimeout::try_from(REST_AFTER).unwrap_or(PollTimeout::MAX);
    match poll(&mut watched, limit) {
        Ok(_) | Err(nix::errno::Errno::EINTR) => {}
        Err(error) => return Err(error.into()),
    }
    let mut ready = watched.iter().map(|fd| fd.any().unwrap_or(false));
    let has_output = output.is_some() && ready.next() == Some(true);
    Ok((has_output, process.is_some() && ready.next() == Some(true)))
}

/// What a supervisor says, up to the end of its output; it is not waited for longer than a start may take.
pub(super) fn answer(said: ChildStdout) -> io::Result<String> {
    let mut watched = [PollFd::new(said.as_fd(), PollFlags::POLLIN)];
    let limit = PollTimeout::try_from(START_PATIENCE).unwrap_or(PollTimeout::MAX);
    if poll(&mut watched, limit)? == 0 {
        return Err(io::Error::new(io::ErrorKind::TimedOut, "its supervisor does not answer"));
    }
    let mut text = String::new();
    // It writes all at once, and then closes.
    said.take(LONGEST_ANSWER).read_to_string(&mut text)?;
    Ok(text)
}

/// What the daemon starts: a supervisor, which starts the command.
pub(super) fn command(
    supervisor: &[OsString],
    arguments: impl IntoIterator<Item = OsString>,
) -> Option<Command> {
    let (program, first) = supervisor.split_first()?;
    let mut command = Command::new(program);
    command
        .args(first)
        .args(arguments)
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    Some(command)
}
