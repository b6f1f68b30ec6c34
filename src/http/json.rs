//! JSON from outside. First the text: one value, UTF-8, no member twice, bounded depth. Then the
//! members: a reader that collects every finding with its pointer instead of stopping at the first.

use std::cell::RefCell;
use std::fmt;

use serde::de::{self, DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::problem::{Code, FieldError, Problem};

/// How deep arrays and objects may be nested.
const MAX_DEPTH: u8 = 16;

/// Parses a body. The refusal names line and column, never the text.
pub fn parse(body: &[u8]) -> Result<Value, Problem> {
    if let Err(error) = std::str::from_utf8(body) {
        let before = &body[..error.valid_up_to()];
        let line = before.split(|byte| *byte == b'\n').count();
        let column = before
            .rsplit(|byte| *byte == b'\n')
            .next()
            .map_or(0, <[u8]>::len)
            + 1;
        return Err(malformed("the body is not UTF-8", line, column));
    }
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let parsed = Strict { depth: MAX_DEPTH }.deserialize(&mut deserializer);
    parsed
        .and_then(|value| deserializer.end().map(|()| value))
        .map_err(|error| {
            let what = match error.classify() {
                serde_json::error::Category::Eof => "the body ends too early",
                serde_json::error::Category::Data => {
                    "a member is named twice, or the nesting is too deep"
                }
                _ => "the body is not JSON",
            };
            malformed(what, error.line(), error.column())
        })
}

fn malformed(what: &str, line: usize, column: usize) -> Problem {
    Problem::new(
        Code::MalformedJson,
        format!("Expected one JSON value in UTF-8; {what} (line {line}, column {column})."),
    )
    .with("line", line)
    .with("column", column)
}

/// A value without duplicate members.
#[derive(Clone, Copy)]
struct Strict {
    depth: u8,
}

impl Strict {
    fn deeper<E: de::Error>(self) -> Result<Self, E> {
        let depth = self
            .depth
            .checked_sub(1)
            .ok_or_else(|| E::custom("too deep"))?;
        Ok(Self { depth })
    }
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: de::Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut values = Vec::new();
        while let Some(value) = access.next_element_seed(inner)? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut members = Map::new();
        while let Some(name) = access.next_key::<String>()? {
            if members.contains_key(&name) {
                return Err(de::Error::custom("named twice"));
            }
            let value = access.next_value_seed(inner)?;
            members.insert(name, value);
        }
        Ok(Value::Object(members))
    }
}

/// Everything that is wrong with one request.
#[derive(Debug, Default)]
pub struct Findings {
    found: RefCell<Vec<(Code, FieldError)>>,
}

impl Findings {
    /// A finding of the general kind.
    pub fn add(&self, pointer: impl Into<String>, detail: impl Into<String>) {
        self.add_as(Code::ValidationFailed, pointer, detail);
    }

    /// A finding with a code of its own, used where there is no general one.
    pub fn add_as(&self, code: Code, pointer: impl Into<String>, detail: impl Into<String>) {
        self.found.borrow_mut().push((
            code,
            FieldError {
                pointer: pointer.into(),
                detail: detail.into(),
            },
        ));
    }

    pub fn is_empty(&self) -> bool {
        self.found.borrow().is_empty()
    }

    /// The refusal that lists them all.
    pub fn into_problem(self) -> Option<Problem> {
        let found = self.found.into_inner();
        let code = found.iter().map(|(code, _)| *code).min_by_key(|code| {
            [Code::ValidationFailed, Code::AmountInvalid]
                .iter()
                .position(|first| first == code)
                .unwrap_or(2)
        })?;
        let errors: Vec<FieldError> = found.into_iter().map(|(_, error)| error).collect();
        let count = errors.len();
        let first = errors
            .first()
            .map(|error| format!("{}: {}", error.pointer, error.detail));
        let detail = match (count, first) {
            (1, Some(first)) => format!("One finding. {first}."),
            _ => format!("{count} findings; errors lists them all."),
        };
        Some(Problem::new(code, detail).with_errors(errors))
    }
}

/// An object being read, member by member.
#[derive(Debug)]
pub struct Object<'a> {
    members: &'a Map<String, Value>,
    pointer: String,
    findings: &'a Findings,
}

impl<'a> Object<'a> {
    /// Reads `value` as an object with no members but `known`.
    pub fn read(
        value: &'a Value,
        pointer: impl Into<String>,
        known: &[&str],
        findings: &'a Findings,
    ) -> Option<Self> {
        let pointer = pointer.into();
        let Value::Object(members) = value else {
            findings.add(
                pointer,
                format!("expected an object, found {}", kind(value)),
            );
            return None;
        };
        let object = Self {
            members,
            pointer,
            findings,
        };
        for name in members
            .keys()
            .filter(|name| !known.contains(&name.as_str()))
        {
            object.finding(
                name,
                format!("unknown member; expected one of: {}", known.join(", ")),
            );
        }
        Some(object)
    }

