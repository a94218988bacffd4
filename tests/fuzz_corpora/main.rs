//! What fuzzing has found so far (`fuzz/corpus`) goes well, without a fuzzer.
#![allow(unreachable_pub, reason = "the fuzz targets reach it")]

mod replay_body;
mod targets;

use std::{fs, path::Path};

/// Every input that was kept for a target, and the shortest that there are.
fn each(target: &str, run: fn(&[u8])) {
    let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    // A packaged crate has no corpora.
    let files = fs::read_dir(corpora.join(target));
    assert!(files.is_ok() || !corpora.exists(), "{target} has no corpus");
    for file in files.into_iter().flatten() {
        let path = file.unwrap().path();
        println!("{}", path.display());
        run(&fs::read(path).unwrap());
    }
    (0..=u8::MAX).for_each(|byte| run(&[byte]));
    run(&[]);
}

macro_rules! corpora {
    ($($target:ident: $run:path,)*) => {$(
        #[test]
        fn $target() {
            each(stringify!($target), $run);
        }
    )*};
}

corpora! {
    answer: targets::answer,
    challenge: targets::challenge,
    config: targets::config,
    metadata: targets::metadata,
    origin: targets::origin,
    replay_body: replay_body::replay_body,
    retry_after: targets::retry_after,
    subject: targets::subject,
    token: targets::token,
}
