//! What setup would run, as a value: from what is missing to the commands that install it.

use std::fmt;

use bpf_toolchain::{Absent, Missing, Origin};

use crate::tools::Tool;

/// Known to build objects that the oldest supported kernel loads; its LLVM is chosen to fit the compiler's.
const BPF_LINKER_VERSION: &str = "0.13.0";

/// Where a compiler for the BPF target can come from on this host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CompilerSource {
    /// The distribution's `rustc-web` is new enough.
    Debian,
    /// rustup is there.
    Rustup,
    /// Neither.
    Nowhere,
}

/// All that the plan depends on.
#[derive(Debug, Clone)]
pub(crate) struct Findings {
    /// What the BPF toolchain lacks.
    pub(crate) toolchain: Option<Missing>,
    /// Programs that are not there.
    pub(crate) tools: Vec<Tool>,
    /// Of `clippy` and `rustfmt`, what the cargo in use lacks.
    pub(crate) components: Vec<&'static str>,
    /// The origin of the BPF toolchain, if it is complete but for its own clippy, and that is wanted.
    pub(crate) toolchain_without_clippy: Option<Origin>,
    /// Whether packages are installed with apt.
    pub(crate) apt: bool,
    /// Whether the cargo in use is rustup's.
    pub(crate) cargo_is_rustups: bool,
    /// Where to get a compiler, if one is missing.
    pub(crate) compiler_source: Option<CompilerSource>,
    /// Installed packages that don't go with what is missing, as apt takes the version that does: `name=version`.
    pub(crate) misfits: Vec<String>,
}

/// One command of setup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// Installs Debian packages, each as `name` or, where only one version does, `name=version`.
    Packages(Vec<String>),
    /// Installs a rustup nightly that can build `core`.
    Nightly,
    /// Adds components to the rustup toolchain in use.
    Components(Vec<&'static str>),
    /// Adds clippy to rustup's nightly.
    NightlyClippy,
    /// Builds `bpf-linker` with the LLVM of this major version; `None` until the compiler is there to say which.
    Linker(Option<u32>),
}

impl Step {
    /// The program and its arguments, with environment variables; `None` where it can't be known yet.
    pub(crate) fn command(&self) -> Option<Vec<String>> {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        match self {
            Self::Packages(packages) => {
                let mut command = words("apt-get install -y --no-install-recommends --no-remove");
                if packages.iter().any(|package| package.contains('=')) {
                    command.push("--allow-downgrades".to_owned());
                }
                command.extend(packages.iter().cloned());
                Some(command)
            }
            Self::Nightly => {
                Some(words("rustup toolchain install nightly --profile minimal --component rust-src"))
            }
            Self::Components(components) => {
                Some(words(&format!("rustup component add {}", components.join(" "))))
            }
            Self::NightlyClippy => Some(words("rustup component add clippy --toolchain nightly")),
            Self::Linker(Some(llvm)) => Some(words(&format!(
                "cargo install bpf-linker --version {BPF_LINKER_VERSION} --locked --force \
                 --no-default-features --features llvm-{llvm}"
            ))),
            Self::Linker(None) => None,
        }
    }

    /// Variables the command needs.
    pub(crate) fn environment(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::Packages(_) => vec![("DEBIAN_FRONTEND", "noninteractive".to_owned())],
            Self::Linker(Some(llvm)) => vec![("LLVM_PREFIX", format!("/usr/lib/llvm-{llvm}"))],
            Self::Nightly | Self::NightlyClippy | Self::Components(_) | Self::Linker(None) => Vec::new(),
        }
    }

    /// Whether it changes what belongs to the system, not to the user.
    pub(crate) fn needs_root(&self) -> bool {
        matches!(self, Self::Packages(_))
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(command) = self.command() else {
            return f
                .write_str("then llvm-N-dev, libpolly-N-dev and bpf-linker, N being the compiler's LLVM");
        };
        for (name, value) in self.environment() {
            write!(f, "{name}={value} ")?;
        }
        f.write_str(&command.join(" "))
    }
}

