//! Checks that the top-level modules of a crate use each other without a cycle.
//!
//! A crate is read from its root along `mod` declarations, without what `#[cfg(test)]` covers. An
//! edge is a `use` declaration or a path in the code that starts with `crate::`, `self::` or
//! `super::` and ends in another top-level module; a name that the root re-exports belongs to the
//! module that it comes from. The root itself is no module here: what it defines, all may use.

mod paths;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::Result;
use serde_json::Value;

use paths::CrateModules;

/// The kinds of cargo's targets that are crates of the product.
const KINDS: [&str; 3] = ["lib", "proc-macro", "bin"];

/// The edges between modules: user, used, and where the first use stands.
type Edges = BTreeMap<String, BTreeMap<String, String>>;

/// Every cycle of a crate, one sentence each.
pub fn faults_of(metadata: &Value) -> Result<Vec<String>> {
    let workspace = Path::new(metadata["workspace_root"].as_str().unwrap_or_default());
    let mut faults = Vec::new();
    for package in metadata["packages"].as_array().map_or(&[][..], Vec::as_slice) {
        let name = package["name"].as_str().unwrap_or_default();
        for target in package["targets"].as_array().map_or(&[][..], Vec::as_slice) {
            let is_product = KINDS.iter().any(|kind| target["kind"][0] == *kind);
            if let (true, Some(root)) = (is_product, target["src_path"].as_str()) {
                let modules = CrateModules::read(Path::new(root), |file| fs::read_to_string(file))?;
                faults.extend(cycles_of(&edges_of(&modules, workspace)).iter().map(|cycle| {
                    let cycle = cycle.join(" → ");
                    format!(
                        "{name}: modules use each other in a cycle: {cycle}; move what both need"
                    )
                }));
            }
        }
    }
    Ok(faults)
}

fn edges_of(modules: &CrateModules, workspace: &Path) -> Edges {
    let mut edges = Edges::new();
    for found in &modules.uses {
        let used = modules.module_of(&found.path).filter(|used| *used != found.user);
        if let Some(used) = used {
            let file = found.file.strip_prefix(workspace).unwrap_or(&found.file);
            let uses = edges.entry(found.user.clone()).or_default();
            uses.entry(used.to_owned())
                .or_insert_with(|| format!("{}:{}", file.display(), found.line));
        }
    }
    edges
}

/// One cycle of each group of modules that use each other, a shortest one. Each step names the
/// module and where it uses the next; the last repeats the first.
fn cycles_of(edges: &Edges) -> Vec<Vec<String>> {
    let mut cycles = Vec::new();
    let mut seen: BTreeSet<&str> = BTreeSet::new();
    for start in edges.keys().map(String::as_str) {
        if seen.contains(start) {
            continue;
        }
        let reachable = reachable_from(edges, start);
        let group = reachable
            .keys()
            .copied()
            .filter(|other| *other == start || reachable_from(edges, other).contains_key(start));
        seen.extend(group);
        if reachable.contains_key(start) {
            cycles.push(describe(edges, &way_back(&reachable, start)));
        }
    }
    cycles
}

/// The modules that `start` uses directly or not, nearest first, each with a user of it.
fn reachable_from<'a>(edges: &'a Edges, start: &'a str) -> BTreeMap<&'a str, &'a str> {
    let mut users = BTreeMap::new();
    let mut level = vec![start];
    while !level.is_empty() {
        let mut next = Vec::new();
        for user in level {
            for used in edges.get(user).into_iter().flat_map(BTreeMap::keys) {
                if !users.contains_key(used.as_str()) {
                    users.insert(used.as_str(), user);
                    next.push(used.as_str());
                }
            }
        }
        level = next;
    }
    users
}

/// The modules from `start` to itself.
fn way_back<'a>(users: &BTreeMap<&'a str, &'a str>, start: &'a str) -> Vec<&'a str> {
    let mut way = vec![start];
    let mut at = users[start];
    while at != start {
        way.push(at);
        at = users[at];
    }
    way.push(start);
    way.reverse();
    way
}

