//! Bill files as rows of cells, read as they are unpacked: what both providers' files have in common.
//!
//! A file comes from outside and is large. It is never held whole, nothing in it can make us read more
//! than [`UNPACKED_LIMIT`], and whatever does not fit is a [`Flaw`] of the file or of one line.

use std::io::{self, Read};

use csv::{ByteRecord, ReaderBuilder, Terminator};
use jiff::civil::Date;

use crate::order::Fen;
use crate::provider::BillError;

/// The most that a file may unpack to.
pub const UNPACKED_LIMIT: u64 = 1024 * 1024 * 1024;
/// The longest that a line may be: it is held whole.
const LINE_LIMIT: usize = 1024 * 1024;

/// What is wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// Nothing of it can be believed.
    File(String),
    Line {
        line: u32,
        why: String,
    },
}

impl Flaw {
    pub fn file(why: impl Into<String>) -> Self {
        Self::File(why.into())
    }

    pub fn line(line: u32, why: impl Into<String>) -> Self {
        let why = why.into();
        Self::Line { line, why }
    }

    pub fn of(self, date: Date) -> BillError {
        match self {
            Self::File(why) => BillError::Damaged { date, why },
            Self::Line { line, why } => BillError::Unreadable { date, line, why },
        }
    }
}

/// Reads a file to its end, and no further than the limit.
#[derive(Debug)]
pub struct Bounded<R> {
    file: R,
    left: u64,
    /// What came since the last end of a line.
    line: usize,
}

impl<R> Bounded<R> {
    pub const fn new(file: R, limit: u64) -> Self {
        Self {
            file,
            left: limit,
            line: 0,
        }
    }
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buffer)?;
        self.left = u64::try_from(read)
            .ok()
            .and_then(|read| self.left.checked_sub(read))
            .ok_or_else(|| io::Error::other("it unpacks to more than it may"))?;
        self.line = match buffer[..read].iter().rposition(|byte| *byte == b'\n') {
            Some(end) => read - end - 1,
            None => self.line.saturating_add(read),
        };
        if self.line > LINE_LIMIT {
            return Err(io::Error::other("it has a line without end"));
        }
        Ok(read)
    }
}

/// The rows of a file. Quotation marks mean nothing: neither provider writes them around cells, and payers'
/// and merchants' texts may hold one.
pub struct Sheet<R> {
    reader: csv::Reader<R>,
    record: ByteRecord,
}

impl<R: Read> Sheet<R> {
    pub fn over(file: R) -> Self {
        Self {
            reader: ReaderBuilder::new()
                .has_headers(false)
                .flexible(true)
                .quoting(false)
                // A carriage return stays in the last cell, where blanks do not matter: as a line's end it
                // would put line numbers out by one.
                .terminator(Terminator::Any(b'\n'))
                .buffer_capacity(64 * 1024)
                .from_reader(file),
            record: ByteRecord::new(),
        }
    }

    /// The next row that is not blank and its line in the file, from 1; `None` at the end.
    pub fn next(&mut self) -> Result<Option<(u32, &mut ByteRecord)>, Flaw> {
        loop {
            let read = self.reader.read_byte_record(&mut self.record);
            if !read.map_err(|error| Flaw::File(error.to_string()))? {
                return Ok(None);
            }
            if self.record.len() > 1 || !self.record.as_slice().trim_ascii().is_empty() {
                break;
            }
        }
        let position = self.record.position().map_or(0, csv::Position::line);
        let line = u32::try_from(position).unwrap_or(u32::MAX);
        Ok(Some((line, &mut self.record)))
    }

    /// What is left of the file; the cells read ahead are gone.
    pub fn into_inner(self) -> R {
        self.reader.into_inner()
    }
}

/// A header row: where each name stands. Widths of parentheses and blanks around names do not matter.
#[derive(Debug)]
pub struct Columns(Vec<String>);

impl Columns {
    pub fn new<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let tidy = |name: &str| name.trim().replace('（', "(").replace('）', ")");
        Self(names.into_iter().map(tidy).collect())
    }

    pub const fn count(&self) -> usize {
        self.0.len()
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    pub fn find(&self, name: &str) -> Option<usize> {
        self.0.iter().position(|found| found == name)
    }

    /// The first of these names that is there: files have changed their words over the years.
    pub fn need(&self, names: &[&str]) -> Result<usize, Flaw> {
        names
            .iter()
            .find_map(|name| self.find(name))
            .ok_or_else(|| Flaw::File(format!("it has no column {}", names.join(" or "))))
    }
}

/// An amount with two decimals at most.
pub fn yuan(text: &str) -> Result<Fen, &'static str> {
    Fen::from_yuan(text).map_err(|_| "an amount that is none")
}

/// A fee: it may be written with more decimals than money has, and is rounded to the nearest fen then.
pub fn fee(text: &str) -> Result<Fen, &'static str> {
    const WRONG: &str = "a fee that is none";
    let cut = match text.find('.') {
        Some(point) if text.is_ascii() => text.len().min(point + 3),
        _ => text.len(),
    };
    let (whole, rest) = text.split_at(cut);
    if !rest.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(WRONG);
    }
    let fen = Fen::from_yuan(whole).map_err(|_| WRONG)?;
    let step = match (rest.as_bytes().first(), text.starts_with('-')) {
        (Some(b'5'..), false) => 1,
        (Some(b'5'..), true) => -1,
        _ => 0,
    };
    fen.checked_add(Fen::new(step)).ok_or(WRONG)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fees_are_whole_fen() {
        for (text, fen) in [
            ("0", 0),
            ("0.0", 0),
            ("-0.77", -77),
            ("0.00000", 0),
            ("0.01000", 1),
            ("-1.23000", -123),
            ("0.00500", 1),
            ("0.00499", 0),
            ("-0.00500", -1),
            ("-0.00400", 0),
            ("12.345", 1235),
        ] {
            assert_eq!(fee(text), Ok(Fen::new(fen)), "{text}");
        }
        for wrong in ["", ".", "1.", "0.00x", "0.001-", "1.00.0", "零", "１.000"] {
            assert!(fee(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn no_more_is_read_than_may_be() {
        let read = |limit| {
            let mut text = Vec::new();
            Bounded::new(&b"abc"[..], limit)
                .read_to_end(&mut text)
                .is_ok()
        };
        assert!(read(3) && !read(2));
        let zeros = |count| Bounded::new(io::repeat(0).take(count), u64::MAX);
        assert!(io::copy(&mut zeros(1 << 20), &mut io::sink()).is_ok());
        assert!(io::copy(&mut zeros(1 << 30), &mut io::sink()).is_err());
    }

    #[test]
    fn names_are_found_however_they_are_written() {
        let columns = Columns::new([" 收支金额（元）", "账户结余(元)\t"]);
        assert_eq!(columns.find("收支金额(元)"), Some(0));
        assert_eq!(columns.need(&["余额", "账户结余(元)"]), Ok(1));
        assert!(matches!(columns.need(&["备注"]), Err(Flaw::File(_))));
    }
}
