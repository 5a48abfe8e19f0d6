//! A fetch's progress on standard error: a bar on a terminal, plain lines elsewhere.

use indicatif::{ProgressBar, ProgressStyle};
use models::catalogue::Progress;
use std::io::{self, IsTerminal as _};

/// Shows a fetch.
pub enum FetchProgress {
    /// On a terminal.
    Bar(ProgressBar),
    /// In a log: a line for each step and each tenth of the bytes.
    Lines {
        /// Tenths said.
        tenths: u64,
    },
}

impl FetchProgress {
    /// As standard error is.
    pub fn new() -> Self {
        if !io::stderr().is_terminal() {
            return Self::Lines { tenths: 0 };
        }
        let style = ProgressStyle::with_template(
            "{msg}\n{wide_bar} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left",
        );
        let bar = ProgressBar::no_length();
        bar.set_style(style.expect("the template is well formed"));
        Self::Bar(bar)
    }
}

impl Default for FetchProgress {
    fn default() -> Self {
        Self::new()
    }
}

impl Progress for FetchProgress {
    fn step(&mut self, line: &str) {
        match self {
            Self::Bar(bar) => bar.set_message(line.to_owned()),
            Self::Lines { tenths } => {
                *tenths = 0;
                eprintln!("{line}");
            }
        }
    }

    fn bytes(&mut self, done: u64, total: Option<u64>) {
        match self {
            Self::Bar(bar) => {
                if let Some(total) = total {
                    bar.set_length(total);
                }
                bar.set_position(done);
            }
            Self::Lines { tenths } => {
                let Some(now) = total.filter(|total| *total > 0).map(|total| done * 10 / total)
                else {
                    return;
                };
                if now > *tenths {
                    *tenths = now;
                    eprintln!("  {now}0 %");
                }
            }
        }
    }
}

impl Drop for FetchProgress {
    fn drop(&mut self) {
        if let Self::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}
