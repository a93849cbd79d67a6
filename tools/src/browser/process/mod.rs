//! The processes of a browser: started in a session of their own, recorded on disk, and ended even if their owner crashes.
//!
//! Every process of a browser has a **mark**: the path of the browser's profile directory, which no other browser has. It is in the
//! process's environment (`MILEPOST_BROWSER`) or on its command line. A process is never killed by a recorded number alone, because the
//! system may have given that number to another process.

mod driver;
mod marked;
mod procfs;
mod record;

pub(super) use driver::DriverProcess;
pub(super) use marked::{kill_browser, kill_if_marked, marked_processes, private_memory_mib};
pub use record::reap_orphans;
