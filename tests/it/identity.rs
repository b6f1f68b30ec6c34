//! Whoever must pay, pays: the payer's identity goes to the provider, another person's wallet is
//! refused there, and the order stays payable.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests: what cannot be unwrapped fails the test"
)]

use enrollpay::simulator::{self, Person, RealName};
use serde_json::{Value, json};

use crate::support::books::trade_number;
use crate::support::merchant::new_order;
use crate::support::student::{Alipay, Student, Wallet, Wechat};
use crate::support::{World, client, eventually};

const REFUSED: &str = "付款账户实名与缴费人不一致，请用本人账户付款";

/// Somebody with a wallet, and who they are by law.
fn somebody(wallet: Wallet) -> (String, RealName) {
    let user = format!("p{:016x}", rand::random::<u64>());
    let side = match wallet {
        Wechat => simulator::Wallet::Wechat,
        Alipay => simulator::Wallet::Alipay,
    };
    let real = Person::new(side, &user).unwrap().real_name();
    (user, real)
}

fn order_for(real: &RealName) -> Value {
    json!({
        "payer_identity": "provider",
        "payer": { "ref": "1", "name": real.name, "id_number": real.id_number },
    })
}

async fn page(url: &Value) -> String {
    let answer = client().get(url.as_str().unwrap()).send().await.unwrap();
    answer.text().await.unwrap()
}

/// The right person scans a new code and pays.
async fn own_wallet_pays(world: &World, order: &str, wallet: Wallet, user: &str) {
    let attempt = world.merchant.start(order).await;
    let mut owner = Student::new(wallet, user);
    assert_eq!(owner.scan(&attempt).await.expect(200)["state"], "claimed");
    owner.press_pay().await.expect(200);
    let trade = trade_number(order, attempt["number"].as_u64().unwrap());
    world.simulators.pay(&trade).await;
    let paid = world.merchant.until_status(order, "paid").await;
    assert_eq!(paid["payment"]["wallet"], wallet.word());
}

#[tokio::test]
async fn wechat_refuses_another_person_at_ordering_and_takes_the_right_one() {
    let world = World::start(&[]).await;
    let (user, real) = somebody(Wechat);
    let order = world.merchant.create_with(order_for(&real)).await;
    let id = order["id"].as_str().unwrap();
    assert_eq!(order["payer_identity"], "provider");
    let text = page(&order["cashier_url"]).await;
    assert!(text.contains("须为缴费人本人实名账户"), "{text}");

    let attempt = world.merchant.start(id).await;
    let (other, _) = somebody(Wechat);
    let mut other = Student::new(Wechat, &other);
    assert_eq!(other.scan(&attempt).await.expect(200)["state"], "claimed");
    let refused = other.press_pay().await.expect(410);
    assert_eq!(refused["code"], "attempt_failed");
    // Both screens say why.
    let code = attempt["qr_content"].as_str().unwrap();
    let phone = other.try_open(code).await.unwrap();
    assert_eq!(phone.status, 410);
    assert!(String::from_utf8_lossy(&phone.body).contains(REFUSED));
    let text = page(&order["cashier_url"]).await;
    assert!(text.contains(REFUSED), "{text}");
    let trade = trade_number(id, attempt["number"].as_u64().unwrap());
    assert_eq!(
        world.simulators.trade(&trade).await,
        None,
        "no trade exists"
    );

    own_wallet_pays(&world, id, Wechat, &user).await;
    // What was sent for them is written nowhere.
    let log = world.gateway.log();
    assert!(!log.contains(&real.id_number) && !log.contains(&real.name));
    world.finish().await;
}

#[tokio::test]
async fn alipay_refuses_another_person_at_paying_and_takes_the_right_one() {
    let world = World::start(&[]).await;
    let (user, real) = somebody(Alipay);
    let order = world.merchant.create_with(order_for(&real)).await;
    let id = order["id"].as_str().unwrap();

    let attempt = world.merchant.start(id).await;
    let (other, _) = somebody(Alipay);
    let mut phone = Student::new(Alipay, &other);
    phone.scan(&attempt).await.expect(200);
    phone.press_pay().await.expect(200);
    let trade = trade_number(id, attempt["number"].as_u64().unwrap());
    let act = json!({ "out_trade_no": trade, "user": other });
    let (status, refused) = world.simulators.lever("pay", &act).await;
    assert_eq!((status, &refused["error"]), (409, &json!("other_person")));
    phone.release().await.expect(200);
    world.merchant.until_attempt(id, "cancelled").await;

    own_wallet_pays(&world, id, Alipay, &user).await;
    world.finish().await;
}

#[tokio::test]
async fn a_merchant_may_take_orders_only_from_who_is_registered() {
    let world = World::start(&[]).await;
    let listed = world.gateway.operate_rows(&["merchant", "list"]);
    let own = listed.iter().find(|one| one["name"] == "测试考区").unwrap();
    assert_eq!(own["payer_must_be_registrant"], false);
    let before = new_order(&json!({}));
    let stands = world.merchant.post("/v1/orders", &before).await.expect(201);

    let id = own["merchant_id"].as_str().unwrap();
    let rule = ["merchant", "set", id, "--payer-must-be-registrant", "true"];
    let set = world.gateway.operate(&rule);
    assert_eq!(set["payer_must_be_registrant"], true);
    let wrong = [&rule[..4], &["maybe"]].concat();
    assert_eq!(world.gateway.run(&wrong).status.code(), Some(2));
    // Keys and merchants are remembered for a moment.
    let patience = std::time::Duration::from_secs(20);
    let refused = eventually("the rule", patience, async || {
        let answer = world
            .merchant
            .post("/v1/orders", &new_order(&json!({})))
            .await;
        (answer.status != 201).then_some(answer)
    })
    .await;
    let refused = refused.expect(400);
    assert_eq!(refused["errors"][0]["pointer"], "/registrant");

    let other = json!({ "registrant": { "name": "欧阳报名" } });
    let answer = world.merchant.post("/v1/orders", &new_order(&other)).await;
    let refused = answer.expect(422);
    assert_eq!(refused["code"], "payer_mismatch");
    assert_eq!(refused["differing"], json!(["name"]));
    let same = json!({ "registrant": { "name": "测试考生" } });
    let taken = world.merchant.create_with(same).await;
    assert_eq!(taken["registrant"]["name"], "测*");
    // What was taken before is answered as ever.
    let again = world.merchant.post("/v1/orders", &before).await.expect(200);
    assert_eq!(again["id"], stands["id"]);
    world.finish().await;
}
