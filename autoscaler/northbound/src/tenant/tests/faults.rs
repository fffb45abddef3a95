//! Each fault with its place.

use super::{FLAT, GROUP, NET, TCP, faults, flat_with, spec, structured};
use crate::diagnostic::{Diagnostic, has_errors};

/// Takes the mark `»` out of a text, and says where it was.
pub(super) fn marked(text: &str) -> (String, usize, usize) {
    let (before, after) = text.split_once('»').expect("a mark");
    let line = before.rsplit('\n').next().unwrap();
    (format!("{before}{after}"), before.matches('\n').count() + 1, line.chars().count() + 1)
}

/// Expects exactly the faults given as (line, column, part of the message or the help).
#[track_caller]
fn expect(text: &str, expected: &[(usize, usize, &str)]) {
    let found = faults(text);
    let rendered: Vec<String> = found.iter().map(ToString::to_string).collect();
    let rendered = rendered.join("\n");
    assert_eq!(found.len(), expected.len(), "in\n{text}\nfound\n{rendered}");
    for (fault, (line, column, fragment)) in found.iter().zip(expected) {
        assert_eq!((fault.line, fault.column), (*line, *column), "in\n{text}\nfound\n{rendered}");
        let all = format!("{}: {} / {}", fault.severity, fault.message, fault.help.as_deref().unwrap_or(""));
        assert!(all.contains(fragment), "`{fragment}` is not in `{all}`");
    }
}

#[test]
fn no_policy_leaves_the_number_to_people() {
    let text = flat_with("policy", "policy: none");
    assert_eq!(spec(&text).policies, []);
    expect(&text, &[(10, 12, "warning: `threshold` has no effect")]);
}

#[test]
fn what_can_not_be_seen_is_named_and_hides_nothing() {
    for (line, column, name) in [
        ("\u{a0}min_containers: 2", 1, "no-break space (U+00A0)"),
        ("min_containers: 2\u{a0}", 18, "no-break space (U+00A0)"),
        ("min_containers:\u{3000}2", 16, "blank of another width (U+3000)"),
        ("min_containers: \u{200b}2", 17, "character of no width (U+200B)"),
        ("min\u{a0}containers: 2", 4, "no-break space (U+00A0)"),
        ("min_containers: \u{202e}2", 17, "direction of writing (U+202E)"),
    ] {
        let text = flat_with("min_containers", line).replace("threshold: 0.3", "threshold: 0,3");
        let found = faults(&text);
        let named = found.iter().find(|fault| fault.line == 8 && fault.message.contains(name));
        assert_eq!(named.map(|fault| fault.column), Some(column), "{line:?}: {found:#?}");
    }
    let text =
        flat_with("min_containers", "\u{a0}min_containers: 2").replace("threshold: 0.3", "threshold: 0,3");
    expect(&text, &[(8, 1, "no-break space"), (10, 12, "found `0,3`")]);
    expect(&flat_with("min_containers", "min_containers: 2 # a\u{a0}comment"), &[]);
    let tags =
        flat_with("min_containers", "min_containers: !!int 2").replace("threshold: 0.3", "threshold: &a 0,3");
    expect(&tags, &[(8, 17, "the tag"), (10, 12, "anchors"), (10, 12, "found `0,3`")]);
}

/// Each row: a key of the flat example, the line that replaces its line, and the one fault that this makes.
#[track_caller]
fn expect_in_flat(table: &[(&str, &str, usize, usize, &str)]) {
    for (key, line, at_line, column, fragment) in table {
        expect(&flat_with(key, line), &[(*at_line, *column, *fragment)]);
    }
}

