//! The store's URL and what we add to it: every wait is bounded, every session is durable, and nobody
//! but the server itself is talked to.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};
use tokio_postgres_rustls::MakeRustlsConnect;

/// What a session of ours keeps to. The server's own settings of these are of no concern to us, but
/// for what makes a commit durable: that is checked, not set, since it may be stricter than ours.
/// Compiling a statement would take longer than any of ours runs.
const SESSION: &str = "-c jit=off -c statement_timeout=3000 -c lock_timeout=1000 \
    -c idle_in_transaction_session_timeout=5000 -c log_parameter_max_length_on_error=0";
/// A migration may take its time, and waits for that of another node.
const MIGRATING: &str = "-c statement_timeout=0 -c lock_timeout=60000 \
    -c log_parameter_max_length_on_error=0";

/// Where the database is and how it is reached.
#[derive(Clone)]
pub(super) struct Address {
    config: Config,
    pub tls: MakeRustlsConnect,
    /// For messages: hosts, ports and database, nothing else.
    pub place: String,
}

impl std::fmt::Debug for Address {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_tuple("Address").field(&self.place).finish()
    }
}

/// Why a URL does not lead to a store.
#[derive(Debug, thiserror::Error)]
pub enum AddressError {
    /// Says what is wrong with which part; never the URL, which may hold a password.
    #[error("store.url: {0}; it is written postgres://user@host/database?sslmode=require")]
    Url(String),
    #[error("store.ca_file, or sslrootcert in store.url: {path}: {source}")]
    Roots { path: PathBuf, source: io::Error },
    #[error(
        "store.url: no certificate to judge the server's by: install the system's or name a file in store.ca_file"
    )]
    NoRoots,
}

impl Address {
    /// `ca_file`: certificates to trust in place of the system's, where the URL names none.
    pub fn parse(url: &str, ca_file: Option<&Path>) -> Result<Self, AddressError> {
        let asked = Asked::of(url)?;
        let mut config: Config = asked.url.parse().map_err(|error| {
            // Its source names the part, and quotes no value but of flags.
            let why = std::error::Error::source(&error).map(ToString::to_string);
            AddressError::Url(why.unwrap_or_else(|| "not a URL of a database".to_owned()))
        })?;
        if config.get_hosts().is_empty() {
            return Err(AddressError::Url("a host is missing".to_owned()));
        }
        let (hosts, ports) = (config.get_hosts().len(), config.get_ports().len());
        if ports > 1 && ports != hosts {
            return Err(AddressError::Url("not one port for each host".to_owned()));
        }
        let addresses = config.get_hostaddrs().len();
        if addresses > 0 && addresses != hosts {
            return Err(AddressError::Url(
                "not one hostaddr for each host".to_owned(),
            ));
        }
        if config.get_dbname().is_none() {
            return Err(AddressError::Url("a database is missing".to_owned()));
        }
        if !asked.says_sslmode {
            config.ssl_mode(if config.get_hosts().iter().all(is_here) {
                SslMode::Disable
            } else {
                SslMode::Require
            });
        }
        if config.get_application_name().is_none() {
            config.application_name("enrollpay");
        }
        config
            .connect_timeout(Duration::from_secs(2))
            .tcp_user_timeout(Duration::from_secs(5))
            .keepalives(true)
            .keepalives_idle(Duration::from_secs(5))
            .keepalives_interval(Duration::from_secs(1))
            .keepalives_retries(3)
            .target_session_attrs(TargetSessionAttrs::ReadWrite);
        let roots = match config.get_ssl_mode() {
            SslMode::Disable => RootCertStore::empty(),
            _ => roots(asked.roots.or_else(|| ca_file.map(Path::to_owned)))?,
        };
        Ok(Self {
            tls: MakeRustlsConnect::new(tls(roots)?),
            place: place(&config),
            config,
        })
    }

    /// For the pools. With `role`, the session has that role's rights from its beginning.
    pub fn serving(&self, role: Option<&str>) -> Config {
        let role = role.map(|role| format!(" -c role={}", escaped(role)));
        self.with_options(&format!("{SESSION}{}", role.unwrap_or_default()))
    }

