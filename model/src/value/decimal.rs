//! Decimal numbers: exact, of up to 38 digits, with up to 38 of them after the point.
//!
//! One form for each number: no zero at the end of its fraction. So 1.50 and 1.5 are one value, and minus zero is zero.

use std::{cmp::Ordering, fmt, str::FromStr};

use crate::codec::{Error, Reader, Writer};

/// A decimal number: a coefficient divided by a power of ten.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Decimal {
    /// Little endian, so that a value needs no more room than a text.
    coefficient: [u8; 16],
    scale: u8,
}

/// A text that is no decimal number, or one of too many digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a decimal is a number such as -12.50, of at most {} digits", Decimal::DIGITS)]
pub struct BadDecimal;

impl Decimal {
    /// Most digits.
    pub const DIGITS: u32 = 38;

    /// Returns `coefficient` ÷ 10^`scale`.
    ///
    /// # Errors
    /// [`BadDecimal`] if it needs more than 38 digits, or more than 38 after the point.
    pub fn new(coefficient: i128, scale: u32) -> Result<Self, BadDecimal> {
        let (mut coefficient, mut scale) = (coefficient, scale);
        while scale > 0 && coefficient % 10 == 0 {
            (coefficient, scale) = (coefficient / 10, scale - 1);
        }
        let fits = coefficient.unsigned_abs() < 10u128.pow(Self::DIGITS) && scale <= Self::DIGITS;
        let scale = u8::try_from(scale).map_err(|_| BadDecimal)?;
        if fits { Ok(Self { coefficient: coefficient.to_le_bytes(), scale }) } else { Err(BadDecimal) }
    }

    /// Returns the number without its point.
    pub const fn coefficient(&self) -> i128 {
        i128::from_le_bytes(self.coefficient)
    }

    /// Returns how many digits stand after the point.
    pub const fn scale(&self) -> u32 {
        self.scale as u32
    }

    /// Returns the whole part, and the fraction in units of 10⁻³⁸.
    fn parts(&self) -> (i128, i128) {
        let unit = 10i128.pow(self.scale());
        (self.coefficient() / unit, self.coefficient() % unit * 10i128.pow(Self::DIGITS - self.scale()))
    }

    pub(super) fn encode(&self, out: &mut Writer) {
        out.byte(self.scale);
        out.bytes(significant(&self.coefficient));
    }

    pub(super) fn decode(input: &mut Reader<'_>) -> Result<Self, Error> {
        let malformed = Error::Malformed { what: "decimal" };
        let (scale, bytes) = (input.byte()?, input.bytes()?);
        let sign = if bytes.last().is_some_and(|last| last & 0x80 != 0) { 0xff } else { 0 };
        let mut coefficient = [sign; 16];
        coefficient.get_mut(..bytes.len()).ok_or(malformed)?.copy_from_slice(bytes);
        let value = Self::new(i128::from_le_bytes(coefficient), scale.into()).map_err(|_| malformed)?;
        if value.scale == scale && significant(&coefficient) == bytes { Ok(value) } else { Err(malformed) }
    }
}

/// Returns the shortest two's complement of the number, little endian; of zero, nothing.
fn significant(bytes: &[u8; 16]) -> &[u8] {
    let mut len = bytes.len();
    let fill = if bytes[15] & 0x80 != 0 { 0xff } else { 0 };
    while len > 0 && bytes[len - 1] == fill && (len == 1 && fill == 0 || len > 1 && (bytes[len - 2] ^ fill) & 0x80 == 0) {
        len -= 1;
    }
    &bytes[..len]
}

impl PartialOrd for Decimal {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Decimal {
    fn cmp(&self, other: &Self) -> Ordering {
        self.parts().cmp(&other.parts())
    }
}

impl FromStr for Decimal {
    type Err = BadDecimal;

    fn from_str(text: &str) -> Result<Self, BadDecimal> {
        let (sign, digits) = text.strip_prefix('-').map_or((1, text), |digits| (-1, digits));
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
        let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        if !is_number(whole) || !is_number(fraction) {
            return Err(BadDecimal);
        }
        let fraction = fraction.trim_end_matches('0');
        let number = [whole, fraction].concat();
        let number = number.trim_start_matches('0');
        let coefficient: i128 = if number.is_empty() { 0 } else { number.parse().map_err(|_| BadDecimal)? };
        Self::new(sign * coefficient, u32::try_from(fraction.len()).map_err(|_| BadDecimal)?)
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sign, digits) = (if self.coefficient() < 0 { "-" } else { "" }, self.coefficient().unsigned_abs().to_string());
        let scale = usize::from(self.scale);
        let digits = format!("{digits:0>width$}", width = scale + 1);
        let (whole, fraction) = digits.split_at(digits.len() - scale);
        if fraction.is_empty() { write!(f, "{sign}{whole}") } else { write!(f, "{sign}{whole}.{fraction}") }
    }
}

impl fmt::Debug for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decimal(text: &str) -> Decimal {
        text.parse().expect("a decimal")
    }

    #[test]
    fn one_number_has_one_form() {
        for (written, read) in [("1.50", "1.5"), ("-0", "0"), ("0.000", "0"), ("007", "7"), ("-12.050", "-12.05"), ("100", "100")] {
            assert_eq!(decimal(written).to_string(), read);
            assert_eq!(decimal(written), decimal(read));
        }
        for bad in ["", "-", ".5", "5.", "1e3", "+1", "1.2.3", "１", &"9".repeat(39), &format!("0.{}1", "0".repeat(38))] {
            assert_eq!(bad.parse::<Decimal>(), Err(BadDecimal), "{bad}");
        }
    }

    #[test]
    fn order_is_that_of_the_numbers() {
        let least = format!("-{}", "9".repeat(38));
        let small = format!("0.{}1", "0".repeat(37));
        let rising =
            [&*least, "-10", "-9.5", "-9.49", "-1", "-0.5", &small.replace("0.", "-0."), "0", &small, "0.1", "0.11", "1", "9.9", "10"];
        assert!(rising.map(decimal).is_sorted_by(|a, b| a < b), "{rising:?}");
    }
}
