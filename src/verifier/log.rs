//! The verifier log: `kernel/bpf/log.c`'s `bpf_vlog_*`.
//!
//! The kernel stores every message in the caller's buffer at once. Here text is staged in memory and handed on in large
//! pieces, and what the log forgets at the end of a path mostly never leaves the stage. Positions count from the start
//! of the log; the stage holds those from `base` on, its first `cursor` bytes are the log's end, and bytes from there
//! to `high` are what the kernel would have written before it went back. They are written too: so a fixed buffer
//! gets every byte that the kernel gives it, a ring buffer the same text, and both fault where the kernel's would.

use std::fmt;
use std::sync::{Arc, Mutex};

use bpftwin_uapi::Errno;

use crate::kernel::user_memory::UserMemory;

/// State at path ends and for errors.
pub const BPF_LOG_LEVEL1: u32 = 1;
/// State at every instruction.
pub const BPF_LOG_LEVEL2: u32 = 2;
/// Both levels.
pub const BPF_LOG_LEVEL: u32 = BPF_LOG_LEVEL1 | BPF_LOG_LEVEL2;
/// Summary of the verification.
pub const BPF_LOG_STATS: u32 = 4;
/// Keep the beginning of the log instead of its end.
pub const BPF_LOG_FIXED: u32 = 8;
/// Every valid bit.
pub const BPF_LOG_MASK: u32 = BPF_LOG_LEVEL | BPF_LOG_STATS | BPF_LOG_FIXED;

/// Bytes of one message, the terminating zero included; longer ones are cut: `BPF_VERIFIER_TMP_LOG_SIZE`.
pub const BPF_VERIFIER_TMP_LOG_SIZE: usize = 1024;

/// Staged bytes. Small enough to stay in a core's cache.
const STAGE_SIZE: usize = 256 << 10;
/// Room behind the cursor for the terminating zeros.
const SLACK: usize = 2;

/// The caller's log buffer.
pub trait LogSink: Send {
    /// Stores `bytes` at `offset` of the buffer.
    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), Errno>;

    /// Reads back what the buffer holds at `offset`.
    fn read(&mut self, offset: u64, bytes: &mut [u8]) -> Result<(), Errno>;
}

/// A log buffer in the memory of the calling program.
#[derive(Clone)]
pub struct UserLogSink {
    pub memory: Arc<dyn UserMemory + Send + Sync>,
    pub address: u64,
}

impl LogSink for UserLogSink {
    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), Errno> {
        self.memory.write(self.address.wrapping_add(offset), bytes)
    }

    fn read(&mut self, offset: u64, bytes: &mut [u8]) -> Result<(), Errno> {
        self.memory.read(self.address.wrapping_add(offset), bytes)
    }
}

/// A log buffer of our own, which grows as it is written.
#[derive(Clone, Default)]
pub struct VecSink(pub Arc<Mutex<Vec<u8>>>);

impl VecSink {
    /// The log as text, up to its terminating zero.
    pub fn text(&self) -> String {
        self.tail(usize::MAX)
    }

    /// The last lines of [`text`](Self::text), of at most `limit` bytes.
    pub fn tail(&self, limit: usize) -> String {
        let bytes = self.0.lock().unwrap_or_else(|e| e.into_inner());
        let end = bytes.iter().position(|&b| b == 0).unwrap_or(bytes.len());
        let mut text = &bytes[..end];
        if end > limit {
            text = &text[end - limit..];
            text = text.iter().position(|&b| b == b'\n').map_or(text, |at| &text[at + 1..]);
        }
        String::from_utf8_lossy(text).into_owned()
    }
}

impl LogSink for VecSink {
    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), Errno> {
        let mut buffer = self.0.lock().unwrap_or_else(|e| e.into_inner());
        let start = usize::try_from(offset).map_err(|_| Errno::EFAULT)?;
        let end = start + bytes.len();
        if buffer.len() < end {
            buffer.resize(end, 0);
        }
        buffer[start..end].copy_from_slice(bytes);
        Ok(())
    }

    fn read(&mut self, offset: u64, bytes: &mut [u8]) -> Result<(), Errno> {
        let buffer = self.0.lock().unwrap_or_else(|e| e.into_inner());
        let start = usize::try_from(offset).map_err(|_| Errno::EFAULT)?;
        let stored = buffer.get(start..start + bytes.len()).ok_or(Errno::EFAULT)?;
        bytes.copy_from_slice(stored);
        Ok(())
    }
}

