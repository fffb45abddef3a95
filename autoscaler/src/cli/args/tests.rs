use super::*;
use clap::CommandFactory;

fn parse(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(line.split_whitespace())
}

#[test]
fn the_definition_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn the_socket_may_stand_before_or_after_the_command() {
    for line in ["sluice --socket /x status", "sluice status --socket /x"] {
        assert_eq!(parse(line).unwrap().socket, Some(PathBuf::from("/x")));
    }
    assert_eq!(parse("sluice status").unwrap().socket, None);
}

#[test]
fn scale_takes_a_tenant_and_a_count() {
    let Command::Scale(args) = parse("sluice scale demo 4 --json").unwrap().command else { panic!() };
    assert_eq!((args.tenant.as_str(), args.count, args.json), ("demo", 4, true));
}

#[test]
fn since_is_a_time_or_an_age() {
    assert_eq!(since("2026-11-24T10:00:00Z").unwrap().as_second(), 1_795_514_400);
    let age = Timestamp::now().duration_since(since("10m").unwrap()).as_secs();
    assert!((599..610).contains(&age), "{age}");
    assert!(since("yesterday").is_err());
}

#[test]
fn a_supervised_command_may_have_options() {
    let line = "sluice supervise main demo-00000001 /bin/server --port 80 --config x -- -f";
    let Command::Supervise(args) = parse(line).unwrap().command else { panic!() };
    assert_eq!(args.words.len(), 9, "{:?}", args.words);
}

#[test]
fn wrong_input_is_exit_code_2() {
    for line in ["sluice scale demo -1", "sluice scale Demo 1", "sluice check", "sluice nonsense", "sluice"] {
        let error = parse(line).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{line}: {error}");
    }
}
