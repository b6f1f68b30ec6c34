//! The people with wallets. Four have a face; any other name is a stranger made on demand, so that a
//! load test can bring ten thousand.

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

/// Which wallet, and thereby which provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wallet {
    Wechat,
    Alipay,
}

impl Wallet {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Wechat => "wechat",
            Self::Alipay => "alipay",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "wechat" => Some(Self::Wechat),
            "alipay" => Some(Self::Alipay),
            _ => None,
        }
    }

    /// 微信 or 支付宝.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Wechat => "微信",
            Self::Alipay => "支付宝",
        }
    }

    /// What the wallet's built-in browser calls itself.
    pub const fn user_agent(self) -> &'static str {
        match self {
            Self::Wechat => {
                "Mozilla/5.0 (Linux; Android 14; Simulated Phone) AppleWebKit/537.36 (KHTML, like Gecko) Version/4.0 Chrome/130.0.0.0 Mobile Safari/537.36 MicroMessenger/8.0.56.2800(0x28003833) NetType/WIFI Language/zh_CN"
            }
            Self::Alipay => {
                "Mozilla/5.0 (Linux; Android 14; Simulated Phone) AppleWebKit/537.36 (KHTML, like Gecko) Version/4.0 Chrome/130.0.0.0 Mobile Safari/537.36 AlipayDefined(nt:WIFI,ws:393|0|2.75) AliApp(AP/10.6.58) AlipayClient/10.6.58 Language/zh-Hans"
            }
        }
    }
}

/// The faces of the wallet page: id, wallet, name.
pub const FACES: [(&str, Wallet, &str); 4] = [
    ("zhangsan", Wallet::Wechat, "张三"),
    ("lisi", Wallet::Wechat, "李四"),
    ("wangwu", Wallet::Alipay, "王五"),
    ("zhaoliu", Wallet::Alipay, "赵六"),
];

/// Whose accounts those are, by id: card numbers of nobody, with the check digit of a real one.
const CARDS: [(&str, &str); 4] = [
    ("zhangsan", "650102199901050014"),
    ("lisi", "650102199902080020"),
    ("wangwu", "650102200003120012"),
    ("zhaoliu", "650102200104270036"),
];

const SURNAMES: [char; 8] = ['陈', '林', '黄', '吴', '刘', '马', '徐', '孙'];
const GIVEN_NAMES: [&str; 8] = [
    "子涵", "雨桐", "一诺", "浩然", "思远", "欣怡", "宇轩", "嘉宁",
];

/// Who a person is by law: what a provider knows of its account's holder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RealName {
    pub name: String,
    /// Of the resident identity card.
    pub id_number: String,
}

/// One account of one wallet. Derived from its id alone: nothing to store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person {
    pub id: String,
    pub wallet: Wallet,
}

impl Person {
    /// Ids are 1 to 40 letters, digits, `-` or `_`.
    pub fn new(wallet: Wallet, id: &str) -> Option<Self> {
        let fits = (1..=40).contains(&id.len())
            && id
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
        fits.then(|| Self {
            id: id.to_owned(),
            wallet,
        })
    }

    /// One of the four, by id alone.
    pub fn face(id: &str) -> Option<Self> {
        FACES
            .iter()
            .find(|(face, ..)| *face == id)
            .map(|(face, wallet, _)| Self {
                id: (*face).to_owned(),
                wallet: *wallet,
            })
    }

    pub fn name(&self) -> &str {
        FACES
            .iter()
            .find(|(face, wallet, _)| *face == self.id && *wallet == self.wallet)
            .map_or(&self.id, |(_, _, name)| name)
    }

    /// Whose account it is. Like everything of a person, by the id alone: one person may have both wallets.
    pub fn real_name(&self) -> RealName {
        let face = FACES.iter().find(|(face, ..)| *face == self.id);
        let card = CARDS.iter().find(|(face, _)| *face == self.id);
        if let (Some((.., name)), Some((_, number))) = (face, card) {
            return RealName {
                name: (*name).to_owned(),
                id_number: (*number).to_owned(),
            };
        }
        let hash = digest(&SHA256, format!("card|{}", self.id).as_bytes());
        let bytes = hash.as_ref();
        let surname = SURNAMES[usize::from(bytes[0]) % SURNAMES.len()];
        let given = GIVEN_NAMES[usize::from(bytes[1]) % GIVEN_NAMES.len()];
        let digits = format!(
            "6501{:02}{}{:02}{:02}{:03}",
            1 + bytes[2] % 9,
            1970 + u16::from(bytes[3]) % 40,
            1 + bytes[4] % 12,
            1 + bytes[5] % 28,
            u16::from_be_bytes([bytes[6], bytes[7]]) % 1000,
        );
        RealName {
            name: format!("{surname}{given}"),
            id_number: format!("{digits}{}", check_digit(&digits)),
        }
    }

    /// The openid under an appid: 28 characters, another one for another appid.
    pub(super) fn openid(&self, appid: &str) -> String {
        let hash = digest(&SHA256, format!("{appid}|{}", self.id).as_bytes());
        let text = URL_SAFE_NO_PAD.encode(hash.as_ref());
        format!("oSIM{}", &text[..24])
    }

    /// Alipay's 16-digit number.
    pub(super) fn buyer_id(&self) -> String {
        let hash = digest(&SHA256, format!("buyer|{}", self.id).as_bytes());
        let mut number = [0; 8];
        number.copy_from_slice(&hash.as_ref()[..8]);
        format!("2088{:012}", u64::from_be_bytes(number) % 1_000_000_000_000)
    }

    pub(super) fn alipay_open_id(&self, app_id: &str) -> String {
        let hash = digest(&SHA256, format!("{app_id}|open|{}", self.id).as_bytes());
        format!("07{}", URL_SAFE_NO_PAD.encode(hash.as_ref()))
    }

    /// Masked, as notices and queries show it.
    pub(super) fn logon_id(&self) -> String {
        let hash = digest(&SHA256, format!("logon|{}", self.id).as_bytes());
        let bytes = hash.as_ref();
        format!(
            "1{}{}******{:02}",
            3 + bytes[0] % 6,
            bytes[1] % 10,
            bytes[2] % 100
        )
    }
}

/// The last character of a resident identity card's number, from its first seventeen (GB 11643).
fn check_digit(digits: &str) -> char {
    const WEIGHTS: [u32; 17] = [7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2];
    const CHECKS: [char; 11] = ['1', '0', 'X', '9', '8', '7', '6', '5', '4', '3', '2'];
    let sum: u32 = digits
        .chars()
        .zip(WEIGHTS)
        .map(|(digit, weight)| digit.to_digit(10).unwrap_or(0) * weight)
        .sum();
    CHECKS[(sum % 11) as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_has_a_card_of_their_own() {
        let mut numbers = std::collections::BTreeSet::new();
        let strangers = (0..100).map(|n| format!("load-{n}"));
        let faces = FACES.iter().map(|(id, ..)| (*id).to_owned());
        for id in faces.chain(strangers) {
            let person = Person::new(Wallet::Wechat, &id).unwrap();
            let RealName { name, id_number } = person.real_name();
            assert!((2..=3).contains(&name.chars().count()), "{name}");
            assert_eq!(id_number.len(), 18, "{id_number}");
            assert!(id_number.ends_with(check_digit(&id_number[..17])));
            // The same human in the other wallet.
            let other = Person::new(Wallet::Alipay, &id).unwrap();
            assert_eq!(other.real_name(), person.real_name());
            assert!(numbers.insert(id_number), "{id}");
        }
        assert_eq!(check_digit("65010220000101001"), '2');
    }
}
