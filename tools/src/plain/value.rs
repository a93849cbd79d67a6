//! Values of fields: sanitization by input type (HTML standard, 4.10.5.1), and values as numbers.

/// Replaces CR LF and CR by LF, as a field's value has them.
pub(crate) fn normalize_newlines(text: &str) -> String {
    text.replace("\r\n", "\n").replace('\r', "\n")
}

/// Returns the value that an input of this type keeps when it is set to `value`. `attribute` reads the input's other attributes.
pub(crate) fn sanitize<'a>(kind: &str, value: &str, attribute: impl Fn(&str) -> Option<&'a str>) -> String {
    let line = || value.replace(['\r', '\n'], "");
    let ascii = |c: char| matches!(c, ' ' | '\t' | '\n' | '\r' | '\x0c');
    let valid = |holds: bool| if holds { value.to_owned() } else { String::new() };
    match kind {
        "text" | "search" | "tel" | "password" => line(),
        "url" => line().trim_matches(ascii).to_owned(),
        "email" if attribute("multiple").is_some() => line().split(',').map(|part| part.trim_matches(ascii)).collect::<Vec<_>>().join(","),
        "email" => line().trim_matches(ascii).to_owned(),
        "number" => valid(number(value).is_some()),
        "date" => valid(days(value).is_some()),
        "time" => valid(seconds(value).is_some()),
        "month" => valid(months(value).is_some()),
        "week" => valid(weeks(value).is_some()),
        "datetime-local" => local_date_time(value),
        "color" => {
            let hex = value.strip_prefix('#').filter(|hex| hex.len() == 6 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()));
            hex.map_or_else(|| "#000000".to_owned(), |hex| format!("#{}", hex.to_ascii_lowercase()))
        }
        "range" => range(value, attribute),
        "file" => String::new(),
        _ => value.to_owned(),
    }
}

/// Parses a valid floating-point number of HTML.
pub(crate) fn number(text: &str) -> Option<f64> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let (mantissa, exponent) = match digits.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (digits, None),
    };
    let all_digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let mantissa_holds = match mantissa.split_once('.') {
        Some((whole, fraction)) => (whole.is_empty() || all_digits(whole)) && all_digits(fraction),
        None => all_digits(mantissa),
    };
    let exponent_holds = exponent.is_none_or(|part| all_digits(part.strip_prefix(['+', '-']).unwrap_or(part)));
    (mantissa_holds && exponent_holds).then(|| text.parse().ok()).flatten().filter(|value: &f64| value.is_finite())
}

/// Returns a field's value as a number on the scale of its type: days, seconds, months, weeks, or the number itself.
pub(crate) fn value_as_number(kind: &str, text: &str) -> Option<f64> {
    match kind {
        "number" | "range" => number(text),
        "date" => days(text),
        "time" => seconds(text),
        "month" => months(text),
        "week" => weeks(text),
        "datetime-local" => {
            let (date, time) = text.split_once(['T', ' '])?;
            Some(days(date)? * 86_400.0 + seconds(time)?)
        }
        _ => None,
    }
}

/// Parses a number of at least `least` decimal digits.
fn digits(text: &str, least: usize) -> Option<i64> {
    (text.len() >= least && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok()).flatten()
}

/// Parses a number of exactly `length` decimal digits.
fn exact_digits(text: &str, length: usize) -> Option<i64> {
    digits(text, length).filter(|_| text.len() == length)
}

/// Parses a month such as `2024-05`.
fn year_month(text: &str) -> Option<(i64, i64)> {
    let (year, month) = text.split_once('-')?;
    let (year, month) = (digits(year, 4)?, exact_digits(month, 2)?);
    (year > 0 && year <= 275_760 && (1..=12).contains(&month)).then_some((year, month))
}

/// Parses a month such as `2024-05` into months since January 1970.
fn months(text: &str) -> Option<f64> {
    year_month(text).map(|(year, month)| ((year - 1970) * 12 + month - 1) as f64)
}

/// Returns the days since 1970-01-01 of a date (Hinnant, `days_from_civil`).
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year - era * 400;
    let of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// Parses a date such as `2024-02-29` into days since 1970-01-01.
fn days(text: &str) -> Option<f64> {
    let (front, day) = text.rsplit_once('-')?;
    let ((year, month), day) = (year_month(front)?, exact_digits(day, 2)?);
    let (next_year, next_month) = if month == 12 { (year + 1, 1) } else { (year, month + 1) };
    let length = days_from_civil(next_year, next_month, 1) - days_from_civil(year, month, 1);
    (1..=length).contains(&day).then(|| days_from_civil(year, month, day) as f64)
}

/// Parses a week such as `2024-W01` into weeks since the week of 1970-01-01.
fn weeks(text: &str) -> Option<f64> {
    let (year, week) = text.split_once("-W")?;
    let (year, week) = (digits(year, 4).filter(|&year| year > 0)?, exact_digits(week, 2)?);
    // Week 1 contains 4 January; weeks begin on Monday, and 1970-01-01 was a Thursday.
    let first = |year| (days_from_civil(year, 1, 4) + 3).div_euclid(7);
    (1..=first(year + 1) - first(year)).contains(&week).then(|| (first(year) + week - 1) as f64)
}

/// Parses a time such as `10:30` or `10:30:05.5` into seconds since midnight.
fn seconds(text: &str) -> Option<f64> {
    let mut parts = text.split(':');
    let (hours, minutes, rest) = (exact_digits(parts.next()?, 2)?, exact_digits(parts.next()?, 2)?, parts.next());
    let seconds = match rest {
        None => 0.0,
        Some(rest) => {
            let (whole, fraction) = rest.split_once('.').unwrap_or((rest, "0"));
            let fraction = digits(fraction, 1).filter(|_| fraction.len() <= 3).map(|_| format!("0.{fraction}"))?;
            exact_digits(whole, 2).filter(|&whole| whole < 60)? as f64 + fraction.parse::<f64>().ok()?
        }
    };
    (parts.next().is_none() && hours < 24 && minutes < 60).then_some((hours * 3600 + minutes * 60) as f64 + seconds)
}

/// Normalises a local date and time: with a `T` in between, with seconds only where they are not zero; empty where it is invalid.
fn local_date_time(text: &str) -> String {
    let Some((date, time)) = text.split_once(['T', ' ']) else { return String::new() };
    match (days(date), seconds(time)) {
        (Some(_), Some(at)) if at % 60.0 == 0.0 => format!("{date}T{}", &time[..5]),
        (Some(_), Some(_)) => {
            format!("{date}T{}", if time.contains('.') { time.trim_end_matches('0').trim_end_matches('.') } else { time })
        }
        _ => String::new(),
    }
}

/// Returns the value of a slider that is set to `value`: within `min` and `max`, on a multiple of `step`.
fn range<'a>(value: &str, attribute: impl Fn(&str) -> Option<&'a str>) -> String {
    let bound = |name, default| attribute(name).and_then(number).unwrap_or(default);
    let (least, most) = (bound("min", 0.0), bound("max", 100.0));
    let middle = if most < least { least } else { least + (most - least) / 2.0 };
    let value = number(value).unwrap_or(middle).min(most.max(least)).max(least);
    match attribute("step") {
        Some("any") => value.to_string(),
        step => {
            let step = step.and_then(number).filter(|&step| step > 0.0).unwrap_or(1.0);
            let mut stepped = least + ((value - least) / step).round() * step;
            if stepped > most {
                stepped -= step;
            }
            stepped.max(least).to_string()
        }
    }
}
