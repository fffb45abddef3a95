//! The template's sections.

use super::*;
use sluice_logic::spec::{
    CloudInit, DEFAULT_SHUTDOWN_TIMEOUT, DockerTemplate, GuestPassword, GuestUser, ImageFormat,
    LibvirtTemplate, PullPolicy, RegistryLogin, VmBoot, VmDisk,
};

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
        pull_timeout: DockerTemplate::default_pull_timeout(),
        pull: PullPolicy::IfMissing,
        registry: Some(RegistryLogin {
            username: "shop".into(),
            password_file: "/etc/sluice/registry-password".into(),
        }),
        network: Some("bridge".into()),
    };
    assert_eq!(template.docker, Some(expected));
    let disk = VmDisk {
        image: "/var/lib/sluice/images/shop.qcow2".into(),
        format: ImageFormat::Qcow2,
        size: Some(10 << 30),
    };
    let ann = GuestUser {
        name: "ann".into(),
        password: Some(GuestPassword::File("/etc/sluice/ann-password".into())),
        ssh_keys: vec!["ssh-ed25519 AAAA ann".into()],
        sudo: false,
    };
    let expected = LibvirtTemplate {
        boot: VmBoot::Image(disk),
        vcpus: Some(1),
        machine: Some("q35".into()),
        shutdown_timeout: DEFAULT_SHUTDOWN_TIMEOUT,
        cloud_init: CloudInit {
            hostname: Some("shop".into()),
            users: vec![ann],
            user_data: Some("#!/bin/sh\necho hello >/run/greeting\n".into()),
            encrypt_passwords: true,
        },
    };
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
    let initrd = Some("/i".into());
    assert_eq!(kernel.boot, VmBoot::Kernel { kernel: path, initrd, command_line, disk: None });
    let both = template("{libvirt: {kernel: /k, image: /a, format: raw}}").libvirt.unwrap();
    let disk = VmDisk { image: "/a".into(), format: ImageFormat::Raw, size: None };
    assert_eq!(both.boot.disk(), Some(&disk));
    assert!(matches!(both.boot, VmBoot::Kernel { .. }));
}

#[test]
fn a_password_in_the_file_is_refused_and_not_repeated() {
    for key in ["password: ", "password_hash: ", "password_hash:\n       "] {
        let yaml = format!("{{libvirt: {{image: /a, cloud_init: {{users: [{{name: a, {key}hunter2}}]}}}}}}");
        let found = faults(&structured(NET, TCP, &format!("{GROUP}\ntemplate: {yaml}")));
        let all: String = found.iter().map(ToString::to_string).collect();
        assert!(!found.is_empty() && !all.contains("hunter2"), "{all}");
    }
}

#[test]
fn passwords_in_clear_are_taken_with_a_warning() {
    let user = "{libvirt: {image: /a, cloud_init: {users: [{name: a, password_file: /p}]}}}";
    let text = structured(NET, TCP, &format!("{GROUP}\npasswords: {{encrypt: 0}}\ntemplate: {user}"));
    let tenant = crate::tenant::parse("t.yml", &text).expect("a tenant");
    assert!(!tenant.spec.template.libvirt.expect("a machine").cloud_init.encrypt_passwords);
    assert!(
        tenant.warnings.iter().any(|warning| warning.message.contains("in clear")),
        "{:?}",
        tenant.warnings
    );
}

/// A tenant whose machines get that user data.
fn with_user_data(document: &str, encrypt: u8) -> String {
    let document = serde_json::to_string(document).expect("JSON");
    let vm = format!("{{libvirt: {{image: /a, cloud_init: {{user_data: {document}}}}}}}");
    structured(NET, TCP, &format!("{GROUP}\npasswords: {{encrypt: {encrypt}}}\ntemplate: {vm}"))
}

#[test]
fn user_data_is_what_cloud_init_can_read() {
    let taken = [
        "#cloud-config\npackages: [nginx]\nwrite_files: [{content: !!binary aGVsbG8=}]\n",
        "#cloud-config-archive\n- '#!/bin/sh'\n",
        "#!/bin/sh\necho hello\n",
        "#include\nhttps://example.net/data\n",
        "#include-once\nhttps://example.net/data\n",
        "#cloud-boothook\n#!/bin/sh\n",
        "## template: jinja\n#cloud-config\n{% if v1.region %}\nruncmd: [echo {{ v1.region }}]\n{% endif %}\n",
        "#cloud-config\n",
    ];
    for document in taken {
        let tenant = crate::tenant::parse("t.yml", &with_user_data(document, 1));
        let tenant = tenant.unwrap_or_else(|faults| panic!("{document}: {faults:?}"));
        let machine = tenant.spec.template.libvirt.expect("a machine");
        assert_eq!(machine.cloud_init.user_data.as_deref(), Some(document));
    }
    let refused = [
        ("Content-Type: multipart/mixed; boundary=b\nMIME-Version: 1.0\n\n--b--\n", "MIME are not taken"),
        ("#cloud-config\n# Mime-Version: 1.0\n", "MIME are not taken"),
        ("#cloud-config-jsonp\n[]\n", "by its first line"),
        ("hello", "by its first line"),
        ("#cloud-config\na: [\n", "line 3: not valid YAML"),
        ("#cloud-config\na: &b c\n", "line 2: anchors"),
    ];
    for (document, fragment) in refused {
        let found = faults(&with_user_data(document, 1));
        let all: String = found.iter().map(ToString::to_string).collect();
        assert!(all.contains(fragment), "{document}: `{fragment}` is not in {all}");
    }
}

