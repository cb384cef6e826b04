//! `exo-studio relay`: runs a relay for friends, on its own, without a node.
//!
//! Prints what to give to friends, and now and then how much there is to do;
//! whose devices it serves only if asked to, and addresses never. It knows no
//! community: whom it serves is a file with one device id a line, read again
//! when it changes.

mod allow;

use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use exo_model::charter::Relay;
use exo_sync::relay::{
    AllowList, RelayAccess, RelayCertificate, RelayConfig, RelayFigures, RelayLimits, RelayServer, RelayTls,
};

use crate::bytes::{ByteSize, human};
use crate::folder::Folder;

/// Pause between looks at how much there is to do.
const REPORT_EVERY: Duration = Duration::from_secs(60);
/// Folder of the relay's certificate, in the data folder.
const FOLDER: &str = "relay";

/// Options of a relay.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct RelayArgs {
    /// Name or address by which friends reach it, for example relay.example.org.
    #[arg(long, value_name = "NAME")]
    hostname: String,
    /// Address of HTTPS, TCP and UDP.
    #[arg(long, value_name = "IP:PORT", default_value = "0.0.0.0:8443")]
    https: SocketAddr,
    /// Address of HTTP; only without TLS is it of use to friends.
    #[arg(long, value_name = "IP:PORT")]
    http: Option<SocketAddr>,
    /// Serve without TLS, on the address of HTTP: only behind something else that encrypts.
    #[arg(long, requires = "http", conflicts_with_all = ["https", "cert"])]
    no_tls: bool,
    /// Port in the address for friends, if a router or proxy shows another one.
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    public_port: Option<u16>,
    /// Certificate in PEM form, instead of one that the relay makes itself.
    #[arg(long, value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,
    /// The certificate's private key in PEM form.
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
    /// Serve only the devices in this file, one id a line; everybody without it.
    #[arg(long, value_name = "FILE")]
    allow: Option<PathBuf>,
    /// Bytes a second that each device may send.
    #[arg(long, value_name = "SIZE", default_value = "1MiB")]
    rate: ByteSize,
    /// Bytes that a device may send at once.
    #[arg(long, value_name = "SIZE", default_value = "4MiB")]
    burst: ByteSize,
    /// Most devices at the same time.
    #[arg(long, value_name = "NUMBER", default_value_t = RelayLimits::default().connections_max)]
    most: usize,
    /// Address of a page with the figures, for example 127.0.0.1:9090.
    #[arg(long, value_name = "IP:PORT")]
    metrics: Option<SocketAddr>,
}

impl RelayArgs {
    fn config(&self, data: PathBuf, access: RelayAccess) -> anyhow::Result<RelayConfig> {
        let certificate = match (&self.cert, &self.key) {
            (Some(certificate), Some(key)) => {
                RelayCertificate::Files { certificate: certificate.clone(), key: key.clone() }
            }
            _ => RelayCertificate::SelfSigned { folder: data.join(FOLDER), host: self.hostname.clone() },
        };
        let nowhere = SocketAddr::new(IpAddr::from([127, 0, 0, 1]), 0);
        Ok(RelayConfig {
            http: self.http.unwrap_or(nowhere),
            tls: (!self.no_tls).then_some(RelayTls { https: self.https, certificate }),
            access,
            limits: RelayLimits {
                bytes_per_second: size("--rate", self.rate)?,
                burst_bytes: size("--burst", self.burst)?,
                connections_max: self.most,
            },
            metrics: self.metrics,
        })
    }

    /// What friends enter.
    fn entry(&self, server: &RelayServer) -> anyhow::Result<Relay> {
        let (scheme, address) = match server.https_address() {
            Some(address) => ("https", address),
            None => ("http", server.http_address().context("the relay has no address")?),
        };
        let port = self.public_port.unwrap_or(address.port());
        let host = match self.hostname.parse() {
            Ok(IpAddr::V6(address)) => format!("[{address}]"),
            _ => self.hostname.clone(),
        };
        Ok(Relay::new(&format!("{scheme}://{host}:{port}"), server.pin())?)
    }
}

/// A size that fits, and is not zero.
fn size(option: &str, size: ByteSize) -> anyhow::Result<NonZeroU32> {
    let bytes = u32::try_from(size.0).ok().and_then(NonZeroU32::new);
    bytes.with_context(|| format!("{option} must be between 1 byte and 4 GiB"))
}

/// Runs a relay until Ctrl-C.
pub(crate) async fn run(args: RelayArgs, data: Option<PathBuf>) -> anyhow::Result<ExitCode> {
    if args.most == 0 {
        bail!("--most 0 would serve nobody");
    }
    let data = match data {
        Some(data) => data,
        None => Folder::default_path()?,
    };
    let mut watch = None;
    let access = match &args.allow {
        Some(path) => {
            let list = AllowList::new(allow::read(path)?);
            watch = Some(AbortOnDrop(tokio::spawn(allow::follow(path.clone(), list.clone()))));
            RelayAccess::Listed(list)
        }
        None => RelayAccess::Open,
    };
    let mut server = RelayServer::start(args.config(data, access)?).await?;
    greet(&args, &server)?;
    let ended = tokio::select! {
        error = report_until_it_ends(&mut server) => Some(error),
        interrupted = tokio::signal::ctrl_c() => { interrupted.context("Ctrl-C")?; None }
    };
    drop(watch);
    if let Some(error) = ended {
        return Err(error);
    }
    say("stopping")?;
    server.stop().await?;
    Ok(ExitCode::SUCCESS)
}

/// A task that ends with its owner.
struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn greet(args: &RelayArgs, server: &RelayServer) -> anyhow::Result<()> {
    let relay = args.entry(server)?;
    say(&format!("relay {}", relay.url))?;
    match relay.pin {
        Some(pin) => say(&format!("pin   {}", pin.to_hex()))?,
        None if relay.is_tls() => say("no pin: its certificate is vouched for by an authority")?,
        None => say("no TLS: who talks to whom travels in the clear")?,
    }
    say(match args.allow {
        Some(_) => "It serves the devices of the list only.",
        None => "It serves everybody who finds it. With --allow it serves only your friends' devices.",
    })?;
    if let Some(address) = server.metrics_address() {
        say(&format!("figures at http://{address}/metrics"))?;
    }
    say("Ctrl-C stops it.")
}

/// A line whenever something has changed, at most once a minute.
async fn report_until_it_ends(server: &mut RelayServer) -> anyhow::Error {
    let mut told = server.figures();
    loop {
        tokio::select! {
            error = server.ended() => return error.into(),
            () = tokio::time::sleep(REPORT_EVERY) => {}
        }
        let now = server.figures();
        if now != told
            && let Err(error) = say(&line(&now))
        {
            return error;
        }
        told = now;
    }
}

fn line(figures: &RelayFigures) -> String {
    let RelayFigures { devices, refused, carried_bytes, limited_bytes } = *figures;
    format!(
        "{devices} devices, {} carried, {} slowed down, {refused} refused",
        human(carried_bytes),
        human(limited_bytes)
    )
}

/// One line on standard output; a reader that is gone ends the relay.
fn say(line: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).context("standard output")
}
