//! The date that templates may write into the system turn. Time is an input.

/// A day, for templates that call `strftime_now`.
///
/// The default is the day that Llama's templates fall back to: a date that changes would make
/// every cached root a different one each day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Date {
    /// Year of the common era.
    pub year: u32,
    /// 1 to 12.
    pub month: u32,
    /// 1 to 31.
    pub day: u32,
}

impl Default for Date {
    fn default() -> Self {
        Self { year: 2024, month: 7, day: 26 }
    }
}

impl Date {
    /// Python's `strftime` for midnight of this day; what it does not know stays as it is.
    pub(super) fn format(self, format: &str) -> String {
        let mut out = String::new();
        let mut letters = format.chars();
        while let Some(letter) = letters.next() {
            let code = if letter == '%' { letters.next() } else { None };
            match code {
                None => out.push(letter),
                Some(code) => out.push_str(&self.field(code)),
            }
        }
        out
    }

    fn field(self, code: char) -> String {
        let Self { year, month, day } = self;
        let name = MONTHS[(month.clamp(1, 12) - 1) as usize];
        match code {
            'Y' => year.to_string(),
            'y' => format!("{:02}", year % 100),
            'm' => format!("{month:02}"),
            'd' => format!("{day:02}"),
            'B' => name.into(),
            'b' => name[..3].into(),
            'A' => self.weekday().into(),
            'a' => self.weekday()[..3].into(),
            'H' | 'M' | 'S' => "00".into(),
            '%' => "%".into(),
            other => format!("%{other}"),
        }
    }

    /// Sakamoto's method: <https://en.wikipedia.org/wiki/Determination_of_the_day_of_the_week>.
    fn weekday(self) -> &'static str {
        let shift = [0, 3, 2, 5, 0, 3, 5, 1, 4, 6, 2, 4][(self.month.clamp(1, 12) - 1) as usize];
        let year = self.year - u32::from(self.month < 3 && self.year > 0);
        WEEKDAYS[((year + year / 4 - year / 100 + year / 400 + shift + self.day) % 7) as usize]
    }
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const WEEKDAYS: [&str; 7] =
    ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
