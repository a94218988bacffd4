use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use futures_util::FutureExt;
use tempfile::TempDir;

use super::*;

/// What reading the secret reports, with its `Debug` text. No part of it may be the secret.
async fn complaint(secret: &Secret) -> (SecretErrorKind, String) {
    let error = secret.read().await.unwrap_err();
    (error.kind().clone(), format!("{error} {error:?} {secret:?}"))
}

fn file_with(contents: &[u8]) -> (TempDir, PathBuf) {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("secret");
    fs::write(&path, contents).unwrap();
    (dir, path)
}

#[tokio::test]
async fn a_fixed_secret_is_returned_as_it_is_and_never_shown() {
    for secret in [Secret::new(" hush "), " hush ".into(), " hush ".to_owned().into()] {
        assert_eq!(*secret.clone().read().await.unwrap(), " hush ");
        assert_eq!(format!("{secret:?}"), "Secret([redacted])");
    }
}

#[tokio::test]
async fn an_empty_secret_is_an_error_wherever_it_is_kept() {
    let (_dir, path) = file_with(b" \r\n\t");
    for secret in [Secret::new(""), Secret::file(path), Secret::from_fn(async || Ok(String::new()))]
    {
        assert!(matches!(complaint(&secret).await, (SecretErrorKind::Empty, _)), "{secret:?}");
    }
    assert_eq!(*variable(Some("x".into())).unwrap(), "x");
    assert!(matches!(variable(Some("".into())).and_then(checked), Err(SecretErrorKind::Empty)));
}

#[tokio::test]
async fn a_secret_of_64_kib_is_taken_and_one_byte_more_is_not() {
    let (longest, more) = ("x".repeat(64 * 1024), "x".repeat(64 * 1024 + 1));
    let (_dir, path) = file_with(longest.as_bytes());
    for secret in [Secret::new(longest.as_str()), Secret::file(&path)] {
        assert_eq!(*secret.read().await.unwrap(), longest);
    }
    fs::write(&path, &more).unwrap();
    for secret in [Secret::new(more), Secret::file(path)] {
        let (kind, shown) = complaint(&secret).await;
        assert!(matches!(kind, SecretErrorKind::TooLong));
        assert!(shown.contains("more than 64 KiB") && !shown.contains("xx"), "{shown}");
    }
}