#[test]
fn single_values_of_the_flat_form() {
    expect_in_flat(&[
        ("threshold", "threshold: abc", 10, 12, "expected a number or a percentage, found `abc`"),
        ("threshold", "threshold: 0", 10, 12, "not more than 0"),
        ("threshold", "threshold: -0.5", 10, 12, "not more than 0"),
        ("threshold", "threshold: 101", 10, 12, "more than 100 %"),
        ("threshold", "threshold: 100.5%", 10, 12, "more than 100 %"),
        ("threshold", "threshold: .inf", 10, 12, "found `.inf`"),
        ("threshold", "threshold: .nan", 10, 12, "found `.nan`"),
        ("threshold", "threshold: nan", 10, 12, "found `nan`"),
        ("threshold", "threshold: 1e999", 10, 12, "found `1e999`"),
        ("threshold", "threshold:", 10, 1, "found nothing"),
        ("threshold", "threshold: [0.3]", 10, 12, "found a list"),
        ("threshold", "threshold: {a: 1}", 10, 12, "found a mapping"),
        ("min_containers", "min_containers: 0", 8, 17, "the smallest is 1"),
        ("min_containers", "min_containers: 6", 8, 17, "min is 6, its max on line 9 is 5"),
        ("min_containers", "min_containers: 1.5", 8, 17, "expected a whole number, found `1.5`"),
        ("min_containers", "min_containers: -1", 8, 17, "-1 is out of range"),
        ("max_containers", "max_containers: '5'", 9, 17, "remove the quotes"),
        ("max_containers", "max_containers: 99999999999", 9, 17, "out of range: 1 to 10000"),
        ("t_name", "t_name: Demo", 1, 9, "`Demo` is not a tenant name"),
        ("t_name", "t_name: ../x", 1, 9, "is not a tenant name"),
        ("nw_name", "nw_name: a/b", 2, 10, "`a/b` is not a name"),
        ("should_log", "should_log: 2", 12, 13, "expected `true` (1) or `false` (0), found `2`"),
        ("should_log", "should_log: yes", 12, 13, "found `yes` / did you mean `true`?"),
        ("should_log", "should_log: NO", 12, 13, "did you mean `false`?"),
        ("max_containers", "max_containers: 010", 9, 17, "leave the 0 out"),
        ("max_containers", "max_containers: 1_000", 9, 17, "write `1000`"),
        ("max_containers", "max_containers: 0o12", 9, 17, "found `0o12`"),
        ("max_containers", "max_containers: 1:30", 9, 17, "found `1:30`"),
        ("threshold", "threshold: 1.5", 10, 12, "`1.5` may be 1.5 % or 150 %"),
        ("threshold", "threshold: 1.05", 10, 12, "`1.05` may be 1.05 % or 105 %"),
        ("threshold", "threshold: 030", 10, 12, "leave the 0 out"),
        ("threshold", "threshold: 1", 10, 12, "warning: a `threshold` of 1 is 100 %"),
        ("threshold", "threshold: 1.0", 10, 12, "warning: a `threshold` of 1 is 100 %"),
        ("should_log", "cool_down: 0120", 12, 12, "expected a duration, found `0120`"),
        ("policy", "policy: dinamic", 14, 9, "did you mean `dynamic`?"),
        ("policy", "policy: static", 14, 9, "`static` needs a schedule, and the flat form has none"),
        ("should_log", "buffer_time: 31m 40d", 12, 14, "expected a duration"),
        ("should_log", "buffer_time: 721h", 12, 14, "out of range: 0s to 30 days"),
        ("should_log", "cool_down: -5", 12, 12, "expected a duration, found `-5`"),
        ("should_log", "cool_down: .inf", 12, 12, "expected a duration"),
        ("should_log", "window: 0", 12, 9, "0s is out of range: 100ms to 24h"),
        ("should_log", "cpus: 0", 12, 7, "0 is out of range: 0.01 to 1024 cores"),
        ("should_log", "cpus: -1", 12, 7, "-1 is out of range"),
        ("should_log", "port: 0", 12, 7, "0 is out of range: 1 to 65535"),
        ("should_log", "port: 70000", 12, 7, "70000 is out of range"),
        ("should_log", "command: []", 12, 10, "the command is empty"),
        ("should_log", "command: ['']", 12, 10, "the command is empty"),
        ("should_log", "command: run me", 12, 10, "expected a list of words, found `run me`"),
        ("should_log", "command: [a, [b]]", 12, 10, "expected a text, found a list"),
        ("should_log", "policy: reactive", 14, 1, "the key `policy` comes twice; it is on line 12 already"),
        ("should_log", "min_instances: 2", 12, 1, "`min_instances` says the same as line 8"),
        ("should_log", "networks: []", 12, 1, "`networks` is of the structured form"),
        ("should_log", "tenant: demo", 12, 1, "`tenant` is of the structured form"),
        ("should_log", "zebra: 1", 12, 1, "unknown key `zebra`"),
        ("should_log", "[a]: 1", 12, 1, "a key must be a word"),
    ]);
}

