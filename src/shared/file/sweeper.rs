//! Deletes unused records of keys, of which there may be one per user.

use std::{
    fs::{self, File},
    os::unix::fs::MetadataExt,
    path::Path,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use rustix::fs::{FlockOperation, Mode, OFlags, flock};

use crate::shared::names;

/// The age at which an unwritten key's record is deleted: longer than nearly all tokens live.
const AGE: Duration = Duration::from_secs(30 * 24 * 3600);
/// The pause between two sweeps.
const INTERVAL: Duration = Duration::from_secs(3600);
/// How many files a sweep looks at, and how many it deletes.
const LOOKS: usize = 10_000;
const DELETIONS: usize = 100;

/// When the last sweep began.
#[derive(Debug, Default)]
pub(super) struct Sweeper(Mutex<Option<Instant>>);

impl Sweeper {
    /// Deletes some old records of keys, unless the last sweep was recent. A file that cannot be
    /// deleted stays.
    pub(super) fn sweep(&self, directory: &Path) {
        {
            let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if last.is_some_and(|last| last.elapsed() < INTERVAL) {
                return;
            }
            *last = Some(Instant::now());
        }
        let Ok(entries) = fs::read_dir(directory) else { return };
        let old =
            entries.flatten().take(LOOKS).map(|entry| entry.path()).filter(|path| is_old(path));
        for record in old.take(DELETIONS) {
            delete(&record);
        }
    }
}

fn is_old(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".token"));
    // A slash as it is escaped in a file name.
    name.is_some_and(|name| names::is_of_key(&name.replace("%2f", "/")))
        && fs::symlink_metadata(path).is_ok_and(|it| {
            let age = it.modified().ok().and_then(|it| SystemTime::now().duration_since(it).ok());
            it.is_file() && age.is_some_and(|age| age > AGE)
        })
}

fn delete(record: &Path) {
    let path = record.with_extension("lock");
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NOCTTY | OFlags::CLOEXEC;
    if let Ok(lock) = rustix::fs::open(&path, flags, Mode::empty()).map(File::from) {
        delete_under(lock, &path, record);
    }
}

/// Deletes a record under its lock, and then the lock. A process that has waited for the lock sees
/// that its file is gone, and makes another one.
fn delete_under(lock: File, path: &Path, record: &Path) {
    let is_locked = flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok();
    // Another process may have written it since.
    if is_locked && is_there(&lock, path) && is_old(record) && fs::remove_file(record).is_ok() {
        // The lock is held until it is dropped.
        drop(fs::remove_file(path));
    }
    drop(lock);
}

/// Whether the path still names that file.
pub(super) fn is_there(file: &File, path: &Path) -> bool {
    let of = |it: &fs::Metadata| (it.dev(), it.ino());
    matches!((file.metadata(), fs::symlink_metadata(path)), (Ok(a), Ok(b)) if of(&a) == of(&b))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shared::{FileStore, Swapped, TokenStore, Version};

    fn of_key(nth: u32) -> String {
        format!("orders/key-{nth:032x}")
    }

    async fn put(store: &FileStore, name: &str) {
        let swapped = store.swap(name, &Version::NONE, b"a").await.unwrap();
        assert!(matches!(swapped, Swapped::Done(_)));
    }

    fn age(directory: &Path, name: &str, age: Duration) {
        let path = directory.join(format!("{}.token", name.replace('/', "%2f")));
        File::open(path).unwrap().set_modified(SystemTime::now() - age).unwrap();
    }

    #[tokio::test]
    async fn what_was_written_since_it_was_looked_at_stays() {
        let directory = tempfile::tempdir().unwrap();
        let store = FileStore::new(directory.path());
        put(&store, &of_key(1)).await;
        let name = of_key(1).replace('/', "%2f");
        let record = directory.path().join(format!("{name}.token"));

        delete(&record);
        assert!(record.exists(), "it is new");

        age(directory.path(), &of_key(1), AGE + Duration::from_secs(60));
        let path = record.with_extension("lock");
        let lock = File::open(&path).unwrap();
        fs::remove_file(&path).unwrap();
        File::create(&path).unwrap();
        delete_under(lock, &path, &record);
        assert!(record.exists(), "another process may hold the lock that is there now");

        delete(&record);
        assert!(!record.exists());
    }

    #[tokio::test]
    async fn old_records_of_keys_go_and_all_others_stay() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        let store = FileStore::new(path);
        let precious = format!("orders/{:032x}", 7);
        for name in ["orders", &precious, &of_key(1), &of_key(2)] {
            put(&store, name).await;
        }
        for name in ["orders", &precious, &of_key(1)] {
            age(path, name, AGE + Duration::from_secs(60));
        }
        age(path, &of_key(2), AGE / 2);
        // The first one swept before anything was old. Another process sweeps when it writes for a
        // key.
        let other = FileStore::new(path);
        put(&other, "invoices").await;
        assert!(other.load(&of_key(1)).await.unwrap().sealed.is_some());
        put(&other, &of_key(3)).await;
        assert!(other.load(&of_key(1)).await.unwrap().sealed.is_none());
        for name in ["orders", &precious, &of_key(2), &of_key(3)] {
            assert!(other.load(name).await.unwrap().sealed.is_some(), "{name}");
        }
        assert!(!path.join(format!("orders%2fkey-{:032x}.lock", 1)).exists());
    }

    #[tokio::test]
    async fn what_somebody_has_locked_stays_and_whoever_waits_for_a_deleted_lock_makes_a_new_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        let store = FileStore::new(path);
        put(&store, &of_key(1)).await;
        age(path, &of_key(1), 2 * AGE);
        let lock_path = path.join(format!("orders%2fkey-{:032x}.lock", 1));
        let record = lock_path.with_extension("token");
        let lock = File::open(&lock_path).unwrap();
        flock(&lock, FlockOperation::LockExclusive).unwrap();
        delete(&record);
        assert!(record.exists());
        // Whoever holds the lock deletes it, as a sweep does, while another one waits for it.
        let waits = tokio::spawn(async move {
            let seen = store.load(&of_key(1)).await.unwrap().version;
            store.swap(&of_key(1), &seen, b"b").await.unwrap()
        });
        fs::remove_file(&lock_path).unwrap();
        drop(lock);
        assert!(matches!(waits.await.unwrap(), Swapped::Done(_)));
        assert!(lock_path.exists());
    }
}
