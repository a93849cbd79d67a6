//! Child processes that do not outlive the process that starts them.

use std::os::unix::process::CommandExt;
use std::process::Command;

/// Makes the kernel kill the command's process when the thread that starts it ends, for whatever reason (Linux only; elsewhere this does
/// nothing).
pub fn die_with_owner(command: &mut Command) {
    let owner = std::process::id();
    // SAFETY: between fork and exec only prctl, getppid and _exit run, which are async-signal-safe and allocate nothing.
    unsafe {
        command.pre_exec(move || {
            #[cfg(target_os = "linux")]
            {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                // The owner may have died before `prctl` requested the signal.
                if libc::getppid() as u32 != owner {
                    libc::_exit(1);
                }
            }
            #[cfg(not(target_os = "linux"))]
            let _ = owner;
            Ok(())
        });
    }
}
