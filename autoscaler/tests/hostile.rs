//! What tenants, containers and exporters write never reaches a terminal as it is.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};
use sluice_northbound::terminal::is_harmful;

/// A title, a cleared screen, the same by C1, an override of direction, and a forged line.
const HOSTILE: &str = "\u{1b}]0;owned\u{7}\u{1b}[2J\u{9b}2J\u{202e}gnp\u{2066}\r\n2026 all is well\u{7f}";

/// A daemon that passes on what others say, as a real one does.
fn daemon(socket: &Path) {
    let listener = UnixListener::bind(socket).expect("a socket");
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            let (mut head, mut byte) = (Vec::new(), [0]);
            while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|read| read == 1) {
                head.push(byte[0]);
            }
            let head = String::from_utf8_lossy(&head).into_owned();
            let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
            let (status, body) = answer(path.split('?').next().unwrap_or_default());
            let length = body.len();
            let head = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n");
            let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes()));
        }
    });
}

fn answer(path: &str) -> (&'static str, String) {
    let at = "2026-11-24T10:00:00Z";
    let decision = json!({
        "at": at, "from": 1, "to": 1, "reason": HOSTILE, "policies": [], "inputs": {}, "clips": [],
    });
    let body = match path {
        "/v1/events" => {
            let event = json!({
                "seq": 1, "at": at, "kind": "instance_failed", "tenant": "demo", "instance": HOSTILE,
                "message": HOSTILE, "details": { "last_lines": [HOSTILE] },
            });
            json!({ "events": [event], "next": 1 })
        }
        "/v1/status" => json!({
            "daemon": {
                "version": "0", "pid": 1, "since": at, "name": "x", "transit": HOSTILE, "uplink": HOSTILE,
                "xdp_mode": "native",
            },
            "tenants": [{
                "name": "demo", "services": [HOSTILE], "counters": {}, "vips": [], "desired": 1, "min": 1,
                "max": 1, "loads": [], "last_decision": null, "last_action": null, "leaving": false,
                "problem": HOSTILE,
                "failed_launch": { "instance": HOSTILE, "cloud": "boxes", "at": at, "reason": HOSTILE },
                "instances": [{
                    "id": HOSTILE, "cloud": "boxes", "address": "19.0.0.2", "state": "in_service",
                    "created": at, "since": at, "cpu": null, "packets_per_second": null,
                    "new_flows_per_second": null, "new_flows": null, "live_flows": null,
                    "new_flow_share": null,
                }],
            }],
            "refused": [{ "file": format!("/etc/{HOSTILE}.yml"), "tenant": null, "faults": [HOSTILE.replace('\n', " ")] }],
            "problems": [{ "since": at, "about": HOSTILE, "what": HOSTILE, "way_out": HOSTILE }],
            "drops": {},
        }),
        "/v1/clouds" => json!([{
            "name": "boxes", "kind": "docker", "address": HOSTILE, "zone": HOSTILE, "priority": 0,
            "price_per_hour": 0.0, "capacity": null, "used": 0, "fault": HOSTILE, "asked_again_in": 1.0,
            "troubles": [{ "tenant": "demo", "reason": HOSTILE, "backed_off_for": 1.0 }],
        }]),
        "/v1/export" => return ("200 OK", format!("time,text\r\n,{HOSTILE}\r\n")),
        _ => return ("409 Conflict", json!({ "error": HOSTILE, "decision": decision }).to_string()),
    };
    ("200 OK", body.to_string())
}

fn sluice(args: &[&str], socket: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sluice"))
        .args(args)
        .arg("--socket")
        .arg(socket)
        // As on a terminal.
        .env("CLICOLOR_FORCE", "1")
        .env_remove("NO_COLOR")
        .output()
        .expect("the program starts")
}

/// What is left without our own colours.
fn without_colours(text: &str) -> String {
    let mut parts = text.split("\u{1b}[");
    let mut left = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (colour, rest) = part.split_once('m').unwrap_or(("?", part));
        if !colour.chars().all(|c| c.is_ascii_digit() || c == ';') {
            left.push('\u{1b}');
        }
        left.push_str(rest);
    }
    left
}

#[test]
fn no_command_lets_a_terminal_obey_what_others_say() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("sock");
    daemon(&socket);
    let commands: [&[&str]; 8] = [
        &["status"],
        &["events"],
        &["clouds"],
        &["explain", "demo"],
        &["push", "demo", "queue", "1"],
        &["scale", "demo", "1"],
        &["drain", "demo-00000001"],
        &["down", "--config", "/nonexistent/\u{1b}[2J\u{202e}.yml"],
    ];
    for command in commands {
        let output = sluice(command, &socket);
        let printed = [output.stdout, output.stderr].concat();
        let printed = without_colours(std::str::from_utf8(&printed).expect("UTF-8"));
        assert!(printed.contains("\\u{1b}") && printed.contains("\\u{202e}"), "{command:?}: {printed}");
        let harmful = printed.contains(|c| c != '\n' && is_harmful(c));
        assert!(!harmful, "{command:?}: {printed:?}");
        assert!(!printed.lines().any(|line| line.starts_with("2026 all")), "{command:?}: {printed}");
    }
}

#[test]
fn json_stays_json_and_says_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("sock");
    daemon(&socket);
    for command in ["status", "clouds", "events"] {
        let output = sluice(&[command, "--json"], &socket);
        let printed = String::from_utf8(output.stdout).unwrap();
        assert!(!printed.contains(|c| c != '\n' && is_harmful(c)), "{printed:?}");
        let value: Value = serde_json::from_str(&printed).expect("JSON");
        assert!(value.to_string().contains("all is well"));
        if command == "events" {
            assert_eq!(value["message"], HOSTILE);
        }
    }
}

#[test]
fn a_file_that_is_checked_is_shown_harmless() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a\u{1b}[2J.yml");
    fs::write(&file, "t_name: \"a\u{202e}b\u{9b}2J\"\n").unwrap();
    let output = sluice(&["check", &file.display().to_string()], dir.path());
    let printed = without_colours(std::str::from_utf8(&output.stdout).unwrap());
    assert!(!printed.contains(|c| c != '\n' && is_harmful(c)), "{printed:?}");
}
