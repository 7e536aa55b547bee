//! Decoding field sections (RFC 7541 section 3.2), with the dynamic table of the connection.

use std::collections::VecDeque;

use super::{Undecodable, fixed, huffman};

/// Size of the dynamic table, in bytes, that a client may use: the one that needs no announcement
/// (RFC 9113 section 6.5.2).
const TABLE_BYTES_MAX: usize = 4_096;

/// Bytes that an entry counts besides its name and value (RFC 7541 section 4.1).
const ENTRY_OVERHEAD_BYTES: usize = 32;

/// Memory for one field that is kept for the next, in bytes.
const KEPT_BYTES_MAX: usize = 1_024;

/// The decoding end of one connection.
#[derive(Debug)]
pub struct Decoder {
    table: Table,
    /// The name and value of a literal.
    field: Vec<u8>,
}

impl Default for Decoder {
    fn default() -> Self {
        let table = Table { entries: VecDeque::new(), size: 0, size_max: TABLE_BYTES_MAX };
        Self { table, field: Vec::new() }
    }
}

#[derive(Debug)]
struct Table {
    /// The newest one first.
    entries: VecDeque<Entry>,
    size: usize,
    size_max: usize,
}

#[derive(Debug)]
struct Entry {
    /// The name, and the value behind it.
    bytes: Box<[u8]>,
    name_len: usize,
}

impl Decoder {
    /// Decodes a whole field section of at most `bytes_max` as HTTP/2 counts them (RFC 9113 section
    /// 6.5.2), and passes on each field, its name and its value. Returns how many bytes it has.
    ///
    /// # Errors
    /// It breaks RFC 7541, or is longer. Fields before that were passed on.
    pub fn decode(
        &mut self,
        section: &[u8],
        bytes_max: usize,
        mut each: impl FnMut(&[u8], &[u8]),
    ) -> Result<usize, Undecodable> {
        let mut rest = section;
        let mut decoded = 0;
        let mut charge = |name: &[u8], value: &[u8]| {
            decoded += name.len() + value.len() + ENTRY_OVERHEAD_BYTES;
            if decoded > bytes_max { Err(Undecodable::TooLong) } else { Ok(()) }
        };
        let mut may_resize = true;
        while let Some(&first) = rest.first() {
            if first & 0x80 != 0 {
                let (name, value) = self.table.get(integer(&mut rest, 7)?)?;
                charge(name, value)?;
                each(name, value);
            } else if first & 0xe0 == 0x20 {
                let size_max = integer(&mut rest, 5)?;
                // RFC 7541 section 4.2: before the first field, and within what was announced.
                if !may_resize || size_max > TABLE_BYTES_MAX {
                    return Err(Undecodable::Malformed);
                }
                self.table.resize(size_max);
                continue;
            } else {
                let is_kept = first & 0x40 != 0;
                let name_len = self.literal(&mut rest, if is_kept { 6 } else { 4 })?;
                let (name, value) =
                    self.field.split_at_checked(name_len).ok_or(Undecodable::Malformed)?;
                charge(name, value)?;
                each(name, value);
                if is_kept {
                    self.table.insert(&self.field, name_len);
                }
            }
            may_resize = false;
        }
        if self.field.capacity() > KEPT_BYTES_MAX {
            self.field = Vec::new();
        }
        Ok(decoded)
    }

    /// Reads a literal field into `field`, and returns the length of its name.
    fn literal(&mut self, rest: &mut &[u8], prefix_bits: u32) -> Result<usize, Undecodable> {
        self.field.clear();
        match integer(rest, prefix_bits)? {
            0 => string(rest, &mut self.field)?,
            index => self.field.extend_from_slice(self.table.get(index)?.0),
        }
        let name_len = self.field.len();
        string(rest, &mut self.field)?;
        Ok(name_len)
    }
}

impl Table {
    /// The field with an index in both tables.
    fn get(&self, index: usize) -> Result<(&[u8], &[u8]), Undecodable> {
        let index = index.checked_sub(1).ok_or(Undecodable::Malformed)?;
        if let Some(entry) = fixed::ENTRIES.get(index) {
            return Ok(*entry);
        }
        let entry = self.entries.get(index - fixed::ENTRIES.len()).ok_or(Undecodable::Malformed)?;
        entry.bytes.split_at_checked(entry.name_len).ok_or(Undecodable::Malformed)
    }

    fn insert(&mut self, field: &[u8], name_len: usize) {
        let size = field.len() + ENTRY_OVERHEAD_BYTES;
        self.evict(self.size_max.saturating_sub(size));
        // One that is larger than the table leaves it empty (RFC 7541 section 4.4).
        if size <= self.size_max {
            self.size += size;
            self.entries.push_front(Entry { bytes: field.into(), name_len });
        }
    }

