//! Every field of our answers has the type that Flink's documentation of REST gives it.
//!
//! `tests/golden/schema-*.txt` has a line per endpoint: method, path and the type of its answer,
//! as `Name:{field:type, ..}`, `[type]`, `map<type>`, `Name:enum(A|B)` or a scalar. A name alone
//! stands for the type that was given this name before. What Flink's typed clients cannot do
//! without must be there: numbers, truth values, and lists. The guarantee of checkpoints is in
//! small letters, as Flink writes it, although its documentation has capitals.

use std::collections::BTreeMap;

use millstream_types::JobStatus;
use serde_json::Value;

use crate::checkpoints;
use crate::world::{TASK_MANAGER, World, graph};

/// The ids of a savepoint and of a checkpoint on request.
const SAVEPOINT: &str = "0000000000000000000000000000000a";
const CHECKPOINT: &str = "0000000000000000000000000000000b";

#[derive(Debug, Clone)]
enum Type {
    Text,
    Whole(u32),
    Double,
    Truth,
    Any,
    OneOf(Vec<String>),
    List(Box<Type>),
    Map(Box<Type>),
    Object(Vec<(String, Type)>),
    Named(String),
}

/// Fields that may be absent: the time of the last failure, the attempt number of a first attempt,
/// the other attempts of one that is alone, the inputs of a source.
const NULLABLE: [&str; 4] = ["inputs", "timestamp", "attempt-number", "other-concurrent-attempts"];

struct Parser<'a> {
    rest: &'a str,
    named: BTreeMap<String, Type>,
}

impl Parser<'_> {
    fn eat(&mut self, token: &str) -> bool {
        let found = self.rest.strip_prefix(token);
        self.rest = found.unwrap_or(self.rest);
        found.is_some()
    }

    fn word(&mut self) -> String {
        let end = self.rest.find(|c: char| !c.is_alphanumeric() && !"-_".contains(c));
        let (word, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        self.rest = rest;
        word.to_owned()
    }

    fn parse(&mut self) -> Type {
        if self.eat("[") {
            let element = self.parse();
            assert!(self.eat("]"), "{}", self.rest);
            return Type::List(Box::new(element));
        }
        if self.eat("map<") {
            let value = self.parse();
            assert!(self.eat(">"), "{}", self.rest);
            return Type::Map(Box::new(value));
        }
        if self.eat("{") {
            let mut fields = Vec::new();
            while !self.eat("}") {
                let name = self.word();
                assert!(self.eat(":"), "{}", self.rest);
                fields.push((name, self.parse()));
                self.eat(", ");
            }
            // Ids are one text on the wire.
            let is_id = fields.iter().any(|(name, _)| name == "upperPart");
            return if is_id { Type::Text } else { Type::Object(fields) };
        }
        let word = self.word();
        match word.as_str() {
            "string" => Type::Text,
            "int32" => Type::Whole(32),
            "int64" => Type::Whole(64),
            "double" => Type::Double,
            "boolean" => Type::Truth,
            "any" | "object" | "byte" => Type::Any,
            "enum" => {
                assert!(self.eat("("));
                let (values, rest) = self.rest.split_once(')').unwrap();
                self.rest = rest;
                Type::OneOf(values.split('|').map(str::to_owned).collect())
            }
            _ if self.eat(":") => {
                let definition = self.parse();
                self.named.insert(word, definition.clone());
                definition
            }
            _ => Type::Named(word),
        }
    }

    fn check(&self, path: &str, wanted: &Type, value: Option<&Value>) -> Result<(), String> {
        let (needed, right) = match (wanted, value) {
            (Type::Any, _) => return Ok(()),
            (Type::Named(name), _) => {
                let Some(known) = self.named.get(name) else { return Ok(()) };
                return self.check(path, known, value);
            }
            (Type::Text | Type::OneOf(_) | Type::Object(_) | Type::Map(_), None) => (false, false),
            (_, None | Some(Value::Null)) => {
                let scalar = matches!(wanted, Type::Whole(_) | Type::Truth | Type::Double);
                let needed = scalar || value.is_none();
                (needed && !NULLABLE.iter().any(|name| path.ends_with(name)), false)
            }
            (Type::Text, Some(value)) => (true, value.is_string()),
            (Type::Whole(32), Some(value)) => {
                (true, value.as_i64().is_some_and(|number| i32::try_from(number).is_ok()))
            }
            (Type::Whole(_), Some(value)) => (true, value.as_i64().is_some()),
            (Type::Double, Some(value)) => (true, value.is_number()),
            (Type::Truth, Some(value)) => (true, value.is_boolean()),
            (Type::OneOf(values), Some(value)) => {
                (true, value.as_str().is_some_and(|text| values.iter().any(|it| it == text)))
            }
            (Type::List(element), Some(value)) => {
                for (at, one) in value.as_array().into_iter().flatten().enumerate() {
                    self.check(&format!("{path}[{at}]"), element, Some(one))?;
                }
                (true, value.is_array())
            }
            (Type::Map(of), Some(value)) => {
                for (key, one) in value.as_object().into_iter().flatten() {
                    self.check(&format!("{path}.{key}"), of, Some(one))?;
                }
                (true, value.is_object())
            }
            (Type::Object(fields), Some(value)) => {
                for (name, of) in fields {
                    self.check(&format!("{path}.{name}"), of, value.get(name))?;
                }
                (true, value.is_object())
            }
        };
        if right || !needed {
            return Ok(());
        }
        Err(format!("{path} is {value:?}, not {wanted:?}"))
    }
}

