//! A bar for those who wait.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Steps that are done before anybody waits.
const SHORT: u64 = 50_000;
/// Steps between two updates.
const EVERY: u64 = 1024;

/// Counts steps, and shows them on a terminal where there are many.
pub(super) struct Progress {
    bar: ProgressBar,
}

impl Progress {
    pub(super) fn new(steps: u64, what: &str) -> Self {
        let shown = steps > SHORT && std::io::stderr().is_terminal();
        let target = if shown { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(Some(steps), target).with_message(what.to_owned());
        let style = ProgressStyle::with_template("{msg} {wide_bar} {percent} % {eta} left");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.enable_steady_tick(Duration::from_millis(250));
        Self { bar }
    }

    /// What a simulation calls after each step. Several may count at once.
    pub(super) fn counter(&self) -> impl FnMut() + Send + use<> {
        let bar = self.bar.clone();
        let mut since = 0;
        move || {
            since += 1;
            if since == EVERY {
                bar.inc(since);
                since = 0;
            }
        }
    }

    pub(super) fn end(self) {
        self.bar.finish_and_clear();
    }
}
