//! What expressions mean, row by row: kinds, absent properties, precedence, and the place of every kind of mistake.

use std::borrow::Cow;

use super::*;

/// True, false or unknown; told apart by asking for the opposite, too.
fn truth(text: &str, properties: &[(&str, &str)]) -> Option<bool> {
    let asked = |text: &str| {
        let sql = Sql::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        sql.matches(properties.iter().map(|(name, value)| (*name, Cow::Borrowed(*value))))
    };
    match (asked(text), asked(&format!("NOT ({text}\n)"))) {
        (true, false) => Some(true),
        (false, true) => Some(false),
        (false, false) => None,
        (true, true) => panic!("{text} and its opposite are both true"),
    }
}

#[track_caller]
fn rows(properties: &[(&str, &str)], rows: &[(&str, Option<bool>)]) {
    for (text, expected) in rows {
        assert_eq!(truth(text, properties), *expected, "{text}");
    }
}

const T: Option<bool> = Some(true);
const F: Option<bool> = Some(false);
const U: Option<bool> = None;

#[test]
fn numbers_are_compared_as_numbers_whatever_their_spelling() {
    let properties = [
        ("big", "3000000000"),
        ("half", "1.5"),
        ("one", "1"),
        ("word", "abc"),
        ("blank", ""),
        ("neg", "-7"),
        ("huge", "9007199254740993"),
    ];
    rows(
        &properties,
        &[
            ("big > 1", T),
            ("half > 1", T),
            ("half > 1.0", T),
            ("half = 1.50", T),
            ("one = 1.0", T),
            ("one = 1", T),
            ("one <> 1", F),
            ("one != 2", T),
            ("1 = one", T),
            ("2 > one", T),
            ("one >= 1 AND one <= 1", T),
            ("huge = 9007199254740992.0", F),
            ("huge > 9007199254740992", T),
            ("word > 1", U),
            ("word = 1", U),
            ("word <> 1", U),
            ("blank < 1", U),
            ("neg = -7", T),
            ("-neg = 7", T),
            ("- -neg = -7", T),
            ("+neg < 0", T),
            ("-word = 7", U),
            ("big < half", F),
            ("half < big", T),
            ("word < big", U),
            ("absent < big", U),
            ("0.0 = 0", T),
            ("one = 1L AND one = 001 AND one = 1e0", T),
            ("-9223372036854775808 < 9223372036854775807", T),
            (".5 < 0.75 AND 5. = 5", T),
        ],
    );
}

#[test]
fn texts_are_equal_exactly_and_have_no_numbers_in_them() {
    rows(
        &[("a", "x"), ("b", "x"), ("c", "X"), ("one", "1"), ("uno", "1.0"), ("quote", "it's")],
        &[
            ("a = 'x'", T),
            ("'x' = a", T),
            ("a <> 'x'", F),
            ("a <> 'y'", T),
            ("a = b", T),
            ("a = c", F),
            ("a <> c", T),
            ("one = '1'", T),
            ("one = '1.0'", F),
            ("one = uno", F),
            ("one <= uno AND one >= uno", T),
            ("quote = 'it''s'", T),
            ("'a' = 'a'", T),
            ("a = absent", U),
            ("absent = absent", U),
            ("absent <> 'x'", U),
            ("'x' <> absent", U),
            ("'x' = absent", U),
        ],
    );
}

#[test]
fn truth_values_are_read_as_words_and_anything_else_is_unknown() {
    rows(
        &[("yes", "TRUE"), ("no", "false"), ("word", "abc"), ("one", "1")],
        &[
            ("yes", T),
            ("no", F),
            ("word", U),
            ("one", U),
            ("absent", U),
            ("yes = TRUE", T),
            ("true = yes", T),
            ("no = FALSE", T),
            ("word = FALSE", U),
            ("word <> TRUE", U),
            ("FALSE = word", U),
            ("yes AND NOT no", T),
            ("(one > 0) = yes", T),
            ("one > 0 = yes", T),
            ("one > 5 = no", T),
            ("TRUE", T),
            ("FALSE", F),
            ("NOT FALSE", T),
            ("yes <> no", T),
        ],
    );
}

#[test]
fn logic_has_three_values() {
    let properties = [("t", "true"), ("f", "false")];
    for (left, right, and, or) in
        [("t", "t", T, T), ("t", "f", F, T), ("t", "u", U, T), ("f", "f", F, F), ("f", "u", F, U), ("u", "u", U, U)]
    {
        for (left, right) in [(left, right), (right, left)] {
            rows(&properties, &[(&format!("{left} AND {right}"), and), (&format!("{left} OR {right}"), or)]);
        }
    }
    rows(
        &properties,
        &[("NOT t", F), ("NOT f", T), ("NOT u", U), ("NULL OR t", T), ("NULL AND f", F), ("NOT NULL", U)],
    );
}

