//! An interface as the plain tuples that `concoord._interface` takes and gives.

use concoord_core::object::{Interface, Method, Parameter, ParameterKind};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

type ParameterTuple = (String, u8, Option<String>, String);
type MethodTuple = (String, String, Vec<ParameterTuple>, String, bool);
/// Class, docstring, methods.
pub(crate) type InterfaceTuple = (String, String, Vec<MethodTuple>);

/// In the order of `inspect.Parameter`'s numbers.
const KINDS: [ParameterKind; 5] = [
    ParameterKind::PositionalOnly,
    ParameterKind::PositionalOrKeyword,
    ParameterKind::VarPositional,
    ParameterKind::KeywordOnly,
    ParameterKind::VarKeyword,
];

pub(crate) fn to_python(interface: &Interface) -> InterfaceTuple {
    let parameter = |Parameter { name, kind, default, annotation }: &Parameter| {
        let kind = KINDS.iter().position(|each| each == kind).expect("all kinds are listed");
        let kind = u8::try_from(kind).expect("there are five kinds");
        (name.clone(), kind, default.clone(), annotation.clone())
    };
    let method = |Method { name, doc, parameters, returns, read_only }: &Method| {
        let parameters = parameters.iter().map(parameter).collect();
        (name.clone(), doc.clone(), parameters, returns.clone(), *read_only)
    };
    let methods = interface.methods.iter().map(method).collect();
    (interface.class.clone(), interface.doc.clone(), methods)
}

pub(crate) fn from_python((class, doc, methods): InterfaceTuple) -> PyResult<Interface> {
    let parameter = |(name, kind, default, annotation): ParameterTuple| {
        let kind = KINDS.get(usize::from(kind)).copied();
        let kind =
            kind.ok_or_else(|| PyValueError::new_err("there are five kinds of parameter"))?;
        Ok(Parameter { name, kind, default, annotation })
    };
    let method = |(name, doc, parameters, returns, read_only): MethodTuple| {
        let parameters = parameters.into_iter().map(parameter).collect::<PyResult<_>>()?;
        Ok(Method { name, doc, parameters, returns, read_only })
    };
    let methods = methods.into_iter().map(method).collect::<PyResult<_>>()?;
    Ok(Interface { class, doc, methods })
}
