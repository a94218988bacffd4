//! Several sidecars over one store.

use futures_util::future::join_all;
use http::StatusCode;

use crate::support::{HUSH, Sidecar, World, get, run};

const SEAL: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
const SEALED: &str = "seal = { env = \"SIDECAR_TEST_SEAL\" }\n";

#[tokio::test]
async fn two_sidecars_over_one_store_fetch_once_for_each_refresh_and_each_renewal() {
    let world = World::mirroring().await;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tokens");
    // The disk may be busy.
    let store = format!("[store]\nfile = {path:?}\ntimeout_millis = 10000\n{SEALED}");
    let config = format!("{}{store}", world.config(""));
    let environment = [("SIDECAR_TEST_SEAL", SEAL)];
    let start = || Sidecar::start_with(&config, &[], &environment);
    let (one, other) = tokio::join!(start(), start());
    for sidecar in [&one, &other] {
        sidecar.readiness(StatusCode::OK).await;
    }
    assert_eq!(world.tokens.issued(), 1);

    world.tokens.revoke_all();
    let urls = [one.url("/api"), other.url("/api")];
    let answers = join_all(urls.iter().cycle().take(20).map(|url| get(url))).await;
    assert!(answers.iter().all(|(status, _)| *status == 200));
    assert_eq!(world.tokens.issued(), 2);
    let names: Vec<_> =
        std::fs::read_dir(path).unwrap().map(|it| it.unwrap().file_name()).collect();
    assert!(names.contains(&"local.token".into()), "{names:?}");
}

#[tokio::test]
async fn what_is_wrong_with_a_store_is_reported_without_the_password() {
    let world = World::mirroring().await;
    let seal = "seal = { env = \"SIDECAR_TEST_SECRET\" }\n";
    for (store, expected) in [
        (seal, "`store`: needs either `file` or `redis`".to_owned()),
        (
            &format!("file = \"a\"\nredis = \"redis://localhost\"\n{seal}"),
            "`store`: needs either `file` or `redis`".to_owned(),
        ),
        (
            &format!("file = \"a\"\nallow_plaintext = true\n{seal}"),
            "`store`: `password`, `root_certificate` and `allow_plaintext` are for `redis`, not for \
             `file`"
                .to_owned(),
        ),
        (
            &format!("file = \"a\"\n{seal}"),
            "`store`: `seal`: the environment variable \"SIDECAR_TEST_SECRET\" does not hold a key"
                .to_owned(),
        ),
        ("file = \"a\"\n", "in `store`: missing field `seal`".to_owned()),
        (
            &format!("redis = \"redis://:{HUSH}@localhost\"\n{seal}"),
            "`store`: `redis`: the URL of the Redis server contains a password".to_owned(),
        ),
        (
            &format!(
                "redis = \"redis://10.0.0.1\"\npassword = {{ env = \"SIDECAR_TEST_SECRET\" }}\n{seal}"
            ),
            "`store`: `redis`: the password would go to 10.0.0.1:6379 in cleartext".to_owned(),
        ),
    ] {
        let (code, _, told) = run(&format!("{}[store]\n{store}", world.config("")), &[]).await;
        assert_eq!((code, told.lines().count()), (2, 1), "{told}");
        assert!(told.contains(&expected), "{told}");
    }
}