/// The log of one verification: `struct bpf_verifier_log`.
pub struct Log {
    /// `BPF_LOG_*`; zero where nothing is to be logged. Writers look at it first, see [`verbose!`](crate::verbose).
    pub level: u32,
    /// Size of the caller's buffer.
    len_total: u32,
    /// The longest that the log ever was, its terminating zero included.
    len_max: u32,
    /// First position that the caller's buffer still holds.
    start_pos: u64,
    /// None where the caller gave no buffer, or after a fault.
    sink: Option<Box<dyn LogSink>>,
    stage: Box<[u8]>,
    base: u64,
    cursor: usize,
    high: usize,
    /// The log ends at a reset of a fixed log, which terminates one byte too late.
    unterminated: bool,
}

impl Log {
    /// `bpf_vlog_init`: a log of `level` into a buffer of `size` bytes. `EINVAL` where they do not make sense together.
    pub fn new(level: u32, size: u32, sink: Option<Box<dyn LogSink>>) -> Result<Self, Errno> {
        let sane = sink.is_some() == (size != 0)
            && !(sink.is_some() && level == 0)
            && level & !BPF_LOG_MASK == 0
            && size <= u32::MAX >> 2;
        if !sane {
            return Err(Errno::EINVAL);
        }
        Ok(Self {
            level,
            len_total: size,
            len_max: 0,
            start_pos: 0,
            sink,
            stage: if level == 0 { Box::default() } else { vec![0; STAGE_SIZE].into_boxed_slice() },
            base: 0,
            cursor: 0,
            high: 0,
            unterminated: false,
        })
    }

    /// A log that is never written to.
    pub fn disabled() -> Self {
        Self {
            level: 0,
            len_total: 0,
            len_max: 0,
            start_pos: 0,
            sink: None,
            stage: Box::default(),
            base: 0,
            cursor: 0,
            high: 0,
            unterminated: false,
        }
    }

    /// Position of the log's end: the bytes written so far, those that were reset aside.
    #[inline]
    pub fn end_pos(&self) -> u64 {
        self.base + self.cursor as u64
    }

    /// Logs one message: `bpf_verifier_vlog`.
    pub fn write(&mut self, args: fmt::Arguments<'_>) {
        if let Some(text) = args.as_str() {
            return self.message(text.as_bytes());
        }
        let room = self.room(BPF_VERIFIER_TMP_LOG_SIZE - 1);
        let mut cut = Cut { room, len: 0 };
        // The adapter never fails; an error of a Display implementation ends the message there.
        let _ = fmt::Write::write_fmt(&mut cut, args);
        let len = cut.len;
        self.advance(len);
    }

    /// Logs one message that is text of any length; it is cut as any other.
    pub fn message(&mut self, text: &[u8]) {
        self.push_bytes(&text[..text.len().min(BPF_VERIFIER_TMP_LOG_SIZE - 1)]);
    }

    /// Appends a piece of a message. Pieces are shorter than a message may be.
    #[inline]
    pub fn push_bytes(&mut self, bytes: &[u8]) {
        debug_assert!(bytes.len() < BPF_VERIFIER_TMP_LOG_SIZE);
        self.room(bytes.len()).copy_from_slice(bytes);
        self.advance(bytes.len());
    }

    #[inline]
    pub fn push(&mut self, text: &str) {
        self.push_bytes(text.as_bytes());
    }

    #[inline]
    pub fn push_byte(&mut self, byte: u8) {
        self.push_bytes(&[byte]);
    }

    /// `%llu`
    #[inline]
    pub fn push_u64(&mut self, value: u64) {
        if value < 10 {
            return self.push_byte(b'0' + value as u8);
        }
        self.push(itoa::Buffer::new().format(value));
    }

