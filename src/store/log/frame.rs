//! Layout of frames and segment headers. Pure.
//!
//! ```text
//! segment = header 64 | frame | frame | ... | seal or less than 64 bytes
//! header  = magic "BSEG" | version u16 | 0 u16 | shard u32 | crc u32 | base u64 | length u64 | created u64 | 0 ...   64 bytes
//! frame   = magic "BFRM" | version u16 | kind u8 | 0 u8 | payload u32 | crc u32 | shard u32 | records u32
//!         | term u64 | index u64 | position u64 | stored_at u64 | 0 u64                                             64 bytes
//!         | payload | zeros up to a multiple of 8
//! ```
//! All numbers little-endian. A checksum is CRC32C over header and payload with its own field zero. A frame carries its own
//! position, so what an earlier life of the file left behind never passes for a frame of this one.

use bytes::{BufMut, Bytes, BytesMut};
use thiserror::Error;

use crate::model::position::{FrameIndex, LogPosition, ShardId, Term};
use crate::model::time::Timestamp;

/// Bytes of a frame header.
pub const FRAME_HEADER_BYTES: usize = 64;
/// Bytes of a segment header.
pub const SEGMENT_HEADER_BYTES: usize = 64;
/// Frames begin at multiples of this.
pub const FRAME_ALIGN_BYTES: usize = 8;
/// Version of frames and segments written by this build.
pub const FORMAT_VERSION: u16 = 1;

pub(super) const FRAME_MAGIC: [u8; 4] = *b"BFRM";
const SEGMENT_MAGIC: [u8; 4] = *b"BSEG";
const CRC_AT: usize = 12;
const KIND_DATA: u8 = 1;
const KIND_SEAL: u8 = 2;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameKind {
    /// Holds records.
    Data,
    /// The last of its segment; the log goes on in the next one.
    Seal,
}

/// What a frame says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// Data or seal.
    pub kind: FrameKind,
    /// Bytes of its records.
    pub payload_bytes: u32,
    /// Log it belongs to.
    pub shard: ShardId,
    /// Number of records.
    pub records: u32,
    /// Life of the log that wrote it.
    pub term: Term,
    /// Its number.
    pub index: FrameIndex,
    /// Where it begins.
    pub position: LogPosition,
    /// When it was built.
    pub stored_at: Timestamp,
}

/// Why bytes are not the frame that should be there.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[expect(missing_docs, reason = "the texts say it")]
pub enum BadFrame {
    #[error("nothing is written here")]
    Empty,
    #[error("no frame begins here")]
    Magic,
    #[error("the frame has format version {0}")]
    Version(u16),
    #[error("the frame's {0} is out of range")]
    Field(&'static str),
    #[error("the frame says it lies at position {found}")]
    Position { found: LogPosition },
    #[error("the frame belongs to shard {found}")]
    Shard { found: ShardId },
    #[error("the checksum does not match")]
    Checksum,
    #[error("the frame's term {found} is lower than {last} of the frame before it")]
    Term { found: Term, last: Term },
    #[error("the frame has number {found} instead of {expected}")]
    Index { found: FrameIndex, expected: FrameIndex },
}

/// Bytes that a frame with this payload takes in the segment.
#[must_use]
pub const fn extent(payload_bytes: usize) -> usize {
    FRAME_HEADER_BYTES + payload_bytes.next_multiple_of(FRAME_ALIGN_BYTES)
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | (u64::from(u32_at(bytes, at + 4)) << 32)
}

/// Collects the records of one frame. The one copy of a record's bytes on the write path.
#[derive(Debug)]
pub struct FrameBuilder {
    buffer: BytesMut,
}

impl FrameBuilder {
    /// For exactly this many bytes of records.
    #[must_use]
    pub fn new(payload_bytes: usize) -> Self {
        let mut buffer = BytesMut::with_capacity(extent(payload_bytes));
        buffer.put_bytes(0, FRAME_HEADER_BYTES);
        Self { buffer }
    }

