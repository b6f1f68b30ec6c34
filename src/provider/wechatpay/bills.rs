//! Asking for a bill (protocol §2.5): a signed answer names a file and its hash, and the file itself comes
//! unsigned. Its link lives a few minutes: one that is dead already is asked for anew, once.

use jiff::civil::Date;
use serde::Deserialize;
use url::Url;

use super::bill_file;
use super::client::{Client, Reply};
use crate::provider::http;
use crate::provider::{Bill, BillError, BillKind};

/// Where files lie, besides the configured address.
const HOUSE: &str = "mch.weixin.qq.com";

/// What the first answer announces.
#[derive(Deserialize)]
struct Announced {
    hash_type: String,
    hash_value: String,
    download_url: String,
}

pub async fn fetch(client: &Client, kind: BillKind, date: Date) -> Result<Bill, BillError> {
    for is_last in [false, true] {
        let Some((url, hash)) = announced(client, kind, date).await? else {
            return Ok(Bill::empty(kind));
        };
        match client.download("bill_file", url).await {
            Reply::Done { body, .. } => {
                let mchid = client.settings.mchid.clone();
                let read = move || bill_file::read(kind, date, &mchid, &hash, &body);
                return match tokio::task::spawn_blocking(read).await {
                    Ok(bill) => bill,
                    Err(_) => Err(unavailable("the file could not be read here")),
                };
            }
            Reply::Refused { code } if code.is(&["INVALIDREQUEST"]) && !is_last => {}
            Reply::Refused { code } => {
                let code = code.as_str().to_owned();
                return Err(BillError::Refused { code });
            }
            Reply::Unknown => break,
        }
    }
    Err(unavailable("the file did not come"))
}

/// Where the file lies and what it hashes to; `None` where nothing happened that day.
async fn announced(
    client: &Client,
    kind: BillKind,
    date: Date,
) -> Result<Option<(Url, String)>, BillError> {
    let (path, name, value) = match kind {
        BillKind::Trades => ("/v3/bill/tradebill", "bill_type", "ALL"),
        BillKind::Flows => ("/v3/bill/fundflowbill", "account_type", "BASIC"),
    };
    let mut url = client.url(path);
    url.query_pairs_mut()
        .append_pair("bill_date", &date.to_string())
        .append_pair(name, value)
        .append_pair("tar_type", "GZIP");
    let body = match client.get("bill", url).await {
        Reply::Done { status: 200, body } => body,
        Reply::Refused { code } if code.is(&["NOSTATEMENTEXIST"]) => return Ok(None),
        Reply::Refused { code } if code.is(&["STATEMENTCREATING"]) => {
            return Err(BillError::NotReady { date });
        }
        Reply::Refused { code } => {
            let code = code.as_str().to_owned();
            return Err(BillError::Refused { code });
        }
        Reply::Done { .. } | Reply::Unknown => {
            return Err(unavailable("no answer that proves anything"));
        }
    };
    let damaged = |why: &str| BillError::Damaged {
        date,
        why: why.to_owned(),
    };
    let announced: Announced = serde_json::from_slice(&body)
        .map_err(|_| damaged("the answer announces no file and no hash"))?;
    if !announced.hash_type.eq_ignore_ascii_case("SHA1") {
        return Err(damaged("the answer announces a hash of another kind"));
    }
    let url = Url::parse(&announced.download_url)
        .ok()
        .filter(|url| is_of_the_house(url, &client.settings.base_url))
        .ok_or_else(|| damaged("the answer names a file at an address that is not WeChat's"))?;
    Ok(Some((url, announced.hash_value)))
}

/// May our signature go there?
fn is_of_the_house(url: &Url, base_url: &Url) -> bool {
    let (Some(host), Some(own)) = (url.host_str(), base_url.host_str()) else {
        return false;
    };
    let is_known = host == own
        || host == HOUSE
        || host
            .strip_suffix(HOUSE)
            .is_some_and(|left| left.ends_with('.'));
    let is_own = url.origin() == base_url.origin();
    let is_usual = is_known && url.port_or_known_default() == Some(443);
    http::is_file_address(url, base_url) && (is_own || is_usual)
}

fn unavailable(why: &str) -> BillError {
    BillError::Unavailable {
        why: why.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_signature_stays_in_the_house() {
        let url = |text: &str| Url::parse(text).unwrap();
        let live = url("https://api.mch.weixin.qq.com");
        for (at, fine) in [
            (
                "https://api.mch.weixin.qq.com/v3/billdownload/file?token=x",
                true,
            ),
            ("https://api2.mch.weixin.qq.com/v3/billdownload/file", true),
            ("https://mch.weixin.qq.com/x", true),
            ("http://api.mch.weixin.qq.com/x", false),
            ("https://api.mch.weixin.qq.com:8443/x", false),
            ("https://user@api.mch.weixin.qq.com/x", false),
            ("https://amch.weixin.qq.com/x", false),
            ("https://api.mch.weixin.qq.com.evil.example/x", false),
            ("https://weixin.qq.com/x", false),
            ("https://127.0.0.1/x", false),
            ("ftp://api.mch.weixin.qq.com/x", false),
        ] {
            assert_eq!(is_of_the_house(&url(at), &live), fine, "{at}");
        }
        let home = url("http://127.0.0.1:8090/wechatpay");
        assert!(is_of_the_house(&url("http://127.0.0.1:8090/v3/x"), &home));
        assert!(!is_of_the_house(&url("http://127.0.0.1:8091/v3/x"), &home));
        assert!(!is_of_the_house(&url("http://10.0.0.1:8090/v3/x"), &home));
    }
}
