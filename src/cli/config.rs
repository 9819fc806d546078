//! `bolide config`: which settings apply, and which there are.

use clap::{Args, Subcommand, ValueEnum};
use serde::Serialize;

use crate::cli::failure::Failure;
use crate::cli::print;
use crate::cli::standalone::SettingArgs;
use crate::cli::table::Table;
use crate::config::{Role, Setting};

/// Arguments of `bolide config`.
#[derive(Args, Debug)]
pub struct ConfigArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Print every setting with its value and where that comes from
    Print {
        #[command(flatten)]
        settings: SettingArgs,
        /// Whose settings: their defaults differ a little
        #[arg(long, value_enum, default_value_t = OfRole::Standalone)]
        role: OfRole,
        /// Only what is not the default
        #[arg(long)]
        changed: bool,
        /// Form of the answer
        #[arg(long, value_enum, default_value_t = Output::Table)]
        output: Output,
    },
    /// Explain every setting: meaning, default, allowed values, environment variable
    Keys,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people
    Table,
    /// For scripts
    Json,
}

/// What a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum OfRole {
    /// Everything in one process
    Standalone,
    /// The route service of a cluster
    Route,
    /// A broker of a cluster
    Broker,
    /// A proxy of a cluster
    Proxy,
}

impl From<OfRole> for Role {
    fn from(role: OfRole) -> Self {
        match role {
            OfRole::Standalone => Self::Standalone,
            OfRole::Route => Self::Route,
            OfRole::Broker => Self::Broker,
            OfRole::Proxy => Self::Proxy,
        }
    }
}

#[derive(Serialize)]
struct SettingView<'a> {
    key: &'a str,
    value: &'a str,
    origin: String,
    default: &'a str,
}

/// Prints what was asked for.
///
/// # Errors
/// The settings are wrong.
pub fn run(args: ConfigArgs) -> Result<(), Failure> {
    match args.what {
        What::Print { settings, role, changed, output } => {
            let loaded = settings.load(role.into())?;
            for ignored in &loaded.ignored {
                eprintln!("note: {ignored}");
            }
            let mut shown = loaded.settings;
            shown.retain(|setting| !changed || setting.value != setting.default);
            match output {
                Output::Table => print::line(table(&shown)),
                Output::Json => {
                    let views: Vec<SettingView<'_>> = shown.iter().map(view).collect();
                    print::line(serde_json::to_string_pretty(&views).unwrap_or_default());
                }
            }
        }
        What::Keys => {
            let defaults = crate::config::load(&crate::config::Sources::default());
            for setting in defaults.map_err(|error| Failure::Failed(error.to_string()))?.settings {
                print::line(format_args!("{}\n    {}", setting.key, setting.help));
                print::line(format_args!(
                    "    default {}; {}\n    {}\n",
                    setting.default,
                    setting.bounds,
                    variable(setting.key)
                ));
            }
        }
    }
    Ok(())
}

fn variable(key: &str) -> String {
    format!("BOLIDE_{}", key.replace('.', "_").to_ascii_uppercase())
}

fn view(setting: &Setting) -> SettingView<'_> {
    SettingView {
        key: setting.key,
        value: &setting.value,
        origin: setting.origin.to_string(),
        default: &setting.default,
    }
}

fn table(settings: &[Setting]) -> String {
    let mut table = Table::new(&["KEY", "VALUE", "ORIGIN"]);
    for setting in settings {
        table.row(vec![setting.key.to_owned(), setting.value.clone(), setting.origin.to_string()]);
    }
    table.text()
}
