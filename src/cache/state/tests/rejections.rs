//! Rejections.

use super::*;

#[test]
fn a_late_rejection_of_an_old_token_fetches_nothing() {
    let mut world = World::holding(&token("a"), 100);
    world.renew(&token("a"), "api", &token("b"));
    let (answer, takeoff) = world.reject(&token("a"), "api");
    assert_eq!((given(&answer), takeoff.is_none()), (Some("b"), true));
    assert!(!world.state.status(world.now).suspect);
}

#[test]
fn while_a_renewal_flies_askers_wait_for_it() {
    let mut world = World::holding(&token("a"), 100);
    world.reject(&token("a"), "api").1.unwrap();
    assert!(world.state.ready(world.now).is_none());
    assert!(matches!(world.ask(), (Answer::Wait(_), None)));
    assert_eq!(world.state.current(world.now).unwrap().secret(), "a", "it is still there");
}

#[test]
fn a_rejection_joins_the_flight_under_way_which_then_is_a_renewal() {
    let mut world = World::holding(&token("a"), 100);
    let due = world.pass(80.0).ask().1.unwrap();
    assert!(matches!(world.reject(&token("a"), "api"), (Answer::Wait(_), None)));
    assert!(matches!(world.ask(), (Answer::Wait(_), None)), "now askers wait for it too");
    let same = world.land(&due, Ok(&token("a"))).unwrap().unwrap();
    assert_eq!(same.secret(), "a");
    let again = world.reject(&token("a"), "api").1.expect("another one is asked for");
    assert_eq!(again.request.rejected().unwrap().secret(), "a");
}

#[test]
fn a_failed_renewal_leaves_the_suspect_token_in_use() {
    let mut world = World::holding(&token("a"), 100);
    let takeoff = world.reject(&token("a"), "api").1.unwrap();
    world.land(&takeoff, Err(busy()));
    assert_eq!(given(&world.ask().0), Some("a"));
    assert!(world.state.status(world.now).suspect);
    let (answer, takeoff) = world.reject(&token("a"), "api");
    assert!(matches!(answer, Answer::Error(_)) && takeoff.is_none(), "the source rests");
}

#[test]
fn to_reject_an_unproven_token_holds_up_the_next_renewal_of_that_origin() {
    let mut world = World::holding(&token("t0"), 100_000);
    world.renew(&token("t0"), "api", &token("t1"));
    let mut holds = Vec::new();
    for n in 1..=8 {
        let rejected = token(&format!("t{n}"));
        let from = world.now;
        loop {
            match world.reject(&rejected, "api") {
                (Answer::Error(error), None) => {
                    assert!(matches!(error.downcast_ref(), Some(CacheError::Held(_))));
                    world.pass(1.0);
                }
                (_, Some(takeoff)) => {
                    let fresh = token(&format!("t{}", n + 1));
                    world.land(&takeoff, Ok(&fresh)).unwrap().unwrap();
                    break;
                }
                other => panic!("{other:?}"),
            }
        }
        holds.push((world.now - from).as_secs());
    }
    assert_eq!(holds, [5, 10, 20, 40, 80, 160, 300, 300]);
}

#[test]
fn a_thousand_rejections_of_one_unproven_token_are_one_strike() {
    let mut world = World::holding(&token("a"), 1000);
    world.renew(&token("a"), "api", &token("b"));
    for _ in 0..1000 {
        assert!(world.reject(&token("b"), "api").1.is_none());
    }
    assert!(world.pass(5.0).reject(&token("b"), "api").1.is_some());
}

#[test]
fn other_origins_are_not_held_up() {
    let mut world = World::holding(&token("a"), 1000);
    world.renew(&token("a"), "bad", &token("b"));
    assert!(world.reject(&token("b"), "bad").1.is_none());
    world.state.accepted(&token("b"), Some(&origin("good")));
    assert!(world.reject(&token("b"), "good").1.is_some());
}

