//! SQL92 filters: a text is checked and compiled once, then asked about the properties of message after message. Pure.
//!
//! ```text
//! expression := both (OR both)*             both := denied (AND denied)*       denied := NOT denied | equal
//! equal      := compared ( (= | <> | !=) compared | IS [NOT] NULL )*
//! compared   := operand ( (> | >= | < | <=) operand | [NOT] BETWEEN operand AND operand | [NOT] IN ( literal, … )
//!             | [NOT] LIKE text [ESCAPE text] | [NOT] (CONTAINS | STARTSWITH | ENDSWITH) text )*
//! operand    := (+ | -) operand | number | 'text' | TRUE | FALSE | NULL | name | ( expression )
//! ```
//!
//! Precedence is the standard's: NOT binds less tightly than a comparison. Logic has three values: a property that a message
//! does not have, or that is not of the kind that it is compared with, makes its comparison *unknown*, and a message matches only
//! where the whole is *true*. Properties are texts and are read as what they are compared with: a number (64-bit integers and
//! doubles, compared exactly), a truth value (`true` and `false` in any case), or a text. Two properties are equal as texts and
//! ordered as numbers.

mod error;
mod expression;
mod lexer;
mod number;
mod parser;
mod pattern;
#[cfg(test)]
#[path = "sql/property_tests.rs"]
mod property_tests;
#[cfg(test)]
#[path = "sql/table_tests.rs"]
mod table_tests;
mod value;

use std::borrow::Cow;
use std::collections::BTreeMap;

pub use crate::model::sql::error::{Problem, SqlError};

use crate::model::sql::expression::Predicate;

/// Longest expression, in characters.
pub const EXPRESSION_CHARS_MAX: usize = 8192;
/// Most words, numbers, texts and signs of an expression.
pub const TOKENS_MAX: usize = 2048;
/// Deepest nesting of parentheses, NOT, signs and comparisons of comparisons. Bounds the stack of parser and evaluation.
pub const NESTING_MAX: usize = 64;
/// Most values of one IN list.
pub const LIST_MAX: usize = 512;
/// Most characters of all LIKE patterns of an expression together. Each may be tried at every place of a 16 KiB property.
pub const PATTERN_CHARS_MAX: usize = 256;

/// A compiled expression. Two are equal when their texts are.
#[derive(Debug)]
pub struct Sql {
    text: Box<str>,
    root: Predicate,
    names: BTreeMap<Box<str>, usize>,
}

impl Sql {
    /// Checks and compiles an expression.
    ///
    /// # Errors
    /// [`SqlError`] with the place of the first mistake.
    pub fn parse(text: &str) -> Result<Self, SqlError> {
        let (root, names) = parser::parse(text)?;
        Ok(Self { text: text.into(), root, names })
    }

    /// The text it was compiled from.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether the expression names a property: values that cost something to make are made for those that do.
    #[must_use]
    pub fn names(&self, property: &str) -> bool {
        self.names.contains_key(property)
    }

    /// Whether a message with these properties matches. Of two with one name the later counts, as on the wire.
    pub fn matches<'a>(&self, properties: impl IntoIterator<Item = (&'a str, Cow<'a, str>)>) -> bool {
        let mut values: Vec<Option<Cow<'a, str>>> = vec![None; self.names.len()];
        for (name, value) in properties {
            if let Some(slot) = self.names.get(name) {
                values[*slot] = Some(value);
            }
        }
        self.root.truth(&values) == Some(true)
    }
}

impl PartialEq for Sql {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Sql {}

impl PartialOrd for Sql {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Sql {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.text.cmp(&other.text)
    }
}
