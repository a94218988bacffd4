//! `token`: the token and a line end on its output, or nothing.

use super::support::{Ended, Server, example, run};

const ANSWER: &str = r#"{"access_token":"hush-hush","expires_in":3600}"#;

async fn token(args: &[&str], env: &[(&str, &str)]) -> Ended {
    run(example("token").args(args).envs(env.iter().copied())).await
}

// ===== Where tokens are =====

#[tokio::test]
async fn a_token_of_a_variable_is_printed_without_its_scheme() {
    for value in ["hush", "Bearer hush"] {
        assert_eq!(token(&["env", "T"], &[("T", value)]).await.printed(), "hush\n");
    }
}

#[tokio::test]
async fn a_token_of_a_file_is_printed() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "Bearer hush\r\n").unwrap();
    let path = file.path().to_str().unwrap();
    assert_eq!(token(&["file", path], &[]).await.printed(), "hush\n");
}

#[tokio::test]
async fn a_key_file_is_exchanged_for_a_token() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), r#"{"apikey":"my-key_1"}"#).unwrap();
    let path = file.path().to_str().unwrap();
    let iam = Server::answering(200, ANSWER).await;
    let url = ("IBMCLOUD_TOKEN_URL", iam.url.as_str());
    assert_eq!(token(&["key-file", path], &[url]).await.printed(), "hush-hush\n");
    assert_eq!(token(&["ibm_cloud"], &[url, ("IBMCLOUD_KEY_FILE", path)]).await.code, Some(0));
    let requests = iam.seen();
    assert_eq!(requests.len(), 2);
    assert!(requests.iter().all(|request| request.ends_with("apikey&apikey=my-key_1")));
}

#[tokio::test]
async fn each_of_the_four_systems_is_asked_in_its_own_way() {
    for (name, prefix, sent) in [
        ("ibm_cloud", "IBMCLOUD", "grant-type%3Aapikey&apikey=my-key"),
        (
            "ibm_verify",
            "IBM_VERIFY",
            "\n\ngrant_type=client_credentials&client_id=id&client_secret=secret",
        ),
        ("greennode", "GREENNODE", "\nauthorization: Basic aWQ6c2VjcmV0\n"),
        (
            "ianum",
            "IANUM",
            r#"{"client_id":"id","client_secret":"secret","grant_type":"client_credentials"}"#,
        ),
    ] {
        let service = Server::answering(200, ANSWER).await;
        let mut command = example("token");
        command.arg(name).env(format!("{prefix}_TOKEN_URL"), &service.url);
        for (setting, value) in [
            ("API_KEY", "my-key"),
            ("TENANT", "tenant.verify.ibm.com"),
            ("CLIENT_ID", "id"),
            ("CLIENT_SECRET", "secret"),
        ] {
            command.env(format!("{prefix}_{setting}"), value);
        }
        assert_eq!(run(&mut command).await.printed(), "hush-hush\n", "{name}");
        assert!(service.request().contains(sent), "{}", service.request());
    }
}

// ===== Commands =====

#[cfg(feature = "command")]
mod commands {
    use std::{path::Path, process::Command};

    use tempfile::TempDir;

    use super::token;

    /// Another process writes it: a program that this one has open cannot be run, not even
    /// while a concurrent test's fork has it open.
    fn install(path: &Path, script: &str) {
        let status = Command::new("sh")
            .args(["-c", "printf '#!/bin/sh\\n%s' \"$1\" >\"$0\" && chmod 755 \"$0\""])
            .args([path.as_os_str(), script.as_ref()])
            .status();
        assert!(status.unwrap().success());
    }

    #[tokio::test]
    async fn what_a_command_prints_is_printed_as_a_token() {
        let bin = TempDir::new().unwrap();
        let path = bin.path().to_str().unwrap();
        for (args, called, answer) in [
            (&["ibmcloud", "-q"][..], "iam oauth-tokens -q", "IAM token:  Bearer hush"),
            (&["gcloud"], "auth print-access-token", "hush"),
            (
                &["az", "--resource", "r"],
                "account get-access-token --output json --resource r",
                r#"{"accessToken":"hush","expires_on":4102444800}"#,
            ),
            (&["run", "plugin", "a b", "$HOME"], "a b $HOME", "hush"),
            (
                &["exec-plugin", "plugin", "get-token"],
                "get-token",
                r#"{"kind":"ExecCredential","status":{"token":"hush"}}"#,
            ),
        ] {
            let program =
                if args[0].contains("cloud") || args[0] == "az" { args[0] } else { "plugin" };
            let script = format!("[ \"$*\" = '{called}' ] || exit 9\necho '{answer}'\n");
            install(&bin.path().join(program), &script);
            assert_eq!(token(args, &[("PATH", path)]).await.printed(), "hush\n", "{args:?}");
        }
    }

