//! The command line.

use std::{ffi::OsString, path::PathBuf};

pub(crate) const USAGE: &str = "\
usage: sidecar --config FILE [--check] [--allow-commands] [--bare]

  --config FILE     what to forward where, and where the tokens come from (TOML)
  --check           fetch a token from every source, say how that went, and end
  --allow-commands  let the file name commands that print a token
  --bare            forward without tokens, to measure what they cost";

pub(crate) struct Args {
    pub(crate) config: PathBuf,
    pub(crate) check: bool,
    pub(crate) allow_commands: bool,
    pub(crate) bare: bool,
}

impl Args {
    /// `None` if only help was asked for.
    pub(crate) fn parse(
        mut args: impl Iterator<Item = OsString>,
    ) -> Result<Option<Self>, &'static str> {
        let mut parsed =
            Self { config: PathBuf::new(), check: false, allow_commands: false, bare: false };
        while let Some(arg) = args.next() {
            match arg.to_str() {
                Some("--help" | "-h") => return Ok(None),
                Some("--check") => parsed.check = true,
                Some("--allow-commands") => parsed.allow_commands = true,
                Some("--bare") => parsed.bare = true,
                Some("--config") => {
                    parsed.config = args.next().ok_or("--config needs a file: see --help")?.into();
                }
                _ => return Err("there is an argument that is not known: see --help"),
            }
        }
        if parsed.config.as_os_str().is_empty() {
            return Err("--config is missing: see --help");
        }
        Ok(Some(parsed))
    }
}
