//! One client of one system, with a connection of its own.

use std::time::Duration;

use anyhow::{Context, Result};
use concoord::{Arguments, Options};
use etcd_client::{Compare, CompareOp, ConnectOptions, KvClient, Txn, TxnOp, TxnOpResponse};
use redis::aio::MultiplexedConnection;
use zookeeper_client::{Acls, CreateMode};

use crate::cluster::{Endpoints, System};

const KEY: &str = "counter";

/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(2);

/// Its clones share its connection.
#[derive(Clone)]
pub enum Client {
    ConCoord(concoord::tokio::Client),
    Etcd(Box<KvClient>),
    Redis(MultiplexedConnection),
    ZooKeeper(zookeeper_client::Client),
}

impl Client {
    /// A client whose first choice is the `nth` endpoint. ConCoord's finds its leader by itself,
    /// as it does for users.
    pub async fn connect(endpoints: &Endpoints, nth: usize) -> Result<Self> {
        let count = endpoints.places.len();
        let first = endpoints.places.get(nth % count).context("there are endpoints")?;
        Ok(match endpoints.system {
            System::ConCoord => {
                let mut places = endpoints.places.clone();
                places.rotate_left(nth % count);
                let options = Options { timeout: Duration::from_secs(30), ..Options::default() };
                Self::ConCoord(concoord::tokio::Client::connect(&places.join(","), options).await?)
            }
            System::Etcd => {
                let options = ConnectOptions::new().with_connect_timeout(CONNECT);
                let client = etcd_client::Client::connect([first], Some(options)).await?;
                Self::Etcd(Box::new(client.kv_client()))
            }
            System::Redis => {
                let client = redis::Client::open(format!("redis://{first}/"))?;
                Self::Redis(client.get_multiplexed_async_connection().await?)
            }
            System::ZooKeeper => {
                let connector = zookeeper_client::Client::connector();
                Self::ZooKeeper(connector.with_connection_timeout(CONNECT).connect(first).await?)
            }
        })
    }

    /// Adds one to the counter that all clients share.
    pub async fn increment(&mut self) -> Result<()> {
        match self {
            Self::ConCoord(client) => {
                client.call("increment", &Arguments::default()).await?;
            }
            Self::Redis(connection) => {
                redis::cmd("INCR").arg(KEY).query_async::<i64>(connection).await?;
            }
            Self::Etcd(client) => increment(client).await?,
            Self::ZooKeeper(_) => anyhow::bail!("only its lock is compared"),
        }
        Ok(())
    }

    /// Writes, whatever was there: what etcd does at its best. The others increment.
    pub async fn put(&mut self) -> Result<()> {
        match self {
            Self::Etcd(client) => {
                client.put("put", "0123456789abcdef", None).await?;
                Ok(())
            }
            Self::ConCoord(_) | Self::Redis(_) => self.increment().await,
            Self::ZooKeeper(client) => put(client).await,
        }
    }
}

/// Makes the folder of the lock, if it is not there yet.
async fn put(client: &zookeeper_client::Client) -> Result<()> {
    let mode = CreateMode::Persistent.with_acls(Acls::anyone_all());
    match client.create("/compared", b"", &mode).await {
        Ok(_) | Err(zookeeper_client::Error::NodeExists) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// etcd has no counter: read, then write if nobody has written in between, else again.
async fn increment(client: &mut KvClient) -> Result<()> {
    let read = client.get(KEY, None).await?;
    let mut now = read.kvs().first().map(|kv| (kv.value().to_vec(), kv.mod_revision()));
    loop {
        let (value, revision) = now.as_ref().map_or((0, 0), |(value, revision)| {
            (String::from_utf8_lossy(value).parse::<u64>().unwrap_or(0), *revision)
        });
        let write = Txn::new()
            .when([Compare::mod_revision(KEY, CompareOp::Equal, revision)])
            .and_then([TxnOp::put(KEY, (value + 1).to_string(), None)])
            .or_else([TxnOp::get(KEY, None)]);
        let done = client.txn(write).await?;
        if done.succeeded() {
            return Ok(());
        }
        now = done.op_responses().into_iter().find_map(|response| match response {
            TxnOpResponse::Get(get) => {
                get.kvs().first().map(|kv| (kv.value().to_vec(), kv.mod_revision()))
            }
            _ => None,
        });
    }
}
