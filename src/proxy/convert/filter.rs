//! Filter expressions: by tag, or SQL, compiled once for all receives that carry the same text.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::model::filter::Filter;
use crate::model::sql::Sql;
use crate::model::tag::TagFilter;
use crate::proxy::status::Refusal;
use crate::wire::rocketmq as v2;
use crate::wire::rocketmq::{Code, FilterType};

/// Bytes of expression texts after which the expressions used least recently are forgotten. What is compiled takes some ten times
/// as much.
const TEXT_BYTES_MAX: usize = 256 * 1024;

/// Compiled expressions by text: those used lately, and those used before that.
#[derive(Debug, Default)]
pub struct Compiled {
    generations: Mutex<Generations>,
}

#[derive(Debug, Default)]
struct Generations {
    young: HashMap<String, Arc<Sql>>,
    old: HashMap<String, Arc<Sql>>,
    young_bytes: usize,
}

impl Compiled {
    /// The filter of a receive; none at all means every message.
    ///
    /// # Errors
    /// `ILLEGAL_FILTER_EXPRESSION`, with the place of a mistake in SQL.
    pub fn filter(&self, expression: Option<&v2::FilterExpression>) -> Result<Filter, Refusal> {
        let Some(filter) = expression else { return Ok(Filter::ALL) };
        let illegal = |text: String| Refusal::new(Code::IllegalFilterExpression, text);
        match FilterType::try_from(filter.r#type) {
            Ok(FilterType::Tag | FilterType::Unspecified) => {
                TagFilter::parse(&filter.expression).map(Filter::Tags).map_err(|error| illegal(error.to_string()))
            }
            Ok(FilterType::Sql) => self.sql(&filter.expression).map(Filter::Sql),
            Err(_) => Err(illegal("the type of the filter expression is unknown".to_owned())),
        }
    }

    fn sql(&self, text: &str) -> Result<Arc<Sql>, Refusal> {
        if let Some(known) = self.generations.lock().get(text) {
            return Ok(known);
        }
        // Outside the lock: a long expression must not hold up receives with others.
        let sql = Sql::parse(text)
            .map(Arc::new)
            .map_err(|error| Refusal::new(Code::IllegalFilterExpression, error.to_string()))?;
        self.generations.lock().insert(text, sql.clone());
        Ok(sql)
    }
}

impl Generations {
    fn get(&mut self, text: &str) -> Option<Arc<Sql>> {
        if let Some(known) = self.young.get(text) {
            return Some(known.clone());
        }
        let known = self.old.remove(text)?;
        self.insert(text, known.clone());
        Some(known)
    }

    fn insert(&mut self, text: &str, sql: Arc<Sql>) {
        if self.young_bytes + text.len() > TEXT_BYTES_MAX {
            self.old = std::mem::take(&mut self.young);
            self.young_bytes = 0;
        }
        if self.young.insert(text.to_owned(), sql).is_none() {
            self.young_bytes += text.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(compiled: &Compiled, r#type: i32, expression: &str) -> Result<Filter, Refusal> {
        compiled.filter(Some(&v2::FilterExpression { r#type, expression: expression.into() }))
    }

    #[test]
    fn each_kind_of_expression_has_its_answer() {
        let compiled = Compiled::default();
        let of = |r#type: i32, expression: &str| of(&compiled, r#type, expression);
        let refusal = |outcome: Result<Filter, Refusal>| outcome.unwrap_err();
        assert_eq!(compiled.filter(None), Ok(Filter::ALL));
        assert_eq!(of(1, "*"), Ok(Filter::ALL));
        assert_eq!(of(0, ""), Ok(Filter::ALL));
        assert_eq!(of(1, "B || A"), Ok(TagFilter::AnyOf(vec!["A".into(), "B".into()]).into()));
        assert_eq!(of(2, "a > 1").unwrap().sql().map(|sql| sql.text().to_owned()), Some("a > 1".to_owned()));
        assert_eq!(refusal(of(1, "||")).code, Code::IllegalFilterExpression);
        assert_eq!(refusal(of(2, " ")).code, Code::IllegalFilterExpression);
        assert_eq!(refusal(of(9, "*")).code, Code::IllegalFilterExpression);
        let wrong = refusal(of(2, "a > 'x'"));
        assert_eq!(wrong.code, Code::IllegalFilterExpression);
        assert!(wrong.text.contains("character 5"), "{}", wrong.text);
    }

    #[test]
    fn an_expression_is_compiled_once_and_those_in_use_are_not_forgotten() {
        let compiled = Compiled::default();
        let arc = |text: &str| of(&compiled, 2, text).unwrap().sql().unwrap().clone();
        let first = arc("a > 1");
        for number in 0..200 {
            arc(&format!("a = {number} -- {}", "x".repeat(4000)));
            assert!(Arc::ptr_eq(&first, &arc("a > 1")));
        }
        let generations = compiled.generations.lock();
        let bytes = |known: &HashMap<String, Arc<Sql>>| known.keys().map(String::len).sum::<usize>();
        assert!(bytes(&generations.young) <= TEXT_BYTES_MAX && bytes(&generations.old) <= TEXT_BYTES_MAX);
        assert_eq!(bytes(&generations.young), generations.young_bytes);
    }
}