#[test]
fn presence_is_known_even_of_what_is_absent() {
    rows(
        &[("a", "1"), ("empty", ""), ("word", "w")],
        &[
            ("a IS NULL", F),
            ("a IS NOT NULL", T),
            ("empty IS NULL", F),
            ("absent IS NULL", T),
            ("absent IS NOT NULL", F),
            ("NULL IS NULL", T),
            ("1 IS NULL", F),
            ("'x' IS NOT NULL", T),
            ("word > 1 IS NULL", T),
            ("(a > 1) IS NULL", F),
            ("-word IS NULL", T),
            ("a = 1 IS NOT NULL", T),
            ("NOT absent IS NULL", F),
            // A name of a property has its case, a keyword none.
            ("A IS NULL AND a is not null", T),
        ],
    );
}

#[test]
fn ranges_lists_and_searches() {
    rows(
        &[("n", "5"), ("s", "hello"), ("d", "2.5"), ("hi", "9")],
        &[
            ("n BETWEEN 5 AND 5", T),
            ("n BETWEEN 1 AND 4", F),
            ("n NOT BETWEEN 1 AND 4", T),
            ("n between 1 and hi", T),
            ("n BETWEEN absent AND 4", F),
            ("n BETWEEN absent AND 9", U),
            ("n NOT BETWEEN absent AND 4", T),
            ("d BETWEEN 2 AND 3 AND n = 5", T),
            ("s BETWEEN 1 AND 2", U),
            ("absent BETWEEN 1 AND 2", U),
            ("3 BETWEEN 1 AND n", T),
            ("s IN ('a', 'hello')", T),
            ("s NOT IN ('a', 'hello')", F),
            ("s IN ('a')", F),
            ("s NOT IN ('a')", T),
            ("n IN (1, 5.0)", T),
            ("n IN ('5')", T),
            ("n IN (-5, +6)", F),
            ("n NOT IN (1, 2)", T),
            ("s IN (1, 2)", U),
            ("s NOT IN (1, 2)", U),
            ("s IN (1, 'hello')", T),
            ("s NOT IN ('x', 1)", U),
            ("absent IN ('a')", U),
            ("absent NOT IN ('a')", U),
            ("s CONTAINS 'ell'", T),
            ("s NOT CONTAINS 'ell'", F),
            ("s CONTAINS ''", T),
            ("s STARTSWITH 'he' AND s ENDSWITH 'lo'", T),
            ("s NOT STARTSWITH 'lo'", T),
            ("s NOT ENDSWITH 'lo'", F),
            ("absent CONTAINS 'a'", U),
            ("absent NOT CONTAINS 'a'", U),
            ("s LIKE 'h_l%'", T),
            ("s NOT LIKE '%z%'", T),
            ("s like 'hello!%' escape '!'", F),
            ("absent LIKE '%'", U),
            ("'hello' CONTAINS 'll'", T),
        ],
    );
}

#[test]
fn not_binds_less_tightly_than_a_comparison_and_and_more_tightly_than_or() {
    rows(
        &[("a", "1"), ("b", "2"), ("t", "true"), ("f", "false")],
        &[
            ("NOT a = 1", F),
            ("NOT a = 2", T),
            ("NOT a > 5 AND b = 2", T),
            ("NOT f OR t", T),
            ("NOT (f OR t)", F),
            ("t OR t AND f", T),
            ("(t OR t) AND f", F),
            ("NOT NOT t", T),
            ("NOT a BETWEEN 5 AND 9", T),
            ("NOT a IN (1)", F),
            ("a = 1 or b = 1 and f", T),
        ],
    );
}

#[test]
fn comments_blanks_and_words_of_the_grammar_as_names() {
    rows(
        &[("like", "5"), ("escape", "e"), ("$x_1", "y")],
        &[
            ("like > 4", T),
            ("like LIKE '5'", T),
            ("escape = 'e'", T),
            ("$x_1 = 'y'", T),
            ("/* first */ like = 5 -- and the rest", T),
            ("like=5\nAND\tescape='e'", T),
        ],
    );
}

#[test]
fn of_two_values_with_one_name_the_later_counts() {
    assert_eq!(truth("a = '2'", &[("a", "1"), ("a", "2")]), T);
}

