//! What a user with a body that is not `Clone` is told by the compiler.
//!
//! The sentences are ours, so they are looked for by themselves: what else a compiler
//! prints changes from release to release.

use std::{path::Path, process::Command};

#[test]
fn a_body_that_is_not_clone_is_told_which_method_to_call() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let target = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let fixture = target.join("unclonable");
    copy_fixture(root, &fixture);

    let check = Command::new(env!("CARGO"))
        .args(["check", "--offline", "--quiet", "--color=never", "--manifest-path"])
        .arg(fixture.join("Cargo.toml"))
        .env("CARGO_TARGET_DIR", target.join("unclonable-target"))
        .env_remove("RUSTFLAGS")
        .output()
        .expect("cargo runs");
    let told = String::from_utf8_lossy(&check.stderr);
    assert!(!check.status.success(), "it compiles");
    for sentence in [
        "cannot keep a body of type `Upload` to send it again after a 401",
        "`.buffer_body(limit, wrap)`",
        "`.buffer_body(64 * 1024, axum::body::Body::new)`",
        "`.no_replay()`",
    ] {
        assert!(told.contains(sentence), "{sentence}\n\nis not in\n\n{told}");
    }
    assert!(!told.contains("`Upload: Clone`"), "a detour:\n\n{told}");
}

/// The fixture, beside its build: with an absolute path to this crate, and with the versions
/// that this crate was built with, so that nothing has to be fetched.
fn copy_fixture(root: &Path, to: &Path) {
    let from = root.join("tests/unclonable");
    std::fs::create_dir_all(to.join("src")).unwrap();
    let cargo_toml = std::fs::read_to_string(from.join("Cargo.toml")).unwrap();
    let path = root.to_str().expect("a path that a cargo_toml can hold");
    let cargo_toml = cargo_toml.replace("\"../..\"", &format!("{path:?}"));
    std::fs::write(to.join("Cargo.toml"), cargo_toml).unwrap();
    std::fs::copy(from.join("src/main.rs"), to.join("src/main.rs")).unwrap();
    std::fs::copy(root.join("Cargo.lock"), to.join("Cargo.lock")).unwrap();
}
