//! Uploaded programs: upload, list, delete, plan and run.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::body::Body;
use axum::extract::{FromRequest as _, Multipart, Path, RawQuery, Request, State};
use axum::http::StatusCode;
use futures::StreamExt as _;
use millstream_config::options;
use millstream_gateway::{DispatcherGateway as _, JobSubmission};
use millstream_graph::{JobGraph, JobSettings, plan_info};
use millstream_rest_types::jars::{
    JarEntryInfo, JarFileInfo, JarListInfo, JarRunRequestBody, JarUploadResponseBody, UploadStatus,
};
use millstream_rest_types::jobs::JobPlanInfo;
use millstream_rest_types::submission::JobSubmitResponseBody;
use millstream_types::{ArtifactHash, JobId};

use super::answer::{
    Answer, Json, Place, RestError, parse_from, read_json, shortened, too_slow, within_deadline,
};
use super::settings::job_settings;
use super::{Context, Shared, cluster};
use crate::PlanExtent;
use crate::jars::{Jar, JarId};
use crate::{program_args, random};

/// The parameter that lets a job start without all state of the savepoint.
const ALLOW: &str = "allowNonRestoredState";
/// Time that the client may pause.
const PART_DEADLINE: std::time::Duration = std::time::Duration::from_secs(20);
/// Limit of an upload's bytes that are kept in memory.
const KEPT_BYTES_MAX: usize = 1 << 20;

fn enabled(context: &Context) -> Result<(), RestError> {
    if context.config.web_submit {
        return Ok(());
    }
    let message = "submitting from the web is switched off (web.submit.enable)";
    Err(RestError::new(StatusCode::FORBIDDEN, message))
}

pub(super) async fn list(State(context): Shared, request: Request) -> Answer<JarListInfo> {
    enabled(&context)?;
    let row = |jar: Jar| JarFileInfo {
        id: jar.id.to_string(),
        name: jar.name.clone(),
        uploaded: jar.uploaded.as_millis(),
        entry: vec![JarEntryInfo { name: jar.name, description: None }],
    };
    let files = context.services.jars.all().into_iter().map(row).collect();
    Ok(JarListInfo { address: cluster::own_url(&request), files }.into())
}

pub(super) async fn upload(
    State(context): Shared,
    request: Request,
) -> Answer<JarUploadResponseBody> {
    enabled(&context)?;
    within_deadline(store(&context, request)).await
}

async fn store(context: &Context, request: Request) -> Answer<JarUploadResponseBody> {
    let _permit = context.uploads.acquire().await;
    let progress = Arc::<AtomicUsize>::default();
    let request = request.map(|body| without_endless_heads(body, progress.clone()));
    let mut parts = Multipart::from_request(request, &()).await.map_err(|_| {
        RestError::bad("an upload is multipart/form-data with a boundary and one file in it")
    })?;
    let mut uploaded: Option<(String, ArtifactHash)> = None;
    while let Some(mut part) = timed(parts.next_field()).await? {
        // Flink's client sends a field named `request` before the file, and a browser a file
        // without a name if none was chosen. Skipped bytes count as kept, which bounds them.
        let Some(name) = part.file_name().filter(|name| !name.is_empty()).map(str::to_owned) else {
            while timed(part.chunk()).await?.is_some() {}
            continue;
        };
        if uploaded.is_some() {
            return Err(RestError::bad("an upload has exactly one file in it"));
        }
        let mut upload = context.services.artifacts.upload().await?;
        while let Some(bytes) = timed(part.chunk()).await? {
            progress.store(0, Ordering::Relaxed);
            upload.write(&bytes).await?;
        }
        let (hash, _) = upload.finish(None).await?;
        uploaded = Some((name, hash));
    }
    let (name, hash) = uploaded.ok_or_else(|| RestError::bad("the upload has no file in it"))?;
    let jars = context.services.jars.clone();
    let added = tokio::task::spawn_blocking(move || jars.add(&name, hash)).await;
    let jar = added.map_err(std::io::Error::other).flatten().map_err(|error| {
        let message = format!("the upload could not be kept: {error}");
        RestError::new(StatusCode::INTERNAL_SERVER_ERROR, message)
    })?;
    let filename = context.services.jars.path(&jar.id).to_string_lossy().into_owned();
    Ok(JarUploadResponseBody { filename, status: UploadStatus::Success }.into())
}

