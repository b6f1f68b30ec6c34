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
