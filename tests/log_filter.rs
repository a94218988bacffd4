//! Which directives let the crate's events through: a filter's targets match by prefix.

use std::{
    io::{self, Write},
    sync::{Arc, Mutex, PoisonError},
};

use tower_bearer::{AccessToken, TokenCache, TokenError, from_fn};
use tracing::instrument::WithSubscriber;
use tracing_subscriber::{EnvFilter, fmt::MakeWriter};

/// What is logged.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Lines {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

/// What those directives let through of a fetch, and of an event of tower's own.
async fn logged(directives: &str) -> String {
    let lines = Lines::default();
    let filter = EnvFilter::try_new(directives).unwrap();
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(lines.clone());
    let fetch = async {
        tracing::debug!(target: "tower::retry", "tower's own");
        let source = from_fn(|_| async { AccessToken::new("abc").map_err(TokenError::permanent) });
        TokenCache::new(source).get().await.unwrap();
    };
    fetch.with_subscriber(subscriber.finish()).await;
    String::from_utf8(lines.0.lock().unwrap().clone()).unwrap()
}

#[tokio::test]
async fn a_directive_for_tower_silences_this_crate_unless_it_is_named() {
    for (directives, is_logged, is_towers) in [
        ("debug", true, true),
        ("debug,tower=warn", false, false),
        ("debug,tower=warn,tower_bearer=debug", true, false),
        ("tower_bearer=debug", true, false),
    ] {
        let log = logged(directives).await;
        assert_eq!(log.contains("fetching an access token"), is_logged, "{directives}: {log}");
        assert_eq!(log.contains("tower's own"), is_towers, "{directives}: {log}");
    }
}

#[test]
fn the_guide_has_the_directives() {
    let guide = include_str!("../src/guide/observability.md");
    assert!(guide.contains("debug,tower=warn,tower_bearer=debug"));
}
