//! The world's files: host file, tenants' directory, state and log, below one directory named after it.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::network::UPLINK;

/// Where all worlds keep their files: gone after a reboot, as the namespaces are.
const ROOT: &str = "/run/sluice-worlds";

/// What a world's host file says beyond names and paths.
#[derive(Debug, Clone)]
pub struct HostSettings {
    /// The daemon reads metrics so often.
    pub sample_interval: Duration,
    /// A ping without packets for so long has ended.
    pub icmp_timeout: Duration,
    /// Room in the flow table.
    pub max_flows: u32,
    /// Where instances can run, as a list in YAML's flow style: `[{name: a, provider: netns}]`. `None` is what the
    /// daemon has by default.
    pub clouds: Option<String>,
    /// Where syslog is taken. `None` is nowhere.
    pub syslog: Option<SocketAddr>,
}

impl Default for HostSettings {
    fn default() -> Self {
        Self {
            sample_interval: Duration::from_millis(500),
            icmp_timeout: Duration::from_secs(5),
            max_flows: 131_072,
            clouds: None,
            syslog: None,
        }
    }
}

#[derive(Debug)]
pub(super) struct Files {
    name: String,
    directory: PathBuf,
}

impl Files {
    pub(super) fn of(name: &str) -> Self {
        Self { name: name.to_owned(), directory: Path::new(ROOT).join(name) }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    pub(super) fn host(&self) -> PathBuf {
        self.directory.join("sluice.yml")
    }

    pub(super) fn tenants(&self) -> PathBuf {
        self.directory.join("tenants")
    }

    pub(super) fn socket(&self) -> PathBuf {
        self.directory.join("sluice.sock")
    }

    /// Where programs are that the daemon finds before the host's.
    pub(super) fn programs(&self) -> PathBuf {
        self.directory.join("bin")
    }

    pub(super) fn log(&self) -> PathBuf {
        self.directory.join("sluice.log")
    }

    /// Makes the directories and the host file.
    pub(super) fn write(&self, settings: &HostSettings, transit: &str) -> Result<()> {
        for directory in [self.tenants(), self.programs()] {
            fs::create_dir_all(&directory)
                .with_context(|| format!("{} can't be made", directory.display()))?;
        }
        let host = self.host();
        fs::write(&host, self.host_text(settings, transit))
            .with_context(|| format!("{} can't be written", host.display()))
    }

    fn host_text(&self, settings: &HostSettings, transit: &str) -> String {
        let mut text = format!("name: {}\ntransit:\n  namespace: {transit}\n  uplink: {UPLINK}\n", self.name);
        let paths = [
            ("tenants", self.tenants()),
            ("state", self.directory.join("state")),
            ("run", self.directory.join("run")),
        ];
        for (key, path) in paths {
            // Writing to a `String` does not fail.
            let _ = writeln!(text, "{key}: {}", path.display());
        }
        let _ = write!(
            text,
            "api:\n  socket: {}\nsample_interval: {}ms\nload_balancer:\n  max_flows: {}\n  timeouts:\n    icmp: {}ms\n",
            self.socket().display(),
            settings.sample_interval.as_millis(),
            settings.max_flows,
            settings.icmp_timeout.as_millis(),
        );
        if let Some(clouds) = &settings.clouds {
            let _ = writeln!(text, "clouds: {clouds}");
        }
        if let Some(syslog) = settings.syslog {
            let _ = writeln!(text, "syslog: {{listen: '{syslog}'}}");
        }
        text
    }

    pub(super) fn write_tenant(&self, file: &str, text: &str) -> Result<()> {
        // Moved into its place, so that the daemon never reads half of it.
        let (draft, place) = (self.directory.join("tenant.draft"), self.tenants().join(file));
        let written = fs::write(&draft, text).and_then(|()| fs::rename(&draft, &place));
        written.with_context(|| format!("{} can't be written", place.display()))
    }

    /// Removes the directory. Nothing there is a success.
    pub(super) fn remove(&self) -> Result<()> {
        match fs::remove_dir_all(&self.directory) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("{} can't be removed", self.directory.display()))
            }
            _ => {
                // Refused while another world has its files there.
                let _ = fs::remove_dir(ROOT);
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_file_is_a_good_one() {
        let text = Files::of("a_world").host_text(&HostSettings::default(), "a_world-transit");
        let host = sluice_northbound::host::parse("sluice.yml", &text);
        let host = host.unwrap_or_else(|faults| panic!("{faults:#?}\n{text}"));
        assert!(host.warnings.is_empty(), "{:#?}", host.warnings);
        assert_eq!(host.config.name, "a_world");
        assert_eq!(host.config.load_balancer.timeouts.icmp, HostSettings::default().icmp_timeout);
    }
}
