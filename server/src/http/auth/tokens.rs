//! Tokens: the administrator's token in a file of its own, and named tokens as hashes in `tokens.json`.

use std::fs::{File, OpenOptions, Permissions};
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

/// The name of the administrator's token.
const ADMIN: &str = "admin";
/// The minimum number of characters of an administrator's token, which a person may have written into the file.
const MIN_TOKEN_LENGTH: usize = 16;

/// A named token as it is stored: its hash, never the token itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRow {
    /// The token's name, which is also the caller's name.
    pub name: String,
    /// The token's scope.
    pub scope: Scope,
    /// SHA-256 of the token, in hex.
    pub sha256: String,
    /// When the token was made.
    pub created_at: DateTime<Utc>,
    /// When the token expires; `None` for never.
    pub expires_at: Option<DateTime<Utc>>,
}

/// A named token to be made.
#[derive(Clone, Debug)]
pub struct NewToken {
    /// The token's name.
    pub name: String,
    /// The token's scope.
    pub scope: Scope,
    /// When the token expires; `None` for never.
    pub expires_at: Option<DateTime<Utc>>,
}

/// A token of either file, as a caller's token is compared with it.
#[derive(Clone)]
pub(super) struct StoredToken {
    pub(super) name: String,
    pub(super) scope: Scope,
    /// SHA-256 of the token.
    pub(super) hash: [u8; 32],
    expires_at: Option<DateTime<Utc>>,
}

impl StoredToken {
    /// Returns the caller that the token authenticates.
    fn caller(&self) -> Caller {
        Caller { name: self.name.clone(), scope: self.scope }
    }

    /// Returns true if the token has expired.
    fn expired(&self) -> bool {
        self.expires_at.is_some_and(|until| until <= Utc::now())
    }
}

/// The versions of both files: modification time, size and inode, or `None` for a file that cannot be read.
type FileVersions = [Option<(SystemTime, u64, u64)>; 2];

/// All tokens. The files are read again when they change, so that a change by another process takes effect at once.
pub struct Tokens {
    /// The file with the administrator's token.
    admin_file: PathBuf,
    /// The file with the hashes of the named tokens.
    named_file: PathBuf,
    /// The tokens as they were last read, with the files' versions at that time.
    cache: Mutex<(FileVersions, Vec<StoredToken>)>,
}

impl Tokens {
    /// Makes the administrator's token if its file is missing, and then reads all tokens. Returns the tokens, and true if the token was made.
    ///
    /// # Errors
    /// A file cannot be read or written, or the administrator's token is too short or holds whitespace.
    pub fn open(file: &Path, directory: &Path) -> Result<(Self, bool)> {
        let made = !file.exists();
        if made {
            write_private(file, &random_token())?;
        }
        let tokens = Self { admin_file: file.to_owned(), named_file: directory.join("tokens.json"), cache: Mutex::default() };
        let read = tokens.read()?;
        *tokens.cache.lock().unwrap_or_else(PoisonError::into_inner) = (tokens.file_versions(), read);
        Ok((tokens, made))
    }

    /// Returns the caller of a token. Every stored token is compared, in constant time.
    pub fn caller(&self, token: &str) -> Option<Caller> {
        let hash: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        let mut found = None;
        for stored in self.current() {
            if bool::from(stored.hash.ct_eq(&hash) & Choice::from(u8::from(!stored.expired()))) {
                found = Some(stored.caller());
            }
        }
        found
    }

    /// Returns the token with this name, unless it has expired.
    pub(super) fn find(&self, name: &str) -> Option<StoredToken> {
        self.current().into_iter().find(|stored| stored.name == name && !stored.expired())
    }

    /// Lists the named tokens, without the administrator's.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn list(&self) -> Result<Vec<TokenRow>> {
        match std::fs::read(&self.named_file) {
            Ok(text) => serde_json::from_slice(&text).map_err(|error| Error::file(&self.named_file, format!("cannot be read: {error}"))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(Error::file(&self.named_file, format!("cannot be read: {error}"))),
        }
    }

    /// Makes a named token and returns it. It cannot be read again later, since only its hash is stored.
    ///
    /// # Errors
    /// The name is invalid or in use, or the file cannot be read or written.
    pub fn add(&self, new: NewToken) -> Result<String> {
        let plain = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_');
        if new.name.is_empty() || new.name.len() > 64 || !new.name.bytes().all(plain) {
            return Err(Error::BadInput(format!("{:?} is no name for a token; use 1 to 64 letters, digits, `-` and `_`", new.name)));
        }
        let _lock = self.lock()?;
        let mut rows = self.list()?;
        if new.name == ADMIN || rows.iter().any(|row| row.name == new.name) {
            return Err(Error::BadInput(format!("there is a token {:?} already; revoke it first, or take another name", new.name)));
        }
        let token = random_token();
        let NewToken { name, scope, expires_at } = new;
        rows.push(TokenRow { name, scope, sha256: to_hex(&Sha256::digest(token.as_bytes())), created_at: Utc::now(), expires_at });
        self.write(&rows)?;
        Ok(token)
    }

    /// Removes a named token, which also ends its sessions.
    ///
    /// # Errors
    /// There is no token with this name, or the file cannot be read or written.
    pub fn revoke(&self, name: &str) -> Result<()> {
        let _lock = self.lock()?;
        let mut rows = self.list()?;
        let before = rows.len();
        rows.retain(|row| row.name != name);
        match rows.len() == before {
            true => Err(Error::BadInput(format!("there is no token {name:?}; `milepost token list` shows those that there are"))),
            false => self.write(&rows),
        }
    }

