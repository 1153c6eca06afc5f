//! Reads which paths of a crate the modules of that crate name.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::source::{Source, is_name};

/// A path that a module names.
#[derive(Debug, PartialEq, Eq)]
pub struct Use {
    /// The top-level module whose code names it.
    pub user: String,
    /// The path from the root of the crate.
    pub path: Vec<String>,
    pub file: PathBuf,
    pub line: usize,
}

/// The modules of one crate and the paths that they name, outside tests.
#[derive(Debug, Default)]
pub struct CrateModules {
    /// The top-level modules.
    modules: BTreeSet<String>,
    /// Names that the root imports or re-exports, and the first part of the path of each.
    imports: BTreeMap<String, String>,
    pub uses: Vec<Use>,
}

impl CrateModules {
    /// Reads the crate with this root file; `load` gives the text of a file.
    pub fn read(root: &Path, load: impl Fn(&Path) -> io::Result<String>) -> Result<Self> {
        let mut modules = Self::default();
        let folder = root.parent().unwrap_or(root).to_path_buf();
        let mut files = vec![ModuleFile { file: root.to_path_buf(), folder, module: Vec::new() }];
        while let Some(next) = files.pop() {
            let text = load(&next.file)
                .or_else(|_| load(&next.folder.join("mod.rs")))
                .with_context(|| format!("failed to read {}", next.file.display()))?;
            for (name, parents) in modules.add(&text, &next.file, &next.module) {
                files.push(next.child(&name, &parents));
            }
        }
        Ok(modules)
    }

    /// The top-level module to which a path from the root leads; `None` for the root's own items.
    pub fn module_of(&self, path: &[String]) -> Option<&str> {
        let first = path.first()?;
        let module = if self.modules.contains(first) { first } else { self.imports.get(first)? };
        self.modules.get(module).map(String::as_str)
    }

    /// Adds the text of the file of `module`, and returns the modules in files that it declares:
    /// the name and the inline modules around it.
    fn add(&mut self, text: &str, file: &Path, module: &[String]) -> Vec<(String, Vec<String>)> {
        let tokens = tokens_of(text);
        let mut walk = Walk { tokens: &tokens, file, files: Vec::new(), found: self };
        walk.block(0, tokens.len(), module, 0);
        walk.files
    }
}

/// A module to read.
struct ModuleFile {
    /// Its file, unless that is `mod.rs` in its folder.
    file: PathBuf,
    /// Where its child modules lie.
    folder: PathBuf,
    module: Vec<String>,
}

impl ModuleFile {
    fn child(&self, name: &str, parents: &[String]) -> Self {
        let below = parents.iter().fold(self.folder.clone(), |folder, parent| folder.join(parent));
        let module = self.module.iter().chain(parents).cloned().chain([name.to_owned()]).collect();
        Self { file: below.join(format!("{name}.rs")), folder: below.join(name), module }
    }
}

/// The path from the root of a path that stands in `module`; `None` if it leads out of the
/// crate.
fn path_from_root(path: &[String], module: &[String]) -> Option<Vec<String>> {
    let mut base = module.to_vec();
    let mut rest = path;
    match rest.first()?.as_str() {
        "crate" => base.clear(),
        "self" => {}
        "super" => {
            while rest.len() > 1 && rest[1] == "super" {
                base.pop();
                rest = &rest[1..];
            }
            base.pop();
        }
        // In the root, modules are in scope.
        _ if module.is_empty() => return Some(path.to_vec()),
        _ => return None,
    }
    rest = &rest[1..];
    Some(base.into_iter().chain(rest.iter().cloned()).collect())
}

#[derive(Debug, PartialEq, Eq)]
struct Token {
    /// A name, `::`, or one other character.
    text: String,
    line: usize,
}

fn tokens_of(text: &str) -> Vec<Token> {
    let source = Source::parse(text);
    let mut tokens = Vec::new();
    for number in 0..source.lines().len() {
        let code: Vec<char> = source.code(number).chars().collect();
        let mut at = 0;
        while at < code.len() {
            let name = code[at..].iter().take_while(|c| is_name(**c)).count();
            let length = match code[at] {
                ':' if code.get(at + 1) == Some(&':') => 2,
                _ => name.max(1),
            };
            if !code[at].is_whitespace() {
                let text = code[at..at + length].iter().collect();
                tokens.push(Token { text, line: number + 1 });
            }
            at += length;
        }
    }
    tokens
}

/// One pass over the tokens of a file.
struct Walk<'a> {
    tokens: &'a [Token],
    file: &'a Path,
    files: Vec<(String, Vec<String>)>,
    found: &'a mut CrateModules,
}