    /// Adds records.
    pub fn push(&mut self, records: &[u8]) {
        self.buffer.put_slice(records);
    }

    /// The whole frame. `payload_bytes` of `header` is filled in here.
    #[must_use]
    pub fn finish(mut self, header: FrameHeader) -> Bytes {
        let payload_bytes = self.buffer.len() - FRAME_HEADER_BYTES;
        {
            let mut out = &mut self.buffer[..FRAME_HEADER_BYTES];
            out.put_slice(&FRAME_MAGIC);
            out.put_u16_le(FORMAT_VERSION);
            out.put_u8(match header.kind {
                FrameKind::Data => KIND_DATA,
                FrameKind::Seal => KIND_SEAL,
            });
            out.put_u8(0);
            out.put_u32_le(u32::try_from(payload_bytes).unwrap_or(u32::MAX));
            out.put_u32_le(0);
            out.put_u32_le(header.shard.get());
            out.put_u32_le(header.records);
            out.put_u64_le(header.term.get());
            out.put_u64_le(header.index.get());
            out.put_u64_le(header.position.get());
            out.put_u64_le(header.stored_at.millis());
            out.put_u64_le(0);
        }
        let crc = crc32c::crc32c(&self.buffer);
        self.buffer[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_le_bytes());
        self.buffer.put_bytes(0, extent(payload_bytes) - self.buffer.len());
        self.buffer.freeze()
    }
}

impl FrameHeader {
    /// Reads a header; checks what the header alone can show.
    ///
    /// # Errors
    /// [`BadFrame`] says what is wrong.
    pub fn parse(bytes: &[u8]) -> Result<Self, BadFrame> {
        let bytes = &bytes[..FRAME_HEADER_BYTES];
        if bytes[..4] != FRAME_MAGIC {
            let empty = bytes.iter().all(|&byte| byte == 0);
            return Err(if empty { BadFrame::Empty } else { BadFrame::Magic });
        }
        let version = u16_at(bytes, 4);
        if version != FORMAT_VERSION {
            // No writer writes version 0: that is a torn header.
            return Err(if version == 0 { BadFrame::Field("version") } else { BadFrame::Version(version) });
        }
        let kind = match bytes[6] {
            KIND_DATA => FrameKind::Data,
            KIND_SEAL => FrameKind::Seal,
            _ => return Err(BadFrame::Field("kind")),
        };
        Ok(Self {
            kind,
            payload_bytes: u32_at(bytes, 8),
            shard: ShardId(u32_at(bytes, 16)),
            records: u32_at(bytes, 20),
            term: Term(u64_at(bytes, 24)),
            index: FrameIndex(u64_at(bytes, 32)),
            position: LogPosition(u64_at(bytes, 40)),
            stored_at: Timestamp(u64_at(bytes, 48)),
        })
    }

    /// Bytes that the frame takes in its segment.
    #[must_use]
    pub const fn extent(&self) -> usize {
        extent(self.payload_bytes as usize)
    }

    /// Where the next frame begins.
    #[must_use]
    pub const fn end(&self) -> LogPosition {
        self.position.plus(self.extent() as u64)
    }
}

/// Whether the checksum of a whole frame (header and payload, without padding) matches.
#[must_use]
pub fn checksum_matches(frame: &[u8]) -> bool {
    let before = crc32c::crc32c(&frame[..CRC_AT]);
    let zeroed = crc32c::crc32c_append(before, &[0; 4]);
    crc32c::crc32c_append(zeroed, &frame[CRC_AT + 4..]) == u32_at(frame, CRC_AT)
}

/// What a segment says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// Log it belongs to.
    pub shard: ShardId,
    /// Position of its first byte.
    pub base: LogPosition,
    /// Bytes of the whole segment.
    pub length: u64,
    /// When it was prepared.
    pub created: Timestamp,
}

/// Why bytes are not a segment header.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[expect(missing_docs, reason = "the texts say it")]
pub enum BadSegment {
    #[error("it does not begin with a segment header")]
    Magic,
    #[error("its format version is {0}")]
    Version(u16),
    #[error("the checksum of its header does not match")]
    Checksum,
}

