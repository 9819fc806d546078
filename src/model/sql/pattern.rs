//! Patterns of LIKE: `%` stands for any characters, `_` for one.

use crate::model::sql::error::Problem;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Any,
    One,
    Exactly(char),
}

/// A compiled pattern.
#[derive(Debug)]
pub struct Pattern {
    parts: Vec<Part>,
}

impl Pattern {
    /// Compiles a pattern.
    ///
    /// # Errors
    /// [`Problem::EscapesNothing`] for an escape character before anything but `%`, `_` and itself.
    pub fn compile(text: &str, escape: Option<char>) -> Result<Self, Problem> {
        let mut parts = Vec::new();
        let mut chars = text.chars();
        while let Some(char) = chars.next() {
            parts.push(if Some(char) == escape {
                match chars.next() {
                    Some(next) if next == '%' || next == '_' || Some(next) == escape => Part::Exactly(next),
                    _ => return Err(Problem::EscapesNothing),
                }
            } else if char == '%' {
                if parts.last() == Some(&Part::Any) {
                    continue;
                }
                Part::Any
            } else if char == '_' {
                Part::One
            } else {
                Part::Exactly(char)
            });
        }
        Ok(Self { parts })
    }

    /// Whether the whole text fits. Goes back to the latest `%` only, so the time is at most text times pattern.
    #[must_use]
    pub fn fits(&self, text: &str) -> bool {
        let mut rest = text.chars();
        let mut part = 0;
        let mut retry: Option<(usize, std::str::Chars<'_>)> = None;
        loop {
            let before = rest.clone();
            let fits = match (self.parts.get(part), rest.next()) {
                (None, None) => return true,
                (Some(Part::Any), _) => {
                    retry = Some((part, before.clone()));
                    rest = before;
                    true
                }
                (Some(Part::One), Some(_)) => true,
                (Some(Part::Exactly(wanted)), Some(char)) => *wanted == char,
                (_, None) => return false,
                (None, Some(_)) => false,
            };
            if fits {
                part += 1;
                continue;
            }
            let Some((any, from)) = &mut retry else { return false };
            from.next();
            part = *any + 1;
            rest = from.clone();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_fit_whole_texts() {
        let cases = [
            ("", "", true),
            ("", "a", false),
            ("%", "", true),
            ("%", "abc", true),
            ("a%", "abc", true),
            ("a%", "xa", false),
            ("%c", "abc", true),
            ("%c", "abcd", false),
            ("%b%", "abc", true),
            ("%aab", "aaab", true),
            ("a%b%c", "axbxbxc", true),
            ("a%b%c", "axbxbx", false),
            ("_", "é", true),
            ("_", "", false),
            ("__", "a", false),
            ("%_", "", false),
            ("%_%", "a", true),
            ("a.c", "abc", false),
            ("A", "a", false),
        ];
        for (pattern, text, expected) in cases {
            assert_eq!(Pattern::compile(pattern, None).unwrap().fits(text), expected, "{text:?} LIKE {pattern:?}");
        }
    }

    #[test]
    fn an_escaped_sign_stands_for_itself() {
        let fits = |pattern: &str, text: &str| Pattern::compile(pattern, Some('\\')).unwrap().fits(text);
        assert!(fits("100\\%", "100%") && !fits("100\\%", "1000"));
        assert!(fits("a\\_b", "a_b") && !fits("a\\_b", "axb"));
        assert!(fits("\\\\%", "\\x"));
        assert!(Pattern::compile("a\\b", Some('\\')).is_err() && Pattern::compile("a\\", Some('\\')).is_err());
    }
}
