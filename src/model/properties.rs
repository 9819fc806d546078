//! The properties of a stored message as filters ask for them: the user's own, and under the names that the field's programs know,
//! those of the system. Read from the encoded slices of [`NewMessage`](crate::model::message::NewMessage); bytes come from disk, so
//! what cannot be read ends the walk.

use std::borrow::Cow;

const USER_PROPERTIES: u32 = 2;

/// System properties that filters may name: name, and field of `SystemProperties`.
const SYSTEM: [(&str, u32); 13] = [
    ("TAGS", 1),
    ("KEYS", 2),
    ("UNIQ_KEY", 3),
    ("TRAN_MSG", MESSAGE_TYPE),
    ("__transactionId__", MESSAGE_TYPE),
    ("BORN_TIMESTAMP", 7),
    ("__BORNHOST", 8),
    ("TIMER_DELIVER_MS", 11),
    ("__SHARDINGKEY", 17),
    ("TRACE_CONTEXT", 18),
    ("CHECK_IMMUNITY_TIME_IN_SECONDS", 19),
    ("__LITE_TOPIC", 21),
    ("_SYS_MSG_PRIORITY_", 22),
];
const KEYS: u32 = 2;
const MESSAGE_ID: u32 = 3;
const MESSAGE_TYPE: u32 = 6;
const TYPE_TRANSACTION: u64 = 4;

/// Encoded properties of one message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Properties<'a> {
    /// Encoded fields of `Message`, beginning with the user properties; may be cut off anywhere behind them.
    pub rest: &'a [u8],
    /// Encoded fields of `SystemProperties`.
    pub system: &'a [u8],
}

impl<'a> Properties<'a> {
    /// Names and values, the user's first. System properties are made only when `wanted`; the user's are all given, since skipping
    /// one costs as much as asking.
    pub fn pairs(&self, wanted: impl Fn(&str) -> bool) -> impl Iterator<Item = (&'a str, Cow<'a, str>)> {
        let user = Fields(self.rest)
            .take_while(|(field, _)| *field == USER_PROPERTIES)
            .filter_map(|(_, value)| pair(value.bytes()?))
            .map(|(name, value)| (name, Cow::Borrowed(value)));
        // No allocation unless one is wanted, which is rare.
        let mut system = Vec::new();
        for (name, field) in SYSTEM {
            if wanted(name) {
                system.extend(self.system_property(name, field).map(|value| (name, value)));
            }
        }
        user.chain(system)
    }

    fn system_property(&self, name: &str, field: u32) -> Option<Cow<'a, str>> {
        let mut values = Fields(self.system).filter(|(found, _)| *found == field).map(|(_, value)| value);
        if field == KEYS {
            let keys: Vec<&str> = values.filter_map(|value| text(value.bytes()?)).collect();
            return (!keys.is_empty()).then(|| keys.join(" ").into());
        }
        let value = values.next()?;
        match name {
            "TRAN_MSG" => (value == Value::Number(TYPE_TRANSACTION)).then_some(Cow::Borrowed("true")),
            // Transaction id and message id are one (rule C16).
            "__transactionId__" if value != Value::Number(TYPE_TRANSACTION) => None,
            "__transactionId__" => {
                let id = Fields(self.system).find(|(found, _)| *found == MESSAGE_ID)?.1;
                text(id.bytes()?).map(Cow::Borrowed)
            }
            "BORN_TIMESTAMP" | "TIMER_DELIVER_MS" => Some(millis(value.bytes()?).to_string().into()),
            "CHECK_IMMUNITY_TIME_IN_SECONDS" => Some((millis(value.bytes()?) / 1_000).to_string().into()),
            "_SYS_MSG_PRIORITY_" => match value {
                Value::Number(number) => Some(number.cast_signed().to_string().into()),
                Value::Bytes(_) => None,
            },
            _ => text(value.bytes()?).map(Cow::Borrowed),
        }
    }
}

