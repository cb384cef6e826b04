//! A relay's figures as Prometheus text: sums and counts, no device among them.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use iroh_relay::server::Metrics;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use super::access::Door;

/// Longest request for the page.
const REQUEST_BYTES_MAX: usize = 4 * 1024;
/// Longest time for one answer.
const ANSWER_DEADLINE: Duration = Duration::from_secs(5);
/// Readers of the page at once; more wait to be accepted.
const READERS_MAX: usize = 4;

/// What a relay counts.
#[derive(Clone, Debug)]
pub(super) struct Figures {
    pub(super) iroh: Arc<Metrics>,
    pub(super) door: Arc<Door>,
}

impl Figures {
    /// The Prometheus text format, version 0.0.4.
    pub(super) fn text(&self) -> String {
        let (iroh, door) = (&self.iroh, self.door.figures());
        let gauges = [
            ("devices", "Devices connected now.", door.devices as u64),
            ("connections", "Connections of devices now.", door.connections as u64),
        ];
        let counters = [
            ("refused_total", "Connections refused to strangers.", door.refused),
            ("full_total", "Connections refused for want of room.", door.full),
            ("accepts_total", "Connections accepted.", iroh.accepts.get()),
            ("disconnects_total", "Connections ended.", iroh.disconnects.get()),
            ("received_bytes_total", "Bytes of packets from devices.", iroh.bytes_recv.get()),
            ("sent_bytes_total", "Bytes of packets to devices.", iroh.bytes_sent.get()),
            ("received_packets_total", "Packets from devices.", iroh.send_packets_recv.get()),
            ("sent_packets_total", "Packets to devices.", iroh.send_packets_sent.get()),
            ("dropped_packets_total", "Packets to nobody.", iroh.send_packets_dropped.get()),
            ("limited_bytes_total", "Bytes that had to wait.", iroh.bytes_rx_ratelimited_total.get()),
            ("limited_connections_total", "Connections slowed down.", iroh.conns_rx_ratelimited_total.get()),
            ("http_connections_total", "Connections before any proof.", iroh.http_connections.get()),
            ("http_errors_total", "Connections that broke off.", iroh.http_connections_errored.get()),
            ("address_probes_total", "Probes of address discovery.", iroh.qad_incoming.get()),
        ];
        let mut text = String::new();
        let lines = gauges.iter().map(|line| ("gauge", line));
        for (kind, (name, help, value)) in lines.chain(counters.iter().map(|line| ("counter", line))) {
            // Writing into memory does not fail.
            let _ = writeln!(text, "# HELP exo_relay_{name} {help}");
            let _ = writeln!(text, "# TYPE exo_relay_{name} {kind}");
            let _ = writeln!(text, "exo_relay_{name} {value}");
        }
        text
    }
}

/// Serves the page to whoever asks at `listener`, for ever.
pub(super) async fn serve(listener: TcpListener, figures: Figures) {
    let readers = Arc::new(Semaphore::new(READERS_MAX));
    loop {
        let Ok(place) = readers.clone().acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else {
            // Out of files, most likely: they come back.
            tokio::time::sleep(ANSWER_DEADLINE).await;
            continue;
        };
        let figures = figures.clone();
        tokio::spawn(async move {
            let answered = tokio::time::timeout(ANSWER_DEADLINE, answer(stream, &figures)).await;
            if !matches!(answered, Ok(Ok(()))) {
                tracing::debug!("relay: a reader of the figures went away");
            }
            drop(place);
        });
    }
}

async fn answer(mut stream: TcpStream, figures: &Figures) -> std::io::Result<()> {
    let mut request = Vec::new();
    let mut part = [0; 512];
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        let read = stream.read(&mut part).await?;
        if read == 0 || request.len() + read > REQUEST_BYTES_MAX {
            return Ok(());
        }
        request.extend_from_slice(&part[..read]);
    }
    let is_page = request.starts_with(b"GET /metrics ");
    let (status, body) = if is_page { ("200 OK", figures.text()) } else { ("404 Not Found", String::new()) };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: {}\r\nConnection: \
         close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await?;
    stream.shutdown().await
}

/// Binds the address of the page.
pub(super) async fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    TcpListener::bind(address).await
}
