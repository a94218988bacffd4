use tokio::runtime::Builder;
use tower_bearer::{AccessToken, TokenCache, TokenError};

/// Gives a program that is not async its tokens. Call this once: the runtime is kept.
fn blocking(cache: TokenCache) -> std::io::Result<impl Fn() -> Result<AccessToken, TokenError>> {
    let rt = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    Ok(move || rt.block_on(cache.get()))
}
