//! How far writing has come: a line that is drawn again and again on a terminal, a line for every tenth
//! elsewhere. Signals are asked for where the work stops between two chunks.

use std::{
    io::{self, IsTerminal, Write},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use tokio::time::Instant;

use super::super::human;
use crate::flash::{Phase, Watch};

const LINE: &str = "{msg} {percent:>3} %, {binary_bytes} of {binary_total_bytes}, {decimal_bytes_per_sec}, {eta} left";

/// Which signal has come, by its number, if one has.
#[derive(Clone, Debug, Default)]
pub(super) struct Signals(Arc<AtomicUsize>);

impl Signals {
    /// From here on a signal does not end the program, but is noted.
    pub(super) fn catch() -> io::Result<Self> {
        let signals = Self::default();
        for signal in [SIGHUP, SIGINT, SIGTERM] {
            let number = usize::try_from(signal).unwrap_or_default();
            signal_hook::flag::register_usize(signal, Arc::clone(&signals.0), number)?;
        }
        Ok(signals)
    }

    /// The signal's number.
    pub(super) fn caught(&self) -> Option<u8> {
        u8::try_from(self.0.load(Ordering::Relaxed)).ok().filter(|number| *number > 0)
    }
}

/// Shows how far it has come.
pub(super) struct Progress {
    signals: Signals,
    shown: Shown,
}

enum Shown {
    /// The bar of the phase.
    Bar(ProgressBar),
    Lines(Lines),
}

impl Progress {
    pub(super) fn new(signals: Signals) -> Self {
        let shown = match io::stderr().is_terminal() {
            true => Shown::Bar(ProgressBar::hidden()),
            false => Shown::Lines(Lines::new()),
        };
        Self { signals, shown }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Shown::Bar(bar) = &self.shown {
            // It stays as it is, and what is printed next does not overwrite it.
            bar.abandon();
        }
    }
}

impl Watch for Progress {
    fn begin(&mut self, phase: Phase, total_bytes: u64) {
        match &mut self.shown {
            Shown::Bar(bar) => {
                bar.abandon();
                let target = ProgressDrawTarget::stderr();
                let style = ProgressStyle::with_template(LINE);
                let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
                *bar = ProgressBar::with_draw_target(Some(total_bytes), target)
                    .with_style(style)
                    .with_message(word(phase));
            }
            Shown::Lines(lines) => lines.begin(phase, total_bytes),
        }
    }

    fn done(&mut self, bytes: u64) {
        match &mut self.shown {
            Shown::Bar(bar) => bar.set_position(bytes),
            Shown::Lines(lines) => {
                if let Some(line) = lines.at(bytes) {
                    // As a whole. Whoever does not want to read it does not stop the work.
                    let _ = io::stderr().write_all(line.as_bytes());
                }
            }
        }
    }

    fn is_stopped(&self) -> bool {
        self.signals.caught().is_some()
    }
}

fn word(phase: Phase) -> &'static str {
    match phase {
        Phase::Measuring => "measuring",
        Phase::Writing => "writing",
        Phase::Verifying => "verifying",
    }
}

/// Lines for whoever is no terminal.
struct Lines {
    phase: Phase,
    since: Instant,
    total_bytes: u64,
    tenths: u64,
}

impl Lines {
    fn new() -> Self {
        Self { phase: Phase::Measuring, since: Instant::now(), total_bytes: 0, tenths: 0 }
    }

    fn begin(&mut self, phase: Phase, total_bytes: u64) {
        *self = Self { phase, since: Instant::now(), total_bytes, tenths: 0 };
    }

    /// The next line, when there is one more tenth.
    fn at(&mut self, bytes: u64) -> Option<String> {
        let tenths = bytes.saturating_mul(10).checked_div(self.total_bytes)?;
        if tenths <= self.tenths {
            return None;
        }
        self.tenths = tenths;
        let seconds = self.since.elapsed().as_secs_f64().max(0.001);
        let per_second = bytes as f64 / seconds;
        let left_s = self.total_bytes.saturating_sub(bytes) as f64 / per_second;
        Some(format!(
            "{}: {} %, {} of {} MiB, {:.1} MB/s, {} left\n",
            word(self.phase),
            tenths * 10,
            bytes >> 20,
            self.total_bytes.div_ceil(1 << 20),
            per_second / 1e6,
            human::duration(left_s as u64),
        ))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_line_tells_of_every_tenth_once() {
        let mut lines = Lines::new();
        lines.begin(Phase::Writing, 100 << 20);
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(lines.at(9 << 20), None);
        let line = lines.at(20 << 20).unwrap();
        assert_eq!(line, "writing: 20 %, 20 of 100 MiB, 10.5 MB/s, 8 s left\n");
        assert_eq!(lines.at(29 << 20), None);
        assert!(lines.at(100 << 20).unwrap().ends_with("0 s left\n"));
        lines.begin(Phase::Verifying, 0);
        assert_eq!(lines.at(5), None);
    }

    #[test]
    fn the_line_of_a_terminal_can_be_drawn() {
        assert!(ProgressStyle::with_template(LINE).is_ok());
    }
}
