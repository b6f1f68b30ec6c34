//! What providers are asked with: all of it derived from rows, so that every repetition is the same
//! request (reliability, decision 4).

use std::net::IpAddr;

use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use zeroize::Zeroizing;

use super::house::House;
use crate::order::{
    AccountId, Attempt, AttemptNumber, Order, OutTradeNo, RefundCause, RefundId, RefundStanding,
    Trade, Wallet,
};
use crate::provider::{Identity, PayerId, RefundDestination, RefundRequest, TradeRequest};
use crate::sealing::{CannotOpen, Place, TokenKind};
use crate::store::{PayerIdentity, StoreError, StoredOrder};

/// What the payer's bill says beside the money that comes back.
const REFUND_REASON: &str = "重复或逾期缴费，原路退回";

/// Why no request could be made of the rows.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CannotAsk {
    #[error("no trade was intended for this attempt")]
    NoTrade,
    #[error("no such refund, or its account is not configured any more")]
    NoRefund,
    #[error(transparent)]
    Store(StoreError),
    #[error("what is sealed for it: {0}")]
    Sealed(CannotOpen),
    #[error("what is sealed for it is kept in another form than is read here")]
    Unreadable,
    #[error("the provider shall check who pays, and who that is was erased, or never told in full")]
    NobodyNamed,
}

/// The slot of a claimant: an openid or user id, and for H5 the browser's address.
#[derive(Deserialize)]
struct Claimant {
    payer: Option<SecretText>,
    address: Option<IpAddr>,
}

/// The slot, and column, of an order's [`crate::store::PersonalData`].
const ORDER_SLOT: &str = "order";

/// What is needed of it here.
#[derive(Deserialize)]
struct Payer {
    name: Option<SecretText>,
    id_number: Option<SecretText>,
}

/// A bank card of the payer's.
#[derive(Deserialize)]
struct PayerCard {
    bank_type: String,
    bank_account: SecretText,
    real_name: SecretText,
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
    let identity = match stored.snapshot.payer_identity {
        PayerIdentity::Provider => Some(identity(house, &stored.order).await?),
        PayerIdentity::None | PayerIdentity::Confirm => None,
    };
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
        identity,
    })
}

/// Who must pay. Read only where the provider is to check it, and never replaced by nobody.
async fn identity(house: &House, order: &Order) -> Result<Identity, CannotAsk> {
    let row = order.id.to_string();
    let plain = personal(house, order, ORDER_SLOT, ORDER_SLOT, &row)
        .await?
        .map(Zeroizing::new)
        .ok_or(CannotAsk::NobodyNamed)?;
    let people: Payer = serde_json::from_slice(&plain).map_err(|_| CannotAsk::Unreadable)?;
    match (people.name, people.id_number) {
        (Some(SecretText(name)), Some(SecretText(number))) => Ok(Identity {
            name,
            // The check character of a card is a capital, however it was typed.
            id_number: number.expose_secret().to_ascii_uppercase().into(),
        }),
        _ => Err(CannotAsk::NobodyNamed),
    }
}

async fn claimant(
    house: &House,
    order: &Order,
    number: AttemptNumber,
) -> Result<Claimant, CannotAsk> {
    let number = number.get();
    let row = format!("{}/{number}", order.id);
    let plain = personal(house, order, &format!("payer:{number}"), "payer", &row).await?;
    let Some(plain) = plain else {
        return Ok(Claimant {
            payer: None,
            address: None,
        });
    };
    serde_json::from_slice(&plain).map_err(|_| CannotAsk::Unreadable)
}

/// What stands sealed in one slot of an order, opened.
async fn personal(
    house: &House,
    order: &Order,
    slot: &str,
    column: &'static str,
    row: &str,
) -> Result<Option<Vec<u8>>, CannotAsk> {
    let sealed = house
        .parts
        .store
        .personal(order.id, slot)
        .await
        .map_err(CannotAsk::Store)?;
    let Some(sealed) = sealed else {
        return Ok(None);
    };
    let place = Place {
        table: "personal",
        column,
        row,
    };
    let plain = house.parts.sealer.open(place, &sealed);
    plain.map(Some).map_err(CannotAsk::Sealed)
}

/// A refund: the request, the same every time, and whether it may have been sent before.
pub(super) async fn refund(
    house: &House,
    stored: &StoredOrder,
    id: RefundId,
) -> Result<(RefundRequest, bool), CannotAsk> {
    let order = &stored.order;
    let refund = order.refund(id).ok_or(CannotAsk::NoRefund)?;
    let account = refund.account.ok_or(CannotAsk::NoRefund)?;
    let provider = house
        .parts
        .providers
        .get(account)
        .ok_or(CannotAsk::NoRefund)?;
    let reason = match refund.cause {
        RefundCause::Merchant => reason(house, order, id).await?,
        RefundCause::Surplus | RefundCause::Mismatch => REFUND_REASON.to_owned(),
    };
    let tried_before = match refund.standing {
        RefundStanding::Pending { tries, .. } => tries > 1,
        _ => true,
    };
    let request = RefundRequest {
        out_trade_no: OutTradeNo {
            order: order.id,
            attempt: refund.attempt,
        },
        refund_no: refund.number(order),
        amount: refund.amount,
        total: refund.total,
        reason,
        notify_url: notify_url(
            &house.options.public_url,
            provider.account().wallet,
            account,
        ),
    };
    Ok((request, tried_before))
}

/// The merchant's own words to the payer. Once they were erased, none: the refund matters more.
async fn reason(house: &House, order: &Order, id: RefundId) -> Result<String, CannotAsk> {
    let row = id.to_string();
    let slot = refund_slot(id);
    let plain = personal(house, order, &slot, REFUND_COLUMN, &row).await?;
    Ok(plain.map_or_else(String::new, |plain| {
        String::from_utf8_lossy(&plain).into_owned()
    }))
}

/// Where an operator wants an abnormal refund to go.
pub(super) async fn destination(
    house: &House,
    stored: &StoredOrder,
    id: RefundId,
) -> Result<RefundDestination, CannotAsk> {
    let row = id.to_string();
    let slot = repair_slot(id);
    let plain = personal(house, &stored.order, &slot, REPAIR_COLUMN, &row)
        .await?
        .ok_or(CannotAsk::NoRefund)?;
    let card: Option<PayerCard> =
        serde_json::from_slice(&plain).map_err(|_| CannotAsk::Unreadable)?;
    Ok(match card {
        None => RefundDestination::MerchantCard,
        Some(PayerCard {
            bank_type,
            bank_account: SecretText(bank_account),
            real_name: SecretText(real_name),
        }) => RefundDestination::PayerCard {
            bank_type,
            bank_account,
            real_name,
        },
    })
}

/// The slot of `store.personal` that holds why a merchant gives money back: UTF-8 text, sealed with
/// `Place { table: "personal", column: REFUND_COLUMN, row: refund id }`.
pub fn refund_slot(refund: RefundId) -> String {
    format!("refund:{refund}")
}

pub const REFUND_COLUMN: &str = "refund";

/// The slot that holds where an abnormal refund may go instead: JSON, `null` for the school's own card,
/// or `{bank_type, bank_account, real_name}`, sealed with `Place { table: "personal", column:
/// REPAIR_COLUMN, row: refund id }`.
pub fn repair_slot(refund: RefundId) -> String {
    format!("repair:{refund}")
}

pub const REPAIR_COLUMN: &str = "repair";

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
