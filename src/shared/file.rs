//! A store in a directory, for the processes of one host.

mod sweeper;

use std::{
    fs::File,
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::{Duration, Instant, SystemTime},
};

use rustix::{
    fs::{FlockOperation, Mode, OFlags, flock},
    io::Errno,
};
use sha2::{Digest, Sha256};

use self::sweeper::{Sweeper, is_there};
use super::{
    names,
    record::MAX_LEN,
    store::{Loaded, StoreError, Swapped, TokenStore, Version},
};

/// How long to wait for a lock. Another process holds it for one write.
const LOCK_WAIT: Duration = Duration::from_secs(2);
const LOCK_POLL: Duration = Duration::from_millis(5);
/// The longest file name that every file system accepts, less the suffixes added to it.
const MAX_NAME: usize = 200;
/// The permissions that others may have on a file of this store: none.
const OTHERS: u32 = 0o077;
/// The permissions that others must not have on the directory: to replace a file in it.
const OTHERS_WRITE: u32 = 0o022;

/// A store in a directory, for processes of one host and one user: services, command-line programs
/// that run side by side, or one program that needs its refresh token after a restart.
///
/// Each record has two files, `NAME.token` and `NAME.lock`, which only their owner can read and
/// write (0600). The store holds the lock (`flock`), writes the new record beside the old one,
/// syncs it to disk, and renames it. A process that is killed at any moment leaves the old record
/// or the new one, and no lock.
///
/// The store creates the directory (0700) if it is missing. It fails on a directory that others may
/// write to, and on a file that belongs to another user or that others may read. It does not change
/// their permissions.
///
/// Use a local file system. A file system without locks is an error. On a network file system locks
/// may work, but each host has its own clock: use a store with a clock of its own.
///
/// It needs a tokio runtime: it reads and writes files on the blocking pool.
///
/// A key's record (that of a user, for instance) is deleted if no process has written it for 30
/// days. The store does this when it writes another key's record: at most 100 at a time, once an
/// hour. All other records stay.
#[derive(Clone, Debug)]
pub struct FileStore {
    directory: PathBuf,
    sweeper: Arc<Sweeper>,
}

/// An error of a [`FileStore`]. It is the cause of a [`StoreError`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileStoreError {
    /// A file or directory belongs to another user.
    #[error("{0:?} belongs to another user: use a directory that this process's user owns")]
    NotOurs(PathBuf),
    /// Other users may read a file, or write to the directory.
    #[error("other users have access to {0:?} (mode {1:03o}): revoke it (`chmod go= …`)")]
    TooOpen(PathBuf, u32),
    /// The path is not a regular file.
    #[error("{0:?} is not a regular file")]
    NotAFile(PathBuf),
    /// The record's name is too long for a file name.
    #[error("the record's name is too long for a file name: use a shorter one")]
    NameTooLong,
    /// The file system does not support locks.
    #[error("the file system of {0:?} does not support locks: use a local one")]
    NoLocks(PathBuf),
    /// Another process has held the lock for too long.
    #[error("another process has held the lock {0:?} for more than 2 s")]
    Locked(PathBuf),
    /// An I/O error.
    #[error("{0:?}: {1}")]
    Io(PathBuf, #[source] io::Error),
}

type Result<T> = std::result::Result<T, FileStoreError>;

/// The files of one record.
struct Files {
    directory: PathBuf,
    record: PathBuf,
    lock: PathBuf,
    next: PathBuf,
}

// ===== impl FileStore =====

impl FileStore {
    /// Makes a store in that directory. It does not touch the directory before its first use.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into(), sweeper: Arc::default() }
    }

    /// Runs `work` with the files of a record, on the blocking pool.
    async fn blocking<T: Send + 'static>(
        &self,
        name: &str,
        work: impl FnOnce(&Files) -> Result<T> + Send + 'static,
    ) -> std::result::Result<T, StoreError> {
        let files = Files::new(&self.directory, name).map_err(StoreError::new)?;
        tokio::task::spawn_blocking(move || work(&files))
            .await
            // The runtime is shutting down.
            .map_err(StoreError::new)?
            .map_err(StoreError::new)
    }
}

impl TokenStore for FileStore {
    async fn load(&self, name: &str) -> std::result::Result<Loaded, StoreError> {
        self.blocking(name, |files| {
            files.check_directory()?;
            let sealed = files.read()?;
            let now = SystemTime::now();
            Ok(match sealed {
                Some(sealed) => {
                    let version = version(&sealed);
                    Loaded::record(sealed, version, now)
                }
                None => Loaded::nothing(now),
            })
        })
        .await
    }

    async fn swap(
        &self,
        name: &str,
        seen: &Version,
        sealed: &[u8],
    ) -> std::result::Result<Swapped, StoreError> {
        let (seen, sealed) = (seen.clone(), sealed.to_vec());
        let sweeper = names::is_of_key(name).then(|| Arc::clone(&self.sweeper));
        self.blocking(name, move |files| {
            files.check_directory()?;
            // Released when it is dropped, or when the process ends.
            let _lock = files.lock()?;
            let current = files.read()?.map_or(Version::NONE, |sealed| version(&sealed));
            if current != seen {
                return Ok(Swapped::Conflict);
            }
            files.write(&sealed)?;
            if let Some(sweeper) = sweeper {
                sweeper.sweep(&files.directory);
            }
            Ok(Swapped::Done(version(&sealed)))
        })
        .await
    }

