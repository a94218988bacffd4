//! Why a command returned no token.

use std::{borrow::Cow, ffi::OsStr, fmt, io, process::ExitStatus, sync::Arc, time::Duration};

use crate::token::InvalidToken;

/// The most bytes that are read of a command's output.
pub(super) const MAX_OUTPUT: usize = 1024 * 1024;

/// A command that returned no token. The error names the program and what to do, and never shows
/// the command's arguments, environment or output.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CommandError {
    program: String,
    kind: CommandErrorKind,
    hint: Option<Cow<'static, str>>,
}

/// What went wrong with a command.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CommandErrorKind {
    /// There is no such program.
    #[error("was not found: install it, or give its whole path")]
    NotFound,
    /// The operating system did not start it.
    #[error("could not be started: {0}")]
    NotStarted(Arc<io::Error>),
    /// Its output or its exit status could not be read.
    #[error("could not be run to its end: {0}")]
    Io(Arc<io::Error>),
    /// It took too long and was killed.
    #[error("did not end within {0:?} and was killed")]
    TimedOut(Duration),
    /// It failed, by its own exit status.
    #[error("failed ({0})")]
    Failed(ExitStatus),
    /// It printed more than 1 MiB and was killed.
    #[error("printed more than {} MiB and was killed", MAX_OUTPUT >> 20)]
    TooLong,
    /// It printed nothing, or only white space.
    #[error("printed nothing")]
    NoOutput,
    /// It printed something other than expected.
    #[error("printed no access token in a known format")]
    NoToken,
    /// What should be the token cannot be sent in a header.
    #[error("printed something other than an access token: {0}")]
    InvalidToken(InvalidToken),
}

// ===== impl CommandError =====

impl CommandError {
    pub(super) fn new(
        program: &OsStr,
        kind: CommandErrorKind,
        hint: Option<Cow<'static, str>>,
    ) -> Self {
        Self { program: program.to_string_lossy().into_owned(), kind, hint }
    }

    /// What went wrong.
    #[must_use]
    pub fn kind(&self) -> &CommandErrorKind {
        &self.kind
    }
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the command {:?} {}", self.program, self.kind)?;
        match &self.hint {
            Some(hint) if self.kind.has_run() => write!(f, "; {hint}"),
            _ => Ok(()),
        }
    }
}

impl std::error::Error for CommandError {}

// ===== impl CommandErrorKind =====

impl CommandErrorKind {
    /// Whether the failure may pass by itself.
    pub(super) fn is_transient(&self) -> bool {
        match self {
            Self::NotStarted(error) => is_shortage(error),
            Self::TooLong => false,
            _ => self.has_run(),
        }
    }

    fn has_run(&self) -> bool {
        !matches!(self, Self::NotFound | Self::NotStarted(_))
    }
}

/// Whether the operating system lacked something that it may have again later: memory, processes,
/// file descriptors, or a program file that no process has open for writing.
#[cfg(unix)]
fn is_shortage(error: &io::Error) -> bool {
    use rustix::io::Errno;

    let passing = [
        Errno::AGAIN,
        Errno::INTR,
        Errno::MFILE,
        Errno::NFILE,
        Errno::NOBUFS,
        Errno::NOMEM,
        Errno::TXTBSY,
    ];
    let is_passing = |errno| passing.contains(&errno);
    Errno::from_io_error(error).is_some_and(is_passing) || is_passing_kind(error.kind())
}

#[cfg(not(unix))]
fn is_shortage(error: &io::Error) -> bool {
    is_passing_kind(error.kind())
}

/// The errors that the standard library names, on every operating system.
fn is_passing_kind(kind: io::ErrorKind) -> bool {
    use io::ErrorKind as Kind;

    let passing = [
        Kind::ExecutableFileBusy,
        Kind::Interrupted,
        Kind::OutOfMemory,
        Kind::ResourceBusy,
        Kind::TimedOut,
        Kind::WouldBlock,
    ];
    passing.contains(&kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_transient(error: io::Error) -> bool {
        CommandErrorKind::NotStarted(Arc::new(error)).is_transient()
    }

    #[cfg(unix)]
    #[test]
    fn a_command_that_there_is_no_room_for_or_that_is_being_written_may_start_later() {
        use rustix::io::Errno;

        for errno in
            [Errno::AGAIN, Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM, Errno::TXTBSY]
        {
            assert!(is_transient(io::Error::from(errno)), "{errno}");
        }
        for errno in [Errno::ACCESS, Errno::NOEXEC, Errno::ISDIR, Errno::TOOBIG, Errno::PERM] {
            assert!(!is_transient(io::Error::from(errno)), "{errno}");
        }
    }

    #[test]
    fn what_the_standard_library_names_as_passing_is_so_without_a_number() {
        assert!(is_transient(io::ErrorKind::ExecutableFileBusy.into()));
        assert!(is_transient(io::ErrorKind::OutOfMemory.into()));
        assert!(!is_transient(io::ErrorKind::PermissionDenied.into()));
        assert!(!CommandErrorKind::NotFound.is_transient());
    }
}
