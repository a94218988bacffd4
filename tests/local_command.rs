//! Commands that print tokens: real processes, in real time, awaited by their signs of life.
#![cfg(all(feature = "command", unix))]

use std::{
    fs::File,
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process,
    time::Duration,
};

use tempfile::TempDir;
use tokio::sync::oneshot;
use tower_bearer::{
    AccessToken, Reason, TokenError, TokenRequest, TokenSource,
    local::{CommandError, CommandErrorKind, OutputFormat, TokenCommand},
};

const BOUND: Duration = Duration::from_secs(30);

fn sh(script: &str) -> TokenCommand {
    TokenCommand::new("sh").args(["-c", script]).with_timeout(BOUND)
}

async fn fetch(command: &TokenCommand) -> Result<AccessToken, TokenError> {
    command.fetch(TokenRequest::new(Reason::First)).await
}

/// How the command fails; nothing that it printed is in the error.
async fn failure(command: &TokenCommand) -> (CommandErrorKind, TokenError) {
    let error = fetch(command).await.unwrap_err();
    let shown = format!("{error} {error:?} {command:?}");
    assert!(!shown.contains("hush"), "{shown}");
    (error.downcast_ref::<CommandError>().unwrap().kind().clone(), error)
}

async fn within<T>(event: oneshot::Receiver<T>) -> T {
    tokio::time::timeout(BOUND, event).await.expect("in time").expect("it happens")
}

// ===== Signs of life =====

/// A pipe that a command and its children hold open as long as they live.
struct Life {
    _dir: TempDir,
    pipe: PathBuf,
    up: oneshot::Receiver<()>,
    over: oneshot::Receiver<()>,
}

