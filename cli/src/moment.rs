//! States and times as people write them: `--at COMMIT | TIME | BRANCH | state:NAME`, and times as people read them.

use std::{str::FromStr, time::Duration};

use herdbook_model::{
    id::{BranchName, CommitId, StateName},
    time::Time,
};

/// Fewest digits that are taken for the beginning of a commit's name.
pub(crate) const FEWEST_DIGITS: usize = 6;

const DAY: i64 = 86_400;

/// A state, as on the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Moment {
    /// A commit, by all its digits.
    Commit(CommitId),
    /// A commit, by its first digits.
    Prefix(String),
    /// A time: milliseconds since 1970.
    Millis(u64),
    /// So long before now.
    Ago(Duration),
    /// The state of a name.
    State(StateName),
    /// The newest state of a branch.
    Branch(BranchName),
}

impl FromStr for Moment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_hex = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        if let Some(digits) = text.strip_prefix("state:") {
            return StateName::from_hex(digits).map(Self::State).ok_or_else(|| "a state's name has 64 hex digits".to_owned());
        }
        if let Some(id) = CommitId::from_hex(text) {
            return Ok(Self::Commit(id));
        }
        if let Some(millis) = parse_time(text) {
            return Ok(Self::Millis(millis));
        }
        if is_hex && (FEWEST_DIGITS..CommitId::LEN * 2).contains(&text.len()) {
            return Ok(Self::Prefix(text.to_ascii_lowercase()));
        }
        if let Ok(ago) = duration(text) {
            return Ok(Self::Ago(ago));
        }
        let what =
            "give a commit (6 or more digits), a time (2026-05-01, 2026-05-01T10:30:00Z, 10m for ten minutes ago), a branch, or state:NAME";
        BranchName::new(text).map(Self::Branch).map_err(|_| what.to_owned())
    }
}

/// Reads a duration: a number and one of `ms`, `s`, `m`, `h`, `d`.
///
/// # Errors
/// A text that says what is expected.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || "give a number with a unit: 500ms, 30s, 10m, 2h, 7d".to_owned();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let millis = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(wrong()),
    };
    number.checked_mul(millis).map(Duration::from_millis).ok_or_else(wrong)
}

/// Reads a date or an RFC 3339 time (`T` or a space between, UTC if no offset is given) as milliseconds since 1970.
pub(crate) fn parse_time(text: &str) -> Option<u64> {
    let micros = parse_micros(text)?;
    u64::try_from(micros / 1000).ok()
}

/// As [`parse_time`], as microseconds since 1970, also before it.
pub(crate) fn parse_micros(text: &str) -> Option<i64> {
    let (date, rest) = match text.split_at_checked(10)? {
        (date, "") => (date, None),
        (date, rest) => (date, Some(rest.strip_prefix(['T', 't', ' '])?)),
    };
    let day = parse_date(date)?;
    let Some(rest) = rest else { return day.checked_mul(DAY * 1_000_000) };
    let zone = rest.find(['Z', 'z', '+', '-']).unwrap_or(rest.len());
    let (clock, zone) = rest.split_at(zone);
    let seconds = day.checked_mul(DAY)?.checked_sub(parse_offset(zone)?)?;
    seconds.checked_mul(1_000_000)?.checked_add(parse_clock(clock)?)
}

