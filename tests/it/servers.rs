//! The servers that tests lean on behave as the failures they stand for.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use crate::support::postgres::Postgres;
use crate::support::redis::RedisServer;

/// What one connection to a Redis hears to PING.
fn ping(connection: &mut TcpStream) -> std::io::Result<String> {
    connection.write_all(b"PING\r\n")?;
    let mut answer = [0; 7];
    connection.read_exact(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

#[test]
fn databases_are_empty_and_apart() {
    let (one, two) = (Postgres::shared().database(), Postgres::shared().database());
    one.sql("CREATE TABLE here (id bigint)");
    assert_eq!(two.sql("SELECT to_regclass('here') IS NULL"), "t");
    let (one, two) = (
        RedisServer::shared().database(),
        RedisServer::shared().database(),
    );
    assert_ne!(one.url(), two.url());
}

#[test]
fn a_killed_postgres_comes_back_with_what_was_committed() {
    let server = Postgres::private_with(&[("max_connections", "20")]);
    let database = server.database();
    assert_eq!(database.sql("SHOW max_connections"), "20");
    database.sql("CREATE TABLE kept (id bigint); INSERT INTO kept VALUES (7)");
    let before = database.url();
    server.control().kill9();
    let port = ("127.0.0.1", server.control().port());
    assert!(TcpStream::connect(port).is_err());
    server.control().restart();
    assert_eq!(database.url(), before);
    assert_eq!(database.sql("SELECT id FROM kept"), "7");
    assert!(server.control().log().contains("automatic recovery"));
    server.control().stop();
    assert!(TcpStream::connect(port).is_err());
}

#[test]
fn a_paused_server_is_silent_until_it_is_resumed() {
    let server = RedisServer::private();
    let port = ("127.0.0.1", server.control().port());
    assert_eq!(server.url(), format!("redis://127.0.0.1:{}", port.1));
    let mut connection = TcpStream::connect(port).unwrap();
    let patience = |connection: &TcpStream, time| connection.set_read_timeout(Some(time)).unwrap();
    patience(&connection, Duration::from_secs(10));
    assert_eq!(ping(&mut connection).unwrap(), "+PONG\r\n");

    server.control().pause();
    patience(&connection, Duration::from_millis(200));
    assert!(ping(&mut connection).is_err());
    server.control().resume();
    patience(&connection, Duration::from_secs(10));
    let mut answer = [0; 7];
    connection.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"+PONG\r\n");

    server.control().kill9();
    assert!(ping(&mut connection).is_err());
    server.control().restart();
    assert_eq!(
        ping(&mut TcpStream::connect(port).unwrap()).unwrap(),
        "+PONG\r\n"
    );
}
