//! The command line.

use std::{
    ffi::{OsStr, OsString},
    path::PathBuf,
};

pub(crate) const USAGE: &str = "\
usage: sidecar --config FILE [--check] [--allow-commands] [--bare]

  --config FILE     the configuration: upstreams and token sources (TOML)
  --check           fetch a token from every source, print the results and exit
  --allow-commands  let the configuration name commands that print a token
  --bare            forward without tokens, to measure what they cost
  --help, -h        print this help and exit
  --version, -V     print the version and exit";

pub(crate) const VERSION: &str = concat!("sidecar ", env!("CARGO_PKG_VERSION"));

/// What the command line asks for.
#[derive(Debug, PartialEq)]
pub(crate) enum Command {
    Serve(Args),
    /// Print this text and exit.
    Print(&'static str),
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Args {
    pub(crate) config: PathBuf,
    pub(crate) check: bool,
    pub(crate) allow_commands: bool,
    pub(crate) bare: bool,
}

impl Command {
    pub(crate) fn parse(mut args: impl Iterator<Item = OsString>) -> Result<Self, String> {
        let mut parsed = Args::default();
        while let Some(arg) = args.next() {
            match arg.to_str() {
                Some("--help" | "-h") => return Ok(Self::Print(USAGE)),
                Some("--version" | "-V") => return Ok(Self::Print(VERSION)),
                Some("--check") => parsed.check = true,
                Some("--allow-commands") => parsed.allow_commands = true,
                Some("--bare") => parsed.bare = true,
                Some("--config") => parsed.config = file(args.next())?,
                Some(known) if known.starts_with("--config=") => {
                    parsed.config = file(Some(known["--config=".len()..].into()))?;
                }
                _ => return Err(unknown(&arg)),
            }
        }
        if parsed.config.as_os_str().is_empty() {
            return Err("--config is missing: see --help".to_owned());
        }
        Ok(Self::Serve(parsed))
    }
}

fn file(arg: Option<OsString>) -> Result<PathBuf, String> {
    let file = arg.filter(|file| !file.is_empty());
    file.map(PathBuf::from).ok_or_else(|| "--config needs a file: see --help".to_owned())
}

/// Names the argument without its value, which may be a secret.
fn unknown(arg: &OsStr) -> String {
    let arg = arg.to_string_lossy();
    let name = arg.split('=').next().unwrap_or_default();
    // `{:?}` escapes it: it may hold anything.
    format!("unknown argument {name:?}: see --help")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Result<Command, String> {
        Command::parse(args.iter().map(OsString::from))
    }

    #[test]
    fn help_and_the_version_need_no_configuration() {
        for args in [&["--help"][..], &["-h"], &["--check", "--help"], &["--config", "a", "-h"]] {
            assert_eq!(parse(args), Ok(Command::Print(USAGE)), "{args:?}");
        }
        for args in [&["--version"][..], &["-V"]] {
            assert_eq!(parse(args), Ok(Command::Print(VERSION)), "{args:?}");
        }
    }

    #[test]
    fn the_configuration_follows_a_space_or_an_equals_sign() {
        let args = Args { config: "a.toml".into(), check: true, ..Args::default() };
        for config in [&["--config", "a.toml", "--check"][..], &["--check", "--config=a.toml"]] {
            assert_eq!(parse(config), Ok(Command::Serve(args.clone())), "{config:?}");
        }
        for config in [&["--config"][..], &["--config", ""], &["--config="]] {
            let error = parse(config).unwrap_err();
            assert_eq!(error, "--config needs a file: see --help", "{config:?}");
        }
        assert_eq!(parse(&[]).unwrap_err(), "--config is missing: see --help");
    }

    #[test]
    fn an_unknown_argument_is_named_without_its_value() {
        for (arg, name) in [
            ("--loud", "\"--loud\""),
            ("--secret=hunter2", "\"--secret\""),
            ("file.toml", "\"file.toml\""),
            ("a\nb", "\"a\\nb\""),
            ("--configs", "\"--configs\""),
        ] {
            let error = parse(&["--config", "a", arg]).unwrap_err();
            assert_eq!(error, format!("unknown argument {name}: see --help"));
        }
    }
}
