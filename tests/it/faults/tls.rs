//! TLS between a node and PostgreSQL: with the server's authority known it is as ever, and with anything
//! less nothing is said.

use std::path::Path;

use enrollpay::store::postgres::{Options, PostgresStore};

use crate::support::World;
use crate::support::certificates::Certificates;
use crate::support::cluster::Cluster;
use crate::support::postgres::Postgres;
use crate::support::student::{Alipay, Wechat};

/// Why this address is no store.
async fn refusal(url: &str, ca_file: &Path) -> String {
    let options = Options {
        ca_file: Some(ca_file.to_owned()),
        ..Options::default()
    };
    let opened = PostgresStore::open(url, options).await;
    opened
        .expect_err("an address to stay away from")
        .to_string()
}

#[tokio::test]
async fn an_order_is_paid_over_tls_and_no_stranger_is_told_anything() {
    let folder = tempfile::tempdir().unwrap();
    let made = Certificates::new();
    let (known, strange) = (folder.path().join("known"), folder.path().join("strange"));
    std::fs::write(&known, &made.authority).unwrap();
    std::fs::write(&strange, Certificates::new().authority).unwrap();
    let server = Postgres::private_with(&[("log_connections", "on")]);
    let database = server.database();
    let url = |mode: &str| format!("{}?sslmode={mode}", database.url());

    for mode in ["require", "verify-full"] {
        let why = refusal(&url(mode), &known).await;
        assert!(why.contains("does not support TLS"), "{why}");
    }
    server.secure(&made.server, &made.key);
    for mode in ["require", "verify-ca", "verify-full"] {
        let why = refusal(&url(mode), &strange).await;
        assert!(why.contains("invalid peer certificate"), "{why}");
    }
    let elsewhere = Certificates::of(&["db.example"]);
    std::fs::write(&strange, &elsewhere.authority).unwrap();
    server.secure(&elsewhere.server, &elsewhere.key);
    let why = refusal(&url("require"), &strange).await;
    assert!(why.contains("certificate not valid for name"), "{why}");
    assert!(why.contains("check store.url"), "{why}");
    // Nobody said who they were.
    let log = server.control().log();
    assert!(!log.contains("application_name=enrollpay"), "{log}");

    server.secure(&made.server, &made.key);
    let url = url("verify-full");
    let ca_file = known.display().to_string();
    let environment = [("STORE__URL", &*url), ("STORE__CA_FILE", &ca_file)];
    let world = World::cluster(Cluster::on(2, database), &environment).await;
    world.paid(Wechat).await;
    world.paid(Alipay).await;
    let encrypted = "SELECT bool_and(ssl), count(*) > 0 FROM pg_stat_ssl
        JOIN pg_stat_activity USING (pid) WHERE application_name = 'enrollpay'";
    let kept = &world.cluster.as_ref().unwrap().database;
    assert_eq!(kept.sql(encrypted), "t|t");
    world.finish().await;
}
