//! The compiled form and its three-valued evaluation. `None` is *unknown*.

use std::borrow::Cow;

use crate::model::sql::number::Number;
use crate::model::sql::pattern::Pattern;

/// True, false, or unknown.
pub type Truth = Option<bool>;
/// Values of the properties that an expression names, by slot.
pub type Values<'a> = [Option<Cow<'a, str>>];

/// Where a number comes from.
#[derive(Debug)]
pub enum NumberOf {
    /// A literal.
    Literal(Number),
    /// The property in a slot.
    Property(usize),
    /// The property in a slot, with the other sign.
    Negated(usize),
}

/// Where a text comes from.
#[derive(Debug)]
pub enum TextOf {
    /// A literal.
    Literal(Box<str>),
    /// The property in a slot.
    Property(usize),
}

/// How two numbers are to lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// `=`
    Equal,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
}

/// How a text is searched.
#[derive(Debug)]
pub enum Search {
    /// CONTAINS.
    Contains(Box<str>),
    /// STARTSWITH.
    StartsWith(Box<str>),
    /// ENDSWITH.
    EndsWith(Box<str>),
    /// LIKE.
    Like(Pattern),
}

/// What may be absent.
#[derive(Debug)]
pub enum Nullable {
    /// A property that a message may not have.
    Property(usize),
    /// A property with a sign, that may not be a number.
    Number(NumberOf),
    /// A truth value that may be unknown.
    Truth(Box<Predicate>),
    /// A literal.
    Literal {
        /// Whether it is NULL.
        is_null: bool,
    },
}

/// Something that is true, false or unknown of a message.
#[derive(Debug)]
pub enum Predicate {
    /// A literal.
    Constant(Truth),
    /// A property that reads as a truth value.
    Property(usize),
    /// NOT.
    Not(Box<Predicate>),
    /// AND.
    All(Vec<Predicate>),
    /// OR.
    Any(Vec<Predicate>),
    /// A comparison of numbers.
    Numbers(NumberOf, Order, NumberOf),
    /// BETWEEN: value, low, high.
    Between(NumberOf, NumberOf, NumberOf),
    /// Equality of texts.
    Texts(TextOf, TextOf),
    /// Equality of truth values.
    Truths(Box<Predicate>, Box<Predicate>),
    /// IS NULL.
    IsNull(Nullable),
    /// IN: slot, texts and numbers, each sorted.
    In(usize, Vec<Box<str>>, Vec<Number>),
    /// A search in a text.
    Search(TextOf, Search),
}

impl NumberOf {
    fn read(&self, values: &Values<'_>) -> Option<Number> {
        match self {
            Self::Literal(number) => Some(*number),
            Self::Property(slot) => Number::read(values[*slot].as_deref()?),
            Self::Negated(slot) => Number::read(values[*slot].as_deref()?).map(Number::negated),
        }
    }
}

impl TextOf {
    fn read<'v>(&'v self, values: &'v Values<'_>) -> Option<&'v str> {
        match self {
            Self::Literal(text) => Some(text),
            Self::Property(slot) => values[*slot].as_deref(),
        }
    }
}

impl Order {
    fn holds(self, left: Number, right: Number) -> bool {
        match self {
            Self::Equal => left == right,
            Self::Less => left < right,
            Self::LessOrEqual => left <= right,
            Self::Greater => left > right,
            Self::GreaterOrEqual => left >= right,
        }
    }
}

impl Search {
    fn finds(&self, text: &str) -> bool {
        match self {
            Self::Contains(part) => text.contains(&**part),
            Self::StartsWith(part) => text.starts_with(&**part),
            Self::EndsWith(part) => text.ends_with(&**part),
            Self::Like(pattern) => pattern.fits(text),
        }
    }
}

/// A text as a truth value; anything but the two words is neither.
fn read_truth(text: &str) -> Truth {
    if text.eq_ignore_ascii_case("true") {
        Some(true)
    } else if text.eq_ignore_ascii_case("false") {
        Some(false)
    } else {
        None
    }
}

/// AND over several: false wins over unknown, unknown over true.
fn all(truths: impl Iterator<Item = Truth>) -> Truth {
    let mut together = Some(true);
    for truth in truths {
        match truth {
            Some(false) => return Some(false),
            None => together = None,
            Some(true) => {}
        }
    }
    together
}

fn not(truth: Truth) -> Truth {
    truth.map(|truth| !truth)
}

impl Predicate {
    /// Whether it is true of a message with these values.
    #[must_use]
    pub fn truth(&self, values: &Values<'_>) -> Truth {
        match self {
            Self::Constant(truth) => *truth,
            Self::Property(slot) => read_truth(values[*slot].as_deref()?),
            Self::Not(inner) => not(inner.truth(values)),
            Self::All(parts) => all(parts.iter().map(|part| part.truth(values))),
            Self::Any(parts) => not(all(parts.iter().map(|part| not(part.truth(values))))),
            Self::Numbers(left, order, right) => Some(order.holds(left.read(values)?, right.read(values)?)),
            Self::Between(value, low, high) => {
                let value = value.read(values)?;
                let above = low.read(values).map(|low| low <= value);
                let below = high.read(values).map(|high| value <= high);
                all([above, below].into_iter())
            }
            Self::Texts(left, right) => Some(left.read(values)? == right.read(values)?),
            Self::Truths(left, right) => Some(left.truth(values)? == right.truth(values)?),
            Self::IsNull(nullable) => Some(nullable.is_null(values)),
            Self::In(slot, texts, numbers) => is_in(values[*slot].as_deref()?, texts, numbers),
            Self::Search(text, search) => Some(search.finds(text.read(values)?)),
        }
    }
}

/// Equal to one of the values: true; else, a text beside numbers is not comparable with them: unknown.
fn is_in(value: &str, texts: &[Box<str>], numbers: &[Number]) -> Truth {
    if texts.binary_search_by(|text| (**text).cmp(value)).is_ok() {
        return Some(true);
    }
    if numbers.is_empty() {
        return Some(false);
    }
    Number::read(value).map(|number| numbers.binary_search(&number).is_ok())
}

impl Nullable {
    fn is_null(&self, values: &Values<'_>) -> bool {
        match self {
            Self::Property(slot) => values[*slot].is_none(),
            Self::Number(number) => number.read(values).is_none(),
            Self::Truth(predicate) => predicate.truth(values).is_none(),
            Self::Literal { is_null } => *is_null,
        }
    }
}