    /// `%lld`
    #[inline]
    pub fn push_i64(&mut self, value: i64) {
        if (0..10).contains(&value) {
            return self.push_byte(b'0' + value as u8);
        }
        self.push(itoa::Buffer::new().format(value));
    }

    /// `%+d`
    #[inline]
    pub fn push_i64_signed(&mut self, value: i64) {
        if value >= 0 {
            self.push_byte(b'+');
        }
        self.push_i64(value);
    }

    /// `%#llx`: the kernel's has its prefix for zero too.
    #[inline]
    pub fn push_hex(&mut self, value: u64) {
        self.push("0x");
        self.push_hex_digits(value, 1);
    }

    /// `%0*llx`: at least `width` digits, at most sixteen.
    #[inline]
    pub fn push_hex_digits(&mut self, mut value: u64, width: usize) {
        let mut digits = [0u8; 16];
        let mut at = digits.len();
        while at > 0 && (value != 0 || digits.len() - at < width) {
            at -= 1;
            digits[at] = b"0123456789abcdef"[(value & 15) as usize];
            value >>= 4;
        }
        self.push_bytes(&digits[at..]);
    }

    /// Forgets all from `new_pos` on: `bpf_vlog_reset`.
    pub fn reset(&mut self, new_pos: u64) {
        if self.level == 0 || new_pos > self.end_pos() {
            return;
        }
        self.note_end();
        self.start_pos = self.start_pos.min(new_pos);
        self.terminate();
        let fixed = self.level & BPF_LOG_FIXED != 0;
        if new_pos >= self.base {
            self.cursor = (new_pos - self.base) as usize;
            let zero = self.cursor + usize::from(fixed);
            self.stage[zero] = 0;
            self.high = self.high.max(zero + 1);
        } else {
            self.write_out();
            self.base = new_pos;
            let zero = if fixed { new_pos + 1 } else { new_pos % u64::from(self.len_total.max(1)) };
            if zero < u64::from(self.len_total) {
                self.store(zero, &[0]);
            }
        }
        self.unterminated = fixed;
    }

    /// Brings the caller's buffer up to date with what was logged so far.
    pub fn flush(&mut self) {
        if self.level != 0 {
            self.note_end();
            self.terminate();
            self.write_out();
        }
    }

    /// Completes the caller's buffer: `bpf_vlog_finalize`. Returns the size of the buffer that would have held the whole
    /// log, and whether it was large enough (`ENOSPC`) and writable (`EFAULT`).
    pub fn finalize(&mut self) -> (u32, Result<(), Errno>) {
        if self.level == 0 {
            return (0, Ok(()));
        }
        self.note_end();
        self.terminate();
        self.write_out();
        if self.start_pos != 0 && self.sink.is_some() {
            self.rotate();
        }
        let verdict = if self.sink.is_some() != (self.len_total != 0) {
            Err(Errno::EFAULT)
        } else if self.sink.is_some() && self.len_max > self.len_total {
            Err(Errno::ENOSPC)
        } else {
            Ok(())
        };
        (self.len_max, verdict)
    }

    /// Free bytes behind the cursor, `len` of them.
    #[inline]
    fn room(&mut self, len: usize) -> &mut [u8] {
        if self.cursor + len + SLACK > self.stage.len() {
            self.make_room();
        }
        &mut self.stage[self.cursor..self.cursor + len]
    }

    #[inline]
    fn advance(&mut self, len: usize) {
        self.cursor += len;
        self.unterminated &= len == 0;
    }

    #[cold]
    fn make_room(&mut self) {
        if self.stage.is_empty() {
            self.stage = vec![0; STAGE_SIZE].into_boxed_slice();
        }
        self.note_end();
        self.write_out();
    }

