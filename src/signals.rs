//! Cancels a command on Ctrl-C or SIGTERM.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::exit::Exit;

/// Returns a token that Ctrl-C or SIGTERM cancels; a second signal ends the process at once.
pub fn cancellation() -> CancellationToken {
    let token = CancellationToken::new();
    tokio::spawn(cancel_on_signal(token.clone()));
    token
}

async fn cancel_on_signal(token: CancellationToken) {
    let mut term = match signal(SignalKind::terminate()) {
        Ok(term) => term,
        Err(error) => return tracing::warn!(%error, "SIGTERM cannot be caught"),
    };
    loop {
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = term.recv() => {}
        }
        if token.is_cancelled() {
            std::process::exit(Exit::Cancelled.code().into());
        }
        eprintln!("milepost: cancelling (press Ctrl-C again to end at once)");
        token.cancel();
    }
}
