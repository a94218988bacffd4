//! What a response says about the token that its request carried.

use http::Response;

use super::*;
use crate::origin::FinalUri;

fn response(status: u16) -> Response<()> {
    Response::builder().status(status).body(()).unwrap()
}

fn with_grpc_status(status: u16, grpc: &'static str) -> Response<()> {
    let mut response = response(status);
    response.headers_mut().insert("grpc-status", HeaderValue::from_static(grpc));
    response
}

fn from(status: u16, from: &str) -> Response<()> {
    let mut response = response(status);
    response.extensions_mut().insert(FinalUri(uri(from)));
    response
}

fn verdict(pass: &Pass, response: Response<()>) -> Verdict {
    let (parts, ()) = response.into_parts();
    pass.verdict(&ResponseHead::of_parts(&parts))
}

#[test]
fn a_401_is_a_rejection_what_is_below_400_an_acceptance_and_all_else_says_nothing() {
    let pass = pass(&rules(&holding("a")), API);
    for status in [200, 204, 206, 304, 302, 399] {
        assert_eq!(verdict(&pass, response(status)), Verdict::Accepted, "{status}");
    }
    assert_eq!(verdict(&pass, response(401)), Verdict::Rejected);
    for status in [400, 402, 403, 404, 407, 409, 429, 499, 500, 502, 503, 504, 599] {
        assert_eq!(verdict(&pass, response(status)), Verdict::Silent, "{status}");
    }
    for grpc in ["0", "7", "16"] {
        assert_eq!(verdict(&pass, with_grpc_status(200, grpc)), Verdict::Accepted, "not spoken");
    }
}

#[test]
fn where_grpc_is_spoken_its_status_counts_too() {
    let mut rules = rules(&holding("a"));
    rules.verdicts().grpc = true;
    let pass = pass(&rules, API);
    assert_eq!(verdict(&pass, response(200)), Verdict::Accepted, "it comes in the trailers");
    assert_eq!(verdict(&pass, response(401)), Verdict::Rejected);
    assert_eq!(verdict(&pass, with_grpc_status(200, "16")), Verdict::Rejected);
    assert_eq!(verdict(&pass, with_grpc_status(503, "16")), Verdict::Rejected);
    assert_eq!(verdict(&pass, with_grpc_status(200, "0")), Verdict::Accepted);
    assert_eq!(verdict(&pass, with_grpc_status(503, "0")), Verdict::Silent);
    for other in ["1", "7", "14", "016", "", "16 "] {
        assert_eq!(verdict(&pass, with_grpc_status(200, other)), Verdict::Silent, "{other:?}");
    }
}

#[test]
fn a_users_rule_takes_the_place_of_the_401() {
    let mut rules = rules(&holding("a"));
    rules.verdicts().rejected_when = Some(Arc::new(|parts| {
        parts.status == 403 && parts.headers.contains_key("x-stale") || parts.status == 200
    }));
    let pass = pass(&rules, API);
    assert!(pass.judges_parts());
    let mut stale = response(403);
    stale.headers_mut().insert("x-stale", HeaderValue::from_static("1"));
    assert_eq!(verdict(&pass, stale), Verdict::Rejected);
    assert_eq!(verdict(&pass, response(403)), Verdict::Silent);
    assert_eq!(verdict(&pass, response(401)), Verdict::Silent);
    assert_eq!(verdict(&pass, response(200)), Verdict::Rejected);
    assert_eq!(verdict(&pass, response(204)), Verdict::Accepted);
}

#[test]
fn a_users_rule_applies_together_with_the_status_of_grpc() {
    let mut rules = rules(&holding("a"));
    rules.verdicts().grpc = true;
    rules.verdicts().rejected_when = Some(Arc::new(|_| false));
    let pass = pass(&rules, API);
    assert_eq!(verdict(&pass, with_grpc_status(200, "16")), Verdict::Rejected);
    assert_eq!(verdict(&pass, response(401)), Verdict::Silent);
}

#[test]
fn the_answer_of_another_origin_says_nothing_of_the_token() {
    let pass = pass(&rules(&holding("a")), API);
    for other in ["https://login.example/", "http://api.example.com/", "https://api.example.com:1"]
    {
        for status in [200, 401, 403] {
            assert_eq!(verdict(&pass, from(status, other)), Verdict::Silent, "{other}");
        }
    }
    for same in [API, "https://API.example.com:443/else", "https://u@api.example.com/", "/relative"]
    {
        assert_eq!(verdict(&pass, from(401, same)), Verdict::Rejected, "{same}");
        assert_eq!(verdict(&pass, from(200, same)), Verdict::Accepted, "{same}");
    }
}

#[test]
fn what_a_client_knows_of_where_a_response_came_from_comes_before_what_is_noted_on_it() {
    let pass = pass(&rules(&holding("a")), API);
    let response = from(401, API);
    let other = uri("https://login.example/");
    let head =
        ResponseHead { came_from: Some(Destination::of(&other)), ..ResponseHead::of(&response) };
    assert_eq!(pass.verdict(&head), Verdict::Silent);
}

#[test]
fn passes_that_were_made_for_other_verdicts_are_forgotten() {
    let mut rules = rules(&holding("a"));
    rules.any_https();
    rules.assume(origin(API));
    for to in [API, "https://any.example", "/v1"] {
        pass(&rules, to);
    }
    rules.verdicts().grpc = true;
    for to in [API, "https://any.example", "/v1"] {
        assert!(ready(&rules, to).is_none(), "{to}");
        assert_eq!(verdict(&pass(&rules, to), with_grpc_status(200, "16")), Verdict::Rejected);
    }
}
