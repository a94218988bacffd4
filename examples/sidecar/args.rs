//! The command line.

use std::{ffi::OsString, path::PathBuf};

pub(crate) const USAGE: &str = "\
usage: sidecar --config FILE [--check] [--allow-commands]

  --config FILE     what to forward where, and where the tokens come from (TOML)
  --check           fetch a token from every source, say how that went, and end
  --allow-commands  let the file name commands that print a token";

pub(crate) struct Args {
    pub(crate) config: PathBuf,
    pub(crate) check: bool,
    pub(crate) allow_commands: bool,
}

impl Args {
    /// `None` if only help was asked for.
    pub(crate) fn parse(
        mut args: impl Iterator<Item = OsString>,
    ) -> Result<Option<Self>, &'static str> {
        let (mut config, mut check, mut allow_commands) = (None, false, false);
        while let Some(arg) = args.next() {
            match arg.to_str() {
                Some("--help" | "-h") => return Ok(None),
                Some("--check") => check = true,
                Some("--allow-commands") => allow_commands = true,
                Some("--config") => {
                    config = Some(args.next().ok_or("--config needs a file: see --help")?);
                }
                _ => return Err("there is an argument that is not known: see --help"),
            }
        }
        let config = config.ok_or("--config is missing: see --help")?.into();
        Ok(Some(Self { config, check, allow_commands }))
    }
}
