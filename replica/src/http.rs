//! HTTP for whoever looks after a replica: `/healthz` (the process answers), `/readyz` (it serves), `/metrics` (Prometheus).

use std::{
    io,
    net::{SocketAddr, TcpListener},
    sync::Arc,
    time::Duration,
};

use actix_web::{App, HttpResponse, HttpServer, dev::ServerHandle, http::header::ContentType, web};

use crate::metrics;

/// Connections at once: probes and scrapes.
const CONNECTIONS: usize = 64;

/// Longest wait for the head of a request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// Seconds that requests under way get when the server stops.
const GRACE: u64 = 1;

/// Prometheus' text format.
const TEXT_FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Whether the replica serves.
type Ready = Arc<dyn Fn() -> bool + Send + Sync>;

/// Serves on `listener`, on one thread of its own. Needs a running actor system. Returns what stops it, and where it listens.
///
/// # Errors
/// The system's word if the listener cannot be used.
pub(crate) fn serve(listener: TcpListener, ready: impl Fn() -> bool + Send + Sync + 'static) -> io::Result<(ServerHandle, SocketAddr)> {
    let bound = listener.local_addr()?;
    let ready: Ready = Arc::new(ready);
    let app = move || {
        App::new()
            .app_data(web::Data::new(ready.clone()))
            .route("/healthz", web::get().to(healthz))
            .route("/readyz", web::get().to(readyz))
            .route("/metrics", web::get().to(scrape))
    };
    let server = HttpServer::new(app)
        .workers(1)
        .max_connections(CONNECTIONS)
        .client_request_timeout(REQUEST_TIMEOUT)
        .shutdown_timeout(GRACE)
        .disable_signals()
        .listen(listener)?
        .run();
    let handle = server.handle();
    actix_rt::spawn(server);
    Ok((handle, bound))
}

async fn healthz() -> HttpResponse {
    HttpResponse::Ok().content_type(ContentType::plaintext()).body("ok\n")
}

async fn readyz(ready: web::Data<Ready>) -> HttpResponse {
    if ready() {
        HttpResponse::Ok().content_type(ContentType::plaintext()).body("ready\n")
    } else {
        HttpResponse::ServiceUnavailable().content_type(ContentType::plaintext()).body("not ready: starting, being restored, or frozen\n")
    }
}

async fn scrape() -> HttpResponse {
    match metrics::render() {
        Some(text) => HttpResponse::Ok().content_type(TEXT_FORMAT).body(text),
        None => HttpResponse::NotFound().content_type(ContentType::plaintext()).body("the embedding program records the metrics\n"),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        net::TcpStream,
        sync::atomic::{AtomicBool, Ordering},
    };

    use super::*;

    fn get(address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).expect("it listens");
        write!(stream, "GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers");
        answer
    }

    async fn ask(address: SocketAddr, path: &'static str) -> String {
        actix_rt::task::spawn_blocking(move || get(address, path)).await.expect("no panic")
    }

    #[test]
    fn readiness_follows_the_replica_and_health_does_not() {
        actix_rt::System::new().block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
            listener.set_nonblocking(true).expect("a listener can be told");
            let serves = Arc::new(AtomicBool::new(false));
            let asked = serves.clone();
            let (server, address) = serve(listener, move || asked.load(Ordering::Relaxed)).expect("it serves");
            assert!(ask(address, "/healthz").await.starts_with("HTTP/1.1 200"));
            assert!(ask(address, "/readyz").await.starts_with("HTTP/1.1 503"));
            serves.store(true, Ordering::Relaxed);
            assert!(ask(address, "/readyz").await.starts_with("HTTP/1.1 200"));
            assert!(ask(address, "/nothing").await.starts_with("HTTP/1.1 404"));
            server.stop(true).await;
        });
    }
}
