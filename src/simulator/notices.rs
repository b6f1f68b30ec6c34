//! Tells the merchant: each notice on its provider's schedule, freshly signed for every try, spoiled
//! where a fault rule says so.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::mpsc;

use super::books::{Notice, Try, V2_REFUND};
use super::faults::{ALIPAY_NOTICE, Fault, Rule};
use super::people::Wallet;
use super::world::World;

/// wechatpay-v3 §2.6: seconds before each repetition.
const WECHAT_RETRIES: [u64; 15] = [
    15, 15, 30, 180, 600, 1200, 1800, 1800, 1800, 3600, 10800, 10800, 10800, 21600, 21600,
];
/// alipay §3.7.
const ALIPAY_RETRIES: [u64; 7] = [240, 600, 600, 3600, 7200, 21600, 54000];
/// wechatpay-v3 §2.6: the answer is due in 5 s, the connection in 3 s.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
const CONNECT_WITHIN: Duration = Duration::from_secs(3);

/// A notice to send, after a while.
#[derive(Debug)]
pub(super) struct Dispatch {
    pub(super) wallet: Wallet,
    pub(super) out_trade_no: String,
    pub(super) notice_id: String,
    pub(super) wait: Duration,
}

/// A request ready to send.
#[derive(Clone, Debug)]
pub(super) struct Letter {
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: String,
}

pub(super) fn client() -> Result<reqwest::Client, reqwest::Error> {
    reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .timeout(ANSWER_WITHIN)
        .connect_timeout(CONNECT_WITHIN)
        .build()
}

/// Runs until the world's last sender is gone.
pub(super) async fn run(
    world: Arc<World>,
    client: reqwest::Client,
    mut queue: mpsc::UnboundedReceiver<Dispatch>,
) {
    while let Some(dispatch) = queue.recv().await {
        actix_web::rt::spawn(deliver(world.clone(), client.clone(), dispatch));
    }
}

/// Picks up, after a restart, what was not acknowledged.
pub(super) fn resume(world: &World) {
    let open: Vec<(Wallet, String, String)> = world
        .books()
        .trades()
        .flat_map(|trade| {
            trade
                .notices
                .iter()
                .filter(|notice| !notice.acked && !notice.given_up)
                .map(|notice| (trade.wallet, trade.out_trade_no.clone(), notice.id.clone()))
        })
        .collect();
    for (wallet, out_trade_no, id) in open {
        world.dispatch(wallet, &out_trade_no, &id, Duration::ZERO);
    }
}

async fn deliver(world: Arc<World>, client: reqwest::Client, dispatch: Dispatch) {
    tokio::time::sleep(dispatch.wait).await;
    loop {
        let acked = attempt(&world, &client, &dispatch).await;
        let next = {
            let mut books = world.books();
            let Some(notice) = books
                .trade_mut(dispatch.wallet, &dispatch.out_trade_no)
                .and_then(|trade| {
                    trade
                        .notices
                        .iter_mut()
                        .find(|notice| notice.id == dispatch.notice_id)
                })
            else {
                return;
            };
            let schedule: &[u64] = match dispatch.wallet {
                Wallet::Wechat => &WECHAT_RETRIES,
                Wallet::Alipay => &ALIPAY_RETRIES,
            };
            let next = notice
                .tries
                .len()
                .checked_sub(1)
                .and_then(|done| schedule.get(done));
            notice.given_up |= next.is_none() && !acked;
            if acked { None } else { next.copied() }
        };
        world.persist().await;
        let Some(seconds) = next else { return };
        let divisor = u64::from(world.options.retry_divisor.max(1));
        tokio::time::sleep(Duration::from_millis(seconds * 1000 / divisor)).await;
    }
}

