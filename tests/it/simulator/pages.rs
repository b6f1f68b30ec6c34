//! The phone: its pages, and its built-in browser with the bridge.

use super::*;

fn with_browsers() -> World {
    let mut options = options();
    options.wallet_browsers = true;
    World::with(options)
}

#[tokio::test]
async fn the_phone_offers_only_the_wallet_that_can_read_the_code() {
    let world = World::open();
    let page = world
        .client
        .get(world.at("/wallet?scan=weixin%3A%2F%2Fwxpay%2Fbizpayurl%3Fpr%3Dabc"))
        .send()
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    let disabled = |user: &str| {
        let start = page.find(&format!("value=\"{user}\"")).unwrap();
        page[start..start + 40].contains("disabled")
    };
    assert!(!disabled("zhangsan") && disabled("wangwu"));
    assert!(page.contains("weixin://wxpay/bizpayurl?pr=abc"));
}

#[tokio::test]
async fn the_browser_goes_to_this_machine_only() {
    let world = with_browsers();
    for (address, status) in [
        ("https://evil.example/", 422),
        ("http://192.168.1.1/", 422),
        ("file:///etc/passwd", 422),
        ("nonsense", 422),
        ("http://127.0.0.1:8080/s/abc", 303),
    ] {
        let form = [("user", "zhangsan"), ("content", address)];
        let answer = world
            .client
            .post(world.at("/wallet/scan"))
            .form(&form)
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), status, "{address}");
    }
    let own = world.simulator.handle().browser_origin("zhangsan").unwrap();
    assert_ne!(own, world.simulator.origin());
}
