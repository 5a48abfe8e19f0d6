//! A number of bytes as a person writes it: `512MiB`, `2GiB`, `1500000`.

use std::{fmt, str::FromStr};

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(pub u64);

impl FromStr for Bytes {
    type Err = BytesError;

    fn from_str(text: &str) -> Result<Self, BytesError> {
        let text = text.trim();
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let unit = unit.trim_start();
        let (_, scale) = UNITS
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(unit))
            .ok_or_else(|| BytesError(text.to_owned()))?;
        let number: u64 = number.parse().map_err(|_| BytesError(text.to_owned()))?;
        number.checked_mul(*scale).map(Self).ok_or_else(|| BytesError(text.to_owned()))
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (unit, scale) in [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)] {
            if self.0 >= scale {
                let amount = self.0 as f64 / scale as f64;
                let decimals = usize::from(!self.0.is_multiple_of(scale));
                return write!(f, "{amount:.decimals$} {unit}");
            }
        }
        write!(f, "{} B", self.0)
    }
}

/// The text is not a number of bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a number of bytes: write a whole number and B, KiB, MiB, GiB, KB, MB or GB")]
pub struct BytesError(String);

const UNITS: [(&str, u64); 10] = [
    ("", 1),
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_shows() {
        let read = |text: &str| text.parse::<Bytes>().ok().map(|bytes| bytes.0);
        assert_eq!(read("0"), Some(0));
        assert_eq!(read("1500"), Some(1500));
        assert_eq!(read("2GiB"), Some(2 << 30));
        assert_eq!(read(" 2 gib "), Some(2 << 30));
        assert_eq!(read("3MB"), Some(3_000_000));
        for bad in ["", "GiB", "-1", "1.5GiB", "2 GiBs", "99999999999TiB", "1e9"] {
            assert_eq!(read(bad), None, "{bad}");
        }
        assert_eq!(Bytes(2 << 30).to_string(), "2 GiB");
        assert_eq!(Bytes(98_362_432).to_string(), "93.8 MiB");
        assert_eq!(Bytes(12).to_string(), "12 B");
    }
}
