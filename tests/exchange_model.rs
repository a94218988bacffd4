//! Any request, any response, any body, any drop, against what is promised of the layer.
//!
//! `PROPTEST_CASES=1000000 cargo test --release --all-features --test exchange_model` runs more of
//! them; a failing sequence is printed as the smallest one that fails.
#![allow(missing_docs)]

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{
    HeaderMap, HeaderValue, Request, Response, StatusCode,
    header::{AUTHORIZATION, WWW_AUTHENTICATE},
};
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use proptest::{collection::vec, option, prelude::*, test_runner::RngSeed};
use tokio::time::{sleep, timeout};
use tower::{BoxError, Layer, Service, ServiceExt, util::BoxCloneService};
use tower_bearer::{
    AccessToken, BearerAuthLayer, Refused, ReplayLimit, SkipAuth, TokenCache, TokenError, from_fn,
};

/// No request waits longer.
const BOUND: Duration = Duration::from_secs(200);

// ===== What is generated =====

#[derive(Clone, Debug)]
struct History {
    keeps: Keeps,
    grpc: bool,
    seed: u64,
    exchanges: Vec<Exchange>,
    /// What the source answers, again and again.
    fetches: Vec<(u64, Fetched)>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Keeps {
    Clones,
    Buffer(usize),
    Nothing,
}

#[derive(Clone, Copy, Debug)]
enum Fetched {
    New(Option<u64>),
    Same,
    Transient,
    Permanent,
}

#[derive(Clone, Debug)]
struct Exchange {
    uri: &'static str,
    own: bool,
    skips: bool,
    limit: Option<usize>,
    body: Vec<Piece>,
    calls: [Call; 2],
    /// The caller goes after so many milliseconds.
    gone: Option<u64>,
    pause: u64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Piece {
    Data(u8),
    Pause(u64),
    Error,
    Trailers,
}

/// What the inner service does with a call.
#[derive(Clone, Debug)]
struct Call {
    /// It becomes ready after so many milliseconds, or fails.
    ready: Result<u64, ()>,
    /// How many frames it reads; what is unread then it drops, or keeps for a while.
    reads: usize,
    keeps: u64,
    takes: u64,
    answer: Option<(u16, Option<&'static str>, Option<&'static str>)>,
}

fn history() -> impl Strategy<Value = History> {
    let keeps = prop_oneof![
        Just(Keeps::Clones),
        prop_oneof![Just(0_usize), Just(300), Just(100_000)].prop_map(Keeps::Buffer),
        Just(Keeps::Nothing),
    ];
    let fetched = prop_oneof![
        // Longer than it takes to become ready, or a request would never have both.
        6 => option::weighted(0.7, 80..300_u64).prop_map(Fetched::New),
        1 => Just(Fetched::Same),
        1 => Just(Fetched::Transient),
        1 => Just(Fetched::Permanent),
    ];
    let takes = prop_oneof![3 => Just(0_u64), 1 => 0..40_000_u64];
    (keeps, any::<bool>(), any::<u64>(), vec(exchange(), 1..5), vec((takes, fetched), 1..5))
        .prop_map(|(keeps, grpc, seed, exchanges, fetches)| History {
            keeps,
            grpc,
            seed,
            exchanges,
            fetches,
        })
}

fn exchange() -> impl Strategy<Value = Exchange> {
    let uri = prop_oneof![
        8 => Just("https://api.example/a?b=c"),
        1 => Just("https://API.example:443/"),
        1 => Just("https://evil.example/"),
        1 => Just("http://api.example/"),
        1 => Just("http://127.0.0.1:80/"),
        1 => Just("/relative"),
    ];
    let piece = prop_oneof![
        6 => any::<u8>().prop_map(Piece::Data),
        1 => (0..100_u64).prop_map(Piece::Pause),
        1 => Just(Piece::Error),
        1 => Just(Piece::Trailers),
    ];
    let flags = (proptest::bool::weighted(0.1), proptest::bool::weighted(0.1));
    let limit = option::weighted(0.2, prop_oneof![Just(0_usize), Just(50), Just(100_000)]);
    let pause = prop_oneof![0..100_u64, 0..20_000_u64];
    let gone = option::weighted(0.2, 0..5_000_u64);
    (uri, flags, limit, vec(piece, 0..5), [call(), call()], gone, pause).prop_map(
        |(uri, (own, skips), limit, body, calls, gone, pause)| {
            // Trailers, and an error, are the last of a body.
            let end = body.iter().position(|it| matches!(it, Piece::Error | Piece::Trailers));
            let body = body[..end.map_or(body.len(), |end| end + 1)].to_vec();
            Exchange { uri, own, skips, limit, body, calls, gone, pause }
        },
    )
}

fn call() -> impl Strategy<Value = Call> {
    let status = prop_oneof![
        4 => Just(200_u16),
        8 => Just(401),
        1 => prop_oneof![Just(204), Just(302), Just(403), Just(407), Just(500)],
    ];
    let challenge = option::weighted(
        0.5,
        prop_oneof![
            Just("Bearer error=\"invalid_token\""),
            Just("Bearer error=\"insufficient_scope\""),
            Just("Basic realm=\"x\", Bearer claims=\"y\""),
            Just("garbage ,,, \"=\""),
        ],
    );
    let grpc = option::weighted(0.2, prop_oneof![Just("0"), Just("16"), Just("7")]);
    let ready =
        prop_oneof![8 => Just(Ok(0)), 2 => (0..30_000_u64).prop_map(Ok), 1 => Just(Err(()))];
    let keeps = prop_oneof![4 => Just(0_u64), 1 => 0..60_000_u64];
    (ready, 0..8_usize, keeps, 0..200_u64, option::weighted(0.9, (status, challenge, grpc)))
        .prop_map(|(ready, reads, keeps, takes, answer)| Call {
            ready,
            reads,
            keeps,
            takes,
            answer,
        })
}

// ===== A body =====

#[derive(Clone)]
struct Pieces {
    left: VecDeque<Piece>,
    pause: Arc<Mutex<Option<Pin<Box<tokio::time::Sleep>>>>>,
}

impl Pieces {
    fn new(pieces: &[Piece]) -> Self {
        Self { left: pieces.iter().copied().collect(), pause: Arc::default() }
    }
}

fn trailers() -> HeaderMap {
    HeaderMap::from_iter([("x-sum".parse().unwrap(), HeaderValue::from_static("1"))])
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        loop {
            match self.left.front() {
                None => return Poll::Ready(None),
                Some(Piece::Pause(millis)) => {
                    let millis = Duration::from_millis(*millis);
                    let mut pause = self.pause.lock().unwrap();
                    let sleep = pause.get_or_insert_with(|| Box::pin(sleep(millis)));
                    if sleep.as_mut().poll(cx).is_pending() {
                        return Poll::Pending;
                    }
                    *pause = None;
                    drop(pause);
                    self.left.pop_front();
                }
                Some(Piece::Data(n)) => {
                    let data = Bytes::from(vec![*n; usize::from(*n)]);
                    self.left.pop_front();
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Some(Piece::Trailers) => {
                    self.left.clear();
                    return Poll::Ready(Some(Ok(Frame::trailers(trailers()))));
                }
                Some(Piece::Error) => return Poll::Ready(Some(Err("broken".into()))),
            }
        }
    }
}

// ===== The inner service =====

/// What arrived with a call.
#[derive(Debug)]
struct Seen {
    bearer: Option<String>,
    headers: HeaderMap,
    what: String,
    is_marked: bool,
    body: Vec<u8>,
    trailers: Option<HeaderMap>,
    is_whole: bool,
    is_broken: bool,
    answered: Option<u16>,
}

#[derive(Clone, Copy)]
struct Mark;

#[derive(Default)]
struct Log {
    script: Vec<Call>,
    /// How many calls were made, of this request.
    called: usize,
    seen: Vec<Seen>,
}

struct Api {
    log: Arc<Mutex<Log>>,
    ready: Option<Pin<Box<tokio::time::Sleep>>>,
    is_ready: bool,
}

impl Api {
    fn script(&self) -> Call {
        let log = self.log.lock().unwrap();
        log.script[log.called.min(1)].clone()
    }
}

impl Clone for Api {
    fn clone(&self) -> Self {
        Self { log: Arc::clone(&self.log), ready: None, is_ready: false }
    }
}

impl<B> Service<Request<B>> for Api
where
    B: Body<Data = Bytes, Error: Into<BoxError>> + Send + Unpin + 'static,
{
    type Response = Response<String>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Response<String>, BoxError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        let Ok(millis) = self.script().ready else { return Poll::Ready(Err("not ready".into())) };
        let sleep =
            self.ready.get_or_insert_with(|| Box::pin(sleep(Duration::from_millis(millis))));
        if !self.is_ready && sleep.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        self.is_ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        assert!(std::mem::take(&mut self.is_ready), "called without having been polled ready");
        self.ready = None;
        let script = self.script();
        let (parts, mut body) = request.into_parts();
        let mut headers = parts.headers;
        let bearer = headers.remove(AUTHORIZATION);
        let nth = {
            let mut log = self.log.lock().unwrap();
            log.called += 1;
            log.seen.push(Seen {
                bearer: bearer.map(|it| it.to_str().unwrap().to_owned()),
                headers,
                what: format!("{} {} {:?}", parts.method, parts.uri, parts.version),
                is_marked: parts.extensions.get::<Mark>().is_some(),
                body: Vec::new(),
                trailers: None,
                is_whole: false,
                is_broken: false,
                answered: None,
            });
            log.seen.len() - 1
        };
        let log = Arc::clone(&self.log);
        Box::pin(async move {
            for _ in 0..script.reads {
                let frame = body.frame().await;
                let mut log = log.lock().unwrap();
                let seen = &mut log.seen[nth];
                match frame {
                    None => seen.is_whole = true,
                    Some(Err(_)) => seen.is_broken = true,
                    Some(Ok(frame)) => match frame.into_data() {
                        Ok(data) => seen.body.extend(data),
                        Err(frame) => seen.trailers = frame.into_trailers().ok(),
                    },
                }
                if seen.is_whole || seen.is_broken {
                    break;
                }
            }
            sleep(Duration::from_millis(script.takes)).await;
            if script.keeps > 0 {
                // As a connection does that goes on sending.
                tokio::spawn(async move {
                    sleep(Duration::from_millis(script.keeps)).await;
                    drop(body);
                });
            }
            let (status, challenge, grpc) = script.answer.ok_or("the connection is gone")?;
            log.lock().unwrap().seen[nth].answered = Some(status);
            let mut response = Response::builder().status(status).header("x-call", nth);
            for (name, value) in [(WWW_AUTHENTICATE.as_str(), challenge), ("grpc-status", grpc)] {
                response = value.into_iter().fold(response, |it, value| it.header(name, value));
            }
            Ok(response.body(format!("answer {nth}")).unwrap())
        })
    }
}

// ===== The world =====

type Stack = BoxCloneService<Request<Pieces>, Response<String>, BoxError>;

struct World {
    stack: Stack,
    log: Arc<Mutex<Log>>,
    keeps: Keeps,
    grpc: bool,
    /// Whether anything was asked for before.
    is_used: bool,
    first_fetches: [Option<Fetched>; 2],
}

impl World {
    fn new(history: &History) -> Self {
        fastrand::seed(history.seed);
        let (fetches, minted) = (history.fetches.clone(), Arc::new(Mutex::new((0, 0))));
        let cache = TokenCache::new(from_fn(move |_| {
            let mut minted = minted.lock().unwrap();
            let (takes, answer) = fetches[minted.0 % fetches.len()];
            minted.0 += 1;
            let outcome = match answer {
                Fetched::New(lifetime) => {
                    minted.1 += 1;
                    let token = AccessToken::new(format!("t{}", minted.1)).unwrap();
                    let lifetime = lifetime.map(Duration::from_secs);
                    Ok(lifetime.into_iter().fold(token, AccessToken::with_lifetime))
                }
                Fetched::Same => Ok(AccessToken::new("same").unwrap()),
                Fetched::Transient => Err(TokenError::transient("busy")),
                Fetched::Permanent => Err(TokenError::permanent("no")),
            };
            async move {
                sleep(Duration::from_millis(takes)).await;
                outcome
            }
        }));
        let log = Arc::<Mutex<Log>>::default();
        let api = Api { log: Arc::clone(&log), ready: None, is_ready: false };
        let layer = BearerAuthLayer::from_cache(cache);
        let layer = layer.origin("https://api.example").unwrap();
        let layer = layer.origin("http://127.0.0.1:80").unwrap();
        let layer = if history.grpc { layer.grpc() } else { layer };
        let stack = match history.keeps {
            Keeps::Clones => BoxCloneService::new(layer.layer(api)),
            Keeps::Buffer(limit) => {
                BoxCloneService::new(layer.buffer_body(limit, |body| body).layer(api))
            }
            Keeps::Nothing => BoxCloneService::new(layer.no_replay().layer(api)),
        };
        let (keeps, grpc) = (history.keeps, history.grpc);
        let nth = |nth: usize| Some(history.fetches[nth % history.fetches.len()]);
        let at_once = |it: Option<(u64, Fetched)>| it.filter(|it| it.0 < 1000).map(|it| it.1);
        let first_fetches = [at_once(nth(0)), at_once(nth(1))];
        Self { stack, log, keeps, grpc, is_used: false, first_fetches }
    }