    pub fn pointer(&self, name: &str) -> String {
        format!(
            "{}/{}",
            self.pointer,
            name.replace('~', "~0").replace('/', "~1")
        )
    }

    pub fn finding(&self, name: &str, detail: impl Into<String>) {
        self.findings.add(self.pointer(name), detail);
    }

    pub fn findings(&self) -> &'a Findings {
        self.findings
    }

    /// A member that may be absent; `null` counts as absent.
    pub fn get(&self, name: &str) -> Option<&'a Value> {
        self.members.get(name).filter(|value| !value.is_null())
    }

    /// A member that must be there.
    pub fn require(&self, name: &str) -> Option<&'a Value> {
        let value = self.get(name);
        if value.is_none() {
            self.finding(name, "missing");
        }
        value
    }

    /// A text that may be absent.
    pub fn text(&self, name: &str, rule: Text) -> Option<String> {
        self.text_of(name, self.get(name)?, rule)
    }

    /// A text that must be there.
    pub fn required_text(&self, name: &str, rule: Text) -> Option<String> {
        self.text_of(name, self.require(name)?, rule)
    }

    fn text_of(&self, name: &str, value: &Value, rule: Text) -> Option<String> {
        let Value::String(text) = value else {
            self.finding(name, format!("expected a text, found {}", kind(value)));
            return None;
        };
        match rule.check(text) {
            Ok(()) => Some(text.clone()),
            Err(detail) => {
                self.finding(name, detail);
                None
            }
        }
    }

    /// A whole number that may be absent.
    pub fn integer(&self, name: &str, bounds: std::ops::RangeInclusive<i64>) -> Option<i64> {
        let value = self.get(name)?;
        let number = value.as_i64().filter(|number| bounds.contains(number));
        if number.is_none() {
            let (low, high) = bounds.into_inner();
            self.finding(
                name,
                format!(
                    "expected a whole number from {low} to {high}, found {}",
                    kind(value)
                ),
            );
        }
        number
    }

    /// A word of a fixed list that may be absent.
    pub fn word<T: Copy>(&self, name: &str, words: &[(&str, T)]) -> Option<T> {
        let value = self.get(name)?;
        let found = value
            .as_str()
            .and_then(|text| words.iter().find(|(word, _)| *word == text));
        if found.is_none() {
            let known: Vec<_> = words
                .iter()
                .map(|(word, _)| format!("\"{word}\""))
                .collect();
            self.finding(
                name,
                format!(
                    "expected one of {}, found {}",
                    known.join(", "),
                    other(value)
                ),
            );
        }
        found.map(|(_, meaning)| *meaning)
    }

    /// A list that may be absent, of `sizes` values.
    pub fn list(&self, name: &str, sizes: std::ops::RangeInclusive<usize>) -> Option<&'a [Value]> {
        self.list_of(name, self.get(name)?, sizes)
    }

    /// A list that must be there.
    pub fn required_list(
        &self,
        name: &str,
        sizes: std::ops::RangeInclusive<usize>,
    ) -> Option<&'a [Value]> {
        self.list_of(name, self.require(name)?, sizes)
    }

    fn list_of(
        &self,
        name: &str,
        value: &'a Value,
        sizes: std::ops::RangeInclusive<usize>,
    ) -> Option<&'a [Value]> {
        let Value::Array(values) = value else {
            self.finding(name, format!("expected a list, found {}", kind(value)));
            return None;
        };
        if !sizes.contains(&values.len()) {
            let found = values.len();
            let (low, high) = sizes.into_inner();
            self.finding(
                name,
                format!("expected {low} to {high} values, found {found}"),
            );
            return None;
        }
        Some(values)
    }
}

/// What a value is, without saying it.
pub fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(number) if number.is_f64() => "a number with a fraction or out of range",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

fn other(value: &Value) -> &'static str {
    match value {
        Value::String(_) => "another text",
        _ => kind(value),
    }
}

/// What a text may be.
#[derive(Clone, Copy, Debug)]
pub struct Text {
    most: usize,
    charset: Charset,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Charset {
    /// People read it: no control characters, nothing that reverses the direction of what follows.
    Displayed,
    /// Programs compare it: visible ASCII without blanks, so that look-alikes cannot pass.
    Id,
    /// As `Id`, of letters, digits and `_ - . : /` only.
    Number,
    /// Kept for the merchant: line feeds and tabs too.
    Kept,
}

impl Text {
    pub const fn displayed(most: usize) -> Self {
        Self {
            most,
            charset: Charset::Displayed,
        }
    }