async fn check_all(world: &World, schema: &str, version: &str, path_of: impl Fn(&str) -> String) {
    for line in schema.lines() {
        let (path, text) = line.strip_prefix("GET ").unwrap().split_once(' ').unwrap();
        let path = path_of(path);
        let mut parser = Parser { rest: text, named: BTreeMap::new() };
        let wanted = parser.parse();
        assert_eq!(parser.rest, "", "{line}");
        let answer = world.get(&path).await;
        assert_eq!(answer.status, 200, "{path}");
        if let Err(fault) = parser.check("", &wanted, Some(&answer.json())) {
            panic!("Flink {version}, {path}: {fault}");
        }
    }
}

#[tokio::test]
async fn answers_have_the_types_of_flinks_documentation() {
    let world = World::configured(&[("rest.port", "8081")], Default::default()).await;
    let running = world.job(1).await;
    let failed = world.job(2).await;
    let waiting = world.job(3).await;
    for job in [running, failed, waiting] {
        checkpoints::publish(&world, job, checkpoints::overview());
    }
    let master = world.factory.master(failed);
    for job in [running, failed, waiting] {
        for (name, trigger) in [("savepoints", SAVEPOINT), ("checkpoints", CHECKPOINT)] {
            let body = format!("{{\"triggerId\":\"{trigger}\"}}");
            let path = format!("/jobs/{job}/{name}");
            assert_eq!(world.send("POST", &path, &[], body.as_bytes()).await.status, 202);
        }
    }
    master.fail();
    // Nothing has a slot, and nothing has reported yet.
    world.factory.master(waiting).publish(|details| {
        details.status = JobStatus::Created;
        for subtask in details.vertices.iter_mut().flat_map(|vertex| vertex.subtasks.iter_mut()) {
            subtask.state = millstream_types::ExecutionState::Created;
            (subtask.location, subtask.slot, subtask.rates) = (None, None, None);
        }
    });
    let vertex = graph().vertices[1].id;
    for job in [running, failed, waiting] {
        let path_of = |path: &str| {
            path.replace("{jobid}", &job.to_string())
                .replace("/savepoints/{triggerid}", &format!("/savepoints/{SAVEPOINT}"))
                .replace("/checkpoints/{triggerid}", &format!("/checkpoints/{CHECKPOINT}"))
                .replace("{vertexid}", &vertex.to_string())
                .replace("{taskmanagerid}", TASK_MANAGER)
                .replace("{subtaskindex}", "0")
                .replace("{checkpointid}", "3")
                .replace("{attempt}", "0")
        };
        let (old, new) =
            (include_str!("../golden/schema-1.20.txt"), include_str!("../golden/schema-2.3.txt"));
        check_all(&world, old, "1.20", path_of).await;
        check_all(&world, new, "2.3", path_of).await;
    }
}
