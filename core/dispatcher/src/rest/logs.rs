//! Log files of the JobManager and of TaskManagers.
//!
//! A name from outside is decoded once, by the router, and must then be a plain file name. A
//! JobManager's file is opened without following a link, and must be a regular file that no other
//! directory shares.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path as FsPath;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use millstream_gateway::{
    FileChunk, FileError, FileInfo, TaskManagerGateway, WORKER_LOG, WORKER_STDOUT,
};
use millstream_rest_types::cluster::{LogInfo, LogListInfo};
use millstream_types::Timestamp;
use tokio::io::AsyncReadExt as _;
use tokio_util::io::ReaderStream;

use super::answer::{Answer, Json, RestError};
use super::{Context, Shared, cluster};

/// The most files that are listed.
const FILES_MAX: usize = 10_000;
/// Bytes that one call asks of a TaskManager.
const CHUNK_BYTES: u32 = 1 << 20;
/// Time that a TaskManager has to answer.
const WORKER_DEADLINE: Duration = Duration::from_secs(10);

type FileAnswer = Result<Response, RestError>;

fn is_plain_name(name: &str) -> bool {
    let odd = |c: char| c == '/' || c == '\\' || c.is_control();
    !name.is_empty() && name.len() <= 255 && name != "." && name != ".." && !name.contains(odd)
}

fn no_such_file(name: &str) -> RestError {
    let shown: String = name.chars().filter(|c| !c.is_control()).take(100).collect();
    RestError::not_found(format!("there is no log file {shown:?}"))
}

fn text(body: Body, length: Option<u64>) -> Response {
    let mut response = Response::new(body);
    let plain = HeaderValue::from_static("text/plain; charset=UTF-8");
    response.headers_mut().insert(header::CONTENT_TYPE, plain);
    if let Some(length) = length {
        response.headers_mut().insert(header::CONTENT_LENGTH, length.into());
    }
    response
}

fn listing(mut files: Vec<FileInfo>) -> Json<LogListInfo> {
    files.sort_by(|a, b| a.name.cmp(&b.name));
    let row = |file: FileInfo| {
        let mtime = file.modified.as_millis();
        LogInfo { name: file.name, size: file.size, mtime }
    };
    LogListInfo { logs: files.into_iter().map(row).collect() }.into()
}

pub(super) async fn job_manager_list(State(context): Shared) -> Answer<LogListInfo> {
    let Some(directory) = context.config.logs.directory.clone() else {
        return Ok(listing(Vec::new()));
    };
    let files = tokio::task::spawn_blocking(move || list(&directory)).await;
    match files {
        Ok(Ok(files)) => Ok(listing(files)),
        Ok(Err(error)) => Err(unreadable(&error)),
        Err(_) => Err(unreadable(&io::Error::other("the reader stopped"))),
    }
}

fn unreadable(error: &io::Error) -> RestError {
    let message = format!("the log directory cannot be read: {error}");
    RestError::new(StatusCode::INTERNAL_SERVER_ERROR, message)
}

fn list(directory: &FsPath) -> io::Result<Vec<FileInfo>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory)?.take(FILES_MAX) {
        let entry = entry?;
        // A file may go while the directory is read.
        let Ok(metadata) = entry.metadata() else { continue };
        let Ok(name) = entry.file_name().into_string() else { continue };
        if metadata.is_file() {
            let modified = metadata.modified().ok().and_then(|t| t.duration_since(UNIX_EPOCH).ok());
            let modified = modified.map_or(0, |since| since.as_millis());
            let modified = Timestamp::from_millis(i64::try_from(modified).unwrap_or(i64::MAX));
            files.push(FileInfo { name, size: metadata.len(), modified });
        }
    }
    Ok(files)
}

pub(super) async fn job_manager_log(State(context): Shared) -> FileAnswer {
    own_file(&context, context.config.logs.log.clone(), "log").await
}

pub(super) async fn job_manager_stdout(State(context): Shared) -> FileAnswer {
    own_file(&context, context.config.logs.stdout.clone(), "stdout").await
}

pub(super) async fn job_manager_file(
    State(context): Shared,
    Path(name): Path<String>,
) -> FileAnswer {
    own_file(&context, Some(name), "").await
}

