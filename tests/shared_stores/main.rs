//! All stores pass one list of checks; and what is Redis's alone.
#![allow(missing_docs)]

mod list;
mod redis;
mod server;

use self::list::Backend;
use tower_bearer::shared::MemoryStore;

struct Memory(MemoryStore);

impl Backend for Memory {
    type Store = MemoryStore;

    fn store(&self) -> MemoryStore {
        self.0.clone()
    }

    async fn put(&self, name: &str, bytes: Vec<u8>) {
        self.0.put(name, bytes);
    }

    async fn forget(&self) {
        self.0.clear();
    }
}

#[tokio::test(start_paused = true)]
async fn the_store_in_memory_passes_the_list() {
    list::run(&Memory(MemoryStore::new())).await.unwrap();
}

#[cfg(unix)]
mod files {
    use std::{io::Write, os::unix::fs::OpenOptionsExt};

    use tower_bearer::shared::FileStore;

    use super::{Backend, list};

    struct Files(tempfile::TempDir);

    impl Backend for Files {
        type Store = FileStore;

        fn store(&self) -> FileStore {
            FileStore::new(self.0.path())
        }

        async fn put(&self, name: &str, bytes: Vec<u8>) {
            let path = self.0.path().join(format!("{name}.token"));
            // No name of the list's garbage needs to be spelled otherwise.
            let mut file = std::fs::OpenOptions::new();
            let file = file.create(true).write(true).truncate(true).mode(0o600).open(path);
            file.unwrap().write_all(&bytes).unwrap();
        }

        async fn forget(&self) {
            for entry in std::fs::read_dir(self.0.path()).unwrap() {
                let path = entry.unwrap().path();
                if path.extension().is_some_and(|it| it == "token") {
                    std::fs::remove_file(path).unwrap();
                }
            }
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_store_in_files_passes_the_list() {
        list::run(&Files(tempfile::tempdir().unwrap())).await.unwrap();
    }
}
