//! What is Redis's alone.

use std::{
    sync::atomic::{AtomicU32, Ordering::SeqCst},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    time::timeout,
};
use tower_bearer::{
    Secret, TokenSource,
    shared::{RedisStore, RedisStoreError, SharedError, Swapped, TokenStore, Version},
};

use crate::{
    list::{self, Backend, Source, first, process},
    server::{Mode, Proxy, Server, certificates, command},
};

const BOUND: Duration = Duration::from_secs(30);

impl Backend for Server {
    type Store = RedisStore;

    fn store(&self) -> RedisStore {
        RedisStore::new(self.url()).unwrap()
    }

    async fn put(&self, name: &str, bytes: Vec<u8>) {
        let answer = command(self.address, &[b"SET", key(name).as_bytes(), &bytes]).await;
        assert_eq!(answer, "+OK");
    }

    async fn forget(&self) {
        self.flush_all().await;
    }
}

fn key(name: &str) -> String {
    format!("tower-bearer:{{{name}}}")
}

/// Why a store does not answer.
async fn why(store: &RedisStore) -> String {
    let error = timeout(BOUND, store.load("orders")).await.expect("in time").unwrap_err();
    assert!(error.downcast_ref::<RedisStoreError>().is_some(), "{error:?}");
    format!("{error} {error:?}")
}

/// Asks until there is an answer: a connection that has ended is noticed by an ask.
async fn answers(store: &RedisStore) {
    let asks = async { while store.load("orders").await.is_err() {} };
    timeout(BOUND, asks).await.expect("it answers again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_store_in_redis_passes_the_list() {
    let Some(server) = Server::start().await else { return };
    list::run(&server).await.unwrap();
}

// ===== A server that fails =====

#[tokio::test]
async fn a_server_that_is_stopped_and_started_again_gets_the_token_back() {
    let Some(mut server) = Server::start().await else { return };
    let source = Source::rotating(true);
    let store = server.store();
    let one = process(&source, store.clone(), "orders");
    let t_1 = one.fetch(first()).await.unwrap();
    server.stop().await;
    let error = one.fetch(list::rejected(&t_1)).await.unwrap_err();
    assert!(matches!(error.downcast_ref(), Some(SharedError::StoreAway(_))), "{error}");
    let shown = why(&store).await;
    assert!(shown.contains(&server.address.to_string()), "{shown}");
    server.start_again().await;
    answers(&store).await;
    let other = process(&source, server.store(), "orders");
    assert_eq!(timeout(BOUND, other.fetch(first())).await.unwrap().unwrap().secret(), "t-1");
    assert_eq!(source.fetches(), 1);
}

#[tokio::test]
async fn an_answer_that_comes_too_late_is_nobodys_and_the_connection_stays() {
    let Some(server) = Server::start().await else { return };
    let proxy = Proxy::start(server.address).await;
    let store = RedisStore::new(proxy.url()).unwrap();
    answers(&store).await;
    proxy.set(Mode::Hold);
    let source = Source::default();
    let one = process(&source, store.clone(), "orders").store_timeout(Duration::from_millis(50));
    // It goes on without the store.
    assert_eq!(one.fetch(first()).await.unwrap().secret(), "t-1");
    proxy.set(Mode::Pass);
    let version = match store.swap("late", &Version::NONE, b"a").await.unwrap() {
        Swapped::Done(version) => version,
        other => panic!("{other:?}"),
    };
    assert_eq!(store.load("late").await.unwrap().version, version);
    assert_eq!(proxy.connections(), 1);
}

#[tokio::test]
async fn a_server_that_falls_silent_gets_a_new_connection() {
    let Some(server) = Server::start().await else { return };
    let proxy = Proxy::start(server.address).await;
    let store = RedisStore::new(proxy.url()).unwrap();
    answers(&store).await;
    proxy.set(Mode::Hold);
    let asks = async {
        while proxy.connections() < 2 {
            assert!(timeout(Duration::from_millis(50), store.load("orders")).await.is_err());
        }
    };
    timeout(BOUND, asks).await.expect("it connects anew");
    proxy.set(Mode::Pass);
    answers(&store).await;
}

#[test]
fn a_connection_whose_runtime_is_not_driven_is_replaced() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (undriven, other) = (runtime(), runtime());
    let Some(server) = other.block_on(Server::start()) else { return };
    let store = server.store();
    // It starts to connect, and goes no further.
    undriven.block_on(async {
        assert!(futures_util::poll!(Box::pin(store.load("orders"))).is_pending());
    });
    other.block_on(async {
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(10)).await;
        tokio::time::resume();
        timeout(BOUND, store.load("orders")).await.expect("in time").unwrap();
    });
    drop(undriven);
}

