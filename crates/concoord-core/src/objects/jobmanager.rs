//! A list of jobs.

use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use super::kept::{Kept, Key, key_error};
use super::table::Table;
use super::{decode, encode};
use crate::object::{Context, Interface, Method, Object, Reply};
use crate::value::{Arguments, Exception, Value};

/// The name of the class.
pub const CLASS: &str = "concoord.object.jobmanager.JobManager";

/// Jobs in the order in which they were scheduled. A job is a `dict`, known by what it has under
/// `"id"`, or that alone.
///
/// It takes as much memory as the jobs that clients schedule and do not deschedule. Who watches it
/// is told `("schedule", job)`, `("update", job)`, both with the whole job, and
/// `("deschedule", id)`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobManager {
    jobs: Table<Kept>,
}

static INTERFACE: LazyLock<Interface> = LazyLock::new(|| {
    let schedule = "Add a job; return False if there is one with its id.";
    let deschedule = "Remove a job and return True; raise KeyError if there is none with its id.";
    let job = |name: &str, doc: &str| Method::new(name, doc).takes("job", "object", None);
    Interface {
        class: CLASS.into(),
        doc: "Jobs: dicts, each known by what it has under \"id\", or that alone.".into(),
        methods: vec![
            Method::new("__concoordinit__", "Start anew, without jobs."),
            job("schedule", schedule).returns("bool"),
            job("add_job", schedule).returns("bool"),
            job("deschedule", deschedule).returns("bool"),
            job("remove_job", deschedule).returns("bool"),
            job(
                "update",
                "Set what a job has under `key`; raise KeyError if there is no such job.",
            )
            .takes("key", "object", None)
            .takes("value", "object", None),
            Method::new("list_jobs", "Return the jobs, the first scheduled first.")
                .returns("list[dict[Any, Any]]")
                .reads(),
            Method::new("__len__", "Return how many jobs there are.").returns("int").reads(),
            job("__contains__", "Return whether there is a job with its id.")
                .returns("bool")
                .reads(),
        ],
    }
});

/// What a job is known by.
fn id(job: &Value) -> Result<&Value, Exception> {
    let Value::Map(pairs) = job else { return Ok(job) };
    let found = pairs.iter().find(|(key, _)| *key == Value::from("id"));
    found.map(|(_, id)| id).ok_or_else(|| key_error(&Value::from("id")))
}

impl JobManager {
    fn schedule(&mut self, job: &Value, context: &mut Context<'_>) -> Result<bool, Exception> {
        let key = Key::of(id(job)?)?;
        if self.jobs.get(&key).is_some() {
            return Ok(false);
        }
        let alone = || Value::Map(vec![("id".into(), job.clone())]);
        let whole = if matches!(job, Value::Map(_)) { job.clone() } else { alone() };
        self.jobs.put(key, Kept::of(&whole)?, None, context);
        context.tell(Value::Tuple(vec!["schedule".into(), whole]));
        Ok(true)
    }

    fn deschedule(&mut self, job: &Value, context: &mut Context<'_>) -> Result<(), Exception> {
        let id = id(job)?;
        self.jobs.remove(&Key::of(id)?, context).ok_or_else(|| key_error(id))?;
        context.tell(Value::Tuple(vec!["deschedule".into(), id.clone()]));
        Ok(())
    }

    fn update(
        &mut self,
        job: &Value,
        (key, value): (&Value, &Value),
        context: &mut Context<'_>,
    ) -> Result<(), Exception> {
        let id = id(job)?;
        let kept = self.jobs.get_mut(&Key::of(id)?).ok_or_else(|| key_error(id))?;
        let part = Key::of(key)?;
        if *key == Value::from("id") {
            let words = "the id of a job stays: deschedule it and schedule another";
            return Err(Exception::builtin("ValueError", words));
        }
        let Value::Map(mut pairs) = kept.value() else { return Ok(()) };
        let is_it = |key: &Value| Key::of(key).is_ok_and(|key| key.id == part.id);
        match pairs.iter_mut().find(|(key, _)| is_it(key)) {
            Some((_, there)) => there.clone_from(value),
            None => pairs.push((key.clone(), value.clone())),
        }
        let whole = Value::Map(pairs);
        *kept = Kept::of(&whole)?;
        context.tell(Value::Tuple(vec!["update".into(), whole]));
        Ok(())
    }
}

