//! What a scraper asks for in its headers.

use std::time::Duration;

use super::page::Format;

/// The time for a scrape whose header says nothing.
const USUAL: Duration = Duration::from_secs(8);

/// The longest time that is believed.
const LONGEST: Duration = Duration::from_secs(60);

/// The format of the answer: OpenMetrics only for those that name it, and like it as much as text.
#[must_use]
pub fn format(accept: Option<&str>) -> Format {
    let (mut text, mut openmetrics) = (0.0_f32, 0.0_f32);
    for (kind, parameters, weight) in offers(accept.unwrap_or_default()) {
        let version = parameters
            .iter()
            .find_map(|word| word.strip_prefix("version="));
        match (kind.as_str(), version) {
            ("application/openmetrics-text", None | Some("1.0.0")) => {
                openmetrics = openmetrics.max(weight);
            }
            ("text/plain", None | Some("0.0.4")) | ("text/*" | "*/*", _) => text = text.max(weight),
            _ => {}
        }
    }
    if openmetrics > 0.0 && openmetrics >= text {
        Format::OpenMetrics
    } else {
        Format::Text
    }
}

/// Whether the answer may be a gzip file.
#[must_use]
pub fn gzip(accept_encoding: Option<&str>) -> bool {
    offers(accept_encoding.unwrap_or_default())
        .iter()
        .any(|(name, _, weight)| name == "gzip" && *weight > 0.0)
}

/// How long the answer may take: what `X-Prometheus-Scrape-Timeout-Seconds` says, less a tenth for the way back.
#[must_use]
pub fn time(seconds: Option<&str>) -> Duration {
    let given = seconds.and_then(|text| text.trim().parse::<f64>().ok());
    let time = given.and_then(|seconds| Duration::try_from_secs_f64(seconds * 0.9).ok());
    match time {
        Some(time) if !time.is_zero() => time.min(LONGEST),
        _ => USUAL,
    }
}

/// Each kind of a header with its parameters and its weight.
fn offers(header: &str) -> Vec<(String, Vec<String>, f32)> {
    header
        .split(',')
        .map(|offer| {
            let mut words = offer
                .split(';')
                .map(|word| word.trim().to_ascii_lowercase());
            let kind = words.next().unwrap_or_default();
            let parameters: Vec<String> = words.collect();
            let weight = parameters.iter().find_map(|word| word.strip_prefix("q="));
            let weight = weight.map_or(1.0, |text| text.parse().unwrap_or(0.0));
            (kind, parameters, weight)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn openmetrics_is_for_those_that_name_it() {
        let prometheus = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,\
                          application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;q=0.3,\
                          text/plain;version=0.0.4;q=0.2,*/*;q=0.1";
        for (accept, expected) in [
            (None, Format::Text),
            (Some("*/*"), Format::Text),
            (Some(prometheus), Format::OpenMetrics),
            (
                Some("text/plain;version=0.0.4;q=0.9, application/openmetrics-text;q=0.8"),
                Format::Text,
            ),
            (
                Some("application/openmetrics-text; version=0.0.1"),
                Format::Text,
            ),
            (
                Some("Application/OpenMetrics-Text; Version=1.0.0"),
                Format::OpenMetrics,
            ),
            (Some("application/openmetrics-text;q=0"), Format::Text),
            (Some("application/vnd.google.protobuf;q=1"), Format::Text),
            (Some(";;,q=,\u{fffd}"), Format::Text),
        ] {
            assert_eq!(format(accept), expected, "{accept:?}");
        }
    }

    #[test]
    fn gzip_is_for_those_that_take_it() {
        for (accept, expected) in [
            (None, false),
            (Some("gzip"), true),
            (Some("deflate, GZIP;q=0.5"), true),
            (Some("gzip;q=0"), false),
            (Some("identity"), false),
        ] {
            assert_eq!(gzip(accept), expected, "{accept:?}");
        }
    }

    #[test]
    fn a_tenth_of_the_scrapes_time_is_kept() {
        for (header, seconds) in [
            (None, 8.0),
            (Some("10"), 9.0),
            (Some("0.5"), 0.45),
            (Some("1e9"), 60.0),
            (Some("0"), 8.0),
            (Some("-1"), 8.0),
            (Some("NaN"), 8.0),
            (Some("inf"), 8.0),
            (Some("x"), 8.0),
        ] {
            assert_eq!(time(header), Duration::from_secs_f64(seconds), "{header:?}");
        }
    }
}