#[tokio::test]
async fn a_connection_that_is_cut_before_the_answer_is_replaced() {
    let Some(server) = Server::start().await else { return };
    let proxy = Proxy::start(server.address).await;
    let store = RedisStore::new(proxy.url()).unwrap();
    answers(&store).await;
    proxy.set(Mode::Cut);
    why(&store).await;
    proxy.set(Mode::Pass);
    answers(&store).await;
}

#[tokio::test]
async fn many_callers_at_one_time_get_large_records_over_one_connection() {
    let Some(server) = Server::start().await else { return };
    let proxy = Proxy::start(server.address).await;
    let store = RedisStore::new(proxy.url()).unwrap();
    server.put("large", vec![b'x'; 16 * 1024]).await;
    answers(&store).await;
    // Each may be the record of another user.
    let loads = (0..600).map(|_| store.load("large"));
    let loads = timeout(BOUND, futures_util::future::join_all(loads)).await.expect("in time");
    for loaded in loads {
        assert_eq!(loaded.unwrap().sealed.unwrap().len(), 16 * 1024);
    }
    assert_eq!(proxy.connections(), 1);
}

#[tokio::test]
async fn a_server_that_never_ends_its_answer_is_cut_off() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let store = RedisStore::new(format!("redis://{}", listener.local_addr().unwrap())).unwrap();
    let server = async {
        let (mut client, _) = listener.accept().await.unwrap();
        client.read_u8().await.unwrap();
        client.write_all(b"$2000000000\r\n").await.unwrap();
        let mut sent = 0_usize;
        while client.write_all(&[b'x'; 4096]).await.is_ok() {
            sent += 4096;
        }
        sent
    };
    let (sent, shown) = tokio::join!(server, why(&store));
    assert!(shown.contains("more than was requested"), "{shown}");
    // What was read, and what the kernel holds.
    assert!(sent < 32 << 20, "{sent}");
}

#[tokio::test]
async fn the_error_names_a_server_of_something_else_and_a_node_of_a_cluster() {
    for (answer, expected) in [
        ("HTTP/1.1 400 Bad Request\r\n\r\n", "answers"),
        ("-MOVED 3999 10.0.0.7:6381\r\n", "cluster"),
        ("-NOPERM this user has no permissions\r\n", "NOPERM"),
        (":1\r\n", "answers"),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let store = RedisStore::new(format!("redis://{}", listener.local_addr().unwrap())).unwrap();
        let server = async {
            let (mut client, _) = listener.accept().await.unwrap();
            client.read_u8().await.unwrap();
            client.write_all(answer.as_bytes()).await.unwrap();
            client
        };
        let (_client, shown) = tokio::join!(server, why(&store));
        assert!(shown.contains(expected), "{answer}: {shown}");
    }
}

// ===== Authentication =====

#[tokio::test]
async fn the_password_is_read_for_each_connection_and_never_shown() {
    static READ: AtomicU32 = AtomicU32::new(0);
    let Some(server) = Server::start_with(&["--requirepass", "right"]).await else { return };
    assert!(why(&RedisStore::new(server.url()).unwrap()).await.contains("NOAUTH"));
    let password = Secret::from_fn(|| async {
        let nth = READ.fetch_add(1, SeqCst);
        Ok(if nth == 0 { "hush-hush" } else { "right" }.to_owned())
    });
    let store = RedisStore::builder(server.url()).password(password).build().unwrap();
    let shown = why(&store).await;
    assert!(shown.contains("WRONGPASS") && shown.contains("`password`"), "{shown}");
    assert!(!shown.contains("hush"), "{shown}");
    store.load("orders").await.unwrap();
    store.load("orders").await.unwrap();
    assert_eq!(READ.load(SeqCst), 2);
    let missing = RedisStore::builder(server.url()).password(Secret::env("NEVER_SET_ANYWHERE"));
    assert!(why(&missing.build().unwrap()).await.contains("NEVER_SET_ANYWHERE"));
}

