//! stub
pub(crate) fn serve(l: std::net::TcpListener, _: impl Fn() -> bool + Send + Sync + 'static) -> std::io::Result<(actix_web::dev::ServerHandle, std::net::SocketAddr)> {
    let a = l.local_addr()?; let s = actix_web::HttpServer::new(actix_web::App::new).listen(l)?.run(); let h = s.handle(); actix_rt::spawn(s); Ok((h, a)) }
