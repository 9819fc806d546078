//! Which address a route names: one that this caller can reach, in the scheme that fits it, one for each broker.

use std::net::SocketAddr;

use bolide::proxy::options::ProxyOptions;
use bolide::wire::rocketmq as v2;
use bolide::wire::rocketmq::messaging_service_client::MessagingServiceClient;
use tonic::transport::Endpoint;

use crate::house::{Client, House, code, quick, request, resource};

/// A client that dials `socket` and believes that it is called `authority`, as one behind a load balancer or a port-forward does.
async fn calling(socket: SocketAddr, authority: &str) -> Client {
    let endpoint = Endpoint::from_shared(format!("http://{socket}")).unwrap();
    let endpoint = endpoint.origin(format!("http://{authority}").parse().unwrap());
    MessagingServiceClient::new(endpoint.connect().await.unwrap())
}

fn access_point(host: &str, port: i32) -> v2::Endpoints {
    v2::Endpoints { scheme: 0, addresses: vec![v2::Address { host: host.into(), port }] }
}

/// What the route and the assignment of topic `t` name: the same for every queue, and one address only.
async fn told(client: &mut Client, access_point: Option<v2::Endpoints>) -> (v2::AddressScheme, String) {
    let route = v2::QueryRouteRequest { topic: Some(resource("t")), endpoints: access_point.clone() };
    let routed = client.query_route(request(route)).await.unwrap().into_inner();
    assert_eq!(code(routed.status.as_ref()), 20000);
    assert!(!routed.message_queues.is_empty());
    let assignment =
        v2::QueryAssignmentRequest { topic: Some(resource("t")), group: Some(resource("g")), endpoints: access_point };
    let assigned = client.query_assignment(request(assignment)).await.unwrap().into_inner();
    assert_eq!(code(assigned.status.as_ref()), 20000);
    let assigned = assigned.assignments.into_iter().map(|assignment| assignment.message_queue.unwrap());
    let mut named: Vec<(v2::AddressScheme, String)> = routed
        .message_queues
        .into_iter()
        .chain(assigned)
        .map(|queue| {
            let endpoints = queue.broker.unwrap().endpoints.unwrap();
            let [address] = endpoints.addresses.as_slice() else { panic!("not one address: {endpoints:?}") };
            (endpoints.scheme(), format!("{} {}", address.host, address.port))
        })
        .collect();
    named.dedup();
    assert_eq!(named.len(), 1, "{named:?}");
    named.remove(0)
}

fn two_ports() -> ProxyOptions {
    ProxyOptions { external_listen: Some("127.0.0.1:0".parse().unwrap()), ..quick() }
}

#[test]
fn each_port_names_what_is_advertised_for_it_and_nobody_hears_the_other_ones() {
    let options = ProxyOptions {
        advertise: Some("proxy.mq.svc:8081".to_owned()),
        external_advertise: Some("[2001:db8::7]:443".to_owned()),
        ..two_ports()
    };
    House::run(options, |house| async move {
        let house = house.lock().await;
        house.topic("t").await;
        let mut inside = house.plain().await;
        assert_eq!(told(&mut inside, None).await, (v2::AddressScheme::DomainName, "proxy.mq.svc 8081".to_owned()));
        // Whatever it calls us: the address that it used may lead to one pod, and what is advertised leads to all.
        let mut outside = calling(house.external.unwrap(), "node-3:30081").await;
        assert_eq!(told(&mut outside, None).await, (v2::AddressScheme::IPv6, "2001:db8::7 443".to_owned()));
    });
}

#[test]
fn without_advertisement_a_caller_hears_the_address_it_used_whichever_port_it_came_through() {
    House::run(two_ports(), |house| async move {
        let house = house.lock().await;
        house.topic("t").await;
        let cases = [
            // A service inside the cluster, a NodePort and a load balancer outside.
            ("proxy.mq.svc:8081", v2::AddressScheme::DomainName, "proxy.mq.svc 8081"),
            ("10.1.2.3:30081", v2::AddressScheme::IPv4, "10.1.2.3 30081"),
            ("[2001:db8::7]:443", v2::AddressScheme::IPv6, "2001:db8::7 443"),
            // `kubectl port-forward` to a local port that is not ours.
            ("127.0.0.1:54321", v2::AddressScheme::IPv4, "127.0.0.1 54321"),
            ("localhost:54321", v2::AddressScheme::DomainName, "localhost 54321"),
        ];
        for socket in [house.address, house.external.unwrap()] {
            for (authority, scheme, address) in cases {
                let mut client = calling(socket, authority).await;
                assert_eq!(told(&mut client, None).await, (scheme, address.to_owned()), "{authority}");
            }
        }
    });
}

#[test]
fn a_client_whose_authority_says_nothing_hears_the_access_point_it_was_given_or_the_port_it_reached() {
    House::run(two_ports(), |house| async move {
        let house = house.lock().await;
        house.topic("t").await;
        let external = house.external.unwrap();
        for socket in [house.address, external] {
            // As one client does for every numeric address.
            let mut client = calling(socket, "IPAuthority").await;
            let given = told(&mut client, Some(access_point("10.9.8.7", 30081))).await;
            assert_eq!(given, (v2::AddressScheme::IPv4, "10.9.8.7 30081".to_owned()));
            let reached = told(&mut client, None).await;
            assert_eq!(reached, (v2::AddressScheme::IPv4, format!("127.0.0.1 {}", socket.port())));
        }
    });
}

#[test]
fn an_advertised_list_is_refused_before_any_client_hears_it() {
    use std::sync::Arc;

    use bolide::observe::meters::Meters;
    use bolide::proxy::Proxy;

    House::run(quick(), |house| async move {
        let house = house.lock().await;
        let brokers = || bolide::link::Brokers::here(house.broker.clone(), "broker-0");
        let (clock, tasks) = (bolide::runtime::clock::Clock::system(), house.tasks());
        for text in ["a:1,b:2", "host", "host:0", "http://host:1"] {
            for options in [
                ProxyOptions { advertise: Some(text.to_owned()), ..two_ports() },
                ProxyOptions { external_advertise: Some(text.to_owned()), ..two_ports() },
            ] {
                let built = Proxy::new(options, brokers(), clock.clone(), tasks.clone(), Arc::new(Meters::noop()));
                assert!(built.is_err_and(|error| error.to_string().contains(text)), "{text}");
            }
        }
    });
}