/// Fails a body with too many bytes outside its file: before the first part, in a part's head, in
/// parts that are not files, or after the last part. `kept` counts such bytes.
fn without_endless_heads(body: Body, kept: Arc<AtomicUsize>) -> Body {
    let checked = body.into_data_stream().map(move |bytes| {
        let bytes = bytes.map_err(std::io::Error::other)?;
        let before = kept.fetch_add(bytes.len(), Ordering::Relaxed);
        if before > KEPT_BYTES_MAX {
            return Err(std::io::Error::other("an upload has too much beside its file"));
        }
        Ok(bytes)
    });
    Body::from_stream(checked)
}

async fn timed<T>(
    step: impl Future<Output = Result<T, axum::extract::multipart::MultipartError>>,
) -> Result<T, RestError> {
    match tokio::time::timeout(PART_DEADLINE, step).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(_)) => Err(RestError::bad("the upload is not well-formed multipart/form-data")),
        Err(_) => Err(too_slow()),
    }
}

pub(super) async fn remove(State(context): Shared, Path(id): Path<String>) -> Answer {
    enabled(&context)?;
    if context.services.jars.remove(&JarId::new(id.clone())) {
        return Ok(Json::empty());
    }
    Err(unknown_jar(&id))
}

fn unknown_jar(id: &str) -> RestError {
    RestError::not_found(format!("there is no uploaded jar {:?}", shortened(id)))
}

/// A program to plan or to run, by the body and then by the query.
struct Wanted {
    entry: Option<String>,
    args: Vec<String>,
    parallelism: Option<u32>,
    job: JobId,
    config: BTreeMap<String, String>,
}

impl Wanted {
    fn new(query: Option<&str>, body: JarRunRequestBody) -> Result<Self, RestError> {
        let query = axum::extract::Query::<Vec<(String, String)>>::try_from_uri(
            &format!("/?{}", query.unwrap_or_default())
                .parse()
                .map_err(|_| RestError::bad("the query is malformed"))?,
        )
        .map_err(|_| RestError::bad("the query is malformed"))?
        .0;
        let first = |name: &str| query.iter().find(|(key, _)| key == name).map(|(_, v)| v.clone());

        let restore = Restore::new(&body, first)?;
        let text = body.program_args.or_else(|| first("program-args"));
        let list = body.program_args_list.unwrap_or_else(|| {
            query.iter().filter(|(key, _)| key == "programArg").map(|(_, v)| v.clone()).collect()
        });
        let split = program_args::split(text.as_deref().unwrap_or_default());
        if !list.is_empty() && !split.is_empty() {
            return Err(RestError::bad(
                "programArgs and programArgsList are both given: use programArgsList alone",
            ));
        }
        let parallelism = match (body.parallelism, first("parallelism")) {
            (Some(parallelism), _) => Some(parallelism),
            (None, Some(text)) => Some(
                text.parse()
                    .map_err(|_| RestError::bad("parallelism must be a whole number above zero"))?,
            ),
            (None, None) => None,
        };
        let job = match (body.job_id, first("jobId")) {
            (Some(text), _) => parse_from(Place::Body, "jobId", &text)?,
            (None, Some(text)) => parse_from(Place::Query, "jobId", &text)?,
            (None, None) => JobId::from_bytes(random::bytes()),
        };
        let config = body.flink_configuration.unwrap_or_default();
        let mut config = config.into_iter().map(|(key, value)| (key, value.0)).collect();
        restore.set(&mut config);
        Ok(Self {
            entry: body.entry_class.or_else(|| first("entry-class")).filter(|e| !e.is_empty()),
            args: if list.is_empty() { split } else { list },
            parallelism,
            job,
            config,
        })
    }
}

/// The savepoint to start from, by the body and then by the query.
struct Restore {
    path: Option<String>,
    ignore_unclaimed: Option<bool>,
    claim: Option<String>,
}

