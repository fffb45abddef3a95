//! The template's sections.

use super::*;
use sluice_logic::spec::{DockerTemplate, LibvirtTemplate, PullPolicy, RegistryLogin, VmBoot};

fn template(yaml: &str) -> TemplateSpec {
    spec(&structured(NET, TCP, &format!("{GROUP}\ntemplate: {yaml}"))).template
}

#[test]
fn the_examples_other_sections_are_good() {
    // Prose stands after `# `, what can be taken into force after `#` alone.
    let uncommented = |line: &str| match line.strip_prefix("  #") {
        Some(yaml) if !yaml.starts_with(' ') || yaml.starts_with("  ") => format!("  {yaml}\n"),
        _ => format!("{}\n", line.replace("# memory:", "memory:")),
    };
    let text: String = STRUCTURED.lines().map(uncommented).collect();
    let template = spec(&text).template;
    assert_eq!(template.memory, Some(64 << 20));
    let expected = DockerTemplate {
        image: "registry.example.net/shop:1.4".into(),
        command: Some(["/usr/bin/server", "--port", "80"].map(str::to_owned).into()),
        environment: [("GREETING".to_owned(), "hello".to_owned())].into(),
        labels: [("team".to_owned(), "shop".to_owned())].into(),
        pull: PullPolicy::IfMissing,
        registry: Some(RegistryLogin {
            username: "shop".into(),
            password_file: "/etc/sluice/registry-password".into(),
        }),
        network: Some("bridge".into()),
    };
    assert_eq!(template.docker, Some(expected));
    let boot = VmBoot::Image("/var/lib/sluice/images/shop.qcow2".into());
    let expected = LibvirtTemplate { boot, vcpus: Some(1), machine: Some("q35".into()) };
    assert_eq!(template.libvirt, Some(expected));
}

#[test]
fn a_template_is_for_the_kinds_that_it_names() {
    let docker = template("{docker: {image: a}}");
    assert_eq!((docker.netns, docker.docker.is_some()), (None, true));
    let both = template("{netns: {}, docker: {image: a}}");
    assert!(both.netns.is_some() && both.docker.is_some());
    let command = template("{command: [a], docker: {image: a}}");
    assert_eq!(command.netns, Some(NetnsTemplate { command: Some(vec!["a".into()]) }));
    assert_eq!(template("{}").netns, Some(NetnsTemplate::default()));
}

#[test]
fn a_machine_boots_from_an_image_or_a_kernel() {
    let kernel = template("{libvirt: {kernel: /k, initrd: /i, command_line: quiet}}").libvirt.unwrap();
    let (path, command_line) = ("/k".into(), "quiet".into());
    assert_eq!(kernel.boot, VmBoot::Kernel { kernel: path, initrd: "/i".into(), command_line });
}

#[test]
fn faults_of_the_sections() {
    let table = [
        ("{command: a, netns: {}}", "expected a list of words"),
        ("{command: [a], netns: {}}", "`command` says what `netns` says too"),
        ("{memory: 1KiB}", "out of range: 6.0 MiB to 64.0 TiB"),
        ("{memory: much}", "expected a size, found `much`"),
        ("{docker: {}}", "the key `image` is missing"),
        ("{docker: {image: 'a b'}}", "is not an image"),
        ("{docker: {image: a, environment: [b]}}", "expected a mapping, found a list"),
        ("{docker: {image: a, environment: {SLUICE_PORT: 1}}}", "names with `SLUICE_` are ours"),
        ("{docker: {image: a, labels: {sluice.scope: x}}}", "names with `sluice.` are ours"),
        ("{docker: {image: a, pull: sometimes}}", "expected `always`, `if_missing` or `never`"),
        ("{docker: {image: a, network: host}}", "is not a network that a container can join"),
        ("{docker: {image: a, registry: {username: b, password: c, password_file: /d}}}", "`password_file`"),
        ("{libvirt: {}}", "it is not said what a machine boots from"),
        ("{libvirt: {image: /a, kernel: /b, initrd: /c}}", "it is not said what a machine boots from"),
    ];
    for (yaml, fragment) in table {
        let found = faults(&structured(NET, TCP, &format!("{GROUP}\ntemplate: {yaml}")));
        let all: String = found.iter().map(ToString::to_string).collect();
        assert!(all.contains(fragment), "{yaml}: `{fragment}` is not in {all}");
    }
}