#[test]
fn addresses_of_the_flat_form() {
    expect_in_flat(&[
        (
            "subnet_addr",
            "subnet_addr: 19.0.1.1",
            3,
            14,
            "the gateway 19.0.1.1 is not in the subnet 19.0.0.0/24",
        ),
        ("subnet_addr", "subnet_addr: 19.0.0.0", 3, 14, "the network address"),
        ("subnet_addr", "subnet_addr: 19.0.0.255", 3, 14, "the broadcast address"),
        ("subnet_addr", "subnet_addr: 19.0.0", 3, 14, "expected an IPv4 address"),
        (
            "subnet_addr",
            "subnet_addr: 19.0.0.3",
            6,
            13,
            "warning: the DHCP range has the gateway 19.0.0.3 in it",
        ),
        ("subnet_mask", "subnet_mask: 255.255.0.0", 4, 14, "the mask of 19.0.0.0/24 is `255.255.255.0`"),
        ("subnet_mask", "subnet_mask: 255.0.255.0", 4, 14, "is not a netmask"),
        ("subnet", "subnet: 019.0.0.0/24", 5, 9, "write `19.0.0.0/24`, if you mean that"),
        ("subnet", "subnet: 010.0.0.0/24", 5, 9, "to the base of eight"),
        ("subnet", "subnet: 19.0.0.0/024", 5, 9, "expected a subnet"),
        ("subnet", "subnet: 19.0.0.0/+24", 5, 9, "expected a subnet"),
        ("subnet_addr", "subnet_addr: 019.0.0.1", 3, 14, "write `19.0.0.1`, if you mean that"),
        ("public_ip", "public_ip: 45.045.45.45", 11, 12, "write `45.45.45.45`, if you mean that"),
        ("subnet", "subnet: 19.0.0.7/24", 5, 9, "the subnet is `19.0.0.0/24`"),
        ("subnet", "subnet: 19.0.0.0", 5, 9, "write `19.0.0.0/24`"),
        ("subnet", "subnet: 127.0.0.0/24", 5, 9, "loopback"),
        ("subnet", "subnet: 19.0.0.0/33", 5, 9, "expected a subnet"),
        ("dhcp_end", "dhcp_end: 19.0.1.9", 7, 11, "range's end 19.0.1.9 is not in the subnet"),
        ("dhcp_end", "dhcp_end: 19.0.0.255", 7, 11, "the broadcast address"),
        ("dhcp_end", "dhcp_end: 19.0.0.5", 7, 11, "has 4 addresses for instances"),
        ("dhcp_end", "dhcp_end: 19.0.0.6", 7, 11, "warning: the DHCP range has no address to spare"),
        ("dhcp_start", "dhcp_start: 19.0.0.0", 6, 13, "the network address"),
        ("public_ip", "public_ip: 19.0.0.9", 11, 12, "in the tenant's own subnet 19.0.0.0/24 on line 5"),
        ("public_ip", "public_ip: 224.0.0.1", 11, 12, "multicast"),
        ("public_ip", "public_ip: 127.0.0.1", 11, 12, "loopback"),
        ("public_ip", "public_ip: 0.0.0.0", 11, 12, "this network"),
        ("public_ip", "public_ip: 255.255.255.255", 11, 12, "broadcast"),
        ("public_ip", "public_ip: 169.254.1.1", 11, 12, "link-local"),
        ("public_ip", "public_ip: 250.0.0.1", 11, 12, "reserved"),
        ("public_ip", "public_ip: 2001:db8::1", 11, 12, "IPv6 addresses come later"),
        ("public_ip", "public_ip: nowhere", 11, 12, "expected an IPv4 address"),
    ]);
}

