//! Addresses, hosts and URLs that may be asked, and those that may not.

use super::*;

#[test]
fn addresses_are_public_or_not() {
    for (address, expected) in [
        ("1.1.1.1", true),
        ("8.8.8.8", true),
        ("100.63.255.255", true),
        ("100.128.0.0", true),
        ("172.15.255.255", true),
        ("172.32.0.0", true),
        ("198.20.0.1", true),
        ("223.255.255.255", true),
        ("0.0.0.0", false),
        ("0.1.2.3", false),
        ("10.0.0.1", false),
        ("100.64.0.1", false),
        ("100.127.255.255", false),
        ("127.0.0.1", false),
        ("127.255.255.254", false),
        ("168.63.129.16", false),
        ("169.254.169.254", false),
        ("172.16.0.1", false),
        ("172.31.255.255", false),
        ("192.0.0.192", false),
        ("192.0.2.1", false),
        ("192.88.99.1", false),
        ("192.168.1.1", false),
        ("198.18.0.1", false),
        ("198.19.255.255", false),
        ("198.51.100.7", false),
        ("203.0.113.7", false),
        ("224.0.0.1", false),
        ("239.255.255.250", false),
        ("240.0.0.1", false),
        ("255.255.255.255", false),
        ("2606:4700:4700::1111", true),
        ("2a00:1450:4001::1", true),
        ("64:ff9b::808:808", true),
        ("::ffff:8.8.8.8", true),
        ("::", false),
        ("::1", false),
        ("::127.0.0.1", false),
        ("::8.8.8.8", false),
        ("::ffff:127.0.0.1", false),
        ("::ffff:169.254.169.254", false),
        ("::ffff:10.1.2.3", false),
        ("64:ff9b::7f00:1", false),
        ("64:ff9b::a9fe:a9fe", false),
        ("64:ff9b:1::808:808", false),
        ("100::1", false),
        ("2001::1", false),
        ("2001:20::1", false),
        ("2001:db8::1", false),
        ("2002:7f00:1::", false),
        ("3fff::1", false),
        ("fc00::1", false),
        ("fd00:ec2::254", false),
        ("fe80::1", false),
        ("fec0::1", false),
        ("ff02::1", false),
    ] {
        assert_eq!(is_public(address.parse().unwrap()), expected, "{address}");
    }
}

fn hosts(listed: &str) -> Hosts {
    Hosts::new(listed.split_whitespace().map(|host| host.parse::<Host>().unwrap()))
}

#[test]
fn urls_are_asked_where_their_host_is_listed() {
    let not_listed = "is not a host that may be asked; `cento serve --allow-url";
    for (listed, url, refused) in [
        ("", "http://example.org/", Some(not_listed)),
        ("", "http://127.0.0.1/", Some(not_listed)),
        ("example.org", "http://example.org:8080/feed?x=1", None),
        ("Example.ORG", "https://EXAMPLE.org/", None),
        ("example.org", "http://example.org./", None),
        ("example.org", "http://www.example.org/", Some(not_listed)),
        ("example.org", "http://8.8.8.8/", Some(not_listed)),
        ("*", "http://example.org/", None),
        ("*", "http://8.8.8.8/", None),
        ("*", "http://[2606:4700:4700::1111]/", None),
        ("*", "http://127.0.0.1/", Some("127.0.0.1, which is no public address")),
        // Other ways to write it.
        ("*", "http://2130706433/", Some("127.0.0.1, which is no public address")),
        ("*", "http://0x7f.1/", Some("127.0.0.1, which is no public address")),
        ("*", "http://0177.0.0.1/", Some("127.0.0.1, which is no public address")),
        ("*", "http://127.1/", Some("127.0.0.1, which is no public address")),
        ("*", "http://[::1]/", Some("::1, which is no public address")),
        ("*", "http://[::ffff:127.0.0.1]/", Some("no public address")),
        ("*", "http://169.254.169.254/latest", Some("--allow-url 169.254.169.254")),
        ("* 127.0.0.1", "http://127.0.0.1:9000/", None),
        ("127.0.0.1", "http://[::ffff:127.0.0.1]/", None),
        ("[::1]", "http://[::1]/", None),
        ("127.0.0.1", "http://127.0.0.2/", Some(not_listed)),
        ("*", "ftp://example.org/", Some("it must be http or https")),
        ("*", "file:///etc/passwd", Some("it must be http or https")),
        ("*", "http://name:secret@example.org/", Some("a name or a password")),
        ("*", "http://name@example.org/", Some("a name or a password")),
    ] {
        let error = hosts(listed).check(&Url::parse(url).unwrap()).err();
        let error = error.map(|error| error.to_string()).unwrap_or_default();
        match refused {
            None => assert_eq!(error, "", "{listed}: {url}"),
            Some(part) => assert!(error.contains(part), "{listed}: {url}: {error:?}"),
        }
    }
}

#[test]
fn names_are_dialled_at_public_addresses_or_where_they_are_listed() {
    let addresses = |text: &str| {
        let parse = |ip: &str| SocketAddr::new(ip.parse().unwrap(), 0);
        text.split_whitespace().map(parse).collect::<Vec<_>>()
    };
    for (listed, found, dialled) in [
        ("*", "8.8.8.8", Some("8.8.8.8")),
        ("*", "127.0.0.1", None),
        ("*", "127.0.0.1 8.8.8.8 fd00::1", Some("8.8.8.8")),
        ("* 10.0.0.5", "10.0.0.5 10.0.0.6", Some("10.0.0.5")),
        ("name.example", "127.0.0.1 8.8.8.8", Some("127.0.0.1 8.8.8.8")),
        ("other.example 8.8.8.8", "8.8.8.8", None),
    ] {
        let given = hosts(listed).dialled("name.example", addresses(found)).ok();
        assert_eq!(given, dialled.map(addresses), "{listed}: {found}");
    }
}

#[test]
fn hosts_are_listed_by_name_or_address() {
    for (text, expected) in [
        ("*", Host::AnyPublic),
        ("Feeds.Example", Host::Name("feeds.example".into())),
        ("localhost", Host::Name("localhost".into())),
        ("10.0.0.1", Host::Address("10.0.0.1".parse().unwrap())),
        ("::ffff:10.0.0.1", Host::Address("10.0.0.1".parse().unwrap())),
        ("[::1]", Host::Address("::1".parse().unwrap())),
    ] {
        assert_eq!(text.parse(), Ok(expected), "{text}");
    }
    for text in
        ["", " ", "http://x", "x:80", "x/y", "a b", "*.example", "me@x", "[::1]:80", "x?", "x#"]
    {
        assert!(text.parse::<Host>().is_err(), "{text:?}");
    }
}
