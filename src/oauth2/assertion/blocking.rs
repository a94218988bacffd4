//! What would hold up the worker of a runtime.

use tokio::runtime::Handle;

use super::unusable::Unusable;

/// Does it on the runtime's pool for what blocks.
pub(super) async fn off_thread<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Unusable> {
    match Handle::try_current() {
        // It is lost if the runtime shuts down.
        Ok(runtime) => runtime.spawn_blocking(work).await.map_err(|_| Unusable::NotDone),
        Err(_) => Ok(work()),
    }
}
