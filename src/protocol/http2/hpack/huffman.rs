//! The Huffman code of strings (RFC 7541 section 5.2 and appendix B), which is canonical: the
//! lengths of the codes are the whole table.

use super::Undecodable;

/// Length of the code of each byte, and of the end of the string at last.
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28,
    28, 28, 28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5,
    5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6,
    6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22,
    23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22,
    21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20,
    22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19,
    21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22,
    22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, 30,
];

/// Length of the longest code.
const LENGTH_MAX: usize = 30;

/// The code of the end of the string, which no string holds.
const END: u16 = 256;

/// Bits of a code that are looked up at once.
const SHORT_BITS: u32 = 8;

/// The code in the order of its codes, which are those of a length in the order of their symbols.
struct Codes {
    symbols: [u16; 257],
    /// By length: the first code that is longer, at the left end of 32 bits.
    limit: [u64; LENGTH_MAX + 1],
    /// By length: the first code of that length, and its place among the symbols.
    first: [(u64, usize); LENGTH_MAX + 1],
    /// By the first bits: symbol and length of the code if it is that short, else 0.
    short: [(u8, u8); 1 << SHORT_BITS],
}

static CODES: Codes = codes();

#[expect(clippy::cast_possible_truncation, reason = "symbols are less than 257, lengths than 31")]
const fn codes() -> Codes {
    let mut codes = Codes {
        symbols: [0; 257],
        limit: [0; LENGTH_MAX + 1],
        first: [(0, 0); LENGTH_MAX + 1],
        short: [(0, 0); 1 << SHORT_BITS],
    };
    let (mut length, mut at, mut code) = (1, 0, 0_u64);
    while length <= LENGTH_MAX {
        codes.first[length] = (code, at);
        let mut symbol = 0;
        while symbol < LENGTHS.len() {
            if LENGTHS[symbol] as usize == length {
                codes.symbols[at] = symbol as u16;
                at += 1;
                let next = code + (1 << (32 - length));
                while length <= SHORT_BITS as usize && code < next {
                    codes.short[(code >> (32 - SHORT_BITS)) as usize] =
                        (symbol as u8, length as u8);
                    code += 1 << (32 - SHORT_BITS);
                }
                code = next;
            }
            symbol += 1;
        }
        codes.limit[length] = code;
        length += 1;
    }
    codes
}

/// Appends the bytes of a coded string.
pub(super) fn decode(coded: &[u8], out: &mut Vec<u8>) -> Result<(), Undecodable> {
    // The bits that were not decoded, at the left end, and how many they are.
    let (mut bits, mut count) = (0_u64, 0_u32);
    let mut coded = coded.iter();
    loop {
        while count <= 56 {
            let Some(byte) = coded.next() else { break };
            bits |= u64::from(*byte) << (56 - count);
            count += 8;
        }
        if count == 0 {
            return Ok(());
        }
        let index = usize::try_from(bits >> (64 - SHORT_BITS)).unwrap_or_default();
        let (symbol, length) = match CODES.short.get(index) {
            Some((symbol, length)) if *length > 0 => (*symbol, u32::from(*length)),
            _ => match long(bits >> 32) {
                Some(found) => found,
                None => return padding(bits, count),
            },
        };
        if length > count {
            return padding(bits, count);
        }
        out.push(symbol);
        bits <<= length;
        count -= length;
    }
}

/// The symbol of a code at the left end of 32 bits, and its length. The end of the string is none.
fn long(code: u64) -> Option<(u8, u32)> {
    let length = (SHORT_BITS as usize + 1..=LENGTH_MAX)
        .find(|length| CODES.limit.get(*length).is_some_and(|limit| code < *limit))?;
    let (first, at) = CODES.first.get(length)?;
    let offset = code.checked_sub(*first)? >> (32 - length);
    let symbol = CODES.symbols.get(at + usize::try_from(offset).ok()?)?;
    debug_assert!(*symbol <= END, "a symbol that is none");
    Some((u8::try_from(*symbol).ok()?, u32::try_from(length).ok()?))
}

