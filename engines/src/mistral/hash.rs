//! Hashes of weights: the identity of a generation.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use milepost_runtime::Result;
use sha2::{Digest, Sha256};

use crate::failed;

/// Files up to this size are hashed whole.
const WHOLE: u64 = 1 << 30;
/// Bytes of the header and of each sample of a larger file, and how many samples.
const SAMPLE: usize = 1 << 20;
const SAMPLES: u64 = 64;

/// SHA-256 over some files in the given order, 16 hex digits.
///
/// A file over 1 GiB is represented by its size, its first MiB (a safetensors header names every tensor and its place) and 64
/// evenly spaced samples of a MiB: reading 30 GB at every start would take minutes.
pub(super) fn hash_files(paths: &[impl AsRef<Path>]) -> Result<String> {
    let mut hasher = Sha256::new();
    for path in paths.iter().map(AsRef::as_ref) {
        hash_file(path, &mut hasher).map_err(|error| failed(format!("{} cannot be read: {error}", path.display())))?;
    }
    Ok(hasher.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect())
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
