//! Hashes of files: the identity of weights and adapters.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::error::{Error, Result};

/// The two files of an adapter directory that make the served model: configuration and weights, in the order in which they are hashed.
pub const ADAPTER_FILES: [&str; 2] = ["adapter_config.json", "adapter_model.safetensors"];

/// Files up to this size are hashed whole.
const WHOLE: u64 = 1 << 30;
/// Bytes of the header and of each sample of a larger file, and how many samples.
const SAMPLE: usize = 1 << 20;
const SAMPLES: u64 = 64;

/// SHA-256 over some files in the given order, 16 hex digits.
///
/// A file over 1 GiB is represented by its size, its first MiB (a safetensors header names every tensor and its place) and 64
/// evenly spaced samples of a MiB: reading 30 GB at every start would take minutes.
///
/// # Errors
/// A file that cannot be read.
pub fn hash_files(paths: &[impl AsRef<Path>]) -> Result<String> {
    let mut hasher = Sha256::new();
    for path in paths.iter().map(AsRef::as_ref) {
        hash_file(path, &mut hasher).map_err(|error| Error::file(path, format!("cannot be read: {error}")))?;
    }
    Ok(hasher.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect())
}

/// Hash of an adapter directory: its part of a [`Generation`](crate::Generation).
///
/// # Errors
/// A directory without the two files of an adapter.
pub fn adapter_hash(directory: &Path) -> Result<String> {
    hash_files(&ADAPTER_FILES.map(|file| directory.join(file)))
}

fn hash_file(path: &Path, hasher: &mut Sha256) -> std::io::Result<()> {
    let mut file = File::open(path)?;
    let size = file.metadata()?.len();
    hasher.update(size.to_le_bytes());
    let mut buffer = vec![0; SAMPLE];
    let mut feed = |file: &mut File, hasher: &mut Sha256| -> std::io::Result<usize> {
        let read = file.read(&mut buffer)?;
        hasher.update(&buffer[..read]);
        Ok(read)
    };
    if size <= WHOLE {
        while feed(&mut file, hasher)? > 0 {}
        return Ok(());
    }
    for sample in 0..SAMPLES {
        file.seek(SeekFrom::Start(sample * (size - SAMPLE as u64) / (SAMPLES - 1)))?;
        feed(&mut file, hasher)?;
    }
    Ok(())
}
