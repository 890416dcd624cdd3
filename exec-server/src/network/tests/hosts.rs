//! How hosts are written, which addresses are public, and what patterns mean.

use super::*;

#[test]
fn one_host_has_one_spelling() {
    for (written, read) in [
        ("Example.COM", "example.com"),
        ("example.com.", "example.com"),
        ("ex%61mple.com", "example.com"),
        ("bücher.test", "xn--bcher-kva.test"),
        ("BÜCHER.test", "xn--bcher-kva.test"),
        ("xn--bcher-kva.test", "xn--bcher-kva.test"),
        ("ｅｘａｍｐｌｅ．com", "example.com"),
        ("example。com", "example.com"),
        ("under_score.test", "under_score.test"),
        ("1.2.3.4", "1.2.3.4"),
        ("1.2.3.4.", "1.2.3.4"),
        ("16909060", "1.2.3.4"),
        ("0x01020304", "1.2.3.4"),
        ("0x1.2.772", "1.2.3.4"),
        ("01.02.03.04", "1.2.3.4"),
        ("0177.1", "127.0.0.1"),
        ("127.1", "127.0.0.1"),
        ("[::1]", "::1"),
        ("::1", "::1"),
        ("[0:0:0:0:0:0:0:1]", "::1"),
        ("::ffff:1.2.3.4", "1.2.3.4"),
        ("[::ffff:102:304]", "1.2.3.4"),
        ("::1.2.3.4", "1.2.3.4"),
        ("64:ff9b::1.2.3.4", "1.2.3.4"),
        ("2606:4700::1111", "2606:4700::1111"),
    ] {
        assert_eq!(HostName::parse(written).map(|host| host.to_string()), Ok(read.to_owned()), "{written}");
    }
    for wrong in [
        "",
        ".",
        "a..b",
        ".a",
        "a b",
        "a/b",
        "a:80",
        "a@b",
        "[::1",
        "::1]",
        "fe80::1%eth0",
        "[fe80::1%25eth0]",
        "a\0b",
        "1.2.3.4.5",
        "256.1.1.1",
        "0x100000000",
        "a.1",
        "*.a",
        "*",
        &"a".repeat(64),
        &"a.".repeat(200),
        "a%00b",
        "a%2fb",
    ] {
        assert!(HostName::parse(wrong).is_err(), "{wrong:?}");
    }
}

#[test]
fn public_addresses_are_told_from_all_others() {
    for public in [
        "1.1.1.1",
        "9.255.255.255",
        "11.0.0.0",
        "100.63.255.255",
        "100.128.0.0",
        "126.255.255.255",
        "128.0.0.1",
        "169.253.0.1",
        "172.15.0.1",
        "172.32.0.1",
        "192.167.0.1",
        "198.17.0.1",
        "198.20.0.1",
        "223.255.255.255",
        "2606:4700::1111",
        "2a00:1450::1",
        "::ffff:1.1.1.1",
        "64:ff9b::1.1.1.1",
        "2001:200::1",
        "2003::1",
    ] {
        assert!(is_public(public.parse().unwrap()), "{public}");
    }
    for other in [
        "0.0.0.0",
        "0.1.2.3",
        "10.0.0.1",
        "100.64.0.1",
        "100.100.100.200",
        "127.0.0.1",
        "127.255.255.254",
        "169.254.169.254",
        "172.16.0.1",
        "172.31.255.255",
        "192.0.0.192",
        "192.0.2.1",
        "192.88.99.1",
        "192.168.1.1",
        "198.18.0.1",
        "198.19.255.255",
        "198.51.100.1",
        "203.0.113.1",
        "168.63.129.16",
        "224.0.0.1",
        "239.1.1.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::127.0.0.1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "::ffff:169.254.169.254",
        "64:ff9b::127.0.0.1",
        "64:ff9b::10.0.0.1",
        "64:ff9b:1::1",
        "100::1",
        "2001::1",
        "2001:10::1",
        "2001:20::1",
        "2001:db8::1",
        "2002:7f00:1::",
        "2002:101:101::",
        "3fff::1",
        "5f00::1",
        "fc00::1",
        "fd00:ec2::254",
        "fe80::1",
        "fec0::1",
        "ff02::1",
        "4000::1",
        "1000::1",
    ] {
        assert!(!is_public(other.parse().unwrap()), "{other}");
    }
}

