//! The names that serde's attributes give to a type and its parts.

use syn::meta::ParseNestedMeta;
use syn::{Attribute, Error, LitStr, Token, Type};

/// A rule of `rename_all`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Case {
    Lower,
    Upper,
    Pascal,
    Camel,
    Snake,
    ScreamingSnake,
    Kebab,
    ScreamingKebab,
}

impl Case {
    fn parse(rule: &LitStr) -> Result<Self, Error> {
        Ok(match rule.value().as_str() {
            "lowercase" => Self::Lower,
            "UPPERCASE" => Self::Upper,
            "PascalCase" => Self::Pascal,
            "camelCase" => Self::Camel,
            "snake_case" => Self::Snake,
            "SCREAMING_SNAKE_CASE" => Self::ScreamingSnake,
            "kebab-case" => Self::Kebab,
            "SCREAMING-KEBAB-CASE" => Self::ScreamingKebab,
            _ => return Err(Error::new_spanned(rule, "this is no rule of serde's rename_all")),
        })
    }

    /// Serde's rules: a variant's name is split before each capital, a field's at underscores.
    fn apply(self, name: &str) -> String {
        let mut words: Vec<String> = vec![String::new()];
        let is_variant = name.starts_with(char::is_uppercase);
        for letter in name.chars() {
            let starts = if is_variant { letter.is_uppercase() } else { letter == '_' };
            if starts && words.last().is_some_and(|word| !word.is_empty() || !is_variant) {
                words.push(String::new());
            }
            if is_variant || letter != '_' {
                words.last_mut().into_iter().for_each(|word| word.push(letter));
            }
        }
        let lower = |word: &String| word.to_ascii_lowercase();
        let upper = |word: &String| word.to_ascii_uppercase();
        let capital = |word: &String| {
            let mut letters = word.chars();
            let first = letters.next().map(|first| first.to_ascii_uppercase());
            first.into_iter().chain(letters).collect::<String>()
        };
        let joined = |word: &dyn Fn(&String) -> String, between: &str| {
            words.iter().map(word).collect::<Vec<_>>().join(between)
        };
        match self {
            // Serde leaves the underscores of a field in these two.
            Self::Lower => name.to_ascii_lowercase(),
            Self::Upper => name.to_ascii_uppercase(),
            Self::Pascal => joined(&capital, ""),
            Self::Camel => {
                let pascal = joined(&capital, "");
                let mut letters = pascal.chars();
                let first = letters.next().map(|first| first.to_ascii_lowercase());
                first.into_iter().chain(letters).collect()
            }
            Self::Snake => joined(&lower, "_"),
            Self::ScreamingSnake => joined(&upper, "_"),
            Self::Kebab => joined(&lower, "-"),
            Self::ScreamingKebab => joined(&upper, "-"),
        }
    }
}

/// Options of serde's attributes on a type.
#[derive(Default)]
pub(crate) struct Container {
    pub(crate) name: Option<String>,
    pub(crate) of_fields: Option<Case>,
    pub(crate) of_variants: Option<Case>,
    /// `rename_all_fields`.
    of_all_fields: Option<Case>,
    pub(crate) default: bool,
    pub(crate) transparent: bool,
    /// Functions write the fields, so that their types say nothing.
    pub(crate) opaque_fields: bool,
    /// The type of `into`.
    pub(crate) written_as: Option<Type>,
}

impl Container {
    pub(crate) fn of(attributes: &[Attribute]) -> Result<Self, Error> {
        let mut container = Self::default();
        let mut read_as: Option<Type> = None;
        each(attributes, |name, meta| {
            match name {
                "rename" => container.name = written(&meta)?.map(|name| name.value()),
                "rename_all" => {
                    let case = written(&meta)?.map(|rule| Case::parse(&rule)).transpose()?;
                    (container.of_fields, container.of_variants) = (case, case);
                }
                "rename_all_fields" => {
                    container.of_all_fields =
                        written(&meta)?.map(|rule| Case::parse(&rule)).transpose()?;
                }
                "default" => {
                    container.default = true;
                    skip(&meta)?;
                }
                "transparent" => container.transparent = true,
                "into" => container.written_as = Some(text(&meta)?.parse()?),
                "from" | "try_from" => read_as = Some(text(&meta)?.parse()?),
                _ => skip(&meta)?,
            }
            Ok(())
        })?;
        if container.written_as != read_as {
            return Err(Error::new_spanned(
                attributes.first(),
                "a state is read as the type that it is written as: name one type in `into` and in \
                 `from` or `try_from`",
            ));
        }
        Ok(container)
    }

