//! How the pieces work together, one chapter for each question.
//!
//! | chapter | topic |
//! | --- | --- |
//! | [`sources`] | where tokens come from: named services, from a `curl` line to a token endpoint, your own source |
//! | [`stacks`] | blocks to paste for hyper-util, reqwest, reqwest-middleware, tonic and axum |
//! | [`keys`] | a token for each scope, resource or tenant; on behalf of a user |
//! | [`fleet`] | one token for many processes, rotating refresh tokens |
//! | [`failure`] | what a request gets when something fails, matching errors, readiness |
//! | [`layers`] | the order of layers, several APIs, settings for one request, another header |
//! | [`redirects`] | where to follow redirects |
//! | [`observability`] | names, events, metrics, alerts |
//! | [`testing`] | testing your stack, with sockets or in paused time |
//! | [`migration`] | replacing hand-written code |

/// Includes a chapter. Its blocks to paste need dependencies that only a build with all features has.
macro_rules! chapter {
    ($name:ident) => {
        #[cfg_attr(
            any(
                not(doctest),
                all(unix, feature = "metrics", feature = "reqwest-middleware", feature = "shared")
            ),
            doc = include_str!(concat!("guide/", stringify!($name), ".md"))
        )]
        // Chapters link to items of every feature, as a build with all features has them.
        #[cfg_attr(
            not(all(
                feature = "command",
                feature = "jwt",
                feature = "keyed",
                feature = "reqwest-middleware",
                feature = "redis",
                feature = "testing",
            )),
            allow(rustdoc::broken_intra_doc_links)
        )]
        pub mod $name {}
    };
}

chapter!(sources);
chapter!(stacks);
chapter!(keys);
chapter!(fleet);
chapter!(failure);
chapter!(layers);
chapter!(redirects);
chapter!(observability);
chapter!(testing);
chapter!(migration);
