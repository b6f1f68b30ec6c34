//! Bills: made, taken by an order, cancelled, and without their payer at last.

use super::session::{Failure, Session};
use crate::order::{BillId, MerchantId, OrderId, Timestamp};
use crate::store::bills::{Bill, PayerLink};
use crate::store::records::bills::{BillColumns, NO_PAYER, is_free};
use crate::store::step::{broken, json};
use crate::store::{Rejection, Write};

pub(super) async fn apply(session: &Session<'_>, write: &Write) -> Result<(), Failure> {
    match write {
        Write::BillsCreated(bills) => create(session, bills).await,
        Write::BillsClaimed {
            merchant,
            order,
            bills,
        } => claim(session, *merchant, *order, bills).await,
        Write::BillCancelled { merchant, bill, at } => cancel(session, *merchant, *bill, *at).await,
        Write::PayerLink(link) => self::link(session, link).await,
        Write::BillErased {
            bill,
            payer_index,
            at,
        } => erase(session, *bill, *payer_index, *at).await,
        _ => Ok(()),
    }
}

/// In one statement: a school uploads a thousand at once.
async fn create(session: &Session<'_>, bills: &[Bill]) -> Result<(), Failure> {
    let columns: Vec<BillColumns> = bills
        .iter()
        .map(BillColumns::of)
        .collect::<Result<_, _>>()?;
    let texts = |of: fn(&BillColumns) -> &str| columns.iter().map(of).collect::<Vec<_>>();
    let numbers: Vec<&str> = bills.iter().map(|bill| &*bill.merchant_bill_no).collect();
    let amounts: Vec<i64> = bills.iter().map(|bill| bill.amount.get()).collect();
    let deadlines: Vec<Option<i64>> = bills
        .iter()
        .map(|bill| bill.pay_before.map(Timestamp::as_millis))
        .collect();
    let made: Vec<i64> = bills
        .iter()
        .map(|bill| bill.created_at.as_millis())
        .collect();
    let payers: Vec<Vec<u8>> = bills
        .iter()
        .map(|bill| bill.payer_index.to_be_bytes().to_vec())
        .collect();
    let sealed: Vec<&[u8]> = bills.iter().map(|bill| bill.sealed.0.as_slice()).collect();
    let created = session
        .execute(
            "INSERT INTO bills (id, merchant, merchant_bill_no, amount, pay_before, created_at,
                 content, payer_masked, payer_index, personal_hashes, sealed)
             SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::bigint[],
                 $6::bigint[], $7::text[], $8::text[], $9::bytea[], $10::text[], $11::bytea[])
             ON CONFLICT (merchant, merchant_bill_no) DO NOTHING",
            &[
                &texts(|bill| &bill.id),
                &texts(|bill| &bill.merchant),
                &numbers,
                &amounts,
                &deadlines,
                &made,
                &texts(|bill| &bill.content),
                &texts(|bill| &bill.payer_masked),
                &payers,
                &texts(|bill| &bill.personal_hashes),
                &sealed,
            ],
        )
        .await?;
    if usize::try_from(created) == Ok(bills.len()) {
        return Ok(());
    }
    let existing = session
        .one(
            "SELECT bills.id FROM unnest($1::text[], $2::text[], $3::text[])
                 AS given (id, merchant, merchant_bill_no)
             JOIN bills USING (merchant, merchant_bill_no)
             WHERE bills.id <> given.id LIMIT 1",
            &[
                &texts(|bill| &bill.id),
                &texts(|bill| &bill.merchant),
                &numbers,
            ],
        )
        .await?
        .ok_or_else(|| broken("the bills of one upload have different numbers"))?;
    let existing = existing
        .try_get::<_, String>(0)?
        .parse()
        .map_err(|_| broken("bills.id holds bill ids"))?;
    Err(Rejection::MerchantBillNoTaken { existing }.into())
}

