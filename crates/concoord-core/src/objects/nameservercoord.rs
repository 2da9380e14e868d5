//! Which nodes serve which subdomain.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use super::given::Given;
use super::kept::{Key, key_error};
use super::repr::repr;
use super::table::Table;
use super::{decode, encode};
use crate::object::{Context, Interface, Method, Object, Reply};
use crate::value::{Arguments, Exception, Value};

/// The name of the class.
pub const CLASS: &str = "concoord.object.nameservercoord.NameserverCoord";

/// The nodes of subdomains by their types, under one domain.
///
/// It takes as much memory as what clients enter. Who watches it is told the name of each
/// subdomain whose nodes have changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NameserverCoord {
    domain: String,
    subdomains: BTreeMap<String, Nodes>,
}

/// By their types.
type Nodes = Table<Table<()>>;

const DOMAIN: &str = "openreplica.org.";

static INTERFACE: LazyLock<Interface> = LazyLock::new(|| {
    let of_subdomain =
        |name: &str, doc: &str| Method::new(name, doc).takes("subdomain", "str", None);
    let of_node = |name: &str, doc: &str| {
        of_subdomain(name, doc).takes("nodetype", "object", None).takes("node", "object", None)
    };
    Interface {
        class: CLASS.into(),
        doc: "The nodes of subdomains, by their types.".into(),
        methods: vec![
            Method::new("__concoordinit__", "Start anew, without subdomains of `domain`.").takes(
                "domain",
                "str",
                Some("'openreplica.org.'"),
            ),
            of_node("addnodetosubdomain", "Add a node, and its subdomain if that is new."),
            of_node("delnodefromsubdomain", "Remove a node; raise KeyError if it is not there."),
            of_subdomain("delsubdomain", "Remove a subdomain; raise KeyError if it is not there."),
            of_subdomain(
                "updatesubdomain",
                "Have a subdomain with these nodes and no others. They are a dict of a list or a \
                 set of nodes for each type.",
            )
            .takes("nodes", "dict[Any, Any]", None),
            of_subdomain(
                "getnodes",
                "Return the nodes, a list for each type; raise KeyError if the subdomain is not \
                 there.",
            )
            .returns("dict[Any, list[Any]]")
            .reads(),
            Method::new("getsubdomains", "Return the names of the subdomains.")
                .returns("list[str]")
                .reads(),
            Method::new("getdomains", "Return the names of the subdomains with the domain's.")
                .returns("list[str]")
                .reads(),
            Method::new("__str__", "Return all subdomains and nodes, as the str of a dict.")
                .returns("str")
                .reads(),
        ],
    }
});

impl Default for NameserverCoord {
    fn default() -> Self {
        Self { domain: DOMAIN.into(), subdomains: BTreeMap::new() }
    }
}

impl NameserverCoord {
    fn delete_node(
        &mut self,
        name: &str,
        given: &Given<'_>,
        context: &mut Context<'_>,
    ) -> Result<(), Exception> {
        let (kind, node) = (given.required(1), given.required(2));
        let (kind_key, node_key) = (Key::of(kind)?, Key::of(node)?);
        let nodes = self.subdomains.get_mut(name).ok_or_else(|| key_error(&name.into()))?;
        let of_kind = nodes.get_mut(&kind_key).ok_or_else(|| key_error(kind))?;
        of_kind.remove(&node_key, context).ok_or_else(|| key_error(node))?;
        if of_kind.len() == 0 {
            nodes.remove(&kind_key, context);
        }
        Ok(())
    }

    fn nodes(&self, name: &str) -> Option<Value> {
        let kinds = self.subdomains.get(name)?.iter();
        let listed = |nodes: &Table<()>| Value::List(nodes.keys().collect());
        Some(Value::Map(kinds.map(|(kind, nodes)| (kind, listed(nodes))).collect()))
    }

    /// Names under which all subdomains are found.
    fn domains(&self) -> impl Iterator<Item = Value> {
        self.subdomains.keys().map(|name| Value::Str(format!("{name}.{}", self.domain)))
    }
}

fn add(
    nodes: &mut Nodes,
    kind: &Value,
    node: &Value,
    context: &mut Context<'_>,
) -> Result<(), Exception> {
    let (kind, node) = (Key::of(kind)?, Key::of(node)?);
    if nodes.get(&kind).is_none() {
        nodes.put(kind.clone(), Table::default(), None, context);
    }
    if let Some(of_kind) = nodes.get_mut(&kind) {
        of_kind.put(node, (), None, context);
    }
    Ok(())
}

/// The nodes of a dict of lists.
fn all_nodes(given: &Given<'_>, context: &mut Context<'_>) -> Result<Nodes, Exception> {
    let mut nodes = Nodes::default();
    for (kind, of_kind) in given.pairs(1)? {
        let (Value::List(all) | Value::Tuple(all) | Value::Set(all) | Value::FrozenSet(all)) =
            of_kind
        else {
            let words = "the nodes of each type must be a list, a tuple or a set";
            return Err(Exception::builtin("TypeError", words));
        };
        for node in all {
            add(&mut nodes, kind, node, context)?;
        }
    }
    Ok(nodes)
}

