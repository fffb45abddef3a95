//! iperf3 between two namespaces.

use std::io::{BufRead as _, BufReader};
use std::net::Ipv4Addr;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, bail};
use lb_userspace::net::Netns;
use serde::{Deserialize, Serialize};

use crate::host;

const PORT: &str = "5201";

/// Which way the data goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Direction {
    /// From the client to the server.
    Up,
    /// From the server to the client.
    Down,
}

/// Sends TCP for so many seconds over one connection. Returns what arrived, bits per second.
pub(crate) fn run(
    client: &Netns,
    server: &Netns,
    address: Ipv4Addr,
    direction: Direction,
    seconds: u32,
) -> Result<f64> {
    let iperf = host::program("iperf3").context("there is no iperf3: `apt-get install iperf3`")?;
    let mut command = Command::new(&iperf);
    command.args(["-s", "-1", "-p", PORT, "--forceflush"]);
    let mut server = Server::start(server, command)?;
    let mut command = Command::new(iperf);
    command.args(["-J", "-c", &address.to_string(), "-p", PORT, "-t", &seconds.to_string()]);
    // A VIP that doesn't answer is an error soon, not in two minutes.
    command.args(["--connect-timeout", "3000"]);
    if direction == Direction::Down {
        command.arg("-R");
    }
    let output = client.run(|| command.output())?.context("cannot run iperf3")?;
    server.wait()?;
    bits_per_second(&output.stdout).with_context(|| format!("iperf3 to {address}"))
}

/// A server for one test; killed if the test never came.
struct Server(Child);

impl Server {
    /// Returns when it listens.
    fn start(netns: &Netns, mut command: Command) -> Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut server = Self(netns.run(|| command.spawn())?.context("cannot start the iperf3 server")?);
        let output = server.0.stdout.take().context("the server has no output")?;
        let mut lines = BufReader::new(output);
        let mut line = String::new();
        while !line.contains("Server listening") {
            line.clear();
            if lines.read_line(&mut line)? == 0 {
                bail!("the iperf3 server ended at once; is port {PORT} taken?");
            }
        }
        // The rest is a few lines a second: read, so that the server never waits for a reader.
        std::thread::spawn(move || std::io::copy(&mut lines, &mut std::io::sink()));
        Ok(server)
    }

    fn wait(&mut self) -> Result<()> {
        match self.0.try_wait()? {
            Some(_) => Ok(()),
            // It has told the client its results, so it is about to end; else the client failed and says why.
            None => Ok(self.0.kill()?),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[derive(Deserialize)]
struct Output {
    error: Option<String>,
    end: Option<End>,
}

#[derive(Deserialize)]
struct End {
    sum_received: Option<Sum>,
}

#[derive(Deserialize)]
struct Sum {
    bits_per_second: f64,
}

fn bits_per_second(json: &[u8]) -> Result<f64> {
    let output: Output = serde_json::from_slice(json).context("its output can't be read")?;
    if let Some(error) = output.error {
        bail!("{error}");
    }
    let sum = output.end.and_then(|end| end.sum_received).context("it reports nothing received")?;
    Ok(sum.bits_per_second)
}

#[cfg(test)]
mod tests {
    use super::bits_per_second;

    #[test]
    fn what_was_received_counts() {
        let json = br#"{"end":{"sum_sent":{"bits_per_second":9e9},"sum_received":{"bits_per_second":8e9}}}"#;
        assert_eq!(bits_per_second(json).expect("a result").to_bits(), 8e9_f64.to_bits());
    }

    #[test]
    fn an_error_is_told() {
        let json = br#"{"start":{},"end":{},"error":"unable to connect to server"}"#;
        let error = bits_per_second(json).expect_err("an error");
        assert_eq!(error.to_string(), "unable to connect to server");
    }
}