    pub fn migrating(&self) -> Config {
        self.with_options(MIGRATING)
    }

    /// The same for each of the servers alone.
    pub fn servers(config: &Config) -> Vec<Config> {
        let hosts = config.get_hosts().iter().enumerate();
        hosts
            .map(|(index, host)| only(config, index, host))
            .collect()
    }

    fn with_options(&self, ours: &str) -> Config {
        let mut config = self.config.clone();
        // The last word counts: ours.
        let all = match self.config.get_options() {
            Some(theirs) => format!("{theirs} {ours}"),
            None => ours.to_owned(),
        };
        config.options(all);
        config
    }
}

/// Hosts can be added to what is configured, and not be taken away: everything else is copied.
fn only(config: &Config, index: usize, host: &Host) -> Config {
    let mut one = Config::new();
    match host {
        Host::Tcp(name) => one.host(name),
        Host::Unix(path) => one.host_path(path),
    };
    if let Some(address) = config.get_hostaddrs().get(index) {
        one.hostaddr(*address);
    }
    let ports = config.get_ports();
    if let Some(port) = ports.get(index).or_else(|| ports.first()) {
        one.port(*port);
    }
    if let Some(user) = config.get_user() {
        one.user(user);
    }
    if let Some(password) = config.get_password() {
        one.password(password);
    }
    if let Some(name) = config.get_dbname() {
        one.dbname(name);
    }
    if let Some(options) = config.get_options() {
        one.options(options);
    }
    if let Some(name) = config.get_application_name() {
        one.application_name(name);
    }
    if let Some(time) = config.get_connect_timeout() {
        one.connect_timeout(*time);
    }
    if let Some(time) = config.get_tcp_user_timeout() {
        one.tcp_user_timeout(*time);
    }
    if let Some(interval) = config.get_keepalives_interval() {
        one.keepalives_interval(interval);
    }
    if let Some(retries) = config.get_keepalives_retries() {
        one.keepalives_retries(retries);
    }
    one.keepalives(config.get_keepalives())
        .keepalives_idle(config.get_keepalives_idle())
        .ssl_mode(config.get_ssl_mode())
        .ssl_negotiation(config.get_ssl_negotiation())
        .channel_binding(config.get_channel_binding())
        .target_session_attrs(config.get_target_session_attrs());
    one
}

/// The URL without what only we understand.
struct Asked {
    url: String,
    roots: Option<PathBuf>,
    says_sslmode: bool,
}

impl Asked {
    fn of(url: &str) -> Result<Self, AddressError> {
        let mut asked = Self {
            url: url.to_owned(),
            roots: None,
            says_sslmode: false,
        };
        let Some((place, query)) = url.split_once('?') else {
            return Ok(asked);
        };
        let mut rest = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            match pair.split_once('=') {
                Some(("sslrootcert", path)) => {
                    let path = percent_encoding::percent_decode_str(path).decode_utf8();
                    let path =
                        path.map_err(|_| AddressError::Url("sslrootcert: not UTF-8".to_owned()))?;
                    asked.roots = Some(PathBuf::from(path.into_owned()));
                }
                // Whenever we speak TLS we look at the certificate and at its name.
                Some(("sslmode", "verify-ca" | "verify-full")) => {
                    asked.says_sslmode = true;
                    rest.push("sslmode=require");
                }
                Some(("sslmode", _)) => {
                    asked.says_sslmode = true;
                    rest.push(pair);
                }
                _ => rest.push(pair),
            }
        }
        asked.url = format!("{place}?{}", rest.join("&"));
        Ok(asked)
    }
}

fn is_here(host: &Host) -> bool {
    match host {
        Host::Unix(_) => true,
        Host::Tcp(name) => {
            name == "localhost"
                || name
                    .parse::<std::net::IpAddr>()
                    .is_ok_and(|address| address.is_loopback())
        }
    }
}

