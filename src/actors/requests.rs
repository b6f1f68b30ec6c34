//! What providers are asked with: all of it derived from rows, so that every repetition is the same
//! request (reliability, decision 4).

use std::net::IpAddr;

use secrecy::SecretString;
use serde::Deserialize;

use super::house::House;
use crate::order::state::{CaptureStanding, RefundStanding};
use crate::order::{
    AccountId, Attempt, AttemptNumber, Capture, Order, OutTradeNo, RefundId, Trade, Wallet,
};
use crate::provider::{PayerId, RefundRequest, TradeRequest};
use crate::sealing::{CannotOpen, Place, TokenKind};
use crate::store::{StoreError, StoredOrder};

/// What the payer's bill says beside the money that comes back.
const REFUND_REASON: &str = "重复或逾期缴费，原路退回";

/// Why no request could be made of the rows.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CannotAsk {
    #[error("no trade was intended for this attempt")]
    NoTrade,
    #[error(transparent)]
    Store(StoreError),
    #[error("the payer of this attempt: {0}")]
    Sealed(CannotOpen),
    #[error("the payer of this attempt is kept in another form than {{payer, address}}")]
    Unreadable,
}

/// The slot of a claimant: an openid or user id, and for H5 the browser's address.
#[derive(Deserialize)]
struct Claimant {
    payer: Option<SecretText>,
    address: Option<IpAddr>,
}

/// Read straight into a secret.
struct SecretText(SecretString);

impl<'de> Deserialize<'de> for SecretText {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self(SecretString::from(text)))
    }
}

pub(super) async fn trade(
    house: &House,
    stored: &StoredOrder,
    number: AttemptNumber,
) -> Result<TradeRequest, CannotAsk> {
    let (_, trade) = trade_of(&stored.order, number).ok_or(CannotAsk::NoTrade)?;
    let claimant = claimant(house, &stored.order, number).await?;
    let id = stored.order.id.to_string();
    let public_url = &house.options.public_url;
    let token = house.parts.sealer.token(TokenKind::Pay, &id, 0);
    Ok(TradeRequest {
        out_trade_no: OutTradeNo {
            order: stored.order.id,
            attempt: number,
        },
        product: trade.product,
        amount: stored.order.terms.amount,
        subject: stored.snapshot.subject.clone(),
        time_expire: trade.time_expire,
        notify_url: notify_url(public_url, trade.product.wallet(), &trade.account),
        return_url: Some(format!("{public_url}/pay/{token}")),
        payer: claimant.payer.map(|SecretText(payer)| PayerId(payer)),
        payer_address: claimant.address,
    })
}

async fn claimant(
    house: &House,
    order: &Order,
    number: AttemptNumber,
) -> Result<Claimant, CannotAsk> {
    let number = number.get();
    let sealed = house
        .parts
        .store
        .personal(order.id, &format!("payer:{number}"))
        .await
        .map_err(CannotAsk::Store)?;
    let Some(sealed) = sealed else {
        return Ok(Claimant {
            payer: None,
            address: None,
        });
    };
    let row = format!("{}/{number}", order.id);
    let place = Place {
        table: "personal",
        column: "payer",
        row: &row,
    };
    let plain = house
        .parts
        .sealer
        .open(place, &sealed)
        .map_err(CannotAsk::Sealed)?;
    serde_json::from_slice(&plain).map_err(|_| CannotAsk::Unreadable)
}

/// A surplus refund: the request, and whether it may have been sent before.
pub(super) fn refund(
    house: &House,
    stored: &StoredOrder,
    refund: RefundId,
) -> Option<(AccountId, RefundRequest, bool)> {
    let (capture, standing) = surplus(&stored.order, refund)?;
    let (_, trade) = trade_of(&stored.order, capture.attempt)?;
    let out_trade_no = OutTradeNo {
        order: stored.order.id,
        attempt: capture.attempt,
    };
    let tried_before = matches!(standing, RefundStanding::Pending { tries, .. } if tries > 1);
    let request = RefundRequest {
        out_trade_no,
        refund_no: format!("{out_trade_no}S"),
        amount: capture.amount,
        total: capture.amount,
        reason: REFUND_REASON.to_owned(),
        notify_url: notify_url(
            &house.options.public_url,
            trade.product.wallet(),
            &trade.account,
        ),
    };
    Some((trade.account.clone(), request, tried_before))
}

fn surplus(order: &Order, wanted: RefundId) -> Option<(&Capture, RefundStanding)> {
    order
        .captures
        .iter()
        .find_map(|capture| match capture.standing {
            CaptureStanding::Surplus { refund, standing } if refund == wanted => {
                Some((capture, standing))
            }
            _ => None,
        })
}

pub(super) fn trade_of(order: &Order, number: AttemptNumber) -> Option<(&Attempt, &Trade)> {
    let attempt = order.attempt(number)?;
    Some((attempt, attempt.trade.as_ref()?))
}

/// Where a provider tells us: an address that names the account (contract §5).
fn notify_url(public_url: &str, wallet: Wallet, account: &AccountId) -> String {
    let provider = match wallet {
        Wallet::Wechat => "wechatpay",
        Wallet::Alipay => "alipay",
    };
    format!("{public_url}/callbacks/{provider}/{account}")
}
