//! `setup`: finds what a purpose lacks and, with consent, installs it.

use std::env;
use std::fs::File;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::process::Command;
use std::time::SystemTime;

use anyhow::{Context as _, Result, bail};
use bpf_toolchain::Toolchain;
use sluice_machines::kernel::apt_candidate;

use crate::build;
use crate::host;
use crate::plan::{CompilerSource, Findings, Step, plan};
use crate::tools::{OF_ONE_VERSION, Purpose, Tool};

/// A compiler, then its LLVM and linker, then its lints; one more to see that nothing is left.
const ROUNDS: usize = 4;

/// `cargo xtask setup`: says what is there, too.
pub(crate) fn explicit(purpose: Purpose, yes: bool) -> Result<()> {
    if ensure(purpose, yes)? {
        eprintln!("setup: done");
    } else {
        eprintln!("setup: nothing to do");
    }
    match bpf_toolchain::find() {
        Ok(toolchain) => print_toolchain(&toolchain),
        Err(missing) => return Err(missing.into()),
    }
    Ok(())
}

fn print_toolchain(toolchain: &Toolchain) {
    eprintln!(
        "  compiler for BPF  {} {} ({})",
        toolchain.rustc.display(),
        toolchain.release,
        toolchain.origin
    );
    eprintln!("  its LLVM          {}", toolchain.llvm_major);
    eprintln!("  linker for BPF    {}", toolchain.linker.display());
}

/// Makes the host ready for a purpose; silent where it is. Returns whether anything was installed.
pub(crate) fn ensure(purpose: Purpose, yes: bool) -> Result<bool> {
    let mut asked = false;
    let mut lists = PackageLists::default();
    for _ in 0..ROUNDS {
        let steps = steps(purpose, &mut lists)?;
        if steps.is_empty() {
            if asked {
                build::forget_embedded_object()?;
            }
            return Ok(asked);
        }
        if !asked {
            announce(&steps);
            refuse_without_root(&steps)?;
            consent(yes)?;
            asked = true;
        }
        for step in &steps {
            run(step, &mut lists)?;
        }
    }
    bail!("the commands above ran, but these are still needed:\n{}", list(&steps(purpose, &mut lists)?))
}

/// apt's lists of packages, refreshed once at most: images carry none or old ones, and old ones name files that
/// security updates have replaced.
#[derive(Debug, Default)]
struct PackageLists {
    refreshed: bool,
}

impl PackageLists {
    fn refresh(&mut self) {
        if std::mem::replace(&mut self.refreshed, true) {
            return;
        }
        // One unreachable source among several fails this, and what is needed may still install.
        if let Err(error) = execute(&["apt-get".to_owned(), "update".to_owned()], &[]) {
            eprintln!("warning: {error:#}; going on with the lists as they are");
        }
    }
}

fn steps(purpose: Purpose, lists: &mut PackageLists) -> Result<Vec<Step>> {
    let mut found = findings(purpose);
    let asks_apt = found.compiler_source == Some(CompilerSource::Nowhere) || !found.tools.is_empty();
    if asks_apt && found.apt && host::is_root() {
        lists.refresh();
        found = findings(purpose);
    }
    plan(&found).map_err(|faults| {
        anyhow::anyhow!("this host lacks what can't be installed from here:\n  - {}", faults.join("\n  - "))
    })
}

fn findings(purpose: Purpose) -> Findings {
    let found = bpf_toolchain::find();
    let without_clippy =
        found.as_ref().ok().filter(|toolchain| purpose.lints() && toolchain.clippy().is_none());
    let toolchain_without_clippy = without_clippy.map(|toolchain| toolchain.origin);
    let toolchain = found.err();
    let tools: Vec<Tool> = purpose.tools().filter(|tool| !host::has(tool.sign)).collect();
    Findings {
        misfits: misfits(&tools),
        toolchain_without_clippy,
        compiler_source: toolchain
            .as_ref()
            .filter(|missing| missing.lacks_compiler())
            .map(|_| compiler_source()),
        toolchain,
        tools,
        components: if purpose.lints() { missing_components() } else { Vec::new() },
        apt: host::program("apt-get").is_some(),
        cargo_is_rustups: host::cargo_is_rustups(),
    }
}

