//! Steps with a heading and a time each, and a summary at the end.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// One finished step.
#[derive(Debug)]
struct Outcome {
    name: &'static str,
    passed: bool,
    took: Duration,
}

/// Runs steps one after the other and remembers how each ended. A failed step doesn't stop the ones after it, so
/// that one run shows all that is wrong.
#[derive(Debug, Default)]
pub(crate) struct Report {
    outcomes: Vec<Outcome>,
    /// What this host can't run, and why.
    left_out: Vec<(&'static str, &'static str)>,
}

impl Report {
    /// Runs a command as a step.
    pub(crate) fn step(&mut self, name: &'static str, command: &mut Command) {
        eprintln!("\n==> {name}");
        let start = Instant::now();
        let passed = match command.status() {
            Ok(status) => status.success(),
            Err(error) => {
                eprintln!("cannot run {}: {error}", command.get_program().display());
                false
            }
        };
        self.outcomes.push(Outcome { name, passed, took: start.elapsed() });
    }

    /// Runs a function of this program as a step.
    pub(crate) fn check(&mut self, name: &'static str, check: impl FnOnce() -> Result<()>) {
        eprintln!("\n==> {name}");
        let start = Instant::now();
        let result = check();
        if let Err(error) = &result {
            eprintln!("{error:#}");
        }
        self.outcomes.push(Outcome { name, passed: result.is_ok(), took: start.elapsed() });
    }

    /// Says in the summary that a step can't run on this host.
    pub(crate) fn leave_out(&mut self, name: &'static str, reason: &'static str) {
        self.left_out.push((name, reason));
    }

    /// Prints a line per step.
    ///
    /// # Errors
    /// The names of the steps that failed.
    pub(crate) fn finish(self) -> Result<()> {
        eprintln!("\n==> Summary");
        for Outcome { name, passed, took } in &self.outcomes {
            let verdict = if *passed { "passed" } else { "FAILED" };
            eprintln!("  {verdict}  {:>6.1} s  {name}", took.as_secs_f64());
        }
        for (name, reason) in &self.left_out {
            eprintln!("  not run             {name}: {reason}");
        }
        let failed: Vec<_> = self.outcomes.iter().filter(|step| !step.passed).map(|step| step.name).collect();
        if failed.is_empty() { Ok(()) } else { bail!("failed: {}", failed.join(", ")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_failed_step_fails_all_and_the_rest_still_runs() {
        let mut report = Report::default();
        report.step("first", &mut Command::new("false"));
        report.step("second", &mut Command::new("true"));
        report.step("third", &mut Command::new("no-such-program-anywhere"));
        report.check("fourth", || bail!("a reason"));
        report.check("fifth", || Ok(()));
        let error = report.finish().expect_err("three steps failed").to_string();
        assert_eq!(error, "failed: first, third, fourth");
    }
}
