//! What the parser has in its hands between operators, and how values of different kinds meet.

use crate::model::sql::error::{Problem, SqlError};
use crate::model::sql::expression::{Nullable, NumberOf, Order, Predicate, TextOf};
use crate::model::sql::number::Number;

/// What an operand is, as far as that can be known before a message is there.
#[derive(Debug)]
pub enum Value {
    /// A property, that reads as what it is compared with.
    Property(usize),
    /// A property with a sign.
    Signed(NumberOf),
    /// A literal.
    Number(Number),
    /// A literal.
    Text(Box<str>),
    /// A literal, or the outcome of a comparison.
    Truth(Predicate),
    /// The literal.
    Null,
}

/// A value, where it stands, and how deep it is nested.
#[derive(Debug)]
pub struct Term<V> {
    /// The value.
    pub value: V,
    /// Its first character.
    pub at: usize,
    /// Levels of truth values inside.
    pub depth: usize,
}

impl<V> Term<V> {
    /// A mistake here.
    pub fn error(&self, problem: Problem) -> SqlError {
        SqlError { at: self.at, problem }
    }
}

impl Value {
    /// As errors call it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Property(_) => "a property",
            Self::Signed(_) | Self::Number(_) => "a number",
            Self::Text(_) => "a text",
            Self::Truth(_) => "a truth value",
            Self::Null => "NULL",
        }
    }
}

impl Term<Value> {
    /// As an operand of AND, OR and NOT.
    pub fn truth(self) -> Result<Term<Predicate>, SqlError> {
        let problem = Problem::NotATruth(self.value.kind());
        let at = self.at;
        let value = match self.value {
            Value::Truth(predicate) => predicate,
            Value::Property(slot) => Predicate::Property(slot),
            Value::Null => Predicate::Constant(None),
            Value::Signed(_) | Value::Number(_) | Value::Text(_) => return Err(SqlError { at, problem }),
        };
        Ok(Term { value, at, depth: self.depth })
    }

    /// As an operand of an order.
    pub fn number(self) -> Result<NumberOf, SqlError> {
        let at = self.at;
        match self.value {
            Value::Number(number) => Ok(NumberOf::Literal(number)),
            Value::Signed(number) => Ok(number),
            Value::Property(slot) => Ok(NumberOf::Property(slot)),
            Value::Null => Err(SqlError { at, problem: Problem::ComparedWithNull }),
            other => Err(SqlError { at, problem: Problem::NoOrder(other.kind()) }),
        }
    }
}

/// NOT, where it was written.
pub fn denied_if(denied: bool, predicate: Predicate) -> Predicate {
    if denied { Predicate::Not(Box::new(predicate)) } else { predicate }
}

/// As the operand of IS NULL.
pub fn nullable(value: Value) -> Nullable {
    match value {
        Value::Property(slot) => Nullable::Property(slot),
        Value::Signed(number) => Nullable::Number(number),
        Value::Truth(predicate) => Nullable::Truth(Box::new(predicate)),
        Value::Number(_) | Value::Text(_) => Nullable::Literal { is_null: false },
        Value::Null => Nullable::Literal { is_null: true },
    }
}

/// Equality: a property is read as the other side is; two properties are compared as the texts that they are.
pub fn equal(left: Term<Value>, right: Term<Value>) -> Result<Predicate, SqlError> {
    for side in [&left, &right] {
        if matches!(side.value, Value::Null) {
            return Err(side.error(Problem::ComparedWithNull));
        }
    }
    let problem = Problem::Kinds { left: left.value.kind(), right: right.value.kind() };
    let unequal_kinds = right.error(problem);
    Ok(match (left.value, right.value) {
        (Value::Property(left), Value::Property(right)) => {
            Predicate::Texts(TextOf::Property(left), TextOf::Property(right))
        }
        (Value::Property(slot), Value::Text(text)) | (Value::Text(text), Value::Property(slot)) => {
            Predicate::Texts(TextOf::Property(slot), TextOf::Literal(text))
        }
        (Value::Text(left), Value::Text(right)) => Predicate::Texts(TextOf::Literal(left), TextOf::Literal(right)),
        (Value::Property(slot), Value::Truth(truth)) | (Value::Truth(truth), Value::Property(slot)) => {
            Predicate::Truths(Box::new(Predicate::Property(slot)), Box::new(truth))
        }
        (Value::Truth(left), Value::Truth(right)) => Predicate::Truths(Box::new(left), Box::new(right)),
        (left @ (Value::Property(_) | Value::Number(_) | Value::Signed(_)), right)
        | (left, right @ (Value::Property(_) | Value::Number(_) | Value::Signed(_))) => {
            match (as_number(left), as_number(right)) {
                (Some(left), Some(right)) => Predicate::Numbers(left, Order::Equal, right),
                _ => return Err(unequal_kinds),
            }
        }
        _ => return Err(unequal_kinds),
    })
}

fn as_number(value: Value) -> Option<NumberOf> {
    match value {
        Value::Property(slot) => Some(NumberOf::Property(slot)),
        Value::Signed(number) => Some(number),
        Value::Number(number) => Some(NumberOf::Literal(number)),
        Value::Text(_) | Value::Truth(_) | Value::Null => None,
    }
}
