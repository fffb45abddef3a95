//! The host that numbers are of.

use std::env;
use std::fs;
use std::path::PathBuf;

use anyhow::Result;
use serde::Serialize;

/// What must be known of a host to read numbers from it.
#[derive(Debug, Serialize)]
pub(crate) struct Host {
    /// When the run began, UTC.
    pub(crate) date: String,
    /// The kernel's release.
    pub(crate) kernel: String,
    /// The processor's own name.
    pub(crate) cpu: String,
    /// Processors that this process may use.
    pub(crate) cores: usize,
    /// Whether BPF is compiled to machine code: `net.core.bpf_jit_enable`.
    pub(crate) jit: bool,
    /// What the kernel does against Spectre v2: with retpolines, each call of a helper through a pointer is dear.
    pub(crate) spectre_v2: String,
    /// Runnable processes over the minute before the run: above 0 others took time away.
    pub(crate) load: f64,
}

impl Host {
    /// This host, now.
    pub(crate) fn read() -> Result<Self> {
        let line = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
        let load = line("/proc/loadavg");
        Ok(Self {
            date: jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            kernel: nix::sys::utsname::uname()?.release().to_string_lossy().into_owned(),
            cpu: cpu_model(&line("/proc/cpuinfo")).unwrap_or("unknown").to_owned(),
            cores: std::thread::available_parallelism()?.get(),
            jit: line("/proc/sys/net/core/bpf_jit_enable") != "0",
            spectre_v2: line("/sys/devices/system/cpu/vulnerabilities/spectre_v2"),
            load: load.split(' ').next().and_then(|number| number.parse().ok()).unwrap_or_default(),
        })
    }
}

fn cpu_model(cpuinfo: &str) -> Option<&str> {
    let line = cpuinfo.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim())
}

/// Where a program is: on `PATH` or in the folders of root's programs, which are not on everybody's `PATH`.
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|candidate| candidate.is_file())
}

#[cfg(test)]
mod tests {
    use super::cpu_model;

    #[test]
    fn the_cpu_has_a_name() {
        assert_eq!(cpu_model("processor\t: 0\nmodel name\t: AMD EPYC\nmodel name\t: x"), Some("AMD EPYC"));
        assert_eq!(cpu_model("processor\t: 0\n"), None);
    }
}
