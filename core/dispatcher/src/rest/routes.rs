//! The table of endpoints.

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::middleware::from_fn_with_state;
use axum::routing::{delete, get, patch, post, put};

use super::answer::RestError;
use super::guard::guard;
use super::{Context, cluster, jars, jobs, logs, metrics, submission, vertices};

/// Everything that is served.
pub(super) fn router(context: Arc<Context>) -> Router {
    let all = || reading().merge(changing());
    serve(all().nest("/v1", all()), context)
}

/// What may be looked at through YARN's web proxy, which lets everybody through: none of it changes
/// anything, or hands out or takes in a program.
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
    RestError::not_found(format!("there is no {} here", shown(request.uri().path())))
}

async fn wrong_method(request: Request) -> RestError {
    let message = format!("{} does not take {}", shown(request.uri().path()), request.method());
    RestError::new(StatusCode::METHOD_NOT_ALLOWED, message)
}

fn shown(path: &str) -> String {
    path.chars().take(200).collect()
}

/// What only shows something; nothing but `GET` (and with it `HEAD`) belongs here.
fn reading() -> Router<Arc<Context>> {
    Router::new()
        .route("/overview", get(cluster::overview))
        .route("/config", get(cluster::config))
        .route("/datasets", get(cluster::datasets))
        .route("/jobmanager/config", get(cluster::job_manager_config))
        .route("/jobmanager/environment", get(cluster::environment))
        .route("/jobmanager/metrics", get(metrics::job_manager))
        .route("/jobmanager/log", get(logs::job_manager_log))
        .route("/jobmanager/stdout", get(logs::job_manager_stdout))
        .route("/jobmanager/logs", get(logs::job_manager_list))
        .route("/jobmanager/logs/{file}", get(logs::job_manager_file))
        .route("/taskmanagers", get(cluster::task_managers))
        .route("/taskmanagers/metrics", get(metrics::task_managers))
        .route("/taskmanagers/{taskmanagerid}", get(cluster::task_manager))
        .route("/taskmanagers/{taskmanagerid}/metrics", get(metrics::task_manager))
        .route("/taskmanagers/{taskmanagerid}/log", get(logs::task_manager_log))
        .route("/taskmanagers/{taskmanagerid}/stdout", get(logs::task_manager_stdout))
        .route("/taskmanagers/{taskmanagerid}/logs", get(logs::task_manager_list))
        .route("/taskmanagers/{taskmanagerid}/logs/{file}", get(logs::task_manager_file))
        .merge(reading_of_jobs())
}

fn reading_of_jobs() -> Router<Arc<Context>> {
    Router::new()
        .route("/jobs", get(jobs::ids))
        .route("/jobs/overview", get(jobs::overview))
        .route("/jobs/metrics", get(metrics::jobs))
        .route("/jobs/{jobid}", get(jobs::details))
        .route("/jobs/{jobid}/plan", get(jobs::plan))
        .route("/jobs/{jobid}/exceptions", get(jobs::exceptions))
        .route("/jobs/{jobid}/config", get(jobs::config))
        .route("/jobs/{jobid}/jobmanager/config", get(jobs::job_manager_config))
        .route("/jobs/{jobid}/status", get(jobs::status))
        .route("/jobs/{jobid}/execution-result", get(jobs::execution_result))
        .route("/jobs/{jobid}/accumulators", get(jobs::accumulators))
        .route("/jobs/{jobid}/metrics", get(metrics::job))
        .route("/jobs/{jobid}/vertices/{vertexid}", get(vertices::details))
        .route("/jobs/{jobid}/vertices/{vertexid}/backpressure", get(vertices::backpressure))
        .route("/jobs/{jobid}/vertices/{vertexid}/accumulators", get(vertices::accumulators))
        .route("/jobs/{jobid}/vertices/{vertexid}/subtasktimes", get(vertices::subtask_times))
        .route("/jobs/{jobid}/vertices/{vertexid}/taskmanagers", get(vertices::task_managers))
        .route("/jobs/{jobid}/vertices/{vertexid}/watermarks", get(vertices::watermarks))
        .route("/jobs/{jobid}/vertices/{vertexid}/metrics", get(metrics::vertex))
        .route("/jobs/{jobid}/vertices/{vertexid}/subtasks/metrics", get(metrics::subtasks))
        .route("/jobs/{jobid}/vertices/{vertexid}/subtasks/{subtaskindex}", get(vertices::subtask))
}

/// What changes something or has to do with programs.
fn changing() -> Router<Arc<Context>> {
    Router::new()
        .route("/cluster", delete(cluster::shut_down))
        .route("/jobs", post(submission::java))
        .route("/jobs/{jobid}", patch(jobs::terminate))
        .route("/jobs/{jobid}/yarn-cancel", get(jobs::cancel_by_get))
        .route("/jobs/{jobid}/clientHeartbeat", patch(jobs::client_heartbeat))
        .route("/jars", get(jars::list))
        .route("/jars/upload", post(jars::upload))
        .route("/jars/{jarid}", delete(jars::remove))
        .route("/jars/{jarid}/plan", get(jars::plan).post(jars::plan))
        .route("/jars/{jarid}/run", post(jars::run))
        .route(
            "/millstream/artifacts/{sha256}",
            put(submission::put_artifact).head(submission::has_artifact),
        )
        .route("/millstream/jobs", post(submission::submit))
        .route("/millstream/lease", put(cluster::renew_lease))
}
