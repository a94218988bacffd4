//! A token that a command prints.

mod error;
mod output;
mod process;

use std::{borrow::Cow, ffi::OsString, fmt, path::Path, time::Duration};

use tokio::process::Command;

use crate::{
    error::TokenError,
    source::{TokenRequest, TokenSource},
    token::{AccessToken, Redacted},
};

pub use error::{CommandError, CommandErrorKind};
pub use output::OutputFormat;
#[cfg(fuzzing)]
pub use output::check_command_output;

/// The time that the cache gives any attempt by default.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// How much longer the cache waits, so that the command's own timeout makes the error.
const GRACE: Duration = Duration::from_secs(1);

/// What a client tells a Kubernetes exec plugin: which answer it understands, and that nobody is
/// there to enter a password.
const EXEC_INFO: &str = r#"{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","spec":{"interactive":false}}"#;

/// Runs a program that prints a token: a cloud's command line, a plugin, a script.
///
/// ```
/// use std::time::Duration;
/// use tower_bearer::local::TokenCommand;
///
/// let ibm = TokenCommand::ibmcloud();
/// let azure = TokenCommand::az().args(["--resource", "https://vault.azure.net"]);
/// let eks = TokenCommand::exec_plugin("aws").args(["eks", "get-token", "--cluster-name", "blue"]);
/// let script = TokenCommand::new("/opt/bin/print-token").with_lifetime(Duration::from_secs(900));
/// ```
///
/// Each fetch runs the program again: without a shell, with an empty standard input, and with the
/// environment of this program. If neither the output nor the token itself says when the token
/// expires, the token lives until it is rejected, unless [`with_lifetime`](Self::with_lifetime)
/// sets a lifetime.
///
/// # Limits
///
/// The output may have 1 MiB and must end within the [timeout](Self::with_timeout). As with `$(…)`
/// of a shell, the fetch ends when every process that holds the command's standard output has
/// closed it. A command that exceeds these limits, or whose fetch is dropped, is killed together
/// with its children: it runs in a process group of its own (a child that leaves the group, as a
/// daemon does, lives on). This holds on Unix; elsewhere the command itself is killed and its
/// children are not.
///
/// # Secrets
///
/// The crate shows the output nowhere: not in an error, because there may be a token in it, and not
/// on this program's standard error. An error carries a fixed hint instead, for well-known commands
/// and for those to which you [gave one](Self::with_hint). `Debug` does not show arguments and
/// environment.
///
/// # Panics
///
/// A fetch panics outside a tokio runtime whose time and I/O drivers are enabled, as they are in
/// `#[tokio::main]` and by `enable_all()`.
#[derive(Clone)]
pub struct TokenCommand {
    program: OsString,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    format: OutputFormat,
    timeout: Duration,
    lifetime: Option<Duration>,
    hint: Option<Cow<'static, str>>,
}

// ===== impl TokenCommand =====

impl TokenCommand {
    /// Runs this program. A bare name is looked up in `PATH`.
    pub fn new(program: impl Into<OsString>) -> Self {
        let program = program.into();
        Self {
            hint: known_hint(&program).map(Cow::Borrowed),
            program,
            args: Vec::new(),
            env: Vec::new(),
            format: OutputFormat::default(),
            timeout: DEFAULT_TIMEOUT,
            lifetime: None,
        }
    }

    /// `ibmcloud iam oauth-tokens`, for a user who is logged in to IBM Cloud.
    #[must_use]
    pub fn ibmcloud() -> Self {
        Self::new("ibmcloud")
            .args(["iam", "oauth-tokens"])
            .env("IBMCLOUD_COLOR", "false")
            .env("IBMCLOUD_VERSION_CHECK", "false")
    }

    /// `gcloud auth print-access-token`, for a user who is logged in to Google Cloud.
    #[must_use]
    pub fn gcloud() -> Self {
        Self::new(if cfg!(windows) { "gcloud.cmd" } else { "gcloud" })
            .args(["auth", "print-access-token"])
            .env("CLOUDSDK_CORE_DISABLE_PROMPTS", "1")
    }

