//! Atomic replacement of files: a reader sees either the old or the new content, never a part of it.

use std::io::Write;
use std::path::Path;

use crate::{Error, Result};

/// Atomically replaces the content of a file: writes a temporary file beside it, syncs it to the disk, renames it and syncs the directory.
///
/// # Errors
/// The temporary file cannot be written or renamed; the error names the path.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    replace_with(path, |temporary| {
        let mut file = std::fs::File::create(temporary).map_err(Error::io(temporary))?;
        file.write_all(bytes).map_err(Error::io(temporary))
    })
}

/// Atomically replaces a file with one that `write` creates at the temporary path it is given.
pub(crate) fn replace_with(path: &Path, write: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".tmp-{}", std::process::id()));
    let temporary = path.with_file_name(name);
    write(&temporary)?;
    let file = std::fs::File::open(&temporary).map_err(Error::io(&temporary))?;
    file.sync_all().map_err(Error::io(&temporary))?;
    std::fs::rename(&temporary, path).map_err(Error::io(path))?;
    // The rename is on the disk only once the directory is.
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::File::open(directory).and_then(|directory| directory.sync_all()).map_err(Error::io(directory))
}
