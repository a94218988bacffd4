//! A faulty configuration is one line of error and exit code 2, before the sidecar listens.

use crate::support::run;

const SOURCE: &str = "[sources.a.oauth2]\nurl = \"https://auth.example.com/token\"\n\
                      client_id = \"me\"\nclient_secret = { env = \"SIDECAR_TEST_SECRET\" }\n";
const UPSTREAM: &str =
    "[upstreams.u]\npath = \"/u\"\nto = \"https://api.example.com\"\nsource = \"a\"\n";

/// The line, without the program's and the file's names.
async fn told(config: &str) -> String {
    let (code, out, err) = run(config, &[]).await;
    assert_eq!((code, out.as_str(), err.lines().count()), (2, "", 1), "{out}{err}");
    let (_, told) = err.split_once("sidecar.toml: ").expect("it names the file");
    told.trim_end().to_owned()
}

#[tokio::test]
async fn a_key_that_is_not_known_is_named() {
    let error = told(&format!("listens = \"127.0.0.1:0\"\n{SOURCE}{UPSTREAM}")).await;
    assert!(
        error.starts_with("line 1: in `listens`: unknown field `listens`, expected"),
        "{error}"
    );
    let error = told(&format!("{SOURCE}{UPSTREAM}pat = \"/\"\n")).await;
    assert!(error.starts_with("line 9: in `upstreams.u.pat`: unknown field `pat`"), "{error}");
    let error = told(&format!("{SOURCE}client_secrets = \"hunter2\"\n{UPSTREAM}")).await;
    assert!(error.contains("in `sources.a.oauth2`: unknown field `client_secrets`"), "{error}");
    let error = told(&format!("{SOURCE}[sources.a.policy]\nattempt = 1\n{UPSTREAM}")).await;
    assert!(error.starts_with("`sources.a`: `policy`: unknown field `attempt`"), "{error}");
    let error = told(&format!("{SOURCE}[sources.a.policy]\nattempts = 0\n{UPSTREAM}")).await;
    let expected = "`sources.a`: `policy`: the refresh policy's `attempts` must be from 1 to 10";
    assert_eq!(error, expected);
}

#[tokio::test]
async fn an_error_about_the_whole_file_names_no_line_and_any_other_the_line_that_it_is_about() {
    let listen = "listen = \"127.0.0.1:0\"\n\n";
    assert_eq!(told(listen).await, "missing field `sources`");
    assert_eq!(told(&format!("{listen}{SOURCE}")).await, "missing field `upstreams`");
    let error = told(&format!("{listen}{SOURCE}[upstreams.u]\npath = \"/u\"\n")).await;
    assert_eq!(error, "line 7: in `upstreams.u`: missing field `to`");
    let config = SOURCE.replace("\"https://auth.example.com/token\"", "5");
    let error = told(&format!("{listen}{config}{UPSTREAM}")).await;
    let expected = "line 3: in `sources.a.oauth2`: `url`: invalid type: integer, expected a string";
    assert_eq!(error, expected);
}

#[tokio::test]
async fn a_secret_that_is_written_out_is_not_repeated() {
    let inline = "a secret must not be written here: say where it is kept, with \
                  `{ env = \"NAME\" }` or `{ file = \"PATH\" }`";
    // `run` sees to it that the secret is not among what is said.
    let config = SOURCE.replace("{ env = \"SIDECAR_TEST_SECRET\" }", "\"hunter2\"");
    let error = told(&format!("{config}{UPSTREAM}")).await;
    assert_eq!(error, format!("line 1: in `sources.a.oauth2`: `client_secret`: {inline}"));
    let error = told(&format!("[sources.a]\ntoken = \"hunter2\"\n{UPSTREAM}")).await;
    assert_eq!(error, format!("line 2: in `sources.a.token`: {inline}"));
    let error = told(&format!("sources.a = \"hunter2\"\n{UPSTREAM}")).await;
    assert_eq!(error, "line 1: in `sources.a`: invalid type: string, expected struct Source");
    let error = told(&format!("{SOURCE}scope = hunter2\n{UPSTREAM}")).await;
    assert!(error.starts_with("line 5: "), "{error}");
}

