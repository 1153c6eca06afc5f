//! The REST interface's JSON, as the records of the RPC protocol.
//!
//! It is made by JAXB: a list is an object with one member, and a list of one may be that one
//! without brackets, depending on the release.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::NewApplication;
use crate::credentials::HadoopCredentials;
use crate::ids::ApplicationId;
use crate::proto::yarn::{
    ApplicationAccessTypeProto, ApplicationReportProto, ApplicationSubmissionContextProto,
    FinalApplicationStatusProto, LocalResourceProto, NodeIdProto, NodeReportProto, QueueInfoProto,
    QueueStateProto, ResourceProto, UrlProto, YarnApplicationStateProto,
};

/// Deeper than any tree of queues.
const QUEUE_DEPTH_MAX: usize = 64;

/// The answer to `apps/new-application`.
pub(super) fn new_application(answer: &Value) -> Option<NewApplication> {
    let id = answer["application-id"].as_str()?.parse().ok()?;
    let maximum = resource(&answer["maximum-resource-capability"]);
    Some(NewApplication { id, maximum })
}

fn resource(value: &Value) -> ResourceProto {
    sized(whole(&value["memory"]), whole(&value["vCores"]))
}

fn sized(memory: i64, vcores: i64) -> ResourceProto {
    ResourceProto {
        memory: Some(memory),
        virtual_cores: Some(i32::try_from(vcores).unwrap_or(i32::MAX)),
        ..ResourceProto::default()
    }
}