/// Returns the day since 1970-01-01, by the count of days in the proleptic Gregorian calendar (H. Hinnant, `days_from_civil`).
fn parse_date(text: &str) -> Option<i64> {
    let mut parts = text.split('-');
    let (year, month, day): (i64, i64, i64) = (number(parts.next()?, 4)?, number(parts.next()?, 2)?, number(parts.next()?, 2)?);
    let is_leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    let longest = match month {
        2 => 28 + i64::from(is_leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if parts.next().is_some() || !(1..=longest).contains(&day) {
        return None;
    }
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    Some(era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468)
}

/// Returns microseconds since midnight.
fn parse_clock(text: &str) -> Option<i64> {
    let (whole, fraction) = text.split_once('.').map_or((text, None), |(whole, fraction)| (whole, Some(fraction)));
    let mut parts = whole.split(':');
    let (hour, minute) = (number(parts.next()?, 2)?, number(parts.next()?, 2)?);
    let second = parts.next().map_or(Some(0), |second| number(second, 2))?;
    if parts.next().is_some() || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let micros = match fraction {
        None => 0,
        Some(digits) if (1..=9).contains(&digits.len()) => number(&format!("{digits:0<6}")[..6], 6)?,
        Some(_) => return None,
    };
    Some(((hour * 60 + minute) * 60 + second) * 1_000_000 + micros)
}

/// Returns seconds east of Greenwich.
fn parse_offset(text: &str) -> Option<i64> {
    if text.is_empty() || text.eq_ignore_ascii_case("z") {
        return Some(0);
    }
    let (sign, rest) = text.split_at(1);
    let (hours, minutes) = rest.split_once(':')?;
    let seconds = (number(hours, 2)? * 60 + number(minutes, 2)?) * 60;
    Some(if sign == "-" { -seconds } else { seconds })
}

/// Reads exactly `len` digits.
fn number(text: &str, len: usize) -> Option<i64> {
    if text.len() == len && text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

/// Returns a time in RFC 3339, UTC, to the millisecond: 2026-05-01T10:30:00.000Z.
pub(crate) fn rfc3339(time: Time) -> String {
    millis(time.millis(), 'T', true)
}

/// Returns a time for people, UTC, to the second: 2026-05-01 10:30:00.
pub(crate) fn readable(time: Time) -> String {
    millis(time.millis(), ' ', false)
}

/// As [`rfc3339`], of milliseconds since 1970.
pub(crate) fn rfc3339_millis(since: u64) -> String {
    millis(since, 'T', true)
}

fn millis(since: u64, between: char, exact: bool) -> String {
    let (second, milli) = (since / 1000, since % 1000);
    let day = i64::try_from(second / 86_400).unwrap_or(0) + 719_468;
    let (era, of_era) = (day.div_euclid(146_097), day.rem_euclid(146_097));
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let (month, day) = (if shifted < 10 { shifted + 3 } else { shifted - 9 }, of_year - (153 * shifted + 2) / 5 + 1);
    let year = year + era * 400 + i64::from(month <= 2);
    let of_day = second % 86_400;
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    let tail = if exact { format!(".{milli:03}Z") } else { String::new() };
    format!("{year:04}-{month:02}-{day:02}{between}{hour:02}:{minute:02}:{second:02}{tail}")
}

/// Returns a duration for people: 350 ms, 4.2 s, 3 min, 2 h, 5 d.
pub(crate) fn span(span: Duration) -> String {
    match span.as_secs() {
        0 => format!("{} ms", span.as_millis()),
        1..60 => format!("{:.1} s", span.as_secs_f64()),
        seconds @ 60..3600 => format!("{} min", seconds / 60),
        seconds @ 3600..172_800 => format!("{} h", seconds / 3600),
        seconds => format!("{} d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_with_and_without_clock_and_offset() {
        let cases = [
            ("1970-01-01", 0),
            ("1970-01-01T00:00:01Z", 1000),
            ("2000-02-29", 951_782_400_000),
            ("2026-05-01T10:30:00.250Z", 1_777_631_400_250),
            ("2026-05-01 12:30:00+02:00", 1_777_631_400_000),
            ("2026-05-01T10:30", 1_777_631_400_000),
        ];
        for (text, millis) in cases {
            assert_eq!(parse_time(text), Some(millis), "{text}");
        }
        for bad in [
            "",
            "2026",
            "2026-13-01",
            "2026-02-30",
            "1900-02-29",
            "2026-05-01T25:00:00Z",
            "2026-05-01T10:30:00.Z",
            "1969-12-31",
            "2026-05-01X",
        ] {
            assert_eq!(parse_time(bad), None, "{bad}");
        }
    }

    #[test]
    fn times_come_back_as_they_were_written() {
        for text in ["1970-01-01T00:00:00.000Z", "2000-02-29T23:59:59.999Z", "2026-12-31T00:00:00.001Z", "2100-03-01T12:00:00.000Z"] {
            assert_eq!(rfc3339_millis(parse_time(text).expect(text)), text);
        }
    }

    #[test]
    fn a_moment_is_what_it_looks_like() {
        let hex = "ab".repeat(32);
        assert_eq!(hex.parse(), Ok(Moment::Commit(CommitId([0xab; 32]))));
        assert_eq!(format!("state:{hex}").parse(), Ok(Moment::State(StateName([0xab; 32]))));
        assert_eq!("ABCDEF12".parse(), Ok(Moment::Prefix("abcdef12".to_owned())));
        assert_eq!("10m".parse(), Ok(Moment::Ago(Duration::from_secs(600))));
        assert_eq!("1970-01-02".parse(), Ok(Moment::Millis(86_400_000)));
        assert_eq!("main@2".parse(), Ok(Moment::Branch(BranchName::new("main@2").expect("well formed"))));
        assert!("state:12".parse::<Moment>().is_err());
        assert!("not a branch".parse::<Moment>().is_err());
    }
}
