//! Values from the environment are texts: numbers, switches and lists may be written as such.

use std::fmt::Display;
use std::str::FromStr;

use serde::de::{Deserialize, Deserializer, Error};

#[derive(serde::Deserialize)]
#[serde(untagged)]
enum Loose {
    Bool(bool),
    Number(i64),
    Text(String),
    List(Vec<String>),
}

impl Loose {
    fn text(self) -> Option<String> {
        match self {
            Self::Bool(value) => Some(value.to_string()),
            Self::Number(value) => Some(value.to_string()),
            Self::Text(value) => Some(value),
            Self::List(_) => None,
        }
    }
}

/// A number, a switch or anything else that has one plain spelling.
pub(super) fn plain<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr,
    T::Err: Display,
{
    let text = Loose::deserialize(deserializer)?
        .text()
        .ok_or_else(|| D::Error::custom("a list, expected one value"))?;
    text.parse()
        .map_err(|error| D::Error::custom(format!("{text:?}, expected a fitting value ({error})")))
}

/// As [`plain`]; an empty text is nothing.
pub(super) fn optional<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr,
    T::Err: Display,
{
    let Some(text) = Option::<Loose>::deserialize(deserializer)?.and_then(Loose::text) else {
        return Ok(None);
    };
    if text.is_empty() {
        return Ok(None);
    }
    text.parse()
        .map(Some)
        .map_err(|error| D::Error::custom(format!("{text:?}, expected a fitting value ({error})")))
}

/// A list, or a text with commas.
pub(super) fn list<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr,
    T::Err: Display,
{
    #[derive(serde::Deserialize)]
    #[serde(untagged)]
    enum Items {
        Many(Vec<Loose>),
        One(Loose),
    }
    let items: Vec<String> = match Items::deserialize(deserializer)? {
        Items::Many(items) => items.into_iter().filter_map(Loose::text).collect(),
        Items::One(Loose::List(items)) => items,
        Items::One(other) => other
            .text()
            .unwrap_or_default()
            .split(',')
            .map(|item| item.trim().to_owned())
            .filter(|item| !item.is_empty())
            .collect(),
    };
    items
        .into_iter()
        .map(|item| {
            item.parse().map_err(|error| {
                D::Error::custom(format!(
                    "{item:?}, expected a list of fitting values ({error})"
                ))
            })
        })
        .collect()
}

/// `+08:00` as minutes east of UTC.
pub(super) fn zone<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i32, D::Error> {
    let text = String::deserialize(deserializer)?;
    let parse = || {
        let (sign, rest) = match text.split_at_checked(1)? {
            ("+", rest) => (1, rest),
            ("-", rest) => (-1, rest),
            _ => return None,
        };
        let (hours, minutes) = rest.split_once(':')?;
        let (hours, minutes): (i32, i32) = (hours.parse().ok()?, minutes.parse().ok()?);
        (hours <= 14 && (0..60).contains(&minutes) && hours >= 0)
            .then_some(sign * (hours * 60 + minutes))
    };
    parse()
        .ok_or_else(|| D::Error::custom(format!("{text:?}, expected an offset such as \"+08:00\"")))
}
