//! The programs and libraries that the tasks run and link with, and the Debian packages that bring them.

use clap::ValueEnum;

/// What a host is made ready for; each includes building.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Purpose {
    /// To build the BPF object and `sluice`.
    Build,
    /// To run the demo: nothing but what building needs.
    Demo,
    /// To make the images, and to run the demo in containers.
    Containers,
    /// To make the images, and to run the demo in virtual machines.
    Machines,
    /// To check format, lints and docs.
    Check,
    /// To run every test.
    Test,
    /// To run the tests of `test-kernel`.
    Kernel,
    /// To measure.
    Bench,
}

/// What a package brings, by which it is seen that it is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sign {
    /// A program.
    Program(&'static str),
    /// A library to link with, by its name in pkg-config.
    Library(&'static str),
}

/// Something that some task runs or links with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tool {
    pub(crate) sign: Sign,
    /// Its Debian package.
    pub(crate) package: &'static str,
    purposes: &'static [Purpose],
}

const ALL: &[Purpose] = &[
    Purpose::Build,
    Purpose::Demo,
    Purpose::Containers,
    Purpose::Machines,
    Purpose::Check,
    Purpose::Test,
    Purpose::Kernel,
    Purpose::Bench,
];

/// Who boots virtual machines.
const MACHINES: &[Purpose] = &[Purpose::Machines, Purpose::Test];

const TOOLS: &[Tool] = &[
    Tool { sign: Sign::Program("cc"), package: "gcc", purposes: ALL },
    Tool { sign: Sign::Program("pkg-config"), package: "pkg-config", purposes: ALL },
    Tool { sign: Sign::Library("libvirt"), package: "libvirt-dev", purposes: ALL },
    Tool { sign: Sign::Program("tc"), package: "iproute2", purposes: &[Purpose::Test, Purpose::Kernel] },
    Tool { sign: Sign::Program("nft"), package: "nftables", purposes: &[Purpose::Test] },
    Tool { sign: Sign::Program("bpftool"), package: "bpftool", purposes: &[Purpose::Test, Purpose::Kernel] },
    Tool {
        sign: Sign::Program("busybox"),
        package: "busybox-static",
        purposes: &[Purpose::Containers, Purpose::Machines, Purpose::Test, Purpose::Kernel],
    },
    Tool {
        sign: Sign::Program("dockerd"),
        package: "docker.io",
        purposes: &[Purpose::Containers, Purpose::Test],
    },
    Tool { sign: Sign::Program("libvirtd"), package: "libvirt-daemon-system", purposes: MACHINES },
    Tool { sign: Sign::Program("qemu-img"), package: "qemu-utils", purposes: MACHINES },
    Tool { sign: Sign::Program("dnsmasq"), package: "dnsmasq-base", purposes: MACHINES },
    Tool {
        sign: Sign::Program("qemu-system-x86_64"),
        package: "qemu-system-x86",
        purposes: &[Purpose::Machines, Purpose::Test, Purpose::Kernel],
    },
    Tool { sign: Sign::Program("iptables"), package: "iptables", purposes: &[Purpose::Bench] },
    Tool { sign: Sign::Program("iperf3"), package: "iperf3", purposes: &[Purpose::Bench] },
    Tool { sign: Sign::Program("prometheus"), package: "prometheus", purposes: &[Purpose::Test] },
    Tool { sign: Sign::Program("sshd"), package: "openssh-server", purposes: &[Purpose::Test] },
    Tool { sign: Sign::Program("openssl"), package: "openssl", purposes: &[Purpose::Test] },
    Tool { sign: Sign::Program("nc.openbsd"), package: "netcat-openbsd", purposes: &[Purpose::Test] },
];

/// Packages of one source, of which the first is installed only beside the same version of the second: one that came
/// from another suite has to be brought to the version that this host's suites have, and apt doesn't do it unasked.
pub(crate) const OF_ONE_VERSION: &[(&str, &str)] = &[("qemu-system-x86", "qemu-utils")];

impl Purpose {
    /// The programs it needs beside the toolchain.
    pub(crate) fn tools(self) -> impl Iterator<Item = Tool> {
        TOOLS.iter().copied().filter(move |tool| tool.purposes.contains(&self))
    }

    /// Whether it runs `cargo clippy` and `cargo fmt`.
    pub(crate) fn lints(self) -> bool {
        matches!(self, Self::Check | Self::Test)
    }
}
