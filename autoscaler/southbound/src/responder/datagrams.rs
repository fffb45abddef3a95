//! The responder's datagrams.

use tokio::net::UdpSocket;

use super::Options;
use super::burn::burn;

/// The longest datagram over IPv4 (RFC 768, less both headers).
const LONGEST: usize = 65_507;

/// Answers datagrams, one after the other.
pub(super) async fn serve(socket: UdpSocket, options: Options) {
    let mut datagram = vec![0; LONGEST];
    loop {
        // An ICMP error about an earlier answer comes as an error of the next call; it ends nothing.
        let Ok((length, client)) = socket.recv_from(&mut datagram).await else { continue };
        burn(options.request_cost).await;
        let mut answer = format!("{} ", options.instance).into_bytes();
        answer.extend_from_slice(&datagram[..length.min(LONGEST - answer.len())]);
        // A client that can't be reached any more is no fault of ours.
        let _ = socket.send_to(&answer, client).await;
    }
}