/// One try of the schedule. True once the merchant has acknowledged a true notice.
async fn attempt(world: &Arc<World>, client: &reqwest::Client, dispatch: &Dispatch) -> bool {
    let about_refund = find(world, dispatch).is_some_and(|notice| notice.about_refund());
    let operation = match (dispatch.wallet, about_refund) {
        (Wallet::Wechat, false) => "wechat.notice",
        (Wallet::Wechat, true) => "wechat.refund_notice",
        (Wallet::Alipay, false) => ALIPAY_NOTICE,
        (Wallet::Alipay, true) => "alipay.refund_notice",
    };
    let rule = world.take_fault(operation, Some(&dispatch.out_trade_no), Fault::for_notices);
    let fault = rule.as_ref().map(|rule| rule.fault);
    match &rule {
        Some(rule) if rule.fault == Fault::Delayed => tokio::time::sleep(rule.delay(5_000)).await,
        Some(rule) if rule.fault == Fault::Reordered => {
            let _ = tokio::time::timeout(rule.delay(5_000), world.delivered.notified()).await;
        }
        _ => {}
    }
    let copies = match &rule {
        Some(Rule {
            fault: Fault::Lost, ..
        }) => 0,
        Some(
            rule @ Rule {
                fault: Fault::Doubled,
                ..
            },
        ) => rule.times.unwrap_or(2),
        Some(
            rule @ Rule {
                fault: Fault::DoubledAtOnce,
                ..
            },
        ) => rule.times.unwrap_or(10),
        _ => 1,
    };
    let at_once = fault == Some(Fault::DoubledAtOnce);
    let mut answers = Vec::new();
    if at_once {
        answers = join_all((0..copies).map(|_| send(world, client, dispatch, fault))).await;
    } else {
        for _ in 0..copies {
            answers.push(send(world, client, dispatch, fault).await);
        }
    }
    if answers.is_empty() {
        answers.push((None, false));
    }
    let spoiled = fault.is_some_and(Fault::spoils);
    let acked = !spoiled && answers.iter().any(|(_, acked)| *acked);
    let now = world.now();
    let mut books = world.books();
    if let Some(notice) = books
        .trade_mut(dispatch.wallet, &dispatch.out_trade_no)
        .and_then(|trade| {
            trade
                .notices
                .iter_mut()
                .find(|notice| notice.id == dispatch.notice_id)
        })
    {
        // One line for a try of the schedule, however many copies of it went out.
        let status = answers.iter().find_map(|(status, _)| *status);
        notice.tries.push(Try {
            at: now,
            status,
            acked: answers.iter().any(|(_, acked)| *acked),
            fault: fault.map(Fault::word),
        });
        notice.acked |= acked;
    }
    drop(books);
    if copies > 0 {
        world.delivered.notify_waiters();
    }
    acked
}

fn find(world: &World, dispatch: &Dispatch) -> Option<Notice> {
    let books = world.books();
    let trade = books.trade(dispatch.wallet, &dispatch.out_trade_no)?;
    let notice = trade
        .notices
        .iter()
        .find(|notice| notice.id == dispatch.notice_id)?;
    Some(notice.clone())
}

/// Sends one letter: the status, and whether that was an acknowledgement.
async fn send(
    world: &World,
    client: &reqwest::Client,
    dispatch: &Dispatch,
    fault: Option<Fault>,
) -> (Option<u16>, bool) {
    let Some(notice) = find(world, dispatch) else {
        return (None, false);
    };
    if !super::world::may_be_called(&notice.url) {
        return (None, false);
    }
    let letter = match dispatch.wallet {
        Wallet::Wechat => super::wechatpay::notice::letter(world, &notice, fault),
        Wallet::Alipay => super::alipay::notice::letter(world, &notice, fault),
    };
    if notice.event == V2_REFUND {
        return post_v2(client, &notice.url, letter).await;
    }
    post(client, dispatch.wallet, &notice.url, letter).await
}

/// The time before wanted its answer in XML too.
async fn post_v2(client: &reqwest::Client, url: &str, letter: Letter) -> (Option<u16>, bool) {
    let Some(answer) = hand_over(client, url, letter).await else {
        return (None, false);
    };
    let status = answer.status().as_u16();
    let body = answer.text().await.unwrap_or_default();
    let acked = status == 200 && body.contains("<return_code>") && body.contains("SUCCESS");
    (Some(status), acked)
}

async fn hand_over(
    client: &reqwest::Client,
    url: &str,
    letter: Letter,
) -> Option<reqwest::Response> {
    let mut request = client.post(url).body(letter.body);
    for (name, value) in letter.headers {
        request = request.header(name, value);
    }
    request.send().await.ok()
}

pub(super) async fn post(
    client: &reqwest::Client,
    wallet: Wallet,
    url: &str,
    letter: Letter,
) -> (Option<u16>, bool) {
    let Some(answer) = hand_over(client, url, letter).await else {
        return (None, false);
    };
    let status = answer.status().as_u16();
    let acked = match wallet {
        Wallet::Wechat => status == 200 || status == 204,
        Wallet::Alipay => {
            status == 200
                && answer
                    .bytes()
                    .await
                    .is_ok_and(|body| &body[..] == b"success")
        }
    };
    (Some(status), acked)
}