/// The commands that bring what is missing, in order; empty where nothing is. A compiler that has to be installed
/// first hides which LLVM the linker needs: plan again after it.
///
/// # Errors
/// What can't be installed on this host, one text each.
pub(crate) fn plan(findings: &Findings) -> Result<Vec<Step>, Vec<String>> {
    let mut packages: Vec<String> = findings.tools.iter().map(|tool| tool.package.to_owned()).collect();
    packages.extend(findings.misfits.iter().cloned());
    let mut steps = Vec::new();
    let mut impossible = Vec::new();

    if findings.cargo_is_rustups && !findings.components.is_empty() {
        steps.push(Step::Components(findings.components.clone()));
    } else {
        packages.extend(findings.components.iter().map(|component| debian_component(component).to_owned()));
    }
    match findings.toolchain_without_clippy {
        Some(Origin::Distribution) => packages.push(debian_component("clippy").to_owned()),
        Some(Origin::Nightly) => steps.push(Step::NightlyClippy),
        None => {}
    }
    for part in findings.toolchain.iter().flat_map(|missing| &missing.parts) {
        match part {
            Absent::Compiler | Absent::OldCompiler { .. } | Absent::LibrarySource { .. } => {
                match findings.compiler_source {
                    Some(CompilerSource::Debian) => {
                        packages.extend(["rustc-web", "cargo-web", "rust-web-src"].map(str::to_owned));
                    }
                    Some(CompilerSource::Rustup) => steps.push(Step::Nightly),
                    Some(CompilerSource::Nowhere) | None => impossible.push(format!(
                        "{part}\n    install Rust with rustup; newer releases have a package of that name"
                    )),
                }
            }
            Absent::Linker { llvm_major } | Absent::BrokenLinker { llvm_major, .. } => {
                packages.extend(llvm_major.iter().flat_map(|llvm| llvm_packages(*llvm)));
                steps.push(Step::Linker(*llvm_major));
            }
            Absent::OldLinker { needs, .. } => {
                packages.extend(llvm_packages(*needs));
                steps.push(Step::Linker(Some(*needs)));
            }
        }
    }
    packages.sort_unstable();
    packages.dedup();
    if !packages.is_empty() {
        if findings.apt {
            steps.insert(0, Step::Packages(packages));
        } else {
            impossible.push(format!(
                "there is no apt-get here: install what Debian calls {} with this system's package manager",
                packages.join(", ")
            ));
        }
    }
    if impossible.is_empty() { Ok(steps) } else { Err(impossible) }
}

/// What it takes to build `bpf-linker` with an LLVM of Debian's.
fn llvm_packages(major: u32) -> Vec<String> {
    vec![
        "gcc".to_owned(),
        "g++".to_owned(),
        format!("llvm-{major}-dev"),
        format!("libpolly-{major}-dev"),
        "zlib1g-dev".to_owned(),
        "libzstd-dev".to_owned(),
    ]
}