impl Life {
    fn watch() -> Self {
        let dir = TempDir::new().unwrap();
        let pipe = dir.path().join("life");
        assert!(process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let (is_up, up) = oneshot::channel();
        let (is_over, over) = oneshot::channel();
        let watched = pipe.clone();
        // A thread that is not awaited: it ends with the command, if only with the test.
        std::thread::spawn(move || {
            let mut life = BufReader::new(File::open(watched).unwrap());
            life.read_line(&mut String::new()).unwrap();
            let _ = is_up.send(());
            life.read_to_end(&mut Vec::new()).unwrap();
            let _ = is_over.send(());
        });
        Self { _dir: dir, pipe, up, over }
    }

    /// A shell that has the pipe open as 3, as have its children.
    fn shell(&self, script: &str) -> TokenCommand {
        sh(&format!("exec 3>\"$0\"; {script}")).arg(&self.pipe)
    }
}

// ===== What a command prints =====

#[tokio::test]
async fn a_command_that_prints_a_token_gives_it() {
    let token = fetch(&sh("echo 'IAM token:  Bearer hush'; echo noise >&2")).await.unwrap();
    assert_eq!((token.secret(), token.lifetime()), ("hush", None));
    let lasting = sh("echo hush").with_lifetime(Duration::from_secs(900));
    assert_eq!(fetch(&lasting).await.unwrap().lifetime(), Some(Duration::from_secs(900)));
}

#[tokio::test]
async fn arguments_reach_the_program_without_a_shell() {
    let printf = TokenCommand::new("printf").arg("%s").arg("$HOME;`id`*").with_timeout(BOUND);
    assert_eq!(fetch(&printf).await.unwrap().secret(), "$HOME;`id`*");
}

#[tokio::test]
async fn a_command_has_nothing_to_read_and_the_environment_it_was_given() {
    assert!(matches!(failure(&sh("cat")).await.0, CommandErrorKind::NoOutput));
    let inherits = sh("[ \"$PATH\" = \"$MINE\" ] && echo hush");
    let path = std::env::var_os("PATH").unwrap();
    assert_eq!(fetch(&inherits.env("MINE", path)).await.unwrap().secret(), "hush");
}

#[tokio::test]
async fn an_exec_plugin_gets_the_version_of_the_expected_answer() {
    let script = r#"case $KUBERNETES_EXEC_INFO in
        *client.authentication.k8s.io/v1\"*ExecCredential*false*) ;; *) exit 9 ;;
        esac
        echo '{"status":{"token":"hush","expirationTimestamp":"2018-03-05T17:30:20-08:00"}}'"#;
    let plugin = TokenCommand::exec_plugin("sh").args(["-c", script]).with_timeout(BOUND);
    assert_eq!(fetch(&plugin).await.unwrap().secret(), "hush");
    assert!(format!("{plugin:?}").contains("ExecCredential"));
}

#[tokio::test]
async fn the_known_commands_are_called_as_their_manuals_say() {
    let bin = TempDir::new().unwrap();
    for (command, name, line, printed) in [
        (TokenCommand::ibmcloud(), "ibmcloud", "iam oauth-tokens", "IAM token:  Bearer hush"),
        (TokenCommand::gcloud(), "gcloud", "auth print-access-token", "hush"),
        (
            TokenCommand::az().args(["--resource", "r"]),
            "az",
            "account get-access-token --output json --resource r",
            r#"{"accessToken":"hush","expires_on":1698760750}"#,
        ),
    ] {
        let script = format!("#!/bin/sh\n[ \"$*\" = '{line}' ] || exit 9\necho '{printed}'\n");
        install(&bin.path().join(name), &script);
        let command = command.env("PATH", bin.path()).with_timeout(BOUND);
        assert_eq!(fetch(&command).await.unwrap().secret(), "hush", "{name}");
    }
}

/// Another process writes it: a program that this one has open cannot be run, not even
/// while a concurrent test's fork has it open.
fn install(path: &Path, script: &str) {
    let status = process::Command::new("sh")
        .args(["-c", "printf '%s' \"$1\" >\"$0\" && chmod 755 \"$0\""])
        .args([path.as_os_str(), script.as_ref()])
        .status();
    assert!(status.unwrap().success());
}

/// Only a parent sees the standard error of a process, so a child fetches.
#[test]
fn what_a_command_says_on_standard_error_is_not_shown() {
    let child = process::Command::new(std::env::current_exe().unwrap())
        .args(["the_child", "--exact", "--ignored", "--nocapture"])
        .output()
        .unwrap();
    let shown = String::from_utf8([child.stdout, child.stderr].concat()).unwrap();
    assert!(shown.contains("the child has fetched") && !shown.contains("hush"), "{shown}");
}

#[tokio::test]
#[ignore = "it is run by another test, as a child"]
async fn the_child() {
    fetch(&sh("echo hush; echo hush >&2")).await.unwrap();
    println!("the child has fetched");
}

// ===== Commands that fail =====

#[tokio::test]
async fn a_missing_command_is_permanent_and_named() {
    let (kind, error) = failure(&TokenCommand::new("tower-bearer-never-installed")).await;
    assert!(matches!(kind, CommandErrorKind::NotFound));
    assert!(!error.is_transient());
    assert!(error.to_string().contains("\"tower-bearer-never-installed\" was not found"));

    let (kind, error) = failure(&TokenCommand::new("/")).await;
    assert!(matches!(kind, CommandErrorKind::NotStarted(_)), "{kind}");
    assert!(!error.is_transient());
    assert!(matches!(failure(&TokenCommand::new("a\0b")).await.0, CommandErrorKind::NotStarted(_)));
}

#[tokio::test]
async fn a_command_that_exits_1_with_a_token_on_its_output_gives_none() {
    let (kind, error) = failure(&sh("echo hush; echo hush >&2; exit 1")).await;
    assert!(matches!(kind, CommandErrorKind::Failed(status) if status.code() == Some(1)));
    assert!(error.is_transient());
    assert_eq!(error.to_string(), r#"the command "sh" failed (exit status: 1)"#);
}

#[tokio::test]
async fn a_command_that_prints_nothing_gives_no_token() {
    for script in ["true", "echo", "echo hush >&2"] {
        let (kind, error) = failure(&sh(script)).await;
        assert!(matches!(kind, CommandErrorKind::NoOutput), "{script}");
        assert!(error.is_transient());
    }
}

#[tokio::test]
async fn a_known_command_that_fails_says_how_to_log_in() {
    let bin = TempDir::new().unwrap();
    for (name, hint) in [
        ("ibmcloud", "`ibmcloud login` (add `--sso` for a federated id)"),
        ("gcloud", "`gcloud auth login`"),
        ("az", "`az login`"),
    ] {
        let program = bin.path().join(name);
        std::os::unix::fs::symlink("/bin/sh", &program).unwrap();
        let command = TokenCommand::new(&program).args(["-c", "echo hush; exit 1"]);
        let (_, error) = failure(&command.with_timeout(BOUND)).await;
        assert!(error.to_string().ends_with(&format!("; log in with {hint}")), "{error}");
    }
    let (_, error) = failure(&sh("exit 1").with_hint("ask the operator")).await;
    assert!(error.to_string().ends_with("; ask the operator"), "{error}");
}

#[tokio::test]
async fn a_command_in_another_format_than_was_set_gives_no_token() {
    let (kind, error) = failure(&sh("echo hush").with_format(OutputFormat::Json)).await;
    assert!(matches!(kind, CommandErrorKind::NoToken));
    assert!(error.is_transient());
}

// ===== Commands that do not end =====

#[tokio::test]
async fn a_command_that_prints_1_gib_is_killed() {
    let life = Life::watch();
    let command = life.shell("head -c 1073741824 /dev/zero");
    let (kind, error) = failure(&command).await;
    assert!(matches!(kind, CommandErrorKind::TooLong));
    assert!(!error.is_transient());
    within(life.over).await;
}

#[tokio::test]
async fn a_mebibyte_is_taken_and_a_byte_more_is_not() {
    let printed = |bytes: u32| format!("head -c {bytes} /dev/zero | tr '\\0' h");
    assert_eq!(fetch(&sh(&printed(1 << 20))).await.unwrap().secret().len(), 1 << 20);
    assert!(matches!(failure(&sh(&printed((1 << 20) + 1))).await.0, CommandErrorKind::TooLong));
}

#[tokio::test]
async fn a_command_that_hangs_is_killed_with_its_children() {
    for hang in [
        // It is waited for while its output is open, and after that.
        "sleep 600 >&3 & echo up >&3; wait",
        "sleep 600 >&3 & exec >&-; echo up >&3; wait",
        // It has ended, but its child holds the output open.
        "sleep 600 & echo up >&3",
    ] {
        let life = Life::watch();
        let command = life.shell(hang).with_timeout(Duration::from_secs(3600));
        let flight = tokio::spawn(async move { failure(&command).await });
        within(life.up).await;

        // An hour passes now that the command is up.
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(3600)).await;
        let (kind, error) = flight.await.unwrap();
        tokio::time::resume();

        assert!(matches!(kind, CommandErrorKind::TimedOut(limit) if limit.as_secs() == 3600));
        assert!(error.is_transient());
        within(life.over).await;
    }
}

#[tokio::test]
async fn a_command_whose_fetch_is_dropped_is_killed_with_its_children() {
    let life = Life::watch();
    let command = life.shell("sleep 600 & echo up >&3; wait");
    let flight = tokio::spawn(async move { fetch(&command).await });
    within(life.up).await;
    flight.abort();
    assert!(flight.await.unwrap_err().is_cancelled());
    within(life.over).await;
}

#[tokio::test]
async fn the_cache_waits_a_little_longer_than_the_command_may_take() {
    let ten = Duration::from_secs(10);
    let attempt = TokenCommand::gcloud().attempt_timeout().unwrap();
    assert!(attempt > ten && attempt < ten * 3 / 2, "{attempt:?}");
    assert_eq!(
        TokenCommand::gcloud().with_timeout(Duration::MAX).attempt_timeout(),
        Some(Duration::MAX)
    );
}

#[tokio::test]
async fn a_program_that_is_being_written_may_be_started_later() {
    let dir = TempDir::new().unwrap();
    let program = dir.path().join("print-token");
    std::fs::copy("/bin/sh", &program).unwrap();
    let command = TokenCommand::new(&program).args(["-c", "echo token"]).with_timeout(BOUND);
    let writer = File::options().append(true).open(&program).unwrap();
    let (kind, error) = failure(&command).await;
    assert!(matches!(kind, CommandErrorKind::NotStarted(_)), "{kind}");
    assert!(error.is_transient(), "{error}");

    drop(writer);
    // Another test's child may have inherited the writer for the moment before its own `exec`.
    let token = loop {
        match fetch(&command).await {
            Err(error) if error.is_transient() => tokio::task::yield_now().await,
            outcome => break outcome.unwrap(),
        }
    };
    assert_eq!(token.secret(), "token");
}
