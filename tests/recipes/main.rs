//! The README's recipes do what they say.

mod outliving {
    include!("outliving.rs");

    pub(super) fn source(endpoint: TokenEndpoint, file: PathBuf) -> impl TokenSource {
        outliving(endpoint, file)
    }
}

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use tower::service_fn;
use tower_bearer::{Rejection, TokenCache, oauth2::TokenEndpoint};

/// A token service that hands out `t1`, `t2`, …, and counts.
#[derive(Clone, Default)]
struct TokenService(Arc<AtomicUsize>);

impl TokenService {
    fn endpoint(&self) -> TokenEndpoint {
        let issued = Arc::clone(&self.0);
        let service = service_fn(move |_: Request<Full<Bytes>>| {
            let nth = issued.fetch_add(1, SeqCst) + 1;
            let answer = format!(r#"{{"access_token":"t{nth}","expires_in":3600}}"#);
            async move { Ok::<_, std::convert::Infallible>(Response::new(answer)) }
        });
        let endpoint = TokenEndpoint::builder("https://auth.example.com/token");
        endpoint.client_id("a").client_secret("b").transport(service).build().unwrap()
    }

    /// What a program has that starts now.
    fn run(&self, file: &Path) -> TokenCache {
        TokenCache::new(outliving::source(self.endpoint(), file.to_owned()))
    }
}

#[tokio::test]
async fn a_token_outlives_a_run_until_it_is_rejected_or_near_its_end() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    let service = TokenService::default();
    assert_eq!(service.run(&file).get().await.unwrap().secret(), "t1");
    let second = service.run(&file);
    assert_eq!(second.get().await.unwrap().secret(), "t1", "of the first run");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    let rejected = Rejection::new(second.current().unwrap());
    assert_eq!(second.renew(rejected).await.unwrap().secret(), "t2");
    assert_eq!(service.run(&file).get().await.unwrap().secret(), "t2", "the rejected one is gone");

    for unusable in ["1000000000 t2", "18446744073709551615 t2", "t2", "", "9999999999 a b"] {
        std::fs::write(&file, unusable).unwrap();
        let before = service.0.load(SeqCst);
        service.run(&file).get().await.unwrap();
        assert_eq!(service.0.load(SeqCst), before + 1, "{unusable}");
    }
    let nowhere = dir.path().join("missing/token");
    assert_eq!(service.run(&nowhere).get().await.unwrap().secret(), "t8", "not kept, but used");
}

#[test]
fn what_runs_here_is_what_the_readme_says() {
    assert!(include_str!("../../README.md").contains(include_str!("outliving.rs")));
}
