//! The table of endpoints.

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::middleware::from_fn_with_state;
use axum::routing::{delete, get, patch, post, put};

use super::answer::RestError;
use super::guard::guard;
use super::{
    Context, checkpoints, cluster, disposals, jars, jobs, logs, metrics, missing, savepoints,
    submission, vertices,
};

/// All endpoints.
pub(super) fn router(context: Arc<Context>) -> Router {
    let all = || reading().merge(changing());
    serve(all().nest("/v1", all()), context)
}

/// The endpoints behind YARN's web proxy, which admits every user: none of them changes anything,
/// or sends or receives a program.
pub(super) fn proxied(context: Arc<Context>) -> Router {
    serve(reading().nest("/v1", reading()).route("/", get(cluster::index)), context)
}

fn serve(endpoints: Router<Arc<Context>>, context: Arc<Context>) -> Router {
    endpoints
        .fallback(unknown)
        .method_not_allowed_fallback(wrong_method)
        .layer(from_fn_with_state(context.clone(), guard))
        // Handlers limit their bodies themselves, each as it needs.
        .layer(axum::extract::DefaultBodyLimit::disable())
        .with_state(context)
}

async fn unknown(request: Request) -> RestError {
    let (method, path) = (request.method(), shown(request.uri().path()));
    RestError::not_found(format!("no such endpoint: {method} {path}"))
}

async fn wrong_method(request: Request) -> RestError {
    let message = format!("{} does not take {}", shown(request.uri().path()), request.method());
    RestError::new(StatusCode::METHOD_NOT_ALLOWED, message)
}

fn shown(path: &str) -> String {
    path.chars().take(200).collect()
}

/// Endpoints that change nothing; only `GET` (and with it `HEAD`) belongs here.
fn reading() -> Router<Arc<Context>> {
    Router::new()
        .route("/overview", get(cluster::overview))
        .route("/config", get(cluster::config))
        .route("/datasets", get(cluster::datasets))
        .route("/datasets/delete/{triggerid}", get(missing::cluster_operation))
        .route("/applications/overview", get(cluster::applications))
        .route("/applications/{applicationid}", get(missing::application))
        .route("/applications/{applicationid}/exceptions", get(missing::application))
        .route("/applications/{applicationid}/jobmanager/config", get(missing::application))
        .route("/savepoint-disposal/{triggerid}", get(disposals::outcome))
        .route("/jobmanager/config", get(cluster::job_manager_config))
        .route("/jobmanager/environment", get(cluster::environment))
        .route("/jobmanager/metrics", get(metrics::job_manager))
        .route("/jobmanager/thread-dump", get(cluster::job_manager_threads))
        .route("/jobmanager/profiler", get(cluster::profiles))
        .route("/jobmanager/log", get(logs::job_manager_log))
        .route("/jobmanager/stdout", get(logs::job_manager_stdout))
        .route("/jobmanager/logs", get(logs::job_manager_list))
        .route("/jobmanager/logs/{file}", get(logs::job_manager_file))
        .route("/taskmanagers", get(cluster::task_managers))
        .route("/taskmanagers/metrics", get(metrics::task_managers))
        .route("/taskmanagers/{taskmanagerid}", get(cluster::task_manager))
        .route("/taskmanagers/{taskmanagerid}/metrics", get(metrics::task_manager))
        .route("/taskmanagers/{taskmanagerid}/thread-dump", get(cluster::task_manager_threads))
        .route("/taskmanagers/{taskmanagerid}/profiler", get(cluster::task_manager_profiles))
        .route("/taskmanagers/{taskmanagerid}/log", get(logs::task_manager_log))
        .route("/taskmanagers/{taskmanagerid}/stdout", get(logs::task_manager_stdout))
        .route("/taskmanagers/{taskmanagerid}/logs", get(logs::task_manager_list))
        .route("/taskmanagers/{taskmanagerid}/logs/{file}", get(logs::task_manager_file))
        .merge(reading_of_jobs())
}

