//! Amounts in the capitals of Chinese vouchers, by the rules for filling in bills and settlement vouchers
//! (正确填写票据和结算凭证的基本规定, §2 and §3): zeros between figures are one 零, 整 follows where no fen do.

use crate::order::Fen;

const FIGURES: [char; 10] = ['零', '壹', '贰', '叁', '肆', '伍', '陆', '柒', '捌', '玖'];

/// `14000` fen is 壹佰肆拾元整. Below nothing: as if above it.
pub fn capitals(amount: Fen) -> String {
    let fen = amount.get().unsigned_abs();
    let (yuan, jiao, fen) = (fen / 100, fen / 10 % 10, fen % 10);
    let mut text = String::new();
    if yuan > 0 || (jiao, fen) == (0, 0) {
        write_whole(&mut text, yuan);
        text.push('元');
    }
    match (jiao, fen) {
        (0, 0) => text.push('整'),
        (_, 0) => text.extend([figure(jiao), '角', '整']),
        (0, _) => {
            if yuan > 0 {
                text.push('零');
            }
            text.extend([figure(fen), '分']);
        }
        _ => text.extend([figure(jiao), '角', figure(fen), '分']),
    }
    text
}

fn figure(value: u64) -> char {
    let index = usize::try_from(value % 10).unwrap_or_default();
    FIGURES[index]
}

/// A whole number, four figures to a group.
fn write_whole(text: &mut String, number: u64) {
    if number == 0 {
        text.push(figure(0));
        return;
    }
    let mut zeros = false;
    for place in (0..=number.ilog10()).rev() {
        let above = number / 10_u64.pow(place);
        let here = above % 10;
        if here == 0 {
            zeros = true;
        } else {
            if zeros {
                text.push(figure(0));
            }
            zeros = false;
            text.push(figure(here));
            text.push_str(["", "拾", "佰", "仟"][place as usize % 4]);
        }
        // 万 counts its own four figures, 亿 all that stands before it.
        match place {
            0 => {}
            _ if place % 8 == 0 => text.push('亿'),
            _ if place % 4 == 0 && !above.is_multiple_of(10_000) => text.push('万'),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn amounts_in_capitals() {
        for (amount, expected) in [
            // The examples of the rules themselves.
            ("1409.50", "壹仟肆佰零玖元伍角整"),
            ("6007.14", "陆仟零柒元壹角肆分"),
            ("1680.32", "壹仟陆佰捌拾元叁角贰分"),
            ("107000.53", "壹拾万零柒仟元伍角叁分"),
            ("16409.02", "壹万陆仟肆佰零玖元零贰分"),
            ("325.04", "叁佰贰拾伍元零肆分"),
            // What fees are.
            ("140.00", "壹佰肆拾元整"),
            ("1005.00", "壹仟零伍元整"),
            ("123.45", "壹佰贰拾叁元肆角伍分"),
            ("100.05", "壹佰元零伍分"),
            ("10.00", "壹拾元整"),
            ("19.90", "壹拾玖元玖角整"),
            // Less than a yuan.
            ("0.00", "零元整"),
            ("0.01", "壹分"),
            ("0.05", "伍分"),
            ("0.30", "叁角整"),
            ("0.35", "叁角伍分"),
            // Zeros within, at the end of and across groups.
            ("1001.00", "壹仟零壹元整"),
            ("10000.00", "壹万元整"),
            ("10001.00", "壹万零壹元整"),
            ("10010.00", "壹万零壹拾元整"),
            ("100000.00", "壹拾万元整"),
            ("120100.50", "壹拾贰万零壹佰元伍角整"),
            ("1000100.00", "壹佰万零壹佰元整"),
            ("10000000.00", "壹仟万元整"),
            ("10001000.00", "壹仟万零壹仟元整"),
            ("100000000.00", "壹亿元整"),
            ("100000001.00", "壹亿零壹元整"),
            ("100010000.00", "壹亿零壹万元整"),
            ("120000000.00", "壹亿贰仟万元整"),
            ("1000000000.00", "壹拾亿元整"),
            (
                "9876543210.98",
                "玖拾捌亿柒仟陆佰伍拾肆万叁仟贰佰壹拾元玖角捌分",
            ),
            ("10000000000.00", "壹佰亿元整"),
            ("10000000000.01", "壹佰亿元零壹分"),
        ] {
            assert_eq!(
                capitals(Fen::from_yuan(amount).unwrap()),
                expected,
                "{amount}"
            );
        }
    }

    /// Reads capitals back, by other means than they were written.
    fn read(text: &str) -> Option<i64> {
        let (mut sum, mut hundred_million, mut ten_thousand, mut small, mut last) =
            (0_i64, 0, 0, 0, 0);
        for letter in text.chars() {
            let value = FIGURES.iter().position(|known| *known == letter);
            match (letter, value) {
                (_, Some(value)) => last = i64::try_from(value).ok()?,
                ('拾', _) => small += std::mem::take(&mut last) * 10,
                ('佰', _) => small += std::mem::take(&mut last) * 100,
                ('仟', _) => small += std::mem::take(&mut last) * 1_000,
                ('万', _) => {
                    ten_thousand = std::mem::take(&mut small) + std::mem::take(&mut last);
                }
                ('亿', _) => {
                    let before = std::mem::take(&mut small) + std::mem::take(&mut last);
                    hundred_million = std::mem::take(&mut ten_thousand) * 10_000 + before;
                }
                ('元', _) => {
                    let whole =
                        hundred_million * 100_000_000 + ten_thousand * 10_000 + small + last;
                    sum += whole * 100;
                    last = 0;
                }
                ('角', _) => sum += std::mem::take(&mut last) * 10,
                ('分', _) => sum += std::mem::take(&mut last),
                ('整', _) => {}
                _ => return None,
            }
        }
        Some(sum)
    }

    proptest! {
        #[test]
        fn every_amount_reads_back_and_has_no_zeros_in_a_row(fen in 0_i64..=1_000_000_000_000) {
            let text = capitals(Fen::new(fen));
            prop_assert_eq!(read(&text), Some(fen), "{}", text);
            prop_assert!(!text.contains("零零") && (fen == 0 || !text.contains("零元")), "{}", text);
            prop_assert_eq!(text.ends_with('整'), fen % 10 == 0, "{}", text);
        }
    }
}
