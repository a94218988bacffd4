//! The guide's recipes do what they say.

mod metadata;

mod blocking {
    include!("blocking.rs");

    pub(super) fn tokens(
        cache: TokenCache,
    ) -> std::io::Result<impl Fn() -> Result<AccessToken, TokenError>> {
        blocking(cache)
    }
}

mod grpc_code {
    include!("grpc_code.rs");

    pub(super) fn of(status: &Status) -> Code {
        code(status)
    }
}

mod outliving {
    include!("outliving.rs");

    pub(super) fn source(endpoint: TokenEndpoint, file: PathBuf) -> impl TokenSource {
        outliving(endpoint, file)
    }
}

#[path = "../common/scripted.rs"]
mod scripted;

use std::{
    path::Path,
    sync::{
        atomic::{AtomicUsize, Ordering::SeqCst},
        mpsc,
    },
    time::Duration,
};

use tonic::{Code, Status};
use tower_bearer::{
    AccessToken, BoxError, RefreshPolicy, Refused, Rejection, TokenCache, TokenError, from_fn,
    oauth2::TokenEndpoint,
};

use self::scripted::Scripted;

/// What a program has that starts now.
fn run(service: &Scripted, file: &Path) -> TokenCache {
    let endpoint = TokenEndpoint::builder("https://auth.example.com/token");
    let endpoint = endpoint.client_id("a").client_secret("b").transport(service.clone());
    TokenCache::new(outliving::source(endpoint.build().unwrap(), file.to_owned()))
}

#[tokio::test]
async fn a_token_outlives_a_run_until_it_is_rejected_or_near_its_end() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    let service = Scripted::issuing();
    assert_eq!(run(&service, &file).get().await.unwrap().secret(), "t1");
    let second = run(&service, &file);
    assert_eq!(second.get().await.unwrap().secret(), "t1", "of the first run");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    let rejected = Rejection::new(second.current().unwrap());
    assert_eq!(second.renew(rejected).await.unwrap().secret(), "t2");
    assert_eq!(
        run(&service, &file).get().await.unwrap().secret(),
        "t2",
        "the rejected one is gone"
    );

    for unusable in ["1000000000 t2", "18446744073709551615 t2", "t2", "", "9999999999 a b"] {
        std::fs::write(&file, unusable).unwrap();
        let before = service.seen().len();
        run(&service, &file).get().await.unwrap();
        assert_eq!(service.seen().len(), before + 1, "{unusable}");
    }
    let nowhere = dir.path().join("missing/token");
    assert_eq!(run(&service, &nowhere).get().await.unwrap().secret(), "t8", "not kept, but used");
}

#[test]
fn a_program_that_is_not_async_gets_tokens_that_are_refreshed_between_its_calls() {
    let (fetched, seen) = mpsc::channel();
    let nth = AtomicUsize::new(0);
    let source = from_fn(move |_| {
        let nth = nth.fetch_add(1, SeqCst) + 1;
        let fetched = fetched.clone();
        async move {
            fetched.send(nth).map_err(TokenError::permanent)?;
            let token = AccessToken::new(format!("t{nth}")).map_err(TokenError::permanent)?;
            // Due from its beginning.
            Ok(token.with_lifetime(Duration::from_secs(600)).with_refresh_in(Duration::ZERO))
        }
    });
    let policy = RefreshPolicy::builder().due_jitter(0.0).background_interval(Duration::ZERO);
    let cache = TokenCache::with_policy(source, policy.build().unwrap());
    let token = blocking::tokens(cache).unwrap();
    assert_eq!(token().unwrap().secret(), "t1");
    assert_eq!(token().unwrap().secret(), "t1", "and starts the refresh");
    let bound = Duration::from_secs(30);
    assert_eq!(seen.recv_timeout(bound), Ok(1));
    assert_eq!(seen.recv_timeout(bound), Ok(2), "nobody waits for it in `block_on`");
}

#[test]
fn a_grpc_service_tells_its_caller_whether_to_try_again() {
    let of = |error: BoxError| grpc_code::of(&Status::from_error(error));
    assert_eq!(Status::from_error(TokenError::transient("busy").into()).code(), Code::Unknown);
    assert_eq!(of(TokenError::transient("busy").into()), Code::Unavailable);
    assert_eq!(of(TokenError::permanent("no such role").into()), Code::Internal);
    assert_eq!(of(Refused::NoOrigin.into()), Code::Internal);
    assert_eq!(grpc_code::of(&Status::not_found("no such order")), Code::NotFound);
}

#[test]
fn what_runs_here_is_what_the_guide_says() {
    let stacks = include_str!("../../src/guide/stacks.md");
    assert!(stacks.contains(include_str!("blocking.rs")));
    assert!(stacks.contains(include_str!("grpc_code.rs")));
    assert!(include_str!("../../src/guide/sources.md").contains(include_str!("outliving.rs")));
}