    /// Follows the log's end with the bookkeeping that the kernel does for every message. The end only moves back by
    /// resets, so it is enough to do it before one.
    fn note_end(&mut self) {
        let end = self.end_pos();
        if end == 0 && self.high == 0 {
            return;
        }
        self.len_max = self.len_max.max(u32::try_from(end + 1).unwrap_or(u32::MAX));
        if self.level & BPF_LOG_FIXED == 0 {
            self.start_pos = self.start_pos.max((end + 1).saturating_sub(u64::from(self.len_total)));
        }
    }

    /// Puts the zero behind the last message.
    fn terminate(&mut self) {
        if !self.unterminated && (self.cursor != 0 || self.base != 0) {
            self.stage[self.cursor] = 0;
            self.high = self.high.max(self.cursor + 1);
        }
    }

    /// Moves the stage to the caller's buffer, stale bytes first, and starts it anew at the log's end.
    fn write_out(&mut self) {
        let stage = std::mem::take(&mut self.stage);
        let valid = self.cursor + usize::from(self.high > self.cursor);
        if self.high > valid {
            self.copy_out(self.base + valid as u64, &stage[valid..self.high]);
        }
        self.copy_out(self.base, &stage[..valid]);
        self.stage = stage;
        self.base += self.cursor as u64;
        // A stale byte at the end stays what it is: the caller's buffer has it.
        self.stage[0] = self.stage[self.cursor];
        self.high = 0;
        self.cursor = 0;
    }

    /// Stores the bytes of log position `pos` and following where they belong.
    fn copy_out(&mut self, pos: u64, bytes: &[u8]) {
        let total = u64::from(self.len_total);
        if self.sink.is_none() || total == 0 || bytes.is_empty() {
            return;
        }
        let end = pos + bytes.len() as u64;
        if self.level & BPF_LOG_FIXED != 0 {
            let last = total - 1;
            if pos < last {
                let kept = (end.min(last) - pos) as usize;
                self.store(pos, &bytes[..kept]);
            }
            if end > last {
                self.store(last, &[0]);
            }
            return;
        }
        let kept = (bytes.len() as u64).min(total);
        let bytes = &bytes[bytes.len() - kept as usize..];
        let at = (end - kept) % total;
        let first = (total - at).min(kept) as usize;
        self.store(at, &bytes[..first]);
        self.store(0, &bytes[first..]);
    }

    /// A fault ends all stores, and [`Log::finalize`] reports it.
    fn store(&mut self, offset: u64, bytes: &[u8]) {
        if let Some(sink) = &mut self.sink
            && !bytes.is_empty()
            && sink.write(offset, bytes).is_err()
        {
            self.sink = None;
        }
    }

    /// Turns the ring so that the log starts at the beginning of the buffer.
    fn rotate(&mut self) {
        let total = self.len_total as usize;
        let shift = (self.start_pos % u64::from(self.len_total)) as usize;
        let mut ring = vec![0; total];
        let Some(sink) = &mut self.sink else { return };
        if sink.read(0, &mut ring).is_err() {
            self.sink = None;
            return;
        }
        ring.rotate_left(shift);
        self.store(0, &ring);
    }
}

/// Writes into a slice, and drops what does not fit, as `vscnprintf` does.
struct Cut<'a> {
    room: &'a mut [u8],
    len: usize,
}

