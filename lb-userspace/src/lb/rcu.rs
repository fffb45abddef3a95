//! Waiting until no packet in flight can still see what was replaced.

/// Returns when every program run that began before the call has ended.
///
/// XDP and tc programs run within RCU read-side sections, and `MEMBARRIER_CMD_GLOBAL` waits for an RCU grace period
/// (`synchronize_rcu` in `kernel/sched/membarrier.c`; on one CPU it returns at once, which is right: a program there
/// has ended when a process runs). Takes 5–15 ms.
pub(super) fn synchronize() {
    // SAFETY: the system call takes numbers only and touches no memory of this process.
    let result =
        unsafe { nix::libc::syscall(nix::libc::SYS_membarrier, nix::libc::MEMBARRIER_CMD_GLOBAL, 0, 0) };
    if result != 0 {
        // CPUs in nohz_full mode make the call fail: then time has to do, many times what a packet takes.
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}
