//! The blocks of the README and of the guide, and what their users do with them.
//!
//! The files in `blocks/` are what is pasted, but for `url!`: it puts a test's own servers in the
//! place of `example.com`.

use std::env;

use tower_bearer::BoxError;

use crate::loopback::{self, grpc::GreeterClient};

/// The variables that say which block runs, and where its `example.com` is.
pub(super) const BLOCK: &str = "README_BLOCK";
pub(super) const API: &str = "README_API";
pub(super) const AUTH: &str = "README_AUTH";

pub(super) const README: &str = include_str!("../../../README.md");
pub(super) const STACKS: &str = include_str!("../../../src/guide/stacks.md");

/// Each block, with the page and the heading that it stands under.
pub(super) const TEXTS: [(&str, &str, &str); 6] = [
    (README, "\n## A first program\n", include_str!("blocks/first_program.rs")),
    (STACKS, "\n# hyper-util\n", include_str!("blocks/hyper_util.rs")),
    (STACKS, "\n# reqwest\n", include_str!("blocks/reqwest.rs")),
    (STACKS, "\n# reqwest-middleware\n", include_str!("blocks/reqwest_middleware.rs")),
    (STACKS, "\n# tonic\n", include_str!("blocks/tonic.rs")),
    (STACKS, "\n# axum\n", include_str!("blocks/axum.rs")),
];

// ===== As they are pasted =====

macro_rules! url {
    ($pasted:literal) => {
        crate::readme::blocks::url($pasted)
    };
}

fn url(pasted: &str) -> &'static str {
    let var = |name| env::var(name).expect("whoever runs a block says so");
    let url = pasted.replace("https://api.example.com", &var(API));
    url.replace("https://auth.example.com", &var(AUTH)).leak()
}

mod first_program {
    include!("blocks/first_program.rs");

    pub(super) fn run() -> Result<(), tower::BoxError> {
        main()
    }
}

mod hyper_util {
    include!("blocks/hyper_util.rs");

    pub(super) async fn run(endpoint: TokenEndpoint) -> Result<(), BoxError> {
        call(endpoint).await
    }
}

mod reqwest {
    include!("blocks/reqwest.rs");

    pub(super) async fn run(endpoint: TokenEndpoint) -> Result<(), BoxError> {
        call(endpoint).await
    }
}

#[cfg(feature = "reqwest-middleware")]
mod reqwest_middleware {
    include!("blocks/reqwest_middleware.rs");

    pub(super) async fn run(endpoint: TokenEndpoint) -> Result<(), BoxError> {
        let invoices = url!("https://api.example.com/v1/invoices");
        println!("{}", client(endpoint)?.get(invoices).send().await?.text().await?);
        Ok(())
    }
}

mod tonic {
    include!("blocks/tonic.rs");

    pub(super) async fn run(endpoint: TokenEndpoint) -> Result<(), BoxError> {
        let mut greeter = super::GreeterClient::new(api(endpoint).await?);
        println!("{}", greeter.hello("world").await?);
        Ok(())
    }
}

mod axum {
    include!("blocks/axum.rs");

    pub(super) async fn run(endpoint: TokenEndpoint) -> Result<(), BoxError> {
        let request = Request::get("/invoices").body(Body::empty())?;
        let response = app(endpoint)?.oneshot(request).await?;
        let status = response.status();
        println!("{}", crate::loopback::text(response).await?);
        if status.is_success() { Ok(()) } else { Err(status.to_string().into()) }
    }
}

// ===== The process that they run in =====

/// The name of the test that is none.
pub(super) const RUN: &str = "readme::blocks::run";

#[test]
#[ignore = "the tests of the blocks run it in a process of its own"]
fn run() -> Result<(), BoxError> {
    let Ok(block) = env::var(BLOCK) else { return Ok(()) };
    if block == "first_program" {
        return first_program::run();
    }
    let endpoint = loopback::endpoint(url!("https://auth.example.com/oauth/token"))?;
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        match block.as_str() {
            "hyper_util" => hyper_util::run(endpoint).await,
            "reqwest" => reqwest::run(endpoint).await,
            #[cfg(feature = "reqwest-middleware")]
            "reqwest_middleware" => reqwest_middleware::run(endpoint).await,
            "tonic" => tonic::run(endpoint).await,
            "axum" => axum::run(endpoint).await,
            unknown => Err(format!("no block is called {unknown}").into()),
        }
    })
}
