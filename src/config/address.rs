//! Addresses of the store and of the locks. They may hold a password: what is wrong with one is said
//! without quoting it.

use std::path::PathBuf;

use percent_encoding::percent_decode_str;
use secrecy::SecretString;
use serde::de::{Deserialize, Deserializer, Error};

/// `store.url`.
#[derive(Clone, Debug)]
pub enum StoreKind {
    /// The embedded store's file: one node.
    Sqlite(PathBuf),
    /// The whole address, its password included: any number of nodes.
    Postgres(SecretString),
}

/// `locks.url`.
#[derive(Clone, Debug)]
pub enum LocksKind {
    /// Within this process.
    Memory,
    Redis(Box<RedisAddress>),
}

/// Where Redis is.
#[derive(Clone, Debug)]
pub struct RedisAddress {
    pub topology: RedisTopology,
    /// One for a single server; of Sentinels and Clusters, some of them.
    pub hosts: Vec<(String, u16)>,
    pub tls: bool,
    pub username: Option<String>,
    pub password: Option<SecretString>,
    pub database: i64,
}

/// How it is run.
#[derive(Clone, Debug)]
pub enum RedisTopology {
    Single,
    Sentinel {
        service: String,
        username: Option<String>,
        password: Option<SecretString>,
    },
    Cluster,
}

const STORE_FORMS: &str = "sqlite:PATH or postgres://USER:PASSWORD@HOST/DATABASE";
const LOCKS_FORMS: &str = "memory:, redis://HOST:6379/0, rediss://… (TLS), \
    redis+sentinel://HOST:26379,HOST:26379/SERVICE?db=0 or redis+cluster://HOST:6379,HOST:6379";

impl StoreKind {
    fn parse(text: &str) -> Option<Self> {
        if let Some(path) = text.strip_prefix("sqlite:") {
            return (!path.is_empty()).then(|| Self::Sqlite(path.into()));
        }
        let rest = ["postgres://", "postgresql://"]
            .iter()
            .find_map(|scheme| text.strip_prefix(scheme))?;
        let fits =
            !rest.is_empty() && !rest.contains(|c: char| c.is_whitespace() || c.is_control());
        fits.then(|| Self::Postgres(text.to_owned().into()))
    }
}

impl LocksKind {
    fn parse(text: &str) -> Option<Self> {
        if text == "memory:" {
            return Some(Self::Memory);
        }
        RedisAddress::parse(text).map(|address| Self::Redis(Box::new(address)))
    }
}

impl RedisAddress {
    /// `SCHEME://[USER[:PASSWORD]@]HOST[:PORT][,HOST[:PORT]…][/PATH][?QUERY]`: several hosts are no URL
    /// of the standard's, so that it is taken apart here; each host is then read as one.
    fn parse(text: &str) -> Option<Self> {
        let (scheme, rest) = text.split_once("://")?;
        let (scheme, tls) = match scheme.strip_prefix("rediss") {
            Some(more) => (more, true),
            None => (scheme.strip_prefix("redis")?, false),
        };
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        // A password may hold an @; a slash in it has to be written %2F.
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (login, hosts) = match authority.rsplit_once('@') {
            Some((login, hosts)) => (Some(login), hosts),
            None => (None, authority),
        };
        let (username, password) = match login.map(|login| login.split_once(':')) {
            None => (None, None),
            Some(None) => (Some(decoded(login.unwrap_or_default())?), None),
            Some(Some((username, password))) => (
                Some(decoded(username)?).filter(|username| !username.is_empty()),
                Some(SecretString::from(decoded(password)?)),
            ),
        };
        let mut database = None;
        let mut sentinel_username = None;
        let mut sentinel_password = None;
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            match &*name {
                "db" => database = Some(value.parse().ok().filter(|number| *number >= 0)?),
                "sentinel_username" => sentinel_username = Some(value.into_owned()),
                "sentinel_password" => {
                    sentinel_password = Some(SecretString::from(value.into_owned()));
                }
                _ => return None,
            }
        }
        let sentinels_own = sentinel_username.is_some() || sentinel_password.is_some();
        let (topology, port) = match scheme {
            "" => {
                if !path.is_empty() {
                    let number = path.parse().ok().filter(|number| *number >= 0)?;
                    database.is_none().then_some(())?;
                    database = Some(number);
                }
                (RedisTopology::Single, 6379)
            }
            "+sentinel" => {
                let service = decoded(path)?;
                (!service.is_empty() && !service.contains('/')).then_some(())?;
                let topology = RedisTopology::Sentinel {
                    service,
                    username: sentinel_username,
                    password: sentinel_password,
                };
                (topology, 26379)
            }
            // A Cluster has one database.
            "+cluster" => {
                (path.is_empty() && database.is_none()).then_some(())?;
                (RedisTopology::Cluster, 6379)
            }
            _ => return None,
        };
        let hosts = hosts
            .split(',')
            .map(|text| host(text, port))
            .collect::<Option<Vec<_>>>()?;
        if matches!(topology, RedisTopology::Single) && hosts.len() != 1 {
            return None;
        }
        if sentinels_own && !matches!(topology, RedisTopology::Sentinel { .. }) {
            return None;
        }
        Some(Self {
            topology,
            hosts,
            tls,
            username,
            password,
            database: database.unwrap_or(0),
        })
    }
}

