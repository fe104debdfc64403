//! Progress: bars on a terminal, and a line now and then elsewhere.

use std::io::{self, IsTerminal, Write};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle, TermLike};

/// A bar over `steps` of something.
pub(crate) fn bar(what: &'static str, steps: u64) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return lines(what, steps);
    }
    let style = ProgressStyle::with_template(match steps {
        // What is left of a single step cannot be told.
        0 | 1 => "{prefix:>12}  {msg}  {elapsed}",
        _ => "{prefix:>12} [{bar:30}] {pos}/{len}  {msg}  {eta} left",
    });
    let bar = ProgressBar::new(steps).with_prefix(what);
    if let Ok(style) = style {
        bar.set_style(style.progress_chars("=> "));
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

/// Where nobody watches: a line after half a minute, then after twice as long each time.
fn lines(what: &'static str, steps: u64) -> ProgressBar {
    let target = ProgressDrawTarget::term_like_with_hz(Box::new(Lines::default()), 1);
    let bar = ProgressBar::with_draw_target(Some(steps), target).with_prefix(what);
    let style = ProgressStyle::with_template(match steps {
        0 | 1 => "{prefix}: {elapsed}  {msg}",
        _ => "{prefix}: {pos} of {len} after {elapsed}, {eta} left  {msg}",
    });
    if let Ok(style) = style {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_secs(1));
    bar
}

/// What a bar draws, as lines that come ever more rarely.
#[derive(Debug)]
struct Lines(Mutex<Due>);

#[derive(Debug)]
struct Due {
    at: Instant,
    wait: Duration,
}

impl Default for Lines {
    fn default() -> Self {
        let wait = Duration::from_secs(30);
        let at = Instant::now() + wait;
        Self(Mutex::new(Due { at, wait }))
    }
}

impl TermLike for Lines {
    fn width(&self) -> u16 {
        120
    }

    fn write_line(&self, text: &str) -> io::Result<()> {
        self.write_str(text)
    }

    fn write_str(&self, text: &str) -> io::Result<()> {
        let mut due = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if text.trim().is_empty() || now < due.at {
            return Ok(());
        }
        due.wait *= 2;
        due.at = now + due.wait;
        writeln!(io::stderr(), "{}", text.trim())
    }

    fn move_cursor_up(&self, _: usize) -> io::Result<()> {
        Ok(())
    }

    fn move_cursor_down(&self, _: usize) -> io::Result<()> {
        Ok(())
    }

    fn move_cursor_right(&self, _: usize) -> io::Result<()> {
        Ok(())
    }

    fn move_cursor_left(&self, _: usize) -> io::Result<()> {
        Ok(())
    }

    fn clear_line(&self) -> io::Result<()> {
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        Ok(())
    }
}
