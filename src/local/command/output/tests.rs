use super::*;

use OutputFormat::{Bare, Detected, ExecCredential as Exec, Json, Labelled};

fn token(format: OutputFormat, printed: &str) -> String {
    format.token(printed.as_bytes()).unwrap().secret().to_owned()
}

/// Seconds since 1970, if there is an expiry.
fn expiry(printed: &str) -> Option<f64> {
    let expiry = Detected.token(printed.as_bytes()).unwrap().expiry()?;
    Some(expiry.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs_f64())
}

#[test]
fn each_format_is_detected_and_can_be_set() {
    for (format, printed) in [
        (Bare, "ya29.hush\n"),
        (Bare, "Bearer ya29.hush\r\n"),
        (Labelled, "IAM token:  Bearer ya29.hush\n"),
        (Json, r#"{"iam_token":"Bearer ya29.hush"}"#),
        (Json, r#"{"accessToken":"ya29.hush","tokenType":"Bearer"}"#),
        (Json, r#"{"access_token":"ya29.hush","token":"other"}"#),
        (Json, "\u{feff}{\"token\":\"ya29.hush\"}"),
        (Exec, r#"{"kind":"ExecCredential","status":{"token":"ya29.hush"}}"#),
    ] {
        assert_eq!(token(Detected, printed), "ya29.hush", "{printed}");
        assert_eq!(token(format, printed), "ya29.hush", "{printed}");
    }
}

#[test]
fn ibmcloud_prints_one_space_or_two_and_other_labels_too() {
    for printed in [
        "IAM token: Bearer hush",
        "IAM token:  Bearer hush\nUAA token:  Bearer other\n",
        "UAA token:  Bearer other\r\nIAM token:  Bearer hush\r\n",
        "Refresh token: other\nIAM token:  Bearer hush\n",
        "Token do IAM:  Bearer hush\n",
        "token:  Bearer hush\n",
        "IAM token: Bearer hush UAA token: Bearer other",
    ] {
        assert_eq!(token(Detected, printed), "hush", "{printed}");
    }
}

#[test]
fn of_two_labels_of_which_none_is_iams_no_one_is_guessed() {
    let printed = "UAA token:  Bearer one\nother token:  Bearer two\n";
    assert!(Labelled.token(printed.as_bytes()).is_err());
    assert!(Detected.token(printed.as_bytes()).is_err());
}

#[test]
fn the_seconds_of_az_win_over_its_local_time_without_a_zone() {
    let az = |expires_on: &str| {
        format!(
            r#"{{ "accessToken": "hush", "expiresOn": "2023-10-31 21:59:10.000000", {expires_on}
                 "subscription": "s", "tenant": "t", "tokenType": "Bearer" }}"#
        )
    };
    assert_eq!(expiry(&az(r#""expires_on": 1698760750,"#)), Some(1_698_760_750.0));
    assert_eq!(expiry(&az(r#""expires_on": "1698760750","#)), Some(1_698_760_750.0));
    assert_eq!(expiry(&az(r#""expires_on": null,"#)), None);
    assert_eq!(expiry(&az("")), None);
}

#[test]
fn a_date_with_a_zone_is_an_expiry() {
    let at = |date: &str| {
        expiry(&format!(
            r#"{{ "apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential",
                 "spec": {{"interactive": false}},
                 "status": {{ "token": "hush", "expirationTimestamp": "{date}" }} }}"#
        ))
    };
    assert_eq!(at("2018-03-05T17:30:20-08:00"), Some(1_520_299_820.0));
    assert_eq!(at("2018-03-06T01:30:20.9Z"), Some(1_520_299_820.0));
    assert_eq!(at("0001-01-01T00:00:00Z"), None);
    assert_eq!(at("soon"), None);
    let azd = r#"{"token":"hush","expiresOn":"2018-03-06T01:30:20Z"}"#;
    assert_eq!(expiry(azd), Some(1_520_299_820.0));
}

#[test]
fn an_expiry_that_cannot_be_a_time_is_ignored() {
    for expires_on in ["-1", "1e300", "\"1e300\"", "\"nan\"", "true", "[]", "{}"] {
        let printed = format!(r#"{{"token":"hush","expires_on":{expires_on}}}"#);
        assert_eq!(expiry(&printed), None, "{printed}");
    }
}

#[test]
fn what_holds_no_token_is_an_error_that_does_not_show_it() {
    for printed in [
        "hush hush hush",
        "hush\nhush\n",
        "Not logged in. Use 'ibmcloud login' to log in: hush",
        "<html>hush</html>",
        "<hush>",
        "[\"hush\"]",
        "\"hush\"",
        "{\"hush\":1}",
        "{\"token\":\"hush",
        "{\"token\":[\"hush\"]}",
        "{\"token\":\"hush hush\"}",
        "{\"status\":{\"clientCertificateData\":\"hush\"}}",
        "{\"status\":\"hush\"}",
        "{\"token\":null}",
        "{}",
        "Bearer",
        "IAM token:",
        "IAM token: Bearer ",
    ] {
        let kind = Detected.token(printed.as_bytes()).unwrap_err();
        assert!(!format!("{kind} {kind:?}").contains("hush"), "{printed}: {kind}");
    }
    assert!(matches!(Detected.token(b"hush\xff"), Err(CommandErrorKind::NoToken)));
}

#[test]
fn white_space_is_nothing_in_every_format() {
    for format in [Detected, Bare, Labelled, Json, Exec] {
        assert!(matches!(format.token(b" \r\n"), Err(CommandErrorKind::NoOutput)), "{format:?}");
    }
}

#[test]
fn a_format_that_is_set_is_not_guessed() {
    let json = r#"{"token":"hush"}"#;
    assert!(matches!(Exec.token(json.as_bytes()), Err(CommandErrorKind::NoToken)));
    assert!(matches!(Labelled.token(b"hush"), Err(CommandErrorKind::NoToken)));
    assert!(matches!(Json.token(b"hush"), Err(CommandErrorKind::NoToken)));
    assert_eq!(token(Bare, "<hush>"), "<hush>");
}

#[test]
fn what_fuzzing_has_found_is_read_or_refused() {
    let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/command_output");
    // A packaged crate has no corpus.
    for file in std::fs::read_dir(corpus).into_iter().flatten() {
        check_command_output(&std::fs::read(file.unwrap().path()).unwrap());
    }
}
