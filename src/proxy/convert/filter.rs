//! Filter expressions. Tags are understood; SQL is recognised and refused in words.

use crate::model::tag::TagFilter;
use crate::proxy::status::Refusal;
use crate::wire::rocketmq as v2;
use crate::wire::rocketmq::{Code, FilterType};

/// The tag filter of a receive; none at all means every message.
///
/// # Errors
/// `ILLEGAL_FILTER_EXPRESSION` for what no type of filter accepts, `NOT_IMPLEMENTED` for SQL.
pub fn tags(expression: Option<&v2::FilterExpression>) -> Result<TagFilter, Refusal> {
    let Some(filter) = expression else { return Ok(TagFilter::All) };
    let illegal = |text: &'static str| Refusal::new(Code::IllegalFilterExpression, text);
    match FilterType::try_from(filter.r#type) {
        Ok(FilterType::Tag | FilterType::Unspecified) => TagFilter::parse(&filter.expression)
            .map_err(|error| Refusal::new(Code::IllegalFilterExpression, error.to_string())),
        Ok(FilterType::Sql) if filter.expression.trim().is_empty() => Err(illegal("the SQL expression is empty")),
        Ok(FilterType::Sql) => Err(Refusal::not_implemented("filtering by SQL expression")),
        Err(_) => Err(illegal("the type of the filter expression is unknown")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_expression_has_its_answer() {
        let of =
            |r#type: i32, expression: &str| tags(Some(&v2::FilterExpression { r#type, expression: expression.into() }));
        let code = |outcome: Result<TagFilter, Refusal>| outcome.unwrap_err().code;
        assert_eq!(tags(None), Ok(TagFilter::All));
        assert_eq!(of(1, "*"), Ok(TagFilter::All));
        assert_eq!(of(0, ""), Ok(TagFilter::All));
        assert_eq!(of(1, "B || A"), Ok(TagFilter::AnyOf(vec!["A".into(), "B".into()])));
        assert_eq!(code(of(1, "||")), Code::IllegalFilterExpression);
        assert_eq!(code(of(2, " ")), Code::IllegalFilterExpression);
        assert_eq!(code(of(2, "a > 1")), Code::NotImplemented);
        assert_eq!(code(of(9, "*")), Code::IllegalFilterExpression);
    }
}