/// A secret may stand anywhere, once it is in the wrong place.
#[tokio::test]
async fn a_secret_in_a_wrong_place_is_not_shown_wherever_that_is() {
    let fields = ", expected one of `listen`, `hosts`, `drain_seconds`, `connect_seconds`, \
                  `connections`, `replay`, `store`, `sources`, `upstreams`";
    let secret = "hunter3";
    let (s, u) = (SOURCE, UPSTREAM);
    for (config, expected) in [
        (format!("{secret} = 1\n{s}{u}"), format!("line 1: unknown field{fields}")),
        (format!("\"{secret}`, expected x\" = 1\n{s}{u}"), "line 1: unknown field".to_owned()),
        (
            format!("{s}{u}{secret} = \"/\"\n"),
            "line 9: in `upstreams.u`: unknown field, expected one of `to`, `source`".to_owned(),
        ),
        (
            format!("[sources.a]\n{secret} = 1\n{u}"),
            "line 2: in `sources.a`: unknown field, expected one of `oauth2`".to_owned(),
        ),
        (
            format!("replay.{secret} = 1\n{s}{u}"),
            "line 1: in `replay`: unknown field, expected `per_request` or `total`".to_owned(),
        ),
        (
            format!("{s}{}", u.replace("source = \"a\"", "source = \"hunter3\"")),
            "`upstreams.u`: `source` is unknown: use one of `a`".to_owned(),
        ),
        (
            format!("{s}{}", u.replace("source = \"a\"", "source = 948_371_204")),
            "line 8: in `upstreams.u.source`: invalid type: integer, expected a string".to_owned(),
        ),
        (
            format!("{s}{}", u.replace("source = \"a\"", "source = 948371204.5")),
            "line 8: in `upstreams.u.source`: invalid type: floating point, expected a string"
                .to_owned(),
        ),
        (
            format!("drain_seconds = -948371204\n{s}{u}"),
            "line 1: in `drain_seconds`: invalid value: integer, expected u64".to_owned(),
        ),
        (
            format!("replay.total = 948371204948371204\n{s}{u}"),
            "line 1: in `replay.total`: invalid value: integer, expected u32".to_owned(),
        ),
        (
            format!("drain_seconds = \"{secret}, expected x \\\", expected y\"\n{s}{u}"),
            "line 1: in `drain_seconds`: invalid type: string, expected u64".to_owned(),
        ),
        (
            format!("drain_seconds = {{ {secret} = 1 }}\n{s}{u}"),
            "line 1: in `drain_seconds`: invalid type: map, expected u64".to_owned(),
        ),
        (
            format!("hosts = \"{secret}\"\n{s}{u}"),
            "line 1: in `hosts`: invalid type: string, expected a sequence".to_owned(),
        ),
        (format!("listen = \"{secret}\"\n{s}{u}"), "line 1: in `listen`: invalid".to_owned()),
        (format!("[sources.a]\ncommand = \"{secret}\"\n{u}"), "line 2: in ".to_owned()),
        (format!("[sources.a]\npolicy = \"{secret}\"\n{u}"), "line 2: in ".to_owned()),
        (format!("[sources.a]\ntoken = {{ {secret} = 1 }}\n{u}"), "line 2: in ".to_owned()),
        (format!("[sources.a]\noauth2 = \"{secret}\"\n{u}"), "line 2: in ".to_owned()),
        (format!("{s}{secret}\n{u}"), "line 5: ".to_owned()),
        (format!("{s}scope = {secret}\n{u}"), "line 5: ".to_owned()),
        (format!("{s}scope = \"{secret}\n{u}"), "line 5: ".to_owned()),
        (format!("{s}[{secret}\n{u}"), "line 5: ".to_owned()),
        (format!("{secret} = 1\n{secret} = 2\n{s}{u}"), "line 2: ".to_owned()),
        (format!("{s}[sources.a.oauth2]\n{u}"), "line 5: ".to_owned()),
        (format!("listen = 1\nlisten.{secret} = 2\n{s}{u}"), "line 2: ".to_owned()),
        (format!("drain_seconds = 0x{secret}\n{s}{u}"), "line 1: ".to_owned()),
    ] {
        let error = told(&config).await;
        assert!(error.starts_with(&expected), "{config}{error}");
        assert!(!error.contains(secret) && !error.contains("948371204"), "{config}{error}");
    }
}

#[tokio::test]
async fn a_secret_that_cannot_be_read_is_named_with_its_place() {
    let config = SOURCE.replace("SIDECAR_TEST_SECRET", "SIDECAR_NEVER_SET");
    let expected = "`sources.a`: `client_secret`: the environment variable \"SIDECAR_NEVER_SET\" \
                    is not set: export it to this program";
    assert_eq!(told(&format!("{config}{UPSTREAM}")).await, expected);
    let config = SOURCE.replace("env = \"SIDECAR_TEST_SECRET\"", "file = \"/\"");
    let expected = "`sources.a`: `client_secret`: the file \"/\" is not a regular file";
    assert_eq!(told(&format!("{config}{UPSTREAM}")).await, expected);
}

