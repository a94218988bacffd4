//! What the layer adds to a request when there is a usable token.
//!
//! Each row is a request that is built, goes through a service that answers at once, and whose
//! response is dropped; it is printed with its ratio to the floor, which is a service that inserts
//! a ready header. All rows of a table are measured in turn, so that they suffer alike from
//! whatever else the machine does.
//!
//! ```text
//! cargo bench -p tower-bearer-benches --bench hot_path              # a minute
//! cargo bench -p tower-bearer-benches --bench hot_path -- --quick   # ten seconds
//! ```

use std::{convert::identity, env, hint::black_box};

use tokio::runtime::Runtime;
use tower_bearer_benches::{
    Answer, REPLAY_LIMIT, Tokens,
    chain::Chain,
    check,
    keyed::{Users, keyed_request},
    many_uris, request,
    rounds::{Effort, Rounds},
    runtime,
    threads::{self, Clones},
    uri, walk, walk_with,
};
use tower_layer::Layer;

const FLOOR: &str = "floor";
const NO_REPLAY: &str = "NoReplay";
const CLONE_BODY: &str = "CloneBody";

fn main() {
    let runtime = runtime();
    let _inside = runtime.enter();
    let effort = effort();
    check_all(&runtime);
    one_thread(&runtime, effort);
    many_origins(&runtime, effort);
    keys(&runtime, effort);
    chains(&runtime, effort);
    two_threads(&runtime, effort);
    two_threads_while_refreshing(&runtime, effort);
}

/// `cargo bench` says `--bench`; without it the rows are only tried.
fn effort() -> Effort {
    let has = |name| env::args().any(|argument| argument == name);
    match (has("--bench"), has("--quick")) {
        (false, _) => Effort { rounds: 1, requests: 100 },
        (true, true) => Effort { rounds: 30, requests: 10_000 },
        (true, false) => Effort { rounds: 200, requests: 10_000 },
    }
}

fn check_all(runtime: &Runtime) {
    let tokens = Tokens::new(runtime);
    check(&tokens, &tokens.layer(), &uri());
    check(&tokens, &tokens.layer().no_replay(), &uri());
    let many = tokens.layer_of_many().no_replay();
    for uri in many_uris() {
        check(&tokens, &many, &uri);
    }
    Chain::with_auth(tokens.layer()).check(&tokens);
    Chain::with_auth(tokens.layer().no_replay()).check(&tokens);
    assert_eq!(tokens.fetched(), 1);
}

fn one_thread(runtime: &Runtime, effort: Effort) {
    let (tokens, uri) = (Tokens::new(runtime), uri());
    let mut bare = Answer;
    let mut floor = tokens.floor();
    let mut no_replay = tokens.layer().no_replay().layer(Answer);
    let mut clone_body = tokens.layer().layer(Answer);
    let mut buffer_body = tokens.layer().buffer_body(REPLAY_LIMIT, identity).layer(Answer);

    let mut rounds = Rounds::default();
    rounds.add(FLOOR, || walk(&mut floor, &uri));
    rounds.add("no auth at all", || walk(&mut bare, &uri));
    rounds.add(NO_REPLAY, || walk(&mut no_replay, &uri));
    rounds.add(CLONE_BODY, || walk(&mut clone_body, &uri));
    rounds.add("BufferBody", || walk(&mut buffer_body, &uri));
    rounds.add("request alone", || drop(black_box(request(&uri))));
    rounds.add("request and its clone", || drop(black_box(black_box(request(&uri)).clone())));
    rounds.measure(effort);
    assert_eq!(tokens.fetched(), 1);

    println!("\none thread");
    rounds.print();
    let clone = rounds.nanos("request and its clone") - rounds.nanos("request alone");
    let kept = rounds.nanos(CLONE_BODY) - rounds.nanos(NO_REPLAY);
    println!("request.clone() takes {clone:.1} ns");
    println!("keeping the request adds {kept:.1} ns to NoReplay: {:.2} x clone", kept / clone);
}

fn many_origins(runtime: &Runtime, effort: Effort) {
    // A round asks each origin once or a few times.
    let effort = Effort { requests: effort.requests.div_ceil(5), ..effort };
    let (tokens, uri) = (Tokens::new(runtime), uri());
    let uris = many_uris();
    let mut floor = tokens.floor();
    let mut round_robin_floor = tokens.floor();
    let mut one = tokens.layer().no_replay().layer(Answer);
    let mut many = tokens.layer_of_many().no_replay().layer(Answer);
    let mut round_robin = many.clone();
    let (mut floor_uris, mut many_uris) = (uris.iter().cycle(), uris.iter().cycle());
    let mut next = || floor_uris.next().expect("a cycle has no end");
    let mut next_of_many = || many_uris.next().expect("a cycle has no end");

    let mut rounds = Rounds::default();
    rounds.add(FLOOR, || walk(&mut floor, &uri));
    rounds.add("one origin", || walk(&mut one, &uri));
    rounds.add("1,000, the one in the middle", || walk(&mut many, &uri));
    rounds.add("floor, each of 1,000 in turn", || walk(&mut round_robin_floor, next()));
    rounds.add("1,000, each in turn", || walk(&mut round_robin, next_of_many()));
    rounds.measure(effort);
    assert_eq!(tokens.fetched(), 1);

    println!("\n1,000 origins, NoReplay");
    rounds.print();
    let one = rounds.nanos("one origin");
    let middle = rounds.nanos("1,000, the one in the middle") - one;
    // What the other URIs cost by themselves is in the floor that has them too.
    let each = rounds.nanos("1,000, each in turn")
        - rounds.nanos("floor, each of 1,000 in turn")
        - (one - rounds.nanos(FLOOR));
    println!(
        "above one origin: {middle:+.1} ns in the middle, {each:+.1} ns each in turn; at most 20"
    );
}

