//! Every key: name, meaning, bounds, and the option behind it.

mod cluster;
mod limits;
mod observe;
mod server;
mod storage;
mod transactions;

use std::time::Duration;

use crate::config::value::Access;

/// One key.
#[derive(Clone, Copy, Debug)]
pub(super) struct Key {
    /// `section.key`.
    pub name: &'static str,
    /// What it means; one or two sentences.
    pub help: &'static str,
    /// Type, place and bounds.
    pub access: Access,
}

/// In the order of the documentation.
pub(super) fn all() -> impl Iterator<Item = &'static Key> {
    [server::KEYS, cluster::KEYS, limits::KEYS, transactions::KEYS, storage::KEYS, observe::KEYS].into_iter().flatten()
}

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

const DAY: Duration = seconds(86_400);
const YEAR: Duration = seconds(366 * 86_400);
const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;

impl Key {
    /// Name of its environment variable.
    pub(super) fn variable(&self) -> String {
        variable(self.name)
    }

    /// Section and key within it.
    pub(super) fn section(&self) -> &'static str {
        self.name.split_once('.').map_or("", |(section, _)| section)
    }
}

/// Name of the environment variable of `section.key`.
pub(super) fn variable(name: &str) -> String {
    format!("BOLIDE_{}", name.replace('.', "_").to_ascii_uppercase())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn every_default_lies_within_its_own_bounds() {
        for key in all() {
            let mut config = Config::default();
            let text = key.access.read(&mut config);
            assert_eq!(key.access.write(&mut config, &text), Ok(()), "{} = {text}", key.name);
            assert_eq!(key.access.read(&mut config), text, "{}", key.name);
        }
    }

    #[test]
    fn names_are_unique_also_as_variables_and_with_their_unit() {
        let mut names: Vec<String> = all().map(Key::variable).collect();
        for key in all() {
            if let Some((suffix, _)) = key.access.unit_suffix() {
                names.push(variable(&format!("{}{suffix}", key.name)));
            }
        }
        let count = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn every_key_says_what_it_means() {
        for key in all() {
            assert!(key.help.len() > 20 && key.help.ends_with('.'), "{}", key.name);
        }
    }
}