#[tokio::test]
async fn an_upstream_that_cannot_be_is_named() {
    let u = "`upstreams.u`: ";
    for (from, to, expected) in [
        (
            "https://api.example.com",
            "http://api.example.com",
            "`to` is http://api.example.com: others could read the token on the way: use https",
        ),
        (
            "https://api.example.com",
            "api.example.com",
            "`to` is not absolute: write it like \"https://api.example.com/v1\"",
        ),
        (
            "https://api.example.com",
            "https://api.example.com/?key=x",
            "`to` must be an origin and a path, without a query or a fragment",
        ),
        (
            "https://api.example.com",
            "https://me:hunter2@api.example.com",
            "`to` is invalid: the origin has user info: an origin is a scheme, a host and perhaps a \
             port",
        ),
        ("\"/u\"", "\"u\"", "`path` is not absolute: write it like \"/api\""),
        ("source = \"a\"", "source = \"b\"", "`source` `b` is unknown: use one of `a`"),
        ("path = \"/u\"\n", "", "needs either a `path` or a `listen`"),
    ] {
        let upstream = UPSTREAM.replace(from, to);
        assert_eq!(told(&format!("{SOURCE}{upstream}")).await, format!("{u}{expected}"));
    }
    let second = UPSTREAM.replace("upstreams.u", "upstreams.v").replace("\"/u\"", "\"/u/\"");
    let error = told(&format!("{SOURCE}{UPSTREAM}{second}")).await;
    assert_eq!(error, "`upstreams.v`: another upstream has the `path` \"/u/\" already");
}

#[tokio::test]
async fn an_upstream_acts_for_users_if_and_only_if_its_source_exchanges_their_tokens() {
    let users = format!("{UPSTREAM}on_behalf_of = true\n");
    let needs = "`upstreams.u`: `on_behalf_of` needs a `source` that exchanges the tokens of users: \
                 one with `token_exchange` or `jwt_bearer_on_behalf_of`";
    let fixed = "token_exchange = { subject_token = { env = \"SIDECAR_TEST_SECRET\" } }\n";
    let stored = "[sources.a]\ntoken = { env = \"SIDECAR_TEST_SECRET\" }\n";
    for source in [SOURCE.to_owned(), format!("{SOURCE}{fixed}"), stored.to_owned()] {
        assert_eq!(told(&format!("{source}{users}")).await, needs, "{source}");
    }
    let says = "`upstreams.u`: `source` exchanges the tokens of users: write `on_behalf_of = true`";
    for exchanges in ["token_exchange = {}\n", "jwt_bearer_on_behalf_of = true\n"] {
        let source = format!("{SOURCE}{exchanges}");
        assert_eq!(told(&format!("{source}{UPSTREAM}")).await, says);
        assert_eq!(told(&format!("{source}{UPSTREAM}on_behalf_of = false\n")).await, says);
    }
}

#[tokio::test]
async fn a_header_that_cannot_carry_a_token_is_named() {
    let u = "`upstreams.u`: ";
    for (settings, expected) in [
        (
            "header = \"Host\"",
            "`header`: the header `host` cannot carry a token: HTTP itself uses it",
        ),
        (
            "header = \"X Key\"",
            "`header`: the token's header has an invalid name: write it like `X-Api-Key`",
        ),
        (
            "scheme = \"To ken\"",
            "`scheme`: the scheme before the token is not one word: write it like `Token`, without a \
             space",
        ),
    ] {
        let error = told(&format!("{SOURCE}{UPSTREAM}{settings}\n")).await;
        assert_eq!(error, format!("{u}{expected}"));
    }
}