/// Checks the rest at the end of a string: less than a byte, of the first bits of the end's code.
fn padding(bits: u64, count: u32) -> Result<(), Undecodable> {
    let ones = !(u64::MAX >> count.min(63));
    if count < 8 && bits == ones { Ok(()) } else { Err(Undecodable::Malformed) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Codes that RFC 7541 lists, each at the right end.
    const LISTED: [(usize, u32); 12] = [
        (0, 0x1ff8),
        (10, 0x3fff_fffc),
        (32, 0x14),
        (48, 0x0),
        (88, 0xfc),
        (92, 0x7fff0),
        (97, 0x3),
        (122, 0x7b),
        (127, 0x0fff_fffc),
        (195, 0x7fff1),
        (249, 0x0fff_fffe),
        (256, 0x3fff_ffff),
    ];

    /// The code of each symbol, at the left end of 32 bits.
    fn code_of(symbol: usize) -> u32 {
        let length = usize::from(LENGTHS[symbol]);
        let (first, at) = CODES.first[length];
        let before = (0..symbol).filter(|s| usize::from(LENGTHS[*s]) == length).count();
        assert_eq!(usize::from(CODES.symbols[at + before]), symbol);
        u32::try_from(first).unwrap() + (u32::try_from(before).unwrap() << (32 - length))
    }

    fn encode(bytes: &[u8]) -> Vec<u8> {
        let mut bits = String::new();
        for byte in bytes {
            let length = usize::from(LENGTHS[usize::from(*byte)]);
            bits.push_str(&format!("{:032b}", code_of(usize::from(*byte)))[..length]);
        }
        while !bits.len().is_multiple_of(8) {
            bits.push('1');
        }
        bits.as_bytes()
            .chunks(8)
            .map(|byte| u8::from_str_radix(std::str::from_utf8(byte).unwrap(), 2).unwrap())
            .collect()
    }

    fn decoded(coded: &[u8]) -> Result<Vec<u8>, Undecodable> {
        let mut out = Vec::new();
        decode(coded, &mut out).map(|()| out)
    }

    #[test]
    fn codes_are_those_of_the_specification() {
        for (symbol, code) in LISTED {
            assert_eq!(code_of(symbol) >> (32 - u32::from(LENGTHS[symbol])), code, "{symbol}");
        }
        let all: u64 = LENGTHS.iter().map(|length| 1 << (32 - u32::from(*length))).sum();
        assert_eq!(all, 1 << 32, "no code is the beginning of another, and none is missing");
    }

    #[test]
    fn strings_come_back() {
        let www = [0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff];
        assert_eq!(decoded(&www).unwrap(), b"www.example.com");
        assert_eq!(encode(b"www.example.com"), www);
        for byte in 0..=u8::MAX {
            for length in 1..9 {
                let bytes = vec![byte; length];
                assert_eq!(decoded(&encode(&bytes)).as_ref(), Ok(&bytes), "{byte} {length}");
            }
        }
        let all: Vec<u8> = (0..=u8::MAX).chain((0..=u8::MAX).rev()).collect();
        assert_eq!(decoded(&encode(&all)), Ok(all));
        assert_eq!(decoded(b""), Ok(vec![]));
    }

    #[test]
    fn what_is_left_over_must_be_the_beginning_of_the_end() {
        // `0` and three bits.
        assert_eq!(decoded(&[0b0000_0111]), Ok(b"0".to_vec()));
        assert_eq!(decoded(&[0b0000_0110]), Err(Undecodable::Malformed), "other bits");
        assert_eq!(
            decoded(&[0b0000_0000, 0b0011_1111, 0xff]),
            Err(Undecodable::Malformed),
            "a whole byte"
        );
        assert_eq!(decoded(&[0xff]), Err(Undecodable::Malformed), "a whole byte alone");
        assert_eq!(
            decoded(&[0xff, 0xff, 0xff, 0xff]),
            Err(Undecodable::Malformed),
            "the end itself"
        );
        assert_eq!(decoded(&[0x07, 0xff, 0xff, 0xff, 0xff, 0xff]), Err(Undecodable::Malformed));
    }
}
