//! Which request gets which token, and what a response says about it: without a service and without
//! a body. Only a fetch needs a runtime.

mod verdicts;

use http::{HeaderValue, Uri, header::AUTHORIZATION};
use tokio::runtime::{self, Runtime};

use super::*;
use crate::{
    cache::TokenCache,
    error::CacheError,
    source::{TokenRequest, from_fn},
    token::AccessToken,
};

const API: &str = "https://api.example.com";

fn token(secret: &str) -> AccessToken {
    AccessToken::new(secret).unwrap()
}

fn origin(text: &str) -> Origin {
    text.parse().unwrap()
}

fn uri(text: &str) -> Uri {
    text.parse().unwrap()
}

fn a_runtime() -> Runtime {
    runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn empty() -> TokenCache {
    TokenCache::new(from_fn(|_: TokenRequest| std::future::pending()))
}

/// A cache that holds this token.
fn holding(secret: &str) -> TokenCache {
    let held = token(secret);
    let cache = TokenCache::new(from_fn(move |_| std::future::ready(Ok(held.clone()))));
    a_runtime().block_on(cache.get()).unwrap();
    cache
}

/// Rules that name [`API`].
fn rules(cache: &TokenCache) -> Rules {
    naming(&[API], cache)
}

fn naming(origins: &[&str], cache: &TokenCache) -> Rules {
    let mut rules = Rules::new(cache.into());
    for named in origins {
        rules.add(origin(named), None).unwrap();
    }
    rules
}

fn admitted(rules: &Rules, to: &str) -> Admission {
    admit(rules, &Request::get(to).body(()).unwrap())
}

fn admit(rules: &Rules, request: &Request<()>) -> Admission {
    rules.admit(&RequestHead::of(request))
}

fn pass(rules: &Rules, to: &str) -> Arc<Pass> {
    match admitted(rules, to) {
        Admission::Ready(pass) => pass,
        other => panic!("{to}: {other:?}"),
    }
}

fn ready(rules: &Rules, to: &str) -> Option<Arc<Pass>> {
    rules.ready(Destination::of(&uri(to)), &Extensions::new())
}

fn refused(rules: &Rules, to: &str) -> Refused {
    match admitted(rules, to) {
        Admission::Refused(refused) => refused,
        other => panic!("{to}: {other:?}"),
    }
}

// ===== Untouched =====

#[test]
fn only_the_header_that_carries_the_token_is_a_requests_own_credentials() {
    let mut rules = rules(&holding("a"));
    rules.verdicts().header = TokenHeader::new("X-Api-Key").unwrap();
    let with = |name: &str| Request::get(API).header(name, "own").body(()).unwrap();
    assert!(matches!(admit(&rules, &with("X-Api-Key")), Admission::Untouched));
    let mut request = with("Authorization");
    let Admission::Ready(pass) = admit(&rules, &request) else { panic!("it is admitted") };
    assert!(pass.put(request.headers_mut()));
    assert_eq!(request.headers()["x-api-key"], "a");
    assert_eq!(request.headers()[AUTHORIZATION], "own");
}

#[test]
fn a_pass_for_one_header_is_not_used_for_another() {
    let mut rules = rules(&holding("a"));
    pass(&rules, API);
    assert!(ready(&rules, API).is_some());
    rules.verdicts().header = TokenHeader::new("X-Api-Key").unwrap();
    assert!(ready(&rules, API).is_none());
}

#[test]
fn skip_auth_and_own_credentials_pass_untouched_wherever_they_go() {
    let rules = rules(&empty());
    for to in [API, "https://evil.example/", "http://plain.example/", "/v1"] {
        let skips = Request::get(to).extension(SkipAuth).body(()).unwrap();
        let own = Request::get(to).header(AUTHORIZATION, "Basic x").body(()).unwrap();
        for request in [skips, own] {
            assert!(matches!(admit(&rules, &request), Admission::Untouched), "{request:?}");
        }
    }
}

#[test]
fn a_pass_that_was_left_is_none_for_a_request_that_skips() {
    let rules = rules(&holding("a"));
    pass(&rules, API);
    let request = Request::get(API).extension(SkipAuth).body(()).unwrap();
    let destination = Destination::of(request.uri());
    assert!(rules.ready(destination, request.extensions()).is_none());
    let other = Request::get(API).extension(7_u8).body(()).unwrap();
    assert!(rules.ready(destination, other.extensions()).is_some(), "other extensions say nothing");
}

// ===== Refused =====

#[test]
fn what_was_not_named_is_refused() {
    let rules = rules(&holding("a"));
    for to in [
        "https://evil.example/",
        "https://api.example.com.evil.example/",
        "https://evil-api.example.com/",
        "https://api.example.com:8443/",
        "https://api.example.com./",
        "http://api.example.com/",
        "http://api.example.com:443/",
        "https://api.example.com@evil.example/",
        "https://api.example.com:443@evil.example/",
    ] {
        let Refused::NotNamed(_) = refused(&rules, to) else { panic!("{to}") };
        assert!(ready(&rules, to).is_none(), "{to}");
    }
}

#[test]
fn an_origin_that_will_never_get_a_token_is_found_in_any_order_of_calls() {
    let plain = naming(&[API, "http://internal.example"], &empty());
    assert_eq!(plain.check(), Err(InvalidOrigin::Plaintext(origin("http://internal.example"))));
    let mut allowed = plain.clone();
    allowed.allow_plaintext = true;
    assert_eq!(allowed.check(), Ok(()));
    let mut allowed = Rules::new((&empty()).into());
    allowed.allow_plaintext = true;
    assert_eq!(allowed.check(), Err(InvalidOrigin::NoneNamed));
    allowed.add(origin("http://internal.example"), None).unwrap();
    assert_eq!(allowed.check(), Ok(()));
    assert_eq!(naming(&[API, "http://127.0.0.1:1", "http://[::1]"], &empty()).check(), Ok(()));
}

#[test]
fn an_assumed_origin_that_was_not_named_is_found() {
    let mut unnamed = Rules::new((&empty()).into());
    unnamed.assume(origin(API));
    unnamed.add(origin("https://other.example"), None).unwrap();
    assert_eq!(unnamed.check(), Err(InvalidOrigin::NotNamed(origin(API))));
    unnamed.add(origin(API), None).unwrap();
    assert_eq!(unnamed.check(), Ok(()));

    let mut any = Rules::new((&empty()).into());
    any.assume(origin(API));
    any.any_https();
    assert_eq!(any.check(), Ok(()));
    any.assume(origin("http://127.0.0.1"));
    assert!(any.check().is_err());
}

#[test]
fn what_does_not_say_where_it_goes_is_refused() {
    let rules = rules(&holding("a"));
    for to in ["/v1", "*", "api.example.com:443", "api.example.com", "ftp://api.example.com/"] {
        assert_eq!(refused(&rules, to), Refused::NoOrigin, "{to}");
    }
}

#[test]
fn in_plain_text_a_token_goes_to_this_machine_alone_unless_that_is_allowed() {
    let far = "http://internal.example/";
    let near = ["http://127.0.0.1:8080/", "http://localhost/", "http://[::1]:1/"];
    let mut rules = naming(&[far, near[0], near[1], near[2]], &holding("a"));
    assert_eq!(refused(&rules, far), Refused::Plaintext(origin(far)));
    for to in near {
        pass(&rules, to);
    }
    rules.allow_plaintext = true;
    pass(&rules, far);
}

#[test]
fn what_is_not_listed_may_go_bare_and_what_would_be_read_on_the_way_may_not() {
    let mut rules = naming(&[API, "http://internal.example"], &holding("a"));
    rules.unlisted = UnlistedOrigin::SendBare;
    for to in ["https://evil.example/", "/v1", "ftp://api.example.com/", "api.example.com:443"] {
        assert!(matches!(admitted(&rules, to), Admission::Untouched), "{to}");
    }
    let plain = refused(&rules, "http://internal.example/");
    assert_eq!(plain, Refused::Plaintext(origin("http://internal.example")));
    pass(&rules, API);
}

// ===== Waiting, failed =====

#[test]
fn without_a_token_a_request_waits_for_the_flight_that_it_starts() {
    let runtime = a_runtime();
    let _inside = runtime.enter();
    let cache = empty();
    let rules = rules(&cache);
    assert!(matches!(admitted(&rules, API), Admission::Waiting(_)));
    assert!(cache.status().is_fetching());
    assert!(ready(&rules, API).is_none());
}

#[test]
fn without_a_token_and_without_a_runtime_it_fails() {
    let Admission::Failed(error) = admitted(&rules(&empty()), API) else { panic!("no failure") };
    assert_eq!(error.downcast_ref(), Some(&CacheError::NoRuntime));
}

#[test]
fn what_is_refused_fetches_nothing() {
    let runtime = a_runtime();
    let _inside = runtime.enter();
    let cache = empty();
    refused(&rules(&cache), "https://evil.example/");
    assert_eq!(cache.status().flights(), 0);
}

// ===== Where a request goes =====

#[test]
fn a_destination_is_what_the_uri_says_and_no_more() {
    let host = |is_https, authority| Destination::Host { is_https, authority };
    for (text, expected) in [
        ("https://a.example/x?y", host(true, "a.example")),
        ("http://a.example", host(false, "a.example")),
        ("HTTPS://A.Example:443/", host(true, "A.Example:443")),
        ("http://u:p@a.example:80/", host(false, "u:p@a.example:80")),
        ("https://[::1]:8443/", host(true, "[::1]:8443")),
        ("ftp://a.example/", Destination::Other),
        ("wss://a.example/", Destination::Other),
        ("a.example:443", Destination::Other),
        ("/x?y", Destination::Unsaid),
        ("*", Destination::Unsaid),
    ] {
        assert_eq!(Destination::of(&uri(text)), expected, "{text}");
    }
    assert_eq!(Destination::of_parts("data", "a.example"), Destination::Other);
    assert_eq!(Destination::of_parts("HTTPS", "a.example"), Destination::Other);
}

#[test]
fn a_named_origin_is_found_however_it_is_written() {
    let named = [API, "http://[::1]:8080", "http://127.0.0.1", "https://other.example:8443"];
    let rules = naming(&named, &holding("a"));
    for to in [
        "https://api.example.com",
        "https://api.example.com/v1?x",
        "https://api.example.com:443/",
        "https://API.Example.COM/",
        "HTTPS://API.EXAMPLE.COM:443/",
        "https://user@api.example.com/",
        "https://user:pw@api.example.com:443/",
    ] {
        assert_eq!(*pass(&rules, to).origin(), origin(API), "{to}");
    }
    for to in ["http://[::1]:8080/", "http://[0:0:0:0:0:0:0:1]:8080/", "http://[::0.0.0.1]:8080"] {
        assert_eq!(*pass(&rules, to).origin(), origin("http://[::1]:8080"), "{to}");
    }
    for to in ["http://127.0.0.1/", "http://127.0.0.1:80/"] {
        assert_eq!(*pass(&rules, to).origin(), origin("http://127.0.0.1"), "{to}");
    }
    refused(&rules, "https://other.example/");
}

#[test]
fn what_is_left_for_the_next_request_is_found_by_each_usual_spelling() {
    let rules = rules(&holding("a"));
    assert!(ready(&rules, API).is_none(), "nobody was here");
    let first = pass(&rules, API);
    for to in [API, "https://api.example.com:443/v1", "https://api.example.com/?x"] {
        assert!(Arc::ptr_eq(&first, &ready(&rules, to).expect(to)), "{to}");
    }
}

// ===== The assumed origin =====

#[test]
fn the_assumed_origin_is_meant_where_there_is_neither_scheme_nor_authority_and_nowhere_else() {
    let mut rules = rules(&holding("a"));
    rules.assume(origin(API));
    for to in ["/v1", "/service/Method", "*"] {
        assert_eq!(*pass(&rules, to).origin(), origin(API), "{to}");
        assert!(ready(&rules, to).is_some(), "{to}");
    }
    for to in ["api.example.com:443", "evil.example:443", "ftp://evil.example/", "ftp://api/"] {
        assert_eq!(refused(&rules, to), Refused::NoOrigin, "{to}");
        assert!(ready(&rules, to).is_none(), "{to}");
    }
    for to in ["https://evil.example/", "http://api.example.com/"] {
        assert!(matches!(refused(&rules, to), Refused::NotNamed(_)), "{to}");
        assert!(ready(&rules, to).is_none(), "{to}");
    }
}

#[test]
fn an_assumed_origin_has_to_be_named_and_safe_as_well() {
    let mut rules = rules(&holding("a"));
    rules.assume(origin("https://other.example"));
    assert_eq!(refused(&rules, "/v1"), Refused::NotNamed(origin("https://other.example")));
    let mut rules = naming(&["http://internal.example"], &holding("a"));
    rules.assume(origin("http://internal.example"));
    assert!(matches!(refused(&rules, "/v1"), Refused::Plaintext(_)));
}

// ===== Any https origin =====

#[test]
fn any_https_origin_gets_the_token_and_each_its_own_pass_although_they_share_places() {
    let mut rules = Rules::new((&holding("a")).into());
    rules.any_https();
    // Many more than there are slots: each round takes over the slots of the others.
    for _ in 0..3 {
        for n in 0..500 {
            let to = format!("https://{n}.example");
            if let Some(left) = ready(&rules, &to) {
                assert_eq!(*left.origin(), origin(&to));
            }
            let pass = pass(&rules, &to);
            assert_eq!((pass.origin(), pass.named_origin()), (&origin(&to), None));
            assert_eq!(*ready(&rules, &to).expect("it was just left").origin(), origin(&to));
        }
    }
    for to in ["http://0.example/", "http://127.0.0.1/", "ftp://0.example/", "0.example:443", "/"] {
        refused(&rules, to);
        assert!(ready(&rules, to).is_none(), "{to}");
    }
}

#[test]
fn a_pass_for_https_is_none_for_http_of_the_same_name() {
    let mut rules = naming(&["http://api.example.com"], &holding("plain"));
    rules.allow_plaintext = true;
    rules.any_https();
    let secure = pass(&rules, API);
    let plain = pass(&rules, "http://api.example.com/");
    assert!(secure.origin().is_https() && !plain.origin().is_https());
    for _ in 0..2 {
        assert!(ready(&rules, API).unwrap().origin().is_https());
        assert!(!ready(&rules, "http://api.example.com").unwrap().origin().is_https());
        // All origins share the slot for unusual spellings.
        assert!(!pass(&rules, "http://API.example.com").origin().is_https());
        assert!(ready(&rules, "https://API.example.com").is_none_or(|it| it.origin().is_https()));
        assert!(pass(&rules, "https://API.example.com").origin().is_https());
        assert!(ready(&rules, "http://API.example.com").is_none_or(|it| !it.origin().is_https()));
    }
}

#[test]
fn an_origin_that_gets_tokens_of_its_own_later_keeps_none_of_the_layers() {
    let mut rules = Rules::new((&holding("layers")).into());
    rules.any_https();
    for to in [API, "https://API.example.com"] {
        assert_eq!(pass(&rules, to).token.secret(), "layers");
    }
    rules.add(origin(API), Some((&holding("own")).into())).unwrap();
    for to in [API, "https://API.example.com"] {
        let token = ready(&rules, to).map(|left| left.token.secret().to_owned());
        assert!(token.is_none_or(|token| token == "own"), "{to}");
        assert_eq!(pass(&rules, to).token.secret(), "own", "{to}");
    }
}

// ===== Routes =====

#[test]
fn each_of_a_thousand_routes_gets_its_own_token() {
    let layers = holding("layers");
    let runtime = a_runtime();
    let mut rules = Rules::new((&layers).into());
    let name = |n: usize| match n % 3 {
        0 => format!("https://api-{n}.example.com"),
        1 => format!("https://api-{n}.example.com:{}", 8000 + n),
        _ => format!("http://127.0.{}.{}:80", n / 250, n % 250 + 1),
    };
    for n in 0..1000 {
        let held = token(&format!("token-{n}"));
        let cache = TokenCache::new(from_fn(move |_| std::future::ready(Ok(held.clone()))));
        runtime.block_on(cache.get()).unwrap();
        rules.add(origin(&name(n)), Some(cache.into())).unwrap();
    }
    for n in (0..1000).rev() {
        let to = name(n);
        assert!(ready(&rules, &to).is_none());
        let given = pass(&rules, &to);
        assert_eq!((given.token.secret(), given.origin()), (&*format!("token-{n}"), &origin(&to)));
        assert_eq!(given.named_origin(), Some(&origin(&to)));
        assert!(Arc::ptr_eq(&given, &ready(&rules, &to).unwrap()));
    }
    assert!(matches!(refused(&rules, "https://api-1000.example.com"), Refused::NotNamed(_)));
}

#[test]
fn an_origin_is_given_to_one_cache_however_often_and_however_it_is_written() {
    let (first, second) = (holding("a"), holding("b"));
    let mut rules = rules(&first);
    rules.add(origin("https://API.example.com:443"), None).unwrap();
    rules.add(origin(API), Some((&first).into())).unwrap();
    let error = rules.add(origin(API), Some((&second).into())).unwrap_err();
    assert_eq!(error, InvalidOrigin::Taken(origin(API)));
    assert_eq!(pass(&rules, API).token.secret(), "a");
}

// ===== How much is kept =====

#[test]
fn a_request_says_how_much_of_it_may_be_kept_and_the_judge_whether() {
    let kept = |rules: &Rules, request: Request<()>| {
        let (parts, ()) = request.into_parts();
        rules.keep(&parts.extensions, Some(&parts))
    };
    let post = || Request::post(API);
    let mut rules = rules(&empty());
    assert_eq!(kept(&rules, post().body(()).unwrap()), Keep::UpTo(None));
    assert_eq!(kept(&rules, post().extension(7_u8).body(()).unwrap()), Keep::UpTo(None));
    let limited = |limit| post().extension(ReplayLimit(limit)).body(()).unwrap();
    assert_eq!(kept(&rules, limited(9)), Keep::UpTo(Some(9)));
    assert_eq!(kept(&rules, limited(0)), Keep::Nothing);

    rules.replay_if = Some(Arc::new(|parts| {
        parts.headers.contains_key("idempotency-key") && parts.extensions.get::<u8>().is_some()
    }));
    assert_eq!(kept(&rules, limited(9)), Keep::Nothing);
    let keyed = || post().header("idempotency-key", "k").extension(7_u8);
    assert_eq!(kept(&rules, keyed().body(()).unwrap()), Keep::UpTo(None));
    assert_eq!(kept(&rules, keyed().extension(ReplayLimit(0)).body(()).unwrap()), Keep::Nothing);
}

// ===== The pass that one service used last =====

#[test]
fn a_service_remembers_the_pass_of_its_first_origin_and_gives_it_to_no_other() {
    let rules = naming(&[API, "https://other.example"], &holding("a"));
    let mut recent = Recent::default();
    let mut looked_up = 0;
    let mut find = |to: &str, extensions: &Extensions| {
        recent.ready(&uri(to), extensions, |destination| {
            looked_up += 1;
            rules.ready(destination, extensions)
        })
    };
    let none = Extensions::new();
    assert!(find(API, &none).is_none());
    pass(&rules, API);
    pass(&rules, "https://other.example");
    for _ in 0..3 {
        assert_eq!(*find(API, &none).unwrap().origin(), origin(API));
    }
    let other = find("https://other.example", &none).unwrap();
    assert_eq!(*other.origin(), origin("https://other.example"));
    assert_eq!(*find(API, &none).unwrap().origin(), origin(API));
    let mut skips = Extensions::new();
    skips.insert(SkipAuth);
    assert!(find(API, &skips).is_none());
    assert!(find("https://evil.example", &none).is_none());
    assert!(looked_up < 8, "{looked_up}");
}

// ===== Keys =====

/// Rules over the tokens of keys, with one key: that of [`key`].
#[cfg(feature = "keyed")]
fn keyed(origins: &[&str]) -> Rules {
    use crate::cache::keyed::KeyedTokenCache;

    let source = from_fn(|_| std::future::ready(Ok(token("a"))));
    let tokens = KeyedTokenCache::builder(source).build().unwrap();
    a_runtime().block_on(tokens.get(&key())).unwrap();
    let mut rules = Rules::new(tokens.into());
    for named in origins {
        rules.add(origin(named), None).unwrap();
    }
    rules
}

#[cfg(feature = "keyed")]
fn key() -> TokenKey {
    TokenKey::new().scope("a")
}

/// Leaves the pass of a request with this key.
#[cfg(feature = "keyed")]
fn leave_with_key(rules: &Rules, to: &str) {
    let request = Request::get(to).extension(key()).body(()).unwrap();
    assert!(matches!(admit(rules, &request), Admission::Ready(_)), "{to}");
}

#[cfg(feature = "keyed")]
fn ready_with_key(rules: &Rules, to: &str) -> Option<Origin> {
    let mut extensions = Extensions::new();
    extensions.insert(key());
    let pass = rules.ready(Destination::of(&uri(to)), &extensions)?;
    Some(pass.origin().clone())
}

#[cfg(feature = "keyed")]
#[test]
fn a_pass_that_was_left_beside_a_keys_token_is_for_its_origin_alone() {
    let rules = keyed(&[API, "https://other.example"]);
    leave_with_key(&rules, API);
    assert_eq!(ready_with_key(&rules, API), Some(origin(API)));
    assert_eq!(ready_with_key(&rules, "https://other.example"), None);
    leave_with_key(&rules, "https://other.example");
    assert_eq!(ready_with_key(&rules, API), None);
}

#[cfg(feature = "keyed")]
#[test]
fn a_pass_that_was_left_beside_a_keys_token_is_not_for_rules_that_were_changed() {
    let mut rules = keyed(&[API, "https://other.example"]);
    rules.assume(origin(API));
    leave_with_key(&rules, "/v1");
    assert_eq!(ready_with_key(&rules, "/v1"), Some(origin(API)));
    rules.changing();
    rules.assume(origin("https://other.example"));
    assert_eq!(ready_with_key(&rules, "/v1"), None);
    leave_with_key(&rules, "/v1");
    assert_eq!(ready_with_key(&rules, "/v1"), Some(origin("https://other.example")));
}

#[cfg(feature = "keyed")]
#[test]
fn an_origin_with_one_token_is_found_where_a_subject_is_required() {
    let mut one = rules(&empty());
    one.requires_subject = true;
    assert_eq!(one.check(), Err(InvalidOrigin::NotForSubjects(origin(API))));
    let mut keyed = keyed(&[API]);
    keyed.requires_subject = true;
    assert_eq!(keyed.check(), Ok(()));
}