#[tokio::test]
async fn a_source_or_a_number_that_cannot_be_is_named() {
    let error = told(&format!("[sources.a]\n{UPSTREAM}")).await;
    assert_eq!(error, "`sources.a`: needs exactly one of `oauth2`, `token` and `command`");
    let plaintext = SOURCE.replace("https://auth", "http://auth");
    let error = told(&format!("{plaintext}{UPSTREAM}")).await;
    assert!(error.starts_with("`sources.a`: the token endpoint's `url` is http://auth"), "{error}");
    let error = told(&format!("replay.per_request = 100000000\n{SOURCE}{UPSTREAM}")).await;
    assert_eq!(error, "`replay.per_request` is more than `replay.total`");
    for (key, value, expected) in [
        ("max", "0", "`connections.max` is 0: no client could connect"),
        ("header_seconds", "0", "`connections.header_seconds` must be from 1 to 86400"),
        ("idle_seconds", "86401", "`connections.idle_seconds` must be from 1 to 86400"),
    ] {
        let error = told(&format!("connections.{key} = {value}\n{SOURCE}{UPSTREAM}")).await;
        assert_eq!(error, expected);
    }
    let error = told(&format!("connect_seconds = 0\n{SOURCE}{UPSTREAM}")).await;
    assert_eq!(error, "`connect_seconds` must be from 1 to 86400");
    let error = told(&format!("hosts = [\"sidecar:80\"]\n{SOURCE}{UPSTREAM}")).await;
    assert_eq!(error, "`hosts`: \"sidecar:80\" is not a plain host name or address");
}

#[tokio::test]
async fn the_example_lacks_nothing_but_its_secrets() {
    let example = include_str!("../../examples/sidecar/sidecar.example.toml");
    let error = told(example).await;
    let missing =
        "`client_secret`: the environment variable \"GREENNODE_CLIENT_SECRET\" is not set";
    assert!(error.starts_with(&format!("`sources.greennode`: {missing}")), "{error}");
    // What is commented out is right as well: it gets as far as that.
    let settings = example.replace("# [", "[").lines().map(uncommented).collect::<String>();
    let error = told(&settings).await;
    assert!(error.starts_with("`store`: `password`: "), "{error}");
    let (before, store) = settings.split_once("[store]\n").expect("there is a store");
    let (_, after) = store.split_once("\n[").expect("it ends");
    let error = told(&format!("{before}[{after}")).await;
    assert!(error.starts_with("`sources.gcloud`: `command` runs a program"), "{error}");
}

#[tokio::test]
async fn the_readme_is_enough_for_two_upstreams() {
    let readme = include_str!("../../README.md");
    let (_, config) = readme.split_once("```toml\n").expect("there is a configuration");
    let (config, _) = config.split_once("```").expect("the block ends");
    assert_eq!(config.matches("\n[upstreams.").count(), 2);
    let error = told(config).await;
    assert!(error.starts_with("`sources.ibm`: "), "{error}");
    assert!(error.contains("\"IBMCLOUD_API_KEY\" is not set"), "{error}");
    let config = config.replace("IBMCLOUD_API_KEY", "SIDECAR_TEST_SECRET");
    let error = told(&config).await;
    assert!(error.starts_with("`sources.orders`: "), "{error}");
    // With both secrets nothing is missing: it gets as far as the port.
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let listen = format!("listen = \"{}\"\n", taken.local_addr().unwrap());
    let config = listen + &config.replace("CLIENT_SECRET", "SIDECAR_TEST_SECRET");
    let (code, _, err) = run(&config, &[]).await;
    assert!(code == 1 && err.contains("cannot listen on"), "{err}");
}

/// A line of the example, if it is a setting, without the sign that takes it out.
fn uncommented(line: &str) -> String {
    let setting = line.strip_prefix("# ").filter(|line| {
        let (key, value) = line.split_once(" = ").unwrap_or_default();
        !key.is_empty()
            && !value.is_empty()
            && key.bytes().all(|byte| byte == b'_' || byte.is_ascii_lowercase())
    });
    setting.unwrap_or(line).to_owned() + "\n"
}

#[tokio::test]
async fn a_missing_file_and_an_unknown_argument_are_named() {
    let (code, out, err) = run("", &["--config", "/nowhere/sidecar.toml"]).await;
    assert_eq!((code, out.as_str()), (2, ""));
    assert!(err.starts_with("sidecar: /nowhere/sidecar.toml: cannot be read: "), "{err}");
    let (code, out, err) = run("", &["--loud=hunter2"]).await;
    assert_eq!((code, out.as_str()), (2, ""));
    assert_eq!(err, "sidecar: unknown argument \"--loud\": see --help\n");
}

#[tokio::test]
async fn help_and_the_version_go_to_the_standard_output_and_are_no_failure() {
    let (code, out, err) = run("", &["--help"]).await;
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.starts_with("usage: sidecar --config FILE"), "{out}");
    for option in ["--check", "--allow-commands", "--bare", "--help", "--version"] {
        assert!(out.contains(option), "{option} in {out}");
    }
    let (code, out, err) = run("", &["--version"]).await;
    assert_eq!((code, err.as_str()), (0, ""));
    assert_eq!(out, concat!("sidecar ", env!("CARGO_PKG_VERSION"), "\n"));
}
