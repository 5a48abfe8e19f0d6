//! A clock: the time in words, by a template.

use crate::limits::{CLOCK_TEMPLATE_BYTES_MAX, CLOCK_TICK_MAX, CLOCK_TICK_MIN};
use jiff::{Timestamp, fmt::strtime, tz::TimeZone};
use std::time::Duration;

/// Writes the time.
#[derive(Clone, Debug)]
pub struct Clock {
    template: String,
    zone: TimeZone,
    /// How long what it wrote is good.
    pub tick: Duration,
}

/// Why there is no such clock.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClockError {
    /// A template that is too long, or that nothing can be written by.
    #[error("template: {0}")]
    Template(String),
    /// A time zone that this machine does not know.
    #[error("time_zone: {0}")]
    Zone(String),
    /// A tick out of bounds.
    #[error("tick_seconds is {given}; it must be from {least} to {most}", least = CLOCK_TICK_MIN.as_secs_f64(), most = CLOCK_TICK_MAX.as_secs())]
    Tick {
        /// Given, in seconds.
        given: String,
    },
}

impl Clock {
    /// What a clock says when nothing else is asked for.
    pub const TEMPLATE: &'static str = "It is %A, %d %B %Y, %H:%M:%S %Z.\n";

    /// A clock by a template with `strftime`'s conversions, in a zone of the IANA database
    /// (`Europe/Berlin`; UTC without one), that is written anew after `tick` seconds.
    ///
    /// # Errors
    /// The template, the zone or the tick is none.
    pub fn new(template: &str, zone: Option<&str>, tick: f64) -> Result<Self, ClockError> {
        let bytes = template.len();
        if bytes == 0 || bytes > CLOCK_TEMPLATE_BYTES_MAX {
            let limit = CLOCK_TEMPLATE_BYTES_MAX;
            return Err(ClockError::Template(format!(
                "it has {bytes} bytes; 1 to {limit} are allowed"
            )));
        }
        let zone = match zone {
            None => TimeZone::UTC,
            Some(name) => {
                TimeZone::get(name).map_err(|error| ClockError::Zone(error.to_string()))?
            }
        };
        let given = || ClockError::Tick { given: tick.to_string() };
        let tick = Duration::try_from_secs_f64(tick).map_err(|_| given())?;
        if !(CLOCK_TICK_MIN..=CLOCK_TICK_MAX).contains(&tick) {
            return Err(given());
        }
        let clock = Self { template: template.to_owned(), zone, tick };
        clock.write(Duration::ZERO).map(|_| clock)
    }

    /// When the tick began that goes on: ticks are counted from midnight by the clock's own time, so that
    /// a clock that shows minutes changes when the minute does.
    pub fn began(&self, unix: Duration) -> Duration {
        let time = Timestamp::from_second(unix.as_secs() as i64).unwrap_or_default();
        let offset = i64::from(self.zone.to_offset(time).seconds());
        let ahead = Duration::from_secs(offset.rem_euclid(DAY_SECONDS) as u64);
        let over = (unix + ahead).as_nanos() % self.tick.as_nanos();
        unix.saturating_sub(Duration::from_nanos(over as u64))
    }

    /// The time that is so long after the Unix epoch.
    ///
    /// # Errors
    /// The template holds what is no conversion.
    pub fn write(&self, unix: Duration) -> Result<String, ClockError> {
        let wrong = |error: jiff::Error| ClockError::Template(error.to_string());
        let time = Timestamp::from_second(unix.as_secs() as i64).map_err(wrong)?;
        strtime::format(&self.template, &time.to_zoned(self.zone.clone())).map_err(wrong)
    }
}

/// Whole days are whole ticks of the Unix epoch.
const DAY_SECONDS: i64 = 24 * 60 * 60;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_begin_where_the_zone_s_own_time_is_whole() {
        let at = Duration::from_millis(1_790_000_000_250);
        for (zone, tick, ago) in [
            // 14:13:20.25 UTC, 16:13:20.25 in Berlin, 19:43:20.25 in Kolkata.
            (None, 0.5, 0.25),
            (None, 1.0, 0.25),
            (None, 60.0, 20.25),
            (Some("Asia/Kolkata"), 3_600.0, 43.0 * 60.0 + 20.25),
            (Some("Europe/Berlin"), 86_400.0, 16.0 * 3_600.0 + 13.0 * 60.0 + 20.25),
            (Some("America/New_York"), 86_400.0, 10.0 * 3_600.0 + 13.0 * 60.0 + 20.25),
        ] {
            let clock = Clock::new("%H:%M", zone, tick).unwrap();
            let began = clock.began(at);
            assert_eq!(at.saturating_sub(began).as_secs_f64(), ago, "{zone:?} {tick}");
            assert_eq!(clock.began(began), began, "a tick begins with itself");
        }
    }

    #[test]
    fn a_template_writes_the_time_of_its_zone() {
        let at = Duration::from_secs(1_790_000_000);
        let utc = Clock::new(Clock::TEMPLATE, None, 1.0).unwrap();
        assert_eq!(utc.write(at).unwrap(), "It is Monday, 21 September 2026, 14:13:20 UTC.\n");
        let short = Clock::new("%H:%M", None, 60.0).unwrap();
        assert_eq!(short.write(at).unwrap(), "14:13");
    }

    #[test]
    fn what_is_no_clock_is_refused_by_name() {
        for (template, zone, tick, expected) in [
            ("", None, 1.0, "template: it has 0 bytes; 1 to 4096 are allowed"),
            ("%H", None, 0.0, "tick_seconds is 0; it must be from 0.1 to 86400"),
            ("%H", None, f64::NAN, "tick_seconds is NaN; it must be from 0.1 to 86400"),
        ] {
            let error = Clock::new(template, zone, tick).unwrap_err();
            assert_eq!(error.to_string(), expected);
        }
        assert!(matches!(Clock::new("%H", Some("No/Where"), 1.0), Err(ClockError::Zone(_))));
        assert!(matches!(Clock::new("%!", None, 1.0), Err(ClockError::Template(_))));
    }
}