impl Object for JobManager {
    fn interface(&self) -> &'static Interface {
        &INTERFACE
    }

    fn apply(
        &mut self,
        method: &str,
        arguments: &Arguments,
        context: &mut Context<'_>,
    ) -> Result<Reply, Exception> {
        let given = INTERFACE.given(method, arguments)?;
        Ok(Reply::Value(match method {
            "schedule" | "add_job" => self.schedule(given.required(0), context)?.into(),
            "deschedule" | "remove_job" => {
                self.deschedule(given.required(0), context)?;
                Value::Bool(true)
            }
            "update" => {
                let pair = (given.required(1), given.required(2));
                self.update(given.required(0), pair, context)?;
                Value::None
            }
            "__concoordinit__" => {
                for id in self.jobs.keys() {
                    context.tell(Value::Tuple(vec!["deschedule".into(), id]));
                }
                self.jobs.clear(context);
                Value::None
            }
            _ => return self.read(method, arguments).map(Reply::Value),
        }))
    }

    fn read(&self, method: &str, arguments: &Arguments) -> Result<Value, Exception> {
        let given = INTERFACE.given(method, arguments)?;
        Ok(match method {
            "list_jobs" => Value::List(self.jobs.iter().map(|(_, job)| job.value()).collect()),
            "__contains__" => self.jobs.get(&Key::of(id(given.required(0))?)?).is_some().into(),
            _ => self.jobs.len().into(),
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

    fn job(pairs: &[(&str, Value)]) -> Value {
        Value::Map(pairs.iter().map(|(key, value)| ((*key).into(), value.clone())).collect())
    }

    #[test]
    fn jobs_are_known_by_their_ids() {
        let mut stage = Stage::new(JobManager::default());
        let one = caller(1);
        let build = job(&[("id", Value::Int(1)), ("name", "build".into())]);
        assert_eq!(stage.returns(one, "schedule", vec![build.clone()]), Value::Bool(true));
        assert_eq!(stage.returns(one, "add_job", vec![Value::Int(1)]), Value::Bool(false));
        assert_eq!(stage.returns(one, "add_job", vec!["test".into()]), Value::Bool(true));
        let update = |key: &str, value: Value| vec![Value::Int(1), key.into(), value];
        stage.returns(one, "update", update("time", Value::Int(5)));
        stage.returns(one, "update", update("time", Value::Int(6)));
        let updated =
            job(&[("id", Value::Int(1)), ("name", "build".into()), ("time", Value::Int(6))]);
        let both = Value::List(vec![updated, job(&[("id", "test".into())])]);
        assert_eq!(stage.returns(one, "list_jobs", vec![]), both);
        assert_eq!(stage.raises(one, "update", update("id", Value::Int(2))).0, "ValueError");
        assert_eq!(stage.returns(one, "deschedule", vec![build.clone()]), Value::Bool(true));
        for (method, rest) in [("remove_job", vec![]), ("update", vec![Value::None, Value::None])] {
            let mut given = vec![build.clone()];
            given.extend(rest);
            let missing = stage.call(one, method, given).unwrap().unwrap_err();
            assert_eq!((missing.name.as_str(), missing.args), ("KeyError", vec![Value::Int(1)]));
        }
        let nameless = job(&[("name", "x".into())]);
        assert_eq!(stage.raises(one, "schedule", vec![nameless]), ("KeyError".into(), "id".into()));
        assert_eq!(stage.returns(one, "__contains__", vec!["test".into()]), Value::Bool(true));
    }
}
