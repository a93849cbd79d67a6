//! Tokens: the administrator's in a file of its own, others by name as hashes beside it.

use std::fs::{OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use milepost_runtime::{Error, Result};
use rand::RngCore;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

use super::caller::{Caller, Scope};

/// Name of the token in the token file.
const ADMIN: &str = "admin";
/// A token that somebody wrote by hand must have so many characters.
const SHORTEST: usize = 16;

/// A named token as it is kept: never the token itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRow {
    /// The name, which is also the caller's.
    pub name: String,
    /// What it allows.
    pub scope: Scope,
    /// SHA-256 of the token, in hex.
    pub sha256: String,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// Until when it is good; for ever where nothing is given.
    pub expires_at: Option<DateTime<Utc>>,
}

/// A new named token.
#[derive(Clone, Debug)]
pub struct NewToken {
    /// The name.
    pub name: String,
    /// What it allows.
    pub scope: Scope,
    /// Until when it is good.
    pub expires_at: Option<DateTime<Utc>>,
}

/// A token as it is compared.
#[derive(Clone)]
pub(super) struct Known {
    pub(super) name: String,
    pub(super) scope: Scope,
    pub(super) hash: [u8; 32],
    expires_at: Option<DateTime<Utc>>,
}

impl Known {
    pub(super) fn caller(&self) -> Caller {
        Caller { name: self.name.clone(), scope: self.scope }
    }

    pub(super) fn expired(&self) -> bool {
        self.expires_at.is_some_and(|until| until <= Utc::now())
    }
}

type Stamp = [Option<(SystemTime, u64, u64)>; 2];

/// All tokens; the files are read again when they change, so that a rotation holds at once.
pub struct Tokens {
    file: PathBuf,
    named: PathBuf,
    known: Mutex<(Stamp, Vec<Known>)>,
}

impl Tokens {
    /// Reads the tokens; the first start makes the administrator's. Says whether it was made now.
    ///
    /// # Errors
    /// A file that cannot be read or written, or a token that is too short to be one.
    pub fn open(file: &Path, directory: &Path) -> Result<(Self, bool)> {
        let made = !file.exists();
        if made {
            write_secret(file, &fresh())?;
        }
        let tokens = Self { file: file.to_owned(), named: directory.join("tokens.json"), known: Mutex::default() };
        let read = tokens.read()?;
        *tokens.known.lock().unwrap_or_else(PoisonError::into_inner) = (tokens.stamp(), read);
        Ok((tokens, made))
    }

    /// The caller of a token: every known one is compared, in constant time.
    pub fn caller(&self, token: &str) -> Option<Caller> {
        let hash: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        let mut found = None;
        for known in self.current() {
            if bool::from(known.hash.ct_eq(&hash) & Choice::from(u8::from(!known.expired()))) {
                found = Some(known.caller());
            }
        }
        found
    }

    /// A token that is good, by name.
    pub(super) fn named(&self, name: &str) -> Option<Known> {
        self.current().into_iter().find(|known| known.name == name && !known.expired())
    }

    /// Named tokens, without the administrator's.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn list(&self) -> Result<Vec<TokenRow>> {
        match std::fs::read(&self.named) {
            Ok(text) => serde_json::from_slice(&text).map_err(|error| Error::file(&self.named, format!("cannot be read: {error}"))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(Error::file(&self.named, format!("cannot be read: {error}"))),
        }
    }

    /// Makes a named token; it is told here and never again.
    ///
    /// # Errors
    /// A name that is taken or none, or a file that cannot be written.
    pub fn add(&self, new: NewToken) -> Result<String> {
        let plain = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_');
        if new.name.is_empty() || new.name.len() > 64 || !new.name.bytes().all(plain) {
            return Err(Error::BadInput(format!("{:?} is no name for a token; use 1 to 64 letters, digits, `-` and `_`", new.name)));
        }
        let mut rows = self.list()?;
        if new.name == ADMIN || rows.iter().any(|row| row.name == new.name) {
            return Err(Error::BadInput(format!("there is a token {:?} already; revoke it first, or take another name", new.name)));
        }
        let token = fresh();
        let NewToken { name, scope, expires_at } = new;
        rows.push(TokenRow { name, scope, sha256: hex(&Sha256::digest(token.as_bytes())), created_at: Utc::now(), expires_at });
        self.write(&rows)?;
        Ok(token)
    }

    /// Removes a named token; what was signed in with it is signed out.
    ///
    /// # Errors
    /// A name that is not there, or a file that cannot be written.
    pub fn revoke(&self, name: &str) -> Result<()> {
        let mut rows = self.list()?;
        let before = rows.len();
        rows.retain(|row| row.name != name);
        match rows.len() == before {
            true => Err(Error::BadInput(format!("there is no token {name:?}; `milepost token list` shows those that there are"))),
            false => self.write(&rows),
        }
    }