#[test]
fn patterns_mean_what_they_say() {
    // Pattern, host, port, as an allowance, as a denial.
    for (pattern, host, port, allows, denies) in [
        ("a.test", "a.test", 443, true, true),
        ("A.Test.", "a.test", 443, true, true),
        ("a.test", "b.a.test", 443, false, false),
        ("a.test", "xa.test", 443, false, false),
        ("*.a.test", "b.a.test", 443, true, true),
        ("*.a.test", "c.b.a.test", 443, true, true),
        ("*.a.test", "a.test", 443, false, false),
        ("*.a.test", "xa.test", 443, false, false),
        ("**.a.test", "a.test", 443, true, true),
        ("**.a.test", "c.b.a.test", 443, true, true),
        ("**.a.test", "xa.test", 443, false, false),
        ("*", "a.test", 1, true, true),
        ("*", "1.2.3.4", 1, true, true),
        ("*.bücher.test", "a.xn--bcher-kva.test", 443, true, true),
        ("region*.a.test", "region1.a.test", 443, true, true),
        ("region*.a.test", "region.a.test", 443, true, true),
        ("region*.a.test", "region1.evil.a.test", 443, false, true),
        ("*ads*", "ads", 443, true, true),
        ("*ads*", "my.ads.test", 443, false, true),
        ("a?.test", "ab.test", 443, true, true),
        ("a?.test", "abc.test", 443, false, false),
        ("*.b*.test", "a.bc.test", 443, true, true),
        ("*.b*.test", "x.a.bc.test", 443, false, true),
        ("a.test:8443", "a.test", 8443, true, true),
        ("a.test:8443", "a.test", 443, false, false),
        ("*:22", "a.test", 22, true, true),
        ("1.2.3.4", "0x01020304", 80, true, true),
        ("0x01020304", "::ffff:1.2.3.4", 80, true, true),
        ("[2606:4700::1111]:443", "2606:4700:0::1111", 443, true, true),
        ("2606:4700::1111", "2606:4700::1111", 80, true, true),
        ("*.3.4", "1.2.3.4", 80, false, false),
        ("127.0.0.*", "127.0.0.1", 80, false, true),
        ("127.0.0.*", "127.0.1.1", 80, false, false),
        ("8.8.*", "8.8.4.4", 80, false, true),
        ("8.8.*", "::ffff:8.8.4.4", 80, false, true),
        ("8.8.*:53", "8.8.4.4", 80, false, false),
        ("*.8.4.?", "8.8.4.4", 80, false, true),
        ("1?.0.0.1", "10.0.0.1", 80, false, true),
        ("fe80*", "fe80::1", 80, false, true),
        ("*ad*", "2606:4700::ad", 80, false, false),
    ] {
        let Ok(parsed) = Pattern::parse(pattern) else {
            assert_eq!(pattern, "*.3.4", "{pattern} can be read");
            continue;
        };
        let host = HostName::parse(host).unwrap();
        assert_eq!(parsed.matches(&host, port, Reach::Label), allows, "{pattern} allows {host}");
        assert_eq!(parsed.matches(&host, port, Reach::Name), denies, "{pattern} denies {host}");
    }
    for wrong in [
        "",
        "https://a.test",
        "a.test/x",
        "10.0.0.0/8",
        "a.test:0",
        "a.test:70000",
        "a.test:",
        "a b",
        "*.",
        "**",
        "*.*",
        "?",
        "***",
        ".a.test",
        "*..a",
        "*.1.2.3",
        "a@b",
        "*ü*.test",
        "a.test:+80",
    ] {
        assert!(Pattern::parse(wrong).is_err(), "{wrong:?}");
    }
}
