//! Where a reader of `GET /v1/events` stands. The store's positions are numbers for all merchants
//! together; a cursor hides its own, is bound to its merchant and cannot be made up.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::order::MerchantId;
use crate::sealing::Sealer;

/// The first byte of a cursor: list_orders has number 1.
const VERSION: u8 = 2;

/// The cursor of a position: the same every time.
pub fn write(sealer: &Sealer, merchant: MerchantId, position: u64) -> String {
    let tag = tag(sealer, merchant, position);
    let mut bytes = vec![VERSION];
    bytes.extend_from_slice(&tag.to_be_bytes());
    bytes.extend_from_slice(&(position ^ mask(sealer, tag)).to_be_bytes());
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The position of a cursor that [`write()`] made for this merchant.
pub fn read(sealer: &Sealer, merchant: MerchantId, text: &str) -> Option<u64> {
    let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
    let (version, rest) = bytes.split_first()?;
    let (tag_bytes, hidden) = rest.split_first_chunk::<16>()?;
    let hidden: [u8; 8] = hidden.try_into().ok()?;
    let given = u128::from_be_bytes(*tag_bytes);
    let position = u64::from_be_bytes(hidden) ^ mask(sealer, given);
    (*version == VERSION && given == tag(sealer, merchant, position)).then_some(position)
}

fn tag(sealer: &Sealer, merchant: MerchantId, position: u64) -> u128 {
    sealer.index("event_cursor", &format!("{merchant}/{position}"))
}

/// What the position is hidden under: a keyed function of the tag, which no two positions share.
fn mask(sealer: &Sealer, tag: u128) -> u64 {
    let keyed = sealer.index("event_cursor.mask", &format!("{tag:032x}"));
    u64::try_from(keyed >> 64).expect("the upper half of 128 bits")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;
    use ulid::Ulid;

    use super::*;
    use crate::random::SeededRandom;

    fn sealer() -> Sealer {
        let random = Arc::new(SeededRandom::new(7));
        Sealer::new(&[(1, [1; 32])], &[2; 32], &[3; 32], random)
    }

    fn merchant(number: u128) -> MerchantId {
        MerchantId::from_ulid(Ulid(number))
    }

    #[test]
    fn a_cursor_of_another_merchant_or_a_changed_one_is_none() {
        let sealer = sealer();
        let cursor = write(&sealer, merchant(1), 7);
        assert_eq!(read(&sealer, merchant(1), &cursor), Some(7));
        assert_eq!(read(&sealer, merchant(2), &cursor), None);
        for place in 0..cursor.len() {
            let mut changed = cursor.clone().into_bytes();
            changed[place] = if changed[place] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            assert_eq!(read(&sealer, merchant(1), &changed), None, "{place}");
        }
    }

    proptest! {
        #[test]
        fn cursors_are_read_back_and_hide_their_number(position: u64) {
            let sealer = sealer();
            let cursor = write(&sealer, merchant(1), position);
            prop_assert_eq!(read(&sealer, merchant(1), &cursor), Some(position));
            let bytes = URL_SAFE_NO_PAD.decode(&cursor).unwrap();
            prop_assert!(!bytes.ends_with(&position.to_be_bytes()));
        }

        #[test]
        fn no_text_panics(text: String) {
            prop_assert_eq!(read(&sealer(), merchant(1), &text), None);
        }
    }
}