    /// Options that hold for the fields of a variant.
    pub(crate) fn of_variant(&self, variant: &Part) -> Self {
        Self {
            of_fields: variant.of_fields.or(self.of_all_fields),
            opaque_fields: variant.written_by_function,
            ..Self::default()
        }
    }
}

/// Options of serde's attributes on a field or a variant.
#[derive(Default)]
pub(crate) struct Part {
    name: Option<String>,
    of_fields: Option<Case>,
    pub(crate) aliases: Vec<String>,
    pub(crate) default: bool,
    /// `with` or `serialize_with`.
    pub(crate) written_by_function: bool,
}

impl Part {
    pub(crate) fn of(attributes: &[Attribute]) -> Result<Self, Error> {
        let mut part = Self::default();
        each(attributes, |name, meta| {
            match name {
                "rename" => part.name = written(&meta)?.map(|name| name.value()),
                "rename_all" => {
                    part.of_fields = written(&meta)?.map(|rule| Case::parse(&rule)).transpose()?;
                }
                "alias" => part.aliases.push(text(&meta)?.value()),
                "default" => {
                    part.default = true;
                    skip(&meta)?;
                }
                "with" | "serialize_with" => {
                    part.written_by_function = true;
                    skip(&meta)?;
                }
                _ => skip(&meta)?,
            }
            Ok(())
        })?;
        Ok(part)
    }

    /// The part's name, which is `name` in the program.
    pub(crate) fn name(&self, name: &str, all: Option<Case>) -> String {
        match (&self.name, all) {
            (Some(renamed), _) => renamed.clone(),
            (None, Some(case)) => case.apply(name),
            (None, None) => name.to_owned(),
        }
    }
}

/// Calls `take` with each option of serde's attributes.
pub(crate) fn each(
    attributes: &[Attribute],
    mut take: impl FnMut(&str, ParseNestedMeta<'_>) -> Result<(), Error>,
) -> Result<(), Error> {
    for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("serde")) {
        attribute.parse_nested_meta(|meta| {
            let name = meta.path.get_ident().map(ToString::to_string).unwrap_or_default();
            take(&name, meta)
        })?;
    }
    Ok(())
}

/// Passes over the value of an option, if it has one.
pub(crate) fn skip(meta: &ParseNestedMeta<'_>) -> Result<(), Error> {
    if meta.input.peek(Token![=]) {
        meta.value()?.parse::<syn::Expr>()?;
    } else if meta.input.peek(syn::token::Paren) {
        meta.input.parse::<proc_macro2::Group>()?;
    }
    Ok(())
}

fn text(meta: &ParseNestedMeta<'_>) -> Result<LitStr, Error> {
    meta.value()?.parse()
}

/// The name to write, of `rename = ".."` or `rename(serialize = "..", deserialize = "..")`.
fn written(meta: &ParseNestedMeta<'_>) -> Result<Option<LitStr>, Error> {
    if meta.input.peek(Token![=]) {
        return text(meta).map(Some);
    }
    let mut name = None;
    meta.parse_nested_meta(|inner| {
        let value = text(&inner)?;
        if inner.path.is_ident("serialize") {
            name = Some(value);
        }
        Ok(())
    })?;
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_change_as_serde_changes_them() {
        let cases = [
            Case::Lower,
            Case::Upper,
            Case::Pascal,
            Case::Camel,
            Case::Snake,
            Case::ScreamingSnake,
            Case::Kebab,
            Case::ScreamingKebab,
        ];
        for (name, expected) in [
            (
                "outcome_of",
                [
                    "outcome_of",
                    "OUTCOME_OF",
                    "OutcomeOf",
                    "outcomeOf",
                    "outcome_of",
                    "OUTCOME_OF",
                    "outcome-of",
                    "OUTCOME-OF",
                ],
            ),
            (
                "VeryTasty",
                [
                    "verytasty",
                    "VERYTASTY",
                    "VeryTasty",
                    "veryTasty",
                    "very_tasty",
                    "VERY_TASTY",
                    "very-tasty",
                    "VERY-TASTY",
                ],
            ),
        ] {
            assert_eq!(cases.map(|case| case.apply(name)), expected);
        }
    }
}