impl Object for NameserverCoord {
    fn interface(&self) -> &'static Interface {
        &INTERFACE
    }

    fn apply(
        &mut self,
        method: &str,
        arguments: &Arguments,
        context: &mut Context<'_>,
    ) -> Result<Reply, Exception> {
        if INTERFACE.is_read_only(method) {
            return self.read(method, arguments).map(Reply::Value);
        }
        let given = INTERFACE.given(method, arguments)?;
        let name = given.text(0)?;
        if method == "__concoordinit__" {
            let domain = name.unwrap_or(DOMAIN);
            for name in std::mem::take(&mut self.subdomains).into_keys() {
                context.tell(Value::Str(name));
            }
            self.domain = format!("{}.", domain.trim_matches('.'));
            return Ok(Reply::Value(Value::None));
        }
        let name = name.unwrap_or_default();
        match method {
            "addnodetosubdomain" => {
                let (kind, node) = (given.required(1), given.required(2));
                // Tried apart, so that a subdomain is not made for a node that can't be.
                add(&mut Nodes::default(), kind, node, context)?;
                add(self.subdomains.entry(name.into()).or_default(), kind, node, context)?;
            }
            "delnodefromsubdomain" => self.delete_node(name, &given, context)?,
            "updatesubdomain" => {
                let nodes = all_nodes(&given, context)?;
                self.subdomains.insert(name.into(), nodes);
            }
            _ => {
                self.subdomains.remove(name).ok_or_else(|| key_error(&name.into()))?;
            }
        }
        context.tell(name.into());
        Ok(Reply::Value(Value::None))
    }

    fn read(&self, method: &str, arguments: &Arguments) -> Result<Value, Exception> {
        let given = INTERFACE.given(method, arguments)?;
        Ok(match method {
            "getnodes" => {
                let name = given.text(0)?.unwrap_or_default();
                self.nodes(name).ok_or_else(|| key_error(&name.into()))?
            }
            "getsubdomains" => {
                Value::List(self.subdomains.keys().map(|name| name.as_str().into()).collect())
            }
            "getdomains" => Value::List(self.domains().collect()),
            _ => {
                let nodes = self.subdomains.keys().filter_map(|name| self.nodes(name));
                Value::Str(repr(&Value::Map(self.domains().zip(nodes).collect())))
            }
        })
    }

    fn snapshot(&self) -> Vec<u8> {
        encode(self)
    }

    fn restore(&mut self, snapshot: &[u8]) -> Result<(), String> {
        *self = decode(snapshot)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::stage::{Stage, caller};
    use super::*;

    #[test]
    fn nodes_come_and_go() {
        let mut stage = Stage::new(NameserverCoord::default());
        let one = caller(1);
        let node = |node: &str| vec!["bank".into(), Value::Int(2), node.into()];
        stage.returns(one, "addnodetosubdomain", node("a"));
        stage.returns(one, "addnodetosubdomain", node("b"));
        stage.returns(one, "addnodetosubdomain", node("a"));
        let listed = |nodes: &[&str]| Value::List(nodes.iter().copied().map(Value::from).collect());
        let nodes = Value::Map(vec![(Value::Int(2), listed(&["a", "b"]))]);
        assert_eq!(stage.returns(one, "getnodes", vec!["bank".into()]), nodes);
        stage.returns(one, "delnodefromsubdomain", node("a"));
        let gone = ("KeyError".into(), "a".into());
        assert_eq!(stage.raises(one, "delnodefromsubdomain", node("a")), gone);
        assert_eq!(
            stage.returns(one, "__str__", vec![]),
            Value::from("{'bank.openreplica.org.': {2: ['b']}}")
        );
        let update = Value::Map(vec![(Value::Int(1), Value::Set(vec!["c".into()]))]);
        stage.returns(one, "updatesubdomain", vec!["log".into(), update]);
        assert_eq!(stage.returns(one, "getsubdomains", vec![]), listed(&["bank", "log"]));
        stage.returns(one, "delsubdomain", vec!["bank".into()]);
        for method in ["delsubdomain", "getnodes"] {
            let raised = stage.raises(one, method, vec!["bank".into()]);
            assert_eq!(raised, ("KeyError".into(), "bank".into()));
        }
        assert_eq!(stage.returns(one, "getdomains", vec![]), listed(&["log.openreplica.org."]));
        assert_eq!(stage.told, ["bank", "bank", "bank", "bank", "log", "bank"].map(Value::from));
    }

    #[test]
    fn wrong_arguments_change_nothing() {
        let mut stage = Stage::new(NameserverCoord::default());
        stage.returns(caller(1), "__concoordinit__", vec!["example.com".into()]);
        let list = vec!["x".into(), Value::Int(1), Value::List(vec![])];
        assert_eq!(stage.raises(caller(1), "addnodetosubdomain", list).0, "TypeError");
        let flat = Value::Map(vec![(Value::Int(1), "a".into())]);
        assert_eq!(
            stage.raises(caller(1), "updatesubdomain", vec!["x".into(), flat]).0,
            "TypeError"
        );
        assert_eq!(stage.returns(caller(1), "getdomains", vec![]), Value::List(vec![]));
        assert_eq!(stage.object.domain, "example.com.");
    }
}
