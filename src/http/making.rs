//! How an order is made of what was asked for: the same for merchants and for payers who tick bills.

use super::merchant::new_order::Asked;
use super::problem::{Code, Problem};
use super::{Deps, request_id};
use crate::actors::NewOrder;
use crate::order::{AccountId, CodeMode, Offer, OrderId, Terms, Wallet};
use crate::sealing::{TokenKind, token_hash};
use crate::store::{Actor, BillRef, Merchant, OrderSnapshot, PersonalData, TokenTarget, Write};
use crate::view::{self, View};

/// The accounts that may take an order's money, and whose codes they show.
#[derive(Clone, Debug)]
pub struct Offers {
    pub offers: Vec<Offer>,
    pub mode: CodeMode,
}

/// An order that is about to be made.
#[derive(Clone, Debug)]
pub struct Draft<'a> {
    pub id: OrderId,
    pub merchant: &'a Merchant,
    pub asked: &'a Asked,
    pub offers: Offers,
    pub possible_duplicate: Option<OrderId>,
    pub bills: Vec<BillRef>,
}

impl Draft<'_> {
    /// The order with everything that is committed with it, `writes` first; and its people.
    pub fn finish(
        self,
        deps: &Deps,
        view: &View,
        actor: Actor,
        mut writes: Vec<Write>,
    ) -> (NewOrder, PersonalData) {
        let asked = self.asked;
        let Offers { offers, mode } = self.offers;
        let terms = Terms {
            merchant: self.merchant.id,
            amount: asked.amount,
            pay_before: asked.pay_before,
            late_payment: asked.late_payment,
            mode,
            offers,
            qr_ms: deps.settings.qr_ms,
        };
        let snapshot = OrderSnapshot {
            merchant_order_no: asked.merchant_order_no.clone(),
            subject: asked.subject.clone(),
            items: asked.items.clone(),
            purpose: asked.purpose.clone(),
            payer_identity: asked.payer_identity,
            payer_masked: asked.masked(self.merchant.masks),
            payer_index: deps.sealer.index("payer_ref", &asked.payer_ref),
            wallets: terms.offers.iter().map(|offer| offer.wallet).collect(),
            late_grace_seconds: asked.late_grace_seconds,
            return_url: asked.return_url.clone(),
            hash: asked.snapshot_hash(&deps.sealer),
            field_hashes: asked.field_hashes(&deps.sealer),
            possible_duplicate: self.possible_duplicate,
            has_display_fields: !asked.display_fields.is_empty(),
            bills: self.bills,
        };
        let personal = personal(asked);
        writes.extend(own_writes(deps, view, self.id, &personal));
        let new = NewOrder {
            id: self.id,
            terms,
            snapshot,
            actor,
            request_id: request_id::current().map(|id| id.to_string()),
            writes,
        };
        (new, personal)
    }
}

/// What stands beside the order: its people, and the hashes of its two addresses.
fn own_writes(deps: &Deps, view: &View, id: OrderId, personal: &PersonalData) -> [Write; 3] {
    let target = TokenTarget {
        order: id,
        attempt: None,
    };
    [
        Write::Personal {
            order: id,
            slot: view::PERSONAL_SLOT.to_owned(),
            sealed: view::seal_personal(&deps.sealer, id, personal),
        },
        Write::Token {
            kind: TokenKind::Pay,
            hash: token_hash(TokenKind::Pay, &view.pay_token(id)),
            target,
        },
        Write::Token {
            kind: TokenKind::Receipt,
            hash: token_hash(TokenKind::Receipt, &view.receipt_token(id)),
            target,
        },
    ]
}

fn personal(asked: &Asked) -> PersonalData {
    PersonalData {
        payer_ref: asked.payer_ref.clone(),
        name: asked.name.clone(),
        id_number: asked.id_number.clone(),
        phone: asked.phone.clone(),
        receipt_email: asked.receipt_email.clone(),
        display_fields: asked.display_fields.clone(),
        metadata: asked.metadata.clone(),
        registrant: asked.registrant.clone(),
    }
}

/// The accounts that may take this order's money: for each wallet the merchant's first one. Native
/// as soon as one of them is (contract §6). `checked`: only those whose provider checks who pays.
pub fn offers(
    deps: &Deps,
    accounts: &[AccountId],
    wanted: Option<&[Wallet]>,
    checked: bool,
) -> Result<Offers, Problem> {
    let known: Vec<_> = accounts
        .iter()
        .filter_map(|account| deps.providers.get(account))
        .map(|provider| provider.account())
        .collect();
    let mut problem = Problem::new(Code::ValidationFailed, "Not every wallet can be offered.");
    let mut offers = Vec::new();
    let mut mode = CodeMode::Unified;
    for (index, wallet) in wanted
        .unwrap_or(&[Wallet::Wechat, Wallet::Alipay])
        .iter()
        .enumerate()
    {
        if let Some(account) = known.iter().find(|account| account.wallet == *wallet) {
            if checked && !account.payer_identity {
                continue;
            }
            if account.mode == CodeMode::Native {
                mode = CodeMode::Native;
            }
            offers.push(Offer {
                wallet: *wallet,
                account: account.id.clone(),
                application: account.application.clone(),
            });
        } else if wanted.is_some() {
            problem = problem.at(
                format!("/wallets/{index}"),
                format!("this merchant has no account for {}", wallet.as_str()),
            );
        }
    }
    if checked && offers.is_empty() && !known.is_empty() && problem.errors().is_empty() {
        return Err(Problem::new(
            Code::PayerIdentityUnavailable,
            "None of the wallets that this order may use has its provider check who pays.",
        )
        .at(
            "/payer_identity",
            "expected \"none\" or \"confirm\", or an account with payer_identity = true",
        ));
    }
    if offers.is_empty() && problem.errors().is_empty() {
        problem = problem.at("/wallets", "this merchant has no account at any provider");
    }
    if problem.errors().is_empty() {
        Ok(Offers { offers, mode })
    } else {
        Err(problem)
    }
}
