//! The command beside a running node, and what it says to an operator's mistakes (reliability F50).

use std::process::Output;

use serde_json::Value;

use crate::support::process::{Gateway, Simulators};

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test]
async fn mistakes_are_answered_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let simulators = Simulators::start(folder.path()).await;
    let gateway = Gateway::new(folder.path(), &simulators, &[]);
    let (today, _) = {
        let now = jiff::Timestamp::now().as_millisecond();
        enrollpay::provider::beijing::date_and_time(enrollpay::order::Timestamp::from_millis(now))
    };
    let run = |gateway: &Gateway, account: &str, date: &str| {
        gateway.run(&["reconcile", "--account", account, "--date", date])
    };
    let yesterday = today.yesterday().unwrap().to_string();
    let without = run(&gateway, "demo-wechat", &yesterday);
    assert_eq!(without.status.code(), Some(1));
    assert!(said(&without).contains("enrollpay serve"), "{without:?}");

    gateway.launch(&[]);
    gateway.ready().await;
    for (account, date, words) in [
        (
            "demo-wechat",
            today.to_string().as_str(),
            "a day that is over",
        ),
        ("demo-wechat", "2020-01-01", "three months"),
        ("demo-alipay", "2001-01-01", "six years"),
        ("demo-wechat", "yesterday", "such as 2026-11-19"),
        ("nobody", yesterday.as_str(), "demo-alipay, demo-wechat"),
    ] {
        let refused = run(&gateway, account, date);
        assert_eq!(refused.status.code(), Some(1), "{refused:?}");
        assert!(said(&refused).contains(words), "{refused:?}");
    }
    // A day before anything happened: its bill is empty, and so are the books. Not yesterday: until ten in
    // the morning its bill is not made.
    let before = today.yesterday().unwrap().yesterday().unwrap().to_string();
    let done = run(&gateway, "demo-wechat", &before);
    assert_eq!(done.status.code(), Some(0), "{done:?}");
    let answer: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(
        (&answer["state"], &answer["matched"]),
        (&"finished".into(), &0.into())
    );
    assert_eq!(gateway.terminate().await.code(), Some(0));
}