fn describe(edges: &Edges, way: &[&str]) -> Vec<String> {
    let mut steps: Vec<String> =
        way.windows(2).map(|pair| format!("{} ({})", pair[0], edges[pair[0]][pair[1]])).collect();
    steps.extend(way.last().map(|last| (*last).to_owned()));
    steps
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    /// The cycles of a crate of these files; without places, because `files` says enough.
    fn cycles(files: &[(&str, &str)]) -> Vec<String> {
        let files: BTreeMap<&Path, &str> =
            files.iter().map(|(name, text)| (Path::new(*name), *text)).collect();
        let load = |file: &Path| match files.get(file) {
            Some(text) => Ok((*text).to_owned()),
            None => Err(io::Error::from(io::ErrorKind::NotFound)),
        };
        let modules = CrateModules::read(Path::new("lib.rs"), load).unwrap();
        let cycles = cycles_of(&edges_of(&modules, Path::new("")));
        let name = |step: &String| step.split(' ').next().unwrap_or_default().to_owned();
        cycles.iter().map(|steps| steps.iter().map(name).collect::<Vec<_>>().join(" ")).collect()
    }

    /// The cycles of a crate with the modules `a`, which names `b`, and `b` with this text.
    fn cycles_with(b: &str) -> Vec<String> {
        cycles(&[("lib.rs", "mod a;\nmod b;"), ("a.rs", "use crate::b::B;"), ("b.rs", b)])
    }

    #[test]
    fn a_cycle_is_found_with_its_places() {
        let modules = CrateModules::read(Path::new("/w/x/lib.rs"), |file| {
            Ok(match file.to_str().unwrap() {
                "/w/x/lib.rs" => "mod a; mod b; mod c;",
                "/w/x/a.rs" => "//! A.\n\nuse crate::b::B;",
                "/w/x/b.rs" => "fn b() {\n    crate::c::go();\n}",
                _ => "use crate::a::A;",
            }
            .to_owned())
        });
        assert_eq!(
            cycles_of(&edges_of(&modules.unwrap(), Path::new("/w"))),
            [["a (x/a.rs:3)", "b (x/b.rs:2)", "c (x/c.rs:1)", "a"]]
        );
    }

    #[test]
    fn one_way_is_no_cycle() {
        let files = [
            ("lib.rs", "mod a; mod b; mod c;\npub use a::A;"),
            ("a.rs", "use crate::b::B;\nuse crate::c::C;\nuse std::fmt;"),
            ("b.rs", "use crate::c::{self, C};"),
            ("c.rs", "use crate::RootItem;"),
        ];
        assert_eq!(cycles(&files), Vec::<String>::new());
    }

    #[test]
    fn every_way_to_name_a_module_counts() {
        for b in [
            "use crate::a::A;",
            "use crate::{c::C, a::{self, A}};",
            "pub(crate) use crate::a as other;",
            "fn f(x: &crate::a::A) {}",
            "use super::a::A;",
            "mod inner { use super::super::a::A; }",
            "fn f() { use crate::{a::*}; }",
            "fn f() -> Vec<super::a::A> {}",
            "macro_rules! m { () => { $crate::a::A } }",
        ] {
            assert_eq!(cycles_with(b), ["a b a"], "{b}");
        }
    }

    #[test]
    fn names_that_lead_elsewhere_do_not_count() {
        for b in [
            "// use crate::a::A;\n/* crate::a::A */",
            "/// See [`crate::a::A`].\nfn f() { g(\"crate::a::A\"); }",
            "#[cfg(test)]\nuse crate::a::A;\nfn f() {}",
            "#[cfg(test)]\nmod tests { use crate::a::A; }",
            "#[cfg(test)]\n#[expect(dead_code)]\nfn f(x: Vec<(u8, u8)>) { crate::a::go() }",
            "struct S {\n #[cfg(test)]\n x: HashMap<u8, crate::a::A>,\n y: u8,\n}",
            "#[cfg(all(test, unix))] fn f() { crate::a::go() }",
            "mod a { pub struct A; }\nuse self::a::A;",
            "mod inner { use super::a::A; }",
            "use other::a::A;\nfn f() { other::super_::a(); }",
        ] {
            assert_eq!(cycles_with(b), Vec::<String>::new(), "{b}");
        }
        let product = "#[cfg(any(test, feature = \"test-util\"))]\nuse crate::a::A;";
        assert_eq!(cycles_with(product), ["a b a"]);
    }

    #[test]
    fn a_name_of_the_root_belongs_to_the_module_that_it_comes_from() {
        for root in ["pub use a::{A, Other as Another};", "use crate::a::A;", "use self::a::A;"] {
            let root = format!("{root}\nmod a;\nmod b;");
            let files = [("lib.rs", &*root), ("a.rs", "use crate::b;"), ("b.rs", "use crate::A;")];
            assert_eq!(cycles(&files), ["a b a"], "{root}");
        }
    }

    #[test]
    fn files_below_belong_to_their_top_level_module() {
        let files = [
            ("lib.rs", "mod a;\nmod b;\nmod c { use crate::b; }\n#[cfg(test)] mod testing;"),
            ("a.rs", "mod deep;\n#[cfg(test)]\nmod tests;"),
            ("a/deep.rs", "mod inside { mod far; }"),
            ("a/deep/inside/far.rs", "use crate::b::B;"),
            ("b/mod.rs", "mod deep;"),
            ("b/deep.rs", "use super::super::a;\nuse super::deep2;"),
        ];
        assert_eq!(cycles(&files), ["a b a"]);
    }

    #[test]
    fn each_group_of_modules_is_reported_once() {
        let files = [
            ("lib.rs", "mod a; mod b; mod c; mod d; mod e;"),
            ("a.rs", "use crate::{b, c};"),
            ("b.rs", "use crate::{a, d};"),
            ("c.rs", "use crate::b;"),
            ("d.rs", "use crate::e;"),
            ("e.rs", "use crate::d;"),
        ];
        assert_eq!(cycles(&files), ["a b a", "d e d"]);
    }
}