#[test]
fn sizes_of_subnets() {
    for (subnet, gateway) in [("19.0.0.0/31", "19.0.0.1"), ("16.0.0.0/7", "16.0.0.1")] {
        let text = FLAT
            .replace("subnet: 19.0.0.0/24", &format!("subnet: {subnet}"))
            .replace("subnet_addr: 19.0.0.1", &format!("subnet_addr: {gateway}"));
        expect(&text, &[(5, 9, "can't be used: /8 to /30")]);
    }
}

#[test]
fn a_reversed_range() {
    let text = FLAT.replace("dhcp_start: 19.0.0.2", "dhcp_start: 19.0.0.100").replace("0.254", "0.99");
    expect(&text, &[(7, 11, "the DHCP range's end 19.0.0.99 is before its start 19.0.0.100")]);
}

#[test]
fn all_faults_of_a_file_come_at_once_and_sorted() {
    let text = "\
t_name: Demo
nw_name: demo_nw
subnet: 19.0.0.0/24
subnet_addr: 20.0.0.1
min_containers: 7
max_containers: 5
treshold: 0.3
public_ip: 224.0.0.1
policy: dynamic
policy: none
";
    expect(
        text,
        &[
            (1, 1, "`threshold` is missing"),
            (1, 9, "`Demo` is not a tenant name"),
            (4, 14, "gateway"),
            (5, 17, "min is 7"),
            (7, 1, "did you mean `threshold`"),
            (8, 12, "multicast"),
            (10, 1, "comes twice"),
        ],
    );
}