fn place(config: &Config) -> String {
    let ports = config.get_ports();
    let servers = config.get_hosts().iter().enumerate().map(|(index, host)| {
        let port = ports.get(index).or_else(|| ports.first());
        let port = port.copied().unwrap_or(5432);
        match host {
            Host::Tcp(name) => format!("{name}:{port}"),
            Host::Unix(path) => format!("{}:{port}", path.display()),
        }
    });
    let servers: Vec<_> = servers.collect();
    let database = config.get_dbname().unwrap_or_default();
    format!("{}/{database}", servers.join(","))
}

/// As the server's own splitting of options wants it.
fn escaped(value: &str) -> String {
    let mut escaped = String::new();
    for character in value.chars() {
        if character.is_whitespace() || character == '\\' {
            escaped.push('\\');
        }
        escaped.push(character);
    }
    escaped
}

fn roots(file: Option<PathBuf>) -> Result<RootCertStore, AddressError> {
    let mut roots = RootCertStore::empty();
    if let Some(path) = file {
        let unreadable = |source| AddressError::Roots {
            path: path.clone(),
            source,
        };
        let pem = fs::read(&path).map_err(unreadable)?;
        for certificate in CertificateDer::pem_slice_iter(&pem) {
            let added = certificate
                .map_err(|error| error.to_string())
                .and_then(|one| roots.add(one).map_err(|error| error.to_string()));
            added.map_err(|why| unreadable(io::Error::new(io::ErrorKind::InvalidData, why)))?;
        }
    } else {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    }
    if roots.is_empty() {
        return Err(AddressError::NoRoots);
    }
    Ok(roots)
}

fn tls(roots: RootCertStore) -> Result<ClientConfig, AddressError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| AddressError::Url(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(url: &str) -> SslMode {
        Address::parse(url, None).unwrap().config.get_ssl_mode()
    }

    #[test]
    fn whoever_is_elsewhere_is_spoken_to_by_tls() {
        assert_eq!(mode("postgres://u@127.0.0.1/d"), SslMode::Disable);
        assert_eq!(mode("postgres://u@localhost:6000/d"), SslMode::Disable);
        assert_eq!(mode("postgres://u@%2Frun%2Fpg/d"), SslMode::Disable);
        let file = tempfile::NamedTempFile::new().unwrap();
        let pem = rcgen::generate_simple_self_signed(vec!["db".to_owned()])
            .unwrap()
            .cert
            .pem();
        fs::write(file.path(), pem).unwrap();
        let roots = format!("sslrootcert={}", file.path().display());
        for url in [
            format!("postgres://u@db.example/d?{roots}"),
            format!("postgres://u@10.0.0.1/d?{roots}"),
            format!("postgres://u@127.0.0.1,10.0.0.1/d?{roots}"),
            format!("postgres://u@127.0.0.1/d?sslmode=verify-full&{roots}"),
        ] {
            assert_eq!(mode(&url), SslMode::Require, "{url}");
        }
    }

    #[test]
    fn a_wrong_url_is_explained_without_its_password() {
        for url in [
            "postgres://u:sekret@h/d?sslmode=perhaps",
            "postgres://u:sekret@h/d?nonsense=1",
            "postgres://u:sekret@h:port/d",
            "postgres://u:sekret@h",
            "postgres://u:sekret@h/d?sslrootcert=/nowhere",
            "mysql://u:sekret@h/d",
        ] {
            let error = Address::parse(url, None).unwrap_err().to_string();
            assert!(error.contains("store.url"), "{error}");
            assert!(!error.contains("sekret"), "{error}");
        }
    }

    #[test]
    fn our_terms_come_last() {
        let address = Address::parse(
            "postgres://u@localhost/d?options=-c%20statement_timeout%3D0",
            None,
        )
        .unwrap();
        let config = address.serving(Some("a role"));
        let options = config.get_options().unwrap();
        let (theirs, ours) = options.split_once(' ').unwrap();
        assert_eq!(theirs, "-c");
        assert!(ours.starts_with("statement_timeout=0 -c "), "{options}");
        assert!(ours.contains(" -c statement_timeout=3000 "), "{options}");
        assert!(options.ends_with("-c role=a\\ role"));
        assert!(!format!("{address:?}").contains("u@"));
    }
}
