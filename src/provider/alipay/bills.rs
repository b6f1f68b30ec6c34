//! Asking for a bill (protocol §2.9): a signed answer names a zip file that lies open for half a minute. A
//! link that is dead already is asked for anew, once.

use jiff::ToSpan as _;
use jiff::civil::{Date, time};
use url::Url;

use super::client::{Client, Reply};
use super::{bill_file, wire};
use crate::provider::bill::{Bill, BillError, BillKind};
use crate::provider::{beijing, http};

const METHOD: &str = "alipay.data.dataservice.bill.downloadurl.query";
/// What every zip file begins with.
const ZIP: &[u8] = b"PK";
/// Said to be made by about nine in the morning: an hour later its absence means that nothing happened.
const READY_AT: jiff::civil::Time = time(10, 0, 0, 0);

pub async fn fetch(client: &Client, date: Date) -> Result<Bill, BillError> {
    for is_last in [false, true] {
        let Some(url) = announced(client, date).await? else {
            return Ok(Bill::empty(BillKind::Trades));
        };
        let Some(answer) = client.download("bill_file", url).await else {
            break;
        };
        match answer.status {
            200 if answer.body.starts_with(ZIP) => {
                let seller_id = client.settings.seller_id.clone();
                let read = move || bill_file::read(date, seller_id.as_deref(), &answer.body);
                return match tokio::task::spawn_blocking(read).await {
                    Ok(lines) => lines.map(Bill::Trades),
                    Err(_) => Err(unavailable("the file could not be read here")),
                };
            }
            // How a dead link answers is published nowhere: with a page or with a refusal.
            200 | 400..=499 if !is_last => {}
            _ => break,
        }
    }
    Err(unavailable("the file did not come"))
}

/// Where the file lies; `None` where nothing happened that day.
async fn announced(client: &Client, date: Date) -> Result<Option<Url>, BillError> {
    let reply = client.call("bill", METHOD, wire::bill(date), None).await;
    let response = match reply {
        Reply::Done(response) => response,
        Reply::Refused { code } if code.says_no_bill() => {
            return if is_made(client, date) {
                Ok(None)
            } else {
                Err(BillError::NotReady { date })
            };
        }
        Reply::Refused { code } if code.says_too_fast() => {
            return Err(unavailable("too many calls"));
        }
        Reply::Refused { code } => {
            let code = code.as_str().to_owned();
            return Err(BillError::Refused { code });
        }
        Reply::Unsigned { .. } | Reply::Unknown => {
            return Err(unavailable("no answer that proves anything"));
        }
    };
    if response.bill_file_code.as_deref() == Some("EMPTY_DATA_WITH_BILL_FILE") {
        return Ok(None);
    }
    response
        .bill_download_url
        .and_then(|url| Url::parse(&url).ok())
        .filter(|url| http::is_file_address(url, &client.settings.base_url))
        .map(Some)
        .ok_or_else(|| BillError::Damaged {
            date,
            why: "the answer names no file at an https address".to_owned(),
        })
}

/// Alipay has one word for a bill that is not there yet and for one that never will be.
fn is_made(client: &Client, date: Date) -> bool {
    let ready_at = date
        .checked_add(1.day())
        .ok()
        .and_then(|next| beijing::at(next.to_datetime(READY_AT)));
    ready_at.is_some_and(|ready_at| client.clock.now() >= ready_at)
}

fn unavailable(why: &str) -> BillError {
    BillError::Unavailable {
        why: why.to_owned(),
    }
}
