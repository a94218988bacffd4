//! Rejections.

use super::*;

#[test]
fn a_late_rejection_of_an_old_token_fetches_nothing() {
    let mut world = World::holding(&token("a"), 100);
    world.renew(&token("a"), "api", &token("b"));
    let (answer, start) = world.reject(&token("a"), "api");
    assert_eq!((given(&answer), start.is_none()), (Some("b"), true));
    assert!(!world.state.status(world.now).suspect);
}

#[test]
fn while_a_renewal_is_in_flight_callers_wait_for_it() {
    let mut world = World::holding(&token("a"), 100);
    world.reject(&token("a"), "api").1.unwrap();
    assert!(world.state.granted(None, world.now).is_none());
    assert!(matches!(world.ask(), (Answer::Wait(_), None)));
    assert_eq!(world.state.token(world.now).unwrap().secret(), "a", "it is still there");
}

#[test]
fn a_rejection_joins_the_flight_under_way_which_then_is_a_renewal() {
    let mut world = World::holding(&token("a"), 100);
    let due = world.pass(80.0).ask().1.unwrap();
    assert!(matches!(world.reject(&token("a"), "api"), (Answer::Wait(_), None)));
    assert!(matches!(world.ask(), (Answer::Wait(_), None)), "now callers wait for it too");
    let same = world.finish(&due, Ok(&token("a"))).unwrap().unwrap();
    assert_eq!(same.secret(), "a");
    let again = world.reject(&token("a"), "api").1.expect("another one is asked for");
    assert_eq!(again.request.rejected().unwrap().secret(), "a");
}

