//! How connections are set up, the same on both sides: windows, keepalive, no compression.
//!
//! Windows are wide enough for a bulk transfer over a long link, yet bound what a connection can make its receiver hold. What is worth
//! compressing is compressed in [blocks](crate::block); transport compression would triple the cost of small answers.

use std::{error::Error as _, time::Duration};

use hyper_util::client::legacy::connect::HttpConnector;
use tonic::transport::{Channel, Endpoint, Server};

use crate::status::{Failed, Kind};

/// Bytes that a stream may have on the way.
pub const STREAM_WINDOW: u32 = 1 << 20;

/// Bytes that a connection may have on the way, all streams together.
pub const CONNECTION_WINDOW: u32 = 4 << 20;

/// Most calls that a connection may have open at once.
pub const CALLS: u32 = 1024;

/// Longest wait for a connection: a host that is up answers within some round trips.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Silence after which a side asks whether the other is still there, idle watches included.
pub const KEEPALIVE: Duration = Duration::from_secs(20);

/// Longest wait for that answer before the connection counts as broken.
pub const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long nothing of what was sent may get through to the other process before the connection counts as broken (`TCP_USER_TIMEOUT`, RFC 5482; on
/// Linux): packets vanish, or it stands still and does not read. As long as it takes to find that out by asking.
pub const UNCONFIRMED: Duration = KEEPALIVE.saturating_add(KEEPALIVE_TIMEOUT);

/// The same between members. Where packets vanish, TCP sends again after pauses that double: a link that was down for a quarter of a minute would
/// be of no use for half a minute more. Asking more often whether the other is there would find it too, and cost bytes on every idle link.
pub const UNCONFIRMED_BY_MEMBER: Duration = Duration::from_secs(5);

/// Returns a server set up like this, without services.
pub fn server() -> Server {
    Server::builder()
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(CALLS)
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .tcp_nodelay(true)
}

/// Returns the endpoint at `address`: `host:port`, or a URI with the scheme `http`.
///
/// # Errors
/// [`Kind::Invalid`] if it is no address.
pub fn endpoint(address: &str) -> Result<Endpoint, Failed> {
    let uri = if address.contains("://") { address.to_owned() } else { format!("http://{address}") };
    let reachable = |uri: &tonic::transport::Uri| uri.scheme_str() == Some("http") && uri.host().is_some_and(|host| !host.is_empty());
    let endpoint = Endpoint::from_shared(uri).ok().filter(|endpoint| reachable(endpoint.uri()));
    let Some(endpoint) = endpoint else {
        let message = format!("`{address}` is not the address of a server");
        return Err(Failed::here(Kind::Invalid, "BAD_ADDRESS", message, "write host:port, as in localhost:7600"));
    };
    let endpoint = endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true);
    Ok(endpoint.user_agent(concat!("herdbook/", env!("CARGO_PKG_VERSION"))).expect("a version is a valid header value"))
}

/// Returns what opens connections as an endpoint would, with a limit to what is not confirmed.
fn connector(unconfirmed: Duration) -> HttpConnector {
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_nodelay(true);
    // All addresses of a name have their share of it.
    connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
    #[cfg(target_os = "linux")]
    connector.set_tcp_user_timeout(Some(unconfirmed));
    #[cfg(not(target_os = "linux"))]
    let _ = unconfirmed;
    connector
}

/// Returns a connection to the first of `addresses` that answers, tried in order.
///
/// # Errors
/// [`Kind::Invalid`] if one is no address or there is none; [`Kind::Unavailable`] with each server's cause if none answers.
pub async fn connect<A: AsRef<str>>(addresses: &[A]) -> Result<Channel, Failed> {
    connect_within(addresses, UNCONFIRMED).await
}

/// As [`connect`], with another limit to what is not confirmed.
///
/// # Errors
/// As [`connect`].
pub async fn connect_within<A: AsRef<str>>(addresses: &[A], unconfirmed: Duration) -> Result<Channel, Failed> {
    let endpoints = addresses.iter().map(|address| endpoint(address.as_ref())).collect::<Result<Vec<_>, _>>()?;
    let mut causes = Vec::with_capacity(endpoints.len());
    for endpoint in endpoints {
        match endpoint.connect_with_connector(connector(unconfirmed)).await {
            Ok(channel) => return Ok(channel),
            Err(error) => causes.push(format!("{}: {}", endpoint.uri(), deepest(&error))),
        }
    }
    if causes.is_empty() {
        let message = "no address of a server was given".to_owned();
        return Err(Failed::here(Kind::Invalid, "BAD_ADDRESS", message, "write host:port, as in localhost:7600"));
    }
    let message = format!("no server answers at {}", causes.join(", "));
    Err(Failed::here(Kind::Unavailable, "UNREACHABLE", message, "start it, or give the address of another one"))
}

/// The transport's own texts say little; what happened stands at the bottom.
fn deepest(error: &tonic::transport::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = error.to_string();
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_with_and_without_scheme() {
        for good in ["localhost:7600", "http://10.0.0.1:7600", "http://[::1]:7600"] {
            assert!(endpoint(good).is_ok(), "{good}");
        }
        for bad in ["", "a b", "http://", "://x", "https://localhost:7600"] {
            assert_eq!(endpoint(bad).expect_err(bad).kind, Kind::Invalid, "{bad}");
        }
    }

    #[tokio::test]
    async fn a_port_without_server_is_named_with_its_cause() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback").local_addr().expect("bound");
        let failed = connect(&[free.to_string()]).await.expect_err("nobody listens");
        assert_eq!((failed.kind, failed.reason.as_str()), (Kind::Unavailable, "UNREACHABLE"));
        assert!(failed.message.contains(&free.to_string()), "{}", failed.message);
    }
}
