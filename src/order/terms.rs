//! What an order is about and under which rules it is paid: frozen when it is created.

use serde::{Deserialize, Serialize};

use super::ids::{AccountId, MerchantId};
use super::money::Fen;
use super::time::Timestamp;

/// What the student pays with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
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
}

/// How a provider is asked for a trade. One attempt keeps one product for its whole life: `WeChat`
/// refuses a number on a second trade type, Alipay for a second buyer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Product {
    /// Inside `WeChat`, by the payer's openid.
    WechatJsapi,
    /// `WeChat`'s own code (native mode).
    WechatNative,
    /// A phone browser outside `WeChat`.
    WechatH5,
    /// Inside Alipay: `alipay.trade.create` for one buyer, then `tradePay`.
    AlipayCreate,
    /// A phone browser: a signed link that cannot be withdrawn.
    AlipayWap,
    /// Alipay's own code (native mode); no trade exists before its scan.
    AlipayPrecreate,
}

impl Product {
    pub const fn wallet(self) -> Wallet {
        match self {
            Self::WechatJsapi | Self::WechatNative | Self::WechatH5 => Wallet::Wechat,
            Self::AlipayCreate | Self::AlipayWap | Self::AlipayPrecreate => Wallet::Alipay,
        }
    }

    /// A link or code once handed out makes its trade when the payer opens it: until its
    /// `time_expire` is past, "trade does not exist" means *still payable* (contract §1).
    pub const fn trade_appears_later(self) -> bool {
        matches!(self, Self::AlipayWap | Self::AlipayPrecreate)
    }

    /// The provider's own code: shown without a claim.
    pub const fn is_native(self) -> bool {
        matches!(self, Self::WechatNative | Self::AlipayPrecreate)
    }
}

/// Which code an account shows: ours for both wallets, or the provider's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CodeMode {
    Unified,
    Native,
}

/// One account that may take this order's money, as it was configured when the order was made.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Offer {
    pub wallet: Wallet,
    pub account: AccountId,
    /// `appid` or `app_id`: a capture must name it (M3).
    pub application: Box<str>,
}

/// What becomes of money whose success time is after the deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LatePayment {
    Refund,
    Accept {
        /// How long after `pay_before` a success still pays.
        grace_ms: i64,
    },
}

/// The frozen conditions that the state machine decides by. Texts and people are not in it: they
/// stand in the snapshot beside it (`store::OrderSnapshot`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Terms {
    pub merchant: MerchantId,
    pub amount: Fen,
    pub pay_before: Option<Timestamp>,
    pub late_payment: LatePayment,
    pub mode: CodeMode,
    /// At least one, at most one per wallet.
    pub offers: Vec<Offer>,
    /// How long one code lives (`order.qr_seconds`), in milliseconds.
    pub qr_ms: i64,
}

impl Terms {
    pub fn offer(&self, wallet: Wallet) -> Option<&Offer> {
        self.offers.iter().find(|offer| offer.wallet == wallet)
    }

    /// When an order that nobody paid closes: the deadline, and the grace after it where late money
    /// is accepted. The grace extends acceptance, not attempts.
    pub fn closes_at(&self) -> Option<Timestamp> {
        let grace_ms = match self.late_payment {
            LatePayment::Refund => 0,
            LatePayment::Accept { grace_ms } => grace_ms,
        };
        self.pay_before.map(|deadline| deadline.plus_ms(grace_ms))
    }

    /// Is money that the provider took at `succeeded_at` in time? Equal is in time.
    pub fn in_time(&self, succeeded_at: Timestamp) -> bool {
        self.closes_at().is_none_or(|end| succeeded_at <= end)
    }
}
