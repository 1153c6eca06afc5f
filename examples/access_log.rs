//! Analytics of web servers' access logs: requests and bytes for each path and status.
//!
//! Lines are in the "combined" or the "common" format of Apache and nginx. A line that is in
//! neither goes to a side output, as it was read, and does not stop the job. Both results become
//! files: `DIR/traffic`, a line of CSV for each path and status, and `DIR/malformed`.
//!
//! ```text
//! cargo run --release --example access_log -- --input FILE_OR_DIR --output DIR
//! millstream run access_log --input FILE_OR_DIR --output DIR
//! ```

use std::path::{PathBuf, absolute};

use millstream::prelude::*;

/// The requests for one path that ended with one status.
#[millstream::record]
struct Traffic {
    path: String,
    status: u16,
    requests: u64,
    bytes: u64,
}

/// Lines that are no requests.
static MALFORMED: OutputTag<String> = OutputTag::new("malformed");

#[millstream::main]
fn access_log(env: &mut Environment, args: Args) -> Result<()> {
    // Computed once, where the user is: the job's processes have working directories of their own.
    let input: PathBuf = env.plan_value("input", || Ok(absolute(args.required("input")?)?))?;
    let output: PathBuf = env.plan_value("output", || Ok(absolute(args.required("output")?)?))?;

    env.set_runtime_mode(RuntimeMode::Batch);
    let (traffic, malformed) = analyse(env.source("log", FileSource::text(input)));
    traffic.sink("traffic", FileSink::csv(output.join("traffic")).suffix(".csv"));
    malformed.sink("malformed", FileSink::lines(output.join("malformed")));
    env.execute("access log")?;
    Ok(())
}

/// The job between its source and its sinks: traffic, and the lines that are malformed.
fn analyse(lines: Stream<String>) -> (Stream<Traffic>, Stream<String>) {
    let requests = lines
        .on_error(OnError::side_output(&MALFORMED))
        .map(|line| parse(&line).context("not a request in the common or combined log format"));
    let malformed = requests.side_output(&MALFORMED);
    let traffic =
        requests.key_by(|one| (one.path.clone(), one.status)).reduce("totals", |total, next| {
            total.requests += next.requests;
            total.bytes += next.bytes;
            Ok(())
        });
    (traffic, malformed)
}

/// One line, as the traffic of one request:
/// `HOST IDENT USER [TIME] "METHOD PATH HTTP/VERSION" STATUS BYTES…`.
fn parse(line: &str) -> Option<Traffic> {
    let (client, rest) = line.split_once(" [")?;
    if client.split(' ').filter(|field| !field.is_empty()).count() != 3 {
        return None;
    }
    let (_time, rest) = rest.split_once("] \"")?;
    let (request, rest) = rest.split_once("\" ")?;
    let [method, path, version] = fields(request)?;
    let is_method = !method.is_empty() && method.bytes().all(|byte| byte.is_ascii_uppercase());
    if !is_method || path.is_empty() || !version.starts_with("HTTP/") {
        return None;
    }
    let mut rest = rest.splitn(3, ' ');
    let status = rest.next()?;
    let is_status = status.len() == 3 && matches!(status.as_bytes()[0], b'1'..=b'5');
    let bytes = match rest.next()? {
        "-" => 0,
        digits if digits.bytes().all(|byte| byte.is_ascii_digit()) => digits.parse().ok()?,
        _ => return None,
    };
    let status = status.parse().ok().filter(|_| is_status)?;
    Some(Traffic { path: path.to_owned(), status, requests: 1, bytes })
}

/// The three fields of a text, separated by single spaces.
fn fields(text: &str) -> Option<[&str; 3]> {
    let fields: Vec<&str> = text.split(' ').collect();
    fields.try_into().ok()
}

#[cfg(test)]
#[path = "reference/mod.rs"]
mod reference;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fmt::Write;
    use std::path::Path;

    use millstream::testing;

    use super::reference::{hold_to_awk, random};
    use super::*;

    /// Three files of 2,000 lines, some of them malformed.
    fn make_logs(directory: &Path) {
        let mut below = random(7);
        for file in 0..3 {
            let mut log = String::new();
            for _ in 0..2_000 {
                let path = ["/", "/a?b=c", "/caf\u{e9}", "/img/x.png", "/%20"][below(5) as usize];
                let status = [200, 200, 200, 304, 404, 500][below(6) as usize];
                let size = if below(9) == 0 { "-".to_owned() } else { below(100_000).to_string() };
                let line = format!(
                    "192.0.2.{} - u{} [10/Oct/2025:13:55:36 +0000] \"GET {path} HTTP/1.1\" \
                     {status} {size} \"-\" \"curl/8\"",
                    below(250),
                    below(9),
                );
                let bad = match below(40) {
                    0 => String::new(),
                    1 => line[..below(40) as usize].to_owned(),
                    2 => line.replace("GET", "get"),
                    3 => line.replace(&format!(" {status} "), " 999 "),
                    4 => line.replace(" HTTP", ""),
                    5 => format!("{status}"),
                    _ => line,
                };
                writeln!(log, "{bad}").unwrap();
            }
            std::fs::write(directory.join(format!("{file}.log")), log).unwrap();
        }
    }

    /// The last update of each path and status, and the malformed lines, as the reference has them.
    fn run(logs: &Path, parallelism: u32, mode: RuntimeMode) -> Vec<String> {
        let mut env = testing::environment();
        env.set_parallelism(parallelism);
        env.set_runtime_mode(mode);
        // Small pieces, so that lines are cut by the ends of pieces.
        let (traffic, malformed) =
            analyse(env.source("log", FileSource::text(logs).split_bytes(10_000)));
        let (results, bad) = (CollectSink::new(), CollectSink::new());
        traffic.sink("traffic", results.clone());
        malformed.sink("malformed", bad.clone());
        env.execute("access log").unwrap();
        let mut totals = BTreeMap::new();
        for Traffic { path, status, requests, bytes } in results.take() {
            let total = totals.entry((path, status)).or_insert((0, 0));
            *total = (requests, bytes).max(*total);
        }
        let traffic = totals.into_iter().map(|((path, status), (requests, bytes))| {
            format!("traffic {path},{status},{requests},{bytes}")
        });
        let malformed = bad.take().into_iter().map(|line| format!("malformed {line}"));
        traffic.chain(malformed).collect()
    }

    #[test]
    fn traffic_is_what_awk_counts_in_both_modes_at_every_parallelism() {
        let lines = hold_to_awk("access_log", make_logs, run);
        assert!(lines.iter().filter(|line| line.starts_with("malformed")).count() > 500);
    }

    #[test]
    fn a_line_is_a_request_or_malformed() {
        let line = r#"h - - [t] "GET /a HTTP/1.0" 200 7"#;
        let request = parse(line).unwrap();
        assert_eq!((request.path.as_str(), request.status, request.bytes), ("/a", 200, 7));
        assert_eq!(parse(&line.replace('7', "-")).unwrap().bytes, 0);
        for bad in ["", "h", r#"h - [t] "GET /a HTTP/1.0" 200 7"#, &line[..line.len() - 2]] {
            assert!(parse(bad).is_none(), "{bad}");
        }
    }
}