    /// Replaces the administrator's token; the old one is refused from now on.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn rotate(&self) -> Result<&Path> {
        write_secret(&self.file, &fresh())?;
        Ok(&self.file)
    }

    fn write(&self, rows: &[TokenRow]) -> Result<()> {
        let text = serde_json::to_string_pretty(rows).map_err(|error| Error::file(&self.named, error.to_string()))?;
        write_secret(&self.named, &text)
    }

    /// The tokens as the files have them now; files that cannot be read leave those of before.
    fn current(&self) -> Vec<Known> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let stamp = self.stamp();
        if stamp != known.0 {
            match self.read() {
                Ok(read) => *known = (stamp, read),
                Err(error) => tracing::error!(%error, "the tokens cannot be read again; those of before go on"),
            }
        }
        known.1.clone()
    }

    fn stamp(&self) -> Stamp {
        use std::os::unix::fs::MetadataExt;
        [&self.file, &self.named].map(|path| {
            let metadata = std::fs::metadata(path).ok()?;
            Some((metadata.modified().ok()?, metadata.len(), metadata.ino()))
        })
    }

    fn read(&self) -> Result<Vec<Known>> {
        let cannot = |error: std::io::Error| Error::BadInput(format!("the token file {} cannot be read: {error}", self.file.display()));
        let text = std::fs::read_to_string(&self.file).map_err(cannot)?;
        let mode = std::fs::metadata(&self.file).map_err(cannot)?.permissions().mode();
        if mode & 0o077 != 0 {
            tracing::warn!(file = %self.file.display(), "the token file was open to others; it is its owner's only now");
            std::fs::set_permissions(&self.file, Permissions::from_mode(0o600)).map_err(cannot)?;
        }
        let token = text.trim();
        if token.len() < SHORTEST || token.contains(char::is_whitespace) {
            return Err(Error::BadInput(format!(
                "the token file {} holds no token: one word of at least {SHORTEST} characters; remove the file, and the next start makes one",
                self.file.display()
            )));
        }
        let admin = Known { name: ADMIN.into(), scope: Scope::Admin, hash: Sha256::digest(token.as_bytes()).into(), expires_at: None };
        let mut all = vec![admin];
        for row in self.list()? {
            let hash = unhex(&row.sha256).ok_or_else(|| Error::file(&self.named, format!("has no hash of the token {:?}", row.name)))?;
            all.push(Known { name: row.name, scope: row.scope, hash, expires_at: row.expires_at });
        }
        Ok(all)
    }
}

/// A token of 256 random bits.
fn fresh() -> String {
    let mut bytes = [0_u8; 32];
    rand::rng().fill_bytes(&mut bytes);
    format!("mp_{}", URL_SAFE_NO_PAD.encode(bytes))
}

/// Writes a file whole, readable by its owner only.
fn write_secret(path: &Path, text: &str) -> Result<()> {
    let cannot =
        |error: std::io::Error| Error::BadInput(format!("{} cannot be written: {error}; name another with --token-file", path.display()));
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        std::fs::create_dir_all(parent).map_err(cannot)?;
    }
    let mut draft = path.as_os_str().to_owned();
    draft.push(format!(".{}.new", std::process::id()));
    let _ = std::fs::remove_file(&draft);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft).map_err(cannot)?;
    file.write_all(text.as_bytes()).and_then(|()| file.write_all(b"\n")).and_then(|()| file.sync_all()).map_err(cannot)?;
    std::fs::rename(&draft, path).map_err(cannot)
}

/// Bytes in hex.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |text, byte| text + &format!("{byte:02x}"))
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(0..) {
        *byte = u8::from_str_radix(&text[2 * pair..2 * pair + 2], 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_made_rotated_and_revoked_under_a_running_daemon() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("token");
        let (tokens, made) = Tokens::open(&file, directory.path()).unwrap();
        let first = std::fs::read_to_string(&file).unwrap().trim().to_owned();
        assert!(made && std::fs::metadata(&file).unwrap().permissions().mode() & 0o777 == 0o600);
        assert_eq!(tokens.caller(&first).unwrap(), Caller { name: "admin".into(), scope: Scope::Admin });
        for wrong in ["", "x", &first[..first.len() - 1], &format!("{first} ")] {
            assert_eq!(tokens.caller(wrong), None, "{wrong:?}");
        }
        // Another process does it.
        let (other, made) = Tokens::open(&file, directory.path()).unwrap();
        assert!(!made);
        other.rotate().unwrap();
        assert_eq!(tokens.caller(&first), None);
        let scoped = |name: &str, until| NewToken { name: name.into(), scope: Scope::Read, expires_at: until };
        let reader = other.add(scoped("ci", None)).unwrap();
        assert_eq!(tokens.caller(&reader).unwrap().scope, Scope::Read);
        assert!(
            other.add(scoped("ci", None)).is_err() && other.add(scoped("admin", None)).is_err() && other.add(scoped("a b", None)).is_err()
        );
        let expired = other.add(scoped("old", Some(Utc::now()))).unwrap();
        assert_eq!(tokens.caller(&expired), None);
        other.revoke("ci").unwrap();
        assert_eq!(tokens.caller(&reader), None);
        assert!(other.revoke("ci").is_err());
        assert!(!std::fs::read_to_string(directory.path().join("tokens.json")).unwrap().contains(&expired));
    }

    #[test]
    fn a_file_without_a_token_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("token");
        for text in ["", "short", "two words that are long enough"] {
            std::fs::write(&file, text).unwrap();
            assert!(Tokens::open(&file, directory.path()).is_err(), "{text:?}");
        }
    }
}
