#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::addresses::is_public;
use super::rules::{Permission, Target};
use super::*;

/// Starts a site on loopback that answers with the head of the request; returns its port.
async fn site() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    let mut byte = [0];
                    if stream.read(&mut byte).await.unwrap_or(0) == 0 {
                        return;
                    }
                    head.push(byte[0]);
                }
                let body = String::from_utf8_lossy(&head).into_owned();
                let answer = format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}", body.len());
                let _ = stream.write_all(answer.as_bytes()).await;
            });
        }
    });
    port
}

async fn proxy(rules: &[String]) -> EgressProxy {
    EgressProxy::start(EgressRules::parse(rules).unwrap()).await.unwrap()
}

async fn send_request(proxy: &EgressProxy, head: &str) -> String {
    let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer).await;
    answer
}

async fn get(proxy: &EgressProxy, url: &str) -> String {
    send_request(proxy, &format!("GET {url} HTTP/1.1\r\nhost: lie.example\r\nconnection: close\r\n\r\n")).await
}

async fn check_blocked(rules: &[String], url: &str, host: &str) {
    let proxy = proxy(rules).await;
    let answer = get(&proxy, url).await;
    assert!(answer.starts_with("HTTP/1.1 403"), "{url}: {answer}");
    assert_eq!(proxy.blocked().iter().map(|blocked| blocked.host.as_str()).collect::<Vec<_>>(), [host], "{url}");
}

#[tokio::test]
async fn the_rules_of_a_running_proxy_can_be_replaced() {
    let (port, other) = (site().await, site().await);
    let rule = |port: u16| vec![format!("127.0.0.1:{port}")];
    let proxy = proxy(&rule(port)).await;
    let reaches = async |port: u16| get(&proxy, &format!("http://127.0.0.1:{port}/")).await.starts_with("HTTP/1.1 200");
    assert!(reaches(port).await && !reaches(other).await);
    proxy.set_rules(EgressRules::parse([rule(port), rule(other)].concat()).unwrap());
    assert!(reaches(port).await && reaches(other).await);
    proxy.set_rules(EgressRules::default());
    assert!(!reaches(port).await);
}

fn check_permission(rules: &[&str], target: &str, permission: Permission) {
    assert_eq!(EgressRules::parse(rules).unwrap().permission(&Target::parse(target).unwrap()), permission, "{rules:?} {target}");
}

#[test]
fn rules_match_whole_names() {
    check_permission(&["example.org"], "example.org", Permission::PublicAddresses);
    check_permission(&["Example.ORG."], "EXAMPLE.org.:443", Permission::PublicAddresses);
    check_permission(&["example.org"], "example.org:8080", Permission::Denied);
    check_permission(&["example.org:8080"], "example.org:8080", Permission::AnyAddress);
    check_permission(&["example.org:8080"], "example.org", Permission::Denied);
    check_permission(&["bücher.example"], "xn--bcher-kva.example", Permission::PublicAddresses);
    check_permission(&["*.example.org"], "a.b.example.org:443", Permission::PublicAddresses);
    check_permission(&["*.example.org"], "example.org", Permission::Denied);
    check_permission(&["*.example.org"], "badexample.org", Permission::Denied);
    check_permission(&["example.org"], "example.org.evil.net", Permission::Denied);
    check_permission(&["example.org"], "www.example.org", Permission::Denied);
    check_permission(&["[::1]:80"], "[0:0::1]", Permission::AnyAddress);
    check_permission(&["127.0.0.1:80"], "0x7f.1", Permission::AnyAddress);
    check_permission(&["127.0.0.1:80"], "[::ffff:127.0.0.1]", Permission::Denied);
    check_permission(&[], "example.org", Permission::Denied);
}

#[test]
fn wrong_rules_are_refused() {
    for rule in [
        "",
        "*",
        "*.",
        "http://example.org",
        "example.org/path",
        "a.*.org",
        "*example.org",
        "*.*.org",
        "me@example.org",
        "example.org:",
        "example.org:0",
        "example.org:99999",
        "::1",
        "*.127.0.0.1",
        "a b",
        "a..b",
        "example.org?x",
    ] {
        let refused = EgressRules::parse([rule]);
        assert!(matches!(refused, Err(Error::BadInput(_))), "{rule:?}: {refused:?}");
    }
}

#[test]
fn special_addresses_are_not_public() {
    let special = [
        "127.0.0.1",
        "10.1.2.3",
        "172.31.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "100.100.100.200",
        "0.0.0.0",
        "198.18.0.1",
        "224.0.0.1",
        "255.255.255.255",
        "168.63.129.16",
        "::",
        "::1",
        "fe80::1",
        "fc00::1",
        "fd00:ec2::254",
        "ff02::1",
        "::ffff:10.0.0.1",
        "64:ff9b::7f00:1",
        "2002:7f00:1::",
        "2001::1",
        "2001:db8::1",
        "::127.0.0.1",
    ];
    for address in special {
        assert!(!is_public(address.parse().unwrap()), "{address}");
    }
    for address in ["1.1.1.1", "93.184.216.34", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101"] {
        assert!(is_public(address.parse().unwrap()), "{address}");
    }
}

