//! A progress bar on the terminal for episodes that are played.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressStyle};

/// Makes a bar of `total` episodes; it is hidden where stderr is no terminal.
pub fn episodes(total: u64) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {msg} [{elapsed} of about {duration}]")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(total).with_style(style)
}