    #[tokio::test]
    async fn a_command_that_fails_is_no_token_whatever_it_has_printed() {
        let bin = TempDir::new().unwrap();
        install(&bin.path().join("gcloud"), "echo hush; echo hush-too >&2; exit 1");
        let said = token(&["gcloud"], &[("PATH", bin.path().to_str().unwrap())]).await.failed(1);
        assert!(said.contains("gcloud auth login") && !said.contains("hush"), "{said}");
        let said = token(&["run", "/no/such/program"], &[]).await.failed(1);
        assert!(said.contains("/no/such/program") && said.contains("was not found"), "{said}");
    }
}

#[cfg(not(feature = "command"))]
#[tokio::test]
async fn a_command_names_the_feature_that_it_needs() {
    for args in [&["gcloud"][..], &["run", "sh"]] {
        assert!(token(args, &[]).await.failed(2).contains("--features command"));
    }
}

// ===== What goes wrong =====

#[tokio::test]
async fn an_error_names_the_place_and_shows_no_secret() {
    let said = token(&["env", "T"], &[]).await.failed(1);
    assert_eq!(said, "the environment variable \"T\" is not set: export it to this program\n");
    let said = token(&["env", "T"], &[("T", "hush hush")]).await.failed(1);
    assert!(said.contains("\"T\"") && !said.contains("hush"), "{said}");
    assert!(token(&["file", "/no/such/file"], &[]).await.failed(1).contains("/no/such/file"));

    let service = Server::answering(401, r#"{"error":"invalid_client"}"#).await;
    let env = [
        ("IANUM_CLIENT_ID", "id"),
        ("IANUM_CLIENT_SECRET", "hush"),
        ("IANUM_TOKEN_URL", &service.url),
    ];
    let said = token(&["ianum"], &env).await.failed(1);
    assert!(said.contains("invalid_client") && !said.contains("hush"), "{said}");
}

#[tokio::test]
async fn a_missing_credential_is_named_in_one_line() {
    for (source, set, missing) in [
        ("ibm_cloud", ("IBMCLOUD_API_KEY", ""), "IBMCLOUD_API_KEY"),
        ("ibm_verify", ("IBM_VERIFY_TENANT", "hush"), "IBM_VERIFY_CLIENT_ID"),
        ("greennode", ("GREENNODE_CLIENT_ID", "hush"), "GREENNODE_CLIENT_SECRET"),
        ("ianum", ("IANUM_CLIENT_SECRET", "hush"), "IANUM_CLIENT_ID"),
    ] {
        let said = token(&[source], &[set]).await.failed(2);
        let expected = format!("not set in the environment, or empty, or not UTF-8: {missing}\n");
        assert_eq!(said, expected, "{source}");
    }
}

#[tokio::test]
async fn a_credential_under_another_spelling_is_named() {
    let said = token(&["ibm_cloud"], &[("IBM_CLOUD_API_KEY", "hush")]).await.failed(2);
    let expected = "IBMCLOUD_API_KEY (IBM_CLOUD_API_KEY is set: the name is IBMCLOUD_API_KEY)\n";
    assert!(said.ends_with(expected) && !said.contains("hush"), "{said}");
}

#[tokio::test]
async fn wrong_arguments_are_answered_with_the_usage() {
    for args in [
        &[][..],
        &["--help"],
        &["env"],
        &["file", "a", "b"],
        &["ianum", "my-secret"],
        &["key-file"],
        #[cfg(feature = "command")]
        &["run"],
    ] {
        let said = token(args, &[]).await.failed(2);
        assert!(said.starts_with("usage: token SOURCE\n"), "{args:?}: {said}");
        assert!(!said.contains("my-secret"), "{said}");
    }
}