async fn own_file(context: &Context, name: Option<String>, what: &str) -> FileAnswer {
    let (Some(directory), Some(name)) = (context.config.logs.directory.clone(), name) else {
        return Err(RestError::not_found(format!("the JobManager's {what} is not a file here")));
    };
    if !is_plain_name(&name) {
        return Err(no_such_file(&name));
    }
    let path = directory.join(&name);
    let opened = tokio::task::spawn_blocking(move || open(&path)).await;
    let Ok(Ok((file, length))) = opened else { return Err(no_such_file(&name)) };
    // A file that grows meanwhile is shown as long as it was.
    let stream = ReaderStream::new(tokio::fs::File::from_std(file).take(length));
    Ok(text(Body::from_stream(stream), Some(length)))
}

fn open(path: &FsPath) -> io::Result<(File, u64)> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() || metadata.nlink() != 1 {
        return Err(io::ErrorKind::NotFound.into());
    }
    Ok((file, metadata.len()))
}

async fn within<T>(answer: impl Future<Output = Result<T, FileError>>) -> Result<T, RestError> {
    match tokio::time::timeout(WORKER_DEADLINE, answer).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(FileError::NotFound(name))) => Err(no_such_file(&name)),
        Ok(Err(error)) => Err(RestError::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())),
        Err(_) => Err(RestError::new(
            StatusCode::GATEWAY_TIMEOUT,
            "the TaskManager does not answer; it may be gone soon",
        )),
    }
}

pub(super) async fn task_manager_list(
    State(context): Shared,
    Path(id): Path<String>,
) -> Answer<LogListInfo> {
    let worker = cluster::find(&context, &id).await?;
    Ok(listing(within(worker.gateway.list_files()).await?))
}

pub(super) async fn task_manager_file(
    State(context): Shared,
    Path((id, name)): Path<(String, String)>,
) -> FileAnswer {
    if !is_plain_name(&name) {
        return Err(no_such_file(&name));
    }
    let worker = cluster::find(&context, &id).await?;
    worker_file(worker.gateway, name).await
}

pub(super) async fn task_manager_log(State(context): Shared, Path(id): Path<String>) -> FileAnswer {
    worker_file(cluster::find(&context, &id).await?.gateway, WORKER_LOG.to_owned()).await
}

pub(super) async fn task_manager_stdout(
    State(context): Shared,
    Path(id): Path<String>,
) -> FileAnswer {
    worker_file(cluster::find(&context, &id).await?.gateway, WORKER_STDOUT.to_owned()).await
}

/// Streams a TaskManager's file, piece by piece.
async fn worker_file(gateway: Arc<dyn TaskManagerGateway>, name: String) -> FileAnswer {
    // The first piece decides about the status.
    let first = within(gateway.read_file(name.clone(), 0, CHUNK_BYTES)).await?;
    let pieces = futures::stream::unfold(Some((first, 0_u64)), move |state| {
        let (gateway, name) = (gateway.clone(), name.clone());
        async move {
            let (FileChunk { data, last }, offset) = state?;
            let offset = offset.saturating_add(data.len() as u64);
            if last || data.is_empty() {
                return Some((Ok(data), None));
            }
            let next = within(gateway.read_file(name, offset, CHUNK_BYTES)).await;
            let next = next.ok().map(|next| (next, offset));
            Some((Ok::<_, std::convert::Infallible>(data), next))
        }
    });
    Ok(text(Body::from_stream(pieces), None))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_names_pass() {
        assert!(is_plain_name("millstream-jobmanager-0.log"));
        let long = "x".repeat(256);
        for name in ["", ".", "..", "../x", "/etc/passwd", "a/b", "a\\b", "a\0b", "a\nb", &long] {
            assert!(!is_plain_name(name), "{name:?}");
        }
    }

    #[test]
    fn links_pipes_and_directories_are_no_log_files() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        std::fs::write(at("plain.log"), "text").unwrap();
        assert_eq!(open(&at("plain.log")).unwrap().1, 4);
        std::os::unix::fs::symlink("/etc/passwd", at("symlink.log")).unwrap();
        std::fs::create_dir(at("directory.log")).unwrap();
        let pipe = std::ffi::CString::new(at("pipe.log").to_str().unwrap()).unwrap();
        // SAFETY: a path that ends with NUL.
        assert_eq!(unsafe { libc::mkfifo(pipe.as_ptr(), 0o600) }, 0);
        for name in ["symlink.log", "directory.log", "pipe.log", "missing.log"] {
            assert!(open(&at(name)).is_err(), "{name}");
        }
        std::fs::hard_link(at("plain.log"), at("hard.log")).unwrap();
        assert!(open(&at("hard.log")).is_err());
    }
}