/// The package of a component for Debian's cargo.
fn debian_component(component: &str) -> &str {
    match component {
        "clippy" => "rust-web-clippy",
        "rustfmt" => "rustfmt-web",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tools::Purpose;

    fn nothing_missing() -> Findings {
        Findings {
            toolchain: None,
            tools: Vec::new(),
            components: Vec::new(),
            toolchain_without_clippy: None,
            apt: true,
            cargo_is_rustups: false,
            compiler_source: None,
            misfits: Vec::new(),
        }
    }

    fn lacking(parts: Vec<Absent>) -> Findings {
        Findings { toolchain: Some(Missing { parts }), ..nothing_missing() }
    }

    #[test]
    fn where_nothing_is_missing_nothing_runs() {
        assert_eq!(plan(&nothing_missing()), Ok(Vec::new()));
    }

    #[test]
    fn a_bare_debian_gets_its_own_compiler_and_the_linker_later() {
        let findings = Findings {
            compiler_source: Some(CompilerSource::Debian),
            ..lacking(vec![Absent::Compiler, Absent::Linker { llvm_major: None }])
        };
        let steps = plan(&findings).expect("all can be installed");
        assert_eq!(steps.len(), 2);
        assert!(steps[0].to_string().contains("cargo-web rust-web-src rustc-web"), "{}", steps[0]);
        assert_eq!(steps[1], Step::Linker(None));
    }

    #[test]
    fn the_linker_gets_the_compilers_llvm() {
        let findings = lacking(vec![Absent::Linker { llvm_major: Some(23) }]);
        let steps = plan(&findings).expect("all can be installed");
        assert!(steps[0].to_string().contains("libpolly-23-dev libzstd-dev llvm-23-dev"), "{}", steps[0]);
        assert!(steps[1].to_string().starts_with("LLVM_PREFIX=/usr/lib/llvm-23 cargo install bpf-linker"));
        assert!(steps[1].to_string().ends_with("--features llvm-23"));
    }

    #[test]
    fn without_debians_compiler_rustup_brings_a_nightly() {
        let findings =
            Findings { compiler_source: Some(CompilerSource::Rustup), ..lacking(vec![Absent::Compiler]) };
        assert_eq!(plan(&findings), Ok(vec![Step::Nightly]));
    }

    #[test]
    fn what_cannot_be_installed_is_all_named_at_once() {
        let findings = Findings {
            tools: Purpose::Bench.tools().collect(),
            apt: false,
            compiler_source: Some(CompilerSource::Nowhere),
            ..lacking(vec![Absent::Compiler])
        };
        let faults = plan(&findings).expect_err("neither apt nor rustup is there");
        assert_eq!(faults.len(), 2);
        assert!(faults[0].contains("install Rust with rustup"), "{}", faults[0]);
        assert!(faults[1].contains("iperf3"), "{}", faults[1]);
    }

    #[test]
    fn components_come_from_where_cargo_came_from() {
        let debian = Findings { components: vec!["clippy", "rustfmt"], ..nothing_missing() };
        let rustup = Findings { cargo_is_rustups: true, ..debian.clone() };
        let text = |findings| plan(&findings).expect("all can be installed")[0].to_string();
        assert!(text(debian).ends_with("rust-web-clippy rustfmt-web"));
        assert_eq!(text(rustup), "rustup component add clippy rustfmt");
    }

    #[test]
    fn debians_compiler_gets_its_own_clippy_beside_rustups() {
        let findings = Findings {
            cargo_is_rustups: true,
            toolchain_without_clippy: Some(Origin::Distribution),
            ..nothing_missing()
        };
        assert_eq!(plan(&findings), Ok(vec![Step::Packages(vec!["rust-web-clippy".to_owned()])]));
    }

    #[test]
    fn the_demo_needs_only_what_building_needs() {
        let names = |purpose: Purpose| purpose.tools().map(|tool| tool.package).collect::<Vec<_>>();
        assert_eq!(names(Purpose::Demo), names(Purpose::Build));
    }

    #[test]
    fn an_installed_package_of_another_version_is_replaced_by_the_one_that_fits() {
        let findings = Findings {
            tools: Purpose::Kernel.tools().filter(|tool| tool.package == "qemu-system-x86").collect(),
            misfits: vec!["qemu-utils=1:7.2".to_owned()],
            ..nothing_missing()
        };
        let text = plan(&findings).expect("all can be installed")[0].to_string();
        assert!(text.ends_with("--allow-downgrades qemu-system-x86 qemu-utils=1:7.2"), "{text}");
    }

    #[test]
    fn setup_never_removes_a_package() {
        let command = Step::Packages(vec!["iperf3".to_owned()]).command().expect("known");
        assert!(command.contains(&"--no-remove".to_owned()));
    }
}