/// What is installed in another version than the package of the same source that is to come.
fn misfits(tools: &[Tool]) -> Vec<String> {
    OF_ONE_VERSION
        .iter()
        .filter(|(wanted, _)| tools.iter().any(|tool| tool.package == *wanted))
        .filter_map(|(wanted, sibling)| {
            let fits = apt_candidate(wanted)?;
            (host::apt_installed(sibling)? != fits).then(|| format!("{sibling}={fits}"))
        })
        .collect()
}

fn missing_components() -> Vec<&'static str> {
    let cargo = build::cargo();
    [("clippy", "clippy"), ("fmt", "rustfmt")]
        .into_iter()
        .filter(|(subcommand, _)| !host::succeeds(&cargo, &[subcommand, "--version"]))
        .map(|(_, component)| component)
        .collect()
}

fn compiler_source() -> CompilerSource {
    // Debian's rustup and rustc-web can't be installed together.
    if host::apt_installed("rustup").is_none() && debian_compiler_is_new_enough() {
        CompilerSource::Debian
    } else if host::program("rustup").is_some() {
        CompilerSource::Rustup
    } else {
        CompilerSource::Nowhere
    }
}

fn debian_compiler_is_new_enough() -> bool {
    apt_candidate("rustc-web").is_some_and(|version| bpf_toolchain::is_new_enough(&version))
}

fn announce(steps: &[Step]) {
    eprintln!("Something is missing on this host. These commands install it:\n{}", list(steps));
}

fn list(steps: &[Step]) -> String {
    steps.iter().map(|step| format!("  {step}")).collect::<Vec<_>>().join("\n")
}

fn refuse_without_root(steps: &[Step]) -> Result<()> {
    if host::is_root() || !steps.iter().any(Step::needs_root) {
        return Ok(());
    }
    let commands: Vec<String> =
        steps.iter().filter(|step| step.needs_root()).map(|step| format!("  sudo {step}")).collect();
    bail!("installing packages needs root. Run this, then the task again:\n{}", commands.join("\n"))
}

/// Whether the system may be changed: said beforehand, or asked for on a terminal.
fn consent(yes: bool) -> Result<()> {
    if yes || env::var_os("CI").is_some_and(|ci| ci == "true" || ci == "1") {
        return Ok(());
    }
    if !io::stdin().is_terminal() {
        bail!("there is no terminal to ask on: run the commands above, or this task with --yes");
    }
    eprint!("Run them now? [y/N] ");
    io::stderr().flush()?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer).context("cannot read the answer")?;
    if matches!(answer.trim(), "y" | "Y" | "yes") { Ok(()) } else { bail!("nothing was changed") }
}

fn run(step: &Step, lists: &mut PackageLists) -> Result<()> {
    if let Step::Packages(packages) = step {
        lists.refresh();
        if let Some(package) = packages.iter().find(|package| {
            apt_candidate(package.split_once('=').map_or(package.as_str(), |(name, _)| name)).is_none()
        }) {
            bail!(
                "apt knows no package {package}. On Debian it comes with the updates and security updates of the \
                 release: check /etc/apt/sources.list and /etc/apt/sources.list.d"
            );
        }
    }
    let Some(command) = step.command() else { return Ok(()) };
    execute(&command, &step.environment())
        .with_context(|| format!("`{step}` did not do; it can be run by hand, and the task again"))
}

fn execute(words: &[String], environment: &[(&str, String)]) -> Result<()> {
    let (name, arguments) = words.split_first().context("a command has a name")?;
    eprintln!("==> {}", words.join(" "));
    // The cargo that runs this task may not be on PATH.
    let program = if name == "cargo" { build::cargo() } else { PathBuf::from(name) };
    // The task's own output may be read by a program.
    let status = Command::new(program)
        .args(arguments)
        .stdout(io::stderr())
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .status()
        .with_context(|| format!("cannot run {name}"))?;
    if status.success() { Ok(()) } else { bail!("{name} failed ({status})") }
}

/// Marks a file as changed now.
pub(crate) fn touch(path: &PathBuf) -> Result<()> {
    let file = File::options().append(true).open(path);
    file.and_then(|file| file.set_modified(SystemTime::now()))
        .with_context(|| format!("cannot set the time of {}", path.display()))
}
