//! Files that are either old or new, never half.

use std::io::Write;
use std::path::Path;

use crate::{Error, Result};

/// Writes a file beside its place and renames it there, on the disk.
///
/// # Errors
/// The path that cannot be written.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    replace_with(path, |temporary| {
        let mut file = std::fs::File::create(temporary).map_err(Error::io(temporary))?;
        file.write_all(bytes).map_err(Error::io(temporary))
    })
}

/// Lets `write` make a file beside its place, then renames it there.
pub(crate) fn replace_with(path: &Path, write: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".tmp-{}", std::process::id()));
    let temporary = path.with_file_name(name);
    write(&temporary)?;
    let file = std::fs::File::open(&temporary).map_err(Error::io(&temporary))?;
    file.sync_all().map_err(Error::io(&temporary))?;
    std::fs::rename(&temporary, path).map_err(Error::io(path))
}