#[tokio::test]
async fn a_variable_that_is_not_set_is_named() {
    let (kind, shown) = complaint(&Secret::env("TOWER_BEARER_NEVER_SET")).await;
    assert!(matches!(kind, SecretErrorKind::NotSet));
    assert!(
        shown.starts_with(r#"the environment variable "TOWER_BEARER_NEVER_SET" is not set"#),
        "{shown}"
    );
}

#[tokio::test]
async fn a_name_that_no_variable_can_have_is_an_error_and_no_panic() {
    for name in ["", "=", "A=B", "A\0B"] {
        let (kind, _) = complaint(&Secret::env(name)).await;
        assert!(matches!(kind, SecretErrorKind::NotSet), "{name:?}");
    }
}

#[cfg(unix)]
#[test]
fn a_variable_that_is_not_utf_8_is_not_shown() {
    use std::os::unix::ffi::OsStringExt;

    let error = variable(Some(OsString::from_vec(b"hush\xff".to_vec()))).unwrap_err();
    assert!(matches!(error, SecretErrorKind::NotText));
    assert!(!format!("{error} {error:?}").contains("hush"));
}

#[tokio::test]
async fn a_file_is_read_each_time_without_the_white_space_around_it() {
    let (_dir, path) = file_with(b"\xef\xbb\xbf one \r\n");
    let secret = Secret::file(&path);
    assert_eq!(*secret.read().await.unwrap(), "one");
    fs::write(&path, "two\n").unwrap();
    assert_eq!(*secret.read().await.unwrap(), "two");
}

#[tokio::test]
async fn what_is_no_file_with_text_is_named_and_not_shown() {
    let (dir, path) = file_with(b"hush\xff");
    let (kind, shown) = complaint(&Secret::file(&path)).await;
    assert!(matches!(kind, SecretErrorKind::NotText));
    assert!(shown.contains("secret\" is not UTF-8") && !shown.contains("hush"), "{shown}");

    let (kind, shown) = complaint(&Secret::file(dir.path().join("absent"))).await;
    assert!(matches!(kind, SecretErrorKind::NotFound));
    assert!(shown.contains("absent\" does not exist"), "{shown}");
}

#[cfg(unix)]
#[tokio::test]
async fn a_directory_a_device_and_a_path_below_a_file_are_no_files() {
    let (dir, path) = file_with(b"hush");
    for no_file in [dir.path(), std::path::Path::new("/dev/zero")] {
        let (kind, _) = complaint(&Secret::file(no_file)).await;
        assert!(matches!(kind, SecretErrorKind::NotAFile), "{kind}");
    }
    let (kind, _) = complaint(&Secret::file(path.join("below"))).await;
    assert!(matches!(kind, SecretErrorKind::Io(_)), "{kind}");
}

#[cfg(unix)]
#[test]
fn a_pipe_that_nobody_writes_to_does_not_hang_the_reader() {
    let dir = TempDir::new().unwrap();
    let pipe = dir.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let (done, wait) = std::sync::mpsc::channel();
    // A thread, because it does not keep the test from ending if the reader hangs.
    std::thread::spawn(move || {
        let read = Secret::file(pipe).read().now_or_never();
        done.send(read.expect("without a runtime it is read at once")).unwrap();
    });
    let read = wait.recv_timeout(std::time::Duration::from_secs(30)).expect("the reader hangs");
    assert!(matches!(read.unwrap_err().kind(), SecretErrorKind::NotAFile));
}

#[test]
fn a_file_is_read_on_the_blocking_pool_and_not_on_the_worker() {
    let runtime =
        tokio::runtime::Builder::new_current_thread().max_blocking_threads(1).build().unwrap();
    let (_dir, path) = file_with(b"hush");
    runtime.block_on(async {
        let (release, wait) = std::sync::mpsc::channel::<()>();
        let held_up = tokio::task::spawn_blocking(move || wait.recv());

        let secret = Secret::file(path);
        let mut read = std::pin::pin!(secret.read());
        assert!(futures_util::poll!(&mut read).is_pending());
        release.send(()).unwrap();
        assert_eq!(*read.await.unwrap(), "hush");
        held_up.await.unwrap().unwrap();
    });
}

#[tokio::test]
async fn a_function_is_called_each_time_and_its_error_is_shown() {
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let secret = Secret::from_fn(move || {
        let call = counted.fetch_add(1, Ordering::Relaxed);
        async move { if call == 0 { Err("it is sealed".into()) } else { Ok(format!("v{call}")) } }
    });
    let error = secret.read().await.unwrap_err();
    assert_eq!(error.to_string(), "the function that reads the secret failed: it is sealed");
    assert!(error.is_transient());
    assert_eq!(*secret.read().await.unwrap(), "v1");
    assert_eq!(*secret.clone().read().await.unwrap(), "v2");
}

#[test]
fn only_what_may_pass_by_itself_is_transient() {
    let transient = |kind: SecretErrorKind| SecretError::new("x".to_owned(), kind).is_transient();
    let io = |kind: std::io::ErrorKind| SecretErrorKind::from(std::io::Error::from(kind));
    assert!(transient(SecretErrorKind::Changing));
    assert!(transient(io(std::io::ErrorKind::Other)));
    assert!(!transient(io(std::io::ErrorKind::NotFound)));
    assert!(!transient(io(std::io::ErrorKind::PermissionDenied)));
    assert!(!transient(SecretErrorKind::NotSet));
    assert!(!transient(SecretErrorKind::Empty));
}

#[cfg(any(feature = "oauth2", feature = "command"))]
#[tokio::test]
async fn the_key_file_of_ibm_cloud_gives_its_apikey() {
    let (_dir, path) =
        file_with(br#"{ "id": "ApiKey-1", "name": "mine", "apikey": " hush\n", "locked": false }"#);
    assert_eq!(*Secret::json_file(&path, "apikey").read().await.unwrap(), "hush");

    for member in ["key", "locked"] {
        let (kind, shown) = complaint(&Secret::json_file(&path, member)).await;
        assert!(matches!(kind, SecretErrorKind::NoMember));
        assert!(shown.contains(member) && !shown.contains("hush"), "{shown}");
    }
    for no_object in ["[\"hush\"]", "hush", "{\"apikey\":\"hush\"", ""] {
        fs::write(&path, no_object).unwrap();
        let (kind, shown) = complaint(&Secret::json_file(&path, "apikey")).await;
        assert!(matches!(kind, SecretErrorKind::NotJson));
        assert!(!shown.contains("hush"), "{shown}");
    }
}
