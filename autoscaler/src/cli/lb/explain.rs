//! `sluice lb explain`.

use std::net::SocketAddr;

use lb_userspace::lb::look::{Explanation, Look, Question};
use lb_userspace::net::Netns;
use lb_userspace::service::Protocol;

use super::super::{Failure, output};
use super::args::{ClientEnd, ExplainArgs};
use super::{failed, show};

/// The echo identifier where none is given: any is as good.
const SOME_IDENTIFIER: u16 = 1;

pub(super) fn explain(look: &Look, transit: &Netns, json: bool, args: &ExplainArgs) -> Result<(), Failure> {
    let explained: Vec<Explanation> = look.explain(&questions(args)?, transit).map_err(failed)?;
    show(json, &explained, |all| {
        for explanation in all {
            output::say_lines(&format!("{} {explanation}", packet(&explanation.question, args)));
        }
    })
}

/// What is asked: of TCP, where only a SYN begins a flow, two packets.
fn questions(args: &ExplainArgs) -> Result<Vec<Question>, Failure> {
    let ExplainArgs { client: ClientEnd { address, port: client_port }, to } = *args;
    if address.is_ipv4() != to.vip.is_ipv4() {
        return Err(Failure::Wrong(format!("{address} and {} are of different families", to.vip)));
    }
    let is_icmp = to.protocol == Protocol::Icmp;
    let client_port = match client_port {
        Some(port) => port,
        None if is_icmp => SOME_IDENTIFIER,
        None => {
            return Err(Failure::Wrong(format!(
                "{address} needs its port, as in {}",
                SocketAddr::new(address, 40_000)
            )));
        }
    };
    let port = match to.port {
        Some(port) => port,
        None if is_icmp => 0,
        None => {
            return Err(Failure::Wrong(format!("{to} is every port; name the one that the packet goes to")));
        }
    };
    let question = |begins| Question {
        client: SocketAddr::new(address, client_port),
        to: SocketAddr::new(to.vip, port),
        protocol: to.protocol,
        begins,
    };
    let begins: &[bool] = if to.protocol == Protocol::Tcp { &[true, false] } else { &[false] };
    Ok(begins.iter().map(|begins| question(*begins)).collect())
}

fn packet(question: &Question, args: &ExplainArgs) -> String {
    let what = match (question.protocol, question.begins) {
        (Protocol::Icmp, _) => "an echo request",
        (Protocol::Udp, _) => "a datagram",
        (Protocol::Tcp, true) => "a SYN",
        (Protocol::Tcp, false) => "a later packet",
    };
    let client = match args.client.port {
        Some(_) => question.client.to_string(),
        None => question.client.ip().to_string(),
    };
    format!("{what} from {client} to {}", args.to)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(client: &str, port: Option<u16>, to: &str) -> Result<Vec<Question>, Failure> {
        let client = ClientEnd { address: client.parse().unwrap(), port };
        questions(&ExplainArgs { client, to: to.parse().unwrap() })
    }

    #[test]
    fn of_tcp_two_packets_are_asked_about() {
        let asked = asked("198.51.100.7", Some(40_000), "45.45.45.45:80/tcp").unwrap();
        assert_eq!(asked.iter().map(|question| question.begins).collect::<Vec<_>>(), [true, false]);
        assert_eq!((asked[0].client.port(), asked[0].to.port()), (40_000, 80));
    }

    #[test]
    fn what_a_packet_needs_is_asked_for() {
        for (client, port, to) in [
            ("198.51.100.7", None, "45.45.45.45:80/tcp"),
            ("198.51.100.7", Some(1), "45.45.45.45:*/tcp"),
            ("2001:db8::7", Some(1), "45.45.45.45:80/tcp"),
        ] {
            assert!(matches!(asked(client, port, to), Err(Failure::Wrong(_))), "{client} {port:?} {to}");
        }
        assert_eq!(asked("198.51.100.7", None, "45.45.45.45/icmp").unwrap().len(), 1);
    }
}