fn decoded(text: &str) -> Option<String> {
    let text = percent_decode_str(text).decode_utf8().ok()?;
    Some(text.into_owned())
}

/// `HOST[:PORT]`, an IPv6 address in brackets.
fn host(text: &str, usual_port: u16) -> Option<(String, u16)> {
    let url = url::Url::parse(&format!("redis://{text}")).ok()?;
    let host = url.host_str().filter(|host| !host.is_empty())?;
    let bare = url.username().is_empty()
        && url.password().is_none()
        && url.path().is_empty()
        && url.query().is_none()
        && url.fragment().is_none()
        && !host.contains('%');
    let port = url.port().unwrap_or(usual_port);
    (bare && port != 0).then(|| {
        let host = host.trim_start_matches('[').trim_end_matches(']');
        (host.to_owned(), port)
    })
}

/// The scheme alone: the rest may hold a password.
pub(super) fn kind_of(text: &str) -> String {
    match text.split_once(':') {
        Some((scheme, _)) => format!("{scheme}:…"),
        None => "an address without a scheme".to_owned(),
    }
}

fn read<'de, D: Deserializer<'de>, T>(
    deserializer: D,
    parse: impl Fn(&str) -> Option<T>,
    forms: &str,
) -> Result<T, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse(&text).ok_or_else(|| D::Error::custom(format!("{}, expected {forms}", kind_of(&text))))
}

impl<'de> Deserialize<'de> for StoreKind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        read(deserializer, Self::parse, STORE_FORMS)
    }
}

impl<'de> Deserialize<'de> for LocksKind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        read(deserializer, Self::parse, LOCKS_FORMS)
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;

    fn redis(text: &str) -> Option<RedisAddress> {
        match LocksKind::parse(text)? {
            LocksKind::Redis(address) => Some(*address),
            LocksKind::Memory => None,
        }
    }

    #[test]
    fn one_server_has_a_login_and_a_database() {
        let address = redis("rediss://pay:p%40s:s@w@[::1]:7000/3").unwrap();
        assert!(address.tls && matches!(address.topology, RedisTopology::Single));
        assert_eq!(address.hosts, [("::1".to_owned(), 7000)]);
        assert_eq!(address.username.as_deref(), Some("pay"));
        assert_eq!(address.password.unwrap().expose_secret(), "p@s:s@w");
        assert_eq!(address.database, 3);

        let plain = redis("redis://:secret@redis").unwrap();
        assert!(!plain.tls && plain.username.is_none());
        assert_eq!(plain.hosts, [("redis".to_owned(), 6379)]);
        assert_eq!(plain.password.unwrap().expose_secret(), "secret");
        assert_eq!(plain.database, 0);
    }

    #[test]
    fn sentinels_name_a_service_and_clusters_nothing() {
        let address =
            redis("redis+sentinel://pay:a@s1,s2:26380/mymaster?db=2&sentinel_password=b%26")
                .unwrap();
        assert_eq!(
            address.hosts,
            [("s1".to_owned(), 26379), ("s2".to_owned(), 26380)]
        );
        assert_eq!(address.database, 2);
        let RedisTopology::Sentinel {
            service,
            username: None,
            password: Some(password),
        } = address.topology
        else {
            panic!("{address:?}");
        };
        assert_eq!(
            (service.as_str(), password.expose_secret()),
            ("mymaster", "b&")
        );

        let address = redis("rediss+cluster://a,b:7001").unwrap();
        assert!(address.tls && matches!(address.topology, RedisTopology::Cluster));
        assert_eq!(
            address.hosts,
            [("a".to_owned(), 6379), ("b".to_owned(), 7001)]
        );
    }

    #[test]
    fn no_password_is_printed() {
        for text in [
            "redis://pay:hunter2@a",
            "redis+sentinel://:hunter2@a/m?sentinel_password=hunter2",
        ] {
            let kind = LocksKind::parse(text).unwrap();
            assert!(!format!("{kind:?}").contains("hunter2"));
        }
        let kind = StoreKind::parse("postgresql://pay:hunter2@a/b").unwrap();
        assert!(!format!("{kind:?}").contains("hunter2"));
    }

    #[test]
    fn everything_else_is_refused() {
        for text in [
            "",
            "memory",
            "memory:x",
            "redis:",
            "redis://",
            "redis://a,b",
            "redis://a:0",
            "redis://a:70000",
            "redis://a:port",
            "redis://a/b",
            "redis://a/-1",
            "redis://a/1?db=2",
            "redis://a?colour=1",
            "redis://a?sentinel_password=b",
            "redis://a b",
            "redis+sentinel://a",
            "redis+sentinel://a/",
            "redis+sentinel://a/b/c",
            "redis+sentinel://a,/b",
            "redis+cluster://a/1",
            "redis+cluster://a?db=1",
            "redis+unix://a",
            "http://a",
        ] {
            assert!(LocksKind::parse(text).is_none(), "{text}");
        }
        for text in [
            "",
            "sqlite:",
            "postgres:",
            "postgres://",
            "postgres://a b/c",
            "mysql://a/b",
        ] {
            assert!(StoreKind::parse(text).is_none(), "{text}");
        }
    }
}
