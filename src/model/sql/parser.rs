//! From tokens to the compiled form, by descent; what cannot be true of any message for its kinds alone is refused here.

use std::collections::BTreeMap;

use crate::model::sql::error::{Problem, SqlError};
use crate::model::sql::expression::{NumberOf, Order, Predicate, Search, TextOf};
use crate::model::sql::lexer::{self, Placed, Token};
use crate::model::sql::number::Number;
use crate::model::sql::pattern::Pattern;
use crate::model::sql::value::{Term, Value, denied_if, equal, nullable};
use crate::model::sql::{LIST_MAX, NESTING_MAX, PATTERN_CHARS_MAX};

/// The words that are never the name of a property. LIKE and ESCAPE are words of the grammar only where an operand cannot stand, so
/// that properties of these names stay usable.
const KEYWORDS: [&str; 12] =
    ["AND", "BETWEEN", "CONTAINS", "ENDSWITH", "FALSE", "IN", "IS", "NOT", "NULL", "OR", "STARTSWITH", "TRUE"];

/// Compiles an expression; also gives the slot of every property that it names.
pub fn parse(text: &str) -> Result<(Predicate, BTreeMap<Box<str>, usize>), SqlError> {
    let (tokens, end) = lexer::tokens(text)?;
    let mut parser = Parser { tokens, next: 0, end, nesting: 0, names: BTreeMap::new(), pattern_chars: 0 };
    if parser.tokens.is_empty() {
        return Err(SqlError { at: 1, problem: Problem::Empty });
    }
    let whole = parser.expression()?;
    if let Some(placed) = parser.peek() {
        return Err(SqlError { at: placed.at, problem: Problem::Trailing(placed.token.shown()) });
    }
    if matches!(whole.value, Value::Null) {
        return Err(whole.error(Problem::NullAlone));
    }
    Ok((whole.truth()?.value, parser.names))
}

