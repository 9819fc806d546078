//! Numbers as filters compare them: 64-bit integers and doubles, exactly, without rounding one to the other's form.

use std::cmp::Ordering;

/// One past the largest 64-bit integer; a power of two, so that it is exact as a double.
const INTEGERS_END: f64 = 9_223_372_036_854_775_808.0;

/// A number; never NaN.
#[derive(Clone, Copy, Debug)]
pub enum Number {
    /// An integer of 64 bits.
    Integer(i64),
    /// Everything else.
    Double(f64),
}

impl Number {
    /// Reads the text of a property: sign, digits, decimals, exponent, and nothing around them.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        if let Ok(integer) = text.parse::<i64>() {
            return Some(Self::Integer(integer));
        }
        // The words for infinity and not-a-number are texts here.
        let numeric = |byte: u8| byte.is_ascii_digit() || matches!(byte, b'+' | b'-' | b'.' | b'e' | b'E');
        if text.len() > 400 || !text.bytes().all(numeric) {
            return None;
        }
        text.parse().ok().map(Self::Double)
    }

    /// With the other sign.
    #[must_use]
    pub fn negated(self) -> Self {
        match self {
            Self::Integer(value) => value.checked_neg().map_or(Self::Double(INTEGERS_END), Self::Integer),
            Self::Double(value) => Self::Double(-value),
        }
    }
}

impl PartialEq for Number {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Number {}

impl PartialOrd for Number {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Number {
    fn cmp(&self, other: &Self) -> Ordering {
        match (*self, *other) {
            (Self::Integer(left), Self::Integer(right)) => left.cmp(&right),
            // Not the total order of doubles: -0 equals 0.
            (Self::Double(left), Self::Double(right)) => left.partial_cmp(&right).unwrap_or(Ordering::Equal),
            (Self::Integer(left), Self::Double(right)) => integer_to_double(left, right),
            (Self::Double(left), Self::Integer(right)) => integer_to_double(right, left).reverse(),
        }
    }
}

#[allow(clippy::cast_possible_truncation)] // within the range of integers, which was checked
fn integer_to_double(integer: i64, double: f64) -> Ordering {
    if double >= INTEGERS_END {
        return Ordering::Less;
    }
    if double < -INTEGERS_END {
        return Ordering::Greater;
    }
    let whole = double.trunc();
    integer.cmp(&(whole as i64)).then_with(|| 0.0.partial_cmp(&(double - whole)).unwrap_or(Ordering::Equal))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(left: &str, right: &str) -> Ordering {
        let (left, right) = (Number::read(left).unwrap(), Number::read(right).unwrap());
        assert_eq!(left.cmp(&right), right.cmp(&left).reverse());
        left.cmp(&right)
    }

    #[test]
    fn large_integers_and_doubles_are_not_rounded_together() {
        assert_eq!(order("9007199254740993", "9007199254740992.0"), Ordering::Greater);
        assert_eq!(order("9223372036854775807", "9223372036854775808"), Ordering::Less);
        assert_eq!(order("9223372036854775807", "9.3e18"), Ordering::Less);
        assert_eq!(order("-9223372036854775808", "-9.3e18"), Ordering::Greater);
        assert_eq!(order("-9223372036854775808", "-9223372036854775808.0"), Ordering::Equal);
        assert_eq!(order("1", "1.0"), Ordering::Equal);
        assert_eq!(order("-1", "-1.5"), Ordering::Greater);
        assert_eq!(order("-0.0", "0"), Ordering::Equal);
        assert_eq!(order("-0.0", "0.0"), Ordering::Equal);
        assert_eq!(order("0", "1e-320"), Ordering::Less);
        assert_eq!(order("1e999", "9223372036854775807"), Ordering::Greater);
    }

    #[test]
    fn words_and_blanks_are_not_numbers() {
        for text in ["", " 1", "1 ", "NaN", "inf", "infinity", "0x10", "1L", "1e", "-", ".", "1.2.3", "١", "1_000"] {
            assert!(Number::read(text).is_none(), "{text:?}");
        }
        for text in ["+1", "-1", "007", "1.", ".5", "1e3", "-2.5E-3", "99999999999999999999"] {
            assert!(Number::read(text).is_some(), "{text:?}");
        }
        assert!(Number::read(&"9".repeat(401)).is_none());
    }

    #[test]
    fn the_smallest_integer_has_an_opposite() {
        assert_eq!(Number::Integer(i64::MIN).negated(), Number::Double(INTEGERS_END));
        assert_eq!(Number::Integer(5).negated(), Number::Integer(-5));
    }
}