impl Restore {
    fn new(
        body: &JarRunRequestBody,
        query: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, RestError> {
        let not_empty = |text: &String| !text.is_empty();
        let path = body.savepoint_path.clone().filter(not_empty);
        let ignore_unclaimed = match (body.allow_non_restored_state, query(ALLOW)) {
            (Some(allow), _) => Some(allow),
            (None, None) => None,
            (None, Some(text)) => Some(text.to_ascii_lowercase().parse().map_err(|_| {
                let shown = shortened(&text);
                RestError::bad(format!("{ALLOW} is true or false, not {shown:?}"))
            })?),
        };
        let of_body = body.claim_mode.clone().or_else(|| body.restore_mode.clone());
        let of_query = || query("claimMode").or_else(|| query("restoreMode"));
        let claim = of_body.or_else(of_query).filter(not_empty);
        match claim.as_deref() {
            None | Some("NO_CLAIM" | "CLAIM") => {}
            Some("LEGACY") => {
                let message = "claimMode LEGACY is not supported: use NO_CLAIM or CLAIM";
                return Err(RestError::bad(message));
            }
            Some(other) => {
                let shown = shortened(other);
                return Err(RestError::bad(format!(
                    "claimMode is NO_CLAIM or CLAIM, not {shown:?}"
                )));
            }
        }
        let path = path.or_else(|| query("savepointPath").filter(not_empty));
        Ok(Self { path, ignore_unclaimed, claim })
    }

    /// Sets the options of the job, over those that the request has in its configuration.
    fn set(self, config: &mut BTreeMap<String, String>) {
        let ignore_unclaimed = self.ignore_unclaimed.map(|ignore| ignore.to_string());
        for (key, value) in [
            (options::EXECUTION_STATE_RECOVERY_PATH.key(), self.path),
            (options::EXECUTION_STATE_RECOVERY_IGNORE_UNCLAIMED_STATE.key(), ignore_unclaimed),
            (options::EXECUTION_STATE_RECOVERY_CLAIM_MODE.key(), self.claim),
        ] {
            if let Some(value) = value {
                config.insert(key.to_owned(), value);
            }
        }
    }
}

/// Plans a jar as the request says.
async fn planned(
    context: &Context,
    id: &str,
    query: Option<&str>,
    body: Body,
    extent: PlanExtent,
) -> Result<(JobId, JobGraph, ArtifactHash), RestError> {
    enabled(context)?;
    let jar = context.services.jars.get(&JarId::new(id)).ok_or_else(|| unknown_jar(id))?;
    let request = Wanted::new(query, read_json(body).await?)?;
    let settings = job_settings(
        &context.config.configuration,
        request.args,
        request.config,
        request.parallelism,
    )?;
    let settings = JobSettings { entry: request.entry, ..settings };
    let path = context.services.artifacts.path(jar.artifact).ok_or_else(|| unknown_jar(id))?;
    let _permit = context.plans.acquire().await;
    let plan = context.services.planner.plan(path, settings, extent).await;
    let graph = plan.map_err(|failed| {
        let mut message = failed.message;
        if !failed.detail.is_empty() {
            message = format!("{message}\n{}", failed.detail);
        }
        RestError::bad(message)
    })?;
    Ok((request.job, graph, jar.artifact))
}

pub(super) async fn plan(
    State(context): Shared,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
    body: Body,
) -> Answer<JobPlanInfo> {
    let extent = PlanExtent::FirstJob;
    let (job, graph, _) = planned(&context, &id, query.as_deref(), body, extent).await?;
    Ok(JobPlanInfo { plan: plan_info(&graph, job) }.into())
}

pub(super) async fn run(
    State(context): Shared,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
    body: Body,
) -> Answer<JobSubmitResponseBody> {
    let extent = PlanExtent::OnlyJob;
    let (job, graph, artifact) = planned(&context, &id, query.as_deref(), body, extent).await?;
    let submission = JobSubmission { job, graph: Arc::new(graph), artifact, artifact_size: 0 };
    let job = context.services.dispatcher.submit(submission).await?;
    Ok(JobSubmitResponseBody { jobid: job }.into())
}