#[test]
fn a_password_in_user_data_is_refused_and_not_repeated() {
    let table = [
        ("#cloud-config\npassword: hunter2\n", "password"),
        ("#cloud-config\nusers: [default, {name: a, passwd: hunter2}]\n", "users[1].passwd"),
        ("#cloud-config\nusers: [{name: a, plain_text_passwd: hunter2}]\n", "users[0].plain_text_passwd"),
        ("#cloud-config\nusers: [{name: a, hashed-passwd: hunter2}]\n", "users[0].hashed_passwd"),
        ("#cloud-config\nuser: {plain_text_passwd: hunter2}\n", "user.plain_text_passwd"),
        ("#cloud-config\nchpasswd: {list: 'root:R\n\n  a:hunter2'}\n", "chpasswd.list"),
        ("#cloud-config\nchpasswd: {list: ['a:hunter2']}\n", "chpasswd.list"),
        ("#cloud-config\nchpasswd: {users: [{name: a, password: hunter2}]}\n", "chpasswd.users[0].password"),
        (
            "#cloud-config-archive\n- type: text/cloud-config\n  content: 'password: hunter2'\n",
            "[0].password",
        ),
        ("#cloud-config-archive\n- |\n  #cloud-config\n  password: hunter2\n", "[0].password"),
        ("## template: jinja\n#cloud-config\nhostname: {{ v1.region }}\npassword: hunter2\n", "password"),
        ("## template: jinja\n#cloud-config\npassword: {{ 'hunter2' }}\n", "password"),
    ];
    for (document, key) in table {
        let found = faults(&with_user_data(document, 1));
        let all: String = found.iter().map(ToString::to_string).collect();
        assert!(all.contains(&format!("`{key}` in the user data")) && all.contains("password_file"), "{all}");
        assert!(!all.contains("hunter2"), "{all}");

        let tenant = crate::tenant::parse("t.yml", &with_user_data(document, 0)).expect("a tenant");
        let warnings: String = tenant.warnings.iter().map(ToString::to_string).collect();
        assert!(warnings.contains(&format!("`{key}` in the user data")), "{document}: {warnings}");
    }
}

#[test]
fn user_data_may_have_hashes_and_random_passwords() {
    let document = "#cloud-config\nrh_subscription: {password: other}\npassword: $6$salt$hash\n\
                    users: [{name: a, passwd: '!'}, {name: b, hashed_passwd: $y$j9T$salt$hash}]\n\
                    chpasswd: {expire: false, list: 'c:RANDOM', users: [{name: d, type: RANDOM}]}\n";
    let filled_in = "## template: jinja\n#cloud-config\npassword: {{ ds.meta_data.hash }}\n";
    for document in [document, filled_in] {
        let tenant = crate::tenant::parse("t.yml", &with_user_data(document, 1)).expect("a tenant");
        assert_eq!(tenant.warnings, []);
    }
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
        ("{libvirt: {image: /a, initrd: /c}}", "it is not said what a machine boots from"),
        ("{libvirt: {kernel: /a, disk: 1GiB}}", "there is no disk of which it could be said"),
        ("{libvirt: {image: /a, machine: 'q 35'}}", "is not a machine type"),
        ("{libvirt: {image: /a, cloud_init: {hostname: a_b}}}", "is not the name of a host"),
        ("{libvirt: {image: /a, cloud_init: {user_data: hello}}}", "by its first line"),
        ("{libvirt: {image: /a, cloud_init: {users: [{name: 'A b'}]}}}", "is not a login name"),
        ("{libvirt: {image: /a, cloud_init: {users: [{name: a, password: b}]}}}", "`password_file`"),
        (
            "{libvirt: {image: /a, cloud_init: {users: [{name: a, password_hash: x}]}}}",
            "not the hash of a password",
        ),
    ];
    for (yaml, fragment) in table {
        let found = faults(&structured(NET, TCP, &format!("{GROUP}\ntemplate: {yaml}")));
        let all: String = found.iter().map(ToString::to_string).collect();
        assert!(all.contains(fragment), "{yaml}: `{fragment}` is not in {all}");
    }
}