    async fn take(&mut self, exchange: &Exchange) {
        *self.log.lock().unwrap() = Log { script: exchange.calls.to_vec(), ..Log::default() };
        let mut request = Request::post(exchange.uri).header("x-own", "1").extension(Mark);
        if exchange.own {
            request = request.header(AUTHORIZATION, "Basic own");
        }
        if exchange.skips {
            request = request.extension(SkipAuth);
        }
        if let Some(limit) = exchange.limit {
            request = request.extension(ReplayLimit(limit));
        }
        let request = request.body(Pieces::new(&exchange.body)).unwrap();
        let sent = self.stack.clone().oneshot(request);
        if let Some(millis) = exchange.gone {
            drop(timeout(Duration::from_millis(millis), sent).await);
        } else {
            let outcome = timeout(BOUND, sent).await.expect("it waits for ever");
            self.check(exchange, outcome);
        }
        self.check_calls(exchange);
        self.is_used = true;
        sleep(Duration::from_millis(exchange.pause)).await;
    }

    /// What must hold also if the caller has gone.
    fn check_calls(&self, exchange: &Exchange) {
        let log = self.log.lock().unwrap();
        let sent = exchange.body.iter().filter_map(|piece| match piece {
            Piece::Data(n) => Some(vec![*n; usize::from(*n)]),
            _ => None,
        });
        let sent: Vec<u8> = sent.flatten().collect();
        let has_trailers = exchange.body.contains(&Piece::Trailers);
        assert!(log.seen.len() <= 2, "{} calls", log.seen.len());
        for seen in &log.seen {
            assert!(sent.starts_with(&seen.body), "another body");
            if seen.is_whole {
                assert_eq!(seen.body, sent, "half of the body");
                assert_eq!(seen.trailers.is_some(), has_trailers);
            }
            assert!(seen.is_marked && seen.headers["x-own"] == "1" && seen.headers.len() == 1);
            assert_eq!(seen.what, log.seen[0].what, "another request");
            let bearer = seen.bearer.as_deref().unwrap_or_default();
            match (exchange.skips, exchange.own) {
                (_, true) => assert_eq!(bearer, "Basic own"),
                (true, false) => assert_eq!(bearer, ""),
                (false, false) => assert!(bearer.starts_with("Bearer "), "sent without a token"),
            }
        }
        let is_untouched = exchange.skips || exchange.own;
        let may_go = matches!(
            exchange.uri,
            "https://api.example/a?b=c" | "https://API.example:443/" | "http://127.0.0.1:80/"
        );
        assert!(is_untouched || may_go || log.seen.is_empty(), "a token goes to {}", exchange.uri);
        if let [first, second] = &log.seen[..] {
            assert!(!is_untouched && self.is_rejection(exchange), "sent again without a rejection");
            assert_ne!(first.bearer, second.bearer, "the same token again");
            let is_lost = first.is_broken && matches!(self.keeps, Keeps::Buffer(_));
            assert!(self.may_keep(exchange) && !is_lost, "sent again, and was not kept");
        }
    }