impl Walk<'_> {
    fn at(&self, at: usize) -> &str {
        self.tokens.get(at).map_or("", |token| &token.text)
    }

    /// Reads the tokens from `at` to `end` as code of `module`, whose last `inline` names are
    /// modules inside this file.
    fn block(&mut self, mut at: usize, end: usize, module: &[String], inline: usize) {
        while at < end {
            at = match self.at(at) {
                "#" if self.is_for_tests(at) => self.end_of_item(self.end_of_attribute(at)),
                "#" if self.at(at + 1) == "[" => self.end_of_attribute(at),
                "mod" if matches!(self.at(at + 2), ";" | "{") => self.module(at, module, inline),
                "use" => self.declaration(at, module),
                _ => self.inline_path(at, module),
            };
        }
    }

    /// `mod name;` or `mod name { … }` at `at`.
    fn module(&mut self, at: usize, module: &[String], inline: usize) -> usize {
        let name = self.at(at + 1).to_owned();
        if module.is_empty() {
            self.found.modules.insert(name.clone());
        }
        if self.at(at + 2) == ";" {
            self.files.push((name, module[module.len() - inline..].to_vec()));
            return at + 3;
        }
        let end = self.end_of_group(at + 2);
        let inner: Vec<String> = module.iter().cloned().chain([name]).collect();
        self.block(at + 3, end - 1, &inner, inline + 1);
        end
    }

    /// `use …;` at `at`.
    fn declaration(&mut self, at: usize, module: &[String]) -> usize {
        let mut uses = Vec::new();
        let end = self.use_tree(at + 1, &[], &mut uses);
        for (path, name) in uses {
            if let Some(path) = path_from_root(&path, module) {
                if let ([], [first, ..]) = (module, &path[..]) {
                    self.found.imports.insert(name, first.clone());
                }
                self.add_path(path, module, at);
            }
        }
        end
    }

    /// Reads one tree of a `use` declaration; returns where it ends.
    fn use_tree(
        &self,
        mut at: usize,
        prefix: &[String],
        uses: &mut Vec<(Vec<String>, String)>,
    ) -> usize {
        let mut path = prefix.to_vec();
        loop {
            match self.at(at) {
                "::" => at += 1,
                "{" => {
                    let end = self.end_of_group(at);
                    at += 1;
                    while at + 1 < end {
                        let next = self.use_tree(at, &path, uses);
                        at = if self.at(next) == "," { next + 1 } else { next.max(at + 1) };
                    }
                    return end;
                }
                "as" => {
                    uses.push((path, self.at(at + 1).to_owned()));
                    return at + 2;
                }
                text if text == "*" || text.starts_with(is_name) => {
                    path.push(text.to_owned());
                    at += 1;
                }
                _ => {
                    let name = path.last().cloned().unwrap_or_default();
                    uses.push((path, name));
                    return at;
                }
            }
        }
    }

    /// A path at `at`, if there is one: `crate::a::b`.
    fn inline_path(&mut self, at: usize, module: &[String]) -> usize {
        let starts_here = at == 0 || !matches!(self.at(at - 1), "::" | "." | "'");
        let mut path = Vec::new();
        let mut next = at;
        while starts_here && self.at(next).starts_with(is_name) {
            path.push(self.at(next).to_owned());
            if self.at(next + 1) != "::" {
                next += 1;
                break;
            }
            next += 2;
        }
        let leads_on = path.len() > 1 && matches!(path[0].as_str(), "crate" | "self" | "super");
        if let (true, Some(path)) = (leads_on, path_from_root(&path, module)) {
            self.add_path(path, module, at);
        }
        next.max(at + 1)
    }

    fn add_path(&mut self, path: Vec<String>, module: &[String], at: usize) {
        if let Some(user) = module.first() {
            let (user, file) = (user.clone(), self.file.to_path_buf());
            self.found.uses.push(Use { user, path, file, line: self.tokens[at].line });
        }
    }

    /// Whether the attribute at `at` is `#[cfg(test)]` or `#[cfg(all(test, …))]`.
    fn is_for_tests(&self, at: usize) -> bool {
        let starts =
            |wanted: &[&str]| wanted.iter().zip(at..).all(|(text, at)| self.at(at) == *text);
        starts(&["#", "[", "cfg", "(", "test", ")"])
            || starts(&["#", "[", "cfg", "(", "all", "(", "test", ","])
    }

    fn end_of_attribute(&self, at: usize) -> usize {
        self.end_of_group(at + 1)
    }

    /// Where the group ends that opens at `at`.
    fn end_of_group(&self, at: usize) -> usize {
        let mut depth = 0_usize;
        for (number, token) in self.tokens.iter().enumerate().skip(at) {
            match token.text.as_str() {
                "(" | "[" | "{" => depth += 1,
                ")" | "]" | "}" => depth = depth.saturating_sub(1),
                _ => {}
            }
            if depth == 0 {
                return number + 1;
            }
        }
        self.tokens.len()
    }

    /// Where the item, field or arm ends that starts at `at`: after its semicolon, comma or
    /// braces, or before the brace that closes what it stands in.
    fn end_of_item(&self, mut at: usize) -> usize {
        let mut angles = 0_usize;
        while at < self.tokens.len() {
            match self.at(at) {
                "{" => return self.end_of_group(at),
                "(" | "[" => {
                    at = self.end_of_group(at);
                    continue;
                }
                "<" => angles += 1,
                ">" if self.at(at - 1) != "-" => angles = angles.saturating_sub(1),
                ";" => return at + 1,
                "," if angles == 0 => return at + 1,
                "}" | ")" | "]" => return at,
                _ => {}
            }
            at += 1;
        }
        at
    }
}
