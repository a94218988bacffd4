//! Reads a small file whole, whatever kind of file it is and whatever writes to it.

use std::{
    fs::File,
    io::{self, Read, Seek},
    path::{Path, PathBuf},
    time::SystemTime,
};

use tokio::runtime::Handle;
use zeroize::Zeroizing;

use super::error::{MAX_LEN, SecretErrorKind};

/// How often to read a file that changes during the read.
const MAX_READS: usize = 3;

/// Reads a file without blocking the runtime's worker.
pub(super) async fn read(path: PathBuf) -> Result<Zeroizing<Vec<u8>>, SecretErrorKind> {
    match Handle::try_current() {
        Ok(runtime) => runtime
            .spawn_blocking(move || read_now(&path))
            .await
            // The runtime is shutting down.
            .unwrap_or_else(|lost| Err(io::Error::other(lost).into())),
        Err(_) => read_now(&path),
    }
}

fn read_now(path: &Path) -> Result<Zeroizing<Vec<u8>>, SecretErrorKind> {
    let file = open(path)?;
    if !file.metadata()?.is_file() {
        return Err(SecretErrorKind::NotAFile);
    }
    settled(|| mark(&file), || whole(&file))
}

/// Opening a pipe would wait for its writer, which may never come.
#[cfg(unix)]
fn open(path: &Path) -> io::Result<File> {
    use rustix::fs::{Mode, OFlags, open};

    let flags = [OFlags::RDONLY, OFlags::NONBLOCK, OFlags::NOCTTY, OFlags::CLOEXEC];
    let flags = OFlags::from_iter(flags);
    Ok(open(path, flags, Mode::empty())?.into())
}

#[cfg(not(unix))]
fn open(path: &Path) -> io::Result<File> {
    File::open(path)
}

/// Reads until the file has not changed meanwhile: a file that is rewritten in place could
/// otherwise be read half-written.
fn settled<M: PartialEq, T>(
    mark: impl Fn() -> io::Result<M>,
    mut read: impl FnMut() -> Result<T, SecretErrorKind>,
) -> Result<T, SecretErrorKind> {
    for _ in 0..MAX_READS {
        let before = mark()?;
        let found = read()?;
        if mark()? == before {
            return Ok(found);
        }
    }
    Err(SecretErrorKind::Changing)
}

fn mark(file: &File) -> io::Result<(u64, SystemTime)> {
    let metadata = file.metadata()?;
    Ok((metadata.len(), metadata.modified()?))
}

fn whole(mut file: &File) -> Result<Zeroizing<Vec<u8>>, SecretErrorKind> {
    // Room for the longest secret: a vector that grew would leave copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_LEN + 1));
    file.rewind()?;
    file.take((MAX_LEN as u64).saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() > MAX_LEN { Err(SecretErrorKind::TooLong) } else { Ok(bytes) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    /// Reads something that changes under the first `changes` reads.
    fn read_under(changes: usize) -> (Result<usize, SecretErrorKind>, usize) {
        let (version, reads) = (Cell::new(0), Cell::new(0));
        let found = settled(
            || Ok(version.get()),
            || {
                reads.set(reads.get() + 1);
                version.set(reads.get().min(changes));
                Ok(reads.get())
            },
        );
        (found, reads.get())
    }

    #[cfg(unix)]
    #[test]
    fn no_child_process_inherits_the_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let opened = open(file.path()).unwrap();
        let flags = rustix::io::fcntl_getfd(&opened).unwrap();
        assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
    }

    #[test]
    fn what_changes_while_it_is_read_is_read_again() {
        assert!(matches!(read_under(0), (Ok(1), 1)));
        assert!(matches!(read_under(1), (Ok(2), 2)));
        assert!(matches!(read_under(2), (Ok(3), 3)));
    }

    #[test]
    fn what_never_settles_is_given_up() {
        assert!(matches!(read_under(usize::MAX), (Err(SecretErrorKind::Changing), MAX_READS)));
    }

    #[test]
    fn of_a_large_file_no_more_is_read_than_a_secret_may_have() {
        let mut file = tempfile::tempfile().unwrap();
        file.set_len(10 * 1024 * 1024).unwrap();
        assert!(matches!(whole(&file), Err(SecretErrorKind::TooLong)));
        assert_eq!(file.stream_position().unwrap(), MAX_LEN as u64 + 1);
    }

    #[test]
    fn a_file_that_is_rewritten_while_it_is_read_is_seen_as_it_ends_up() {
        let path = tempfile::NamedTempFile::new().unwrap().into_temp_path();
        std::fs::write(&path, "old").unwrap();
        let file = open(&path).unwrap();
        let rewritten = Cell::new(false);
        let found = settled(
            || mark(&file),
            || {
                let found = whole(&file)?;
                if !rewritten.replace(true) {
                    std::fs::write(&path, "newer").unwrap();
                }
                Ok(found)
            },
        );
        assert_eq!(**found.unwrap(), *b"newer");
    }

    #[test]
    fn a_file_that_is_rewritten_with_the_same_length_while_it_is_read_is_read_again() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "old").unwrap();
        // So that the time of the next write differs, however coarse the clock is.
        file.as_file().set_modified(SystemTime::UNIX_EPOCH).unwrap();
        let rewritten = Cell::new(false);
        let found = settled(
            || mark(file.as_file()),
            || {
                let found = whole(file.as_file())?;
                if !rewritten.replace(true) {
                    std::fs::write(file.path(), "new").unwrap();
                }
                Ok(found)
            },
        );
        assert_eq!(**found.unwrap(), *b"new");
    }

    #[test]
    fn a_file_that_is_replaced_while_it_is_read_is_seen_whole() {
        let dir = tempfile::TempDir::new().unwrap();
        let (path, next) = (dir.path().join("secret"), dir.path().join("next"));
        std::fs::write(&path, "old").unwrap();
        std::fs::write(&next, "newer").unwrap();
        let file = open(&path).unwrap();
        std::fs::rename(&next, &path).unwrap();
        assert_eq!(**settled(|| mark(&file), || whole(&file)).unwrap(), *b"old");
        assert_eq!(**read_now(&path).unwrap(), *b"newer");
    }
}
