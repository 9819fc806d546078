//! Tags and tag expressions: split on `||`, trimmed, compared exactly (rule C22). A hash narrows, the string decides.

/// 32-bit FNV-1a of a tag, as kept in a queue entry; 0 is kept for "no tag".
#[must_use]
pub fn tag_hash(tag: &str) -> u32 {
    if tag.is_empty() {
        return 0;
    }
    let mut hash: u32 = 0x811c_9dc5;
    for byte in tag.bytes() {
        hash ^= u32::from(byte);
        hash = hash.wrapping_mul(0x0100_0193);
    }
    hash.max(1)
}

/// A tag filter, ready to be applied.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TagFilter {
    /// Every message, tagged or not.
    All,
    /// Messages whose tag is one of these. Sorted, without repeats; may be empty: then nothing matches.
    AnyOf(Vec<String>),
}

/// The expression had separators but no tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the tag expression names no tag: it consists of separators only")]
pub struct EmptyTagExpression;

impl TagFilter {
    /// Reads an expression such as `A || B`. Empty and `*` mean everything.
    ///
    /// # Errors
    /// [`EmptyTagExpression`] for an expression that consists of separators only.
    pub fn parse(expression: &str) -> Result<Self, EmptyTagExpression> {
        let trimmed = expression.trim();
        if trimmed.is_empty() || trimmed == "*" {
            return Ok(Self::All);
        }
        let mut tags: Vec<String> =
            trimmed.split("||").map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect();
        if tags.is_empty() {
            return Err(EmptyTagExpression);
        }
        if tags.iter().any(|tag| tag == "*") {
            return Ok(Self::All);
        }
        tags.sort_unstable();
        tags.dedup();
        Ok(Self::AnyOf(tags))
    }

    /// Whether a message with this tag hash may match; a `true` still needs [`TagFilter::matches`].
    #[must_use]
    pub fn may_match(&self, hash: u32) -> bool {
        match self {
            Self::All => true,
            Self::AnyOf(tags) => hash != 0 && tags.iter().any(|tag| tag_hash(tag) == hash),
        }
    }

    /// Whether a message with this tag matches. An untagged message has the empty tag.
    #[must_use]
    pub fn matches(&self, tag: &str) -> bool {
        match self {
            Self::All => true,
            Self::AnyOf(tags) => !tag.is_empty() && tags.binary_search_by(|own| own.as_str().cmp(tag)).is_ok(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_follow_the_rules_of_the_protocol() {
        assert_eq!(TagFilter::parse("").unwrap(), TagFilter::All);
        assert_eq!(TagFilter::parse(" * ").unwrap(), TagFilter::All);
        assert_eq!(TagFilter::parse("||"), Err(EmptyTagExpression));
        let filter = TagFilter::parse(" B||A || ").unwrap();
        assert_eq!(filter, TagFilter::AnyOf(vec!["A".into(), "B".into()]));
        assert!(filter.matches("A") && !filter.matches("a") && !filter.matches("") && !filter.matches("AB"));
    }

    #[test]
    fn a_single_bar_is_part_of_a_tag() {
        assert_eq!(TagFilter::parse("A|B").unwrap(), TagFilter::AnyOf(vec!["A|B".into()]));
    }

    #[test]
    fn untagged_messages_match_only_everything() {
        assert!(TagFilter::All.may_match(0));
        assert!(!TagFilter::parse("A").unwrap().may_match(0));
    }
}