struct Parser<'a> {
    tokens: Vec<Placed<'a>>,
    next: usize,
    end: usize,
    nesting: usize,
    names: BTreeMap<Box<str>, usize>,
    pattern_chars: usize,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<&Placed<'a>> {
        self.tokens.get(self.next)
    }

    fn at(&self) -> usize {
        self.peek().map_or(self.end, |placed| placed.at)
    }

    fn error(&self, problem: Problem) -> SqlError {
        SqlError { at: self.at(), problem }
    }

    fn unexpected(&self, expected: &'static str) -> SqlError {
        let found = self.peek().map_or_else(|| "the end".to_owned(), |placed| placed.token.shown());
        self.error(Problem::Unexpected { expected, found })
    }

    fn is_word(&self, offset: usize, keyword: &str) -> bool {
        self.tokens
            .get(self.next + offset)
            .is_some_and(|placed| matches!(placed.token, Token::Word(word) if word.eq_ignore_ascii_case(keyword)))
    }

    fn take_word(&mut self, keyword: &str) -> bool {
        let found = self.is_word(0, keyword);
        self.next += usize::from(found);
        found
    }

    fn take_sign(&mut self, sign: &str) -> bool {
        let found = self.peek().is_some_and(|placed| matches!(placed.token, Token::Sign(found) if found == sign));
        self.next += usize::from(found);
        found
    }

    fn need_word(&mut self, keyword: &'static str) -> Result<(), SqlError> {
        if self.take_word(keyword) { Ok(()) } else { Err(self.unexpected(keyword)) }
    }

    fn need_sign(&mut self, sign: &'static str) -> Result<(), SqlError> {
        if self.take_sign(sign) { Ok(()) } else { Err(self.unexpected(sign)) }
    }

    fn need_text(&mut self) -> Result<String, SqlError> {
        let Some(Placed { token: Token::Text(text), .. }) = self.tokens.get_mut(self.next) else {
            return Err(self.unexpected("a text in single quotes"));
        };
        let text = std::mem::take(text);
        self.next += 1;
        Ok(text)
    }

    /// Goes one level down, so that neither this descent nor that of the evaluation outgrows its stack.
    fn deeper<T>(&mut self, parse: impl FnOnce(&mut Self) -> Result<T, SqlError>) -> Result<T, SqlError> {
        if self.nesting == NESTING_MAX {
            return Err(self.error(Problem::TooDeep));
        }
        self.nesting += 1;
        let parsed = parse(self);
        self.nesting -= 1;
        parsed
    }

    /// A truth value made of others. Chains such as `a = 1 = TRUE = TRUE` nest without parentheses.
    fn combined(&self, at: usize, inner: &[usize], value: Predicate) -> Result<Term<Value>, SqlError> {
        let depth = 1 + inner.iter().max().copied().unwrap_or(0);
        if depth > NESTING_MAX {
            return Err(self.error(Problem::TooDeep));
        }
        Ok(Term { value: Value::Truth(value), at, depth })
    }

    fn expression(&mut self) -> Result<Term<Value>, SqlError> {
        self.chain("OR", Self::conjunction, Predicate::Any)
    }

    fn conjunction(&mut self) -> Result<Term<Value>, SqlError> {
        self.chain("AND", Self::denial, Predicate::All)
    }

    /// Operands between a keyword; one alone stays what it is.
    fn chain(
        &mut self,
        keyword: &str,
        operand: fn(&mut Self) -> Result<Term<Value>, SqlError>,
        join: fn(Vec<Predicate>) -> Predicate,
    ) -> Result<Term<Value>, SqlError> {
        let first = operand(self)?;
        if !self.is_word(0, keyword) {
            return Ok(first);
        }
        let at = first.at;
        let first = first.truth()?;
        let mut depths = vec![first.depth];
        let mut parts = vec![first.value];
        while self.take_word(keyword) {
            let part = operand(self)?.truth()?;
            depths.push(part.depth);
            parts.push(part.value);
        }
        self.combined(at, &depths, join(parts))
    }

    fn denial(&mut self) -> Result<Term<Value>, SqlError> {
        let at = self.at();
        if !self.take_word("NOT") {
            return self.equality();
        }
        let inner = self.deeper(Self::denial)?.truth()?;
        self.combined(at, &[inner.depth], Predicate::Not(Box::new(inner.value)))
    }

    fn equality(&mut self) -> Result<Term<Value>, SqlError> {
        let mut left = self.comparison()?;
        loop {
            let at = left.at;
            if self.take_word("IS") {
                let denied = self.take_word("NOT");
                self.need_word("NULL")?;
                let depth = left.depth;
                left = self.combined(at, &[depth], denied_if(denied, Predicate::IsNull(nullable(left.value))))?;
                continue;
            }
            let denied = if self.take_sign("=") {
                false
            } else if self.take_sign("<>") || self.take_sign("!=") {
                true
            } else {
                return Ok(left);
            };
            let right = self.comparison()?;
            let depths = [left.depth, right.depth];
            left = self.combined(at, &depths, denied_if(denied, equal(left, right)?))?;
        }
    }

    fn comparison(&mut self) -> Result<Term<Value>, SqlError> {
        let mut left = self.operand()?;
        loop {
            let (at, depth) = (left.at, left.depth);
            if let Some(order) = self.take_order() {
                let left_number = left.number()?;
                let right = self.operand()?;
                let depths = [depth, right.depth];
                left = self.combined(at, &depths, Predicate::Numbers(left_number, order, right.number()?))?;
                continue;
            }
            let denied = self.is_word(0, "NOT");
            let after = usize::from(denied);
            let operators = ["BETWEEN", "IN", "LIKE", "CONTAINS", "STARTSWITH", "ENDSWITH"];
            let Some(operator) = operators.into_iter().find(|keyword| self.is_word(after, keyword)) else {
                return if denied {
                    self.next += 1;
                    Err(self.unexpected("BETWEEN, IN, LIKE, CONTAINS, STARTSWITH or ENDSWITH"))
                } else {
                    Ok(left)
                };
            };
            self.next += after + 1;
            let predicate = match operator {
                "BETWEEN" => self.between(left)?,
                "IN" => self.list(left)?,
                _ => self.search(left, operator)?,
            };
            left = self.combined(at, &[depth], denied_if(denied, predicate))?;
        }
    }

    fn take_order(&mut self) -> Option<Order> {
        let orders =
            [(">", Order::Greater), (">=", Order::GreaterOrEqual), ("<", Order::Less), ("<=", Order::LessOrEqual)];
        orders.into_iter().find(|(sign, _)| self.take_sign(sign)).map(|(_, order)| order)
    }

    fn between(&mut self, value: Term<Value>) -> Result<Predicate, SqlError> {
        let value = value.number()?;
        let at = self.at();
        let low = self.operand()?.number()?;
        self.need_word("AND")?;
        let high = self.operand()?.number()?;
        if let (NumberOf::Literal(low), NumberOf::Literal(high)) = (&low, &high)
            && low > high
        {
            return Err(SqlError { at, problem: Problem::BoundsReversed });
        }
        Ok(Predicate::Between(value, low, high))
    }

    fn list(&mut self, left: Term<Value>) -> Result<Predicate, SqlError> {
        let Value::Property(slot) = left.value else {
            return Err(left.error(Problem::InWithoutProperty(left.value.kind())));
        };
        self.need_sign("(")?;
        let (mut texts, mut numbers) = (Vec::new(), Vec::new());
        loop {
            if texts.len() + numbers.len() == LIST_MAX {
                return Err(self.error(Problem::ListTooLong));
            }
            let unexpected = self.unexpected("a text or a number");
            match self.operand_of_list()? {
                Some(Value::Text(text)) => texts.push(text),
                Some(Value::Number(number)) => numbers.push(number),
                _ => return Err(unexpected),
            }
            if !self.take_sign(",") {
                break;
            }
        }
        self.need_sign(")")?;
        texts.sort_unstable();
        numbers.sort_unstable();
        Ok(Predicate::In(slot, texts, numbers))
    }

    /// A literal; nothing for anything else.
    fn operand_of_list(&mut self) -> Result<Option<Value>, SqlError> {
        let begins_literal = self.peek().is_some_and(|placed| match placed.token {
            Token::Text(_) | Token::Integer(_) | Token::Double(_) => true,
            Token::Sign(sign) => sign == "+" || sign == "-",
            Token::Word(_) => false,
        });
        if begins_literal { Ok(Some(self.operand()?.value)) } else { Ok(None) }
    }

    fn search(&mut self, left: Term<Value>, operator: &str) -> Result<Predicate, SqlError> {
        let text = match left.value {
            Value::Property(slot) => TextOf::Property(slot),
            Value::Text(text) => TextOf::Literal(text),
            other => {
                return Err(SqlError { at: left.at, problem: Problem::NotSearchable(other.kind()) });
            }
        };
        let at = self.at();
        let part = self.need_text()?;
        let search = match operator {
            "CONTAINS" => Search::Contains(part.into()),
            "STARTSWITH" => Search::StartsWith(part.into()),
            "ENDSWITH" => Search::EndsWith(part.into()),
            _ => self.like(at, &part)?,
        };
        Ok(Predicate::Search(text, search))
    }

    fn like(&mut self, at: usize, pattern: &str) -> Result<Search, SqlError> {
        let mut escape = None;
        if self.take_word("ESCAPE") {
            let at = self.at();
            let text = self.need_text()?;
            let mut chars = text.chars();
            escape = chars.next();
            if escape.is_none() || chars.next().is_some() {
                return Err(SqlError { at, problem: Problem::EscapeLength });
            }
        }
        self.pattern_chars += pattern.chars().count();
        if self.pattern_chars > PATTERN_CHARS_MAX {
            return Err(SqlError { at, problem: Problem::PatternsTooLong });
        }
        Pattern::compile(pattern, escape).map(Search::Like).map_err(|problem| SqlError { at, problem })
    }

    fn operand(&mut self) -> Result<Term<Value>, SqlError> {
        let at = self.at();
        for (sign, negative) in [("+", false), ("-", true)] {
            if self.take_sign(sign) {
                return self.signed(at, negative);
            }
        }
        if self.take_sign("(") {
            let inner = self.deeper(Self::expression)?;
            self.need_sign(")")?;
            return Ok(Term { at, ..inner });
        }
        let Some(placed) = self.peek() else { return Err(self.unexpected("a value")) };
        let value = match &placed.token {
            Token::Integer(size) => match i64::try_from(*size) {
                Ok(value) => Value::Number(Number::Integer(value)),
                Err(_) => return Err(self.error(Problem::NumberTooLarge)),
            },
            Token::Double(value) => Value::Number(Number::Double(*value)),
            Token::Text(_) => {
                let text = self.need_text()?.into();
                return Ok(Term { value: Value::Text(text), at, depth: 0 });
            }
            Token::Word(word) if word.eq_ignore_ascii_case("TRUE") => Value::Truth(Predicate::Constant(Some(true))),
            Token::Word(word) if word.eq_ignore_ascii_case("FALSE") => Value::Truth(Predicate::Constant(Some(false))),
            Token::Word(word) if word.eq_ignore_ascii_case("NULL") => Value::Null,
            Token::Word(word) if KEYWORDS.iter().any(|keyword| word.eq_ignore_ascii_case(keyword)) => {
                return Err(self.unexpected("a value"));
            }
            Token::Word(word) => {
                let count = self.names.len();
                Value::Property(*self.names.entry((*word).into()).or_insert(count))
            }
            Token::Sign(_) => return Err(self.unexpected("a value")),
        };
        self.next += 1;
        Ok(Term { value, at, depth: 0 })
    }

    fn signed(&mut self, at: usize, negative: bool) -> Result<Term<Value>, SqlError> {
        if negative && matches!(self.peek(), Some(Placed { token: Token::Integer(size), .. }) if *size == 1 << 63) {
            self.next += 1;
            return Ok(Term { value: Value::Number(Number::Integer(i64::MIN)), at, depth: 0 });
        }
        let inner = self.deeper(Self::operand)?;
        let value = match inner.value {
            Value::Number(number) if negative => Value::Number(number.negated()),
            Value::Property(slot) if negative => Value::Signed(NumberOf::Negated(slot)),
            Value::Property(slot) => Value::Signed(NumberOf::Property(slot)),
            Value::Signed(NumberOf::Property(slot)) if negative => Value::Signed(NumberOf::Negated(slot)),
            Value::Signed(NumberOf::Negated(slot)) if negative => Value::Signed(NumberOf::Property(slot)),
            value @ (Value::Number(_) | Value::Signed(_)) => value,
            other => return Err(SqlError { at: inner.at, problem: Problem::NoSign(other.kind()) }),
        };
        Ok(Term { value, at, depth: inner.depth })
    }
}
