//! Why an expression was refused, and where.

use crate::model::sql::{EXPRESSION_CHARS_MAX, LIST_MAX, NESTING_MAX, PATTERN_CHARS_MAX, TOKENS_MAX};

/// An expression that is none. Nothing was compiled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the SQL expression is not valid at character {at}: {problem}")]
pub struct SqlError {
    /// Character of the expression, from 1; one past the last when something is missing there.
    pub at: usize,
    /// What is wrong.
    pub problem: Problem,
}

/// What is wrong with an expression.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// Nothing but blanks and comments.
    #[error("it is empty")]
    Empty,
    /// Bound.
    #[error("it is longer than {EXPRESSION_CHARS_MAX} characters")]
    TooLong,
    /// Bound.
    #[error("it has more than {TOKENS_MAX} words and signs")]
    TooManyTokens,
    /// Bound.
    #[error("it is nested deeper than {NESTING_MAX} levels")]
    TooDeep,
    /// Bound.
    #[error("a list has more than {LIST_MAX} values")]
    ListTooLong,
    /// Bound.
    #[error("its LIKE patterns have more than {PATTERN_CHARS_MAX} characters together")]
    PatternsTooLong,
    /// A character no token begins with.
    #[error("{0:?} does not belong here")]
    Character(char),
    /// Texts stand in single quotes.
    #[error("a text stands in single quotes")]
    DoubleQuote,
    /// A text without its closing quote.
    #[error("the text that begins here does not end")]
    OpenText,
    /// A comment without its end.
    #[error("the comment that begins here does not end")]
    OpenComment,
    /// Digits followed by letters.
    #[error("the number runs into a word")]
    NumberRunsOn,
    /// Beyond 64 bits, or beyond a double.
    #[error("the number is too large")]
    NumberTooLarge,
    /// Something else was needed.
    #[error("{expected} is needed here, not {found}")]
    Unexpected {
        /// What the grammar allows.
        expected: &'static str,
        /// What stands there.
        found: String,
    },
    /// A complete expression is followed by more.
    #[error("the expression has ended, but {0} follows")]
    Trailing(String),
    /// NULL where a value is needed.
    #[error("nothing equals NULL or lies above or below it; use IS NULL or IS NOT NULL")]
    ComparedWithNull,
    /// NULL alone.
    #[error("NULL alone is never true")]
    NullAlone,
    /// Text, number and truth value do not compare with each other.
    #[error("{left} does not compare with {right}")]
    Kinds {
        /// Kind on the left.
        left: &'static str,
        /// Kind on the right.
        right: &'static str,
    },
    /// Only numbers have an order.
    #[error("{0} has no order; only numbers and properties do")]
    NoOrder(&'static str),
    /// Only numbers have a sign.
    #[error("{0} has no sign; only numbers and properties do")]
    NoSign(&'static str),
    /// A value that is neither true nor false.
    #[error("{0} is neither true nor false")]
    NotATruth(&'static str),
    /// IN asks about a property.
    #[error("IN asks about a property, not {0}")]
    InWithoutProperty(&'static str),
    /// LIKE, CONTAINS, STARTSWITH and ENDSWITH search a text.
    #[error("only a property or a text can be searched, not {0}")]
    NotSearchable(&'static str),
    /// The lower bound is above the upper one.
    #[error("the lower bound of BETWEEN is above the upper one")]
    BoundsReversed,
    /// Not one character.
    #[error("ESCAPE takes exactly one character")]
    EscapeLength,
    /// The escape character escapes nothing.
    #[error("the escape character must be followed by %, _ or itself")]
    EscapesNothing,
}
