//! Read-only mappings of files. The one file with `unsafe`.
//!
//! A mapping never hands out a range that is still being written: the log reads only below its written end, and what lies
//! there is never changed while a slice of it is alive (see [`Mapping::is_in_use`], which recycling asks).
//! Files that are mapped are never shortened.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use memmap2::{Advice, MmapOptions, MmapRaw, UncheckedAdvice};

/// Bytes that may be resident through one mapping before it is told to let go: pages read long ago stay in the page cache
/// but no longer count as this process's memory.
const RESIDENT_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// The kernel maps this much around a page that is touched.
const AROUND_BYTES: u64 = 64 * 1024;

/// A file, mapped for reading.
#[derive(Debug)]
pub struct Mapping {
    map: Arc<MmapRaw>,
    resident_bytes: AtomicU64,
}

impl Mapping {
    /// Maps the first `length` bytes of `file`.
    ///
    /// # Errors
    /// The operating system refused.
    pub fn of(file: &impl AsRawFd, length: u64) -> io::Result<Self> {
        let length = usize::try_from(length).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
        let map = MmapOptions::new().len(length).map_raw_read_only(file.as_raw_fd())?;
        Ok(Self { map: Arc::new(map), resident_bytes: AtomicU64::new(0) })
    }

    /// A range, without a copy. Its pages are brought in here, so that who looks at the bytes later does not wait for the
    /// disk, and so that a disk that cannot be read is an error and not a signal.
    ///
    /// # Errors
    /// The range lies outside, or the disk could not be read.
    pub fn read(&self, offset: u64, length: usize) -> io::Result<Bytes> {
        let outside = || io::Error::from(io::ErrorKind::UnexpectedEof);
        let start = usize::try_from(offset).map_err(|_| outside())?;
        let end = start.checked_add(length).ok_or_else(outside)?;
        if end > self.map.len() {
            return Err(outside());
        }
        if length == 0 {
            return Ok(Bytes::new());
        }
        self.bound_residency(length as u64);
        self.bring_in(start, length)?;
        Ok(Bytes::from_owner(Range { map: self.map.clone(), start, length }))
    }

    /// Whether a range that was handed out is still alive somewhere.
    pub fn is_in_use(&self) -> bool {
        Arc::strong_count(&self.map) > 1
    }

    fn bring_in(&self, start: usize, length: usize) -> io::Result<()> {
        match self.map.advise_range(Advice::PopulateRead, start, length) {
            Ok(()) => Ok(()),
            // Kernels before 5.14 do not know the advice; the pages then come in when they are looked at.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn bound_residency(&self, length: u64) {
        let more = length + AROUND_BYTES;
        if self.resident_bytes.fetch_add(more, Ordering::Relaxed) + more > RESIDENT_BYTES_MAX {
            self.release();
            self.resident_bytes.store(more, Ordering::Relaxed);
        }
    }

    /// Drops the pages from this process; they stay in the page cache and come back when they are looked at.
    pub fn release(&self) {
        self.resident_bytes.store(0, Ordering::Relaxed);
        // SAFETY: the mapping is shared, read-only and backed by a file, so dropping its page table entries loses no data: a
        // later access, also one through a slice that is alive now, finds the same bytes in the file again.
        let _ = unsafe { self.map.unchecked_advise_range(UncheckedAdvice::DontNeed, 0, self.map.len()) };
    }
}

/// A part of a mapping, alive as long as someone holds its bytes.
struct Range {
    map: Arc<MmapRaw>,
    start: usize,
    length: usize,
}

impl AsRef<[u8]> for Range {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: `Mapping::read` checked that the range lies inside the mapping, which lives as long as `self` and whose file
        // is never shortened. Nobody writes the range while it is handed out: the log reads only what it has completely
        // written, and a segment is recycled only when `is_in_use` says that no range of it is alive.
        unsafe { std::slice::from_raw_parts(self.map.as_ptr().add(self.start), self.length) }
    }
}