impl fmt::Write for Cut<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let kept = text.len().min(self.room.len() - self.len);
        self.room[self.len..self.len + kept].copy_from_slice(&text.as_bytes()[..kept]);
        self.len += kept;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The kernel's own algorithm, message by message, on a plain buffer.
    struct Model {
        fixed: bool,
        buf: Vec<u8>,
        start: u64,
        end: u64,
        max: u64,
    }

    impl Model {
        fn write(&mut self, msg: &[u8]) {
            let mut kbuf = msg[..msg.len().min(1023)].to_vec();
            kbuf.push(0);
            let total = self.buf.len() as u64;
            let n = kbuf.len() as u64;
            self.max = self.max.max(self.end + n);
            if self.fixed {
                if self.end < total {
                    let new_n = (total - self.end).min(n) as usize;
                    kbuf[new_n - 1] = 0;
                    self.buf[self.end as usize..][..new_n].copy_from_slice(&kbuf[..new_n]);
                }
                self.end += n - 1;
            } else {
                let new_end = self.end + n;
                if new_end - self.start >= total {
                    self.start = new_end - total;
                }
                self.end = new_end - 1;
                for (i, b) in kbuf.iter().enumerate() {
                    self.buf[((new_end - n + i as u64) % total) as usize] = *b;
                }
            }
        }

        fn reset(&mut self, pos: u64) {
            self.end = pos;
            self.start = self.start.min(pos);
            let total = self.buf.len() as u64;
            let zero = if self.fixed { pos + 1 } else { pos % total };
            if zero < total {
                self.buf[zero as usize] = 0;
            }
        }

        fn finalize(&mut self) {
            let total = self.buf.len();
            if self.start != 0 {
                self.buf.rotate_left((self.start % total as u64) as usize);
            }
        }
    }

    #[test]
    fn same_buffer_as_the_kernel() {
        let mut seed = 1u64;
        let mut random = move |n: u64| {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (seed >> 33) % n
        };
        for round in 0..400 {
            let size = [7, 100, 4000, 300_000, 900_000][round % 5];
            let fixed = round % 2 == 0;
            let sink = VecSink(Arc::new(Mutex::new(vec![b'?'; size])));
            let level = 1 | if fixed { BPF_LOG_FIXED } else { 0 };
            let mut log = Log::new(level, size as u32, Some(Box::new(sink.clone()))).unwrap();
            let mut model = Model { fixed, buf: vec![b'?'; size], start: 0, end: 0, max: 0 };
            for _ in 0..random(40) {
                if random(4) == 0 {
                    let pos = if random(3) == 0 { random(log.end_pos() + 1) } else { log.end_pos() * 9 / 10 };
                    log.reset(pos);
                    model.reset(pos);
                }
                for _ in 0..random(if size > 100_000 { 300 } else { 5 }) {
                    let msg = vec![b'a' + random(26) as u8; 1 + random(1500) as usize];
                    log.message(&msg);
                    model.write(&msg);
                }
                assert_eq!(log.end_pos(), model.end);
            }
            let (true_size, verdict) = log.finalize();
            model.finalize();
            assert_eq!(u64::from(true_size), model.max);
            assert_eq!(verdict.is_err(), model.max > size as u64);
            let text =
                |b: &[u8]| if fixed { b.to_vec() } else { b.split(|&c| c == 0).next().unwrap().to_vec() };
            assert!(text(&sink.0.lock().unwrap()) == text(&model.buf), "round {round}");
        }
    }

    #[test]
    fn formatted_messages_are_cut() {
        let sink = VecSink::default();
        let mut log = Log::new(1, 4096, Some(Box::new(sink.clone()))).unwrap();
        log.write(format_args!("{:>2000}", "x"));
        assert_eq!(log.end_pos(), 1023);
        log.write(format_args!("{}|", 5));
        log.push_hex(0);
        log.push_hex(0xab0);
        log.push_hex_digits(7, 2);
        log.push_i64_signed(-3);
        log.push_i64_signed(12);
        log.finalize().1.unwrap();
        assert_eq!(&sink.text()[1023..], "5|0x00xab007-3+12");
    }

    #[test]
    fn attributes_must_fit() {
        let sink = || -> Option<Box<dyn LogSink>> { Some(Box::new(VecSink::default())) };
        for (level, size, sink, ok) in [
            (0, 0, None, true),
            (2, 0, None, true),
            (1, 0, sink(), false),
            (1, 128, None, false),
            (0, 128, sink(), false),
            (16, 128, sink(), false),
            (1, u32::MAX, sink(), false),
            (15, u32::MAX >> 2, sink(), true),
        ] {
            assert_eq!(Log::new(level, size, sink).is_ok(), ok, "{level} {size}");
        }
    }

    #[test]
    fn no_buffer_still_counts() {
        let mut log = Log::new(2, 0, None).unwrap();
        log.write(format_args!("hello {}", 1));
        log.reset(3);
        assert_eq!(log.finalize(), (8, Ok(())));
    }
}
