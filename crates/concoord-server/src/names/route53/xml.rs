//! What replies say, by the names of elements alone.

use roxmltree::{Document, Node, ParsingOptions};

use super::http::Reply;
use super::problem::Problem;

/// Elements, attributes and texts of a reply: a page has fewer than ten thousand.
const NODES_MAX: u32 = 200_000;

/// What a reply's XML says, if it says it.
pub(crate) fn parsed<T>(
    reply: &Reply,
    read: impl FnOnce(Node<'_, '_>) -> Option<T>,
) -> Result<T, Problem> {
    with_root(&reply.body, read)
        .flatten()
        .ok_or_else(|| Problem::Strange("its reply is none of Route 53's".into()))
}

/// The text of the first element of that name in some XML.
pub(crate) fn text_of(xml: &[u8], tag: &str) -> Option<String> {
    with_root(xml, |root| {
        let found = root.descendants().find(|node| node.tag_name().name() == tag)?;
        found.text().map(str::to_owned)
    })
    .flatten()
}

fn with_root<T>(xml: &[u8], read: impl FnOnce(Node<'_, '_>) -> T) -> Option<T> {
    let text = std::str::from_utf8(xml).ok()?;
    let options = ParsingOptions { nodes_limit: NODES_MAX, ..ParsingOptions::default() };
    let document = Document::parse_with_options(text, options).ok()?;
    Some(read(document.root_element()))
}

pub(crate) fn child<'a, 'input>(node: Node<'a, 'input>, tag: &str) -> Option<Node<'a, 'input>> {
    children(node).find(|child| child.tag_name().name() == tag)
}

pub(crate) fn children<'a, 'input>(
    node: Node<'a, 'input>,
) -> impl Iterator<Item = Node<'a, 'input>> {
    node.children().filter(Node::is_element)
}

pub(crate) fn text<'a>(node: Node<'a, '_>, tag: &str) -> Option<&'a str> {
    child(node, tag)?.text().map(str::trim)
}
