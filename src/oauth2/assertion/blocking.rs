//! Work that would block a worker of the runtime.

use tokio::runtime::Handle;

use super::unusable::Unusable;

/// Runs `work` on the runtime's blocking pool.
pub(super) async fn off_thread<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Unusable> {
    match Handle::try_current() {
        // The result is lost if the runtime shuts down.
        Ok(runtime) => runtime.spawn_blocking(work).await.map_err(|_| Unusable::NotDone),
        Err(_) => Ok(work()),
    }
}
