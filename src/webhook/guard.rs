//! Keeps webhooks from dialling inwards (SSRF). A merchant names the address and we dial it from
//! inside a school's network, so an address is judged twice: when it is registered, and again by the
//! resolver that each connection uses, on the very addresses that are dialled (F36).
//!
//! Start at [`Policy`]; [`Guard::check_url`] is the question that registration asks.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;

use async_trait::async_trait;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use url::{Host, Url};

/// What may be dialled.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// Only the ports 443 and 8443, outside `allowed_networks`.
    pub production: bool,
    /// `webhooks.allowed_networks`: dialled although private, over http too and on any port. The
    /// configuration puts loopback here in demo mode.
    pub allowed_networks: Vec<IpNet>,
    /// `admin.listen`: never dialled, whatever `allowed_networks` says.
    pub admin: Option<SocketAddr>,
}

/// Why an address may not be dialled. The texts go into notes and to whoever registers the address;
/// they name no path and no query.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("expected an absolute https:// address")]
    NotAnAddress,
    #[error("expected https, found {scheme}: http only to webhooks.allowed_networks")]
    Scheme { scheme: String },
    #[error("expected an address without user name and password")]
    UserInfo,
    #[error("expected port 443 or 8443, found {port}: others only to webhooks.allowed_networks")]
    Port { port: u16 },
    #[error("expected a host name, found an IP address outside webhooks.allowed_networks")]
    Literal,
    #[error("the host resolves to a {class} address outside webhooks.allowed_networks")]
    Address { class: &'static str },
    #[error("this is the gateway's own admin listener")]
    Admin,
    #[error("the host name does not resolve")]
    Unresolved,
}

/// Turns a host name into addresses.
#[async_trait]
pub trait Lookup: Send + Sync + fmt::Debug {
    async fn lookup(&self, host: &str) -> std::io::Result<Vec<IpAddr>>;
}

/// The machine's resolver.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemLookup;

#[async_trait]
impl Lookup for SystemLookup {
    async fn lookup(&self, host: &str) -> std::io::Result<Vec<IpAddr>> {
        let found = tokio::net::lookup_host((host, 0)).await?;
        Ok(found.map(|address| address.ip()).collect())
    }
}

/// What the addresses behind one URL must satisfy; it follows from the URL and the policy alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rules {
    /// http, an unusual port, or an IP literal: only `allowed_networks` may be behind it.
    only_allowed: Option<Because>,
    /// The URL's port is the admin listener's.
    admin_port: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Because {
    Http,
    Port(u16),
    Literal,
}

impl Rules {
    /// How many clients are needed so that each connects under its own rules.
    pub(super) const KINDS: usize = 4;

    pub(super) fn kind(self) -> usize {
        usize::from(self.only_allowed.is_some()) + 2 * usize::from(self.admin_port)
    }

    /// Rules that are as strict as all of one kind.
    pub(super) fn of_kind(kind: usize) -> Self {
        Self {
            only_allowed: (kind % 2 == 1).then_some(Because::Http),
            admin_port: kind >= 2,
        }
    }
}

/// A policy at work. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Guard {
    policy: Arc<Policy>,
    lookup: Arc<dyn Lookup>,
}

impl Guard {
    pub fn new(policy: Policy, lookup: Arc<dyn Lookup>) -> Self {
        Self {
            policy: Arc::new(policy),
            lookup,
        }
    }

    /// May this address be registered? It is resolved now, and again at each delivery.
    pub async fn check_url(&self, text: &str) -> Result<Url, Refused> {
        let (url, rules) = self.read(text)?;
        if let Some(Host::Domain(name)) = url.host() {
            let addresses = self
                .lookup
                .lookup(name)
                .await
                .map_err(|_| Refused::Unresolved)?;
            self.judge(&addresses, rules)?;
        }
        Ok(url)
    }

