//! `concoord logger`: prints what replicas log, whoever sends it.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncBufRead, AsyncBufReadExt, BufReader};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::exit::{Exit, Failure};
use super::output::{harmless, note, say};
use super::runtime;
use crate::logging::{LINE_BYTES_MAX, now};

/// Senders at once: far more than the members of any cluster.
const SENDERS_MAX: usize = 256;

#[derive(Debug, clap::Args)]
#[command(after_long_help = super::EXIT_CODES)]
pub(super) struct Options {
    /// Address to listen on
    #[arg(short, long, default_value = "127.0.0.1")]
    addr: String,
    /// Port to listen on
    #[arg(short, long, default_value_t = 12000)]
    port: u16,
}

/// Prints `TIME SENDER RECORD` for each line that arrives, until Ctrl-C or until nobody reads.
pub(super) fn run(options: &Options) -> Result<(), Failure> {
    runtime()?.block_on(async {
        let place = (options.addr.as_str(), options.port);
        let listener = TcpListener::bind(place).await.map_err(|error| {
            let message = format!("Cannot bind to {}:{} ({error})", options.addr, options.port);
            Failure::new(Exit::Bind, message + ": name another with -a and -p")
        })?;
        let address = listener.local_addr().map_err(Failure::failed)?;
        note(format!("LOGGER-{address} listens; start replicas with -l {address}"));
        tokio::select! {
            result = serve(listener, say) => result.map_err(Failure::failed),
            _ = tokio::signal::ctrl_c() => Ok(()),
        }
    })
}

/// Serves senders until `print` says that nobody reads.
async fn serve<P>(listener: TcpListener, print: P) -> io::Result<()>
where
    P: Fn(String) -> bool + Clone + Send + 'static,
{
    let mut senders = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if senders.len() < SENDERS_MAX => {
                let Ok((stream, sender)) = accepted else {
                    // Out of descriptors, most likely: let senders go before taking more.
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                    continue;
                };
                senders.spawn(relay(BufReader::new(stream), sender, print.clone()));
            }
            Some(ended) = senders.join_next() => {
                if matches!(ended, Ok(Relayed::NobodyReads)) {
                    return Ok(());
                }
            }
        }
    }
}

/// Why a sender's task ended.
enum Relayed {
    SenderLeft,
    NobodyReads,
}

async fn relay<R>(mut from: R, sender: SocketAddr, print: impl Fn(String) -> bool) -> Relayed
where
    R: AsyncBufRead + Unpin,
{
    while let Ok(Some((line, cut))) = next_line(&mut from).await {
        let mut text = harmless(String::from_utf8_lossy(&line).trim_end_matches('\r'));
        if cut > 0 {
            text += &format!(" … ({cut} bytes cut)");
        }
        if !print(format!("{} {sender} {text}", now())) {
            return Relayed::NobodyReads;
        }
    }
    Relayed::SenderLeft
}

/// The next line and how many of its bytes went beyond the limit; `None` at the end.
async fn next_line<R>(from: &mut R) -> io::Result<Option<(Vec<u8>, usize)>>
where
    R: AsyncBufRead + Unpin,
{
    let (mut line, mut cut) = (Vec::new(), 0);
    loop {
        let arrived = from.fill_buf().await?;
        if arrived.is_empty() {
            return Ok((!line.is_empty()).then_some((line, cut)));
        }
        let end = arrived.iter().position(|byte| *byte == b'\n');
        let part = arrived.get(..end.unwrap_or(arrived.len())).unwrap_or_default();
        let room = LINE_BYTES_MAX - line.len();
        line.extend(part.iter().take(room));
        cut += part.len().saturating_sub(room);
        let used = part.len() + usize::from(end.is_some());
        from.consume(used);
        if end.is_some() {
            return Ok(Some((line, cut)));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::time::Duration;

    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpStream;

    use super::*;

    #[tokio::test]
    async fn lines_come_out_with_their_sender_whatever_they_hold() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (line_tx, line_rx) = channel();
        // The fourth line finds nobody who reads.
        let served =
            tokio::spawn(serve(listener, move |line| line_tx.send(line).is_ok_and(|()| true)));
        let mut garbage = TcpStream::connect(address).await.unwrap();
        let mut sender = TcpStream::connect(address).await.unwrap();
        garbage.write_all(b"\xff\x1b[2J\x00\r\n").await.unwrap();
        let long = vec![b'x'; LINE_BYTES_MAX + 7];
        garbage.write_all(&long).await.unwrap();
        garbage.write_all(b"\n").await.unwrap();
        sender.write_all(b"{\"message\":\"hi\"}\n").await.unwrap();
        let lines = tokio::task::spawn_blocking(move || {
            let lines: Vec<String> =
                (0..3).map(|_| line_rx.recv_timeout(Duration::from_secs(10)).unwrap()).collect();
            lines
        });
        let lines = lines.await.unwrap();
        let from = |stream: &TcpStream| format!(" {} ", stream.local_addr().unwrap());
        let mut of_garbage = lines.iter().filter(|line| line.contains(&from(&garbage)));
        assert!(of_garbage.next().unwrap().ends_with("\u{fffd}\\u{1b}[2J\\u{0}"));
        assert!(of_garbage.next().unwrap().ends_with("x … (7 bytes cut)"));
        let good = lines.iter().find(|line| line.contains(&from(&sender))).unwrap();
        assert!(good.ends_with(" {\"message\":\"hi\"}"), "{good}");

        sender.write_all(b"more\n").await.unwrap();
        served.await.unwrap().unwrap();
    }
}
