//! Decimal numbers.

/// Digits of `u64::MAX`.
const DIGITS_MAX: usize = 20;

/// Both digits of each number below a hundred.
static PAIRS: [[u8; 2]; 100] = {
    let mut pairs = [[0; 2]; 100];
    let mut number = 0_u8;
    while number < 100 {
        pairs[number as usize] = [b'0' + number / 10, b'0' + number % 10];
        number += 1;
    }
    pairs
};

/// Appends `number` without leading zeros.
pub fn append_decimal(number: u64, out: &mut Vec<u8>) {
    // Nearly all numbers that are written are short, and what has a fixed length is copied without
    // a loop.
    match number {
        0..=9 => out.extend_from_slice(&last_digits::<1>(number)),
        10..=99 => out.extend_from_slice(&last_digits::<2>(number)),
        100..=999 => out.extend_from_slice(&last_digits::<3>(number)),
        1_000..=9_999 => out.extend_from_slice(&last_digits::<4>(number)),
        10_000..=99_999 => out.extend_from_slice(&last_digits::<5>(number)),
        _ => {
            let digits = last_digits::<DIGITS_MAX>(number);
            let zeros = digits.iter().take_while(|digit| **digit == b'0').count();
            out.extend_from_slice(&digits[zeros..]);
        }
    }
}

/// The last `N` digits of `number`, with leading zeros.
#[inline]
pub fn last_digits<const N: usize>(mut number: u64) -> [u8; N] {
    let mut digits = [b'0'; N];
    let (first, pairs) = digits.as_rchunks_mut::<2>();
    for pair in pairs.iter_mut().rev() {
        *pair = PAIRS[(number % 100) as usize];
        number /= 100;
    }
    if let [first] = first {
        *first += (number % 10) as u8;
    }
    digits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_no_leading_zeros() {
        for number in (0..100_100).chain([1_000_000, 10_000_000_000, u64::MAX]) {
            let mut out = b"x".to_vec();
            append_decimal(number, &mut out);
            assert_eq!(out, format!("x{number}").as_bytes());
        }
    }

    #[test]
    fn last_digits_are_filled_up_with_zeros() {
        assert_eq!(&last_digits::<4>(987), b"0987");
        assert_eq!(&last_digits::<2>(1_987), b"87");
        assert_eq!(&last_digits::<3>(0), b"000");
    }
}