#[test]
fn values_of_the_structured_form() {
    let policy = |policy: &str| structured(NET, TCP, &format!("{GROUP}\npolicies: {policy}"));
    let net = |net: &str| structured(net, TCP, GROUP);
    let service = |service: &str| structured(NET, service, GROUP);
    let rest = |rest: &str| structured(NET, TCP, rest);
    let table = [
        (net("»[]").replace("networks: »[]", "»networks: []"), "`networks` is empty"),
        (net("»{}"), "expected a list, found a mapping"),
        ("tenant: t\n»networks:\nservices: []".to_owned(), "expected a list, found nothing"),
        (net("[»a]"), "network: expected a mapping, found `a`"),
        (net("[»{name: n}]"), "the key `subnet` is missing"),
        (net("[{name: n, subnet: 10.0.0.0/24, »gatway: 10.0.0.2}]"), "did you mean `gateway`?"),
        (
            net("[{name: n, subnet: 10.0.0.0/24, dhcp: {start: 10.0.0.2, »stop: 10.0.0.9}}]"),
            "unknown key `stop`",
        ),
        (net("[{name: n, subnet: 10.0.0.0/24, dhcp: »5}]"), "dhcp: expected a mapping, found `5`"),
        (net("[{name: n, subnet: 10.0.0.0/24}, {name: »n, subnet: 10.1.0.0/24}]"), "network `n` comes twice"),
        (
            net("[{name: n, subnet: 10.0.0.0/24}, {name: m, subnet: »10.0.0.0/16}]"),
            "overlaps 10.0.0.0/24 on line 2",
        ),
        (
            structured("[{name: n, subnet: 45.0.0.0/24}]", "[{vip: »45.0.0.1, protocol: tcp}]", GROUP),
            "own subnet",
        ),
        (net("[{name: n, subnet: »10.0.0.0/30}]"), "has 1 addresses for instances"),
        ("tenant: t\n»services: []\n".to_owned(), "`services` is empty"),
        (service("[{vip: 45.0.0.1, protocol: »sctp}]"), "expected `icmp`, `tcp` or `udp`"),
        (service("[{vip: 45.0.0.1, protocol: »tpc}]"), "did you mean `tcp`?"),
        (service("[{vip: 45.0.0.1, protocol: icmp, port: »8}]"), "ICMP has no ports"),
        (service("[{vip: 45.0.0.1, protocol: icmp, ports: {»8: 9}}]"), "ICMP has no ports"),
        (service("[{vip: 45.0.0.1, protocol: udp, target_port: »53}]"), "no single port"),
        (service("[{vip: 45.0.0.1, protocol: udp, port: »53, ports: {54: 55}}]"), "`ports` on line"),
        (service("[{vip: 45.0.0.1, protocol: udp, ports: {53: »70000}}]"), "`ports`: 70000 is out of range"),
        (service("[{vip: 45.0.0.1, protocol: udp, »ports: 53}]"), "expected a mapping, found `53`"),
        (service("[{vip: 45.0.0.1, protocol: udp, »ports: {}}]"), "`ports` is empty"),
        (service("[{vip: 45.0.0.1, protocol: udp, ports: {53: 5353, »53: 54}}]"), "comes twice"),
        (
            service("[{vip: 45.0.0.1, protocol: tcp, ports: {80: 8080, »81: 8080}}]"),
            "leave from the same port",
        ),
        (
            service("[{vip: 45.0.0.1, protocol: tcp}, {vip: 45.0.0.1, protocol: tcp, ports: {»80: 8080}}]"),
            "leave from the same port",
        ),
        (
            service("[{vip: 45.0.0.1, protocol: tcp, port: 80}, {vip: 45.0.0.2, protocol: tcp, port: »80}]"),
            "leave from the same port",
        ),
        (service("[{vip: 45.0.0.1, protocol: tcp, spread: »by_clouds}]"), "did you mean `by_cloud`?"),
        (service("[{vip: 45.0.0.1, protocol: tcp, slow_start: »2h}]"), "out of range"),
        (service("[{vip: 45.0.0.1, protocol: tcp}, {vip: »45.0.0.1, protocol: tcp}]"), "comes twice"),
        (rest("group: »{min: 1}"), "the key `max` is missing"),
        (rest("»grup: {min: 1, max: 2}"), "did you mean `group`?"),
        (rest("group: {min: »3, max: 2}"), "min is 3"),
        (rest("group: {min: 1, max: 2, »min: 1}"), "comes twice"),
        (rest("group: {min: 1, max: 2, buffer_time: »31 days}"), "expected a duration"),
        (rest("group: {min: 1, max: 2}\n»threshold: 5"), "`threshold` is of the flat form"),
        (rest("group: {min: 1, max: 2}\n»t_name: t"), "`t_name` is of the flat form"),
        (rest("group: {min: 1, max: 2}\nlogs: {keep: »maybe}"), "found `maybe`"),
        (rest("group: {min: 1, max: 2}\ntemplate: {command: »5}"), "expected a list of words"),
        (rest("group: {min: 1, max: 2}\ntemplate: {start_timeout: »0}"), "out of range: 1s to 1h"),
        (policy("»{reactive: {}}"), "expected a list"),
        (policy("[»reactive]"), "policy: expected a mapping"),
        (policy("[reactive: »{}]"), "the key `threshold` is missing"),
        (policy("[»{}]"), "a policy needs its kind"),
        (policy("[{»zebra: {at: noon}}]"), "it can be `reactive`, `target_tracking`"),
        (policy("[»{reactive: {threshold: 1}, static: {}}]"), "has one kind, and this mapping has 2 keys"),
        (policy("[{»recative: {}}]"), "did you mean `reactive`?"),
        (policy("[{reactive: {threshold: 60%, metric: »cpus}}]"), "did you mean `cpu`?"),
        (
            policy("[{reactive: {threshold: »60%, metric: bytes}}]"),
            "only `cpu` and `memory` are measured in percent",
        ),
        (policy("[{reactive: {threshold: »0, metric: bytes}}]"), "0 is not more than 0"),
        (policy("[{reactive: {threshold: 1, window: »25h}}]"), "100ms to 24h"),
    ];
    for (text, fragment) in table {
        let (text, line, column) = marked(&text);
        let found = faults(&text);
        let at: Vec<String> = found.iter().map(ToString::to_string).collect();
        let matches = |fault: &Diagnostic| {
            let help = fault.help.as_deref().unwrap_or_default();
            (fault.line, fault.column) == (line, column)
                && (fault.message.contains(fragment) || help.contains(fragment))
        };
        assert!(
            found.iter().any(matches),
            "{line}:{column} `{fragment}` not in\n{}\nof\n{text}",
            at.join("\n")
        );
        assert!(has_errors(&found));
    }
}

