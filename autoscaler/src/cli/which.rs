//! Which daemon a command is about: the same for every command.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use sluice_northbound::client::Client;
use sluice_northbound::host::{self, HostConfig};
use sluice_southbound::scope::Scope;

use super::{Failure, check, output};

/// Where a daemon listens that has no host file.
const DEFAULT_SOCKET: &str = "/run/sluice/sluice.sock";
/// Where the host file is that nothing else names.
const DEFAULT_CONFIG: &str = "/etc/sluice/sluice.yml";
/// Name the host file, and the socket.
const CONFIG_VARIABLE: &str = "SLUICE_CONFIG";
const SOCKET_VARIABLE: &str = "SLUICE_SOCKET";

/// The host file and the socket as they were named: on the command line, by variables, or not at all.
#[derive(Debug, Default)]
pub(super) struct WhichDaemon {
    config: Option<PathBuf>,
    socket: Option<PathBuf>,
    config_variable: Option<PathBuf>,
    socket_variable: Option<PathBuf>,
}

/// What says where the socket is.
#[derive(Debug, PartialEq, Eq)]
enum SocketBy<'a> {
    /// Its own path.
    Path(&'a Path),
    /// A host file that was named.
    HostFile(&'a Path),
    /// The host file at its usual place, if there is one.
    Usual,
}

impl WhichDaemon {
    /// With what the command line says; the variables are read.
    pub(super) fn new(config: Option<PathBuf>, socket: Option<PathBuf>) -> Self {
        // A variable that is set to nothing is one that is not set.
        let variable =
            |name| env::var_os(name).filter(|value: &OsString| !value.is_empty()).map(PathBuf::from);
        let (config_variable, socket_variable) = (variable(CONFIG_VARIABLE), variable(SOCKET_VARIABLE));
        Self { config, socket, config_variable, socket_variable }
    }

    /// Talks to it.
    ///
    /// # Errors
    /// Where the host file that says where it listens can't be read.
    pub(super) fn client(&self) -> Result<Client, Failure> {
        Ok(Client::new(self.socket()?))
    }

    /// Its host file, with the socket where this command looks for it; faults are printed. With it comes the scope of
    /// all that the daemon makes.
    ///
    /// # Errors
    /// Where the file can't be read, or has faults.
    pub(super) fn host_config(&self) -> Result<(HostConfig, Scope), Failure> {
        let (mut config, warnings) = read(self.host_file())?;
        check::print(&warnings);
        let scope = Scope::new(&config.name).map_err(|error| Failure::Wrong(error.to_string()))?;
        if let SocketBy::Path(socket) = self.socket_by() {
            socket.clone_into(&mut config.api.socket);
        }
        Ok((config, scope))
    }

    fn host_file(&self) -> &Path {
        let named = self.config.as_deref().or(self.config_variable.as_deref());
        named.unwrap_or_else(|| Path::new(DEFAULT_CONFIG))
    }

    /// The command line before the variables, and of each the socket before the host file.
    fn socket_by(&self) -> SocketBy<'_> {
        let Self { config, socket, config_variable, socket_variable } = self;
        let is_named = socket.is_some() || config.is_some();
        let (socket, config) = if is_named { (socket, config) } else { (socket_variable, config_variable) };
        match (socket, config) {
            (Some(socket), _) => SocketBy::Path(socket),
            (None, Some(config)) => SocketBy::HostFile(config),
            (None, None) => SocketBy::Usual,
        }
    }

    fn socket(&self) -> Result<PathBuf, Failure> {
        match self.socket_by() {
            SocketBy::Path(socket) => Ok(socket.to_owned()),
            SocketBy::HostFile(file) => Ok(read(file)?.0.api.socket),
            SocketBy::Usual => {
                let file = Path::new(DEFAULT_CONFIG);
                if !file.exists() {
                    return Ok(DEFAULT_SOCKET.into());
                }
                // The daemon may run on by what the file was before it was edited.
                Ok(read(file).map_or_else(
                    |_| {
                        output::remark!(
                            "{DEFAULT_CONFIG} can't be used: the socket is taken to be {DEFAULT_SOCKET}"
                        );
                        DEFAULT_SOCKET.into()
                    },
                    |(config, _)| config.api.socket,
                ))
            }
        }
    }
}

/// A host file and its warnings; faults are printed.
fn read(path: &Path) -> Result<(HostConfig, Vec<sluice_northbound::diagnostic::Diagnostic>), Failure> {
    let text = fs::read_to_string(path)
        .with_context(|| format!("cannot read the host file {}; name it with `--config`", path.display()))
        .map_err(|error| Failure::Wrong(format!("{error:#}")))?;
    match host::parse(&path.display().to_string(), &text) {
        Ok(host) => Ok((host.config, host.warnings)),
        Err(faults) => {
            check::print(&faults);
            Err(Failure::Faults)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn which(parts: [&str; 4]) -> WhichDaemon {
        let [config, socket, config_variable, socket_variable] =
            parts.map(|part| (!part.is_empty()).then(|| PathBuf::from(part)));
        WhichDaemon { config, socket, config_variable, socket_variable }
    }

    #[test]
    fn the_command_line_counts_before_the_variables() {
        let (path, file) =
            (|path| SocketBy::Path(Path::new(path)), |file| SocketBy::HostFile(Path::new(file)));
        for (parts, expected) in [
            (["", "", "", ""], SocketBy::Usual),
            (["", "", "", "/v.sock"], path("/v.sock")),
            (["", "", "/v.yml", ""], file("/v.yml")),
            (["", "", "/v.yml", "/v.sock"], path("/v.sock")),
            (["/c.yml", "", "/v.yml", "/v.sock"], file("/c.yml")),
            (["", "/c.sock", "/v.yml", ""], path("/c.sock")),
            (["/c.yml", "/c.sock", "", "/v.sock"], path("/c.sock")),
        ] {
            assert_eq!(which(parts).socket_by(), expected, "{parts:?}");
        }
        assert_eq!(which(["/c.yml", "", "/v.yml", ""]).host_file(), Path::new("/c.yml"));
        assert_eq!(which(["", "", "/v.yml", ""]).host_file(), Path::new("/v.yml"));
        assert_eq!(which(["", "", "", ""]).host_file(), Path::new(DEFAULT_CONFIG));
    }

    #[test]
    fn the_socket_is_the_host_files() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("sluice.yml");
        fs::write(&file, "name: other\ntransit: {uplink: eth0}\n").unwrap();
        let file = file.display().to_string();
        assert_eq!(which([&file, "", "", ""]).socket().unwrap(), Path::new("/run/other/sluice.sock"));
        let (config, _) = which(["", "/own.sock", &file, ""]).host_config().unwrap();
        assert_eq!(config.api.socket, Path::new("/own.sock"));
        assert!(matches!(which(["/nonexistent.yml", "", "", ""]).socket(), Err(Failure::Wrong(_))));
    }
}
