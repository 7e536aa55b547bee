//! Decimal numbers.

/// Digits of `u64::MAX`.
const DIGITS_MAX: usize = 20;

/// Appends `number` without leading zeros.
pub fn append_decimal(mut number: u64, out: &mut Vec<u8>) {
    let mut digits = [b'0'; DIGITS_MAX];
    let mut start = DIGITS_MAX;
    loop {
        start -= 1;
        digits[start] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[start..]);
}

/// The last `N` digits of `number`, with leading zeros.
pub const fn last_digits<const N: usize>(mut number: u64) -> [u8; N] {
    let mut digits = [b'0'; N];
    let mut at = N;
    while at > 0 {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
    }
    digits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_no_leading_zeros() {
        for number in [0, 1, 9, 10, 99, 100, 12_345, u64::MAX] {
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
