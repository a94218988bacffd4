//! A tonic `Channel` over TLS, with a gRPC server that says `UNAUTHENTICATED` early, late and in trailers.

use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::sync::mpsc;
use tonic::{
    Code, Status,
    transport::{Certificate, Channel, ClientTlsConfig},
};
use tower::Layer;
use tower_bearer::{BearerAuth, BearerAuthLayer, BufferBody, Rejection, ReplayBody, TokenCache};

use crate::{
    loopback::{
        Tokens,
        grpc::{self, GreeterClient, JOIN, STRICT_JOIN},
    },
    plain_listener::{PlainListener, leak},
    world::{World, bounded},
};

type Body = tonic::body::Body;
type Stack = BearerAuth<Channel, BufferBody<fn(ReplayBody<Body>) -> Body>>;

const LIMIT: usize = 1024;

async fn world() -> (World, GreeterClient<Stack>) {
    let tokens = Tokens::default();
    let server = grpc::server(&tokens);
    let (world, authority) = World::over_tls(tokens, server).await;
    let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(authority.pem()));
    let greeter = greeter(&world.cache, &world.api, tls);
    (world, greeter)
}

fn greeter(cache: &TokenCache, origin: &str, tls: ClientTlsConfig) -> GreeterClient<Stack> {
    let layer = BearerAuthLayer::from_cache(cache.clone()).origin(origin).unwrap();
    let layer = layer.assume_origin(origin).unwrap().grpc();
    let layer = layer.buffer_body(LIMIT, Body::new as fn(ReplayBody<Body>) -> Body);
    let channel = Channel::from_shared(origin.to_owned()).unwrap().tls_config(tls).unwrap();
    GreeterClient::new(layer.layer(channel.connect_lazy()))
}

/// A token is here, and it is no good any more.
async fn revoked(world: &World) {
    world.cache.get().await.unwrap();
    world.tokens.revoke();
}

fn names<const N: usize>(names: [&str; N]) -> impl futures_util::Stream<Item = String> + use<N> {
    stream::iter(names.map(str::to_owned))
}

#[tokio::test]
async fn a_unary_call_with_an_old_token_succeeds_after_one_renewal() {
    let (world, mut greeter) = world().await;
    revoked(&world).await;
    assert_eq!(bounded(greeter.hello("world")).await.unwrap(), "hello, world with t2");
    assert_eq!(world.tokens.shown(), ["t1", "t2"]);
    assert_eq!(world.tokens.issued(), 2);
}

#[tokio::test]
async fn a_client_stream_that_was_read_to_its_end_is_sent_again() {
    let (world, mut greeter) = world().await;
    revoked(&world).await;
    let joined = bounded(greeter.join(JOIN, names(["Ada", "Grace"]))).await.unwrap();
    assert_eq!(joined, "hello, Ada Grace with t2");
    assert_eq!(world.tokens.shown(), ["t1", "t2"]);
}

#[tokio::test]
async fn a_client_stream_rejected_while_it_streams_goes_on_in_the_replay() {
    let (world, mut greeter) = world().await;
    revoked(&world).await;
    let (sender, mut receiver) = mpsc::unbounded_channel();
    let messages = stream::poll_fn(move |cx| receiver.poll_recv(cx));
    sender.send("Ada".to_owned()).unwrap();
    let tokens = world.tokens.clone();
    let remaining = async move {
        tokens.were_shown(2).await;
        // The first call is over: this can only go into the second.
        sender.send("Grace".to_owned()).unwrap();
    };
    let (joined, ()) =
        bounded(async { tokio::join!(greeter.join(STRICT_JOIN, messages), remaining) }).await;
    assert_eq!(joined.unwrap(), "hello, Ada Grace with t2");
    assert_eq!(world.tokens.shown(), ["t1", "t2"]);
}

#[tokio::test]
async fn a_client_stream_past_the_limit_is_rejected_and_the_next_call_succeeds() {
    let (world, mut greeter) = world().await;
    revoked(&world).await;
    let long = "x".repeat(LIMIT + 1);
    let status = bounded(greeter.join(JOIN, names([&long]))).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::Unauthenticated, "the token is invalid"));
    assert_eq!(bounded(greeter.hello("world")).await.unwrap(), "hello, world with t2");
    assert_eq!(world.tokens.shown(), ["t1", "t2"]);
}

#[tokio::test]
async fn a_rejection_in_trailers_reaches_the_caller_who_tells_the_cache() {
    let (world, mut greeter) = world().await;
    revoked(&world).await;
    let carried = world.cache.get().await.unwrap();
    let mut answers = bounded(greeter.late()).await.unwrap();
    assert_eq!(bounded(answers.next()).await.unwrap().unwrap(), "hello");
    let status: Status = bounded(answers.next()).await.unwrap().unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
    // The layer has not seen it.
    assert_eq!(world.cache.get().await.unwrap().secret(), "t1");

    world.cache.reject(Rejection::new(carried).with_origin(world.api.parse().unwrap()));
    // It waits for the renewal.
    let answers: Vec<_> =
        bounded(async { greeter.late().await?.try_collect().await }).await.unwrap();
    assert_eq!(answers, ["hello", "with t2"]);
    assert_eq!(world.tokens.issued(), 2);
}

#[tokio::test]
async fn an_error_of_another_kind_is_no_rejection() {
    let (world, mut greeter) = world().await;
    let status = bounded(greeter.join("/demo.Greeter/Unknown", names([]))).await.unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented);
    assert_eq!(bounded(world.cache.get()).await.unwrap().secret(), "t1");
    assert_eq!(world.tokens.issued(), 1);
}

#[tokio::test]
async fn a_server_with_an_untrusted_certificate_gets_no_token() {
    let (world, _) = world().await;
    let mut greeter = greeter(&world.cache, &world.api, ClientTlsConfig::new());
    let status = bounded(greeter.hello("world")).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert_eq!((world.tokens.issued(), world.tokens.shown().len()), (1, 0));
}

#[tokio::test]
async fn a_listener_without_tls_gets_no_headers_though_a_token_is_here() {
    let (world, _) = world().await;
    let token = world.cache.get().await.unwrap();
    let listener = PlainListener::start().await;
    let mut greeter = greeter(&world.cache, &listener.https(), ClientTlsConfig::new());
    bounded(greeter.hello("world")).await.unwrap_err();
    drop(greeter);

    let received = listener.received().await;
    assert!(!received.is_empty());
    for bytes in received {
        // The token alone is too short to be found among random bytes.
        assert_eq!(leak(&bytes, &format!("Bearer {}", token.secret())), None);
    }
}
