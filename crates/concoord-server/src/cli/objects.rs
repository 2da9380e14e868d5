//! `concoord objects`: which objects a cluster has, who has what of one, and its removal.

use std::time::Duration;

use concoord::{Arguments, Client, Manner, ObjectName, Options as ClientOptions, Value};
use serde_json::{Value as Json, json};

use super::exit::Failure;
use super::json::to_json;
use super::output::{harmless, say, say_json, table};
use super::{BOOTSTRAP, seconds};

#[derive(Debug, clap::Args)]
#[command(after_long_help = super::EXIT_CODES)]
pub(super) struct Options {
    #[command(subcommand)]
    action: Option<Action>,
    /// address:port of a replica, or several with commas between
    #[arg(short, long, value_name = "BOOTSTRAP", default_value = BOOTSTRAP, global = true)]
    boot: String,
    /// Print as JSON
    #[arg(long, global = true)]
    json: bool,
    /// How long to wait for each reply, in seconds
    #[arg(long, value_parser = seconds, value_name = "SECONDS", default_value = "10", global = true)]
    timeout: Duration,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// List the objects that were called so far (the same as no action)
    List {
        /// Dotted name of a class, to list its objects only
        #[arg(default_value = "")]
        class: String,
    },
    /// Show who has what of an object and who waits for it
    Show(Which),
    /// Remove an object: calls that wait there end with an exception, and the next call of that
    /// name makes a new one
    Remove(Which),
}

#[derive(Debug, clap::Args)]
struct Which {
    /// Dotted name of the class
    class: String,
    /// Which one of that class [default: the one without a name]
    #[arg(default_value = "")]
    name: String,
}

impl Which {
    fn object(&self) -> ObjectName {
        ObjectName { class: self.class.clone(), name: self.name.clone() }
    }
}

pub(super) fn run(options: &Options) -> Result<(), Failure> {
    let timeout = options.timeout;
    let client =
        Client::connect(&options.boot, ClientOptions { timeout, ..ClientOptions::default() })?;
    match &options.action {
        None => list(&client, options, ""),
        Some(Action::List { class }) => list(&client, options, class),
        Some(Action::Show(which)) => show(&client, options, which.object()),
        Some(Action::Remove(which)) => remove(&client, options, which.object()),
    }
}

/// Asks something of the cluster or of an object that is none of the object's own methods.
fn ask(
    client: &Client,
    object: Option<ObjectName>,
    what: &str,
    positional: Vec<Value>,
    timeout: Duration,
) -> Result<Value, Failure> {
    let arguments = Arguments { positional, keyword: vec![] };
    let object = object.or_else(|| Some(ObjectName::default()));
    let manner = Manner { object, ..Manner::default() };
    Ok(client.call_as(&manner, what, &arguments, timeout, &mut || false)?)
}

fn list(client: &Client, options: &Options, class: &str) -> Result<(), Failure> {
    let mut all: Vec<(String, String)> = Vec::new();
    loop {
        let after = all.last().map_or(Value::None, |(class, name)| {
            Value::Tuple(vec![class.as_str().into(), name.as_str().into()])
        });
        let given = vec![class.into(), after];
        let page = ask(client, None, "__concoordobjects__", given, options.timeout)?;
        let Value::List(page) = page else { return Err(mixed_up()) };
        if page.is_empty() {
            break;
        }
        for pair in page {
            let Value::Tuple(pair) = pair else { return Err(mixed_up()) };
            let [Value::Str(class), Value::Str(name)] = pair.as_slice() else {
                return Err(mixed_up());
            };
            all.push((class.clone(), name.clone()));
        }
    }
    if options.json {
        let object = |(class, name): &(String, String)| json!({ "class": class, "name": name });
        say_json(&Json::Array(all.iter().map(object).collect()));
        return Ok(());
    }
    let mut rows = vec![vec!["CLASS".to_owned(), "NAME".to_owned()]];
    rows.extend(all.iter().map(|(class, name)| vec![harmless(class), harmless(name)]));
    say(table(&rows));
    Ok(())
}

fn show(client: &Client, options: &Options, object: ObjectName) -> Result<(), Failure> {
    let said = ask(client, Some(object), "__concoorddescribe__", vec![], options.timeout)?;
    let Value::Map(said) = said else { return Err(mixed_up()) };
    if options.json {
        let word = |(word, value): &(Value, Value)| (text(word), to_json(value));
        say_json(&Json::Object(said.iter().map(word).collect()));
        return Ok(());
    }
    let rows: Vec<Vec<String>> = said
        .iter()
        .map(|(word, value)| [word, value].map(|each| harmless(&text(each))).to_vec())
        .collect();
    say(table(&rows));
    Ok(())
}

fn remove(client: &Client, options: &Options, object: ObjectName) -> Result<(), Failure> {
    let words = object.to_string();
    let was_there = ask(client, Some(object), "__concoordremove__", vec![], options.timeout)?;
    let was_there = was_there == Value::Bool(true);
    if options.json {
        say_json(&json!({ "removed": was_there }));
    } else {
        say(if was_there { format!("{words} is removed") } else { format!("there is no {words}") });
    }
    Ok(())
}

fn text(value: &Value) -> String {
    if let Value::Str(text) = value { text.clone() } else { to_json(value).to_string() }
}

fn mixed_up() -> Failure {
    Failure::failed("the replica answered something else: it is of another version")
}
