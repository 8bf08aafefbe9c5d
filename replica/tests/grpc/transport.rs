//! Health, reflection, and what HTTP/2 limits.

use std::time::Duration;

use herdbook_proto::cluster::Phase;
use tonic::{Code, transport::Channel};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

use crate::server::{Server, run};

async fn channel(server: &Server) -> Channel {
    Channel::from_shared(format!("http://{}", server.address)).expect("a URI").connect().await.expect("the server answers")
}

#[test]
fn health_follows_what_the_node_does_and_liveness_does_not() {
    run(async {
        let server = Server::start().await;
        let mut health = HealthClient::new(channel(&server).await);
        let mut status = async |service: &str| {
            let answer = health.check(HealthCheckRequest { service: service.to_owned() }).await;
            answer.map(|answer| answer.into_inner().status())
        };
        for service in ["", "herdbook.v1.DocumentService", "liveness"] {
            assert_eq!(status(service).await.expect("a known name"), ServingStatus::Serving, "{service}");
        }
        assert_eq!(status("herdbook.v1.Nothing").await.expect_err("an unknown name").code(), Code::NotFound);
        server.phases.set(Phase::Recovering);
        let mut tries = 0;
        while status("").await.expect("a known name") == ServingStatus::Serving {
            tries += 1;
            assert!(tries < 200, "health does not follow");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(status("herdbook.v1.DocumentService").await.expect("a known name"), ServingStatus::NotServing);
        assert_eq!(status("liveness").await.expect("a known name"), ServingStatus::Serving);
    });
}

#[test]
fn reflection_describes_the_services_in_both_versions() {
    use tonic_reflection::pb::{v1, v1alpha};
    run(async {
        let server = Server::start().await;
        let expected = ["grpc.health.v1.Health", "herdbook.v1.DocumentService", "herdbook.v1.HistoryService"];

        let mut client = v1::server_reflection_client::ServerReflectionClient::new(channel(&server).await);
        let message_request = Some(v1::server_reflection_request::MessageRequest::ListServices(String::new()));
        let request = v1::ServerReflectionRequest { host: String::new(), message_request };
        let mut answers = client.server_reflection_info(tokio_stream::iter([request])).await.expect("it answers").into_inner();
        let answer = answers.message().await.expect("an answer").expect("one answer").message_response;
        let Some(v1::server_reflection_response::MessageResponse::ListServicesResponse(list)) = answer else { panic!("{answer:?}") };
        let names: Vec<_> = list.service.into_iter().map(|service| service.name).collect();
        assert!(expected.iter().all(|name| names.iter().any(|listed| listed == name)), "{names:?}");

        let mut client = v1alpha::server_reflection_client::ServerReflectionClient::new(channel(&server).await);
        let message_request = Some(v1alpha::server_reflection_request::MessageRequest::ListServices(String::new()));
        let request = v1alpha::ServerReflectionRequest { host: String::new(), message_request };
        let mut answers = client.server_reflection_info(tokio_stream::iter([request])).await.expect("it answers").into_inner();
        let answer = answers.message().await.expect("an answer").expect("one answer").message_response;
        let Some(v1alpha::server_reflection_response::MessageResponse::ListServicesResponse(list)) = answer else { panic!("{answer:?}") };
        let names: Vec<_> = list.service.into_iter().map(|service| service.name).collect();
        assert!(expected.iter().all(|name| names.iter().any(|listed| listed == name)), "{names:?}");
    });
}

#[test]
fn calls_are_counted_by_method_and_code() {
    run(async {
        let server = Server::start().await;
        server.commit(vec![crate::server::put("bonn", [])]).await;
        assert!(server.get("bonn").await.is_some() && server.get("ulm").await.is_none());
        let text = herdbook_replica::metrics::render().expect("this process has no other recorder");
        for line in ["method=\"Commit\",code=\"Ok\"", "method=\"Get\",code=\"NotFound\"", "herdbook_replica_request_seconds_bucket"] {
            assert!(text.contains(line), "{line} is missing in\n{text}");
        }
    });
}
