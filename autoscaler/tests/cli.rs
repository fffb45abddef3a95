//! The program from outside: exit codes, and what is printed where.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

const TENANT: &str = include_str!("../../examples/tenants/demo.yml");

fn sluice(args: &[&str], directory: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sluice"))
        .args(args)
        .current_dir(directory)
        .env_remove("RUST_LOG")
        .output()
        .expect("the program starts")
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("the program prints UTF-8")
}

#[test]
fn check_takes_good_files() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("demo.yml"), TENANT).unwrap();
    fs::write(dir.path().join("sluice.yml"), "transit:\n  uplink: eth0\n").unwrap();
    let output = sluice(&["check", "sluice.yml", "demo.yml"], dir.path());
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stdout));
}

#[test]
fn check_prints_every_fault_with_its_place_and_ends_with_2() {
    let dir = tempfile::tempdir().unwrap();
    let bad =
        TENANT.replace("threshold: 0.3", "treshold: 0.3").replace("max_containers: 5", "max_containers: 1");
    fs::write(dir.path().join("demo.yml"), bad).unwrap();
    let output = sluice(&["check", "demo.yml"], dir.path());
    assert_eq!(output.status.code(), Some(2));
    let printed = text(&output.stdout);
    assert!(printed.contains("demo.yml:10:1") && printed.contains("did you mean `threshold`?"), "{printed}");
    assert!(printed.contains("demo.yml:8:17"), "the limits are at fault too: {printed}");
}

#[test]
fn a_simulation_that_makes_no_sense_is_refused_with_what_to_change() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(
        dir.path().join("ages.csv"),
        "timestamp,value\n0,1\n86400,2\n172800,1\n9000-01-01T00:00:00Z,2\n",
    )
    .unwrap();
    for (args, said) in [
        (&["--scenario", "step", "--usable", "0"][..], "--usable"),
        (&["--scenario", "step", "--baseline-target", "0%", "--compare"], "--baseline-target"),
        (&["--scenario", "step", "--score-from", "100%"], "--score-from"),
        (&["--scenario", "step", "--max", "4000000000", "--min", "4000000000"], "1..=10000"),
        (&["--scenario", "step", "--min", "0"], "1..=10000"),
        (&["--scenario", "step", "--min", "9", "--max", "3"], "contradict each other"),
        (&["--trace", "ages.csv", "--gaps", "hold"], "make --step longer"),
    ] {
        let output = sluice(&[&["simulate"], args].concat(), dir.path());
        let printed = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {printed}");
        assert!(printed.contains(said), "{args:?}: {printed}");
    }
}

#[test]
fn check_prints_json_for_programs() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("demo.yml"), TENANT.replace("45.45.45.45", "45.45.45")).unwrap();
    let output = sluice(&["check", "--json", "demo.yml"], dir.path());
    assert_eq!(output.status.code(), Some(2));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON on standard output");
    assert_eq!(report["diagnostics"][0]["line"], 11, "{report:#}");
}

#[test]
fn a_command_without_a_daemon_says_how_to_start_one() {
    let dir = tempfile::tempdir().unwrap();
    for args in [&["status"][..], &["events"], &["scale", "demo", "2"], &["drain", "demo-00000001"]] {
        let output = sluice(&[args, &["--socket", "none.sock"]].concat(), dir.path());
        assert_eq!(output.status.code(), Some(1), "{args:?}");
        assert!(text(&output.stderr).contains("sluice run --config"), "{}", text(&output.stderr));
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn run_and_down_refuse_a_host_file_with_faults() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("sluice.yml"), "transit:\n  uplnk: eth0\n").unwrap();
    for command in ["run", "down"] {
        let output = sluice(&[command, "--config", "sluice.yml"], dir.path());
        assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
        assert!(text(&output.stderr).contains("sluice.yml:2:3"), "{}", text(&output.stderr));
        let missing = sluice(&[command, "--config", "none.yml"], dir.path());
        assert_eq!(missing.status.code(), Some(2), "{}", text(&missing.stderr));
    }
}

#[test]
fn a_demo_that_is_over_before_machines_have_booted_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let output = sluice(&["demo", "--brief", "--provider", "libvirt"], dir.path());
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("--brief"), "{}", text(&output.stderr));
}

#[test]
fn run_names_all_that_is_missing_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let host = "name: clitest\ntransit:\n  namespace: no_such_namespace\n  uplink: eth0\nstate: state\n";
    fs::write(dir.path().join("sluice.yml"), host.replace("state: state", &state_in(dir.path()))).unwrap();
    let output = sluice(&["run", "--config", "sluice.yml"], dir.path());
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("ip netns add no_such_namespace"), "{}", text(&output.stderr));
    assert!(!dir.path().join("state").exists() && !Path::new("/run/clitest").exists());
}

fn state_in(directory: &Path) -> String {
    format!("state: {}", directory.join("state").display())
}

#[test]
fn output_that_is_no_terminal_has_no_colours() {
    let output = sluice(&["status", "--socket", "none.sock"], Path::new("/"));
    assert!(!output.stderr.contains(&0x1b), "{}", text(&output.stderr));
}

#[test]
fn help_teaches_with_examples() {
    let output = sluice(&["--help"], Path::new("/"));
    let help = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0));
    assert!(help.contains("Examples:") && help.contains("sluice status"), "{help}");
    assert!(!help.contains("responder"), "what is for the provider only is hidden: {help}");
}

#[test]
fn an_export_that_fails_leaves_the_file_of_the_one_before() {
    let dir = tempfile::tempdir().unwrap();
    let host = format!("transit:\n  uplink: eth0\nstate: {}/none\n", dir.path().display());
    fs::write(dir.path().join("sluice.yml"), host).unwrap();
    fs::write(dir.path().join("out.csv"), "kept").unwrap();
    let asked = ["--socket", "none.sock", "export", "--kind", "logs", "--config", "sluice.yml"];
    let output = sluice(&[&asked[..], &["--output", "out.csv"]].concat(), dir.path());
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    assert_eq!(fs::read_to_string(dir.path().join("out.csv")).unwrap(), "kept");
}
