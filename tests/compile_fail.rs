//! What the compiler tells a user with a body or a service that the layer cannot take.
//!
//! The sentences are ours, so they are looked for by themselves: what else a compiler
//! prints changes from release to release.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

#[test]
fn for_a_body_that_is_not_clone_the_compiler_names_the_method_to_call() {
    let told = told("unclonable");
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

#[test]
fn for_a_service_that_is_not_clone_the_compiler_points_to_where_the_layer_is_put_around_it() {
    let told = told("inner_service");
    for sentence in [
        "`Connection` cannot be the service under a `BearerAuthLayer`, because it is not `Clone`",
        "this service is not `Clone`",
        "`tower::buffer::Buffer::new(service, 64)`",
        "`BoxCloneService`",
        "InnerService",
    ] {
        assert!(told.contains(sentence), "{sentence}\n\nis not in\n\n{told}");
    }
}

/// The page of `BearerAuth` says which sentence to write, and what it means then.
#[test]
fn for_a_client_that_takes_its_own_requests_the_compiler_says_what_the_documentation_says() {
    let told = told("own_requests");
    for sentence in ["`Client: Service<http::Request<", "for `BearerAuth<Client>`"] {
        assert!(told.contains(sentence), "{sentence}\n\nis not in\n\n{told}");
    }
}

/// What the compiler says about one of the fixture's programs.
fn told(program: &str) -> String {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let fixture = FIXTURE.get_or_init(copy_fixture);
    let check = Command::new(env!("CARGO"))
        .args(["check", "--offline", "--quiet", "--color=never", "--bin", program])
        .arg("--manifest-path")
        .arg(fixture.join("Cargo.toml"))
        .env("CARGO_TARGET_DIR", target.join("unclonable-target"))
        .env_remove("RUSTFLAGS")
        .output()
        .expect("cargo runs");
    assert!(!check.status.success(), "it compiles");
    String::from_utf8_lossy(&check.stderr).into_owned()
}

static FIXTURE: OnceLock<PathBuf> = OnceLock::new();

/// The fixture, beside its build: with an absolute path to this crate, and with the versions
/// that this crate was built with, so that nothing has to be fetched.
fn copy_fixture() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (from, to) =
        (root.join("tests/unclonable"), Path::new(env!("CARGO_TARGET_TMPDIR")).join("unclonable"));
    std::fs::create_dir_all(to.join("src/bin")).unwrap();
    let cargo_toml = std::fs::read_to_string(from.join("Cargo.toml")).unwrap();
    let path = root.to_str().expect("a path that a cargo_toml can hold");
    let cargo_toml = cargo_toml.replace("\"../..\"", &format!("{path:?}"));
    std::fs::write(to.join("Cargo.toml"), cargo_toml).unwrap();
    for program in ["main.rs", "bin/inner_service.rs", "bin/own_requests.rs"] {
        let program = Path::new("src").join(program);
        std::fs::copy(from.join(&program), to.join(&program)).unwrap();
    }
    std::fs::copy(root.join("Cargo.lock"), to.join("Cargo.lock")).unwrap();
    to
}