#[test]
fn every_mistake_is_found_at_its_character() {
    let long_list = format!("a IN ({})", vec!["1"; LIST_MAX + 1].join(","));
    let long_text = format!("a = '{}'", "x".repeat(EXPRESSION_CHARS_MAX));
    let many = format!("a{}", " OR a".repeat(TOKENS_MAX / 2));
    let deep = format!("{}a{}", "(".repeat(NESTING_MAX + 1), ")".repeat(NESTING_MAX + 1));
    let nots = "NOT ".repeat(NESTING_MAX + 1) + "a";
    let chain = "a".to_owned() + &" = TRUE".repeat(NESTING_MAX + 1);
    let patterns = format!("a LIKE '{0}' OR a LIKE '{0}'", "x".repeat(PATTERN_CHARS_MAX / 2 + 1));
    let signs = "- ".repeat(NESTING_MAX + 1) + "1 = a";
    for (text, at, words) in [
        ("", 1, "empty"),
        ("  -- nothing", 1, "empty"),
        ("a = ", 5, "a value is needed here, not the end"),
        ("a =  = 1", 6, "a value is needed here, not ="),
        ("a = 1 b", 7, "has ended, but b follows"),
        ("a = 1)", 6, "but ) follows"),
        ("(a = 1", 7, ") is needed here, not the end"),
        ("a.b = 1", 2, "'.' does not belong here"),
        ("é = 1", 1, "'é' does not belong here"),
        ("'é' = \"a\"", 7, "single quotes"),
        ("a = 'x", 5, "does not end"),
        ("a = 1 /* x", 7, "comment"),
        ("a = 1x", 5, "runs into a word"),
        ("a = 0x10", 5, "runs into a word"),
        ("a = 1e", 5, "runs into a word"),
        ("a = 9223372036854775808", 5, "too large"),
        ("a = 99999999999999999999", 5, "too large"),
        ("a = 1e999", 5, "too large"),
        ("a = NULL", 5, "IS NULL"),
        ("NULL <> a", 1, "IS NULL"),
        ("a > NULL", 5, "IS NULL"),
        ("a > 'x'", 5, "a text has no order"),
        ("a > TRUE", 5, "a truth value has no order"),
        ("(a = 1) < 2", 1, "a truth value has no order"),
        ("a BETWEEN 'a' AND 'b'", 11, "a text has no order"),
        ("a BETWEEN 5 AND 1", 11, "lower bound"),
        ("a BETWEEN 5, 1", 12, "AND is needed here"),
        ("a IN ()", 7, "a text or a number is needed here, not )"),
        ("a IN (b)", 7, "a text or a number is needed here, not b"),
        ("a IN (1", 8, ") is needed here"),
        ("1 IN (1)", 1, "IN asks about a property, not a number"),
        ("a NOT 1", 7, "LIKE"),
        ("a = NOT b", 5, "a value is needed here, not NOT"),
        ("a CONTAINS 1", 12, "a text in single quotes"),
        ("1 CONTAINS '1'", 1, "not a number"),
        ("a LIKE 'x' ESCAPE 'ab'", 19, "one character"),
        ("a LIKE 'x!y' ESCAPE '!'", 8, "escape character"),
        ("a IS 1", 6, "NULL is needed here"),
        ("1", 1, "a number is neither true nor false"),
        ("'x'", 1, "a text is neither"),
        ("a AND 'x'", 7, "a text is neither"),
        ("-a", 1, "a number is neither"),
        ("NULL", 1, "NULL alone"),
        ("-'x' = 1", 2, "a text has no sign"),
        ("'x' = 1", 7, "a text does not compare with a number"),
        ("TRUE = 1", 8, "a truth value does not compare with a number"),
        ("TRUE = 'true'", 8, "a truth value does not compare with a text"),
        ("a + 1 = 2", 3, "has ended, but + follows"),
        ("a & b", 3, "'&' does not belong here"),
        ("AND", 1, "a value is needed here, not AND"),
        (&long_list, 2 * LIST_MAX + 7, "512 values"),
        (&long_text, EXPRESSION_CHARS_MAX + 1, "longer than 8192"),
        (&many, 5 * (TOKENS_MAX / 2) + 1, "2048 words"),
        (&deep, NESTING_MAX + 2, "64 levels"),
        (&nots, 4 * (NESTING_MAX + 1) + 1, "64 levels"),
        (&chain, chain.len() + 1, "64 levels"),
        (&signs, 2 * (NESTING_MAX + 1) + 1, "64 levels"),
        (&patterns, 150, "256 characters"),
    ] {
        let error = Sql::parse(text).expect_err(text);
        let said = error.to_string();
        let shown: String = text.chars().take(60).collect();
        assert!(error.at == at && said.contains(words), "{shown}: at {} instead of {at}: {said}", error.at);
    }
}

#[test]
fn bounds_are_not_reached_by_what_lies_on_them() {
    let list = format!("a IN ({})", vec!["1"; LIST_MAX].join(","));
    let deep = format!("{}a{}", "(".repeat(NESTING_MAX), ")".repeat(NESTING_MAX));
    let text = format!("a = '{}'", "x".repeat(EXPRESSION_CHARS_MAX - 6));
    let patterns = format!("a LIKE '{}'", "_".repeat(PATTERN_CHARS_MAX));
    let chain = "a".to_owned() + &" = TRUE".repeat(NESTING_MAX);
    for text in [list, deep, text, patterns, chain] {
        assert!(Sql::parse(&text).is_ok(), "{:?}", Sql::parse(&text));
    }
}

#[test]
fn an_error_text_does_not_grow_with_what_was_sent() {
    let error = Sql::parse(&format!("a = 1 {}", "b".repeat(5000))).unwrap_err();
    assert!(error.to_string().len() < 200, "{error}");
}

#[test]
fn expressions_are_told_apart_by_their_text_and_say_what_they_name() {
    let (one, two) = (Sql::parse("a = 1").unwrap(), Sql::parse("a = 2").unwrap());
    assert!(one == Sql::parse("a = 1").unwrap() && one != two);
    assert!(one.names("a") && !one.names("b"));
}
