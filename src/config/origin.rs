//! What is known about a value besides itself: where it comes from, what it may be, what is wrong with it.

use std::path::PathBuf;

use thiserror::Error;

use crate::config::{Config, Role};

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody said anything.
    Default,
    /// A file.
    File(PathBuf),
    /// An environment variable.
    Environment(String),
    /// A flag of the command line.
    Flag(&'static str),
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => write!(f, "file {}", path.display()),
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::Flag(flag) => write!(f, "flag {flag}"),
        }
    }
}

/// Everything that is wrong with the settings, all of it at once.
#[derive(Debug, Error)]
#[error("{}", .problems.join("\n"))]
pub struct ConfigError {
    /// One sentence each.
    pub problems: Vec<String>,
}

/// Where settings are looked for.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// Whose defaults apply.
    pub role: Role,
    /// `--config`; when none, `BOLIDE_CONFIG` from the environment.
    pub file: Option<PathBuf>,
    /// The environment.
    pub environment: Vec<(String, String)>,
    /// Key, value and flag, as given on the command line.
    pub flags: Vec<(&'static str, String, &'static str)>,
}

/// One key with its effective value.
#[derive(Clone, Debug)]
pub struct Setting {
    /// `section.key`.
    pub key: &'static str,
    /// As one would write it.
    pub value: String,
    /// Where it comes from.
    pub origin: Origin,
    /// As one would write it.
    pub default: String,
    /// Which values are allowed.
    pub bounds: String,
    /// What it means.
    pub help: &'static str,
}

/// A configuration and how it came about.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The options.
    pub config: Config,
    /// Every key in the order of the documentation.
    pub settings: Vec<Setting>,
    /// `BOLIDE_…` variables that are none of ours and look like none.
    pub ignored: Vec<Ignored>,
}

/// A `BOLIDE_…` variable that is not obeyed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{variable} in the environment is no setting of bolide; the nearest known one is {nearest}")]
pub struct Ignored {
    /// Its name.
    pub variable: String,
    /// The variable that may have been meant.
    pub nearest: String,
}
