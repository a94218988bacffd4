//! Secrets and tokens in the environment, which a process is born with: each case is a child
//! that runs the test beside it.

use std::{ffi::OsStr, process::Command};

use tower_bearer::{Reason, Secret, TokenRequest, TokenSource, local::StoredToken};

const NAME: &str = "TOWER_BEARER_TEST_TOKEN";

/// What the child below says of the variable.
fn report(value: &OsStr) -> String {
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["the_child", "--exact", "--ignored", "--nocapture"])
        .env(NAME, value)
        .output()
        .unwrap();
    assert!(child.status.success(), "{child:?}");
    String::from_utf8(child.stdout).unwrap()
}

#[tokio::test]
#[ignore = "it is run by the others, as a child"]
async fn the_child() {
    match Secret::env(NAME).read().await {
        Ok(secret) => println!("secret={}.", *secret),
        Err(error) => println!("secret: {error}, {error:?}."),
    }
    match StoredToken::env(NAME).fetch(TokenRequest::new(Reason::First)).await {
        Ok(token) => println!("token={}.", token.secret()),
        Err(error) => println!("token: {error}, {error:?}."),
    }
}

#[test]
fn a_secret_is_taken_as_it_is_and_a_token_without_its_scheme() {
    for (value, token) in [("hush", "hush"), ("Bearer hush", "hush"), (" bearer  hush ", "hush")] {
        let report = report(value.as_ref());
        assert!(report.contains(&format!("secret={value}.")), "{report}");
        assert!(report.contains(&format!("token={token}.")), "{report}");
    }
}

#[test]
fn an_empty_variable_is_an_error_that_names_it() {
    let report = report("".as_ref());
    assert!(report.contains(&format!("secret: the environment variable {NAME:?} is empty")));
    assert!(report.contains(&format!("token: the environment variable {NAME:?} is empty")));
}

#[test]
fn a_variable_that_is_no_token_is_named_and_not_shown() {
    let report = report("hush quiet".as_ref());
    let (_, token) = report.split_once("token: ").unwrap();
    assert!(token.contains(NAME) && token.contains("a space at byte 4"), "{token}");
    assert!(!token.contains("hush") && !token.contains("quiet"), "{token}");
}

#[cfg(unix)]
#[test]
fn a_variable_that_is_not_utf_8_is_named_and_not_shown() {
    use std::os::unix::ffi::OsStrExt;

    let report = report(OsStr::from_bytes(b"hush\xff"));
    assert_eq!(report.matches("is not UTF-8 text").count(), 2, "{report}");
    assert!(!report.contains("hush"), "{report}");
}
