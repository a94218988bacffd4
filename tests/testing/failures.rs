//! What the token service does when it is told to fail, to wait, or how long tokens live.

use std::time::Duration;

use http::StatusCode;
use tokio::time::Instant;
use tower_bearer::{
    oauth2::EndpointErrorKind as Kind,
    testing::{Dialect, Failure},
};

use super::support::{
    BASIC, DIALECTS, FORM, address, call, cause, fetch, get, post, raw, stack, token_address, world,
};

#[tokio::test]
async fn each_failure_is_what_it_says_and_the_next_answer_is_good_again() {
    let world = world().await;
    for (failure, kind, status) in [
        (Failure::Status(503), Kind::Unavailable, Some(503)),
        (Failure::Status(302), Kind::Redirected, Some(302)),
        (Failure::Status(7), Kind::Unavailable, Some(500)),
        (Failure::Status(101), Kind::Unavailable, Some(500)),
        (Failure::OAuth("slow_down"), Kind::Refused, Some(400)),
        (Failure::RetryAfter(7), Kind::Unavailable, Some(503)),
        (Failure::Cut, Kind::Interrupted, None),
    ] {
        world.tokens().fail_next(1, failure.clone());
        let error = fetch(world.tokens().endpoint()).await.unwrap_err();
        let cause = cause(&error);
        assert_eq!(*cause.kind(), kind, "{failure:?}");
        assert_eq!(cause.status().map(|status| status.as_u16()), status, "{failure:?}");
        let wait = (failure == Failure::RetryAfter(7)).then_some(Duration::from_secs(7));
        assert_eq!(cause.retry_after(), wait);
        assert_eq!(cause.error(), (failure == Failure::OAuth("slow_down")).then_some("slow_down"));
    }
    assert_eq!((world.tokens().fetches(), world.tokens().issued()), (7, 0));
    assert_eq!(fetch(world.tokens().endpoint()).await.unwrap().secret(), "t-1");
}

#[tokio::test]
async fn pages_and_garbage_come_with_status_200() {
    let world = world().await;
    for (failure, what) in [(Failure::HtmlPage, "HTML"), (Failure::Garbage, "broken JSON")] {
        world.tokens().fail_next(1, failure);
        let error = fetch(world.tokens().endpoint()).await.unwrap_err();
        assert_eq!(cause(&error).status(), Some(StatusCode::OK));
        assert!(matches!(cause(&error).kind(), Kind::Unreadable(why) if why.contains(what)));
    }
}

#[tokio::test]
async fn an_error_has_the_shape_of_its_dialect() {
    let world = world().await;
    world.tokens().fail(Failure::OAuth("invalid_client"));
    for dialect in DIALECTS {
        let error = fetch(world.tokens().endpoint_of(dialect)).await.unwrap_err();
        let is_ibm = dialect == Dialect::IbmCloud;
        let code = if is_ibm { "BXNIM0415E" } else { "invalid_client" };
        assert_eq!(cause(&error).error(), Some(code), "{dialect:?}");
    }
    world.tokens().recover();
    assert!(fetch(world.tokens().endpoint()).await.is_ok());
}

#[tokio::test]
async fn a_stack_gets_over_two_failures_with_a_third_attempt() {
    let world = world().await;
    world.tokens().fail_next(1, Failure::Status(503));
    world.tokens().fail_next(1, Failure::HtmlPage);
    let stack = stack(&world, world.tokens().endpoint());
    let (status, headers, _) = call(&stack, world.api().url("/"), "").await;
    assert_eq!((status, &headers["echo-token"]), (StatusCode::OK, &"t-1".parse().unwrap()));
    assert_eq!(world.tokens().fetches(), 3);
}

#[tokio::test]
async fn an_answer_that_is_lost_has_issued_a_token_and_is_cut_in_the_middle() {
    let world = world().await;
    world.tokens().fail_next(1, Failure::AnswerLost);
    let body = "grant_type=client_credentials";
    let request = format!(
        "POST /token HTTP/1.1\r\nHost: x\r\n{FORM}\r\n{BASIC}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let answer = raw(token_address(&world), request).await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    assert_eq!(body.len(), length.unwrap().parse::<usize>().unwrap() / 2);
    assert!(head.starts_with("HTTP/1.1 200 OK") && body.starts_with("{\"access_token\":"));
    assert_eq!(world.tokens().issued(), 1);
    assert_eq!(fetch(world.tokens().endpoint()).await.unwrap().secret(), "t-2");
}

#[tokio::test]
async fn a_delay_is_kept_to() {
    let world = world().await;
    let delay = Duration::from_millis(200);
    world.tokens().set_delay(delay);
    let start = Instant::now();
    post(&world, "/token", &[], "").await;
    assert!(start.elapsed() >= delay);
}

#[tokio::test]
async fn a_lifetime_can_be_set_and_left_out() {
    let world = world().await;
    world.tokens().set_expires_in(7);
    let token = fetch(world.tokens().endpoint()).await.unwrap();
    assert_eq!(token.lifetime(), Some(Duration::from_secs(7)));
    world.tokens().set_expires_in(None);
    for dialect in DIALECTS {
        let token = fetch(world.tokens().endpoint_of(dialect)).await.unwrap();
        assert_eq!(token.lifetime(), None, "{dialect:?}");
    }
}

#[tokio::test]
async fn a_token_of_no_seconds_is_rejected_as_expired() {
    let world = world().await;
    world.tokens().set_expires_in(0);
    fetch(world.tokens().endpoint()).await.unwrap();
    let answer = raw(address(&world.api().origin()), get("Authorization: Bearer t-1\r\n")).await;
    assert!(answer.contains("error_description=\"the access token expired\""), "{answer}");
}

// ===== Refresh tokens =====

#[tokio::test]
async fn refresh_tokens_are_rotated_and_one_that_is_used_again_ends_the_login() {
    let world = world().await;
    let first = world.tokens().log_in();
    let with = |token: &str| world.tokens().endpoint().refresh_token(token);
    let token = fetch(with(&first)).await.unwrap();
    assert_eq!((first.as_str(), token.refresh_token()), ("r-1", Some("r-2")));
    assert_eq!(fetch(with("r-2")).await.unwrap().refresh_token(), Some("r-3"));
    for spent in ["r-1", "r-3", "r-9"] {
        let error = fetch(with(spent)).await.unwrap_err();
        assert_eq!(cause(&error).error(), Some("invalid_grant"), "{spent}");
    }
}

#[tokio::test]
async fn a_refresh_token_whose_answer_was_lost_is_spent() {
    let world = world().await;
    let builder = world.tokens().endpoint().refresh_token(world.tokens().log_in());
    world.tokens().fail_next(1, Failure::AnswerLost);
    let error = fetch(builder).await.unwrap_err();
    assert_eq!(*cause(&error).kind(), Kind::RefreshTokenLost);

    let builder = world.tokens().endpoint().refresh_token(world.tokens().log_in());
    world.tokens().fail_next(1, Failure::Cut);
    assert!(fetch(builder).await.is_ok(), "a cut does nothing, so it can be repeated");
}