#[test]
fn faults_of_the_whole_file() {
    let table = [
        ("»", "the file is empty"),
        ("»# only a comment\n", "the file is empty"),
        ("»---\n...\n", "the file is empty"),
        ("»\u{feff}", "the file is empty"),
        ("»hello", "expected a mapping, found `hello`"),
        ("»- a\n- b\n", "expected a mapping, found a list"),
        ("tenant: [a, b\n»", "the file ends here"),
        ("tenant: »\"abc\n", "not valid YAML: while scanning a quoted scalar"),
        ("tenant: t\n  x»: y\n", "not valid YAML"),
        ("tenant: t\n»\tx: y\n", "a tab stands in the indentation"),
        ("tenant: t\n  »\tx: y\n", "a tab stands in the indentation"),
        ("tenant:\t»t\n", "there is a tab in column 8"),
        ("tenant: »\0t\n", "the control character U+0000"),
        ("tenant: t #\n »\u{1b}[2J\n", "the control character U+001B"),
        ("tenant: t\n»---\ntenant: u\n", "a second document begins here"),
        ("tenant: »*a\n", "not valid YAML"),
        (&format!("tenant: {}»{}", "[".repeat(31), "[".repeat(100)), "nested deeper than 32 levels"),
        (&format!("tenant: {}»{}", "[".repeat(255), "[".repeat(100_000)), "recursion limit exceeded"),
        (&format!("»tenant: t # {}", "x".repeat(300_000)), "more than 262144 bytes"),
    ];
    for (text, fragment) in table {
        let (text, line, column) = marked(text);
        expect(&text, &[(line, column, fragment)]);
    }
}

#[test]
fn several_networks_and_the_outside() {
    let net = |net: &str| structured(net, TCP, GROUP);
    let rest = |rest: &str| structured(NET, TCP, rest);
    let table = [
        (
            net(
                "[{name: n, subnet: 10.0.0.0/24}, {name: m, subnet: 10.1.0.0/24, dhcp: {start: 10.1.0.5, end: »10.1.0.5}}]",
            ),
            "1 addresses for instances, and the group's max on line 4 is 2",
        ),
        (rest(&format!("{GROUP}\noutbound: »snat")), "expected `none` or `nat`, found `snat`"),
        (net(&nine_networks()), "a tenant has at most 8"),
    ];
    for (text, fragment) in table {
        let (text, line, column) = marked(&text);
        expect(&text, &[(line, column, fragment)]);
    }
}

fn nine_networks() -> String {
    let network = |number| {
        let mark = if number == 8 { "»" } else { "" };
        format!("{{name: {mark}n{number}, subnet: 10.{number}.0.0/24}}")
    };
    format!("[{}]", (0..9).map(network).collect::<Vec<_>>().join(", "))
}

#[test]
fn what_stands_in_a_file_can_not_command_a_terminal() {
    let rendered: Vec<String> =
        faults("tenant: \"a\\e[31m\"\n\u{7}x: 1\n").iter().map(ToString::to_string).collect();
    assert!(!rendered.concat().contains(['\u{1b}', '\u{7}']), "{rendered:?}");
}

#[test]
fn the_faults_of_a_flood_are_cut() {
    let flood = (0..20_000).map(|number| format!("key{number}: 1")).collect::<Vec<_>>().join("\n");
    let found = faults(&flood);
    assert_eq!(found.len(), 201);
    assert_eq!(found[200].line, 20_000);
    assert!(found[200].message.contains("more faults than the 200"));
}
