//! What the guest says on its serial console.

use std::collections::BTreeMap;

use anyhow::{Result, bail};

/// How the lines for us begin.
const MARK: &str = "@@ ";

/// Reads the guest's lines, and remembers how each job ended.
#[derive(Debug, Default)]
pub(super) struct Console {
    statuses: BTreeMap<String, i32>,
}

impl Console {
    /// Takes a line: prints it, or learns from it.
    pub(super) fn take(&mut self, line: &str) {
        let Some(words) = line.strip_prefix(MARK) else {
            println!("{line}");
            return;
        };
        match words.split(' ').collect::<Vec<_>>()[..] {
            ["begin", name] => eprintln!("\n==> {name}, in the guest"),
            ["end", name, status] => {
                self.statuses.insert(name.to_owned(), status.parse().unwrap_or(-1));
            }
            _ => println!("{line}"),
        }
    }

    /// Whether every job ended well.
    ///
    /// # Errors
    /// Names the jobs that failed or never ended, and how the guest itself ended if not by itself.
    pub(super) fn verdict<'a>(&self, jobs: impl Iterator<Item = &'a str>, guest: Result<()>) -> Result<()> {
        let faults: Vec<String> = jobs
            .filter_map(|name| match self.statuses.get(name) {
                Some(0) => None,
                Some(status) => Some(format!("{name} (exit status {status})")),
                None => Some(format!("{name} (did not end)")),
            })
            .collect();
        match guest {
            Err(error) if faults.is_empty() => Err(error),
            Err(error) => Err(error.context(format!("failed in the guest: {}", faults.join(", ")))),
            Ok(()) if faults.is_empty() => Ok(()),
            Ok(()) => bail!("failed in the guest: {}", faults.join(", ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_that_failed_or_never_ended_fails_all() {
        let mut console = Console::default();
        for line in ["@@ begin packets", "test a ... ok", "@@ end packets 0", "@@ end flows 101"] {
            console.take(line);
        }
        assert!(console.verdict(["packets"].into_iter(), Ok(())).is_ok());
        let error = console.verdict(["packets", "flows", "net"].into_iter(), Ok(())).expect_err("two failed");
        assert_eq!(error.to_string(), "failed in the guest: flows (exit status 101), net (did not end)");
        let stuck = console.verdict(["packets"].into_iter(), Err(anyhow::anyhow!("it hangs")));
        assert_eq!(stuck.expect_err("the guest did not end").to_string(), "it hangs");
    }
}
