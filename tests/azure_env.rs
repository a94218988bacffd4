//! Workload identity on Azure, which is configured by the environment that a process is born with:
//! each case is a child that runs the test beside it.

#[path = "common/scripted.rs"]
mod scripted;

use std::{path::Path, process::Command};

use tower_bearer::{
    Reason, TokenRequest,
    oauth2::{InvalidEndpoint, providers::entra_workload_identity},
};

use self::scripted::{Scripted, answer};

const TENANT: (&str, &str) = ("AZURE_TENANT_ID", "contoso.com");
const CLIENT: (&str, &str) = ("AZURE_CLIENT_ID", "00001111-aaaa");
const FILE: &str = "AZURE_FEDERATED_TOKEN_FILE";
const AUTHORITY: &str = "AZURE_AUTHORITY_HOST";
const TOKENS: [&str; 2] = ["eyJ0.e30.b25l", "eyJ0.e30.dHdv"];

/// What the child below says with those variables.
fn report(variables: &[(&str, &str)]) -> String {
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["the_child", "--exact", "--ignored", "--nocapture"]);
    for name in [TENANT.0, CLIENT.0, FILE, AUTHORITY] {
        child.env_remove(name);
    }
    let child = child.envs(variables.iter().copied()).output().unwrap();
    assert!(child.status.success(), "{child:?}");
    String::from_utf8(child.stdout).unwrap()
}

/// Asks for two tokens, before each of which the file is replaced.
#[tokio::test]
#[ignore = "it is run by the others, as a child"]
async fn the_child() {
    let builder = match entra_workload_identity() {
        Ok(builder) => builder.scope("https://vault.azure.net/.default"),
        Err(error) => {
            assert!(matches!(error, InvalidEndpoint::Variable { .. }));
            return println!("error: {error}");
        }
    };
    let service = Scripted::always(|request| {
        println!("sent: {} {}", request.uri, request.body);
        answer(200, r#"{"token_type":"Bearer","expires_in":3599,"access_token":"eyJ0"}"#)
    });
    let endpoint = match builder.transport(service).build() {
        Ok(endpoint) => endpoint,
        Err(error) => return println!("error: {error}"),
    };
    for token in TOKENS {
        std::fs::write(std::env::var(FILE).unwrap(), token).unwrap();
        endpoint.fetch(TokenRequest::new(Reason::First)).await.unwrap();
    }
}

fn token_file(directory: &Path) -> String {
    directory.join("azure-identity-token").to_str().unwrap().to_owned()
}

#[test]
fn the_file_is_read_for_each_fetch_and_the_authority_may_be_another_clouds() {
    let directory = tempfile::tempdir().unwrap();
    let file = token_file(directory.path());
    for (authority, host) in [
        (None, "login.microsoftonline.com"),
        (Some(""), "login.microsoftonline.com"),
        (Some("https://login.microsoftonline.us/"), "login.microsoftonline.us"),
        (Some("https://login.microsoftonline.us"), "login.microsoftonline.us"),
    ] {
        let mut variables = vec![TENANT, CLIENT, (FILE, file.as_str())];
        variables.extend(authority.map(|authority| (AUTHORITY, authority)));
        let report = report(&variables);
        let sent: Vec<_> = report.lines().filter(|line| line.starts_with("sent: ")).collect();
        let expected = TOKENS.map(|token| {
            format!(
                "sent: https://{host}/contoso.com/oauth2/v2.0/token grant_type=client_credentials\
                 &client_id=00001111-aaaa&client_assertion_type=urn%3Aietf%3Aparams%3Aoauth%3A\
                 client-assertion-type%3Ajwt-bearer&client_assertion={token}\
                 &scope=https%3A%2F%2Fvault.azure.net%2F.default"
            )
        });
        assert_eq!(sent, expected);
    }
}

#[test]
fn a_variable_that_is_missing_or_empty_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let file = token_file(directory.path());
    let all = [TENANT, CLIENT, (FILE, file.as_str())];
    for (name, _) in all {
        let others: Vec<_> = all.into_iter().filter(|(other, _)| *other != name).collect();
        let empty: Vec<_> = others.iter().copied().chain([(name, "")]).collect();
        for report in [report(&others), report(&empty)] {
            let expected = format!("error: the environment variable {name} is not set");
            assert!(report.contains(&expected), "{report}");
        }
    }
    let plain = [TENANT, CLIENT, (FILE, file.as_str()), (AUTHORITY, "http://login.example.com/")];
    assert!(report(&plain).contains("use `https://`"));
}