    /// Yes: a file that is gone was deleted on purpose.
    fn is_durable(&self) -> bool {
        true
    }
}

/// No two records are equal, as each seal has a nonce of its own.
fn version(sealed: &[u8]) -> Version {
    Version::new(Sha256::digest(sealed))
}

// ===== impl Files =====

impl Files {
    fn new(directory: &Path, name: &str) -> Result<Self> {
        let name = file_name(name);
        if name.len() > MAX_NAME {
            return Err(FileStoreError::NameTooLong);
        }
        let file = |ending: &str| directory.join(format!("{name}.{ending}"));
        Ok(Self {
            record: file("token"),
            lock: file("lock"),
            next: file("next"),
            directory: directory.to_owned(),
        })
    }

    /// Creates the directory if it is missing.
    fn check_directory(&self) -> Result<()> {
        let failed = |error| FileStoreError::Io(self.directory.clone(), error);
        let mut builder = std::fs::DirBuilder::new();
        builder.recursive(true).mode(0o700).create(&self.directory).map_err(failed)?;
        let metadata = std::fs::metadata(&self.directory).map_err(failed)?;
        check(&self.directory, &metadata, OTHERS_WRITE)
    }

    /// Reads the record. It reads no more of a file than shows that it is too large.
    fn read(&self) -> Result<Option<Vec<u8>>> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = match open(&self.record, flags) {
            Ok(file) => file,
            Err(FileStoreError::Io(_, error)) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let mut sealed = Vec::new();
        let read = file.take((MAX_LEN as u64).saturating_add(1)).read_to_end(&mut sealed);
        read.map_err(|error| FileStoreError::Io(self.record.clone(), error))?;
        Ok(Some(sealed))
    }

    /// Takes the lock. The wait is bounded, as the holder may be suspended.
    fn lock(&self) -> Result<File> {
        let began = Instant::now();
        loop {
            let file = open(&self.lock, OFlags::RDWR | OFlags::CREATE | OFlags::NOCTTY)?;
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) if is_there(&file, &self.lock) => return Ok(file),
                // Another process has deleted the lock file meanwhile: lock the new one.
                Ok(()) => {}
                Err(Errno::WOULDBLOCK | Errno::INTR) if began.elapsed() < LOCK_WAIT => {
                    thread::sleep(LOCK_POLL);
                }
                Err(Errno::WOULDBLOCK | Errno::INTR) => {
                    return Err(FileStoreError::Locked(self.lock.clone()));
                }
                Err(Errno::NOLCK | Errno::OPNOTSUPP | Errno::NOSYS) => {
                    return Err(FileStoreError::NoLocks(self.lock.clone()));
                }
                Err(error) => return Err(FileStoreError::Io(self.lock.clone(), error.into())),
            }
        }
    }

    /// Replaces the record atomically, for readers and on disk.
    fn write(&self, sealed: &[u8]) -> Result<()> {
        let failed = |error| FileStoreError::Io(self.next.clone(), error);
        // A killed process may have left this file. The lock makes it safe to delete.
        match std::fs::remove_file(&self.next) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOCTTY;
        let mut next = open(&self.next, flags)?;
        next.write_all(sealed).and_then(|()| next.sync_all()).map_err(failed)?;
        std::fs::rename(&self.next, &self.record).map_err(failed)?;
        File::open(&self.directory).and_then(|directory| directory.sync_all()).map_err(failed)
    }
}

/// Opens a file that must be private to this user. It does not follow a symbolic link.
fn open(path: &Path, flags: OFlags) -> Result<File> {
    let failed = |error: io::Error| FileStoreError::Io(path.to_owned(), error);
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file: File = match rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR) {
        Ok(file) => file.into(),
        Err(Errno::LOOP | Errno::ISDIR) => return Err(FileStoreError::NotAFile(path.to_owned())),
        Err(error) => return Err(failed(error.into())),
    };
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(FileStoreError::NotAFile(path.to_owned()));
    }
    check(path, &metadata, OTHERS)?;
    Ok(file)
}

fn check(path: &Path, metadata: &std::fs::Metadata, forbidden: u32) -> Result<()> {
    if metadata.uid() != rustix::process::geteuid().as_raw() {
        return Err(FileStoreError::NotOurs(path.to_owned()));
    }
    let mode = metadata.mode() & 0o777;
    if mode & forbidden != 0 {
        return Err(FileStoreError::TooOpen(path.to_owned(), mode));
    }
    Ok(())
}

/// Escapes all characters of a name that a file system may interpret.
fn file_name(name: &str) -> String {
    use std::fmt::Write;

    name.bytes().fold(String::new(), |mut file_name, byte| {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_') {
            file_name.push(char::from(byte));
        } else {
            // Writing to a string never fails.
            let _ = write!(file_name, "%{byte:02x}");
        }
        file_name
    })
}

#[cfg(test)]
mod tests;
