//! Cuts an expression into words, numbers, texts and signs, each with its place.

use crate::model::sql::error::{Problem, SqlError};
use crate::model::sql::{EXPRESSION_CHARS_MAX, TOKENS_MAX};

/// The size of the smallest 64-bit integer, which has one more than the largest.
const INTEGER_SIZE_MAX: u64 = 1 << 63;

/// A piece of an expression.
#[derive(Clone, Debug, PartialEq)]
pub enum Token<'a> {
    /// A keyword or the name of a property; which of them, its place decides.
    Word(&'a str),
    /// A text, without quotes.
    Text(String),
    /// A whole number without sign, at most 2⁶³.
    Integer(u64),
    /// A number with decimals or exponent.
    Double(f64),
    /// Punctuation and comparisons.
    Sign(&'static str),
}

impl Token<'_> {
    /// As an error shows it.
    #[must_use]
    pub fn shown(&self) -> String {
        match self {
            // Long enough to be recognised; an error text must not grow with what a client sends.
            Self::Word(word) => word.chars().take(40).collect(),
            Self::Text(_) => "a text".to_owned(),
            Self::Integer(_) | Self::Double(_) => "a number".to_owned(),
            Self::Sign(sign) => (*sign).to_owned(),
        }
    }
}

/// A token and the character at which it begins, from 1.
#[derive(Clone, Debug, PartialEq)]
pub struct Placed<'a> {
    /// The token.
    pub token: Token<'a>,
    /// Its first character.
    pub at: usize,
}

/// Longer signs first.
const SIGNS: [&str; 12] = ["<>", "<=", ">=", "!=", "<", ">", "=", "(", ")", ",", "+", "-"];

/// All tokens of a text, and the place one past its last character.
pub fn tokens(text: &str) -> Result<(Vec<Placed<'_>>, usize), SqlError> {
    let mut lexer = Lexer { rest: text, at: 1 };
    // Counted before anything is built from it.
    if text.chars().nth(EXPRESSION_CHARS_MAX).is_some() {
        return Err(SqlError { at: EXPRESSION_CHARS_MAX + 1, problem: Problem::TooLong });
    }
    let mut tokens = Vec::new();
    loop {
        lexer.skip_blanks()?;
        let at = lexer.at;
        let Some(token) = lexer.token()? else { return Ok((tokens, at)) };
        if tokens.len() == TOKENS_MAX {
            return Err(SqlError { at, problem: Problem::TooManyTokens });
        }
        tokens.push(Placed { token, at });
    }
}

struct Lexer<'a> {
    rest: &'a str,
    at: usize,
}

fn begins_word(char: char) -> bool {
    char.is_ascii_alphabetic() || matches!(char, '_' | '$')
}

fn continues_word(char: char) -> bool {
    char.is_ascii_alphanumeric() || matches!(char, '_' | '$')
}

impl<'a> Lexer<'a> {
    fn error(&self, problem: Problem) -> SqlError {
        SqlError { at: self.at, problem }
    }

    fn first(&self) -> Option<char> {
        self.rest.chars().next()
    }

    /// Takes the characters that pass.
    fn take_while(&mut self, passes: impl Fn(char) -> bool) -> &'a str {
        let end = self.rest.find(|char| !passes(char)).unwrap_or(self.rest.len());
        self.take_bytes(end)
    }

    fn take_bytes(&mut self, bytes: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at(bytes);
        self.at += taken.chars().count();
        self.rest = rest;
        taken
    }

    fn skip_blanks(&mut self) -> Result<(), SqlError> {
        loop {
            self.take_while(|char| matches!(char, ' ' | '\t' | '\n' | '\r' | '\x0c'));
            if self.rest.starts_with("--") {
                self.take_while(|char| char != '\n' && char != '\r');
            } else if self.rest.starts_with("/*") {
                let Some(end) = self.rest[2..].find("*/") else { return Err(self.error(Problem::OpenComment)) };
                self.take_bytes(end + 4);
            } else {
                return Ok(());
            }
        }
    }

    fn token(&mut self) -> Result<Option<Token<'a>>, SqlError> {
        let Some(first) = self.first() else { return Ok(None) };
        if begins_word(first) {
            return Ok(Some(Token::Word(self.take_while(continues_word))));
        }
        if first == '\'' {
            return self.text().map(Some);
        }
        let mut next = self.rest.chars().skip(1);
        if first.is_ascii_digit() || (first == '.' && next.next().is_some_and(|char| char.is_ascii_digit())) {
            return self.number().map(Some);
        }
        match SIGNS.into_iter().find(|sign| self.rest.starts_with(sign)) {
            Some(sign) => {
                self.take_bytes(sign.len());
                Ok(Some(Token::Sign(sign)))
            }
            None if first == '"' => Err(self.error(Problem::DoubleQuote)),
            None => Err(self.error(Problem::Character(first))),
        }
    }

    fn text(&mut self) -> Result<Token<'a>, SqlError> {
        let open = self.error(Problem::OpenText);
        self.take_bytes(1);
        let mut text = String::new();
        loop {
            text.push_str(self.take_while(|char| char != '\''));
            if self.rest.starts_with("''") {
                text.push('\'');
                self.take_bytes(2);
            } else if self.rest.is_empty() {
                return Err(open);
            } else {
                self.take_bytes(1);
                return Ok(Token::Text(text));
            }
        }
    }

    fn number(&mut self) -> Result<Token<'a>, SqlError> {
        let too_large = self.error(Problem::NumberTooLarge);
        let runs_on = self.error(Problem::NumberRunsOn);
        let digit = |char: char| char.is_ascii_digit();
        let whole = self.rest;
        self.take_while(digit);
        let mut is_integer = true;
        if self.rest.starts_with('.') {
            is_integer = false;
            self.take_bytes(1);
            self.take_while(digit);
        }
        let exponent = self.rest.strip_prefix(['e', 'E']);
        if let Some(exponent) = exponent
            && exponent.strip_prefix(['+', '-']).unwrap_or(exponent).starts_with(digit)
        {
            is_integer = false;
            let signed = usize::from(exponent.starts_with(['+', '-']));
            self.take_bytes(1 + signed);
            self.take_while(digit);
        }
        let digits = &whole[..whole.len() - self.rest.len()];
        if is_integer && self.rest.starts_with(['l', 'L']) {
            self.take_bytes(1);
        }
        if self.rest.starts_with(continues_word) {
            return Err(runs_on);
        }
        if is_integer {
            match digits.parse() {
                Ok(size) if size <= INTEGER_SIZE_MAX => Ok(Token::Integer(size)),
                _ => Err(too_large),
            }
        } else {
            match digits.parse::<f64>() {
                Ok(value) if value.is_finite() => Ok(Token::Double(value)),
                _ => Err(too_large),
            }
        }
    }
}
