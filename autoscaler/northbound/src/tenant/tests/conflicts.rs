//! Tenants beside one another.

use super::FLAT;
use super::faults::marked;
use crate::diagnostic::Severity;
use crate::tenant::{Tenant, check_host_addresses, check_reserved, cross_check, parse};

fn tenant(file: &str, text: &str) -> Tenant {
    parse(file, text).unwrap_or_else(|faults| panic!("{faults:#?}"))
}

#[test]
fn tenants_are_compared_with_one_another() {
    let other = |name: &str, subnet: &str, vip: &str| {
        format!(
            "tenant: {name}\nnetworks: [{{name: n, subnet: {subnet}}}]\nservices: [{{vip: {vip}, protocol: tcp}}]\n\
             group: {{min: 1, max: 2}}"
        )
    };
    let demo = tenant("a.yml", FLAT);
    let table = [
        (
            other("»demo", "20.0.0.0/24", "45.0.0.1"),
            "the tenant name `demo` is used twice: in a.yml and in b.yml",
        ),
        (
            other("b", "»19.0.0.128/25", "45.0.0.1"),
            "the subnet 19.0.0.128/25 overlaps 19.0.0.0/24 of tenant `demo` (a.yml)",
        ),
        (other("b", "20.0.0.0/24", "»45.45.45.45"), "the VIP 45.45.45.45 is taken by tenant `demo` (a.yml)"),
        (
            other("b", "20.0.0.0/24", "»19.0.0.9"),
            "the VIP 19.0.0.9 is in the subnet 19.0.0.0/24 of tenant `demo` (a.yml)",
        ),
        (
            other("b", "»45.45.45.0/24", "45.0.0.1"),
            "the subnet 45.45.45.0/24 has the VIP 45.45.45.45 of tenant `demo` (a.yml) in it",
        ),
    ];
    for (text, message) in table {
        let (text, line, column) = marked(&text);
        let conflicts = cross_check(&[&demo, &tenant("b.yml", &text)]);
        let [conflict] = conflicts.as_slice() else { panic!("{conflicts:#?}") };
        let found = &conflict.diagnostic;
        assert_eq!((conflict.offender, found.file.as_str(), found.severity), (1, "b.yml", Severity::Error));
        assert_eq!((found.line, found.column, found.message.as_str()), (line, column, message));
    }
    let sound = tenant("b.yml", &other("b", "20.0.0.0/24", "45.0.0.1"));
    assert_eq!(cross_check(&[&demo, &sound]), []);
    assert_eq!(
        cross_check(&[&demo, &demo.clone(), &sound]).iter().map(|c| c.offender).collect::<Vec<_>>(),
        [1; 3]
    );
}

#[test]
fn the_management_networks_addresses_are_nobodys() {
    let demo = tenant("a.yml", FLAT);
    let reserved = |net: &str| check_reserved(&[&demo], net.parse().unwrap());
    assert_eq!(reserved("198.19.0.0/16"), []);
    let [conflict] = &reserved("19.0.0.0/8")[..] else { panic!("one conflict") };
    assert_eq!(conflict.diagnostic.line, 5, "the subnet");
    assert_eq!(
        conflict.diagnostic.message,
        "the subnet 19.0.0.0/24 overlaps the management network 19.0.0.0/8"
    );
}

#[test]
fn a_vip_is_no_address_of_the_host_and_not_of_the_management_network() {
    let demo = tenant("a.yml", FLAT);
    let [conflict] = &check_reserved(&[&demo], "45.45.0.0/16".parse().unwrap())[..] else {
        panic!("one conflict")
    };
    assert_eq!(conflict.diagnostic.message, "the VIP 45.45.45.45 is in the management network 45.45.0.0/16");

    let host = |net: &str| check_host_addresses(&[&demo], &[("eth0".to_owned(), net.parse().unwrap())]);
    assert_eq!(host("45.45.45.1/24"), []);
    let [conflict] = &host("45.45.45.45/24")[..] else { panic!("one conflict") };
    let fault = &conflict.diagnostic;
    assert!(fault.is_error() && fault.message.contains("of the host itself"), "{fault}");
    assert_eq!(fault.line, FLAT.lines().position(|line| line.contains("45.45.45.45")).unwrap() + 1);
}
