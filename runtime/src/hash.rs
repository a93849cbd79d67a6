//! Hashes of files, which identify weights and adapters.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::error::{Error, Result};

/// The two files of an adapter directory that determine the served model, in the order in which they are hashed: configuration and weights.
pub const ADAPTER_FILES: [&str; 2] = ["adapter_config.json", "adapter_model.safetensors"];

/// The maximum size in bytes of a file that is hashed whole.
const WHOLE: u64 = 1 << 30;
/// The size in bytes of each sample of a larger file.
const SAMPLE: usize = 1 << 20;
/// The number of samples of a larger file.
const SAMPLES: u64 = 64;

/// Returns the first 16 hex digits of the SHA-256 of `bytes`; such hashes name weights, tokenizers and templates.
pub fn hash16(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// Returns the first 16 hex digits of the SHA-256 over these files, in this order.
///
/// Of a file over 1 GiB its size and 64 evenly spaced samples of a MiB are hashed, the first at its start (a safetensors header names every
/// tensor and its offset), because reading 30 GB at every start would take minutes.
///
/// # Errors
/// A file cannot be read.
pub fn hash_files(paths: &[impl AsRef<Path>]) -> Result<String> {
    let mut hasher = Sha256::new();
    for path in paths.iter().map(AsRef::as_ref) {
        hash_file(path, &mut hasher).map_err(|error| Error::file(path, format!("cannot be read: {error}")))?;
    }
    Ok(hasher.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect())
}

/// Returns the hash of an adapter directory, as a [`Generation`](crate::Generation) has it.
///
/// # Errors
/// One of the adapter's two files cannot be read.
pub fn adapter_hash(directory: &Path) -> Result<String> {
    hash_files(&ADAPTER_FILES.map(|file| directory.join(file)))
}

fn hash_file(path: &Path, hasher: &mut Sha256) -> std::io::Result<()> {
    let mut file = File::open(path)?;
    let size = file.metadata()?.len();
    hash_contents(&mut file, size, hasher)
}

/// Hashes a file of this size: its size, then all of it or samples of it.
fn hash_contents(file: &mut (impl Read + Seek), size: u64, hasher: &mut Sha256) -> std::io::Result<()> {
    hasher.update(size.to_le_bytes());
    let mut buffer = vec![0; SAMPLE];
    if size <= WHOLE {
        loop {
            let read = file.read(&mut buffer)?;
            if read == 0 {
                return Ok(());
            }
            hasher.update(&buffer[..read]);
        }
    }
    for sample in 0..SAMPLES {
        file.seek(SeekFrom::Start(sample * (size - SAMPLE as u64) / (SAMPLES - 1)))?;
        // A read may give fewer bytes than there are, and a sample must be the same bytes every time.
        file.read_exact(&mut buffer)?;
        hasher.update(&buffer);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    /// A simulated file of any size: each byte is computed from its position, and one read returns at most `longest` bytes.
    struct Generated {
        at: u64,
        size: u64,
        longest: usize,
    }

    impl Read for Generated {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let left = usize::try_from(self.size - self.at).unwrap_or(usize::MAX);
            let read = buffer.len().min(self.longest).min(left);
            for (byte, at) in buffer[..read].iter_mut().zip(self.at..) {
                *byte = (at % 251) as u8;
            }
            self.at += read as u64;
            Ok(read)
        }
    }

    impl Seek for Generated {
        fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
            let SeekFrom::Start(at) = to else { panic!("{to:?}") };
            self.at = at;
            Ok(at)
        }
    }

    fn hash(size: u64, longest: usize) -> std::io::Result<String> {
        let mut hasher = Sha256::new();
        hash_contents(&mut Generated { at: 0, size, longest }, size, &mut hasher)?;
        Ok(hasher.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect())
    }

    #[test]
    fn short_reads_do_not_change_a_hash() {
        for size in [3_000_000, WHOLE + 12_345] {
            assert_eq!(hash(size, 1 << 20).unwrap(), hash(size, 100_003).unwrap(), "{size} bytes");
        }
    }

    #[test]
    fn a_file_that_shrinks_while_it_is_sampled_is_an_error() {
        let (size, mut hasher) = (WHOLE + 1, Sha256::new());
        let mut shrunk = Generated { at: 0, size: size - 10, longest: 1 << 20 };
        assert!(hash_contents(&mut shrunk, size, &mut hasher).is_err());
    }
}