fn reading_of_jobs() -> Router<Arc<Context>> {
    let below_jobs = Router::new()
        .route("/plan", get(jobs::plan))
        .route("/exceptions", get(jobs::exceptions))
        .route("/config", get(jobs::config))
        .route("/jobmanager/config", get(jobs::job_manager_config))
        .route("/jobmanager/environment", get(jobs::environment))
        .route("/jobmanager/log-url", get(jobs::job_manager_log_url))
        .route("/taskmanagers/{taskmanagerid}/log-url", get(jobs::task_manager_log_url))
        .route("/status", get(jobs::status))
        .route("/execution-result", get(jobs::execution_result))
        .route("/accumulators", get(jobs::accumulators))
        .route("/metrics", get(metrics::job))
        .route("/checkpoints", get(checkpoints::overview))
        .route("/checkpoints/config", get(checkpoints::config))
        .route("/checkpoints/details/{checkpointid}", get(checkpoints::details))
        .route(
            "/checkpoints/details/{checkpointid}/subtasks/{vertexid}",
            get(checkpoints::subtasks),
        )
        .route("/checkpoints/{triggerid}", get(savepoints::checkpoint))
        .route("/savepoints/{triggerid}", get(savepoints::savepoint))
        .route("/rescaling/{triggerid}", get(missing::operation))
        .route("/rescales/history", get(missing::rescales))
        .route("/rescales/overview", get(missing::rescales))
        .route("/rescales/summary", get(missing::rescales))
        .route("/rescales/config", get(missing::rescales))
        .route("/rescales/details/{rescaleuuid}", get(missing::rescale_detail))
        .route("/resource-requirements", get(jobs::resource_requirements));
    Router::new()
        .route("/jobs", get(jobs::ids))
        .route("/jobs/overview", get(jobs::overview))
        .route("/jobs/metrics", get(metrics::jobs))
        .route("/jobs/{jobid}", get(jobs::details))
        .nest("/jobs/{jobid}", below_jobs)
        .nest("/jobs/{jobid}/vertices/{vertexid}", reading_of_vertices())
        .route("/jobs/{jobid}/vertices/{vertexid}", get(vertices::details))
}

fn reading_of_vertices() -> Router<Arc<Context>> {
    Router::new()
        .route("/backpressure", get(vertices::backpressure))
        .route("/accumulators", get(vertices::accumulators))
        .route("/subtasktimes", get(vertices::subtask_times))
        .route("/taskmanagers", get(vertices::task_managers))
        .route("/watermarks", get(vertices::watermarks))
        .route("/flamegraph", get(vertices::flame_graph))
        .route("/jm-operator-metrics", get(vertices::coordinator_metrics))
        .route("/metrics", get(metrics::vertex))
        .route("/subtasks/metrics", get(metrics::subtasks))
        .route("/subtasks/accumulators", get(vertices::subtask_accumulators))
        .route("/subtasks/{subtaskindex}", get(vertices::subtask))
        .route("/subtasks/{subtaskindex}/metrics", get(metrics::subtask))
        .route("/subtasks/{subtaskindex}/attempts/{attempt}", get(vertices::attempt))
        .route(
            "/subtasks/{subtaskindex}/attempts/{attempt}/accumulators",
            get(vertices::attempt_accumulators),
        )
}

/// Endpoints that change something, or that send or receive programs.
fn changing() -> Router<Arc<Context>> {
    Router::new()
        .route("/cluster", delete(cluster::shut_down))
        .route("/jobs", post(submission::java))
        .route("/jobs/{jobid}", patch(jobs::terminate))
        .route("/jobs/{jobid}/yarn-cancel", get(jobs::cancel_by_get))
        .route("/jobs/{jobid}/yarn-stop", get(savepoints::stop_by_get))
        .route("/jobs/{jobid}/clientHeartbeat", patch(jobs::client_heartbeat))
        .route("/jobs/{jobid}/savepoints", post(savepoints::take_savepoint))
        .route("/jobs/{jobid}/stop", post(savepoints::stop))
        .route("/jobs/{jobid}/checkpoints", post(savepoints::take_checkpoint))
        .route("/jobs/{jobid}/rescaling", patch(missing::rescaling))
        .route("/jobs/{jobid}/resource-requirements", put(missing::rescaling))
        .route("/jobs/{jobid}/coordinators/{operatorid}", post(missing::coordinator_message))
        .route("/savepoint-disposal", post(disposals::start))
        .route("/datasets/{datasetid}", delete(missing::data_set))
        .route("/applications/{applicationid}/cancel", post(missing::application))
        .route("/jobmanager/profiler", post(missing::profile))
        .route("/taskmanagers/{taskmanagerid}/profiler", post(missing::profile))
        .route("/jars", get(jars::list))
        .route("/jars/upload", post(jars::upload))
        .route("/jars/{jarid}", delete(jars::remove))
        .route("/jars/{jarid}/plan", get(jars::plan).post(jars::plan))
        .route("/jars/{jarid}/run", post(jars::run))
        .route("/jars/{jarid}/run-application", post(missing::run_application))
        .route(
            "/millstream/artifacts/{sha256}",
            put(submission::put_artifact).head(submission::has_artifact),
        )
        .route("/millstream/jobs", post(submission::submit))
        .route("/millstream/lease", put(cluster::renew_lease))
}
