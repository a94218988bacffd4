//! Runs a command to its end, or kills it.

use std::{io, process::Stdio, sync::Arc, time::Duration};

use tokio::{
    io::AsyncReadExt,
    process::{Child, Command},
};
use zeroize::Zeroizing;

use super::error::{CommandErrorKind, MAX_OUTPUT};

/// What the command prints, if it succeeds in time.
pub(super) async fn output(
    mut command: Command,
    limit: Duration,
) -> Result<Zeroizing<Vec<u8>>, CommandErrorKind> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    // This is the only means where there are no process groups.
    command.kill_on_drop(true);
    #[cfg(unix)]
    command.process_group(0);

    let mut running = Running(command.spawn().map_err(not_started)?);
    match tokio::time::timeout(limit, running.output()).await {
        Ok(output) => output,
        Err(_) => Err(CommandErrorKind::TimedOut(limit)),
    }
}

fn not_started(error: io::Error) -> CommandErrorKind {
    match error.kind() {
        io::ErrorKind::NotFound => CommandErrorKind::NotFound,
        _ => CommandErrorKind::NotStarted(Arc::new(error)),
    }
}

fn not_followed(error: io::Error) -> CommandErrorKind {
    CommandErrorKind::Io(Arc::new(error))
}

/// A running command. Dropping it kills the command with its children.
struct Running(Child);

impl Running {
    async fn output(&mut self) -> Result<Zeroizing<Vec<u8>>, CommandErrorKind> {
        let printed = self.printed().await.map_err(not_followed)?;
        if printed.len() > MAX_OUTPUT {
            return Err(CommandErrorKind::TooLong);
        }
        // Only after the output has ended: see `drop`.
        let status = self.0.wait().await.map_err(not_followed)?;
        if status.success() { Ok(printed) } else { Err(CommandErrorKind::Failed(status)) }
    }

    async fn printed(&mut self) -> io::Result<Zeroizing<Vec<u8>>> {
        // Room for all output and for the reader's probe beyond it: a vector that grew would leave
        // copies behind.
        let mut printed = Zeroizing::new(Vec::with_capacity(MAX_OUTPUT + 64));
        let Some(stdout) = self.0.stdout.as_mut() else { return Ok(printed) };
        stdout.take((MAX_OUTPUT as u64).saturating_add(1)).read_to_end(&mut printed).await?;
        Ok(printed)
    }
}

impl Drop for Running {
    /// The command's process id names the group. The id stays taken until the command has been
    /// waited for: as long as there is an `id`, the signal cannot hit another process.
    fn drop(&mut self) {
        #[cfg(unix)]
        if let Some(group) = self.0.id().and_then(|id| i32::try_from(id).ok()) {
            use rustix::process::{Pid, Signal, kill_process_group};

            if let Some(group) = Pid::from_raw(group) {
                // This fails if the whole group has ended already.
                let _ = kill_process_group(group, Signal::KILL);
            }
        }
    }
}
