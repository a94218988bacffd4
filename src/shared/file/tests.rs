use std::os::unix::fs::PermissionsExt;

use tempfile::TempDir;

use super::*;

const NAME: &str = "orders";

struct Place {
    directory: TempDir,
    store: FileStore,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = FileStore::new(directory.path().join("tokens"));
        Self { directory, store }
    }

    fn path(&self, file: &str) -> PathBuf {
        self.directory.path().join("tokens").join(file)
    }

    async fn put(&self, sealed: &[u8]) -> Version {
        let seen = self.store.load(NAME).await.unwrap().version;
        match self.store.swap(NAME, &seen, sealed).await.unwrap() {
            Swapped::Done(version) => version,
            Swapped::Conflict => panic!("nobody else is here"),
        }
    }

    async fn sealed(&self) -> Option<Vec<u8>> {
        self.store.load(NAME).await.unwrap().sealed
    }

    async fn error(&self) -> String {
        let error = self.store.load(NAME).await.unwrap_err();
        assert!(error.downcast_ref::<FileStoreError>().is_some());
        error.to_string()
    }
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn chmod(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

#[tokio::test]
async fn what_is_stored_is_read_and_only_its_owner_may() {
    let place = Place::new();
    assert_eq!(place.sealed().await, None);
    place.put(b"one").await;
    place.put(b"two").await;
    assert_eq!(place.sealed().await.as_deref(), Some(&b"two"[..]));
    assert_eq!(mode(&place.path("orders.token")), 0o600);
    assert_eq!(mode(&place.path("orders.lock")), 0o600);
    assert_eq!(mode(&place.path("")), 0o700);
    assert!(!place.path("orders.next").exists());
}

#[tokio::test]
async fn a_swap_that_has_seen_another_version_changes_nothing() {
    let place = Place::new();
    let one = place.put(b"one").await;
    let two = place.put(b"two").await;
    for seen in [&one, &Version::NONE] {
        assert_eq!(place.store.swap(NAME, seen, b"x").await.unwrap(), Swapped::Conflict);
    }
    assert_eq!(place.sealed().await.as_deref(), Some(&b"two"[..]));
    std::fs::remove_file(place.path("orders.token")).unwrap();
    assert_eq!(place.store.swap(NAME, &two, b"x").await.unwrap(), Swapped::Conflict);
}

#[tokio::test]
async fn of_many_swaps_at_once_one_succeeds() {
    let place = Place::new();
    place.put(b"one").await;
    let seen = place.store.load(NAME).await.unwrap().version;
    let swaps = (0..8_u8).map(|nth| {
        let (store, seen) = (place.store.clone(), seen.clone());
        tokio::spawn(async move { store.swap(NAME, &seen, &[nth]).await.unwrap() })
    });
    let outcomes = futures_util::future::join_all(swaps.collect::<Vec<_>>()).await;
    let done = outcomes.into_iter().filter(|it| matches!(it, Ok(Swapped::Done(_)))).count();
    assert_eq!(done, 1);
}

#[tokio::test]
async fn what_a_killed_writer_has_left_is_in_nobodys_way() {
    let place = Place::new();
    place.put(b"one").await;
    std::fs::write(place.path("orders.next"), "half a rec").unwrap();
    assert_eq!(place.sealed().await.as_deref(), Some(&b"one"[..]));
    place.put(b"two").await;
    assert_eq!(place.sealed().await.as_deref(), Some(&b"two"[..]));
}

#[tokio::test]
async fn what_others_have_access_to_is_refused_and_left_alone() {
    let place = Place::new();
    place.put(b"one").await;
    for (file, wide) in [("orders.token", 0o640), ("orders.token", 0o602), ("", 0o770)] {
        let (path, before) = (place.path(file), mode(&place.path(file)));
        chmod(&path, wide);
        let error = place.error().await;
        assert!(error.contains(&format!("mode {wide:03o}")) && error.contains("chmod"), "{error}");
        assert_eq!(mode(&path), wide);
        chmod(&path, before);
    }
    chmod(&place.path("orders.lock"), 0o644);
    assert!(place.store.swap(NAME, &Version::NONE, b"x").await.is_err());
    assert_eq!(place.sealed().await.as_deref(), Some(&b"one"[..]));
}

#[tokio::test]
async fn what_belongs_to_another_user_is_refused() {
    let place = Place::new();
    place.put(b"one").await;
    let path = place.path("orders.token");
    // Only root may give files away.
    if std::os::unix::fs::chown(&path, Some(12345), None).is_err() {
        return;
    }
    let error = place.error().await;
    assert!(error.contains("belongs to another user"), "{error}");
}

#[tokio::test]
async fn a_link_a_directory_or_a_pipe_is_no_record() {
    let place = Place::new();
    place.put(b"one").await;
    let path = place.path("orders.token");
    std::fs::rename(&path, place.path("aside")).unwrap();
    std::os::unix::fs::symlink(place.path("aside"), &path).unwrap();
    assert!(place.error().await.contains("not a regular file"));
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    assert!(place.error().await.contains("not a regular file"));
    std::fs::remove_dir(&path).unwrap();
    let pipe = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, &path, pipe, Mode::RUSR | Mode::WUSR, 0).unwrap();
    assert!(place.error().await.contains("not a regular file"));
}

#[tokio::test]
async fn of_a_file_that_is_too_large_no_more_is_read_than_shows_that() {
    let place = Place::new();
    place.put(b"one").await;
    let file = File::options().write(true).open(place.path("orders.token")).unwrap();
    file.set_len(10 << 20).unwrap();
    assert_eq!(place.sealed().await.unwrap().len(), MAX_LEN + 1);
    place.put(b"two").await;
    assert_eq!(place.sealed().await.as_deref(), Some(&b"two"[..]));
}

#[tokio::test]
async fn a_lock_that_is_never_given_back_is_an_error() {
    let place = Place::new();
    place.put(b"one").await;
    let lock = File::open(place.path("orders.lock")).unwrap();
    flock(&lock, FlockOperation::LockExclusive).unwrap();
    let error = place.store.swap(NAME, &Version::NONE, b"x").await.unwrap_err();
    assert!(matches!(error.downcast_ref(), Some(FileStoreError::Locked(_))), "{error}");
    drop(lock);
    place.put(b"two").await;
}

#[test]
fn no_name_leaves_the_directory_and_no_two_names_are_one_file() {
    assert_eq!(file_name("orders_2-a"), "orders_2-a");
    assert_eq!(file_name("../a/b.c"), "%2e%2e%2fa%2fb%2ec");
    assert_ne!(file_name("a%2f"), file_name("a/"));
    assert!(matches!(
        Files::new(Path::new("/"), &"/".repeat(99)),
        Err(FileStoreError::NameTooLong)
    ));
}

#[tokio::test]
async fn the_directory_is_named_when_it_cannot_be_made() {
    let place = Place::new();
    std::fs::write(place.directory.path().join("tokens"), "").unwrap();
    let error = place.error().await;
    assert!(error.contains("tokens"), "{error}");
}