    pub const fn id(most: usize) -> Self {
        Self {
            most,
            charset: Charset::Id,
        }
    }

    pub const fn number(most: usize) -> Self {
        Self {
            most,
            charset: Charset::Number,
        }
    }

    pub const fn kept(most: usize) -> Self {
        Self {
            most,
            charset: Charset::Kept,
        }
    }

    /// What is wrong with `text`; never repeats it.
    pub fn check(self, text: &str) -> Result<(), String> {
        let length = text.chars().count();
        if length == 0 || (self.charset != Charset::Kept && text.trim().is_empty()) {
            return if self.charset == Charset::Kept {
                Ok(())
            } else {
                Err("expected a text, found an empty one".to_owned())
            };
        }
        if length > self.most {
            return Err(format!(
                "expected at most {} characters, found {length}",
                self.most
            ));
        }
        let fault = text
            .chars()
            .enumerate()
            .find_map(|(index, letter)| Some((index + 1, self.fault(letter)?)));
        match fault {
            Some((position, fault)) => Err(format!("{fault} at character {position}")),
            None => Ok(()),
        }
    }

    fn fault(self, letter: char) -> Option<&'static str> {
        if letter.is_control()
            && !(self.charset == Charset::Kept && matches!(letter, '\n' | '\t' | '\r'))
        {
            return Some("a control character");
        }
        if reverses_direction(letter) {
            return Some("an invisible character that changes the direction of text");
        }
        match self.charset {
            Charset::Id | Charset::Number if letter.is_whitespace() => {
                Some("a blank, which is not allowed here,")
            }
            Charset::Id | Charset::Number if matches!(letter, '\u{ff01}'..='\u{ff5e}') => {
                Some("a full-width character, where its ASCII form is expected,")
            }
            Charset::Id if !letter.is_ascii_graphic() => {
                Some("a character outside ASCII, which is not allowed here,")
            }
            Charset::Number
                if !(letter.is_ascii_alphanumeric()
                    || matches!(letter, '_' | '-' | '.' | ':' | '/')) =>
            {
                Some("a character other than letters, digits and _ - . : /")
            }
            _ => None,
        }
    }
}

/// Bidirectional embeddings, overrides, isolates and marks, and the line separators.
const fn reverses_direction(letter: char) -> bool {
    matches!(
        letter,
        '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn refusal(body: &[u8]) -> (Code, String) {
        let problem = parse(body).unwrap_err();
        (problem.code(), problem.detail().to_owned())
    }

    #[test]
    fn one_value_in_utf8_and_nothing_twice() {
        assert_eq!(parse(br#"{"a":[1,"x",null,true]}"#).unwrap()["a"][0], 1);
        let (code, detail) = refusal(b"{\n \"a\": 1,\n \"a\": 2}");
        assert_eq!(code, Code::MalformedJson);
        assert!(detail.contains("line 3"), "{detail}");
        for body in [
            &b"{} {}"[..],
            b"",
            b"{\"a\":",
            b"{\"a\":\xff}",
            b"[1,]",
            br#""\ud800""#,
        ] {
            assert_eq!(refusal(body).0, Code::MalformedJson);
        }
        assert!(!refusal(br#"{"id_number": 6501}{"#).1.contains("6501"));
    }

    #[test]
    fn depth_is_bounded() {
        let deep = |depth: usize| [vec![b'['; depth], vec![b']'; depth]].concat();
        assert!(parse(&deep(16)).is_ok());
        assert!(parse(&deep(17)).is_err());
        assert!(parse(&vec![b'['; 60_000]).is_err());
    }

    #[test]
    fn texts_keep_to_their_characters() {
        assert!(Text::displayed(4).check("测试考生").is_ok());
        assert!(Text::displayed(3).check("测试考生").is_err());
        assert!(
            Text::displayed(9)
                .check("a\u{202e}b")
                .unwrap_err()
                .contains("direction")
        );
        assert!(Text::displayed(9).check("a\u{7}b").is_err());
        assert!(
            Text::id(9)
                .check("１23")
                .unwrap_err()
                .contains("full-width")
        );
        assert!(Text::id(9).check("12 3").unwrap_err().contains("blank"));
        assert!(Text::number(9).check("A-1/2").is_ok());
        assert!(Text::kept(9).check("a\nb").is_ok());
    }

    proptest! {
        #[test]
        fn accepts_what_it_accepts_and_never_panics(body: Vec<u8>) {
            if let Ok(value) = parse(&body) {
                prop_assert_eq!(parse(value.to_string().as_bytes()).unwrap(), value);
            }
        }
    }
}
