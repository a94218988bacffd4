//! The version grows with each change of what is granted, so that earlier grants are asked for
//! again. It never goes back, or a grant from long ago would hold once more.

use super::*;

/// Changes the world, and returns by how much the version has grown.
fn growth(world: &mut World, change: impl FnOnce(&mut World)) -> u64 {
    let before = world.state.version();
    change(world);
    world.state.version().checked_sub(before).expect("the version went back")
}

#[test]
fn a_flight_that_starts_or_is_lost_changes_the_version() {
    let mut world = World::new();
    let mut start = None;
    assert_eq!(growth(&mut world, |world| start = world.ask().1), 1);
    let id = start.expect("a flight").id;
    let lose = |world: &mut World| {
        let why = CacheError::SourcePanicked;
        assert!(world.state.lost(id, &why, world.now).0);
    };
    assert_eq!(growth(&mut world, lose), 1);
    assert_eq!(
        (world.state.status(world.now).flights(), world.state.status(world.now).failures()),
        (1, 1)
    );
    let again = world.ask().1.expect("another flight");
    assert_ne!(again.id, id);
    assert_eq!(growth(&mut world, |world| drop(world.finish(&again, Err(busy())))), 1);
    assert_eq!(
        (world.state.status(world.now).flights(), world.state.status(world.now).failures()),
        (2, 2)
    );
}

#[test]
fn a_token_that_becomes_suspect_changes_the_version_once() {
    let a = token("a");
    let mut world = World::holding(&a, 100_000);
    world.pass(99_000.0);
    let start = world.ask().1.expect("a refresh");
    world.finish(&start, Err(busy())).unwrap().unwrap_err();
    let reject = |world: &mut World| assert!(world.reject(&a, "api").1.is_none(), "a cooldown");
    assert_eq!(growth(&mut world, reject), 1);
    assert_eq!(growth(&mut world, reject), 0, "it was suspect already");
}

#[test]
fn a_flight_that_becomes_a_renewal_changes_the_version() {
    let a = token("a");
    let mut world = World::holding(&a, 100_000);
    world.pass(99_000.0);
    world.ask().1.expect("a refresh");
    let join = |world: &mut World| assert!(world.reject(&a, "api").1.is_none(), "it joins");
    assert_eq!(
        growth(&mut world, join),
        2,
        "the token is suspect, and the flight is to replace it"
    );
    assert_eq!(growth(&mut world, join), 0);
}

#[test]
fn each_origin_that_backs_off_changes_the_version() {
    let (a, b) = (token("a"), token("b"));
    let mut world = World::holding(&a, 100_000);
    world.renew(&a, "api", &b);
    let reject = |host: &'static str| {
        let b = b.clone();
        move |world: &mut World| assert!(matches!(world.reject(&b, host).0, Answer::Error(_)))
    };
    assert_eq!(growth(&mut world, reject("api")), 2, "the token is suspect too");
    assert_eq!(growth(&mut world, reject("other")), 1);
    assert_eq!(growth(&mut world, reject("other")), 0);
}

#[test]
fn a_recovery_changes_the_version() {
    let mut world = World::new();
    let start = world.ask().1.unwrap();
    world.finish(&start, Err(no_such_client())).unwrap().unwrap_err();
    let from = world.state.may_check_recovery(world.now).expect("a permanent failure");
    assert_eq!(growth(&mut world, |world| world.state.recovered(from)), 1);
    assert!(world.ask().1.is_some());
}

#[test]
fn a_caller_that_rejects_a_token_ends_what_was_granted_there_even_during_a_renewal() {
    let a = token("a");
    let mut world = World::holding(&a, 100);
    world.accept(&a, "api");
    world.reject(&a, "bad").1.expect("a renewal");
    assert_eq!(world.granted("api").token.secret(), "a", "it is proven there");
    let told = rejection(&a, "api");
    let tell = |world: &mut World| {
        assert!(world.state.reject(&told, RejectedBy::Caller, world.now).1.start.is_none());
    };
    assert_eq!(growth(&mut world, tell), 1);
    assert!(world.state.granted(Some(&origin("api")), world.now).is_none());
    assert_eq!(growth(&mut world, tell), 0, "it was told already");
}

#[test]
fn a_token_that_was_not_kept_ends_what_the_proof_of_the_current_one_granted() {
    let a = token("a");
    let mut world = World::holding(&a, 100);
    let brief = token("brief").with_lifetime(Duration::ZERO);
    let (_, effects) = world.state.refresh(world.now);
    world.finish(&effects.start.expect("a refresh"), Ok(&brief)).unwrap().unwrap();
    world.accept(&a, "api");
    world.reject(&a, "bad").1.expect("a renewal");
    assert_eq!(growth(&mut world, |world| world.accept(&a, "api")), 0);
    assert_eq!(growth(&mut world, |world| world.accept(&brief, "other")), 0, "it trusted none");
    assert_eq!(growth(&mut world, |world| world.accept(&brief, "api")), 1);
    assert!(world.state.granted(Some(&origin("api")), world.now).is_none());
}