    /// All that can be said without resolving. An IP literal is judged here, as no resolver is ever
    /// asked about it.
    pub(super) fn read(&self, text: &str) -> Result<(Url, Rules), Refused> {
        let url = Url::parse(text).map_err(|_| Refused::NotAnAddress)?;
        if !matches!(url.scheme(), "https" | "http") {
            return Err(Refused::Scheme {
                scheme: url.scheme().to_owned(),
            });
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Refused::UserInfo);
        }
        let port = url.port_or_known_default().ok_or(Refused::NotAnAddress)?;
        let literal = match url.host().ok_or(Refused::NotAnAddress)? {
            Host::Domain(_) => None,
            Host::Ipv4(address) => Some(IpAddr::V4(address)),
            Host::Ipv6(address) => Some(IpAddr::V6(address)),
        };
        let only_allowed = if url.scheme() == "http" {
            Some(Because::Http)
        } else if self.policy.production && !matches!(port, 443 | 8443) {
            Some(Because::Port(port))
        } else {
            literal.map(|_| Because::Literal)
        };
        let rules = Rules {
            only_allowed,
            admin_port: self.policy.admin.is_some_and(|admin| admin.port() == port),
        };
        if let Some(address) = literal {
            self.judge(&[address], rules)?;
        }
        Ok((url, rules))
    }

    /// Refuses where any one address is refused: an attacker chooses which of them is dialled.
    fn judge(&self, addresses: &[IpAddr], rules: Rules) -> Result<(), Refused> {
        if addresses.is_empty() {
            return Err(Refused::Unresolved);
        }
        addresses
            .iter()
            .try_for_each(|address| self.judge_one(*address, rules))
    }

    fn judge_one(&self, address: IpAddr, rules: Rules) -> Result<(), Refused> {
        if rules.admin_port && self.reaches_admin(address) {
            return Err(Refused::Admin);
        }
        let class = class_of(address);
        // An unspecified address reaches whatever listens here, so no list may allow it.
        let allowed = class != Some(UNSPECIFIED)
            && self
                .policy
                .allowed_networks
                .iter()
                .any(|network| network.contains(&address));
        if allowed {
            return Ok(());
        }
        if let Some(class) = class {
            return Err(Refused::Address { class });
        }
        match rules.only_allowed {
            None => Ok(()),
            Some(Because::Http) => Err(Refused::Scheme {
                scheme: "http".to_owned(),
            }),
            Some(Because::Port(port)) => Err(Refused::Port { port }),
            Some(Because::Literal) => Err(Refused::Literal),
        }
    }

    fn reaches_admin(&self, address: IpAddr) -> bool {
        let Some(admin) = self.policy.admin else {
            return false;
        };
        let address = address.to_canonical();
        let admin = admin.ip().to_canonical();
        address == admin
            || address.is_unspecified()
            || (admin.is_loopback() && address.is_loopback())
            // The admin listener is on every address of this machine.
            || (admin.is_unspecified() && is_of_this_machine(address))
    }

    /// The resolver of the client for one kind of rules: what it hands out is what is dialled.
    pub(super) fn resolver(&self, rules: Rules) -> Resolver {
        Resolver {
            guard: self.clone(),
            rules,
        }
    }
}

/// Only an address of this machine can be bound to.
fn is_of_this_machine(address: IpAddr) -> bool {
    address.is_loopback() || UdpSocket::bind(SocketAddr::new(address, 0)).is_ok()
}

/// Resolves and judges in one step, so that nothing can change between the two.
#[derive(Clone, Debug)]
pub(super) struct Resolver {
    guard: Guard,
    rules: Rules,
}

impl reqwest::dns::Resolve for Resolver {
    fn resolve(&self, name: reqwest::dns::Name) -> reqwest::dns::Resolving {
        let this = self.clone();
        Box::pin(async move {
            let addresses = this
                .guard
                .lookup
                .lookup(name.as_str())
                .await
                .map_err(|_| Refused::Unresolved)?;
            this.guard.judge(&addresses, this.rules)?;
            let addresses: Vec<SocketAddr> = addresses
                .into_iter()
                // The URL's port replaces the 0.
                .map(|address| SocketAddr::new(address, 0))
                .collect();
            Ok(Box::new(addresses.into_iter()) as reqwest::dns::Addrs)
        })
    }
}

const UNSPECIFIED: &str = "unspecified";

const fn v4(a: u8, b: u8, c: u8, d: u8, prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix)
}

const fn v6(a: u16, b: u16, c: u16, prefix: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0), prefix)
}

/// Everything of the IANA special-purpose registry that is not globally reachable, and the
/// clouds' metadata services that stand outside it.
const CLASSES_V4: &[(Ipv4Net, &str)] = &[
    (v4(0, 0, 0, 0, 8), UNSPECIFIED),
    (v4(127, 0, 0, 0, 8), "loopback"),
    (v4(10, 0, 0, 0, 8), "private"),
    (v4(172, 16, 0, 0, 12), "private"),
    (v4(192, 168, 0, 0, 16), "private"),
    (v4(169, 254, 0, 0, 16), "link-local"),
    (v4(100, 64, 0, 0, 10), "carrier NAT"),
    (v4(168, 63, 129, 16, 32), "metadata"),
    (v4(192, 0, 0, 0, 24), "reserved"),
    (v4(192, 0, 2, 0, 24), "documentation"),
    (v4(198, 51, 100, 0, 24), "documentation"),
    (v4(203, 0, 113, 0, 24), "documentation"),
    (v4(192, 88, 99, 0, 24), "6to4"),
    (v4(198, 18, 0, 0, 15), "benchmark"),
    (v4(224, 0, 0, 0, 4), "multicast"),
    (v4(240, 0, 0, 0, 4), "reserved"),
];

