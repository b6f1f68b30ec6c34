//! Who is calling: the socket's address, or what a configured proxy says of it (reliability §5).

use std::net::{IpAddr, Ipv6Addr};

use actix_web::HttpRequest;
use actix_web::http::header::HeaderMap;
use ipnet::IpNet;

/// The client's address. `X-Forwarded-For` counts only as far back as the proxies we trust wrote it:
/// from its end, the first address that is no trusted proxy is the client.
pub fn client_address(request: &HttpRequest, trusted: &[IpNet]) -> Option<IpAddr> {
    resolve(request.peer_addr()?.ip(), request.headers(), trusted)
}

/// The same, from the parts of a request.
pub fn resolve(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> Option<IpAddr> {
    let is_trusted = |address: &IpAddr| trusted.iter().any(|network| network.contains(address));
    let mut client = peer.to_canonical();
    let hops: Vec<&str> = headers
        .get_all("x-forwarded-for")
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .collect();
    for hop in hops.into_iter().rev() {
        if !is_trusted(&client) {
            break;
        }
        // What cannot be read ends the chain: nothing before it can be believed.
        let Some(address) = parse(hop) else { break };
        client = address;
    }
    Some(client)
}

/// `192.0.2.1`, `192.0.2.1:4711`, `2001:db8::1` or `[2001:db8::1]:4711`.
fn parse(hop: &str) -> Option<IpAddr> {
    let address: Option<IpAddr> = hop
        .parse()
        .ok()
        .or_else(|| {
            hop.parse()
                .ok()
                .map(|socket: std::net::SocketAddr| socket.ip())
        })
        .or_else(|| {
            let inner = hop.strip_prefix('[')?.strip_suffix(']')?;
            inner.parse().ok()
        });
    Some(address?.to_canonical())
}

/// The address as limits count it: IPv6 by its /64, since one host owns all of that.
pub fn limited_by(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::http::header::{HeaderName, HeaderValue};

    fn client(peer: &str, forwarded: &[&str], trusted: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for value in forwarded {
            headers.append(
                HeaderName::from_static("x-forwarded-for"),
                HeaderValue::from_str(value).unwrap(),
            );
        }
        let trusted: Vec<IpNet> = trusted.iter().map(|net| net.parse().unwrap()).collect();
        resolve(peer.parse().unwrap(), &headers, &trusted)
            .unwrap()
            .to_string()
    }

    #[test]
    fn believes_only_configured_proxies() {
        assert_eq!(client("203.0.113.9", &["1.1.1.1"], &[]), "203.0.113.9");
        let proxies = ["10.0.0.0/8"];
        assert_eq!(client("10.0.0.1", &["1.1.1.1"], &proxies), "1.1.1.1");
        // What the client itself wrote in front is not believed.
        assert_eq!(
            client("10.0.0.1", &["6.6.6.6, 203.0.113.9, 10.0.0.2"], &proxies),
            "203.0.113.9"
        );
        assert_eq!(
            client("10.0.0.1", &["6.6.6.6", "203.0.113.9:5000"], &proxies),
            "203.0.113.9"
        );
        assert_eq!(client("10.0.0.1", &["nonsense"], &proxies), "10.0.0.1");
        assert_eq!(
            client("::ffff:10.0.0.1", &["[2001:db8::7]:80"], &proxies),
            "2001:db8::7"
        );
    }

    #[test]
    fn one_ipv6_host_is_one_address() {
        let first: IpAddr = "2001:db8:1:2:aaaa::1".parse().unwrap();
        let second: IpAddr = "2001:db8:1:2:bbbb::2".parse().unwrap();
        assert_eq!(limited_by(first), limited_by(second));
    }
}