#[test]
fn acceptance_proves_the_token_and_clears_the_strikes() {
    let mut world = World::holding(&token("a"), 1000);
    world.renew(&token("a"), "api", &token("b"));
    assert!(world.reject(&token("b"), "api").1.is_none(), "a strike");
    assert!(world.state.ready(world.now).unwrap().watched);
    world.state.accepted(&token("b"), Some(&origin("api")));
    let ready = world.state.ready(world.now).unwrap();
    assert!(!ready.is_news(&token("b"), Some(&origin("api"))), "once is enough");
    assert!(ready.is_news(&token("b"), Some(&origin("other"))));
    world.renew(&token("b"), "api", &token("c"));
    assert!(world.reject(&token("c"), "api").1.is_none());
    assert!(world.pass(5.0).reject(&token("c"), "api").1.is_some(), "5 s, not 10: a first strike");
}

#[test]
fn a_proven_token_that_is_rejected_is_renewed_at_once() {
    let mut world = World::holding(&token("a"), 1000);
    for n in 0..10 {
        let (old, new) = (format!("t{n}"), format!("t{}", n + 1));
        let old = if n == 0 { token("a") } else { token(&old) };
        world.renew(&old, "api", &token(&new));
        world.state.accepted(&token(&new), Some(&origin("api")));
    }
}

#[test]
fn the_word_of_a_late_response_with_an_old_token_counts_for_nothing() {
    let mut world = World::holding(&token("a"), 1000);
    world.renew(&token("a"), "api", &token("b"));
    world.state.accepted(&token("a"), Some(&origin("api")));
    assert!(world.reject(&token("b"), "api").1.is_none(), "b is still unproven");
}

#[test]
fn a_renewal_that_brings_the_rejected_token_is_a_strike() {
    let mut world = World::holding(&token("a"), 1000);
    let takeoff = world.reject(&token("a"), "api").1.unwrap();
    let error = world.land(&takeoff, Ok(&token("a"))).unwrap().unwrap_err();
    assert_eq!(error.downcast_ref(), Some(&CacheError::SameToken));
    assert_eq!(given(&world.ask().0), Some("a"), "the suspect token is what there is");
    assert!(world.reject(&token("a"), "api").1.is_none());
    assert!(world.pass(5.0).reject(&token("a"), "api").1.is_some());
}

#[test]
fn short_lived_tokens_are_no_way_around_the_strikes() {
    let mut world = World::holding(&token("a"), 1000);
    world.renew(&token("a"), "api", &token("b").with_lifetime(3 * S));
    assert!(world.reject(&token("b"), "api").1.is_none(), "a strike");
    world.pass(4.0);
    world.fetch(&token("c"));
    assert!(world.reject(&token("c"), "api").1.is_none(), "a second one, for c was never accepted");
    assert!(world.pass(9.0).reject(&token("c"), "api").1.is_none());
    assert!(world.pass(1.0).reject(&token("c"), "api").1.is_some());
}

#[test]
fn renewals_that_nobody_waits_for_start_at_most_once_a_second() {
    let mut world = World::holding(&token("a"), 1000);
    let unawaited = |world: &mut World, secret: &str| {
        let now = world.now;
        world.state.reject(&rejection(&token(secret), "api"), false, now)
    };
    let takeoff = unawaited(&mut world, "a").1.unwrap();
    world.land(&takeoff, Ok(&token("b"))).unwrap().unwrap();
    world.state.accepted(&token("b"), Some(&origin("api")));
    let (answer, takeoff) = unawaited(&mut world, "b");
    assert!(matches!(answer, Answer::Error(_)) && takeoff.is_none());
    world.pass(1.0);
    assert!(unawaited(&mut world, "b").1.is_some());
}

#[test]
fn errors_that_were_replaced_are_left_for_the_shell_to_drop() {
    let mut world = World::new();
    for _ in 0..2 {
        let takeoff = world.state.take_off(Reason::First, None, world.now);
        world.land(&takeoff, Err(busy()));
    }
    assert_eq!(world.state.news.litter.len(), 1);
}