    fn check(&self, exchange: &Exchange, outcome: Result<Response<String>, BoxError>) {
        let log = self.log.lock().unwrap();
        let is_untouched = exchange.skips || exchange.own;
        let must_be_refused =
            !exchange.uri.starts_with("https://a") && !exchange.uri.starts_with("https://A");
        match outcome {
            Ok(response) => {
                // The answer to the last call, or to the first if the second was not to be.
                let nth: usize = response.headers()["x-call"].to_str().unwrap().parse().unwrap();
                assert_eq!(nth + 1, log.seen.len(), "not the last answer");
                assert_eq!(*response.body(), format!("answer {nth}"));
                let status = exchange.calls[nth].answer.unwrap().0;
                assert_eq!(response.status(), StatusCode::from_u16(status).unwrap());
            }
            Err(error) => {
                let is_refused = Refused::find_in(&*error).is_some();
                let is_token = TokenError::find_in(&*error).is_some();
                assert!(!is_refused || (log.seen.is_empty() && must_be_refused), "{error}");
                assert!(!is_token || log.seen.len() <= 1, "{error}");
                let breaks =
                    exchange.calls.iter().any(|it| it.answer.is_none() || it.ready.is_err());
                assert!(is_refused || is_token || breaks, "{error}");
            }
        }
        // On a cache that holds nothing against anybody it is certain what comes of a rejection.
        let is_fresh = !self.is_used
            && matches!(self.first_fetches, [Some(Fetched::New(None)), Some(Fetched::New(None))]);
        let is_sent = log.seen.first().is_some_and(|seen| seen.answered.is_some());
        let is_kept = match self.keeps {
            Keeps::Clones => exchange.limit != Some(0),
            Keeps::Buffer(limit) => {
                let whole = log.seen.first().is_some_and(|seen| seen.is_whole);
                whole && exchange.limit.unwrap_or(limit) == 100_000
            }
            Keeps::Nothing => false,
        };
        let is_ready = exchange.calls[1].ready.is_ok();
        if is_fresh
            && is_sent
            && !is_untouched
            && is_kept
            && is_ready
            && self.is_rejection(exchange)
        {
            assert_eq!(log.seen.len(), 2, "a rejection that is not replayed");
        }
    }

    fn may_keep(&self, exchange: &Exchange) -> bool {
        exchange.limit != Some(0) && self.keeps != Keeps::Nothing
    }

    /// Whether the first answer says that another token may help.
    fn is_rejection(&self, exchange: &Exchange) -> bool {
        let Some((status, challenge, grpc)) = exchange.calls[0].answer else { return false };
        let is_it = status == 401 || (self.grpc && grpc == Some("16"));
        is_it && challenge.is_none_or(|it| !it.contains("insufficient_scope"))
    }
}

proptest! {
    // The same sequences each time; `PROPTEST_CASES` and `PROPTEST_RNG_SEED` make others.
    #![proptest_config(ProptestConfig { cases: 20_000, failure_persistence: None, rng_seed: RngSeed::Fixed(1), ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_sent_and_answered_the_layer_does_what_is_promised(history in history()) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let mut world = World::new(&history);
            for exchange in &history.exchanges {
                world.take(exchange).await;
            }
        });
    }
}