/// Rows are locked in the order of their ids, as everybody locks them.
async fn claim(
    session: &Session<'_>,
    merchant: MerchantId,
    order: OrderId,
    bills: &[BillId],
) -> Result<(), Failure> {
    let (merchant, order) = (merchant.to_string(), order.to_string());
    let ids: Vec<String> = bills.iter().map(BillId::to_string).collect();
    let claimed = session
        .execute(
            concat!(
                "WITH held AS MATERIALIZED (SELECT id FROM bills
                     WHERE merchant = $1 AND id = ANY ($3) ORDER BY id FOR UPDATE)
                 UPDATE bills SET order_id = $2 FROM held
                 WHERE bills.id = held.id AND cancelled_at IS NULL AND erased_at IS NULL AND ",
                is_free!()
            ),
            &[&merchant, &order, &ids],
        )
        .await?;
    if usize::try_from(claimed) == Ok(bills.len()) {
        return Ok(());
    }
    for bill in bills {
        let ours = session
            .exists(
                "SELECT 1 FROM bills WHERE merchant = $1 AND order_id = $2 AND id = $3",
                &[&merchant, &order, &bill.to_string()],
            )
            .await?;
        if !ours {
            return Err(Rejection::BillTaken { bill: *bill }.into());
        }
    }
    Err(broken("the bills of an order are named once").into())
}

async fn cancel(
    session: &Session<'_>,
    merchant: MerchantId,
    bill: BillId,
    at: Timestamp,
) -> Result<(), Failure> {
    let cancelled = session
        .execute(
            concat!(
                "UPDATE bills SET cancelled_at = coalesce(cancelled_at, $3)
                 WHERE merchant = $1 AND id = $2 AND ",
                is_free!()
            ),
            &[&merchant.to_string(), &bill.to_string(), &at.as_millis()],
        )
        .await?;
    taken(cancelled, bill)
}

fn taken(rows: u64, bill: BillId) -> Result<(), Failure> {
    if rows == 0 {
        return Err(Rejection::BillTaken { bill }.into());
    }
    Ok(())
}

async fn link(session: &Session<'_>, link: &PayerLink) -> Result<(), Failure> {
    session
        .execute(
            "INSERT INTO payer_links (hash, merchant, payer_index, payer_masked, return_url,
                 created_at, expires_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
            &[
                &link.hash.0.as_slice(),
                &link.merchant.to_string(),
                &link.payer_index.to_be_bytes().as_slice(),
                &json(&link.payer_masked)?,
                &link.return_url,
                &link.created_at.as_millis(),
                &link.expires_at.as_millis(),
            ],
        )
        .await?;
    Ok(())
}

async fn erase(
    session: &Session<'_>,
    bill: BillId,
    payer_index: u128,
    at: Timestamp,
) -> Result<(), Failure> {
    let erased = session
        .execute(
            concat!(
                "UPDATE bills SET sealed = '', payer_masked = $2, payer_index = $3,
                     personal_hashes = '[]', erased_at = $4, cancelled_at = coalesce(cancelled_at,
                         CASE WHEN pay_before IS NULL OR pay_before > $4 THEN $4 END)
                 WHERE id = $1 AND erased_at IS NULL AND ",
                is_free!()
            ),
            &[
                &bill.to_string(),
                &NO_PAYER,
                &payer_index.to_be_bytes().as_slice(),
                &at.as_millis(),
            ],
        )
        .await?;
    taken(erased, bill)
}

/// The bills that an order paid lose their payer with it.
pub(super) async fn erase_of(
    session: &Session<'_>,
    order: &str,
    payer_index: u128,
    at: Timestamp,
) -> Result<(), Failure> {
    session
        .execute(
            "UPDATE bills SET sealed = '', payer_masked = $2, payer_index = $3,
                 personal_hashes = '[]', erased_at = $4
             WHERE order_id = $1 AND erased_at IS NULL
               AND (SELECT status FROM orders WHERE id = $1) = 'paid'",
            &[
                &order,
                &NO_PAYER,
                &payer_index.to_be_bytes().as_slice(),
                &at.as_millis(),
            ],
        )
        .await?;
    Ok(())
}
