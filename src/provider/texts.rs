//! Free texts on their way to a provider: cut to size, without what it refuses, and without numbers
//! that look like a bank card's (reliability §5: no card data passes here).

/// Keeps whole characters, drops control characters and those of four UTF-8 bytes (both providers
/// refuse them), masks card-like numbers, then cuts at `limit` characters.
pub fn clean(text: &str, limit: usize) -> String {
    let plain: String = text
        .chars()
        .filter(|character| !character.is_control() && character.len_utf8() < 4)
        .collect();
    let masked = mask_cards(&plain);
    let cut: String = masked.trim().chars().take(limit).collect();
    cut.trim_end().to_owned()
}

/// Runs of 13 to 19 digits (single blanks or hyphens between them allowed) that pass the Luhn check,
/// all but the last four digits starred. Counted, never refused: one id number in ten passes it too.
fn mask_cards(text: &str) -> String {
    let mut characters: Vec<char> = text.chars().collect();
    let mut found = 0_u64;
    let mut start = 0;
    while start < characters.len() {
        if !characters[start].is_ascii_digit() {
            start += 1;
            continue;
        }
        let digits = run_of_digits(&characters, start);
        let end = digits.last().map_or(start + 1, |last| last + 1);
        // A grouped run may be several numbers side by side: judge the whole, then its unbroken parts.
        if is_card_like(&characters, &digits) {
            found += star(&mut characters, &digits);
        } else {
            for part in digits.chunk_by(|left, right| left + 1 == *right) {
                if is_card_like(&characters, part) {
                    found += star(&mut characters, part);
                }
            }
        }
        start = end;
    }
    if found > 0 {
        metrics::counter!("enrollpay_card_like_texts_total").increment(1);
    }
    characters.into_iter().collect()
}

/// The positions of the digits of one run: adjacent, or with one blank or hyphen between.
fn run_of_digits(characters: &[char], start: usize) -> Vec<usize> {
    let is_digit = |position: usize| characters.get(position).is_some_and(char::is_ascii_digit);
    let mut digits = vec![start];
    let mut at = start;
    loop {
        let separated = matches!(characters.get(at + 1), Some(' ' | '-')) && is_digit(at + 2);
        at = if is_digit(at + 1) {
            at + 1
        } else if separated {
            at + 2
        } else {
            return digits;
        };
        digits.push(at);
    }
}

fn star(characters: &mut [char], digits: &[usize]) -> u64 {
    for &position in &digits[..digits.len().saturating_sub(4)] {
        characters[position] = '*';
    }
    1
}

fn is_card_like(characters: &[char], digits: &[usize]) -> bool {
    (13..=19).contains(&digits.len()) && passes_luhn(characters, digits)
}

fn passes_luhn(characters: &[char], digits: &[usize]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(index, &position)| {
            let digit = characters[position].to_digit(10).unwrap_or_default();
            match (index % 2, digit) {
                (0, digit) => digit,
                (_, digit) if digit > 4 => digit * 2 - 9,
                (_, digit) => digit * 2,
            }
        })
        .sum();
    sum.is_multiple_of(10)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn masks_what_looks_like_a_card() {
        for (given, sent) in [
            ("卡 4111111111111111 缴费", "卡 ************1111 缴费"),
            ("4111 1111 1111 1111", "**** **** **** 1111"),
            ("4111-1111-1111-1111", "****-****-****-1111"),
            ("2026 4111111111111111", "2026 ************1111"),
            ("4111111111111112", "4111111111111112"),
            ("学号 202601010001", "学号 202601010001"),
        ] {
            assert_eq!(clean(given, 127), sent);
        }
    }

    #[test]
    fn cuts_whole_characters_and_drops_what_is_refused() {
        assert_eq!(clean("报名费🎓2026\u{0}\n春", 127), "报名费2026春");
        assert_eq!(clean(&"学".repeat(200), 127).chars().count(), 127);
        assert_eq!(clean(" 学费 ", 127), "学费");
    }

    proptest! {
        #[test]
        fn never_longer_never_four_bytes(text: String, limit in 1_usize..300) {
            let cleaned = clean(&text, limit);
            prop_assert!(cleaned.chars().count() <= limit);
            prop_assert!(cleaned.chars().all(|character| character.len_utf8() < 4));
        }

        #[test]
        fn digits_never_panic(text in "[0-9 -]{0,60}") {
            clean(&text, 127);
        }
    }
}
