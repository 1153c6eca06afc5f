//! An installed Flink with our small program in its classes (`FlinkTools.java`), and a browser.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;

use millstream_integration::{Cluster, Outcome, is_long, workspace};
use tempfile::TempDir;

/// The versions that are tried: one in CI, two in the long run.
pub fn versions() -> &'static [Flink] {
    static VERSIONS: LazyLock<Vec<Flink>> = LazyLock::new(|| {
        let versions: &[&str] = if is_long() { &["2.3.0", "1.20.5"] } else { &["2.3.0"] };
        versions.iter().map(|version| Flink::installed(version)).collect()
    });
    &VERSIONS
}

/// One version of Flink.
#[derive(Debug)]
pub struct Flink {
    version: &'static str,
    home: PathBuf,
    /// The compiled program, as classes and as a jar.
    compiled: TempDir,
}

impl Flink {
    fn installed(version: &'static str) -> Self {
        let mut install = Command::new(workspace().join("scripts/flink/install.sh"));
        let install = install.arg(version).output().unwrap();
        assert!(install.status.success(), "{}", String::from_utf8_lossy(&install.stderr));
        let home = PathBuf::from(String::from_utf8(install.stdout).unwrap().trim());
        let compiled = tempfile::Builder::new().prefix("millstream-flink-").tempdir().unwrap();
        let flink = Self { version, home, compiled };
        let source = workspace().join("integration/tests/flink_tools/FlinkTools.java");
        let mut javac = Command::new("javac");
        javac.args(["-nowarn", "-cp", &flink.libraries(), "-d"]).arg(flink.classes()).arg(source);
        let _ = Outcome::of(javac).success();
        let mut jar = Command::new("jar");
        jar.arg("cfe").arg(flink.jar()).args(["FlinkTools", "-C"]).arg(flink.classes()).arg(".");
        let _ = Outcome::of(jar).success();
        flink
    }

    pub fn version(&self) -> &str {
        self.version
    }

    fn libraries(&self) -> String {
        self.home.join("lib/*").display().to_string()
    }

    fn classes(&self) -> PathBuf {
        self.compiled.path().join("classes")
    }

    /// Our program as a Flink job.
    pub fn jar(&self) -> PathBuf {
        self.compiled.path().join("job.jar")
    }

    /// Our program with these arguments.
    pub fn java(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("java");
        let classes = format!("{}:{}", self.classes().display(), self.libraries());
        command.args(["-cp", &classes, "FlinkTools"]).args(arguments);
        command
    }

    /// Runs `bin/flink VERB -m ADDRESS ARGUMENTS` with a configuration of its own.
    pub fn command_line(&self, cluster: &Cluster, arguments: &[&str]) -> Outcome {
        let conf = cluster.data("flink-conf");
        std::fs::create_dir_all(&conf).unwrap();
        for file in std::fs::read_dir(self.home.join("conf")).unwrap() {
            let file = file.unwrap();
            std::fs::copy(file.path(), conf.join(file.file_name())).unwrap();
        }
        let (verb, rest) = arguments.split_first().unwrap();
        let mut command = cluster.command(&self.home.join("bin/flink"));
        command
            .env("FLINK_CONF_DIR", conf)
            .env("FLINK_LOG_DIR", cluster.dir().join("log"))
            .args([*verb, "-m", &format!("localhost:{}", cluster.rest.port)])
            .args(rest);
        Outcome::of(command)
    }

    /// Serves the web page of this version before the REST interface at this port.
    pub fn serve_web(&self, rest_port: u16) -> WebPage {
        let mut command = self.java(&["serve-web", &rest_port.to_string()]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut server = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(server.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let port = line.trim().strip_prefix("port ").unwrap_or_else(|| panic!("{line:?}"));
        WebPage { port: port.parse().unwrap(), server }
    }
}

/// A served web page. The server ends with this value, or with the test, which holds its input.
#[derive(Debug)]
pub struct WebPage {
    port: u16,
    server: Child,
}

impl WebPage {
    /// The texts of a page after a browser has worked on it for some time, in their order.
    pub fn texts(&self, cluster: &Cluster, path: &str) -> Vec<String> {
        const HOW: [&str; 10] = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            // Of the page's own clock, which stands still while it waits for an answer.
            "--virtual-time-budget=12000",
            "--dump-dom",
        ];
        let profile = tempfile::tempdir_in(cluster.dir()).unwrap();
        let mut browser = cluster.command(Path::new("chromium"));
        browser
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .args(HOW)
            .arg(format!("http://127.0.0.1:{}/{path}", self.port));
        texts(&Outcome::of(browser).success().stdout)
    }
}

impl Drop for WebPage {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// The texts between the tags of a page.
fn texts(page: &str) -> Vec<String> {
    let mut texts = Vec::new();
    let mut code = false;
    for piece in page.split('<') {
        let (tag, text) = piece.split_once('>').unwrap_or(("", piece));
        if ["script", "style"].iter().any(|name| tag.starts_with(name)) {
            code = true;
        } else if tag == "/script" || tag == "/style" {
            code = false;
        }
        let text = text.trim();
        if !code && !text.is_empty() {
            texts.push(text.replace("&gt;", ">").replace("&lt;", "<").replace("&amp;", "&"));
        }
    }
    texts
}