/// A number, which may come as text.
fn whole(value: &Value) -> i64 {
    let text = || value.as_str().and_then(|text| text.parse().ok());
    value.as_i64().or_else(text).unwrap_or_default()
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

/// The members of a list, or the one that stands without brackets.
fn members(value: &Value) -> &[Value] {
    match value {
        Value::Array(members) => members,
        Value::Null => &[],
        one => std::slice::from_ref(one),
    }
}

/// An application, as `apps/ID` shows it.
pub(super) fn report(id: ApplicationId, app: &Value) -> ApplicationReportProto {
    let state = app["state"].as_str().and_then(YarnApplicationStateProto::from_str_name);
    let status = format!("APP_{}", app["finalStatus"].as_str().unwrap_or_default());
    let status = FinalApplicationStatusProto::from_str_name(&status);
    // None before the ApplicationMaster has registered.
    let address = app["amRPCAddress"].as_str().and_then(|address| address.rsplit_once(':'));
    ApplicationReportProto {
        application_id: Some(id.into()),
        user: text(&app["user"]),
        queue: text(&app["queue"]),
        name: text(&app["name"]),
        host: address.map(|(host, _)| host.to_owned()),
        rpc_port: address.and_then(|(_, port)| port.parse().ok()),
        yarn_application_state: state.map(Into::into),
        tracking_url: text(&app["trackingUrl"]),
        diagnostics: text(&app["diagnostics"]),
        final_application_status: status.map(Into::into),
        ..ApplicationReportProto::default()
    }
}

/// The queue with this name or path, anywhere in the scheduler's tree.
pub(super) fn queue(scheduler: &Value, name: &str) -> Option<QueueInfoProto> {
    find_queue(scheduler, name, QUEUE_DEPTH_MAX)
}

fn find_queue(value: &Value, name: &str, depth: usize) -> Option<QueueInfoProto> {
    let depth = depth.checked_sub(1)?;
    let is_it = |field: &str| value[field].as_str() == Some(name);
    if is_it("queueName") || is_it("queuePath") {
        let stopped = value["state"].as_str() == Some("STOPPED");
        let state = if stopped { QueueStateProto::QStopped } else { QueueStateProto::QRunning };
        return Some(QueueInfoProto {
            queue_name: text(&value["queueName"]),
            state: Some(state.into()),
            ..QueueInfoProto::default()
        });
    }
    match value {
        Value::Array(all) => all.iter().find_map(|value| find_queue(value, name, depth)),
        Value::Object(all) => all.values().find_map(|value| find_queue(value, name, depth)),
        _ => None,
    }
}

/// The answer to `nodes`.
pub(super) fn nodes(answer: &Value) -> Vec<NodeReportProto> {
    members(&answer["nodes"]["node"]).iter().map(node).collect()
}

fn node(node: &Value) -> NodeReportProto {
    let (host, port) = node["id"].as_str().and_then(|id| id.rsplit_once(':')).unwrap_or_default();
    let pair = |used: &str, free: &str| (whole(&node[used]), whole(&node[free]));
    let memory = pair("usedMemoryMB", "availMemoryMB");
    let vcores = pair("usedVirtualCores", "availableVirtualCores");
    let number = |field: &str| i32::try_from(whole(&node[field])).ok();
    NodeReportProto {
        node_id: Some(NodeIdProto { host: Some(host.to_owned()), port: port.parse().ok() }),
        rack_name: text(&node["rack"]),
        used: Some(sized(memory.0, vcores.0)),
        capability: Some(sized(memory.0 + memory.1, vcores.0 + vcores.1)),
        num_containers: number("numContainers"),
        ..NodeReportProto::default()
    }
}

/// The body of a submission.
pub(super) fn submission(submission: &ApplicationSubmissionContextProto) -> Value {
    let id = submission.application_id.map(ApplicationId::from);
    let size = submission.resource.clone().unwrap_or_default();
    let mut body = json!({
        "application-id": id.map(|id| id.to_string()),
        "application-name": submission.application_name,
        "application-type": submission.application_type,
        "queue": submission.queue,
        "priority": submission.priority.as_ref().map(|priority| priority.priority()),
        "max-app-attempts": submission.max_app_attempts,
        "resource": { "memory": size.memory(), "vCores": size.virtual_cores() },
        "application-tags": { "tag": submission.application_tags },
        "app-node-label-expression": submission.node_label_expression,
        "am-container-spec": launch_context(submission),
    });
    if let Some(logs) = &submission.log_aggregation_context {
        body["log-aggregation-context"] = json!({
            "rolled-log-include-pattern": logs.rolled_logs_include_pattern(),
            "rolled-log-exclude-pattern": logs.rolled_logs_exclude_pattern(),
        });
    }
    if let Value::Object(fields) = &mut body {
        fields.retain(|_, value| !value.is_null());
    }
    body
}

fn launch_context(submission: &ApplicationSubmissionContextProto) -> Value {
    let context = submission.am_container_spec.clone().unwrap_or_default();
    // The deployer wrote them: they are sound.
    let credentials = HadoopCredentials::decode(context.tokens()).unwrap_or_default();
    let tokens = credentials.tokens.iter().map(|(alias, token)| (alias, token.to_url_string()));
    let secrets =
        credentials.secrets.iter().map(|(alias, secret)| (alias, STANDARD.encode(secret)));
    let resources = context.local_resources.iter().map(|resource| {
        (resource.key(), local_resource(&resource.value.clone().unwrap_or_default()))
    });
    let variables = context.environment.iter().map(|pair| (pair.key(), pair.value()));
    let acls = context.application_ac_ls.iter().map(|acl| {
        let kind = match acl.access_type() {
            ApplicationAccessTypeProto::AppaccessViewApp => "VIEW_APP",
            ApplicationAccessTypeProto::AppaccessModifyApp => "MODIFY_APP",
        };
        (kind, acl.acl())
    });
    let mut fields = Map::new();
    let mut set = |name: &str, value: Value| fields.insert(name.to_owned(), value);
    set("local-resources", entries(resources));
    set("environment", entries(variables));
    set("commands", json!({ "command": context.command.join(" ") }));
    set("credentials", json!({ "tokens": entries(tokens), "secrets": entries(secrets) }));
    set("application-acls", entries(acls));
    Value::Object(fields)
}

fn entries<K, V>(pairs: impl Iterator<Item = (K, V)>) -> Value
where
    K: AsRef<str>,
    V: Into<Value>,
{
    let entry = |(key, value): (K, V)| json!({ "key": key.as_ref(), "value": value.into() });
    json!({ "entry": pairs.map(entry).collect::<Vec<_>>() })
}

fn local_resource(resource: &LocalResourceProto) -> Value {
    json!({
        "resource": uri(&resource.resource.clone().unwrap_or_default()),
        "type": resource.r#type().as_str_name(),
        "visibility": resource.visibility().as_str_name(),
        "size": resource.size(),
        "timestamp": resource.timestamp(),
    })
}

fn uri(url: &UrlProto) -> String {
    let port = match url.port() {
        port @ 1.. => format!(":{port}"),
        _ => String::new(),
    };
    format!("{}://{}{port}{}", url.scheme(), url.host(), url.file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_read() {
        let app = json!({
            "state": "FINISHED", "finalStatus": "KILLED", "amRPCAddress": "node:4711",
            "queue": "default", "diagnostics": "why", "trackingUrl": "http://rm/proxy"
        });
        let id = "application_1_0002".parse().unwrap();
        let read = report(id, &app);
        assert_eq!(read.yarn_application_state(), YarnApplicationStateProto::Finished);
        assert_eq!(read.final_application_status(), FinalApplicationStatusProto::AppKilled);
        assert_eq!((read.host(), read.rpc_port(), read.diagnostics()), ("node", 4711, "why"));
        let early = report(id, &json!({ "state": "NEW_SAVING", "finalStatus": "UNDEFINED" }));
        assert_eq!(early.yarn_application_state(), YarnApplicationStateProto::NewSaving);
        assert_eq!(early.rpc_port, None);
    }

    #[test]
    fn queues_are_found_by_name_or_path() {
        let tree = json!({ "scheduler": { "schedulerInfo": { "queueName": "root", "queues": {
            "queue": [
                { "queueName": "a", "queuePath": "root.a", "state": "STOPPED" },
                { "queueName": "b", "queuePath": "root.b", "queues": { "queue":
                    { "queueName": "c", "queuePath": "root.b.c", "state": "RUNNING" } } },
            ] } } } });
        assert_eq!(queue(&tree, "a").unwrap().state(), QueueStateProto::QStopped);
        assert_eq!(queue(&tree, "root.b.c").unwrap().state(), QueueStateProto::QRunning);
        assert!(queue(&tree, "d").is_none());
        let mut deep = Value::Null;
        for _ in 0..1000 {
            deep = json!([deep]);
        }
        assert!(queue(&deep, "a").is_none());
    }

    #[test]
    fn one_node_needs_no_brackets() {
        let one = json!({ "id": "h:1", "usedMemoryMB": 1, "availMemoryMB": "2",
            "usedVirtualCores": 3, "availableVirtualCores": 4, "numContainers": 5 });
        for answer in
            [json!({ "nodes": { "node": one } }), json!({ "nodes": { "node": [one.clone()] } })]
        {
            let read = nodes(&answer);
            let capability = read[0].capability.clone().unwrap();
            assert_eq!((capability.memory(), capability.virtual_cores()), (3, 7));
            assert_eq!(read[0].node_id.clone().unwrap().port(), 1);
        }
        assert!(nodes(&json!({ "nodes": null })).is_empty());
    }
}
