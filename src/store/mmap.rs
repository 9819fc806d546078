//! Read-only mappings of files. The one file with `unsafe`.
//!
//! A mapping never hands out a range that is still being written: the log reads only below its written end, and what lies
//! there is never changed while a slice of it is alive (see [`Mapping::is_in_use`], which recycling asks).
//! Files that are mapped are never shortened.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use bytes::Bytes;
use memmap2::{Advice, MmapOptions, MmapRaw, UncheckedAdvice};

/// Brought in at a time, so that who reads a segment from end to end asks the kernel once in a hundred records.
const WINDOW_BYTES: usize = 128 * 1024;
/// Windows of one mapping that may be resident before it is told to let go: pages read long ago stay in the page cache but no
/// longer count as this process's memory.
const RESIDENT_WINDOWS_MAX: usize = 64;

/// A file, mapped for reading.
#[derive(Debug)]
pub struct Mapping {
    map: Arc<MmapRaw>,
    /// One bit per window: brought in since the last release.
    windows: Box<[AtomicU64]>,
    resident: AtomicUsize,
}

impl Mapping {
    /// Maps the first `length` bytes of `file`.
    ///
    /// # Errors
    /// The operating system refused.
    pub fn of(file: &impl AsRawFd, length: u64) -> io::Result<Self> {
        let length = usize::try_from(length).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
        let map = MmapOptions::new().len(length).map_raw_read_only(file.as_raw_fd())?;
        let words = length.div_ceil(WINDOW_BYTES).div_ceil(64);
        let windows = (0..words).map(|_| AtomicU64::new(0)).collect();
        Ok(Self { map: Arc::new(map), windows, resident: AtomicUsize::new(0) })
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
        for window in start / WINDOW_BYTES..=(end - 1) / WINDOW_BYTES {
            self.bring_in(window)?;
        }
        Ok(Bytes::from_owner(Range { map: self.map.clone(), start, length }))
    }

    /// Whether a range that was handed out is still alive somewhere.
    pub fn is_in_use(&self) -> bool {
        Arc::strong_count(&self.map) > 1
    }

    /// Drops the pages from this process; they stay in the page cache and come back when they are looked at.
    pub fn release(&self) {
        self.resident.store(0, Ordering::Relaxed);
        for word in &self.windows {
            word.store(0, Ordering::Relaxed);
        }
        // SAFETY: the mapping is shared, read-only and backed by a file, so dropping its page table entries loses no data: a
        // later access, also one through a slice that is alive now, finds the same bytes in the file again.
        let _ = unsafe { self.map.unchecked_advise_range(UncheckedAdvice::DontNeed, 0, self.map.len()) };
    }

    fn bring_in(&self, window: usize) -> io::Result<()> {
        let Some(word) = self.windows.get(window / 64) else { return Ok(()) };
        let bit = 1 << (window % 64);
        if word.load(Ordering::Relaxed) & bit != 0 {
            return Ok(());
        }
        if self.resident.fetch_add(1, Ordering::Relaxed) >= RESIDENT_WINDOWS_MAX {
            self.release();
        }
        let start = window * WINDOW_BYTES;
        let length = WINDOW_BYTES.min(self.map.len() - start);
        match self.map.advise_range(Advice::PopulateRead, start, length) {
            Ok(()) => {}
            // Kernels before 5.14 do not know the advice; the pages then come in when they are looked at.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {}
            Err(error) => return Err(error),
        }
        word.fetch_or(bit, Ordering::Relaxed);
        Ok(())
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

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    /// Bytes of the mapping that count as this process's memory.
    fn resident_bytes(mapping: &Mapping) -> usize {
        let maps = rustix::fs::open("/proc/self/smaps", rustix::fs::OFlags::RDONLY, rustix::fs::Mode::empty()).unwrap();
        let mut text = Vec::new();
        let mut chunk = [0; 65536];
        while let Ok(read @ 1..) = rustix::io::read(&maps, &mut chunk) {
            text.extend_from_slice(&chunk[..read]);
        }
        let text = String::from_utf8(text).unwrap();
        let begin = format!("{:x}-", mapping.map.as_ptr() as usize);
        let of_mapping = text.lines().skip_while(|line| !line.starts_with(&begin));
        let resident = of_mapping.skip(1).find_map(|line| line.strip_prefix("Rss:")).unwrap();
        resident.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
    }

    #[test]
    fn a_walk_through_a_large_file_stays_within_its_memory() {
        let length = 4 * RESIDENT_WINDOWS_MAX * WINDOW_BYTES;
        let mut file = tempfile::tempfile().unwrap();
        for number in 0..length / 4096 {
            file.write_all(&[u8::try_from(number % 251).unwrap(); 4096]).unwrap();
        }
        let mapping = Mapping::of(&file, length as u64).unwrap();
        let mut most = 0;
        for at in (0..length).step_by(4096) {
            let bytes = mapping.read(at as u64, 1000).unwrap();
            assert_eq!(usize::from(bytes[999]), at / 4096 % 251);
            if at % (8 * WINDOW_BYTES) == 0 {
                most = most.max(resident_bytes(&mapping));
            }
        }
        assert!(most > 0 && most <= (RESIDENT_WINDOWS_MAX + 1) * WINDOW_BYTES, "{most} bytes resident");
        let early = mapping.read(0, 8).unwrap();
        mapping.release();
        assert_eq!(early, vec![0; 8], "bytes handed out did not survive the release");
    }
}
