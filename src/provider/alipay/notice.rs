//! Alipay's notices (protocol §1.4, §2.10, §3.7): the form's bytes are verified first, read afterwards.
//! They carry no age: an old, validly signed one is a fact like any other.

use std::collections::BTreeMap;

use encoding_rs::{Encoding, GB18030, GBK, UTF_8};

use super::settings::Checked;
use super::sign;
use crate::order::{Fen, RefundAnswer};
use crate::provider::{Notice, NoticeError, RefundNews, Success, beijing};

pub const ACKNOWLEDGEMENT: (u16, &str, &str) = (200, "text/plain; charset=utf-8", "success");
pub const REFUSAL: (&str, &str) = ("text/plain; charset=utf-8", "fail");

pub fn read(settings: &Checked, body: &[u8]) -> Result<Notice, NoticeError> {
    let form = sign::decode_form(body).ok_or(NoticeError::BadSignature)?;
    let signature = form
        .get(&b"sign"[..])
        .filter(|value| !value.is_empty())
        .ok_or(NoticeError::Missing { what: "sign" })?;
    let charset = form
        .get(&b"charset"[..])
        .filter(|value| !value.is_empty())
        .ok_or(NoticeError::Missing { what: "charset" })?;
    let signature = std::str::from_utf8(signature).map_err(|_| NoticeError::BadSignature)?;
    if !settings
        .alipay_key
        .verifies(&sign::notice_message(&form), signature)
    {
        return Err(NoticeError::BadSignature);
    }
    let fields = Fields::decode(&form, charset)?;
    if fields.get("app_id") != Some(&settings.app_id) {
        return Err(NoticeError::Foreign);
    }
    if let Some(ours) = &settings.seller_id
        && fields.get("seller_id") != Some(ours)
    {
        return Err(NoticeError::Foreign);
    }
    fields.judge()
}

/// The parameters as text, empty ones left out.
struct Fields(BTreeMap<String, String>);

impl Fields {
    fn decode(form: &BTreeMap<Vec<u8>, Vec<u8>>, charset: &[u8]) -> Result<Self, NoticeError> {
        let encoding = Encoding::for_label(charset)
            .filter(|encoding| [UTF_8, GBK, GB18030].contains(encoding))
            .ok_or(unreadable("a charset that is neither utf-8 nor gbk"))?;
        let text = |bytes: &[u8]| {
            encoding
                .decode_without_bom_handling_and_without_replacement(bytes)
                .map(std::borrow::Cow::into_owned)
                .ok_or(unreadable("text that is not in its own charset"))
        };
        form.iter()
            .filter(|(_, value)| !value.is_empty())
            .map(|(name, value)| Ok((text(name)?, text(value)?)))
            .collect::<Result<_, _>>()
            .map(Self)
    }

    fn get(&self, name: &str) -> Option<&String> {
        self.0.get(name)
    }

    fn needed(&self, name: &str, why: &'static str) -> Result<&String, NoticeError> {
        self.get(name).ok_or(unreadable(why))
    }

    fn judge(&self) -> Result<Notice, NoticeError> {
        let notice_id = self.needed("notify_id", "no notify_id")?.clone();
        let other = |notice_id: String, what: &'static str| Notice::Other {
            notice_id,
            out_trade_no: self.get("out_trade_no").cloned(),
            what,
        };
        if self
            .get("notify_type")
            .is_some_and(|kind| kind != "trade_status_sync")
        {
            return Ok(other(notice_id, "a notice that is not about a trade"));
        }
        match self.get("trade_status").map(String::as_str) {
            Some("TRADE_SUCCESS" | "TRADE_FINISHED") => self.captured(notice_id),
            // Refunded in full means that it was captured.
            Some("TRADE_CLOSED") if self.was_paid() => self.captured(notice_id),
            Some("TRADE_CLOSED") => Ok(other(notice_id, "closed without a payment")),
            Some("WAIT_BUYER_PAY") => Ok(other(notice_id, "waiting for the payer")),
            Some(_) => Ok(other(notice_id, "a trade status that is not for us")),
            None => Err(unreadable("no trade_status")),
        }
    }

    fn was_paid(&self) -> bool {
        self.was_refunded() || self.get("gmt_payment").is_some()
    }

    fn was_refunded(&self) -> bool {
        self.get("refund_fee")
            .is_some_and(|fee| Fen::from_yuan(fee) != Ok(Fen::ZERO))
    }

    /// Money was taken; the notice may have come because a part of it, or all, went back.
    fn captured(&self, notice_id: String) -> Result<Notice, NoticeError> {
        let success = self.success()?;
        Ok(match self.refund(&success) {
            Some(news) => Notice::Refund {
                notice_id,
                news,
                success: Some(success),
            },
            None => Notice::Paid { notice_id, success },
        })
    }

    /// The refund that it tells of, by the refund's own number. Its sum is that of all refunds so far.
    fn refund(&self, success: &Success) -> Option<RefundNews> {
        self.get("gmt_refund").filter(|_| self.was_refunded())?;
        Some(RefundNews {
            out_trade_no: success.out_trade_no.clone(),
            refund_no: self.get("out_biz_no")?.clone(),
            amount: None,
            answer: RefundAnswer::Succeeded,
        })
    }

    fn success(&self) -> Result<Success, NoticeError> {
        let amount = self.needed("total_amount", "no total_amount")?;
        let paid_at = self.needed("gmt_payment", "a payment without its time")?;
        Ok(Success {
            out_trade_no: self.needed("out_trade_no", "no out_trade_no")?.clone(),
            application: self.needed("app_id", "no app_id")?.as_str().into(),
            transaction_id: self.needed("trade_no", "no trade_no")?.as_str().into(),
            amount: Fen::from_yuan(amount).map_err(|_| unreadable("an amount that is none"))?,
            currency: "CNY".into(),
            succeeded_at: beijing::read_plain(paid_at)
                .ok_or(unreadable("a payment time that is none"))?,
        })
    }
}

const fn unreadable(why: &'static str) -> NoticeError {
    NoticeError::Unreadable { why }
}