impl SegmentHeader {
    /// The header as stored.
    #[must_use]
    pub fn encode(&self) -> [u8; SEGMENT_HEADER_BYTES] {
        let mut bytes = [0; SEGMENT_HEADER_BYTES];
        {
            let mut out = &mut bytes[..];
            out.put_slice(&SEGMENT_MAGIC);
            out.put_u16_le(FORMAT_VERSION);
            out.put_u16_le(0);
            out.put_u32_le(self.shard.get());
            out.put_u32_le(0);
            out.put_u64_le(self.base.get());
            out.put_u64_le(self.length);
            out.put_u64_le(self.created.millis());
        }
        let crc = crc32c::crc32c(&bytes);
        bytes[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads a header.
    ///
    /// # Errors
    /// [`BadSegment`] says what is wrong.
    pub fn parse(bytes: &[u8]) -> Result<Self, BadSegment> {
        let bytes = &bytes[..SEGMENT_HEADER_BYTES];
        if bytes[..4] != SEGMENT_MAGIC {
            return Err(BadSegment::Magic);
        }
        let version = u16_at(bytes, 4);
        if version != FORMAT_VERSION {
            return Err(BadSegment::Version(version));
        }
        if !checksum_matches(bytes) {
            return Err(BadSegment::Checksum);
        }
        Ok(Self {
            shard: ShardId(u32_at(bytes, 8)),
            base: LogPosition(u64_at(bytes, 16)),
            length: u64_at(bytes, 24),
            created: Timestamp(u64_at(bytes, 32)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> FrameHeader {
        FrameHeader {
            kind: FrameKind::Data,
            payload_bytes: 5,
            shard: ShardId(3),
            records: 2,
            term: Term(7),
            index: FrameIndex(11),
            position: LogPosition(64),
            stored_at: Timestamp(1_700_000_000_000),
        }
    }

    fn frame() -> Bytes {
        let mut builder = FrameBuilder::new(5);
        builder.push(b"he");
        builder.push(b"llo");
        builder.finish(header())
    }

    #[test]
    fn a_frame_reads_back_as_written_and_ends_aligned() {
        let frame = frame();
        assert_eq!(frame.len(), 72);
        assert_eq!(FrameHeader::parse(&frame).unwrap(), header());
        assert_eq!(header().end(), LogPosition(136));
        assert!(checksum_matches(&frame[..69]));
    }

    #[test]
    fn every_flipped_bit_of_header_and_payload_is_noticed() {
        let good = frame();
        for bit in 0..69 * 8 {
            let mut bad = good.to_vec();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(FrameHeader::parse(&bad).is_err() || !checksum_matches(&bad[..69]), "bit {bit}");
        }
    }

    #[test]
    fn a_newer_version_is_told_from_garbage_and_from_nothing() {
        let mut newer = frame().to_vec();
        newer[4] = 9;
        assert_eq!(FrameHeader::parse(&newer), Err(BadFrame::Version(9)));
        assert_eq!(FrameHeader::parse(&[0; 64]), Err(BadFrame::Empty));
        assert_eq!(FrameHeader::parse(&[1; 64]), Err(BadFrame::Magic));
    }

    #[test]
    fn a_segment_header_reads_back_and_refuses_what_is_not_one() {
        let header =
            SegmentHeader { shard: ShardId(3), base: LogPosition(1 << 40), length: 1 << 26, created: Timestamp(5) };
        let bytes = header.encode();
        assert_eq!(SegmentHeader::parse(&bytes), Ok(header));
        let mut newer = bytes;
        newer[4] = 2;
        assert_eq!(SegmentHeader::parse(&newer), Err(BadSegment::Version(2)));
        let mut damaged = bytes;
        damaged[20] ^= 1;
        assert_eq!(SegmentHeader::parse(&damaged), Err(BadSegment::Checksum));
        assert_eq!(SegmentHeader::parse(&[0; 64]), Err(BadSegment::Magic));
    }
}
