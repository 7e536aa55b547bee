//! Hexadecimal digits (RFC 4648 section 8).

const LOWER: &[u8; 16] = b"0123456789abcdef";
const UPPER: &[u8; 16] = b"0123456789ABCDEF";

/// Hexadecimal digits of a `u64`.
pub const U64_DIGITS: usize = 16;

/// Value of one digit, in either case.
pub const fn value(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

/// Both digits of a byte, in lower case.
#[inline]
pub const fn lower(byte: u8) -> [u8; 2] {
    [LOWER[(byte >> 4) as usize], LOWER[(byte & 0xf) as usize]]
}

/// Both digits of a byte, in upper case.
#[inline]
pub const fn upper(byte: u8) -> [u8; 2] {
    [UPPER[(byte >> 4) as usize], UPPER[(byte & 0xf) as usize]]
}

/// All digits of a number, leading zeros included, in lower case.
#[inline]
pub const fn lower_u64(number: u64) -> [u8; U64_DIGITS] {
    let mut digits = [0; U64_DIGITS];
    let (high, low) = digits.split_at_mut(U64_DIGITS / 2);
    high.copy_from_slice(&lower_half(number >> 32));
    low.copy_from_slice(&lower_half(number & 0xffff_ffff));
    digits
}

/// All digits of a number of 32 bits, made together: a table would be asked for each of them.
#[inline]
const fn lower_half(number: u64) -> [u8; 8] {
    // Half of what is together goes apart in each step, down to four bits in each byte.
    let spread = (number | number << 16) & 0x0000_ffff_0000_ffff;
    let spread = (spread | spread << 8) & 0x00ff_00ff_00ff_00ff;
    let spread = (spread | spread << 4) & 0x0f0f_0f0f_0f0f_0f0f;
    // One in each byte that is above nine, and so a letter.
    let letters = (spread + 0x0606_0606_0606_0606) >> 4 & 0x0101_0101_0101_0101;
    let digits = spread + 0x3030_3030_3030_3030 + letters * (b'a' - b'9' - 1) as u64;
    digits.to_be_bytes()
}

/// Both digits of each byte, in lower case. The loop is one that compilers turn into instructions
/// for sixteen bytes at once.
#[inline]
pub fn lower_pairs<const N: usize>(bytes: &[u8; N]) -> [[u8; 2]; N] {
    let digit = |value: u8| value + b'0' + if value > 9 { b'a' - b'9' - 1 } else { 0 };
    let mut pairs = [[0; 2]; N];
    for (pair, byte) in pairs.iter_mut().zip(bytes) {
        *pair = [digit(byte >> 4), digit(byte & 0xf)];
    }
    pairs
}

/// Bytes as a string of lower-case digits.
pub fn lower_string(bytes: &[u8]) -> String {
    bytes.iter().flat_map(|byte| lower(*byte)).map(char::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_written_in_both_cases_and_read_again() {
        for byte in 0..=u8::MAX {
            assert_eq!(lower(byte), format!("{byte:02x}").as_bytes());
            assert_eq!(lower_pairs(&[byte, !byte]), [lower(byte), lower(!byte)]);
            assert_eq!(upper(byte), format!("{byte:02X}").as_bytes());
            for [high, low] in [lower(byte), upper(byte)] {
                assert_eq!(value(high).unwrap() << 4 | value(low).unwrap(), byte);
            }
            let digit = char::from(byte).to_digit(16).map(|digit| u8::try_from(digit).unwrap());
            assert_eq!(value(byte), digit);
        }
    }

    #[test]
    fn numbers_and_strings_keep_their_leading_zeros() {
        assert_eq!(&lower_u64(0xab), b"00000000000000ab");
        assert_eq!(&lower_u64(u64::MAX), b"ffffffffffffffff");
        for number in (0..64).map(|shift| 0xfedc_ba98_7654_3210_u64.rotate_left(shift)) {
            assert_eq!(lower_u64(number), format!("{number:016x}").as_bytes());
        }
        assert_eq!(lower_string(&[0, 0x1f]), "001f");
    }
}
