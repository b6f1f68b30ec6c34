//! Why a payer is turned away, or somebody at the merchant's console.

use crate::simulator::people::Wallet;

/// Why nothing is done. The text is what the phone, or the console, shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("二维码无效或订单不存在")]
    Unknown,
    #[error("二维码已失效，请商家重新生成")]
    CodeDead,
    #[error("订单已超过支付时间")]
    Expired,
    #[error("订单已关闭")]
    Closed,
    #[error("订单已支付，请勿重复支付")]
    Paid,
    #[error("商家订单信息有误，请重新下单支付（该订单属于另一个账号）")]
    OtherPayer,
    #[error("付款账户实名信息与商户指定的付款人不一致")]
    OtherPerson,
    #[error("请使用{}扫码", if *.0 == Wallet::Wechat { "微信" } else { "支付宝" })]
    OtherWallet(Wallet),
    #[error("支付未在订单有效期内开始")]
    NotBegun,
    #[error("订单未支付")]
    NotPaid,
    #[error("退款金额须大于零且不超过可退金额")]
    TooMuch,
    #[error("该单号已被使用")]
    NumberUsed,
    #[error("金额与订单不一致")]
    OtherAmount,
}

impl Refusal {
    pub const fn code(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::CodeDead => "code_dead",
            Self::Expired => "expired",
            Self::Closed => "closed",
            Self::Paid => "already_paid",
            Self::OtherPayer => "other_payer",
            Self::OtherPerson => "other_person",
            Self::OtherWallet(_) => "other_wallet",
            Self::NotBegun => "not_begun",
            Self::NotPaid => "not_paid",
            Self::TooMuch => "too_much",
            Self::NumberUsed => "number_used",
            Self::OtherAmount => "other_amount",
        }
    }
}