#[tokio::test]
async fn listed_hosts_are_reached() {
    let port = site().await;
    let proxy = proxy(&[format!("127.0.0.1:{port}"), format!("localhost:{port}")]).await;
    let answer = get(&proxy, &format!("http://127.0.0.1:{port}/a?b=c")).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains("GET /a?b=c HTTP/1.1") && answer.contains(&format!("host: 127.0.0.1:{port}")), "{answer}");
    assert!(!answer.contains("lie.example"), "the client's own host header went through: {answer}");
    assert!(get(&proxy, &format!("http://LOCALHOST.:{port}/")).await.starts_with("HTTP/1.1 200"));
    assert_eq!(proxy.blocked(), []);
}

#[tokio::test]
async fn other_hosts_are_blocked_and_logged() {
    let (listed, other) = (site().await, site().await);
    let rules = [format!("127.0.0.1:{listed}"), "allowed.com".to_owned(), "*.allowed.com".to_owned(), "localhost".to_owned()];
    for (url, host) in [
        (format!("http://127.0.0.1:{other}/"), format!("127.0.0.1:{other}")),
        (format!("http://2130706433:{other}/"), format!("127.0.0.1:{other}")),
        (format!("http://0x7f000001:{other}/"), format!("127.0.0.1:{other}")),
        (format!("http://0177.0.0.1:{other}/"), format!("127.0.0.1:{other}")),
        (format!("http://[::1]:{other}/"), format!("[::1]:{other}")),
        (format!("http://[::ffff:127.0.0.1]:{listed}/"), format!("[::ffff:7f00:1]:{listed}")),
        ("http://evil.com/".into(), "evil.com:80".into()),
        ("http://allowed.com@evil.com/".into(), "allowed.com@evil.com".into()),
        ("http://allowed.com.evil.com/".into(), "allowed.com.evil.com:80".into()),
        ("http://notallowed.com/".into(), "notallowed.com:80".into()),
        ("http://169.254.169.254/latest/meta-data".into(), "169.254.169.254:80".into()),
        // This name has a rule without a port, and it resolves to a local address.
        ("http://localhost/".into(), "localhost:80".into()),
        ("ftp://allowed.com/".into(), "allowed.com".into()),
    ] {
        check_blocked(&rules, &url, &host).await;
    }
    check_blocked(&[], &format!("http://127.0.0.1:{listed}/"), &format!("127.0.0.1:{listed}")).await;
}

#[tokio::test]
async fn tunnels_obey_the_same_rules() {
    let (listed, other) = (site().await, site().await);
    let proxy = proxy(&[format!("127.0.0.1:{listed}")]).await;
    // A browser opens both WebSockets and TLS through CONNECT.
    for target in [format!("127.0.0.1:{other}"), "evil.com:443".to_owned(), format!("127.0.0.1:{listed}@evil.com:443")] {
        let answer = send_request(&proxy, &format!("CONNECT {target} HTTP/1.1\r\nhost: {target}\r\nconnection: close\r\n\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 403") || answer.starts_with("HTTP/1.1 400"), "{target}: {answer}");
    }
    assert!(proxy.blocked().iter().any(|blocked| blocked.host == "evil.com:443"));
    let socket = "GET http://evil.com/socket HTTP/1.1\r\nhost: evil.com\r\nconnection: Upgrade, close\r\nupgrade: websocket\r\n\r\n";
    assert!(send_request(&proxy, socket).await.starts_with("HTTP/1.1 403"));

    let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
    stream.write_all(format!("CONNECT 127.0.0.1:{listed} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes()).await.unwrap();
    let mut opened = [0; 12];
    stream.read_exact(&mut opened).await.unwrap();
    assert_eq!(&opened, b"HTTP/1.1 200");
    stream.write_all(b"GET /inside HTTP/1.1\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.contains("GET /inside"), "{answer}");
}

#[tokio::test]
async fn a_dropped_proxy_ends_its_connections() {
    let port = site().await;
    let proxy = proxy(&[format!("127.0.0.1:{port}")]).await;
    let address = proxy.address();
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(format!("CONNECT 127.0.0.1:{port} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes()).await.unwrap();
    let mut opened = [0; 12];
    stream.read_exact(&mut opened).await.unwrap();
    drop(proxy);
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest).await;
    // The tunnel has ended; the listener ends soon after it.
    let closed = async {
        while TcpStream::connect(address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(5), closed).await.unwrap();
}
