//! Reading and writing little-endian fields, each read checked against what is there.

use bytes::BufMut;
use thiserror::Error;

/// Why stored bytes were not understood.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum RecordError {
    /// Fewer bytes than the lengths promise.
    #[error("record ends early: {wanted} bytes wanted, {found} found")]
    Short {
        /// Bytes that should be there.
        wanted: usize,
        /// Bytes that are.
        found: usize,
    },
    /// Written by a newer program.
    #[error("record kind {kind} version {version} is unknown to this program; it was written by a newer one")]
    Unknown {
        /// Kind byte.
        kind: u8,
        /// Version byte.
        version: u8,
    },
    /// A field holds what no writer writes.
    #[error("record field {0} is out of range")]
    Field(&'static str),
}

/// Reads fields one after the other.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    whole: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// Reads `whole` from byte `at` on; a start past the end reads nothing.
    pub(crate) fn new(whole: &'a [u8], at: usize) -> Self {
        Self { whole, at: at.min(whole.len()) }
    }

    /// Where the next field begins.
    pub(crate) fn at(&self) -> usize {
        self.at
    }

    pub(crate) fn take(&mut self, bytes: usize) -> Result<&'a [u8], RecordError> {
        let end = self.at.checked_add(bytes).ok_or(RecordError::Field("length"))?;
        let found = self.whole.len();
        let slice = self.whole.get(self.at..end).ok_or(RecordError::Short { wanted: end, found })?;
        self.at = end;
        Ok(slice)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], RecordError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, RecordError> {
        Ok(self.array::<1>()?[0])
    }

    pub(crate) fn u16(&mut self) -> Result<u16, RecordError> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, RecordError> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, RecordError> {
        self.array().map(u64::from_le_bytes)
    }

    /// A flag byte, 0 or 1.
    pub(crate) fn flag(&mut self, name: &'static str) -> Result<bool, RecordError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(RecordError::Field(name)),
        }
    }

    /// `bytes` bytes of UTF-8.
    pub(crate) fn text(&mut self, bytes: usize) -> Result<&'a str, RecordError> {
        std::str::from_utf8(self.take(bytes)?).map_err(|_| RecordError::Field("text"))
    }

    /// A text as [`put_text`] writes it.
    pub(crate) fn sized_text(&mut self) -> Result<&'a str, RecordError> {
        let bytes = usize::from(self.u16()?);
        self.text(bytes)
    }

    /// A count of items of `item_bytes` each, refused when they cannot all be there, so that it may size an allocation.
    pub(crate) fn count(&mut self, item_bytes: usize) -> Result<usize, RecordError> {
        let count = self.u32()? as usize;
        let wanted = count.saturating_mul(item_bytes).saturating_add(self.at);
        if wanted > self.whole.len() {
            return Err(RecordError::Short { wanted, found: self.whole.len() });
        }
        Ok(count)
    }

    /// Everything that is left.
    pub(crate) fn rest(&mut self) -> &'a [u8] {
        let rest = &self.whole[self.at..];
        self.at = self.whole.len();
        rest
    }

    /// Checks that nothing is left: a body with more in it was not written by this version.
    pub(crate) fn end(&self) -> Result<(), RecordError> {
        if self.at == self.whole.len() { Ok(()) } else { Err(RecordError::Field("end")) }
    }
}

/// The first `bytes_max` bytes of `text`, cut at a character. Texts of clients are bounded far below by the limits of the
/// model; this keeps a length field true whatever comes.
pub(crate) fn bounded(text: &str, bytes_max: usize) -> &str {
    if text.len() <= bytes_max {
        return text;
    }
    let mut end = bytes_max;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// Writes `text` behind a `u16` length.
pub(crate) fn put_text(out: &mut impl BufMut, text: &str) {
    let text = bounded(text, usize::from(u16::MAX));
    out.put_u16_le(length_u16(text.len()));
    out.put_slice(text.as_bytes());
}

/// A length that was bounded before.
pub(crate) fn length_u16(bytes: usize) -> u16 {
    u16::try_from(bytes).expect("bounded before it is written")
}

/// A length or count of what fits one unit of the log, which is far smaller than 4 GiB.
pub(crate) fn length_u32(bytes: usize) -> u32 {
    u32::try_from(bytes).expect("a unit of the log is smaller than 4 GiB")
}