#[tokio::test]
async fn a_user_with_the_documented_rights_and_a_database_of_its_own_is_enough() {
    let commands = "+evalsha +script|load +time +type +strlen +get +set +pttl +pexpire +select";
    let user = format!("--user fleet on >right ~tower-bearer:* {commands}");
    let user: Vec<&str> = user.split(' ').collect();
    let Some(server) = Server::start_with(&user).await else { return };
    let url = format!("redis://fleet@{}/3", server.address);
    let store = RedisStore::builder(url).password("right").build().unwrap();
    let source = Source::default();
    process(&source, store, "orders").fetch(first()).await.unwrap();
    assert_eq!(source.fetches(), 1);
    assert_eq!(command(server.address, &[b"EXISTS", key("orders").as_bytes()]).await, ":0");
}

#[tokio::test]
async fn tls_trusts_the_given_authority_alone() {
    let directory = tempfile::tempdir().unwrap();
    let (arguments, root) = certificates(directory.path());
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let Some(server) = Server::start_with(&arguments).await else { return };
    let url = |host: &str| format!("rediss://{host}:{}", server.address.port());
    let trusting = |host| RedisStore::builder(url(host)).root_certificate(&root);
    let store = trusting("localhost").build().unwrap();
    let source = Source::default();
    process(&source, store, "orders").fetch(first()).await.unwrap();
    assert_eq!(source.fetches(), 1);
    // The certificate is for another name; its authority is not the system's.
    for store in [trusting("127.0.0.1").build(), RedisStore::new(url("localhost"))] {
        let shown = why(&store.unwrap()).await;
        assert!(shown.contains("certificate"), "{shown}");
    }
}

// ===== What is stored =====

#[tokio::test]
async fn a_record_goes_after_its_time_and_stays_while_it_is_asked_for() {
    let Some(server) = Server::start().await else { return };
    let hour = Duration::from_secs(3600);
    let store = RedisStore::builder(server.url()).keep(hour).build().unwrap();
    let left = || async {
        let answer = command(server.address, &[b"PTTL", key("orders").as_bytes()]).await;
        answer.trim_start_matches(':').parse::<i64>().unwrap()
    };
    store.swap("orders", &Version::NONE, b"a").await.unwrap();
    let hour = 3_600_000;
    assert!((hour - 60_000..=hour).contains(&left().await));
    for (shortened, expected) in [(hour * 3 / 4, hour * 3 / 4), (hour / 4, hour)] {
        let millis = shortened.to_string();
        command(server.address, &[b"PEXPIRE", key("orders").as_bytes(), millis.as_bytes()]).await;
        store.load("orders").await.unwrap();
        assert!((expected - 60_000..=expected).contains(&left().await));
    }
}

#[tokio::test]
async fn what_is_no_string_is_garbage_too() {
    let Some(server) = Server::start().await else { return };
    let store = server.store();
    command(server.address, &[b"RPUSH", key("orders").as_bytes(), b"a"]).await;
    let loaded = store.load("orders").await.unwrap();
    assert_eq!(loaded.sealed, Some(Vec::new()));
    assert_eq!(store.swap("orders", &Version::NONE, b"b").await.unwrap(), Swapped::Conflict);
    assert!(matches!(store.swap("orders", &loaded.version, b"b").await, Ok(Swapped::Done(_))));
    assert_eq!(store.load("orders").await.unwrap().sealed.as_deref(), Some(&b"b"[..]));
}

#[tokio::test]
async fn scripts_that_the_server_has_lost_are_sent_again() {
    let Some(server) = Server::start().await else { return };
    let store = server.store();
    let version = store.load("orders").await.unwrap().version;
    assert_eq!(command(server.address, &[b"SCRIPT", b"FLUSH"]).await, "+OK");
    assert!(matches!(store.swap("orders", &version, b"a").await, Ok(Swapped::Done(_))));
}
