//! The command line of recorded episodes.

use clap::Subcommand;

/// The commands of `milepost episodes`.
#[derive(Debug, Subcommand)]
pub enum EpisodesCommand {
    /// List the newest episodes
    List {
        /// Maximum number of episodes
        #[arg(long, default_value_t = 20)]
        limit: u32,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Show one episode, step by step
    Show {
        /// The episode's id, or a unique beginning of it
        id: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Explain why an episode failed: the class of the failure, and the step that decided it
    Why {
        /// The episode's id, or a unique beginning of it
        id: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Print a whole episode as JSON
    Export {
        /// The episode's id, or a unique beginning of it
        id: String,
        /// Print JSON (the only format)
        #[arg(long)]
        json: bool,
    },
    /// Keep the episodes of a host out of training; without a host, list the hosts in quarantine
    Quarantine {
        /// The host, such as `shop.example`
        host: Option<String>,
        /// Reason for the record
        #[arg(long, default_value = "by hand", requires = "host")]
        reason: String,
        /// End the quarantine of the host
        #[arg(long, requires = "host")]
        release: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Remove old episodes
    Prune {
        /// Remove episodes that are older than this number of days [default: `episodes.retention_days`]
        #[arg(long)]
        days: Option<u32>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}