    /// `az account get-access-token`, for a user who is logged in to Azure.
    ///
    /// Add `.args(["--resource", …])` for another API than Azure's own.
    #[must_use]
    pub fn az() -> Self {
        Self::new(if cfg!(windows) { "az.cmd" } else { "az" }).args([
            "account",
            "get-access-token",
            "--output",
            "json",
        ])
    }

    /// A Kubernetes credential plugin (`client.authentication.k8s.io/v1`), such as `aws eks
    /// get-token`: the `exec` section of a kubeconfig.
    ///
    /// The plugin gets `KUBERNETES_EXEC_INFO`, without a cluster in it.
    pub fn exec_plugin(program: impl Into<OsString>) -> Self {
        Self::new(program)
            .env("KUBERNETES_EXEC_INFO", EXEC_INFO)
            .with_format(OutputFormat::ExecCredential)
    }

    /// Adds an argument. No shell interprets it.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Adds arguments. No shell interprets them.
    #[must_use]
    pub fn args<A: Into<OsString>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Sets a variable of the command's environment.
    #[must_use]
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// Sets the format of the output, instead of [detecting](OutputFormat::Detected) it.
    #[must_use]
    pub fn with_format(mut self, format: OutputFormat) -> Self {
        self.format = format;
        self
    }

    /// Sets how long the command may take. Default: 10 s.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets how long a token is used before the command runs again.
    ///
    /// Any duration is valid; the cache clamps it. It takes precedence over the expiry in the
    /// output or in a JWT, as [`AccessToken::with_lifetime`] does.
    #[must_use]
    pub fn with_lifetime(mut self, lifetime: Duration) -> Self {
        self.lifetime = Some(lifetime);
        self
    }

    /// Sets what to do when the command fails. The hint ends the error's text.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<Cow<'static, str>>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    async fn run(&self) -> Result<AccessToken, CommandErrorKind> {
        let mut command = Command::new(&self.program);
        command.args(&self.args).envs(self.env.iter().map(|(name, value)| (name, value)));
        let printed = process::output(command, self.timeout).await?;
        let token = self.format.token(&printed)?;
        Ok(match self.lifetime {
            Some(lifetime) => token.with_lifetime(lifetime),
            None => token,
        })
    }
}

impl TokenSource for TokenCommand {
    /// # Errors
    ///
    /// A [`CommandError`], as the cause. It is transient if the command failed, because there may
    /// have been no network, and if the operating system cannot start the command for now: it is
    /// out of memory, processes or file descriptors, or the program is just being written. It is
    /// permanent if the command cannot be started at all.
    async fn fetch(&self, _: TokenRequest) -> Result<AccessToken, TokenError> {
        self.run().await.map_err(|kind| {
            let transient = kind.is_transient();
            let error = CommandError::new(&self.program, kind, self.hint.clone());
            if transient { TokenError::transient(error) } else { TokenError::permanent(error) }
        })
    }

    /// The command's own timeout, and a little more time.
    fn attempt_timeout(&self) -> Option<Duration> {
        Some(self.timeout.saturating_add(GRACE))
    }
}

impl fmt::Debug for TokenCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenCommand")
            .field("program", &self.program)
            .field("args", &Redacted)
            .field("env", &Redacted)
            .field("format", &self.format)
            .field("timeout", &self.timeout)
            .field("lifetime", &self.lifetime)
            .finish_non_exhaustive()
    }
}

/// What helps most often when a well-known command fails.
fn known_hint(program: &OsString) -> Option<&'static str> {
    match Path::new(program).file_stem()?.to_str()? {
        "ibmcloud" => Some("log in with `ibmcloud login` (add `--sso` for a federated id)"),
        "gcloud" => Some("log in with `gcloud auth login`"),
        "az" => Some("log in with `az login`"),
        _ => None,
    }
}
