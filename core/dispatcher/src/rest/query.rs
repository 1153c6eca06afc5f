//! The query of a request, read as Flink reads it.

use std::collections::BTreeMap;
use std::convert::Infallible;

use axum::extract::{FromRequestParts, Query as AxumQuery};
use axum::http::request::Parts;

/// The parameters of a query. One that is given several times is all its values, with commas
/// between them; a parameter that a handler does not ask for is ignored.
#[derive(Debug, Default)]
pub(super) struct Params(BTreeMap<String, String>);

impl Params {
    /// The value of this parameter.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }
}

impl<S: Sync> FromRequestParts<S> for Params {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Infallible> {
        let pairs = AxumQuery::<Vec<(String, String)>>::try_from_uri(&parts.uri);
        let mut params = BTreeMap::new();
        for (name, value) in pairs.map(|pairs| pairs.0).unwrap_or_default() {
            params
                .entry(name)
                .and_modify(|before: &mut String| {
                    before.push(',');
                    before.push_str(&value);
                })
                .or_insert(value);
        }
        Ok(Self(params))
    }
}