/// Seconds in field 1 and nanoseconds in field 2, as both points and spans of time are encoded.
fn millis(time: &[u8]) -> i64 {
    let number = |wanted| {
        Fields(time).find_map(|(field, value)| match value {
            Value::Number(number) if field == wanted => Some(number.cast_signed()),
            _ => None,
        })
    };
    number(1).unwrap_or(0).saturating_mul(1_000).saturating_add(number(2).unwrap_or(0) / 1_000_000)
}

fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

/// A map entry; a missing half is empty.
fn pair(entry: &[u8]) -> Option<(&str, &str)> {
    let (mut name, mut value) = ("", "");
    for (field, found) in Fields(entry) {
        match field {
            1 => name = text(found.bytes()?)?,
            2 => value = text(found.bytes()?)?,
            _ => {}
        }
    }
    Some((name, value))
}

/// One field's value, as far as the wire format tells kinds apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

impl<'a> Value<'a> {
    fn bytes(self) -> Option<&'a [u8]> {
        match self {
            Self::Bytes(bytes) => Some(bytes),
            Self::Number(_) => None,
        }
    }
}

/// Walks encoded fields; ends at the first that is not whole.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for (index, byte) in self.0.iter().enumerate().take(10) {
            value |= u64::from(byte & 0x7f) << (7 * index);
            if byte & 0x80 == 0 {
                self.0 = &self.0[index + 1..];
                return Some(value);
            }
        }
        None
    }

    fn take(&mut self, bytes: u64) -> Option<&'a [u8]> {
        let (taken, left) = self.0.split_at_checked(usize::try_from(bytes).ok()?)?;
        self.0 = left;
        Some(taken)
    }

    fn field(&mut self) -> Option<(u32, Value<'a>)> {
        let key = self.varint()?;
        let field = u32::try_from(key >> 3).ok()?;
        let value = match key & 7 {
            0 => Value::Number(self.varint()?),
            1 => Value::Bytes(self.take(8)?),
            2 => {
                let length = self.varint()?;
                Value::Bytes(self.take(length)?)
            }
            5 => Value::Bytes(self.take(4)?),
            _ => return None,
        };
        Some((field, value))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = (u32, Value<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.field();
        if next.is_none() {
            self.0 = &[];
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str, value: &str) -> Vec<u8> {
        let mut inner = vec![0x0a, u8::try_from(name.len()).unwrap()];
        inner.extend(name.bytes());
        inner.extend([0x12, u8::try_from(value.len()).unwrap()]);
        inner.extend(value.bytes());
        let mut field = vec![0x12, u8::try_from(inner.len()).unwrap()];
        field.extend(inner);
        field
    }

    fn pairs(rest: &[u8]) -> Vec<(String, String)> {
        let properties = Properties { rest, system: &[] };
        properties.pairs(|_| true).map(|(name, value)| (name.to_owned(), value.into_owned())).collect()
    }

    #[test]
    fn user_properties_are_read_and_the_walk_ends_at_the_body() {
        let mut rest = entry("a", "1");
        rest.extend(entry("b", ""));
        let whole = rest.len();
        // The body says that it is long, and a part of it looks like a property.
        rest.extend([0x22, 0x7f]);
        rest.extend(entry("forged", "x"));
        let expected = vec![("a".to_owned(), "1".to_owned()), ("b".to_owned(), String::new())];
        assert_eq!(pairs(&rest), expected);
        assert_eq!(pairs(&rest[..whole]), expected);
        assert_eq!(pairs(&rest[..whole - 1]), expected[..1]);
    }

    #[test]
    fn bytes_that_are_no_fields_end_the_walk_without_a_panic() {
        for rest in
            [&[0xff_u8; 40][..], &[0x12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01], &[0x13], &[0]]
        {
            assert!(pairs(rest).is_empty(), "{rest:?}");
        }
        let mut rest = entry("a", "1");
        rest[4] = 0xff;
        assert!(pairs(&rest).is_empty(), "a name that is not UTF-8");
    }
}
