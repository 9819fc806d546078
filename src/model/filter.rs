//! Which messages a receive wants: by tag, or by an SQL expression over properties.

use std::sync::Arc;

use crate::model::properties::Properties;
use crate::model::sql::Sql;
use crate::model::tag::TagFilter;

/// A filter, cheap to clone and to compare.
#[derive(Clone, Debug)]
pub enum Filter {
    /// By tag. The hash in a queue entry decides almost always.
    Tags(TagFilter),
    /// By expression. Only the message's properties decide.
    Sql(Arc<Sql>),
}

impl Filter {
    /// Every message.
    pub const ALL: Self = Self::Tags(TagFilter::All);

    /// Whether a message with this tag hash may match, before its properties are looked at.
    #[must_use]
    pub fn may_match(&self, tag_hash: u32) -> bool {
        match self {
            Self::Tags(tags) => tags.may_match(tag_hash),
            Self::Sql(_) => true,
        }
    }

    /// Whether it wants a message that was chosen for it: by a hash, which others share, or by a verdict, which was presumed when
    /// the disk did not give the properties.
    #[must_use]
    pub fn confirms(&self, tag: &str, properties: &Properties<'_>) -> bool {
        match self {
            Self::Tags(tags) => tags.matches(tag),
            Self::Sql(sql) => sql.matches(properties.pairs(|name| sql.names(name))),
        }
    }

    /// The expression, if it is one.
    #[must_use]
    pub fn sql(&self) -> Option<&Arc<Sql>> {
        match self {
            Self::Tags(_) => None,
            Self::Sql(sql) => Some(sql),
        }
    }
}

impl From<TagFilter> for Filter {
    fn from(tags: TagFilter) -> Self {
        Self::Tags(tags)
    }
}

impl PartialEq for Filter {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Tags(own), Self::Tags(other)) => own == other,
            (Self::Sql(own), Self::Sql(other)) => Arc::ptr_eq(own, other) || own == other,
            _ => false,
        }
    }
}

impl Eq for Filter {}