    /// Drops the oldest ones until the others have this size at most.
    fn evict(&mut self, size_max: usize) {
        while self.size > size_max {
            let Some(oldest) = self.entries.pop_back() else { return };
            self.size -= oldest.bytes.len() + ENTRY_OVERHEAD_BYTES;
        }
    }

    fn resize(&mut self, size_max: usize) {
        self.size_max = size_max;
        self.evict(size_max);
    }
}

/// Reads an integer whose first byte has so many bits of it (RFC 7541 section 5.1). One that needs
/// more than 28 bits is larger than anything here can be.
fn integer(rest: &mut &[u8], prefix_bits: u32) -> Result<usize, Undecodable> {
    let (&first, mut after) = rest.split_first().ok_or(Undecodable::Malformed)?;
    let mask = (1_usize << prefix_bits) - 1;
    let mut value = usize::from(first) & mask;
    if value == mask {
        let mut shift = 0;
        loop {
            let (&byte, next) = after.split_first().ok_or(Undecodable::Malformed)?;
            after = next;
            if shift > 21 {
                return Err(Undecodable::Malformed);
            }
            value += usize::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                break;
            }
        }
    }
    *rest = after;
    Ok(value)
}

/// Reads a string and appends its bytes (RFC 7541 section 5.2).
fn string(rest: &mut &[u8], out: &mut Vec<u8>) -> Result<(), Undecodable> {
    let is_coded = rest.first().is_some_and(|first| first & 0x80 != 0);
    let length = integer(rest, 7)?;
    let (bytes, after) = rest.split_at_checked(length).ok_or(Undecodable::Malformed)?;
    *rest = after;
    if is_coded {
        return huffman::decode(bytes, out);
    }
    out.extend_from_slice(bytes);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    type Fields = Vec<(String, String)>;

    fn decode(decoder: &mut Decoder, section: &[u8]) -> Result<Fields, Undecodable> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let mut fields = Vec::new();
        decoder.decode(section, 10_000, |name, value| fields.push((text(name), text(value))))?;
        Ok(fields)
    }

    fn hex(digits: &str) -> Vec<u8> {
        let digits: String = digits.split_whitespace().collect();
        let byte = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
        (0..digits.len()).step_by(2).map(byte).collect()
    }

    fn owned(fields: &[(&str, &str)]) -> Fields {
        fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    /// RFC 7541 appendix C.3 and C.4: three requests on one connection, without and with Huffman.
    #[test]
    fn requests_of_the_specification_are_read() {
        let plain = [
            "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
            "8286 84be 5808 6e6f 2d63 6163 6865",
            "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
        ];
        let coded = [
            "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
            "8286 84be 5886 a8eb 1064 9cbf",
            "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
        ];
        for requests in [plain, coded] {
            let mut decoder = Decoder::default();
            let host = (":authority", "www.example.com");
            let first = [(":method", "GET"), (":scheme", "http"), (":path", "/"), host];
            assert_eq!(decode(&mut decoder, &hex(requests[0])), Ok(owned(&first)));
            assert_eq!(decoder.table.size, 57);
            let second = [&first[..], &[("cache-control", "no-cache")]].concat();
            assert_eq!(decode(&mut decoder, &hex(requests[1])), Ok(owned(&second)));
            assert_eq!(decoder.table.size, 110);
            let third = [
                (":method", "GET"),
                (":scheme", "https"),
                (":path", "/index.html"),
                host,
                ("custom-key", "custom-value"),
            ];
            assert_eq!(decode(&mut decoder, &hex(requests[2])), Ok(owned(&third)));
            assert_eq!(decoder.table.size, 164);
        }
    }

    /// RFC 7541 appendix C.5: entries are evicted from a table of 256 bytes.
    #[test]
    fn old_entries_make_room_for_new_ones() {
        let mut decoder = Decoder::default();
        let first = "3fe1 01 4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420
            3230 3133 2032 303a 3133 3a32 3120 474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70
            6c65 2e63 6f6d";
        let expected = [
            (":status", "302"),
            ("cache-control", "private"),
            ("date", "Mon, 21 Oct 2013 20:13:21 GMT"),
            ("location", "https://www.example.com"),
        ];
        assert_eq!(decode(&mut decoder, &hex(first)), Ok(owned(&expected)));
        assert_eq!((decoder.table.size, decoder.table.entries.len()), (222, 4));
        // The second response evicts `:status: 302`.
        let expected = [&[(":status", "307")][..], &expected[1..]].concat();
        assert_eq!(decode(&mut decoder, &hex("4803 3330 37c1 c0bf")), Ok(owned(&expected)));
        assert_eq!((decoder.table.size, decoder.table.entries.len()), (222, 4));
        assert_eq!(&*decoder.table.entries[0].bytes, b":status307");
        assert_eq!(&*decoder.table.entries[3].bytes, b"cache-controlprivate");
    }

    #[test]
    fn a_field_that_is_larger_than_the_table_empties_it() {
        let mut decoder = Decoder::default();
        decode(&mut decoder, &hex("4001 6101 62")).unwrap();
        assert_eq!(decode(&mut decoder, &hex("be")), Ok(owned(&[("a", "b")])));
        let mut large = hex("4001 637f");
        // 5,000 less the 127 of the prefix: 38 times 128, and 9.
        large.extend([0x80 | 9, 38]);
        large.extend([b'x'; 5_000]);
        let fields = decode(&mut decoder, &large).unwrap();
        assert_eq!(fields[0].1.len(), 5_000);
        assert_eq!((decoder.table.size, decoder.table.entries.len()), (0, 0));
        assert_eq!(decode(&mut decoder, &hex("be")), Err(Undecodable::Malformed));
    }

    #[test]
    fn a_table_is_resized_before_the_first_field_only_and_never_beyond_its_bound() {
        let mut decoder = Decoder::default();
        decode(&mut decoder, &hex("4001 6101 62")).unwrap();
        assert_eq!(decode(&mut decoder, &hex("20 3fe1 1f 82")).unwrap().len(), 1);
        assert_eq!(decoder.table.entries.len(), 0);
        for (what, section) in [("after a field", "82 20"), ("too large", "3fe2 1f 82")] {
            assert_eq!(
                decode(&mut Decoder::default(), &hex(section)),
                Err(Undecodable::Malformed),
                "{what}"
            );
        }
        decode(&mut decoder, &hex("20")).unwrap();
        decode(&mut decoder, &hex("4001 6101 62")).unwrap();
        assert_eq!(decoder.table.entries.len(), 0, "nothing fits a table of no size");
    }

    #[test]
    fn what_the_format_does_not_have_is_refused() {
        for (what, section) in [
            ("index 0", "80"),
            ("an index beyond both tables", "be"),
            ("a name beyond both tables", "7e 0161"),
            ("an integer without end", "ff"),
            ("an integer that goes on", "ff ff"),
            ("an integer that is too long", "ff 8080 8080 8001"),
            ("an integer that overflows", "ff ffff ffff ff0f"),
            ("a string that is too short", "00 0261"),
            ("a value that is missing", "00 0161"),
            ("a name that is missing", "00"),
            ("Huffman with other padding", "00 0161 8106"),
        ] {
            assert_eq!(
                decode(&mut Decoder::default(), &hex(section)),
                Err(Undecodable::Malformed),
                "{what}"
            );
        }
    }

    #[test]
    fn a_section_means_no_more_than_it_may() {
        let mut decoder = Decoder::default();
        // A long name in the table, and fields that repeat it.
        let mut section = hex("407f 81 07");
        section.extend([b'a'; 1_024]);
        section.push(0);
        decode(&mut decoder, &section).unwrap();
        assert_eq!(decode(&mut decoder, &hex("7e00 7e00")).unwrap().len(), 2);
        for field in ["7e00", "be", "0f2f 00"] {
            let section = hex(field).repeat(10);
            assert_eq!(decode(&mut decoder, &section), Err(Undecodable::TooLong), "{field}");
        }
    }

    /// Any bytes, half of them after a section that is right: no panic, and the table stays within
    /// its bound.
    #[test]
    fn bytes_of_any_kind_are_decoded_or_refused() {
        let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
        let mut next = || {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed
        };
        for round in 0..20_000 {
            let mut decoder = Decoder::default();
            decode(&mut decoder, &hex("8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff")).unwrap();
            for _ in 0..4 {
                let length = usize::try_from(next() % 64).unwrap();
                let mut section: Vec<u8> =
                    (0..length).map(|_| u8::try_from(next() >> 56).unwrap()).collect();
                if round % 2 == 0 {
                    section.insert(0, 0x40);
                }
                let _ = decode(&mut decoder, &section);
                let entries = &decoder.table.entries;
                let size: usize =
                    entries.iter().map(|e| e.bytes.len() + ENTRY_OVERHEAD_BYTES).sum();
                assert_eq!(decoder.table.size, size);
                assert!(
                    size <= decoder.table.size_max && decoder.table.size_max <= TABLE_BYTES_MAX
                );
            }
        }
    }
}