fn keys(runtime: &Runtime, effort: Effort) {
    let effort = Effort { requests: effort.requests.div_ceil(5), ..effort };
    let (tokens, users, uri) = (Tokens::new(runtime), Users::new(runtime), uri());
    let (mut floor, mut floor_with_key, mut floor_of_many) =
        (tokens.floor(), tokens.floor(), tokens.floor());
    let mut unkeyed = tokens.layer().no_replay().layer(Answer);
    let mut keyed = users.layer().no_replay().layer(Answer);
    let mut of_many = keyed.clone();
    let one = &users.keys[0];
    let (mut floor_keys, mut many_keys) = (users.keys.iter().cycle(), users.keys.iter().cycle());
    let mut next = || floor_keys.next().expect("a cycle has no end");
    let mut next_of_many = || many_keys.next().expect("a cycle has no end");

    let mut rounds = Rounds::default();
    rounds.add(FLOOR, || walk(&mut floor, &uri));
    rounds.add("no key", || walk(&mut unkeyed, &uri));
    rounds.add("floor, a key", || walk_with(&mut floor_with_key, keyed_request(&uri, one)));
    rounds.add("a key", || walk_with(&mut keyed, keyed_request(&uri, one)));
    rounds.add("floor, 1,000 keys in turn", || {
        walk_with(&mut floor_of_many, keyed_request(&uri, next()));
    });
    rounds.add("1,000 keys in turn", || {
        walk_with(&mut of_many, keyed_request(&uri, next_of_many()));
    });
    rounds.measure(effort);

    println!("\nkeys, NoReplay");
    rounds.print();
    let unkeyed = rounds.nanos("no key") - rounds.nanos(FLOOR);
    // To make the key and to put it into the request is in the floor too.
    let one = rounds.nanos("a key") - rounds.nanos("floor, a key") - unkeyed;
    let many = rounds.nanos("1,000 keys in turn") - rounds.nanos("floor, 1,000 keys in turn");
    println!(
        "above no key: {one:+.1} ns one key, {:+.1} ns each in turn; at most 150",
        many - unkeyed
    );
}

fn chains(runtime: &Runtime, effort: Effort) {
    let tokens = Tokens::new(runtime);
    let floor = Chain::floor(&tokens);
    let bare = Chain::bare();
    let no_replay = Chain::with_auth(tokens.layer().no_replay());
    let clone_body = Chain::with_auth(tokens.layer());

    let mut rounds = Rounds::default();
    rounds.add(FLOOR, || floor.walk());
    rounds.add("without our middleware", || bare.walk());
    rounds.add(NO_REPLAY, || no_replay.walk());
    rounds.add(CLONE_BODY, || clone_body.walk());
    rounds.measure(effort);
    assert_eq!(tokens.fetched(), 1);

    println!("\nreqwest-middleware");
    rounds.print();
    let bare = rounds.nanos("without our middleware");
    for name in [NO_REPLAY, CLONE_BODY] {
        println!("{name} adds {:.1} ns", rounds.nanos(name) - bare);
    }
}

fn two_threads(runtime: &Runtime, effort: Effort) {
    let tokens = Tokens::new(runtime);
    println!("\ntwo threads, a clone each; scaling at least 0.95 of the floor's");
    measure_threads(runtime, effort, &tokens, Clones::OneEach);
    println!("\ntwo threads, a clone for each request; scaling at least 0.95 of the floor's");
    measure_threads(runtime, effort, &tokens, Clones::OneForEachRequest);
    assert_eq!(tokens.fetched(), 1);
}

fn two_threads_while_refreshing(runtime: &Runtime, effort: Effort) {
    let tokens = Tokens::new(runtime);
    println!("\ntwo threads, a clone each, while a token comes every millisecond");
    let ((), every) = threads::while_refreshing(runtime.handle(), &tokens, || {
        measure_threads(runtime, effort, &tokens, Clones::OneEach);
    });
    println!("a token came every {every:.2?}");
}

fn measure_threads(runtime: &Runtime, effort: Effort, tokens: &Tokens, clones: Clones) {
    let effort = Effort { rounds: effort.rounds.div_ceil(4), requests: effort.requests * 4 };
    let floor = tokens.floor();
    let no_replay = tokens.layer().no_replay().layer(Answer);
    let clone_body = tokens.layer().layer(Answer);
    let handle = runtime.handle();
    let results = threads::measure(
        effort,
        [
            threads::run(handle, &floor, clones),
            threads::run(handle, &no_replay, clones),
            threads::run(handle, &clone_body, clones),
        ],
    );
    println!("{:<34} {:>9} {:>8} {:>8} {:>8}", "", "req/s", "scaling", "x floor", "waited");
    for (name, result) in [FLOOR, NO_REPLAY, CLONE_BODY].into_iter().zip(&results) {
        let (scaling, waited) = (result.scaling(), result.waited);
        let ratio = scaling / results[0].scaling();
        println!("{name:<34} {:>9.0} {scaling:>8.2} {ratio:>8.2} {waited:>8}", result.of_two);
    }
}