#[test]
fn a_failed_renewal_leaves_the_suspect_token_in_use() {
    let mut world = World::holding(&token("a"), 100);
    let start = world.reject(&token("a"), "api").1.unwrap();
    world.finish(&start, Err(busy()));
    assert_eq!(given(&world.ask().0), Some("a"));
    assert!(world.state.status(world.now).suspect);
    let (answer, start) = world.reject(&token("a"), "api");
    assert!(matches!(answer, Answer::Error(_)) && start.is_none(), "the source cools down");
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
                    assert!(matches!(error.downcast_ref(), Some(CacheError::RenewalBackoff(_))));
                    world.pass(1.0);
                }
                (_, Some(start)) => {
                    let fresh = token(&format!("t{}", n + 1));
                    world.finish(&start, Ok(&fresh)).unwrap().unwrap();
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
fn a_thousand_rejections_of_one_unproven_token_are_one_backoff() {
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
    world.accept(&token("b"), "good");
    assert!(world.reject(&token("b"), "good").1.is_some());
}

#[test]
fn acceptance_proves_the_token_and_clears_the_backoff() {
    let mut world = World::holding(&token("a"), 1000);
    world.renew(&token("a"), "api", &token("b"));
    assert!(world.reject(&token("b"), "api").1.is_none(), "a backoff");
    assert!(world.granted("api").watched);
    world.accept(&token("b"), "api");
    assert!(!world.granted("api").watched, "once is enough");
    assert!(world.granted("other").watched);
    world.renew(&token("b"), "api", &token("c"));
    assert!(world.reject(&token("c"), "api").1.is_none());
    assert!(world.pass(5.0).reject(&token("c"), "api").1.is_some(), "5 s, not 10: a first backoff");
}

#[test]
fn a_proven_token_that_is_rejected_is_renewed_at_once() {
    let mut world = World::holding(&token("a"), 1000);
    for n in 0..10 {
        let (old, new) = (format!("t{n}"), format!("t{}", n + 1));
        let old = if n == 0 { token("a") } else { token(&old) };
        world.renew(&old, "api", &token(&new));
        world.accept(&token(&new), "api");
    }
}

#[test]
fn a_late_response_with_an_old_token_proves_nothing() {
    let mut world = World::holding(&token("a"), 1000);
    world.renew(&token("a"), "api", &token("b"));
    world.accept(&token("a"), "api");
    assert!(world.reject(&token("b"), "api").1.is_none(), "b is still unproven");
}

#[test]
fn a_renewal_that_brings_the_rejected_token_is_a_backoff() {
    let mut world = World::holding(&token("a"), 1000);
    let start = world.reject(&token("a"), "api").1.unwrap();
    let error = world.finish(&start, Ok(&token("a"))).unwrap().unwrap_err();
    assert_eq!(error.downcast_ref(), Some(&CacheError::SameToken));
    assert_eq!(given(&world.ask().0), Some("a"), "the suspect token is what there is");
    assert!(world.reject(&token("a"), "api").1.is_none());
    assert!(world.pass(5.0).reject(&token("a"), "api").1.is_some());
}

#[test]
fn a_source_that_keeps_returning_the_rejected_token_is_asked_ever_less_often() {
    let mut world = World::holding(&token("a"), 100_000);
    world.accept(&token("a"), "api");
    let mut holds = Vec::new();
    for _ in 0..9 {
        let from = world.now;
        let start = loop {
            match world.reject(&token("a"), "api").1 {
                Some(start) => break start,
                None => world.pass(1.0),
            };
        };
        holds.push((world.now - from).as_secs());
        world.finish(&start, Ok(&token("a"))).unwrap().unwrap_err();
    }
    assert_eq!(holds, [0, 5, 10, 20, 40, 80, 160, 300, 300]);
}

#[test]
fn a_source_that_returns_the_rejected_token_is_a_backoff_without_an_origin_too() {
    let mut world = World::holding(&token("a"), 1000);
    let unnamed = Rejection::new(token("a"));
    let now = world.now;
    let start = world.state.reject(&unnamed, RejectedBy::Waiter, now).1.start.unwrap();
    let arrival = Arrival { token: token("a"), called: now, called_wall: SystemTime::UNIX_EPOCH };
    let (outcome, _) = world.state.finished(start.id, Ok(arrival), now, 0.0);
    outcome.unwrap().unwrap_err();
    let (answer, effects) = world.state.reject(&unnamed, RejectedBy::Waiter, now);
    assert!(matches!(answer, Answer::Error(_)) && effects.start.is_none());
}

#[test]
fn each_backoff_is_told_once() {
    let told = |effects: &Effects| {
        let backed_off = |event: &&Event| matches!(event, Event::BackedOff(_));
        effects.events.iter().filter(backed_off).count()
    };
    let mut world = World::holding(&token("a"), 1000);
    world.renew(&token("a"), "api", &token("b"));
    let rejection = rejection(&token("b"), "api");
    let now = world.now;
    assert_eq!(told(&world.state.reject(&rejection, RejectedBy::Waiter, now).1), 1);
    assert_eq!(told(&world.state.reject(&rejection, RejectedBy::Waiter, now).1), 0);

    let now = world.pass(5.0).now;
    let start = world.state.reject(&rejection, RejectedBy::Waiter, now).1.start.unwrap();
    let arrival = Arrival { token: token("b"), called: now, called_wall: SystemTime::UNIX_EPOCH };
    assert_eq!(told(&world.state.finished(start.id, Ok(arrival), now, 0.0).1), 1);
}

#[test]
fn short_lived_tokens_are_no_way_around_the_backoff() {
    let mut world = World::holding(&token("a"), 1000);
    world.renew(&token("a"), "api", &token("b").with_lifetime(3 * S));
    assert!(world.reject(&token("b"), "api").1.is_none(), "a backoff");
    world.pass(4.0);
    world.fetch(&token("c"));
    assert!(world.reject(&token("c"), "api").1.is_none(), "a second one, for c was never accepted");
    assert!(world.pass(9.0).reject(&token("c"), "api").1.is_none());
    assert!(world.pass(1.0).reject(&token("c"), "api").1.is_some());
}

#[test]
fn renewals_that_nobody_waits_for_start_at_most_once_a_second() {
    for by in [RejectedBy::Layer, RejectedBy::Caller] {
        let mut world = World::holding(&token("a"), 1000);
        let unawaited = |world: &mut World, secret: &str| {
            let now = world.now;
            let (answer, effects) = world.state.reject(&rejection(&token(secret), "api"), by, now);
            (answer, effects.start)
        };
        let start = unawaited(&mut world, "a").1.unwrap();
        world.finish(&start, Ok(&token("b"))).unwrap().unwrap();
        world.accept(&token("b"), "api");
        let (answer, start) = unawaited(&mut world, "b");
        assert!(matches!(answer, Answer::Error(_)) && start.is_none());
        world.pass(1.0);
        assert!(unawaited(&mut world, "b").1.is_some());
    }
}

#[test]
fn where_the_token_is_proven_nobody_waits_for_a_renewal() {
    let mut world = World::holding(&token("a"), 100);
    world.accept(&token("a"), "good");
    let start = world.reject(&token("a"), "bad").1.unwrap();
    let good = world.state.ask(Some(&origin("good")), world.now).0;
    assert_eq!(given(&good), Some("a"));
    let other = world.state.ask(Some(&origin("other")), world.now).0;
    assert!(matches!(other, Answer::Wait(_)));
    world.finish(&start, Ok(&token("b"))).unwrap().unwrap();
    let good = world.state.ask(Some(&origin("good")), world.now).0;
    assert_eq!(given(&good), Some("b"));
}

#[test]
fn a_caller_who_rejects_a_token_keeps_others_from_using_it_there_although_it_is_proven() {
    let mut world = World::holding(&token("a"), 100);
    world.accept(&token("a"), "api");
    let told = rejection(&token("a"), "api");
    let start = world.state.reject(&told, RejectedBy::Caller, world.now).1.start.unwrap();
    world.accept(&token("a"), "api");
    let answer = world.state.ask(Some(&origin("api")), world.now).0;
    assert!(matches!(answer, Answer::Wait(_)), "what its head says proves nothing there");
    world.finish(&start, Ok(&token("b"))).unwrap().unwrap();
    assert_eq!(given(&world.state.ask(Some(&origin("api")), world.now).0), Some("b"));
}

#[test]
fn an_origin_that_rejects_what_it_accepts_spends_its_budget_and_no_more() {
    let mut world = World::holding(&token("t0"), 100_000);
    let mut fetches = 0;
    for n in 0..600_u32 {
        let current = world.state.token(world.now).unwrap().clone();
        world.accept(&current, "api");
        if let (_, Some(start)) = world.reject(&current, "api") {
            fetches += 1;
            let fresh = token(&format!("t{}", n + 1));
            world.finish(&start, Ok(&fresh)).unwrap().unwrap();
        }
        world.pass(0.1);
    }
    assert_eq!(fetches, 20 + 60 / 5 - 1, "twenty, and one more every 5 s of a minute");
    let current = world.state.token(world.now).unwrap().clone();
    world.accept(&current, "other");
    assert!(world.reject(&current, "other").1.is_some(), "other origins have their own");
}

#[test]
fn acceptance_clears_the_backoff_of_a_token_that_came_back_although_it_was_proven_before() {
    let mut world = World::holding(&token("a"), 1000);
    world.accept(&token("a"), "api");
    let start = world.reject(&token("a"), "api").1.unwrap();
    world.finish(&start, Ok(&token("a"))).unwrap().unwrap_err();
    assert!(world.reject(&token("a"), "api").1.is_none(), "a backoff");
    assert!(world.granted("api").watched, "the state wants to hear of an acceptance");
    world.accept(&token("a"), "api");
    assert!(world.reject(&token("a"), "api").1.is_some());
}

#[test]
fn tokens_that_are_expired_on_arrival_are_on_trial_too() {
    let mut world = World::new();
    let expired = |n: u32| token(&format!("e{n}")).with_lifetime(Duration::ZERO);
    let mut fetches = 0;
    for n in 0..100 {
        let start = world.ask().1.expect("nothing is kept");
        world.finish(&start, Ok(&expired(2 * n))).unwrap().unwrap();
        fetches += 1;
        if let (_, Some(start)) = world.reject(&expired(2 * n), "api") {
            world.finish(&start, Ok(&expired(2 * n + 1))).unwrap().unwrap();
            fetches += 1;
            assert!(world.reject(&expired(2 * n + 1), "api").1.is_none(), "a backoff");
        }
    }
    assert_eq!(fetches, 101);
}

#[test]
fn a_rejection_that_names_no_origin_counts_what_any_origin_has_accepted() {
    let mut world = World::holding(&token("a"), 1000);
    for (old, new) in [("a", "b"), ("b", "c"), ("c", "d")] {
        let unnamed = Rejection::new(token(old));
        let start =
            world.state.reject(&unnamed, RejectedBy::Waiter, world.now).1.start.expect("a renewal");
        world.finish(&start, Ok(&token(new))).unwrap().unwrap();
        world.accept(&token(new), "api");
    }
}

// ===== What a challenge asks for =====

fn asking(rejected: &str, claims: &str) -> Rejection {
    let challenge = Challenge::new("Bearer").with_param("claims", claims);
    rejection(&token(rejected), "api").with_challenge(challenge)
}

#[test]
fn a_rejection_that_asks_for_more_than_the_flight_under_way_waits_and_then_asks_once_more() {
    let mut world = World::holding(&token("a"), 100);
    let due = world.pass(80.0).ask().1.unwrap();
    let (answer, effects) = world.state.reject(&asking("a", "x"), RejectedBy::Waiter, world.now);
    assert!(matches!(answer, Answer::WaitAndAskAgain(_)) && effects.start.is_none());
    world.finish(&due, Ok(&token("b"))).unwrap().unwrap();
    let start =
        world.state.reject(&asking("a", "x"), RejectedBy::Waiter, world.now).1.start.unwrap();
    assert_eq!(start.request.challenge().unwrap().param("claims"), Some("x"));
    assert_eq!(given(&world.ask().0), Some("b"), "b was not rejected: nobody waits for this");
    world.finish(&start, Ok(&token("c"))).unwrap().unwrap();
    let answer = world.state.reject(&asking("b", "x"), RejectedBy::Waiter, world.now).0;
    assert_eq!(given(&answer), Some("c"), "it was asked for just that");
}

#[test]
fn a_token_that_a_refresh_brings_again_is_still_what_it_was_asked_to_be() {
    let mut world = World::holding(&token("a"), 100);
    let start = world.state.reject(&asking("a", "x"), RejectedBy::Waiter, world.now).1.start;
    let stepped_up = token("b").with_lifetime(101 * S);
    world.finish(&start.unwrap(), Ok(&stepped_up)).unwrap().unwrap();
    let due = world.pass(85.0).ask().1.unwrap();
    world.finish(&due, Ok(&stepped_up)).unwrap().unwrap();
    let answer = world.state.reject(&asking("a", "x"), RejectedBy::Waiter, world.now).0;
    assert_eq!(given(&answer), Some("b"));
}

#[test]
fn rejections_that_ask_for_the_same_share_one_flight() {
    let mut world = World::holding(&token("a"), 100);
    world.state.reject(&asking("a", "x"), RejectedBy::Waiter, world.now).1.start.unwrap();
    let (answer, effects) = world.state.reject(&asking("a", "x"), RejectedBy::Waiter, world.now);
    assert!(matches!(answer, Answer::Wait(_)) && effects.start.is_none());
    let (answer, _) = world.state.reject(&asking("a", "y"), RejectedBy::Waiter, world.now);
    assert!(matches!(answer, Answer::WaitAndAskAgain(_)));
    assert!(matches!(world.reject(&token("a"), "api"), (Answer::Wait(_), None)));
}

#[test]
fn the_first_challenge_that_asks_for_something_else_passes_the_backoff() {
    let mut world = World::holding(&token("a"), 1000);
    world.renew(&token("a"), "api", &token("b"));
    let start =
        world.state.reject(&asking("b", "x"), RejectedBy::Waiter, world.now).1.start.unwrap();
    world.finish(&start, Ok(&token("c"))).unwrap().unwrap();
    let again = |world: &mut World, claims: &str| {
        world.state.reject(&asking("c", claims), RejectedBy::Waiter, world.now).1.start
    };
    assert!(again(&mut world, "x").is_none(), "the same again");
    assert!(again(&mut world, "y").is_none(), "one is enough");
    world.accept(&token("c"), "api");
    assert!(again(&mut world, "y").is_some());
}

#[test]
fn a_scope_that_comes_with_an_invalid_token_asks_for_nothing_more() {
    let scoped = |scope: &str| {
        let challenge = Challenge::new("Bearer").with_param("error", "invalid_token");
        rejection(&token("a"), "api").with_challenge(challenge.with_param("scope", scope))
    };
    let mut world = World::holding(&token("a"), 100);
    let start = world.state.reject(&scoped("read"), RejectedBy::Waiter, world.now).1.start.unwrap();
    assert!(matches!(
        world.state.reject(&scoped("write"), RejectedBy::Waiter, world.now).0,
        Answer::Wait(_)
    ));
    world.finish(&start, Ok(&token("b"))).unwrap().unwrap();
    assert_eq!(
        given(&world.state.reject(&scoped("admin"), RejectedBy::Waiter, world.now).0),
        Some("b")
    );
}
