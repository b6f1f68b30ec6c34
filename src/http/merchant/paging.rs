//! Lists a page at a time: how many rows, where the page before ended, what the answer says of the next.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use ulid::Ulid;

/// Rows of a page that nobody asked to be longer or shorter.
pub(super) const DEFAULT_LIMIT: usize = 20;
const MOST: usize = 100;

/// Reads `limit` of a query into its place; `Some`: what was expected instead.
pub(super) fn read_limit(value: &str, limit: &mut usize) -> Option<&'static str> {
    match value.parse() {
        Ok(asked) if (1..=MOST).contains(&asked) => {
            *limit = asked;
            None
        }
        _ => Some("expected a whole number from 1 to 100"),
    }
}

/// Cuts rows that were read one further than asked for. Was there more?
pub(super) fn cut<T>(rows: &mut Vec<T>, limit: usize) -> bool {
    let has_more = rows.len() > limit;
    rows.truncate(limit);
    has_more
}

/// A page; `next_cursor` where there is more.
pub(super) fn list_body(data: &[Value], next_cursor: Option<&str>) -> Value {
    json!({
        "object": "list",
        "data": data,
        "has_more": next_cursor.is_some(),
        "next_cursor": next_cursor,
    })
}

/// A cursor of one kind (its first byte; another kind gets another number): the last id that was handed
/// out.
pub(super) fn ulid_cursor(version: u8, last: Ulid) -> String {
    let mut bytes = vec![version];
    bytes.extend_from_slice(&u128::from(last).to_be_bytes());
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The id in a cursor of this kind.
pub(super) fn cursor_ulid(expected: u8, text: &str) -> Option<Ulid> {
    let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
    let (version, id) = bytes.split_first()?;
    let id: [u8; 16] = id.try_into().ok()?;
    (*version == expected).then(|| Ulid::from(u128::from_be_bytes(id)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn cursors_are_read_back(version: u8, id: u128) {
            let id = Ulid::from(id);
            prop_assert_eq!(cursor_ulid(version, &ulid_cursor(version, id)), Some(id));
        }

        #[test]
        fn any_cursor_is_read_or_refused(version: u8, text: String) {
            if let Some(id) = cursor_ulid(version, &text) {
                prop_assert_eq!(ulid_cursor(version, id), text);
            }
        }
    }
}
