//! Names of topics, groups and namespaces: which characters and lengths the protocol allows.
//!
//! Identity is the pair (namespace, name). Facts: messaging facts 2.1 to 2.3.

use std::fmt;
use std::sync::Arc;

use thiserror::Error;

use crate::model::limits::{GROUP_NAME_CHARS_MAX, NAMESPACE_CHARS_MAX, TOPIC_NAME_CHARS_MAX};

/// Prefix of the dead-letter topic of a group.
pub const DEAD_LETTER_PREFIX: &str = "%DLQ%";
/// Prefix of the retry topics of the reference system; accepted as names, never created by us.
pub const RETRY_PREFIX: &str = "%RETRY%";

const SYSTEM_TOPICS: [&str; 10] = [
    "TBW102",
    "SCHEDULE_TOPIC_XXXX",
    "BenchmarkTest",
    "RMQ_SYS_TRANS_HALF_TOPIC",
    "RMQ_SYS_TRANS_OP_HALF_TOPIC",
    "TRANS_CHECK_MAX_TIME_TOPIC",
    "RMQ_SYS_TRACE_TOPIC",
    "SELF_TEST_TOPIC",
    "OFFSET_MOVED_EVENT",
    "CHECKPOINT_TOPIC",
];
const SYSTEM_TOPIC_PREFIX: &str = "rmq_sys_";
const SYSTEM_GROUP_PREFIX: &str = "CID_RMQ_SYS_";

/// Why a name was refused. The text names the rule, for the client to show.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum NameError {
    /// Nothing but white space.
    #[error("the specified {kind} is blank")]
    Blank {
        /// `topic`, `group` or `namespace`.
        kind: &'static str,
    },
    /// More characters than allowed.
    #[error("the specified {kind} is longer than the maximum of {max} characters")]
    TooLong {
        /// What kind of name.
        kind: &'static str,
        /// Most characters allowed.
        max: usize,
    },
    /// A character outside `[%|a-zA-Z0-9_-]`.
    #[error("the specified {kind}[{name}] contains illegal characters, allowing only [%|a-zA-Z0-9_-]")]
    BadCharacter {
        /// What kind of name.
        kind: &'static str,
        /// The name as given.
        name: String,
    },
    /// A name the reference system keeps for itself.
    #[error("cannot access system {kind}: {name}")]
    Reserved {
        /// What kind of name.
        kind: &'static str,
        /// The name as given.
        name: String,
    },
}

fn check(kind: &'static str, name: &str, max: usize) -> Result<(), NameError> {
    if name.trim().is_empty() {
        return Err(NameError::Blank { kind });
    }
    if name.chars().count() > max {
        return Err(NameError::TooLong { kind, max });
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '%' | '|' | '_' | '-');
    if !name.chars().all(allowed) {
        return Err(NameError::BadCharacter { kind, name: name.to_owned() });
    }
    Ok(())
}

macro_rules! scoped_name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name {
            namespace: Arc<str>,
            name: Arc<str>,
        }

        impl $name {
            /// Takes a name that is known to be valid: read back from the log, or built from valid names.
            #[must_use]
            pub fn trusted(namespace: &str, name: &str) -> Self {
                Self { namespace: namespace.into(), name: name.into() }
            }

            /// The namespace; empty when there is none.
            #[must_use]
            pub fn namespace(&self) -> &str {
                &self.namespace
            }

            /// The name without its namespace.
            #[must_use]
            pub fn name(&self) -> &str {
                &self.name
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                if self.namespace.is_empty() {
                    f.write_str(&self.name)
                } else {
                    write!(f, "{}/{}", self.namespace, self.name)
                }
            }
        }
    };
}

scoped_name!(
    /// Name of a topic within its namespace.
    TopicName
);
scoped_name!(
    /// Name of a consumer group within its namespace.
    GroupName
);

impl TopicName {
    /// Checks a client's words.
    ///
    /// # Errors
    /// [`NameError`] names the rule that was broken.
    pub fn new(namespace: &str, name: &str) -> Result<Self, NameError> {
        check_namespace(namespace)?;
        check("topic", name, TOPIC_NAME_CHARS_MAX)?;
        if SYSTEM_TOPICS.contains(&name) || name.starts_with(SYSTEM_TOPIC_PREFIX) {
            return Err(NameError::Reserved { kind: "topic", name: name.to_owned() });
        }
        Ok(Self::trusted(namespace, name))
    }

    /// The dead-letter topic of `group`.
    #[must_use]
    pub fn dead_letter(group: &GroupName) -> Self {
        Self::trusted(group.namespace(), &format!("{DEAD_LETTER_PREFIX}{}", group.name()))
    }

    /// Whether this is a group's dead-letter topic.
    #[must_use]
    pub fn is_dead_letter(&self) -> bool {
        self.name.starts_with(DEAD_LETTER_PREFIX)
    }
}

impl GroupName {
    /// Checks a client's words.
    ///
    /// # Errors
    /// [`NameError`] names the rule that was broken.
    pub fn new(namespace: &str, name: &str) -> Result<Self, NameError> {
        check_namespace(namespace)?;
        check("consumer group", name, GROUP_NAME_CHARS_MAX)?;
        if name.starts_with(SYSTEM_GROUP_PREFIX) {
            return Err(NameError::Reserved { kind: "consumer group", name: name.to_owned() });
        }
        Ok(Self::trusted(namespace, name))
    }
}

fn check_namespace(namespace: &str) -> Result<(), NameError> {
    if namespace.is_empty() {
        return Ok(());
    }
    check("namespace", namespace, NAMESPACE_CHARS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boundaries_of_topic_and_group_names_hold() {
        assert!(TopicName::new("", &"a".repeat(127)).is_ok());
        assert!(matches!(TopicName::new("", &"a".repeat(128)), Err(NameError::TooLong { max: 127, .. })));
        assert!(GroupName::new("", &"g".repeat(120)).is_ok());
        assert!(matches!(GroupName::new("", &"g".repeat(121)), Err(NameError::TooLong { max: 120, .. })));
        assert!(matches!(TopicName::new("", "  "), Err(NameError::Blank { .. })));
        assert!(matches!(TopicName::new("", "a b"), Err(NameError::BadCharacter { .. })));
        assert!(TopicName::new("", "%a|B_9-").is_ok());
    }

    #[test]
    fn reserved_names_are_refused_case_sensitively() {
        assert!(matches!(TopicName::new("", "TBW102"), Err(NameError::Reserved { .. })));
        assert!(TopicName::new("", "tbw102").is_ok());
        assert!(matches!(TopicName::new("", "rmq_sys_x"), Err(NameError::Reserved { .. })));
        assert!(TopicName::new("", "RMQ_SYS_x").is_ok());
        assert!(matches!(GroupName::new("", "CID_RMQ_SYS_x"), Err(NameError::Reserved { .. })));
    }

    #[test]
    fn the_same_name_in_two_namespaces_is_two_topics() {
        assert_ne!(TopicName::new("a", "t").unwrap(), TopicName::new("b", "t").unwrap());
    }
}
