//! Random expressions, printed with as few parentheses as the standard's precedence allows, against an evaluation that knows
//! nothing of the parser; and random texts, which must never do more than be refused.

use std::borrow::Cow;
use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// Values of the properties; a name that is not here is absent.
type Message = BTreeMap<&'static str, String>;

#[derive(Clone, Debug)]
enum Operand {
    Name(&'static str),
    Minus(&'static str),
    Quarters(i64),
    Text(String),
}

#[derive(Clone, Debug)]
enum Expression {
    Constant(bool),
    Name(&'static str),
    Not(Box<Expression>),
    And(Box<Expression>, Box<Expression>),
    Or(Box<Expression>, Box<Expression>),
    Compare(Operand, &'static str, Operand),
    SameTruth(Box<Expression>, Box<Expression>, bool),
    IsNull(Operand, bool),
    IsUnknown(Box<Expression>, bool),
    Between(Operand, i64, i64, bool),
    In(&'static str, Vec<Operand>, bool),
    Search(&'static str, &'static str, String, bool),
}

const NAMES: [&str; 5] = ["a", "b", "like", "Price", "$_9"];

/// Quarters, so that integers and decimals meet without rounding.
fn quarters(text: &str) -> Option<i64> {
    let value: f64 = text.parse().ok().filter(|value: &f64| value.is_finite())?;
    #[allow(clippy::cast_possible_truncation)] // small values only are generated
    Some((value * 4.0) as i64)
}

#[allow(clippy::cast_precision_loss)] // as above
fn shown(quarters: i64) -> String {
    format!("{}", quarters as f64 / 4.0)
}

fn number(operand: &Operand, message: &Message) -> Option<i64> {
    match operand {
        Operand::Name(name) => quarters(message.get(name)?),
        Operand::Minus(name) => quarters(message.get(name)?).map(|value| -value),
        Operand::Quarters(value) => Some(*value),
        Operand::Text(_) => panic!("texts are compared for equality with properties only"),
    }
}

fn compare(left: &Operand, sign: &str, right: &Operand, message: &Message) -> Option<bool> {
    let text = |operand: &Operand| match operand {
        Operand::Name(name) => Some(message.get(name).cloned()),
        Operand::Text(text) => Some(Some(text.clone())),
        Operand::Minus(_) | Operand::Quarters(_) => None,
    };
    let equality = matches!(sign, "=" | "<>" | "!=");
    let order = match (text(left), text(right)) {
        (Some(left), Some(right)) if equality => left?.cmp(&right?),
        _ => number(left, message)?.cmp(&number(right, message)?),
    };
    Some(match sign {
        "=" => order.is_eq(),
        "<>" | "!=" => order.is_ne(),
        "<" => order.is_lt(),
        "<=" => order.is_le(),
        ">" => order.is_gt(),
        _ => order.is_ge(),
    })
}

/// Quadratic and plain.
fn like(pattern: &[char], text: &[char]) -> bool {
    match pattern.first() {
        None => text.is_empty(),
        Some('%') => (0..=text.len()).any(|skip| like(&pattern[1..], &text[skip..])),
        Some('_') => !text.is_empty() && like(&pattern[1..], &text[1..]),
        Some(char) => text.first() == Some(char) && like(&pattern[1..], &text[1..]),
    }
}

fn evaluate(expression: &Expression, message: &Message) -> Option<bool> {
    use Expression as E;
    let flip = |truth: Option<bool>, flipped: bool| truth.map(|truth| truth != flipped);
    match expression {
        E::Constant(value) => Some(*value),
        E::Name(name) => match message.get(name)?.to_lowercase().as_str() {
            "true" => Some(true),
            "false" => Some(false),
            _ => None,
        },
        E::Not(inner) => flip(evaluate(inner, message), true),
        E::And(left, right) => match (evaluate(left, message), evaluate(right, message)) {
            (Some(false), _) | (_, Some(false)) => Some(false),
            (Some(true), Some(true)) => Some(true),
            _ => None,
        },
        E::Or(left, right) => match (evaluate(left, message), evaluate(right, message)) {
            (Some(true), _) | (_, Some(true)) => Some(true),
            (Some(false), Some(false)) => Some(false),
            _ => None,
        },
        E::Compare(left, sign, right) => compare(left, sign, right, message),
        E::SameTruth(left, right, denied) => flip(Some(evaluate(left, message)? == evaluate(right, message)?), *denied),
        E::IsNull(operand, denied) => {
            let is_null = match operand {
                Operand::Name(name) => !message.contains_key(name),
                Operand::Text(_) => false,
                other => number(other, message).is_none(),
            };
            Some(is_null != *denied)
        }
        E::IsUnknown(inner, denied) => Some(evaluate(inner, message).is_none() != *denied),
        E::Between(value, low, high, denied) => {
            let value = number(value, message)?;
            Some((*low <= value && value <= *high) != *denied)
        }
        E::In(name, items, denied) => {
            let mut found = Some(false);
            for item in items {
                match compare(&Operand::Name(name), "=", item, message) {
                    Some(true) => return Some(!denied),
                    None => found = None,
                    Some(false) => {}
                }
            }
            flip(found, *denied)
        }
        E::Search(name, how, part, denied) => {
            let text = message.get(name)?;
            let found = match *how {
                "CONTAINS" => text.contains(part.as_str()),
                "STARTSWITH" => text.starts_with(part.as_str()),
                "ENDSWITH" => text.ends_with(part.as_str()),
                _ => like(&part.chars().collect::<Vec<_>>(), &text.chars().collect::<Vec<_>>()),
            };
            Some(found != *denied)
        }
    }
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn print_operand(operand: &Operand) -> String {
    match operand {
        Operand::Name(name) => (*name).to_owned(),
        Operand::Minus(name) => format!("-{name}"),
        Operand::Quarters(value) => shown(*value),
        Operand::Text(text) => quoted(text),
    }
}

/// Prints for a place that takes at least this level: 0 OR, 1 AND, 2 NOT, 3 equality and IS, 4 comparison, 5 operand.
fn print(expression: &Expression, level: usize) -> String {
    use Expression as E;
    let not = |denied: bool| if denied { "NOT " } else { "" };
    let (own, text) = match expression {
        E::Constant(value) => (5, if *value { "True" } else { "FALSE" }.to_owned()),
        E::Name(name) => (5, (*name).to_owned()),
        E::Not(inner) => (2, format!("NOT {}", print(inner, 2))),
        E::And(left, right) => (1, format!("{} and {}", print(left, 1), print(right, 2))),
        E::Or(left, right) => (0, format!("{} OR {}", print(left, 0), print(right, 1))),
        E::Compare(left, sign, right) => {
            let level = if matches!(*sign, "=" | "<>" | "!=") { 3 } else { 4 };
            (level, format!("{}{sign} {}", print_operand(left), print_operand(right)))
        }
        E::SameTruth(left, right, denied) => {
            (3, format!("{} {} {}", print(left, 4), if *denied { "<>" } else { "=" }, print(right, 4)))
        }
        E::IsNull(operand, denied) => (3, format!("{} IS {}NULL", print_operand(operand), not(*denied))),
        E::IsUnknown(inner, denied) => {
            // A bare name would be asked for its presence instead of its truth.
            let inner =
                if matches!(**inner, E::Name(_)) { format!("(NOT {})", print(inner, 2)) } else { print(inner, 3) };
            (3, format!("{inner} is {}null", not(*denied)))
        }
        E::Between(value, low, high, denied) => {
            (4, format!("{} {}BETWEEN {} AND {}", print_operand(value), not(*denied), shown(*low), shown(*high)))
        }
        E::In(name, items, denied) => {
            let items: Vec<String> = items.iter().map(print_operand).collect();
            (4, format!("{name} {}in({})", not(*denied), items.join(" ,")))
        }
        E::Search(name, how, part, denied) => (4, format!("{name} {}{how}{}", not(*denied), quoted(part))),
    };
    if own < level { format!("({text})") } else { text }
}

fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => (-12_i64..12).prop_map(shown),
        1 => (-3_i64..3).prop_map(|whole| format!("{whole}.0")),
        2 => "[ab']{0,3}",
        1 => Just("True".to_owned()),
        1 => Just("false".to_owned()),
    ]
}

fn message() -> impl Strategy<Value = Message> {
    vec(proptest::option::weighted(0.75, value()), NAMES.len()).prop_map(|values| {
        NAMES.into_iter().zip(values).filter_map(|(name, value)| value.map(|value| (name, value))).collect()
    })
}

fn name() -> impl Strategy<Value = &'static str> {
    proptest::sample::select(&NAMES[..])
}

fn numeric() -> impl Strategy<Value = Operand> {
    prop_oneof![
        name().prop_map(Operand::Name),
        name().prop_map(Operand::Minus),
        (-12_i64..12).prop_map(Operand::Quarters)
    ]
}

fn leaf() -> impl Strategy<Value = Expression> {
    let orders = || proptest::sample::select(&["<", "<=", ">", ">=", "=", "<>", "!="][..]);
    let searches = proptest::sample::select(&["CONTAINS", "STARTSWITH", "ENDSWITH", "LIKE"][..]);
    let items = prop_oneof![(-12_i64..12).prop_map(Operand::Quarters), value().prop_map(Operand::Text)];
    prop_oneof![
        1 => any::<bool>().prop_map(Expression::Constant),
        2 => name().prop_map(Expression::Name),
        4 => (numeric(), orders(), numeric()).prop_map(|(left, sign, right)| Expression::Compare(left, sign, right)),
        3 => (name(), proptest::sample::select(&["=", "<>"][..]), value(), any::<bool>()).prop_map(
            |(name, sign, text, turned)| {
                let (name, text) = (Operand::Name(name), Operand::Text(text));
                let (left, right) = if turned { (text, name) } else { (name, text) };
                Expression::Compare(left, sign, right)
            }
        ),
        1 => (numeric(), any::<bool>()).prop_map(|(operand, denied)| Expression::IsNull(operand, denied)),
        2 => (numeric(), -12_i64..12, 0_i64..12, any::<bool>())
            .prop_map(|(value, low, width, denied)| Expression::Between(value, low, low + width, denied)),
        2 => (name(), vec(items, 1..4), any::<bool>())
            .prop_map(|(name, items, denied)| Expression::In(name, items, denied)),
        2 => (name(), searches, "[ab'%_1.]{0,3}", any::<bool>())
            .prop_map(|(name, how, part, denied)| Expression::Search(name, how, part, denied)),
    ]
}

fn expression() -> impl Strategy<Value = Expression> {
    leaf().prop_recursive(5, 24, 2, |inner| {
        let pair = || (inner.clone().prop_map(Box::new), inner.clone().prop_map(Box::new));
        prop_oneof![
            2 => inner.clone().prop_map(|inner| Expression::Not(Box::new(inner))),
            3 => pair().prop_map(|(left, right)| Expression::And(left, right)),
            3 => pair().prop_map(|(left, right)| Expression::Or(left, right)),
            1 => (pair(), any::<bool>()).prop_filter_map("two names are compared as texts", |((left, right), denied)| {
                let both = matches!((&*left, &*right), (Expression::Name(_), Expression::Name(_)));
                (!both).then_some(Expression::SameTruth(left, right, denied))
            }),
            1 => (inner.clone(), any::<bool>())
                .prop_map(|(inner, denied)| Expression::IsUnknown(Box::new(inner), denied)),
        ]
    })
}

/// Pieces that make texts that nearly are expressions.
fn scrap() -> impl Strategy<Value = String> {
    const PIECES: &[&str] = &[
        "NOT",
        "AND",
        "OR",
        "IS",
        "NULL",
        "IN",
        "BETWEEN",
        "LIKE",
        "ESCAPE",
        "CONTAINS",
        "(",
        ")",
        ",",
        "=",
        "<>",
        ">",
        "-",
        "+",
        "'",
        "''",
        "'a'",
        "1",
        "1.5",
        "9223372036854775808",
        "1e5",
        "a",
        "TRUE",
        "/*",
        "*/",
        "--",
        "\n",
        "\"",
        "é",
        "\0",
    ];
    prop_oneof![3 => proptest::sample::select(PIECES).prop_map(str::to_owned), 1 => any::<String>()]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12_000))]

    #[test]
    fn a_random_expression_means_what_the_naive_evaluation_says(expression in expression(), messages in vec(message(), 4)) {
        let text = print(&expression, 0);
        let sql = Sql::parse(&text).map_err(|error| TestCaseError::fail(format!("{text}: {error}")))?;
        let denied = Sql::parse(&format!("NOT ({text})")).unwrap();
        for message in messages {
            let pairs = || message.iter().map(|(name, value)| (*name, Cow::Borrowed(value.as_str())));
            let expected = evaluate(&expression, &message);
            prop_assert_eq!(sql.matches(pairs()), expected == Some(true), "{} with {:?}", &text, &message);
            prop_assert_eq!(denied.matches(pairs()), expected == Some(false), "NOT ({}) with {:?}", &text, &message);
        }
    }

    #[test]
    fn a_random_text_is_compiled_or_refused_inside_itself(scraps in vec(scrap(), 0..24)) {
        let text = scraps.join(" ");
        match Sql::parse(&text) {
            Ok(sql) => {
                sql.matches([("a", Cow::Borrowed("1"))]);
            }
            Err(error) => prop_assert!((1..=text.chars().count() + 1).contains(&error.at), "{text:?}: {error}"),
        }
    }
}