    /// Replaces the administrator's token and returns the path of its file; the old token is refused from now on.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn rotate(&self) -> Result<&Path> {
        let _lock = self.lock()?;
        write_private(&self.admin_file, &random_token())?;
        Ok(&self.admin_file)
    }

    /// Waits until no other process or thread changes the tokens, and keeps them from it until the returned file is dropped.
    fn lock(&self) -> Result<File> {
        let path = self.named_file.with_extension("lock");
        let cannot = |error: std::io::Error| Error::file(&path, format!("cannot be locked: {error}"));
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(cannot)?;
        }
        let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path).map_err(cannot)?;
        file.lock().map_err(cannot)?;
        Ok(file)
    }

    /// Writes the file of the named tokens.
    fn write(&self, rows: &[TokenRow]) -> Result<()> {
        let text = serde_json::to_string_pretty(rows).map_err(|error| Error::file(&self.named_file, error.to_string()))?;
        write_private(&self.named_file, &text)
    }

    /// Returns the tokens that the files hold now, or those of the last successful read if the files cannot be read.
    fn current(&self) -> Vec<StoredToken> {
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        let versions = self.file_versions();
        if versions != cache.0 {
            match self.read() {
                Ok(read) => *cache = (versions, read),
                Err(error) => tracing::error!(%error, "the tokens cannot be read again; the earlier ones stay valid"),
            }
        }
        cache.1.clone()
    }

    /// Returns the current versions of both files.
    fn file_versions(&self) -> FileVersions {
        use std::os::unix::fs::MetadataExt;
        [&self.admin_file, &self.named_file].map(|path| {
            let metadata = std::fs::metadata(path).ok()?;
            Some((metadata.modified().ok()?, metadata.len(), metadata.ino()))
        })
    }

    /// Reads both files. A token file that others may read is made private to its owner first.
    fn read(&self) -> Result<Vec<StoredToken>> {
        let cannot =
            |error: std::io::Error| Error::BadInput(format!("the token file {} cannot be read: {error}", self.admin_file.display()));
        let text = std::fs::read_to_string(&self.admin_file).map_err(cannot)?;
        let mode = std::fs::metadata(&self.admin_file).map_err(cannot)?.permissions().mode();
        if mode & 0o077 != 0 {
            tracing::warn!(file = %self.admin_file.display(), "the token file was open to others; it is its owner's only now");
            std::fs::set_permissions(&self.admin_file, Permissions::from_mode(0o600)).map_err(cannot)?;
        }
        let token = text.trim();
        if token.len() < MIN_TOKEN_LENGTH || token.contains(char::is_whitespace) {
            return Err(Error::BadInput(format!(
                "the token file {} holds no token: one word of at least {MIN_TOKEN_LENGTH} characters; remove the file, and the next start makes one",
                self.admin_file.display()
            )));
        }
        let admin =
            StoredToken { name: ADMIN.into(), scope: Scope::Admin, hash: Sha256::digest(token.as_bytes()).into(), expires_at: None };
        let mut all = vec![admin];
        for row in self.list()? {
            let hash =
                from_hex(&row.sha256).ok_or_else(|| Error::file(&self.named_file, format!("has no hash of the token {:?}", row.name)))?;
            all.push(StoredToken { name: row.name, scope: row.scope, hash, expires_at: row.expires_at });
        }
        Ok(all)
    }
}

/// Returns a new token of 256 random bits.
fn random_token() -> String {
    let mut bytes = [0_u8; 32];
    rand::rng().fill_bytes(&mut bytes);
    format!("mp_{}", URL_SAFE_NO_PAD.encode(bytes))
}

/// Writes a file that only its owner can read. Readers see either the old or the new content, because the file is replaced by a rename.
fn write_private(path: &Path, text: &str) -> Result<()> {
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
    std::fs::rename(&draft, path).map_err(cannot)?;
    // The rename is on the disk only once the directory is.
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(cannot)
}

/// Returns the bytes in hex.
pub(super) fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |text, byte| text + &format!("{byte:02x}"))
}

/// Parses 32 bytes in hex.
fn from_hex(text: &str) -> Option<[u8; 32]> {
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
    fn a_running_daemon_sees_tokens_that_are_made_replaced_and_revoked() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("token");
        let (tokens, made) = Tokens::open(&file, directory.path()).unwrap();
        let first = std::fs::read_to_string(&file).unwrap().trim().to_owned();
        assert!(made && std::fs::metadata(&file).unwrap().permissions().mode() & 0o777 == 0o600);
        assert_eq!(tokens.caller(&first).unwrap(), Caller { name: "admin".into(), scope: Scope::Admin });
        for wrong in ["", "x", &first[..first.len() - 1], &format!("{first} ")] {
            assert_eq!(tokens.caller(wrong), None, "{wrong:?}");
        }
        // Another process changes the files.
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
    fn no_change_is_lost_when_several_processes_change_the_tokens_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("token");
        let open = || Tokens::open(&file, directory.path()).unwrap().0;
        let new = |name: String| NewToken { name, scope: Scope::Run, expires_at: None };
        for n in 0..8 {
            open().add(new(format!("old-{n}"))).unwrap();
        }
        std::thread::scope(|scope| {
            for n in 0..8 {
                scope.spawn(move || open().add(new(format!("new-{n}"))).unwrap());
                scope.spawn(move || open().revoke(&format!("old-{n}")).unwrap());
            }
        });
        let mut names: Vec<String> = open().list().unwrap().into_iter().map(|row| row.name).collect();
        names.sort();
        assert_eq!(names, (0..8).map(|n| format!("new-{n}")).collect::<Vec<_>>());
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