const CLASSES_V6: &[(Ipv6Net, &str)] = &[
    (Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 128), UNSPECIFIED),
    (Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128), "loopback"),
    (
        Ipv6Net::new_assert(Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0), 96),
        "mapped",
    ),
    (v6(0x64, 0xff9b, 0, 96), "NAT64"),
    (v6(0x64, 0xff9b, 1, 48), "NAT64"),
    (v6(0x2002, 0, 0, 16), "6to4"),
    (v6(0x2001, 0, 0, 23), "reserved"),
    (v6(0x2001, 0xdb8, 0, 32), "documentation"),
    (v6(0x3fff, 0, 0, 20), "documentation"),
    (v6(0xfc00, 0, 0, 7), "private"),
    (v6(0xfe80, 0, 0, 10), "link-local"),
    (v6(0xfec0, 0, 0, 10), "private"),
    (v6(0xff00, 0, 0, 8), "multicast"),
];

/// Only this block of IPv6 is handed out for the public internet.
const GLOBAL_V6: Ipv6Net = v6(0x2000, 0, 0, 3);

/// Why an address is not of the public internet; `None` where it is.
fn class_of(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(address) => CLASSES_V4
            .iter()
            .find(|(network, _)| network.contains(&address))
            .map(|(_, class)| *class),
        IpAddr::V6(address) => CLASSES_V6
            .iter()
            .find(|(network, _)| network.contains(&address))
            .map(|(_, class)| *class)
            .or_else(|| (!GLOBAL_V6.contains(&address)).then_some("reserved")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers every name with the same addresses.
    #[derive(Debug)]
    struct Always(Vec<IpAddr>);

    #[async_trait]
    impl Lookup for Always {
        async fn lookup(&self, _: &str) -> std::io::Result<Vec<IpAddr>> {
            Ok(self.0.clone())
        }
    }

    fn guard(policy: Policy, addresses: &[&str]) -> Guard {
        let addresses = addresses.iter().map(|text| text.parse().unwrap()).collect();
        Guard::new(policy, Arc::new(Always(addresses)))
    }

    fn production() -> Policy {
        Policy {
            production: true,
            ..Policy::default()
        }
    }

    fn demo() -> Policy {
        Policy {
            production: false,
            allowed_networks: vec!["127.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()],
            admin: Some("127.0.0.1:8081".parse().unwrap()),
        }
    }

    async fn resolves_to(policy: Policy, addresses: &[&str]) -> Result<Url, Refused> {
        guard(policy, addresses)
            .check_url("https://school.test/hook?token=1")
            .await
    }

    #[tokio::test]
    async fn every_class_of_address_that_is_not_public_is_refused() {
        let table = [
            ("0.0.0.0", "unspecified"),
            ("0.1.2.3", "unspecified"),
            ("127.0.0.1", "loopback"),
            ("127.255.0.9", "loopback"),
            ("10.0.0.1", "private"),
            ("172.16.0.1", "private"),
            ("172.31.255.255", "private"),
            ("192.168.1.1", "private"),
            ("169.254.169.254", "link-local"),
            ("100.64.0.1", "carrier NAT"),
            ("100.100.100.200", "carrier NAT"),
            ("168.63.129.16", "metadata"),
            ("192.0.0.170", "reserved"),
            ("192.0.2.7", "documentation"),
            ("198.51.100.7", "documentation"),
            ("203.0.113.7", "documentation"),
            ("192.88.99.1", "6to4"),
            ("198.19.0.1", "benchmark"),
            ("224.0.0.1", "multicast"),
            ("239.255.255.255", "multicast"),
            ("240.0.0.1", "reserved"),
            ("255.255.255.255", "reserved"),
            ("::", "unspecified"),
            ("::1", "loopback"),
            ("::7f00:1", "reserved"),
            ("::ffff:127.0.0.1", "mapped"),
            ("::ffff:8.8.8.8", "mapped"),
            ("64:ff9b::7f00:1", "NAT64"),
            ("64:ff9b:1::a00:1", "NAT64"),
            ("2002:7f00:1::1", "6to4"),
            ("2001::1", "reserved"),
            ("2001:db8::1", "documentation"),
            ("3fff::1", "documentation"),
            ("fc00::1", "private"),
            ("fd00:ec2::254", "private"),
            ("fe80::1", "link-local"),
            ("fec0::1", "private"),
            ("ff02::1", "multicast"),
            ("4000::1", "reserved"),
        ];
        for (address, class) in table {
            let expected = Err(Refused::Address { class });
            assert_eq!(
                resolves_to(production(), &[address]).await,
                expected,
                "{address}"
            );
            // One bad address among good ones spoils the name.
            let both = ["1.1.1.1", address];
            assert_eq!(
                resolves_to(production(), &both).await,
                expected,
                "{address}"
            );
        }
        for public in [
            "1.1.1.1",
            "172.32.0.1",
            "100.128.0.1",
            "2606:4700::1111",
            "240e::1",
        ] {
            assert!(
                resolves_to(production(), &[public]).await.is_ok(),
                "{public}"
            );
        }
        assert_eq!(
            resolves_to(production(), &[]).await,
            Err(Refused::Unresolved)
        );
    }

    #[tokio::test]
    async fn the_form_of_the_address_is_checked() {
        let guard = guard(production(), &["1.1.1.1"]);
        let table = [
            ("https://school.test/hook", Ok(())),
            ("https://school.test:8443/hook", Ok(())),
            (
                "http://school.test/hook",
                Err(Refused::Scheme {
                    scheme: "http".into(),
                }),
            ),
            (
                "ftp://school.test/hook",
                Err(Refused::Scheme {
                    scheme: "ftp".into(),
                }),
            ),
            ("https://school.test:22/", Err(Refused::Port { port: 22 })),
            ("https://a@school.test/", Err(Refused::UserInfo)),
            ("https://:b@school.test/", Err(Refused::UserInfo)),
            ("https://1.1.1.1/", Err(Refused::Literal)),
            ("school.test/hook", Err(Refused::NotAnAddress)),
            ("", Err(Refused::NotAnAddress)),
        ];
        for (text, expected) in table {
            assert_eq!(guard.check_url(text).await.map(drop), expected, "{text}");
        }
        // Every spelling of an IP literal is one to the parser.
        for text in [
            "https://127.0.0.1/",
            "https://127.1/",
            "https://2130706433/",
            "https://0x7f.0.0.1/",
            "https://0177.0.0.1/",
            "https://[::1]/",
        ] {
            let expected = Err(Refused::Address { class: "loopback" });
            assert_eq!(guard.check_url(text).await, expected, "{text}");
        }
        let mapped = guard.check_url("https://[::ffff:10.0.0.1]/").await;
        assert_eq!(mapped, Err(Refused::Address { class: "mapped" }));
    }

    #[tokio::test]
    async fn allowed_networks_open_http_and_other_ports_for_themselves_alone() {
        let inside = guard(demo(), &["127.0.0.1"]);
        assert!(inside.check_url("http://localhost:9000/hook").await.is_ok());
        assert!(inside.check_url("http://127.0.0.1:9000/hook").await.is_ok());
        let outside = guard(demo(), &["1.1.1.1"]);
        assert_eq!(
            outside.check_url("http://school.test/hook").await,
            Err(Refused::Scheme {
                scheme: "http".into()
            })
        );
        let mixed = guard(demo(), &["127.0.0.1", "1.1.1.1"]);
        assert!(mixed.check_url("http://school.test/hook").await.is_err());
        let private = guard(demo(), &["10.0.0.1"]);
        assert!(private.check_url("https://school.test/hook").await.is_err());
    }

    #[tokio::test]
    async fn the_admin_listener_is_never_dialled() {
        for text in [
            "http://127.0.0.1:8081/metrics",
            "http://127.0.0.2:8081/",
            "http://localhost:8081/",
            "http://[::1]:8081/",
        ] {
            let refused = guard(demo(), &["127.0.0.1"]).check_url(text).await;
            assert_eq!(refused, Err(Refused::Admin), "{text}");
        }
        let everywhere = Policy {
            allowed_networks: vec!["0.0.0.0/0".parse().unwrap()],
            admin: Some("0.0.0.0:8081".parse().unwrap()),
            production: false,
        };
        let own = guard(everywhere.clone(), &["127.0.0.1"]);
        assert_eq!(
            own.check_url("http://x.test:8081/").await,
            Err(Refused::Admin)
        );
        // No allowance reaches the unspecified address, which is this machine too.
        let zero = guard(everywhere.clone(), &["0.0.0.0"]);
        assert_eq!(
            zero.check_url("http://x.test:80/").await,
            Err(Refused::Address {
                class: "unspecified"
            })
        );
        let other = guard(everywhere, &["192.0.2.1"]);
        assert!(other.check_url("http://x.test:8081/").await.is_ok());
    }
}
