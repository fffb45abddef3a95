//! A real Prometheus server.

use std::fs;
use std::process::{Child, Command, Stdio};

/// Ends with the test.
pub(crate) struct Prometheus {
    server: Child,
    /// Removed after it.
    _directory: tempfile::TempDir,
}

impl Prometheus {
    /// Debian's server with that configuration.
    pub(crate) fn start(port: u16, text: &str) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let config = directory.path().join("prometheus.yml");
        fs::write(&config, text).expect("the configuration");
        let server = Command::new("prometheus")
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", directory.path().join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .arg("--log.level=error")
            .stdout(Stdio::null())
            .spawn()
            .expect("`prometheus` runs: `cargo xtask setup` installs it (apt-get install prometheus)");
        Self { server, _directory: directory }
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}
